// handler_result.cpp - has a request answered by what a function returns.
// Says: a handler takes an http::Exchange&, returns Task<> or void
// SPDX-License-Identifier: MIT
#include <violet/http.hpp>

void body(violet::http::Router& router) {
  router.get("/", [](violet::http::Exchange&) { return "hello"; });
}
