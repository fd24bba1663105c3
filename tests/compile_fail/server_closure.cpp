// server_closure.cpp - gives server() a capturing lambda without a name.
// Only: g++ 12, which would destroy twice what it has captured
// Says: on this compiler a capturing lambda must have a name
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> body() {
  std::string greeting = "hello";
  co_await violet::server(
      "127.0.0.1", 0, [greeting](violet::Connection conn) -> violet::Task<> {
        co_await conn.sendall(greeting);
      });
}
