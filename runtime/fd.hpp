// fd.hpp - a descriptor that closes itself.
//
// Fd owns a number and nothing else: it belongs to no loop and no thread, so
// it is what is carried from one thread to another, and what a socket is
// before a loop knows it.
//
// Built on: sys.
// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include "sys.hpp"

namespace violet {

/// Owns a file descriptor; -1 is none.
class Fd {
 public:
  Fd() noexcept {}
  explicit Fd(int number) noexcept : number_(number) {}
  Fd(Fd&& other) noexcept : number_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~Fd() { reset(); }

  int get() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ >= 0; }

  /// Gives the descriptor away. Returns: its number, now the caller's.
  int release() noexcept { return std::exchange(number_, -1); }

  /// Closes what it owns and takes `number` instead.
  void reset(int number = -1) noexcept {
    if (number_ >= 0) sys::calls->close(number_);
    number_ = number;
  }

 private:
  int number_ = -1;
};

}  // namespace violet
