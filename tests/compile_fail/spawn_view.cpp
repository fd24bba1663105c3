// spawn_view.cpp - gives a job a view of a string that may die before it.
// Says: a view may outlive what it refers to
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child(std::string_view) {
  co_return;
}

violet::Task<> body() {
  const std::string text = "short-lived";
  violet::spawn(child, std::string_view(text));
  co_return;
}
