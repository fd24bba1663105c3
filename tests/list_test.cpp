// list_test.cpp - intrusive lists and queues.
// SPDX-License-Identifier: MIT
#include "../runtime/list.hpp"

#include <algorithm>
#include <deque>
#include <list>
#include <random>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;

namespace {

struct Red {};
struct Blue {};

struct Item : Link<Red>, Link<Blue>, QueueLink<Item> {
  explicit Item(int number) : value(number) {}
  int value;
};

using RedList = List<Item, Red>;
using BlueList = List<Item, Blue>;

template <class Tag>
std::vector<int> forwards(const List<Item, Tag>& list) {
  std::vector<int> values;
  if (list.empty()) return values;
  for (Item* i = &list.front(); i != nullptr; i = list.next(*i)) {
    values.push_back(i->value);
  }
  return values;
}

template <class Tag>
std::vector<int> backwards(const List<Item, Tag>& list) {
  std::vector<int> values;
  if (list.empty()) return values;
  for (Item* i = &list.back(); i != nullptr; i = list.previous(*i)) {
    values.push_back(i->value);
  }
  return values;
}

std::vector<int> reversed(std::vector<int> values) {
  std::reverse(values.begin(), values.end());
  return values;
}

bool in_red(const Item& item) {
  return static_cast<const Link<Red>&>(item).in_list();
}

}  // namespace

static_assert(sizeof(RedList) == sizeof(void*));

TEST_CASE("list: a fresh list is empty and a fresh member is in none",
          "[list]") {
  const RedList list;
  const Item item(1);
  CHECK(list.empty());
  CHECK_FALSE(in_red(item));
}

TEST_CASE("list: members leave in the order in which they came", "[list]") {
  RedList list;
  Item a(1), b(2), c(3);
  for (Item* item : {&a, &b, &c}) list.push_back(*item);
  CHECK(forwards(list) == std::vector{1, 2, 3});
  CHECK(backwards(list) == std::vector{3, 2, 1});
  CHECK(&list.pop_front() == &a);
  CHECK_FALSE(in_red(a));
  CHECK(in_red(b));
  CHECK(&list.pop_front() == &b);
  CHECK(&list.pop_front() == &c);
  CHECK(list.empty());
}

TEST_CASE("list: a lone member is in the list though it links to itself",
          "[list]") {
  RedList list;
  Item a(1);
  list.push_back(a);
  CHECK(in_red(a));
  CHECK(&list.front() == &a);
  CHECK(&list.back() == &a);
  CHECK(list.next(a) == nullptr);
  CHECK(list.previous(a) == nullptr);
  list.remove(a);
  CHECK(list.empty());
  CHECK_FALSE(in_red(a));
}

TEST_CASE("list: a member leaves from the front, the middle and the back",
          "[list]") {
  RedList list;
  Item a(1), b(2), c(3), d(4);
  for (Item* item : {&a, &b, &c, &d}) list.push_back(*item);
  list.remove(b);
  CHECK(forwards(list) == std::vector{1, 3, 4});
  list.remove(a);
  CHECK(forwards(list) == std::vector{3, 4});
  CHECK(&list.front() == &c);
  list.remove(d);
  CHECK(backwards(list) == std::vector{3});
  CHECK(&list.back() == &c);
}

TEST_CASE("list: who left may come back, to the end", "[list]") {
  RedList list;
  Item a(1), b(2);
  list.push_back(a);
  list.push_back(b);
  list.remove(a);
  list.push_back(a);
  CHECK(forwards(list) == std::vector{2, 1});
}

TEST_CASE("list: two tags are two lists for one member", "[list]") {
  RedList red;
  BlueList blue;
  Item a(1), b(2);
  red.push_back(a);
  red.push_back(b);
  blue.push_back(b);
  blue.push_back(a);
  CHECK(forwards(red) == std::vector{1, 2});
  CHECK(forwards(blue) == std::vector{2, 1});
  red.remove(a);
  CHECK(forwards(red) == std::vector{2});
  CHECK(forwards(blue) == std::vector{2, 1});
}

TEST_CASE("list: any mixture of coming and going keeps both directions",
          "[list]") {
  std::mt19937 random(1);
  std::deque<Item> items;
  for (int i = 0; i < 20; ++i) items.emplace_back(i);
  RedList list;
  std::list<int> model;
  for (int round = 0; round < 2000; ++round) {
    Item& item = items[random() % items.size()];
    if (in_red(item)) {
      list.remove(item);
      model.remove(item.value);
    } else {
      list.push_back(item);
      model.push_back(item.value);
    }
    const std::vector<int> expected(model.begin(), model.end());
    REQUIRE(forwards(list) == expected);
    REQUIRE(backwards(list) == reversed(expected));
  }
}

TEST_CASE("list: a queue is first in, first out, also after it was empty",
          "[list]") {
  Queue<Item> queue;
  CHECK(queue.empty());
  Item a(1), b(2), c(3);
  queue.push_back(a);
  CHECK(&queue.pop_front() == &a);
  CHECK(queue.empty());
  queue.push_back(b);
  queue.push_back(a);
  CHECK(&queue.pop_front() == &b);
  queue.push_back(c);
  queue.push_back(b);
  CHECK(&queue.pop_front() == &a);
  CHECK(&queue.pop_front() == &c);
  CHECK(&queue.pop_front() == &b);
  CHECK(queue.empty());
}

TEST_CASE(
    "list: a queue's members are visited in order, and leave from anywhere",
    "[list]") {
  Queue<Item> queue;
  Item a(1), b(2), c(3), d(4);
  const auto values = [&] {
    std::vector<int> seen;
    queue.each([&](const Item& item) { seen.push_back(item.value); });
    return seen;
  };
  CHECK(values().empty());
  for (Item* item : {&a, &b, &c, &d}) queue.push_back(*item);
  CHECK(values() == std::vector{1, 2, 3, 4});
  queue.remove(b);
  CHECK(values() == std::vector{1, 3, 4});
  queue.remove(d);
  queue.push_back(b);
  CHECK(values() == std::vector{1, 3, 2});
  queue.remove(a);
  CHECK(&queue.front() == &c);
  queue.remove(c);
  queue.remove(b);
  CHECK(queue.empty());
  queue.push_back(d);
  CHECK(values() == std::vector{4});
  CHECK(&queue.pop_front() == &d);
}
