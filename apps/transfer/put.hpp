// put.hpp - `transfer put`.
// SPDX-License-Identifier: MIT
#pragma once

namespace transfer {

/// The whole program; `argv` as that of main, without the word put.
/// Returns: its exit code.
int put(int argc, char** argv);

}  // namespace transfer
