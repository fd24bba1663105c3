// owned_test.cpp - one owner, whatever it goes through.
// SPDX-License-Identifier: MIT
#include "../runtime/owned.hpp"

#include <type_traits>
#include <utility>

#include "catch.hpp"

using namespace violet;

namespace {

/// Counts how many of it there are.
struct Counted {
  explicit Counted(int& alive) : count(alive) { ++count; }
  Counted(const Counted&) = delete;
  ~Counted() { --count; }
  int& count;
  int value = 7;
};

/// An end of another kind: of what is not the heap's.
struct Marks {
  void operator()(int* number) const noexcept { ++*number; }
};

}  // namespace

TEST_CASE("owned: what is owned goes with its owner", "[owned]") {
  int alive = 0;
  {
    const Owned<Counted> nothing;
    CHECK_FALSE(nothing);
    CHECK(nothing == nullptr);
    const Owned<Counted> one(new Counted(alive));
    CHECK(one);
    CHECK(one != nullptr);
    CHECK(one->value == 7);
    CHECK(&*one == one.get());
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

TEST_CASE("owned: it moves, and has one owner all the time", "[owned]") {
  int alive = 0;
  Owned<Counted> first(new Counted(alive));
  Counted* const object = first.get();
  Owned<Counted> second(std::move(first));
  CHECK(first == nullptr);
  CHECK(second.get() == object);
  first = Owned<Counted>(new Counted(alive));
  CHECK(alive == 2);
  first = std::move(second);  // ends what it had
  CHECK(alive == 1);
  CHECK(first.get() == object);
  Owned<Counted>& same = first;
  first = std::move(same);
  CHECK(first.get() == object);
  CHECK(alive == 1);
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<Owned<Counted>>);
  STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<Owned<Counted>>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<Owned<Counted>>);
}

TEST_CASE("owned: it may be given away, and replaced", "[owned]") {
  int alive = 0;
  Owned<Counted> owner(new Counted(alive));
  Counted* const object = owner.release();
  CHECK(owner == nullptr);
  CHECK(alive == 1);
  owner.reset(object);
  owner.reset(new Counted(alive));
  CHECK(alive == 1);
  owner.reset();
  CHECK(alive == 0);
  owner.reset();
}

TEST_CASE("owned: an end of another kind is called once for each", "[owned]") {
  int ends = 0;
  {
    Owned<int, Marks> owner(&ends);
    const Owned<int, Marks> other(std::move(owner));
  }
  CHECK(ends == 1);
}

TEST_CASE("owned: an array ends with all that is in it", "[owned]") {
  OwnedArray<int> numbers(new int[3]{1, 2, 3});
  CHECK(numbers[2] == 3);
  numbers[2] = 4;
  CHECK(numbers.get()[2] == 4);
}
