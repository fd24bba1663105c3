// transfer_support.hpp - what the tests of the transfer service share.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "program.hpp"

namespace programs {

using Names = std::vector<std::string>;
using Folder = TemporaryFolder;

}  // namespace programs
