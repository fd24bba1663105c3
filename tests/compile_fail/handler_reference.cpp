// handler_reference.cpp - serves clients by reference.
// Says: a handler takes its client by value and returns Task<>
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> serve_one(violet::Connection&) {
  co_return;
}

violet::Task<> body() {
  co_await violet::server("127.0.0.1", 0, serve_one);
}
