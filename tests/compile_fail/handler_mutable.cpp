// handler_mutable.cpp - has requests answered by an object that changes.
// Says: is const if it is an object (not mutable)
// SPDX-License-Identifier: MIT
#include <violet/http.hpp>

void body(violet::http::Router& router) {
  router.get("/", [count = 0](violet::http::Exchange& x) mutable {
    x.reply(200, "text/plain", std::to_string(++count));
  });
}
