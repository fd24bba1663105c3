// http.hpp - the front door to HTTP/1.1.
//
// Built on: all of net.
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
#include "wire.hpp"
#include "exchange.hpp"
#include "router.hpp"
#include "files.hpp"
#include "server.hpp"
#include "url.hpp"
#include "pool.hpp"
#include "client.hpp"
