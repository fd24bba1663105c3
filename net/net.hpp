// net.hpp - the front door: sockets, servers, and the runtime below them.
//
// HTTP has a front door of its own, http/http.hpp: most programs do without.
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
