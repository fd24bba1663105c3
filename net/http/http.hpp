// http.hpp - the front door to HTTP/1.1.
//
// Built on: all of net.
// SPDX-License-Identifier: MIT
#pragma once

// clang-format off: the order is for the reader.
#include "body.hpp"
#include "client.hpp"
#include "exchange.hpp"
#include "fault.hpp"
#include "files.hpp"
#include "message.hpp"
#include "parse.hpp"
#include "pool.hpp"
#include "range.hpp"
#include "router.hpp"
#include "server.hpp"
#include "target.hpp"
#include "text.hpp"
#include "url.hpp"
#include "wire.hpp"
