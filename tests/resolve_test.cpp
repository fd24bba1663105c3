// resolve_test.cpp - the addresses that a name stands for.
//
// What the world calls itself must not decide a test: names are answered by
// the tests themselves, at the seam, and a few numbers by the system.
// SPDX-License-Identifier: MIT
#include "../net/resolve.hpp"

#include <netdb.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../runtime/group.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "names.hpp"
#include "program.hpp"

using namespace sockets;
using namespace names;

namespace {

std::string text_of(const std::vector<Address>& all) {
  std::string text;
  for (const Address& one : all) text += one.text() + " ";
  return text;
}

Task<std::string> addresses_of(std::string host, int family = 0) {
  ResolveOptions options;
  options.family = family;
  const std::vector<Address> all = co_await resolve(host, 7, options);
  std::string text = text_of(all);
  co_return text;
}

Task<> look_up(std::string host) {
  const std::vector<Address> all = co_await resolve(host, 7);
}

Task<std::string> resolve_error(std::string host, int family = 0) {
  const auto asks = [&]() -> Task<> { co_await addresses_of(host, family); };
  std::string error = co_await error_of(asks());
  co_return error;
}

const std::string kInvalid = ": " + support::text_of_error(EINVAL);

}  // namespace

// ------------------------------------------------------------------- at once

TEST_CASE("resolve: numbers and localhost are answered at once", "[resolve]") {
  FakeDns dns;
  dns.fail_all(EAI_FAIL);
  const Duration elapsed = play([]() -> Task<> {
    const struct {
      const char* host;
      const char* addresses;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1:7 "},
        {"::1", "[::1]:7 "},
        {"[::1]", "[::1]:7 "},
        {"unix:/a/path", "unix:/a/path "},
        {"localhost", "127.0.0.1:7 [::1]:7 "},
        {"LocalHost.", "127.0.0.1:7 [::1]:7 "},
        {"a.localhost", "127.0.0.1:7 [::1]:7 "},
        {"255.255.255.255", "255.255.255.255:7 "},
    };
    for (const auto& one : cases) {
      const std::string text = co_await addresses_of(one.host);
      CHECK(text == one.addresses);
    }
    std::string text = co_await addresses_of("localhost", AF_INET6);
    CHECK(text == "[::1]:7 ");
    text = co_await addresses_of("localhost", AF_INET);
    CHECK(text == "127.0.0.1:7 ");
    const std::string error = co_await resolve_error("127.0.0.1", AF_INET6);
    CHECK(error ==
          std::string("resolve 127.0.0.1: ") + ::gai_strerror(EAI_NONAME));
  });
  CHECK(elapsed == 0ms);
  CHECK(dns.asked() == "");
}

TEST_CASE("resolve: an address of one link has its scope", "[resolve]") {
  play([]() -> Task<> {
    const std::string text = co_await addresses_of("fe80::1%lo");
    CHECK(text == "[fe80::1%lo]:7 ");
    const std::string error = co_await resolve_error("fe80::1%nosuch");
    CHECK(error ==
          "resolve address 'fe80::1%nosuch' (no such network "
          "interface)" +
              kInvalid);
  });
}

TEST_CASE("resolve: what cannot be a name is an error at once", "[resolve]") {
  FakeDns dns;
  dns.fail_all(EAI_FAIL);
  play([]() -> Task<> {
    std::string error = co_await resolve_error("");
    CHECK(error == "resolve '' (a name is missing)" + kInvalid);
    error = co_await resolve_error(std::string("a\0b", 3));
    CHECK(error == "resolve 'a?b' (it contains a NUL)" + kInvalid);
    error = co_await resolve_error("a..b");
    CHECK(error == "resolve 'a..b' (a part of the name is missing)" + kInvalid);
    error = co_await resolve_error(".");
    CHECK(contains(error, "a part of the name is missing"));
    error = co_await resolve_error(std::string(64, 'a') + ".org");
    CHECK(contains(error, "a part of a name has at most 63 bytes"));
    std::string longest;
    for (int i = 0; i < 127; ++i) longest += "a.";
    error = co_await resolve_error(longest + "b");
    CHECK(contains(error, "a name has at most 253 bytes"));
    error = co_await resolve_error("12:34");
    CHECK(contains(error, "resolve address '12:34' (an address and its port"));
    std::error_code code;
    const auto none = co_await resolve("", 7, code);
    CHECK(none.empty());
    CHECK(code == std::errc::invalid_argument);
  });
  CHECK(dns.asked() == "");
}

// ------------------------------------------------------------------- by a name

TEST_CASE("resolve: a name has the addresses that the system tells, in order",
          "[resolve][threads]") {
  for (const bool at_once : {true, false}) {
    FakeDns dns;
    dns.answer("two.example", {"2001:db8::1", "192.0.2.1", "192.0.2.1"});
    dns.at_once(at_once);
    run([]() -> Task<> {
      std::string text = co_await addresses_of("two.example");
      CHECK(text == "[2001:db8::1]:7 192.0.2.1:7 ");
      text = co_await addresses_of("two.example", AF_INET);
      CHECK(text == "192.0.2.1:7 ");
      // The longest name there is, and one with a dot at its end.
      text = co_await addresses_of("two.example.");
      CHECK(text == "[2001:db8::1]:7 192.0.2.1:7 ");
    }());
    CHECK(dns.asked() == "two.example two.example two.example. ");
  }
}

TEST_CASE("resolve: an error names the host and says what the system says",
          "[resolve][threads]") {
  FakeDns dns;
  dns.fail("again.example", EAI_AGAIN);
  dns.fail("broken.example", EAI_SYSTEM, EMFILE);
  dns.answer("empty.example", {});
  dns.fail("poor.example", EAI_MEMORY);
  run([]() -> Task<> {
    const auto said = [](const char* host, int error) {
      return std::string("resolve ") + host + ": " + ::gai_strerror(error);
    };
    std::string error = co_await resolve_error("nosuch.invalid");
    CHECK(error == said("nosuch.invalid", EAI_NONAME));
    error = co_await resolve_error("empty.example");
    CHECK(error == said("empty.example", EAI_NONAME));
    error = co_await resolve_error("broken.example");
    CHECK(error == "resolve broken.example: " + support::text_of_error(EMFILE));
    error = co_await resolve_error("poor.example");
    CHECK(error == std::bad_alloc().what());

    std::error_code code;
    auto none = co_await resolve("again.example", 7, code);
    CHECK(none.empty());
    CHECK(code == std::error_code(EAI_AGAIN, resolve_category()));
    CHECK(code == std::errc::resource_unavailable_try_again);
    CHECK(code.message() == ::gai_strerror(EAI_AGAIN));
    CHECK(std::string(code.category().name()) == "resolve");
    none = co_await resolve("broken.example", 7, code);
    CHECK(code == std::errc::too_many_files_open);
    none = co_await resolve("poor.example", 7, code);
    CHECK(code == std::errc::not_enough_memory);
    none = co_await resolve("nosuch.invalid", 7, code);
    CHECK(code != std::errc::not_enough_memory);
    const auto found = co_await resolve("127.0.0.1", 7, code);
    CHECK_FALSE(code);
    CHECK(found.size() == 1);
  }());
}

TEST_CASE("resolve: a plan makes a look-up fail", "[resolve][threads]") {
  run([]() -> Task<> {
    FaultPlan plan;
    plan.fail(Call::kLookUp, ENFILE);
    const std::string error = co_await resolve_error("any.example");
    CHECK(error == "resolve any.example: " + support::text_of_error(ENFILE));
    CHECK(plan.failed(Call::kLookUp) == 1);
  }());
}

TEST_CASE("resolve: the system itself answers", "[resolve][threads]") {
  run([]() -> Task<> {
    // Numbers as only getaddrinfo(3) knows them: no network is needed.
    const std::string text = co_await addresses_of("127.1");
    CHECK(text == "127.0.0.1:7 ");
  }());
}

// ----------------------------------------------------------------- while it is

TEST_CASE("resolve: a kill leaves a look-up behind", "[resolve][threads]") {
  FakeDns dns;
  dns.answer("slow.example", {"192.0.2.1"});
  dns.hold();
  run([](FakeDns& held) -> Task<> {
    Job<> job = spawn(look_up, "slow.example");
    co_await held.until_asked(1);
    CHECK(job.kill());
    // A limit does the same.
    const auto none = co_await within(1ms, resolve("slow.example"));
    CHECK_FALSE(none);
  }(dns));
  // The loop is gone, and the threads are still about it.
  dns.let_go();
  dns.until_answered();
}

TEST_CASE("resolve: a look-up that has not begun is taken back",
          "[resolve][threads]") {
  FakeDns dns;
  dns.hold();
  run([](FakeDns& held) -> Task<> {
    std::vector<Job<>> jobs;
    for (int i = 0; i < 20; ++i) jobs.push_back(spawn(look_up, "slow.example"));
    co_await held.until_asked(4);
    for (Job<>& job : jobs) CHECK(job.kill());
  }(dns));
  dns.let_go();
  dns.until_answered();
  CHECK(dns.times_asked() == 4);
}

TEST_CASE("resolve: slow names keep nobody else waiting",
          "[resolve][threads]") {
  // A thousand look-ups at once, and the system answers none of them.
  FakeDns dns;
  dns.answer("slow.example", {"192.0.2.1"});
  dns.hold();
  int found = 0;
  run([](FakeDns& held, int& done) -> Task<> {
    const auto asks = [&done]() -> Task<> {
      const auto all = co_await resolve("slow.example", 7);
      if (all.size() == 1) ++done;
    };
    TaskGroup group;
    for (int i = 0; i < 1000; ++i) group.spawn(asks);
    co_await held.until_asked(4);

    // Meanwhile an echo goes to and fro, numbers are resolved, and a call on
    // the other pool, where files are read, is made.
    auto [near, far] = co_await tcp_ends();
    group.spawn(echo, std::move(far));
    for (int i = 0; i < 100; ++i) {
      const std::string answer = co_await ask(near, "hello");
      CHECK(answer == "hello");
      const std::string text = co_await addresses_of("127.0.0.1");
      CHECK(text == "127.0.0.1:7 ");
    }
    int calls = 0;
    for (int i = 0; i < 20; ++i) {
      co_await offload([&calls] { ++calls; });
    }
    CHECK(calls == 20);
    CHECK(done == 0);
    CHECK(held.times_asked() == 4);  // no more than there are threads
    near.close();
    held.let_go();
    co_await group.join();
    CHECK(held.times_asked() == 1000);
  }(dns, found));
  CHECK(found == 1000);
}

TEST_CASE("resolve: several loops look up at the same time",
          "[resolve][threads]") {
  std::atomic<int> found = 0;
  std::vector<support::Thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&found] {
      FakeDns dns;
      dns.answer("one.example", {"192.0.2.1", "192.0.2.2"});
      run([](std::atomic<int>& count) -> Task<> {
        for (int k = 0; k < 50; ++k) {
          const auto all = co_await resolve("one.example", 7);
          count += static_cast<int>(all.size());
        }
      }(found));
    });
  }
  threads.clear();
  CHECK(found == 4 * 50 * 2);
}

TEST_CASE("resolve: kill everywhere leaves nothing", "[resolve][kill]") {
  struct State {
    int found = 0;
  };
  FakeDns dns;
  dns.answer("one.example", {"192.0.2.1"});
  dns.at_once(true);
  testing::Options options;
  options.seeds = 50;
  const auto counts = testing::kill_everywhere<State>(
      [](State& state) -> Task<> {
        const auto asks = [&]() -> Task<> {
          for (const char* host : {"one.example", "localhost"}) {
            const auto all = co_await resolve(host, 7);
            state.found += static_cast<int>(all.size());
          }
        };
        TaskGroup group;
        group.spawn(asks);
        group.spawn(asks);
        co_await group.join();
      },
      [](State&) {}, options);
  CHECK(counts.waits >= 4);
}

TEST_CASE("resolve: a dump says what is looked up", "[resolve][threads]") {
  FakeDns dns;
  dns.hold();
  run([](FakeDns& held) -> Task<> {
    Job<> job = spawn(look_up, "slow.example");
    co_await held.until_asked(1);
    CHECK(contains(Loop::current().dump(), "resolve slow.example"));
    job.kill();
  }(dns));
  dns.let_go();
  dns.until_answered();
}

TEST_CASE("resolve: a program that looks up nothing has no resolver in it",
          "[resolve]") {
  if (support::kSanitized) return;  // the sanitizers bring one
  const std::string echo = programs::contents(programs::build_path("echo"));
  REQUIRE(echo.size() > 10'000);
  CHECK_FALSE(contains(echo, "getaddrinfo"));
}
