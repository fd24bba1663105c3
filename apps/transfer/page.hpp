// page.hpp - uploading from a browser.
//
// The form works without script, and then sends what multipart.hpp reads. With
// script it takes files that are dropped on the page, too, and sends them in
// pieces, as `transfer put` does.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace transfer {

/// HTML that stands above the listing of a folder.
std::string upload_form();

}  // namespace transfer
