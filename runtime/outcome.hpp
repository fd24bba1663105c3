// outcome.hpp - what something has brought or thrown, kept for later.
//
// Built on: error.
// SPDX-License-Identifier: MIT
#pragma once

#include <exception>
#include <optional>
#include <utility>

#include "error.hpp"

namespace violet::internal {

/// What something has brought or thrown, kept for later.
template <class T>
class Outcome {
 public:
  template <class F>
  void keep(F brings) noexcept {
    if (auto thrown = caught([&] { value_.emplace(brings()); })) {
      error = std::move(thrown);
    }
  }
  T take() {
    if (error) std::rethrow_exception(error);
    return std::forward<T>(value_->value);
  }
  std::exception_ptr error;

 private:
  struct Box {  // so that T may be a reference
    explicit Box(T&& v) : value(std::forward<T>(v)) {}
    T value;
  };
  std::optional<Box> value_;
};

template <>
class Outcome<void> {
 public:
  template <class F>
  void keep(F brings) noexcept {
    if (auto thrown = caught(brings)) error = std::move(thrown);
  }
  void take() const {
    if (error) std::rethrow_exception(error);
  }
  std::exception_ptr error;
};

}  // namespace violet::internal
