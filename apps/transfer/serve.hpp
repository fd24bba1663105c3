// serve.hpp - `transfer serve`.
// SPDX-License-Identifier: MIT
#pragma once

namespace transfer {

/// The whole program; `argv` as that of main, without the word serve.
/// Returns: its exit code.
int serve(int argc, char** argv);

}  // namespace transfer
