// get.hpp - `transfer get`.
// SPDX-License-Identifier: MIT
#pragma once

namespace transfer {

/// The whole program; `argv` as that of main, without the word get.
/// Returns: its exit code.
int get(int argc, char** argv);

}  // namespace transfer
