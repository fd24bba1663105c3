// signal_events_test.cpp - signals as events: none lost, all restored.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <errno.h>
#include <signal.h>

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/group.hpp"
#include "../runtime/loops.hpp"
#include "../runtime/program.hpp"
#include "../runtime/signal_events.hpp"
#include "../runtime/testing.hpp"
#include "program.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;
using programs::Program;

namespace {

/// Sends to this process, and to this thread first: the handler has run when
/// this returns.
void send(int number) {
  ::raise(number);
}

/// Holds back a set of signals in this thread, so that they come together.
class HeldBack {
 public:
  explicit HeldBack(std::initializer_list<int> numbers) {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int number : numbers) ::sigaddset(&set, number);
    ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  HeldBack(const HeldBack&) = delete;
  ~HeldBack() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

struct sigaction action_of(int number) {
  struct sigaction action{};
  ::sigaction(number, nullptr, &action);
  return action;
}

Task<Signal> next_of(Signals& news) {
  const Signal signal = co_await news.next();
  co_return signal;
}

std::string why(std::initializer_list<int> numbers) {
  try {
    const Signals news(numbers);
  } catch (const Misuse& misuse) {
    return misuse.what();
  }
  return "it was not refused";
}

}  // namespace

// ------------------------------------------------------------------- hearing

TEST_CASE("signal events: a job that waits is told of the signal",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP, SIGUSR2});
    const Job<Signal> waits = spawn(next_of, std::ref(news));
    co_await yield_now();
    send(SIGUSR2);
    const Signal signal = co_await join(waits);
    CHECK(signal == SIGUSR2);
    CHECK(signal.number() == SIGUSR2);
    CHECK(signal.times() == 1);
  };
  run(body());
}

TEST_CASE("signal events: one that comes while nobody waits is not lost",
          "[signals]") {
  Signals news({SIGHUP});
  send(SIGHUP);  // before there is a loop
  const auto body = [&]() -> Task<> {
    int which = co_await news.next();
    CHECK(which == SIGHUP);
    send(SIGHUP);
    which = co_await news.next();
    CHECK(which == SIGHUP);
    const auto none = co_await within(1ms, news.next());
    CHECK_FALSE(none);
  };
  run(body());
  send(SIGHUP);
  CHECK(run(next_of(news)) == SIGHUP);
}

TEST_CASE("signal events: what came before it was made does not count",
          "[signals]") {
  const Signals earlier({SIGHUP});
  send(SIGHUP);
  Signals news({SIGHUP});
  const auto body = [&]() -> Task<> {
    const auto none = co_await within(1ms, news.next());
    CHECK_FALSE(none);
  };
  run(body());
}

TEST_CASE("signal events: different ones of the same moment all arrive",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP, SIGUSR1, SIGUSR2});
    for (int round = 0; round < 100; ++round) {
      {
        const HeldBack together({SIGHUP, SIGUSR1, SIGUSR2});
        for (const int number : {SIGUSR2, SIGHUP, SIGUSR1}) send(number);
      }
      std::set<int> told;
      for (int i = 0; i < 3; ++i) {
        const Signal signal = co_await news.next();
        told.insert(signal);
        CHECK(signal.times() == 1);
      }
      CHECK(told == std::set<int>{SIGHUP, SIGUSR1, SIGUSR2});
    }
  };
  run(body());
}

TEST_CASE("signal events: it tells how often one came", "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    for (int i = 0; i < 5; ++i) send(SIGHUP);
    const Signal five = co_await news.next();
    CHECK(five.times() == 5);
    {
      const HeldBack together({SIGHUP});
      for (int i = 0; i < 5; ++i) send(SIGHUP);  // the kernel keeps one
    }
    const Signal one = co_await news.next();
    CHECK(one.times() == 1);
  };
  run(body());
}

TEST_CASE("signal events: one that keeps coming does not crowd out another",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP, SIGUSR2});
    int hups = 0;
    send(SIGUSR2);
    for (int which = 0; which != SIGUSR2 && hups < 10;) {
      send(SIGHUP);
      which = co_await news.next();
      if (which == SIGHUP) ++hups;
    }
    CHECK(hups <= 1);
  };
  run(body());
}

TEST_CASE("signal events: every listener of a loop hears every signal",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals first({SIGHUP});
    Signals second({SIGHUP, SIGUSR2});
    const Job<Signal> a = spawn(next_of, std::ref(first));
    const Job<Signal> b = spawn(next_of, std::ref(second));
    co_await yield_now();
    send(SIGHUP);
    const int heard = co_await join(a);
    const int too = co_await join(b);
    CHECK(heard == SIGHUP);
    CHECK(too == SIGHUP);
  };
  run(body());
}

TEST_CASE("signal events: of several jobs that wait each gets another signal",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP, SIGUSR2});
    std::vector<Job<Signal>> jobs;
    for (int i = 0; i < 3; ++i) jobs.push_back(spawn(next_of, std::ref(news)));
    co_await yield_now();
    send(SIGUSR2);
    send(SIGHUP);
    const int first = co_await join(jobs[0]);
    const int second = co_await join(jobs[1]);
    CHECK(first + second == SIGHUP + SIGUSR2);
    CHECK_FALSE(jobs[2].ended());
    send(SIGHUP);
    const int third = co_await join(jobs[2]);
    CHECK(third == SIGHUP);
  };
  run(body());
}

TEST_CASE("signal events: a job that never has to wait for anything hears",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    const Job<Signal> waits = spawn(next_of, std::ref(news));
    int turns = 0;
    while (!waits.ended() && ++turns < 100'000) {
      if (turns == 100) send(SIGHUP);
      co_await yield_now();
    }
    CHECK(turns < 200);
  };
  run(body());
}

TEST_CASE("signal events: loops on several threads all hear every signal",
          "[signals][threads]") {
  constexpr int kLoops = 4;
  std::atomic<int> listening = 0;
  std::atomic<int> heard = 0;
  run_loops(kLoops, [&](int index) {
    const auto body = [](int number, std::atomic<int>& begun,
                         std::atomic<int>& ended) -> Task<> {
      Signals news({SIGHUP, SIGUSR2});
      ++begun;
      if (number == 0) {
        while (begun < kLoops) co_await yield_now();
        ::kill(::getpid(), SIGHUP);
        ::kill(::getpid(), SIGUSR2);
      }
      std::set<int> told;
      while (told.size() < 2) {
        const Signal signal = co_await news.next();
        told.insert(signal);
      }
      ++ended;
    };
    return body(index, listening, heard);
  });
  CHECK(heard == kLoops);
}

TEST_CASE("signal events: under load none of two kinds is lost",
          "[signals][threads]") {
  // Work is announced by a signal. Should the last one get lost, the last work
  // is never seen, and the test hangs.
  constexpr int kRounds = 5000;
  std::atomic<int> made[2] = {0, 0};
  const auto body = [&]() -> Task<> {
    Signals news({SIGHUP, SIGUSR2});
    Thread sender([&] {
      for (int i = 0; i < kRounds; ++i) {
        ++made[0];
        ::kill(::getpid(), SIGHUP);
        ++made[1];
        ::kill(::getpid(), SIGUSR2);
      }
    });
    int seen[2] = {0, 0};
    while (seen[0] < kRounds || seen[1] < kRounds) {
      const Signal signal = co_await news.next();
      const std::size_t which = signal == SIGHUP ? 0 : 1;
      seen[which] = made[which];
    }
    sender.join();
  };
  run(body());
  CHECK(made[0] == kRounds);
}

TEST_CASE("signal events: one that comes just as a job begins to wait is heard",
          "[signals][threads]") {
  constexpr int kRounds = kSanitized ? 5000 : 100'000;
  const pthread_t here = ::pthread_self();
  std::atomic<int> armed = 0;
  std::atomic<bool> over = false;
  Thread sender([&] {
    for (int sent = 0; !over;) {
      if (armed == sent) continue;
      ::pthread_kill(here, SIGUSR2);
      ++sent;
    }
  });
  const auto body = [&]() -> Task<int> {
    Signals news({SIGUSR2});
    int heard = 0;
    while (heard < kRounds) {
      ++armed;  // the signal takes its time: every moment has its turn
      for (volatile int pause = heard % 4000; pause > 0;) pause = pause - 1;
      const TimePoint start = violet::Clock::now();
      co_await within(20s, news.next());
      if (violet::Clock::now() - start >= 20s) break;  // it would hang
      ++heard;
    }
    over = true;
    co_return heard;
  };
  CHECK(run(body()) == kRounds);
}

TEST_CASE("signal events: listeners come and go while signals rain",
          "[signals][threads]") {
  std::atomic<bool> over = false;
  const Signals keeps({SIGHUP});  // or the default action would end us
  Thread rain([&] {
    while (!over) ::kill(::getpid(), SIGHUP);
  });
  run_loops(3, [&](int) {
    const auto body = []() -> Task<> {
      for (int i = 0; i < 200; ++i) {
        Signals news({SIGHUP});
        const int which = co_await news.next();
        if (which != SIGHUP) throw std::logic_error("it is another one");
      }
    };
    return body();
  });
  over = true;
}

TEST_CASE("signal events: the handler leaves errno alone", "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    const Job<Signal> waits = spawn(next_of, std::ref(news));
    co_await yield_now();
    // Its wake-up meets a full counter often enough to fail.
    errno = 77;
    for (int i = 0; i < 100; ++i) send(SIGHUP);
    const int after = errno;
    CHECK(after == 77);
    co_await wait(waits);
  };
  run(body());
}

// ------------------------------------------------------------ kill and limits

TEST_CASE("signal events: a limit that passes loses no signal", "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    const auto none = co_await within(1ms, news.next());
    CHECK_FALSE(none);
    send(SIGHUP);
    const auto one = co_await within(1min, news.next());
    REQUIRE(one);
    CHECK(*one == SIGHUP);
  };
  run(body());
}

TEST_CASE("signal events: who is killed before its step leaves the signal",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    const Job<Signal> first = spawn(next_of, std::ref(news));
    const Job<Signal> second = spawn(next_of, std::ref(news));
    for (int i = 0; i < 5; ++i) co_await yield_now();
    send(SIGHUP);
    int turns = 0;
    while (!contains(Loop::current().dump(), "ready for signal SIGHUP") &&
           ++turns < 1000) {
      co_await yield_now();
    }
    CHECK(turns < 1000);
    first.kill();  // which is woken by now and has not had its step
    const int which = co_await join(second);
    CHECK(which == SIGHUP);
  };
  LoopOptions options;
  options.budget = 0;
  Loop loop(options);
  loop.run(body());
}

TEST_CASE("signal events: a kill anywhere loses no signal", "[signals][kill]") {
  struct Books {
    std::uint32_t sent = 0;
    std::uint32_t told = 0;
  };
  testing::Options options;
  options.seeds = kSanitized ? 100 : 500;
  options.victims = testing::Victims::kOthers;
  const auto body = [](Books& books) -> Task<> {
    Signals news({SIGHUP, SIGUSR2});
    const auto listens = [](Signals& all, Books& sums) -> Task<> {
      for (;;) {
        const Signal signal = co_await all.next();
        sums.told += signal.times();
        co_await violet::sleep(1ms);
      }
    };
    {
      TaskGroup group;
      group.spawn(listens, std::ref(news), std::ref(books));
      group.spawn(listens, std::ref(news), std::ref(books));
      for (int i = 0; i < 3; ++i) {
        co_await violet::sleep(1ms);
        send(SIGHUP);
        send(SIGUSR2);
        books.sent += 2;
      }
    }
    while (books.told < books.sent) {
      const Signal signal = co_await news.next();
      books.told += signal.times();
    }
  };
  const auto check = [](const Books& books) {
    if (books.told != books.sent) throw std::runtime_error("one is lost");
  };
  const auto counts = testing::kill_everywhere<Books>(body, check, options);
  CHECK(counts.kills > 10);
}

TEST_CASE("signal events: a job waits for a signal or something else",
          "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    Signals others({SIGUSR2});
    send(SIGUSR2);
    const auto first = co_await any(news.next(), others.next());
    CHECK(first.index() == 1);
    send(SIGHUP);
    const int which = co_await news.next();
    CHECK(which == SIGHUP);
  };
  run(body());
}

// ------------------------------------------------------------------- handlers

TEST_CASE("signal events: what handled a signal before handles it again",
          "[signals]") {
  static int called = 0;
  struct sigaction mine{};
  mine.sa_sigaction = [](int, siginfo_t*, void*) { ++called; };
  mine.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaddset(&mine.sa_mask, SIGUSR2);
  struct sigaction before{};
  ::sigaction(SIGHUP, &mine, &before);
  {
    auto first = std::make_unique<Signals>(std::initializer_list<int>{SIGHUP});
    Signals second({SIGHUP, SIGUSR2, SIGHUP});
    send(SIGHUP);
    first.reset();
    send(SIGHUP);
    CHECK(called == 0);
    CHECK(run(next_of(second)).times() == 2);
  }
  send(SIGHUP);
  CHECK(called == 1);
  const struct sigaction after = action_of(SIGHUP);
  CHECK(after.sa_sigaction == mine.sa_sigaction);
  CHECK((after.sa_flags & SA_SIGINFO) != 0);
  CHECK((after.sa_flags & SA_NODEFER) != 0);
  CHECK(::sigismember(&after.sa_mask, SIGUSR2) == 1);
  CHECK(::sigismember(&after.sa_mask, SIGTERM) == 0);
  ::sigaction(SIGHUP, &before, nullptr);
}

TEST_CASE("signal events: an ignored signal is ignored again", "[signals]") {
  struct sigaction ignored{};
  ignored.sa_handler = SIG_IGN;
  struct sigaction before{};
  ::sigaction(SIGUSR2, &ignored, &before);
  {
    Signals news({SIGUSR2});
    send(SIGUSR2);
    CHECK(run(next_of(news)) == SIGUSR2);
  }
  CHECK(action_of(SIGUSR2).sa_handler == SIG_IGN);
  ::sigaction(SIGUSR2, &before, nullptr);
}

TEST_CASE("signal events: what nobody can listen to is refused with a sentence",
          "[signals]") {
  CHECK(why({SIGKILL}) ==
        "violet: Signals cannot have SIGKILL: nobody can "
        "catch it");
  CHECK(contains(why({SIGSTOP}), "SIGSTOP: nobody can catch it"));
  for (const int fault :
       {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
    CHECK(contains(why({fault}), "an error in the program itself"));
  }
  CHECK(contains(why({SIGPIPE}), "broken_pipe"));
  CHECK(contains(why({SIGXFSZ}), "file_too_large"));
  CHECK(contains(why({}), "no signal"));
  for (const int none : {0, -1, 4000}) {
    CHECK(contains(why({none}), "there is no such signal"));
  }
}

TEST_CASE("signal events: a refused one leaves no handler behind",
          "[signals]") {
  const struct sigaction before = action_of(SIGHUP);
  CHECK(contains(why({SIGHUP, 4000}), "signal 4000"));
  CHECK(action_of(SIGHUP).sa_handler == before.sa_handler);
  CHECK(contains(why({SIGHUP, SIGKILL}), "SIGKILL"));
  CHECK(action_of(SIGHUP).sa_handler == before.sa_handler);
}

TEST_CASE("signal events: whoever waits when it is destroyed is told so",
          "[signals]") {
  const auto body = []() -> Task<> {
    auto news =
        std::make_unique<Signals>(std::initializer_list<int>{SIGHUP, SIGUSR2});
    const Job<Signal> waits = spawn(next_of, std::ref(*news));
    co_await yield_now();
    news.reset();
    std::string text;
    try {
      co_await join(waits);
    } catch (const Misuse& misuse) {
      text = misuse.what();
    }
    CHECK(contains(text, "the Signals is gone"));
  };
  run(body());
}

// ------------------------------------------------------------ around the loop

TEST_CASE("signal events: a dump says what is waited for", "[signals]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP, SIGUSR2});
    const Job<Signal> waits = spawn(next_of, std::ref(news));
    co_await yield_now();
    CHECK(contains(Loop::current().dump(), "for signal SIGHUP or SIGUSR2"));
    waits.kill();
  };
  run(body());
}

TEST_CASE("signal events: who waits for a signal is no deadlock, others are",
          "[signals][threads]") {
  Signals news({SIGHUP});
  std::atomic<bool> waits = false;
  Thread sender([&] {
    while (!waits) std::this_thread::yield();
    ::kill(::getpid(), SIGHUP);
  });
  const auto body = [&]() -> Task<> {
    waits = true;
    const int which = co_await news.next();
    CHECK(which == SIGHUP);
  };
  CHECK_NOTHROW(run(body()));
  sender.join();
  Gate gate;
  const auto stuck = [&]() -> Task<> { co_await gate.pass(); };
  CHECK_THROWS_AS(run(stuck()), Deadlock);
}

TEST_CASE("signal events: virtual time goes on while a job waits for one",
          "[signals][sim]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    const auto listen = [](Signals& all) -> Task<> {
      for (;;) {
        const int which = co_await all.next();
        CHECK(which == SIGHUP);
      }
    };
    TaskGroup group;
    group.spawn(listen, std::ref(news));
    co_await violet::sleep(24h);
    send(SIGHUP);
    const auto got = co_await within(24h, news.next());
    CHECK_FALSE(got);  // it was the other's
  };
  testing::play(body);
}

TEST_CASE("signal events: a test that waits for a signal in vain is told so",
          "[signals][sim]") {
  const auto body = []() -> Task<> {
    Signals news({SIGHUP});
    co_await news.next();
  };
  testing::Options options;
  options.patience = 10ms;
  std::string text;
  try {
    testing::play(body, options);
  } catch (const testing::Hang& hang) {
    text = hang.what();
  }
  CHECK(contains(text, "a signal is awaited"));
  CHECK(contains(text, "signal SIGHUP"));
}

TEST_CASE("signal events: a program takes SIGINT over, and gives it back",
          "[signals]") {
  Program program{std::function<int()>([] {
    const auto root = []() -> Task<> {
      {
        Signals mine({SIGINT});
        print_line("ready");
        for (int i = 0; i < 3; ++i) {
          co_await mine.next();
          print_line("heard");
        }
      }
      print_line("ready");
      co_await stopping();
      print_line("stopping");
    };
    return run_program(root());
  })};
  REQUIRE(program.line() == "ready");
  for (int i = 0; i < 3; ++i) {
    program.deliver(SIGINT);
    REQUIRE(program.line() == "heard");
  }
  REQUIRE(program.line() == "ready");
  program.signal(SIGINT);
  CHECK(program.line() == "stopping");
  CHECK(program.wait().code == 0);
  CHECK(program.err() == "");
}

TEST_CASE("signal events: what was not taken over stops a program as always",
          "[signals]") {
  Program program{std::function<int()>([] {
    const auto root = []() -> Task<> {
      Signals mine({SIGINT, SIGUSR1});
      print_line("ready");
      for (;;) {
        co_await mine.next();
        print_line("heard");
      }
    };
    return run_program(root());
  })};
  REQUIRE(program.line() == "ready");
  program.deliver(SIGUSR1);
  REQUIRE(program.line() == "heard");
  program.signal(SIGTERM);
  CHECK(program.wait().code == 143);
  CHECK(program.err() == "");  // and no dump
}

TEST_CASE("signal events: signals have names", "[signals]") {
  CHECK(signal_name(SIGTERM) == "SIGTERM");
  CHECK(signal_name(SIGWINCH) == "SIGWINCH");
  CHECK(signal_name(4000) == "signal 4000");
}

TEST_CASE("signal events: Signals that go tell who has let others go first",
          "[signals]") {
  const auto body = []() -> Task<> {
    auto news = std::make_unique<Signals>(std::initializer_list<int>{SIGHUP});
    std::string told;
    const auto waits = [&]() -> Task<> {
      try {
        (void)co_await news->next();
      } catch (const Misuse& e) {
        told = e.what();
      }
    };
    const auto destroys = [&]() -> Task<> {
      news.reset();
      co_return;
    };
    const Job<> one = spawn(waits);
    const Job<> other = spawn(destroys);
    co_await join(one);
    co_await join(other);
    CHECK(contains(told, "the Signals is gone"));
  };
  constexpr std::uint8_t kBudgets[] = {0, 32};
  for (const std::uint8_t budget : kBudgets) {
    LoopOptions options;
    options.budget = budget;
    Loop loop(options);
    loop.run(body());
  }
}
