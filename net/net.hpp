// net.hpp - the front door: sockets, servers, HTTP, and the runtime below them.
// SPDX-License-Identifier: MIT
#pragma once

// clang-format off: the order is for the reader.
#include "../runtime/runtime.hpp"
#include "address.hpp"
#include "resolve.hpp"
#include "socket.hpp"
#include "connection.hpp"
#include "connect.hpp"
#include "stream.hpp"
#include "listener.hpp"
#include "sendfile.hpp"
#include "datagram.hpp"
#include "server.hpp"
#include "run_server.hpp"
#include "http/fault.hpp"
#include "http/text.hpp"
#include "http/target.hpp"
#include "http/message.hpp"
#include "http/parse.hpp"
#include "http/body.hpp"
#include "http/range.hpp"
