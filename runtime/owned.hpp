// owned.hpp - an object on the heap that has one owner.
//
// Owned is what a header says where it would say std::unique_ptr, and does the
// same. It is here for those who include the library: for each type that is
// owned through std::unique_ptr the compiler makes a tuple, and some hundred
// classes on the way. That takes g++ 12 more time than most of our headers.
//
// Built on: nothing.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>

namespace violet {

/// The usual end of an object, and of an array.
struct Deletes {
  template <class T>
  void operator()(T* object) const noexcept {
    static_assert(sizeof(T) > 0, "violet: what is deleted here must be known");
    delete object;
  }
};
struct DeletesArray {
  template <class T>
  void operator()(T* first) const noexcept {
    delete[] first;
  }
};

/// Owns an object, or nothing. `End` is called with what is owned when that is
/// to go.
template <class T, class End = Deletes>
class Owned {
 public:
  Owned() noexcept {}
  explicit Owned(T* object) noexcept : object_(object) {}
  Owned(Owned&& other) noexcept : object_(other.release()) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~Owned() { reset(); }

  T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  bool operator==(std::nullptr_t) const noexcept { return object_ == nullptr; }

  /// Gives the object away. Returns: it, now the caller's.
  T* release() noexcept { return std::exchange(object_, nullptr); }

  /// Ends what it owns and takes `object` instead.
  void reset(T* object = nullptr) noexcept {
    T* const last = std::exchange(object_, object);
    if (last != nullptr) End()(last);
  }

 private:
  T* object_ = nullptr;
};

/// Owns an array of new[].
template <class T>
class OwnedArray : public Owned<T, DeletesArray> {
 public:
  using Owned<T, DeletesArray>::Owned;
  T& operator[](std::size_t i) const noexcept { return this->get()[i]; }
};

}  // namespace violet
