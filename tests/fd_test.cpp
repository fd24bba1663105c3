// fd_test.cpp - who owns a descriptor, and when it is closed.
// SPDX-License-Identifier: MIT
#include "../runtime/fd.hpp"

#include <type_traits>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;

namespace {

/// Notes what is closed, and interrupts every close after doing it.
class Closing : public sys::Calls {
 public:
  int close(int fd) noexcept override {
    closed.push_back(fd);
    return -EINTR;
  }
  std::vector<int> closed;
};

}  // namespace

static_assert(!std::is_copy_constructible_v<Fd>);
static_assert(std::is_nothrow_move_constructible_v<Fd>);
static_assert(std::is_nothrow_move_assignable_v<Fd>);
static_assert(!std::is_convertible_v<int, Fd>);

TEST_CASE("fd: it closes what it owns, once, and not again after EINTR",
          "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  { const Fd owned(1000); }
  CHECK(calls.closed == std::vector<int>{1000});
}

TEST_CASE("fd: an empty one closes nothing", "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  {
    Fd none;
    CHECK_FALSE(none);
    CHECK(none.get() == -1);
    none.reset();
  }
  CHECK(calls.closed.empty());
}

TEST_CASE("fd: zero is a descriptor like any other", "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  {
    const Fd zero(0);
    CHECK(zero);
  }
  CHECK(calls.closed == std::vector<int>{0});
}

TEST_CASE("fd: moving hands it over without closing", "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  {
    Fd first(1000);
    Fd second(std::move(first));
    CHECK(first.get() == -1);
    CHECK(second.get() == 1000);
    Fd third;
    third = std::move(second);
    CHECK(third.get() == 1000);
    CHECK(calls.closed.empty());
  }
  CHECK(calls.closed == std::vector<int>{1000});
}

TEST_CASE("fd: assignment and reset close what was there before", "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  {
    Fd fd(1000);
    fd = Fd(1001);
    CHECK(calls.closed == std::vector<int>{1000});
    fd.reset(1002);
    CHECK(calls.closed == std::vector<int>{1000, 1001});
    fd.reset();
    CHECK_FALSE(fd);
  }
  CHECK(calls.closed == std::vector<int>{1000, 1001, 1002});
}

TEST_CASE("fd: assignment to itself changes nothing", "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  Fd fd(1000);
  Fd& alias = fd;
  fd = std::move(alias);
  CHECK(fd.get() == 1000);
  CHECK(calls.closed.empty());
}

TEST_CASE("fd: release gives the number away for good", "[fd]") {
  Closing calls;
  const ScopedCalls guard(calls);
  {
    Fd fd(1000);
    CHECK(fd.release() == 1000);
    CHECK_FALSE(fd);
  }
  CHECK(calls.closed.empty());
}

TEST_CASE("fd: the kernel's descriptor is gone afterwards", "[fd]") {
  const int before = open_descriptors();
  {
    Pair pair = support::make_socketpair();
    CHECK(open_descriptors() == before + 2);
    const int number = pair[0].get();
    pair[0].reset();
    CHECK_FALSE(is_open(number));
  }
  CHECK(open_descriptors() == before);
}
