// plain.hpp - the manners of a program that has no Loop: one line for what goes
// wrong, and exit code 1. Signals do what they do to any process.
// SPDX-License-Identifier: MIT
#pragma once

#include <csignal>
#include <system_error>

#include "../runtime/program.hpp"

/// Runs `body`. Returns: the exit code. A stdout that nobody reads any more is
/// no failure.
template <class Body>
int run_plainly(Body body) {
  violet::fill_standard_descriptors();
  std::signal(SIGPIPE, SIG_IGN);
  const auto error = violet::caught(body);
  if (!error) return 0;
  const auto* failure = violet::exception_as<std::system_error>(error);
  if (failure != nullptr && failure->code() == std::errc::broken_pipe) return 0;
  violet::complain(violet::text_of(error));
  return 1;
}
