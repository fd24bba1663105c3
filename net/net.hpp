// net.hpp - the front door: sockets, servers, and the runtime below them.
// SPDX-License-Identifier: MIT
#pragma once

#include "../runtime/runtime.hpp"
#include "address.hpp"
#include "connection.hpp"
#include "listener.hpp"
#include "server.hpp"
#include "socket.hpp"
