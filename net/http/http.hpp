// http.hpp - the front door to HTTP/1.1: messages, bodies, ranges.
//
// Built on: nothing but the standard library.
// SPDX-License-Identifier: MIT
#pragma once

// clang-format off: the order is for the reader.
#include "fault.hpp"
#include "text.hpp"
#include "target.hpp"
#include "message.hpp"
#include "parse.hpp"
#include "body.hpp"
#include "range.hpp"
#include "url.hpp"
