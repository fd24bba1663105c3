// error_test.cpp - the texts of errors.
// SPDX-License-Identifier: MIT
#include "../runtime/error.hpp"

#include <new>
#include <stdexcept>

#include "catch.hpp"
#include "mallocs.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;

namespace {

using Location = std::source_location;

Location plain_function(int) {
  return Location::current();
}

template <class T>
Location template_function(T) {
  return Location::current();
}

struct Host {
  std::map<int, int> method(std::vector<int>) {
    where = Location::current();
    return {};
  }
  Location where;
};

Task<int> coroutine_function(Location& where) {
  const int one = 1;
  where = Location::current();
  co_return one;
}

/// Interrupts the first write to stderr, and cuts the others to ten bytes.
class UnwillingStderr : public sys::Calls {
 public:
  ssize_t write(int fd, const void* data, std::size_t size) noexcept override {
    if (++calls_ == 1) return -EINTR;
    return Calls::write(fd, data, std::min<std::size_t>(size, 10));
  }

 private:
  int calls_ = 0;
};

}  // namespace

namespace named {
Location function_of_a_namespace() {
  return Location::current();
}
}  // namespace named

TEST_CASE("error: a system failure names the call, the object and the reason",
          "[error]") {
  try {
    throw_system(ECONNREFUSED, "connect 127.0.0.1:4915");
  } catch (const std::system_error& e) {
    CHECK(std::string(e.what()) ==
          "connect 127.0.0.1:4915: Connection refused");
    CHECK(e.code() == std::errc::connection_refused);
    CHECK(e.code().category() == std::system_category());
    return;
  }
  FAIL("nothing was thrown");
}

TEST_CASE("error: out of memory is a bad_alloc", "[error]") {
  CHECK_THROWS_AS(throw_system(ENOMEM, "read fd 3"), std::bad_alloc);
}

TEST_CASE("error: the library's own kinds are what their names promise",
          "[error]") {
  CHECK_THROWS_AS(throw Misuse("m"), std::logic_error);
  CHECK_THROWS_AS(throw Deadlock("d"), std::runtime_error);
  CHECK_THROWS_AS(throw Killed("k"), std::runtime_error);
}

TEST_CASE("error: complain writes one line that says who speaks", "[error]") {
  const std::string text = errors_of([] { complain("the disk is full"); });
  CHECK(text == "violet: the disk is full\n");
}

TEST_CASE("error: what a peer has chosen does not steer the terminal",
          "[error]") {
  const std::string text = errors_of([] {
    complain(
        "a\x1b[2Jb\r\x7f\xc2\x9b"
        "2J\tc\nd \xc3\x9b \xe2\x80\x9b");
  });
  CHECK(text == "violet: a?[2Jb??\xc2?2J\tc\nd \xc3\x9b \xe2\x80\x9b\n");
  CHECK(printable("one\nline\x1b") == "one?line?");
  CHECK(printable("").empty());
}

TEST_CASE("error: complain loses nothing to a signal or a short write",
          "[error]") {
  UnwillingStderr calls;
  const std::string text = errors_of([&] {
    const ScopedCalls guard(calls);
    complain("the disk is full");
  });
  CHECK(text == "violet: the disk is full\n");
}

TEST_CASE("error: fatal ends the process with its sentence and the place",
          "[error]") {
  const ChildEnd end =
      in_child([] { fatal("the heap is not a heap", Location::current()); });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "violet: the heap is not a heap\n"));
  CHECK(contains(end.errors, "near error_test.cpp:"));

  const ChildEnd nowhere = in_child([] { fatal("no place"); });
  CHECK(nowhere.signal == SIGABRT);
  CHECK(nowhere.errors == "violet: no place\n");
}

TEST_CASE("error: a place is the file without its folders, and the line",
          "[error]") {
  const Location here = Location::current();
  CHECK(text_of(here) == "error_test.cpp:" + std::to_string(here.line()));
  CHECK(text_of(Location()) == "?");
}

TEST_CASE("error: a function's name has neither parameters nor result",
          "[error]") {
  CHECK(contains(function_of(plain_function(1)), "plain_function"));
  CHECK_FALSE(contains(function_of(plain_function(1)), "int"));
  CHECK(function_of(named::function_of_a_namespace()) ==
        "named::function_of_a_namespace");
  CHECK(contains(function_of(template_function(1)), "template_function"));
  Host host;
  host.method({});
  CHECK(contains(function_of(host.where), "Host::method"));
  CHECK_FALSE(contains(function_of(host.where), "map"));
  Location where;
  CHECK(in_virtual_time(coroutine_function, where) == 1);
  CHECK(contains(function_of(where), "coroutine_function"));
  CHECK_FALSE(contains(function_of(where), "Task"));
}

TEST_CASE("error: a lambda has a name too", "[error]") {
  const auto lambda = [] { return Location::current(); };
  CHECK_FALSE(function_of(lambda()).empty());
}

TEST_CASE("error: any exception has a text", "[error]") {
  const auto runtime = std::make_exception_ptr(std::runtime_error("late"));
  CHECK(text_of(runtime) == "late");
  CHECK(text_of(std::make_exception_ptr(7)) ==
        "an exception that is no std::exception");
}

#ifdef VIOLET_COUNTS_MALLOC
TEST_CASE("error: one whose text finds no memory does not end the process",
          "[error]") {
  const auto error = std::make_exception_ptr(
      std::runtime_error("more characters than a string keeps in itself"));
  const std::string said = errors_of([&] {
    no_memory = true;
    complain_with([&] { return text_of(error); });
    no_memory = false;
  });
  CHECK(said == "something failed, and no memory is left to say what");
}
#endif
