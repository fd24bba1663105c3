// program_test.cpp - exit codes, last words, signals, and several loops.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <errno.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "program.hpp"

#include "../net/net.hpp"
#include "support.hpp"

using namespace violet;
using namespace std::chrono_literals;
using programs::Clock;
using programs::End;
using programs::eventually;
using programs::Program;
using programs::Setup;
using support::contains;

namespace {

// ThreadSanitizer keeps signals until the next call of the C library.
#if defined(__SANITIZE_THREAD__)
constexpr bool kSignalsAreHeldBack = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool kSignalsAreHeldBack = true;
#else
constexpr bool kSignalsAreHeldBack = false;
#endif
#else
constexpr bool kSignalsAreHeldBack = false;
#endif

/// How lines on stderr begin.
std::string name() {
  return std::string(program_invocation_short_name) + ": ";
}

/// Says on stdout that it is destroyed.
class LastWord {
 public:
  explicit LastWord(const char* word) noexcept : word_(word) {}
  LastWord(const LastWord&) = delete;
  ~LastWord() { print_line(word_); }

 private:
  const char* word_;
};

/// Waits for ever, without heeding stop().
Task<> wait_for_ever(const char* word) {
  const LastWord last(word);
  print_line("ready");
  for (;;) co_await sleep(1h);
}

Task<> wait_for_stop() {
  print_line("ready");
  co_await stopping();
  print_line("stopping");
}

Task<> return_at_once() {
  co_return;
}

Task<> hang() {
  print_line("ready");
  co_await yield_now();
  for (volatile bool forever = true; forever;) {
  }
}

struct Outcome {
  End end;
  std::string out;
  std::string err;
};

template <class F>
Outcome outcome_of(F body, Setup setup = Setup()) {
  Program program(std::function<int()>(body), setup);
  Outcome outcome{program.wait(), {}, {}};
  outcome.out = program.out();
  outcome.err = program.err();
  return outcome;
}

void read_ready(Program& program, int loops = 1) {
  for (int i = 0; i < loops; ++i) REQUIRE(program.line() == "ready");
}

}  // namespace

// ------------------------------------------------------- how a program ends

TEST_CASE("program: a root that returns is exit code 0", "[program]") {
  const Outcome outcome =
      outcome_of([] { return run_program(return_at_once()); });
  CHECK(outcome.end.code == 0);
  CHECK(outcome.out == "");
  CHECK(outcome.err == "");
}

TEST_CASE("program: a root that throws is one line and exit code 1",
          "[program]") {
  struct Odd {};
  const auto fail_with = [](auto make) {
    return outcome_of([make] {
      const auto root = [make]() -> Task<> {
        co_await yield_now();
        make();
      };
      return run_program(root());
    });
  };
  Outcome outcome =
      fail_with([] { throw std::runtime_error("it went wrong"); });
  CHECK(outcome.end.code == 1);
  CHECK(outcome.out == "");
  CHECK(outcome.err == name() + "it went wrong\n");

  outcome = fail_with([] {
    throw std::system_error(ENOENT, std::system_category(), "open x");
  });
  CHECK(outcome.end.code == 1);
  CHECK(outcome.err == name() + "open x: No such file or directory\n");

  outcome = fail_with([] { throw Odd(); });
  CHECK(outcome.end.code == 1);
  CHECK(programs::count_of(outcome.err, "\n") == 1);
}

TEST_CASE("program: a spawned job that fails is one line and exit code 1",
          "[program]") {
  const Outcome outcome = outcome_of([] {
    const auto failing = []() -> Task<> {
      co_await yield_now();
      throw std::runtime_error("a job went wrong");
    };
    const auto root = [&failing]() -> Task<> {
      spawn(failing);
      const LastWord last("unwound");
      co_await sleep(1h);
    };
    return run_program(root());
  });
  CHECK(outcome.end.code == 1);
  CHECK(outcome.out == "unwound\n");
  CHECK(outcome.err == name() + "a job went wrong\n");
}

TEST_CASE("program: it knows whether it runs", "[program]") {
  CHECK(!in_program());
  const Outcome outcome = outcome_of([] {
    bool during = false;
    const auto root = [&during]() -> Task<> {
      during = in_program();
      co_return;
    };
    const int code = run_program(root());
    return code == 0 && during && !in_program() ? 0 : 1;
  });
  CHECK(outcome.end.code == 0);
}

TEST_CASE("program: a second one runs in the same process", "[program]") {
  const auto twice = [] {
    if (run_program(wait_for_stop()) != 0) return 50;
    return run_program(wait_for_ever("unwound"));
  };
  Program program{std::function<int()>(twice)};
  read_ready(program);
  program.signal(SIGTERM);
  CHECK(program.line() == "stopping");
  read_ready(program);  // the first one's signal is not its own
  program.signal(SIGINT);
  CHECK(program.line() == "unwound");
  CHECK(program.wait().code == 130);
}

// -------------------------------------------------------------------- signals

TEST_CASE("program: the first signal unwinds if nobody awaits stopping",
          "[program]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const auto body = [] {
      const auto root = []() -> Task<> {
        spawn(wait_for_ever, "a job is unwound");
        co_await wait_for_ever("the root is unwound");
      };
      return run_program(root());
    };
    Program program{std::function<int()>(body)};
    read_ready(program, 2);
    program.signal(signal);
    const End end = program.wait();
    CHECK(end.code == 128 + signal);
    CHECK(end.signal == 0);
    CHECK(contains(program.out(), "a job is unwound\n"));
    CHECK(contains(program.out(), "the root is unwound\n"));
    CHECK(program.err() == "");
  }
}

namespace {

/// For ever ready, and never waiting for more than a turn.
Task<> keep_busy() {
  const LastWord last("unwound");
  print_line("ready");
  for (;;) co_await yield_now();
}

/// Ends at once, and leaves a job behind.
Task<> leave_a_job() {
  spawn(wait_for_ever, "unwound");
  co_return;
}

/// Waits for a descriptor of which nothing comes.
Task<> listen_for_ever() {
  const LastWord last("unwound");
  const Descriptor never = adopt(Fd(::dup(0)));
  print_line("ready");
  co_await readable(never);
}

}  // namespace

TEST_CASE("program: a signal finds it in whatever it does", "[program]") {
  using Root = Task<> (*)();
  const Root roots[] = {keep_busy, leave_a_job, listen_for_ever,
                        [] { return wait_for_ever("unwound"); }};
  for (const Root root : roots) {
    for (const int signal : {SIGINT, SIGTERM}) {
      CAPTURE(signal);
      int silent[2];
      REQUIRE(::pipe2(silent, O_CLOEXEC) == 0);
      const Fd ends[2] = {Fd(silent[0]), Fd(silent[1])};
      Program program{std::function<int()>([&] {
        ::dup2(ends[0].get(), 0);
        return run_program(root());
      })};
      read_ready(program);
      program.signal(signal);
      const End end = program.wait();
      CHECK(end.code == 128 + signal);
      CHECK(end.signal == 0);
      CHECK(program.out() == "ready\nunwound\n");
      CHECK(program.err() == "");
    }
  }
}

TEST_CASE("program: the first signal completes stopping", "[program]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const auto body = [] {
      const auto root = []() -> Task<> {
        const auto job = spawn(wait_for_stop);
        co_await wait_for_stop();
        co_await join(job);
        co_await stopping();  // now at once
        const LastWord last("at leisure");
        co_await sleep(10ms);
      };
      return run_program(root());
    };
    Program program{std::function<int()>(body)};
    read_ready(program, 2);
    program.signal(signal);
    CHECK(program.wait().code == 0);
    CHECK(program.out() == "ready\nready\nstopping\nstopping\nat leisure\n");
    CHECK(program.err() == "");
  }
}

TEST_CASE("program: the second signal unwinds", "[program]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const auto body = [] {
      const auto root = []() -> Task<> {
        const LastWord last("unwound");
        co_await wait_for_stop();
        co_await sleep(1h);
      };
      return run_program(root());
    };
    Program program{std::function<int()>(body)};
    read_ready(program);
    program.deliver(SIGTERM);
    CHECK(program.line() == "stopping");
    program.signal(signal);
    CHECK(program.wait().code == 128 + signal);
    CHECK(program.out() == "ready\nstopping\nunwound\n");
    CHECK(program.err() == "");
  }
}

TEST_CASE("program: a busy loop ends a second after the second signal",
          "[program]") {
  if (kSignalsAreHeldBack) return;
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program{std::function<int()>([] { return run_program(hang()); })};
    read_ready(program);
    program.deliver(SIGTERM);
    const auto start = Clock::now();
    program.signal(signal);
    const End end = program.wait();
    CHECK(Clock::now() - start >= 900ms);
    CHECK(end.code == 128 + signal);
    CHECK(end.signal == 0);
  }
}

TEST_CASE(
    "program: a destructor that hangs ends a second after the second "
    "signal",
    "[program]") {
  if (kSignalsAreHeldBack) return;
  struct Stubborn {
    ~Stubborn() {
      print_line("ready");
      for (volatile bool forever = true; forever;) {
      }
    }
  };
  const auto body = [] {
    const auto root = []() -> Task<> {
      const Stubborn stubborn;
      co_await wait_for_ever("unwound");
    };
    return run_program(root());
  };
  Program program{std::function<int()>(body)};
  read_ready(program);
  program.deliver(SIGINT);
  CHECK(program.line() == "unwound");
  read_ready(program);
  program.signal(SIGTERM);
  CHECK(program.wait().code == 143);
}

TEST_CASE("program: a SIGUSR1 before the loop begins is not lost",
          "[program]") {
  Program program([] {
    const auto prepare = [] { ::raise(SIGUSR1); };
    const auto root = [](int) -> Task<> { co_await stopping(); };
    return run_program(1, prepare, root);
  });
  program.wait_for_error("1 job\n");
  CHECK(program.stop(SIGTERM).code == 0);
}

TEST_CASE("program: SIGUSR1 dumps and changes nothing", "[program]") {
  Program program{
      std::function<int()>([] { return run_program(wait_for_stop()); })};
  read_ready(program);
  for (int i = 0; i < 3; ++i) {
    const std::string dump = program.dump();
    CHECK(contains(dump, "1 job\n"));
    CHECK(contains(dump, "stopping"));
    CHECK(contains(dump, "program_test.cpp:"));
  }
  program.signal(SIGTERM);
  CHECK(program.wait().code == 0);
}

TEST_CASE("program: what handled signals before handles them again",
          "[program]") {
  const Outcome outcome = outcome_of([] {
    constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGPIPE, SIGALRM};
    const auto mine = [](int) {};
    struct sigaction action{};
    action.sa_handler = mine;
    for (const int number : {SIGINT, SIGUSR1}) {
      ::sigaction(number, &action, nullptr);
    }
    struct sigaction before[std::size(kSignals)];
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      ::sigaction(kSignals[i], nullptr, &before[i]);
    }
    bool taken = true;
    const auto root = [&]() -> Task<> {
      for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGPIPE}) {
        struct sigaction now{};
        ::sigaction(number, nullptr, &now);
        if (now.sa_handler == mine || now.sa_handler == SIG_DFL) taken = false;
      }
      co_return;
    };
    if (run_program(root()) != 0 || !taken) return 1;
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      struct sigaction after{};
      ::sigaction(kSignals[i], nullptr, &after);
      if (after.sa_handler != before[i].sa_handler) return 2;
    }
    return 0;
  });
  CHECK(outcome.end.code == 0);
}

TEST_CASE("program: a deadlock is told, for no signal is awaited",
          "[program]") {
  const Outcome outcome = outcome_of([] {
    const auto root = []() -> Task<> {
      Job<> self;
      const auto waits_for_itself = [&]() -> Task<> { co_await wait(self); };
      self = spawn(waits_for_itself);
      co_await wait(self);
    };
    return run_program(root());
  });
  CHECK(outcome.end.code == 1);
  CHECK(contains(outcome.err, "wait #"));
}

TEST_CASE("program: one inside another is refused and harms nothing",
          "[program]") {
  Program program{std::function<int()>([] {
    const auto root = []() -> Task<> {
      if (run_program(return_at_once()) != 1) print_line("not refused");
      co_await wait_for_stop();
    };
    return run_program(root());
  })};
  read_ready(program);
  CHECK(contains(program.dump(), "stopping"));
  program.signal(SIGTERM);
  CHECK(program.wait().code == 0);
  CHECK(contains(program.err(), "not called inside itself"));
}

TEST_CASE("program: main goes on after the second signal", "[program]") {
  Program program{std::function<int()>([] {
    const int code = run_program(wait_for_ever("unwound"));
    std::this_thread::sleep_for(1200ms);
    return code == 130 || code == 143 ? 7 : 8;
  })};
  read_ready(program);
  // Both at once, or the second might come when nobody handles it any more.
  program.freeze();
  program.signal(SIGINT);
  program.signal(SIGTERM);
  program.thaw();
  CHECK(program.wait().code == 7);
}

TEST_CASE("program: a failure in the turn of a signal is told", "[program]") {
  const Outcome outcome = outcome_of([] {
    const auto root = []() -> Task<> {
      ::raise(SIGINT);
      throw std::runtime_error("not to be lost");
      co_return;
    };
    return run_program(root());
  });
  CHECK(contains(outcome.err, "not to be lost"));
}

TEST_CASE("program: a plain run leaves signals alone", "[program]") {
  Program program{std::function<int()>([] {
    run(wait_for_ever("unwound"));
    return 0;
  })};
  read_ready(program);
  program.signal(SIGTERM);
  const End end = program.wait();
  CHECK(end.signal == SIGTERM);
}

// ------------------------------------------------------- standard descriptors

TEST_CASE("program: print_line waits for room in a pipe that never blocks",
          "[program]") {
  Program program([] {
    ::fcntl(1, F_SETFL, O_WRONLY | O_NONBLOCK);
    for (int i = 0; i < 20; ++i) print_line(std::string(100'000, 'x'));
    return 0;
  });
  CHECK(program.wait().code == 0);
  CHECK(program.out().size() == 20 * 100'001);
}

TEST_CASE("program: print_line writes one whole line at once", "[program]") {
  const Outcome outcome = outcome_of([] {
    const auto root = []() -> Task<> {
      print_line("one");
      print_line("");
      print_line(std::string(100'000, 'x'));
      co_return;
    };
    run_program(root());
    ::_exit(7);  // nothing is left in a buffer
    return 0;
  });
  CHECK(outcome.end.code == 7);
  CHECK((outcome.out == "one\n\n" + std::string(100'000, 'x') + '\n'));
}

TEST_CASE("program: an unread stdout ends a program quietly", "[program]") {
  const auto body = [] {
    const auto root = []() -> Task<> {
      print_line("is anybody there?");
      co_await sleep(1h);
    };
    return run_program(root());
  };
  Setup setup;
  setup.out = Setup::kBrokenPipe;
  Outcome outcome = outcome_of(body, setup);
  CHECK(outcome.end.code == 0);
  CHECK(outcome.end.signal == 0);
  CHECK(outcome.err == "");

  setup.out = Setup::kFull;
  outcome = outcome_of(body, setup);
  CHECK(outcome.end.code == 1);
  CHECK(outcome.err == name() + "write stdout: No space left on device\n");
}

TEST_CASE("program: several jobs that find stdout unread say nothing",
          "[program]") {
  const auto body = [] {
    const auto say = []() -> Task<> {
      co_await yield_now();
      print_line("is anybody there?");
    };
    const auto root = [say]() -> Task<> {
      for (int i = 0; i < 3; ++i) spawn(say);
      co_await all(say(), say());
    };
    return run_program(root());
  };
  Setup setup;
  setup.out = Setup::kBrokenPipe;
  const Outcome outcome = outcome_of(body, setup);
  CHECK(outcome.end.code == 0);
  CHECK(outcome.err == "");
}

TEST_CASE("program: outside a program an unread stdout is an error",
          "[program]") {
  Setup setup;
  setup.out = Setup::kBrokenPipe;
  const Outcome outcome = outcome_of(
      [] {
        ::signal(SIGPIPE, SIG_IGN);
        try {
          print_line("is anybody there?");
        } catch (const std::system_error& error) {
          return error.code() == std::errc::broken_pipe ? 5 : 6;
        }
        return 0;
      },
      setup);
  CHECK(outcome.end.code == 5);
}

TEST_CASE("program: a failure survives a broken stderr", "[program]") {
  Setup setup;
  setup.errors_unread = true;
  const Outcome outcome = outcome_of(
      [] {
        const auto root = []() -> Task<> {
          throw std::runtime_error("nobody reads this");
          co_return;
        };
        return run_program(root());
      },
      setup);
  CHECK(outcome.end.code == 1);
  CHECK(outcome.end.signal == 0);
}

TEST_CASE("program: missing standard descriptors do not become ours",
          "[program]") {
  Setup setup;
  setup.all_closed = true;
  const Outcome outcome = outcome_of(
      [] {
        const auto root = []() -> Task<> {
          const Listener listener("127.0.0.1", 0);
          for (const int fd : {0, 1, 2}) {
            int type = 0;
            socklen_t size = sizeof type;
            const bool is_open = ::fcntl(fd, F_GETFD) != -1;
            const bool is_socket =
                ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
            if (!is_open || is_socket) throw std::runtime_error("not filled");
          }
          co_return;
        };
        return run_program(root());
      },
      setup);
  CHECK(outcome.end.code == 0);
}

// -------------------------------------------------------------- several loops

TEST_CASE("program: run_loops calls the function on each thread",
          "[program][threads]") {
  std::mutex mutex;
  std::set<int> indexes;
  std::set<std::thread::id> makers;
  std::set<std::thread::id> runners;
  std::thread::id first;
  const auto body = [&](int index) -> Task<> {
    co_await yield_now();
    const std::lock_guard lock(mutex);
    runners.insert(std::this_thread::get_id());
    if (index == 0) first = std::this_thread::get_id();
  };
  run_loops(4, [&](int index) {
    const std::lock_guard lock(mutex);
    indexes.insert(index);
    makers.insert(std::this_thread::get_id());
    return body(index);
  });
  CHECK(indexes == std::set<int>{0, 1, 2, 3});
  CHECK(makers.size() == 4);
  CHECK(makers == runners);
  CHECK(first == std::this_thread::get_id());
}

#ifdef __GLIBC__
TEST_CASE("program: a thread that cannot be started says for which loop",
          "[program][threads]") {
  if (support::kSanitized) return;  // they need more address space than that
  const support::ChildEnd end = support::in_child([] {
    const rlimit little{1 << 30, 1 << 30};
    ::setrlimit(RLIMIT_AS, &little);
    const auto body = [](int) -> Task<> { co_return; };
    const auto error = caught([&] { run_loops(250, body); });
    complain(text_of(error));
  });
  CHECK(end.status == 0);
  CHECK(support::contains(end.errors, "start a thread for loop "));
}
#endif

TEST_CASE("program: one loop of run_loops is the caller's", "[program]") {
  int calls = 0;
  const auto body = [&calls](int index) -> Task<> {
    calls += 1 + index;
    co_return;
  };
  run_loops(1, body);
  CHECK(calls == 1);
}

TEST_CASE("program: the first failure stops all loops", "[program][threads]") {
  for (int failing = 0; failing < 3; ++failing) {
    CAPTURE(failing);
    std::atomic<int> unwound = 0;
    struct Count {
      explicit Count(std::atomic<int>& n) noexcept : number(n) {}
      ~Count() { ++number; }
      std::atomic<int>& number;
    };
    const auto body = [&](int index) -> Task<> {
      const Count count(unwound);
      co_await sleep(1ms);
      if (index == failing) {
        throw std::runtime_error("loop " + std::to_string(index));
      }
      for (;;) co_await sleep(1h);
    };
    CHECK_THROWS_WITH(run_loops(3, body), "loop " + std::to_string(failing));
    CHECK(unwound <= 3);
    CHECK(unwound >= 1);
  }
}

TEST_CASE("program: a function that throws is a loop's failure",
          "[program][threads]") {
  const auto waiting = []() -> Task<> { co_await sleep(1h); };
  const auto make = [&](int index) -> Task<> {
    if (index == 1) throw std::runtime_error("cannot make it");
    return waiting();
  };
  CHECK_THROWS_WITH(run_loops(2, make), "cannot make it");
}

TEST_CASE("program: fewer than one loop is a misuse", "[program]") {
  const auto make = [](int) { return return_at_once(); };
  CHECK_THROWS_AS(run_loops(0, make), Misuse);
  CHECK_THROWS_AS(run_loops(-1, make), Misuse);
  const Outcome outcome = outcome_of([make] { return run_program(0, make); });
  CHECK(outcome.end.code == 1);
  CHECK(programs::count_of(outcome.err, "\n") == 1);
}

TEST_CASE("program: run_loops inside a loop is a misuse",
          "[program][threads]") {
  const auto make = [](int) { return return_at_once(); };
  const auto root = [make]() -> Task<> {
    run_loops(2, make);
    co_return;
  };
  CHECK_THROWS_AS(run(root()), Misuse);
}

TEST_CASE("program: a signal stops all loops", "[program][threads]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program{std::function<int()>(
        [] { return run_program(3, [](int) { return wait_for_stop(); }); })};
    read_ready(program, 3);
    program.signal(signal);
    CHECK(program.wait().code == 0);
    CHECK(programs::count_of(program.out(), "stopping\n") == 3);
    CHECK(program.err() == "");
  }
}

TEST_CASE("program: a signal unwinds all loops if nobody awaits stopping",
          "[program][threads]") {
  Program program{std::function<int()>([] {
    return run_program(3, [](int) { return wait_for_ever("unwound"); });
  })};
  read_ready(program, 3);
  program.signal(SIGINT);
  CHECK(program.wait().code == 130);
  CHECK(programs::count_of(program.out(), "unwound\n") == 3);
  CHECK(program.err() == "");
}

TEST_CASE("program: the second signal unwinds all loops",
          "[program][threads]") {
  Program program{std::function<int()>([] {
    const auto body = [](int) -> Task<> {
      const LastWord last("unwound");
      co_await wait_for_stop();
      co_await sleep(1h);
    };
    return run_program(3, body);
  })};
  read_ready(program, 3);
  program.deliver(SIGINT);
  for (int i = 0; i < 3; ++i) CHECK(program.line() == "stopping");
  program.signal(SIGTERM);
  CHECK(program.wait().code == 143);
  CHECK(programs::count_of(program.out(), "unwound\n") == 3);
}

TEST_CASE("program: a loop that fails is one line and exit code 1",
          "[program][threads]") {
  const Outcome outcome = outcome_of([] {
    const auto body = [](int index) -> Task<> {
      co_await sleep(1ms);
      if (index == 1) throw std::runtime_error("loop 1 went wrong");
      for (;;) co_await sleep(1h);
    };
    return run_program(3, body);
  });
  CHECK(outcome.end.code == 1);
  CHECK(outcome.err == name() + "loop 1 went wrong\n");
}
