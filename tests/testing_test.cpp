// testing_test.cpp - the test kit: it finds what is wrong, and says it well.
// SPDX-License-Identifier: MIT
#include "../runtime/testing.hpp"

#include <algorithm>
#include <deque>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/group.hpp"
#include "../runtime/oneshot.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/within.hpp"
#include "catch.hpp"
#include "program.hpp"
#include "script.hpp"
#include "support.hpp"

namespace {

using namespace violet;
using namespace std::chrono_literals;
using script::forever;
using script::long_sleep;
using script::Nursery;
using script::thrown;
using support::contains;
using support::make_pipe;
using support::MaybeShortIo;
using support::Pair;
using testing::explore;
using testing::for_seeds;
using testing::Hang;
using testing::kill_everywhere;
using testing::KillCounts;
using testing::Leak;
using testing::network;
using testing::Options;
using testing::play;
using testing::Seed;
using testing::Victims;
using testing::wait_all_blocked;
using testing::World;

/// Where jobs wait to be told. With `remembers`, who comes too late does not
/// wait; without, the word is lost on him.
class Signal {
 public:
  class Event final : public violet::Event {
   public:
    explicit Event(Signal& signal) noexcept : signal_(signal) {}
    Event(Event&& other) noexcept
        : violet::Event(std::move(other)), signal_(other.signal_) {}
    bool attempt() noexcept override {
      if (asked_) return !place_.in_list();
      asked_ = true;
      if (signal_.remembers_ && signal_.given_) return true;
      place_.job = job();
      signal_.waiting_.push_back(place_);
      return false;
    }
    void undo() noexcept override { leave(signal_.waiting_, place_); }
    void describe(Description& out) const override { out.text = "signal"; }
    void result() const noexcept {}

   private:
    Signal& signal_;
    bool asked_ = false;
    Waiter place_;
  };

  explicit Signal(bool remembers) noexcept : remembers_(remembers) {}
  Signal(const Signal&) = delete;

  Event wait() noexcept { return Event(*this); }
  void give() noexcept {
    given_ = true;
    wake_all(waiting_);
  }

 private:
  bool remembers_;
  bool given_ = false;
  WaitQueue waiting_;
};

/// A shop: whoever takes something waits until it is granted. A careless one
/// forgets what was granted to a customer who is killed.
class Shop {
 public:
  class Event;

  explicit Shop(bool careful) noexcept : careful_(careful) {}
  Shop(const Shop&) = delete;

  void put(int item) {
    items_.push_back(item);
    grant();
  }
  Event take() noexcept;
  std::size_t stock() const noexcept { return items_.size(); }

 private:
  void grant() noexcept;

  bool careful_;
  std::deque<int> items_;
  List<Event, Event> customers_;
};

class Shop::Event final : public violet::Event, public Link<Event> {
 public:
  explicit Event(Shop& shop) noexcept : shop_(shop) {}
  Event(Event&& other) noexcept
      : violet::Event(std::move(other)), shop_(other.shop_) {}
  bool attempt() noexcept override {
    if (granted) return true;
    if (!in_list()) shop_.customers_.push_back(*this);
    shop_.grant();
    return granted.has_value();
  }
  void undo() noexcept override {
    if (in_list()) shop_.customers_.remove(*this);
    if (!granted || !shop_.careful_) return;
    shop_.items_.push_front(*granted);
    shop_.grant();
  }
  void describe(Description& out) const override { out.text = "shop"; }
  int result() const noexcept { return *granted; }

  std::optional<int> granted;

 private:
  Shop& shop_;
};

Shop::Event Shop::take() noexcept {
  return Event(*this);
}

void Shop::grant() noexcept {
  while (!items_.empty() && !customers_.empty()) {
    Event& first = customers_.pop_front();
    first.granted = items_.front();
    items_.pop_front();
    wake(*first.job());
  }
}

/// Waits `times` times and has a name in the trace.
Task<> walker(int times) {
  for (int i = 0; i < times; ++i) co_await yield_now();
}

/// Two walkers with as many steps each.
auto two_walkers(int steps) {
  return [steps]() -> Task<> {
    spawn(walker, steps - 1);
    spawn(walker, steps - 1);
    co_return;
  };
}

/// Notes the order of its steps.
Task<> noting(std::string& notes, char name, int times) {
  for (int i = 0; i < times; ++i) {
    notes += name;
    co_await yield_now();
  }
}

/// A waiter and one who gives the signal a step later than the waiter comes,
/// if they go in turn.
Task<> waiter(Signal& signal) {
  co_await yield_now();
  co_await signal.wait();
}
Task<> giver(Signal& signal) {
  co_await yield_now();
  signal.give();
}
auto handshake(bool remembers) {
  return [remembers]() -> Task<> {
    Signal signal(remembers);
    Job<> first = spawn(waiter, std::ref(signal));
    Job<> second = spawn(giver, std::ref(signal));
    co_await join(second);
    co_await join(first);
  };
}

/// A sale at which customers come and go, and no item may be lost.
template <bool careful>
struct Sale {
  Shop shop{careful};
  int put = 0;
  int taken = 0;
};
template <bool careful>
Task<> customer(Sale<careful>& sale) {
  for (int i = 0; i < 2; ++i) {
    const int item = co_await sale.shop.take();
    sale.taken += item;
  }
}
template <bool careful>
Task<> merchant(Sale<careful>& sale) {
  for (int i = 0; i < 4; ++i) {
    sale.shop.put(1);
    ++sale.put;
    co_await yield_now();
  }
}
template <bool careful>
Task<> sale_day(Sale<careful>& sale) {
  Nursery nursery;
  nursery.spawn(customer<careful>, std::ref(sale));
  nursery.spawn(customer<careful>, std::ref(sale));
  nursery.spawn(merchant<careful>, std::ref(sale));
  co_await wait_all_blocked();
}
template <bool careful>
void take_stock(const Sale<careful>& sale) {
  const int there = sale.taken + static_cast<int>(sale.shop.stock());
  if (there != sale.put) throw std::runtime_error("an item is lost");
}

/// What `action()` throws as testing::Failure.
template <class Action>
testing::Failure failure_of(Action action) {
  try {
    action();
  } catch (const testing::Failure& failure) {
    return failure;
  }
  return testing::Failure("nothing", nullptr, {});
}

}  // namespace

// --------------------------------------------------------------------- play

TEST_CASE("play: returns what the body returns", "[testing]") {
  const auto number = []() -> Task<int> {
    co_await violet::sleep(1s);
    co_return 7;
  };
  CHECK(play(number) == 7);
  CHECK(play(number()) == 7);
  CHECK(play(number, Seed(3)) == 7);
  int there = 1;
  int& same = play([&]() -> Task<int&> { co_return there; });
  CHECK(&same == &there);
  const auto owner = play([]() -> Task<std::unique_ptr<int>> {
    co_return std::make_unique<int>(5);
  });
  CHECK(*owner == 5);
}

TEST_CASE("play: throws what the body throws", "[testing]") {
  const auto failing = []() -> Task<> {
    co_await violet::sleep(1s);
    throw std::out_of_range("so far");
  };
  CHECK(thrown<std::out_of_range>([&] { play(failing); }) == "so far");
  CHECK(thrown<std::out_of_range>([&] { play(failing, Seed(1)); }) == "so far");
  const auto in_job = [&]() -> Task<> {
    spawn(failing);
    co_await violet::sleep(1h);
  };
  CHECK(thrown<std::out_of_range>([&] { play(in_job); }) == "so far");
}

TEST_CASE("play: an hour of retries takes a few turns", "[testing]") {
  int tries = 0;
  const auto body = [&]() -> Task<> {
    for (Duration pause = 1s; pause < 1h; pause *= 2) {
      ++tries;
      const bool done = co_await within(pause, stopping());
      CHECK_FALSE(done);
    }
  };
  World world(Seed(0));
  world.play(body);
  CHECK(tries == 12);
  CHECK(world.elapsed() == 4095s);
  CHECK(world.trace().steps.size() == 13);
}

TEST_CASE("play: a world tells how much time has passed, and may pass it",
          "[testing]") {
  World world;
  world.play([&]() -> Task<> {
    co_await violet::sleep(2s);
    world.advance(1s);
  });
  CHECK(world.elapsed() == 3s);
  CHECK(world.trace().steps.empty());
  world.play([]() -> Task<> { co_return; });
  CHECK(world.elapsed() == 0s);
  world.advance(1s);  // nothing is played
  CHECK(world.elapsed() == 0s);
}

TEST_CASE("play: a wait for a descriptor without news fails at once",
          "[testing]") {
  const auto hangs = []() -> Task<> {
    const Pair pipe = make_pipe();
    const Job<> job = spawn(forever);
    co_await readable(pipe[0].get());
  };
  for (const bool seeded : {false, true}) {
    Options options;
    options.patience = 1ms;
    const std::string text = thrown<testing::Hang>(
        [&] { seeded ? play(hangs, Seed(1), options) : play(hangs, options); });
    CHECK(contains(text, "no news comes"));
    CHECK(contains(text, "waiting for readable fd"));
    CHECK(contains(text, "waiting for stopping"));
    CHECK(contains(text, "testing_test.cpp:"));
  }
}

TEST_CASE("play: descriptors with news are no hang", "[testing]") {
  const MaybeShortIo io;
  const auto body = []() -> Task<std::string> {
    const Pair there = make_pipe();
    const Pair back = make_pipe();
    const auto echo = [&]() -> Task<> {
      char byte = 0;
      for (int i = 0; i < 20; ++i) {
        const std::size_t got =
            co_await read(there[0].get(), std::span<char>(&byte, 1));
        const std::size_t out =
            co_await write(back[1].get(), std::string_view(&byte, got));
        CHECK(out == 1);
      }
    };
    const Job<> job = spawn(echo);
    std::string text;
    for (char c = 'a'; c < 'a' + 20; ++c) {
      const std::size_t out =
          co_await write(there[1].get(), std::string_view(&c, 1));
      CHECK(out == 1);
      char byte = 0;
      const std::size_t got =
          co_await read(back[0].get(), std::span<char>(&byte, 1));
      text.append(&byte, got);
    }
    co_await join(job);
    co_return text;
  };
  CHECK(play(body) == "abcdefghijklmnopqrst");
  CHECK(play(body, Seed(0)) == "abcdefghijklmnopqrst");
  CHECK(play(body, Seed(5)) == "abcdefghijklmnopqrst");
}

TEST_CASE("play: jobs that wait for each other fail at once, with the cycle",
          "[testing]") {
  const auto body = []() -> Task<> {
    Job<> other;
    const auto waits = [&]() -> Task<> { co_await wait(other); };
    Job<> first = spawn(waits);
    const auto back = [&]() -> Task<> { co_await wait(first); };
    other = spawn(back);
    co_await wait(first);
  };
  for (const std::uint64_t seed : {0u, 1u}) {
    const std::string text = thrown<Deadlock>([&] { play(body, Seed(seed)); });
    CHECK(contains(text, "cycle: #2 waits for #3 waits for #2"));
  }
  CHECK(contains(thrown<Deadlock>([&] { play(body); }), "cycle: "));
}

TEST_CASE("play: a wait for what nobody tells fails at once", "[testing]") {
  const auto body = []() -> Task<> {
    Signal signal(false);
    co_await signal.wait();
  };
  const std::string text = thrown<Deadlock>([&] { play(body); });
  CHECK(contains(text, "waiting for signal"));
  CHECK(contains(text, "testing_test.cpp:"));
}

TEST_CASE("play: a program that only lets time pass is found out",
          "[testing]") {
  const auto body = []() -> Task<> {
    spawn([]() -> Task<> {
      for (;;) co_await violet::sleep(1s);
    });
    co_await forever();
  };
  Options options;
  options.steps = 1000;
  const std::string text = thrown<testing::Hang>([&] { play(body, options); });
  CHECK(contains(text, "time jumps on and on"));
  CHECK(contains(text, "waiting for stopping"));
}

TEST_CASE("play: with a seed, a job that goes round for ever is found out",
          "[testing]") {
  Options options;
  options.steps = 1000;
  World world(Seed(1), options);
  const std::string text = thrown<testing::Hang>([&] {
    world.play([]() -> Task<> {
      for (;;) co_await yield_now();
    });
  });
  CHECK(contains(text, "no end after 1000 steps"));
  CHECK(world.trace().steps.size() == 1000);
}

TEST_CASE("play: what a run leaves behind is told", "[testing]") {
  std::coroutine_handle<> frame;
  const auto leaves_frame = [&]() -> Task<> {
    frame = walker(1).release();
    co_return;
  };
  CHECK(thrown<testing::Leak>([&] { play(leaves_frame); }) ==
        "left behind: frames and jobs: 1");
  frame.destroy();
  CHECK(thrown<testing::Leak>([&] { play(leaves_frame()); }) ==
        "left behind: frames and jobs: 1");
  frame.destroy();

  std::optional<Descriptor> kept;
  const auto leaves_slot = [&]() -> Task<> {
    kept.emplace(adopt(std::move(make_pipe()[0])));
    co_return;
  };
  CHECK(thrown<testing::Leak>([&] { play(leaves_slot); }) ==
        "left behind: descriptors: 1");
  kept.reset();

  Timer timer;
  Stack nobody;
  const auto leaves_timer = [&]() -> Task<> {
    Loop& loop = Loop::current();
    loop.timers().start(timer, loop.now() + 1h, nobody);
    const Job<> job = spawn(walker, 0);
    co_await kill(job);
    job.kill();
    loop.cancel("enough");
    co_await forever();
  };
  CHECK(thrown<testing::Leak>([&] { play(leaves_timer); }) ==
        "left behind: timers: 1");
}

TEST_CASE("play: an error is thrown rather than what it leaves behind",
          "[testing]") {
  std::coroutine_handle<> frame;
  const auto body = [&]() -> Task<> {
    frame = walker(1).release();
    throw std::out_of_range("so far");
    co_return;
  };
  CHECK(thrown<std::out_of_range>([&] { play(body); }) == "so far");
  frame.destroy();
}

// --------------------------------------------------------- wait_all_blocked

TEST_CASE("wait_all_blocked: completes when all others wait", "[testing]") {
  for (const std::uint8_t budget : {std::uint8_t{0}, std::uint8_t{32}}) {
    Options options;
    options.budget = budget;
    World world(options);
    world.play([]() -> Task<> {
      std::string notes;
      const Job<> busy = spawn(noting, std::ref(notes), 'b', 300);
      const Job<> blocked = spawn(forever);
      co_await wait_all_blocked();
      CHECK(notes.size() == 300);
      CHECK(busy.ended());
      CHECK_FALSE(blocked.ended());
      blocked.kill();
    });
    CHECK(world.elapsed() == 0s);
  }
}

TEST_CASE("wait_all_blocked: time does not jump, and due timers come first",
          "[testing]") {
  World world;
  world.play([&]() -> Task<> {
    const Job<> sleeper = spawn(long_sleep);
    bool late = false;
    const auto naps = [&]() -> Task<> {
      co_await violet::sleep(1s);
      late = true;
    };
    const Job<> napper = spawn(naps);
    co_await wait_all_blocked();
    CHECK(world.elapsed() == 0s);
    world.advance(2s);
    CHECK_FALSE(late);
    co_await wait_all_blocked();
    CHECK(late);
    sleeper.kill();
  });
  CHECK(world.elapsed() == 2s);
}

TEST_CASE("wait_all_blocked: what descriptors have to say comes first",
          "[testing]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    std::string got;
    const auto reader = [&]() -> Task<> {
      char buffer[8];
      while (got.size() < 2) {
        const std::size_t count = co_await read(pipe[0].get(), buffer);
        got.append(buffer, count);
      }
    };
    const Job<> job = spawn(reader);
    co_await wait_all_blocked();
    CHECK(got == "");
    support::put(pipe[1].get(), "ab");
    co_await wait_all_blocked();
    CHECK(got == "ab");
    CHECK(job.ended());
  });
}

TEST_CASE("wait_all_blocked: several who wait so take turns", "[testing]") {
  std::string notes;
  play([&]() -> Task<> {
    const auto looks = [&](char name) -> Task<> {
      for (int i = 0; i < 2; ++i) {
        co_await wait_all_blocked();
        notes += name;
        co_await yield_now();
        notes += name;
      }
    };
    spawn(looks, 'a');
    co_await looks('r');
  });
  CHECK(notes == "rraarraa");
}

TEST_CASE("wait_all_blocked: can be killed and limited, and is no deadlock",
          "[testing]") {
  World world;
  world.play([]() -> Task<> {
    co_await wait_all_blocked();  // all alone
    const auto looks = []() -> Task<> { co_await wait_all_blocked(); };
    const Job<> job = spawn(looks);
    const Job<> unstarted = spawn(looks);
    unstarted.kill();
    co_await yield_now();
    CHECK(job.kill());
    const bool done = co_await within(1h, wait_all_blocked());
    CHECK(done);
    const Job<> spinner = spawn(walker, 100);
    const bool late = co_await within(0s, wait_all_blocked());
    CHECK_FALSE(late);
  });
  CHECK(world.elapsed() == 0s);
  const auto dumped = [&]() -> Task<> {
    const Job<> job = spawn([]() -> Task<> { co_await wait_all_blocked(); });
    co_await yield_now();
    CHECK(contains(Loop::current().dump(), "for all others to be blocked"));
  };
  play(dumped);
}

TEST_CASE("wait_all_blocked: a post may kill who waits so", "[testing]") {
  const auto body = []() -> Task<> {
    const Job<> job = spawn([]() -> Task<> { co_await wait_all_blocked(); });
    const Remote remote = Loop::current().remote();
    const auto posts = [&]() -> Task<> {
      CHECK(remote.post([job] { CHECK(job.kill()); }));
      co_return;
    };
    spawn(posts);
    co_await violet::sleep(1ms);  // nobody is woken by the kill
    CHECK(job.killed());
  };
  play(body);
  play(body, Seed(0));
}

TEST_CASE("wait_all_blocked: works with the real poller and in a foreign loop",
          "[testing]") {
  Loop loop;
  std::string notes;
  const auto body = [&]() -> Task<> {
    const Job<> sleeper = spawn(long_sleep);
    const Job<> job = spawn(noting, std::ref(notes), 'n', 200);
    co_await wait_all_blocked();
    notes += '!';
    sleeper.kill();
  };
  loop.run(body());
  CHECK(notes.find('!') == 200);
  loop.spawn(body);
  int turns = 0;
  while (loop.run_once(1h) && ++turns < 1000) {
  }
  CHECK(turns < 1000);
  CHECK(notes.back() == '!');
  const Job<> looks =
      loop.spawn([]() -> Task<> { co_await wait_all_blocked(); });
  CHECK(loop.run_once());
  CHECK(loop.next_deadline() == TimePoint::min());
  CHECK_FALSE(loop.run_once(1h));
}

// ---------------------------------------------------------------- directors

namespace {

/// Chooses as it is told, and notes what it hears.
class Script final : public Director {
 public:
  explicit Script(std::vector<std::size_t> choices)
      : choices_(std::move(choices)) {}

  std::size_t choose(std::span<JobBlock* const> ready) noexcept override {
    offered += concat({ready.size(), " "});
    if (kill_chosen) ready[0]->group()->loop().kill(*ready[0], "chosen", {});
    return next_ < choices_.size() ? choices_[next_++] : 0;
  }
  void stepped(JobBlock& job) noexcept override {
    steps += concat({"#", job.id(),
                     job.step == Step::kWaiting    ? "w "
                     : job.step == Step::kReturned ? "e "
                                                   : "r "});
    if (job.id() == kill_stepped) killed_at_once = kill_job(job, "here", {});
  }

  bool kill_chosen = false;
  std::uint32_t kill_stepped = 0;
  bool killed_at_once = true;
  std::string offered;
  std::string steps;

 private:
  std::vector<std::size_t> choices_;
  std::size_t next_ = 0;
};

template <class Body>
void direct(Director& director, Body body) {
  SimPoller time;
  LoopOptions options;
  options.poller = &time;
  options.director = &director;
  Loop loop(options);
  loop.run(body());
}

}  // namespace

TEST_CASE("director: who is chosen has the next step", "[testing]") {
  std::string notes;
  const auto body = [&]() -> Task<> {
    spawn(noting, std::ref(notes), 'a', 2);
    spawn(noting, std::ref(notes), 'b', 2);
    spawn(noting, std::ref(notes), 'c', 2);
    co_return;
  };
  Script fifo({});
  direct(fifo, body);
  CHECK(notes == "abcabc");
  CHECK(fifo.offered == "1 3 3 3 3 3 3 3 2 1 ");
  CHECK(fifo.steps == "#1e #2r #3r #4r #2r #3r #4r #2e #3e #4e ");
  notes.clear();
  Script other({0, 2, 2, 2, 1, 0});
  direct(other, body);
  CHECK(notes == "ccbaba");
}

TEST_CASE("director: killed jobs in the queue are no choice", "[testing]") {
  std::string notes;
  const auto body = [&]() -> Task<> {
    const Job<> a = spawn(noting, std::ref(notes), 'a', 1);
    const Job<> b = spawn(noting, std::ref(notes), 'b', 1);
    const Job<> c = spawn(noting, std::ref(notes), 'c', 1);
    a.kill();
    c.kill();
    co_return;
  };
  Script script({});
  direct(script, body);
  CHECK(notes == "b");
  CHECK(script.offered == "1 1 1 ");
}

TEST_CASE("director: it may kill whom it has chosen", "[testing]") {
  std::string notes;
  Script script({});
  const auto body = [&]() -> Task<> {
    const Job<> a = spawn(noting, std::ref(notes), 'a', 1);
    script.kill_chosen = true;
    co_return;
  };
  direct(script, body);
  CHECK(notes == "");
  CHECK(script.steps == "#1e ");
}

TEST_CASE("director: a kill of the job that stepped acts when all is noted",
          "[testing]") {
  std::string notes;
  Script script({});
  script.kill_stepped = 2;
  const auto body = [&]() -> Task<> {
    const Job<> a = spawn(noting, std::ref(notes), 'a', 5);
    co_await wait(a);
    CHECK(a.killed());
    CHECK(contains(a.ending()->text(), "here"));
  };
  direct(script, body);
  CHECK(notes == "a");
  CHECK_FALSE(script.killed_at_once);
}

TEST_CASE("director: a choice of nobody ends the process", "[testing]") {
  const auto end = support::in_child([] {
    Script script({1});
    direct(script, []() -> Task<> { co_return; });
  });
  CHECK(end.signal == SIGABRT);
  CHECK(contains(end.errors, "a Director chose a job that is not there"));
}

// -------------------------------------------------------------------- seeds

TEST_CASE("seeds: the same seed has the same trace, another one another",
          "[testing]") {
  const auto body = []() -> Task<> {
    for (int i = 0; i < 4; ++i) spawn(walker, 5);
    co_await violet::sleep(1s);
    for (int i = 0; i < 4; ++i) spawn(walker, 5);
  };
  const auto trace_of = [&](std::uint64_t seed) {
    World world((Seed(seed)));
    world.play(body);
    return world.trace();
  };
  std::set<std::string> texts;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const testing::Trace trace = trace_of(seed);
    CHECK(trace.steps.size() == 50);
    CHECK(trace == trace_of(seed));
    CHECK(trace.text() == trace_of(seed).text());
    texts.insert(trace.text());
  }
  CHECK(texts.size() == 20);
  CHECK_FALSE(trace_of(1) == trace_of(2));
}

TEST_CASE("seeds: a trace says who stopped where", "[testing]") {
  World world(Seed(0));
  world.play([]() -> Task<> {
    const Job<> job = spawn(walker, 1);
    spawn([]() -> Task<> { co_return; });
    co_await join(job);
  });
  const std::string text = world.trace().text();
  CAPTURE(text);
  CHECK(contains(text, "   1. #1 "));
  CHECK(contains(text, " waits at testing_test.cpp:"));
  CHECK(contains(text, "   2. #2 "));
  CHECK(contains(text, "walker goes behind the others at testing_test.cpp:"));
  CHECK(contains(text, "   3. #3 ends, spawned at testing_test.cpp:"));
  CHECK(contains(text, "walker ends after testing_test.cpp:"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 5);
}

TEST_CASE("seeds: all of them are run, each in a fresh world", "[testing]") {
  int runs = 0;
  int copies = 0;
  const auto body = [&runs, &copies, mine = 0]() mutable -> Task<> {
    ++runs;
    copies += ++mine;
    CHECK(Loop::current().current_job()->id() == 1);
    co_return;
  };
  for_seeds(100, body);
  CHECK(runs == 100);
  CHECK(copies == 100);
}

TEST_CASE("seeds: one that fails is named, and fails again in the same way",
          "[testing]") {
  const auto body = handshake(false);
  play(body);
  const testing::Failure failure = failure_of([&] { for_seeds(1000, body); });
  const std::string text = failure.what();
  CAPTURE(text);
  REQUIRE(contains(text, "seed "));
  CHECK(contains(text, "deadlock"));
  CHECK(contains(text, "waiting for signal"));
  const auto seed = std::stoull(text.substr(text.find("Seed(") + 5));
  CHECK(contains(text, concat({"seed ", seed, ": "})));
  CHECK_THROWS_AS(std::rethrow_exception(failure.cause()), Deadlock);
  World world((Seed(seed)));
  const std::string again = thrown<Deadlock>([&] { world.play(body); });
  CHECK(contains(text, again));
  CHECK(world.trace() == failure.trace());
  Options options;
  options.first_seed = seed;
  CHECK(failure_of([&] { for_seeds(1, body, options); }).what() == text);
  for_seeds(100, handshake(true));
}

// ------------------------------------------------------------------ explore

TEST_CASE("explore: tries every order once", "[testing]") {
  std::deque<std::string> all;
  const auto notes_each_step = [&](char name) -> Task<> {
    std::string& notes = all.back();
    for (int i = 0; i < 2; ++i) {
      notes += name;
      co_await yield_now();
    }
    notes += name;
  };
  const auto body = [&]() -> Task<> {
    all.emplace_back();
    spawn(notes_each_step, 'a');
    spawn(notes_each_step, 'b');
    co_return;
  };
  const testing::Explored done = explore(body);
  CHECK(done.complete);
  CHECK(done.runs == 20);
  CHECK(all.size() == 20);
  CHECK(std::set(all.begin(), all.end()).size() == 20);
  for (const std::string& notes : all) CHECK(notes.size() == 6);
  CHECK(explore(two_walkers(1)).runs == 2);
  CHECK(explore(two_walkers(4)).runs == 70);
  const auto alone = []() -> Task<> { co_await walker(50); };
  CHECK(explore(alone).runs == 1);
}

TEST_CASE("explore: killed jobs are no choice", "[testing]") {
  const auto body = []() -> Task<> {
    const Job<> a = spawn(walker, 3);
    const Job<> b = spawn(walker, 3);
    const Job<> c = spawn(walker, 3);
    a.kill();
    c.kill();
    co_return;
  };
  CHECK(explore(body).runs == 1);
}

TEST_CASE("explore: finds a lost wake-up, and the shortest way to it",
          "[testing]") {
  play(handshake(false));
  const testing::Failure failure =
      failure_of([] { explore(handshake(false)); });
  const std::string text = failure.what();
  CAPTURE(text);
  // The root, both until the giver is ahead, and the root's second join.
  CHECK(failure.trace().steps.size() == 6);
  CHECK(contains(text, "   1. #1 "));
  CHECK(contains(text, "giver ends after testing_test.cpp:"));
  CHECK(contains(text, "waiter waits at testing_test.cpp:"));
  CHECK(contains(text, "(ahead of 1)"));
  CHECK(contains(text, "deadlock"));
  CHECK_THROWS_AS(std::rethrow_exception(failure.cause()), Deadlock);
}

TEST_CASE("explore: of equally short orders it tells the most usual",
          "[testing]") {
  const auto body = []() -> Task<> {
    std::string notes;
    Job<> jobs[3];
    for (int i = 0; i < 3; ++i) {
      jobs[i] = spawn(noting, std::ref(notes), "abc"[i], 1);
    }
    co_await wait_all_blocked();
    if (notes[0] != 'a') throw std::runtime_error(notes);
  };
  const testing::Failure failure = failure_of([&] { explore(body); });
  CHECK(contains(failure.what(), "of 90 orders"));
  int deviations = 0;
  for (const testing::TraceStep& step : failure.trace().steps) {
    deviations += step.ahead_of != 0 ? 1 : 0;
  }
  CHECK(deviations == 1);
  CHECK(thrown<std::runtime_error>(
            [&] { std::rethrow_exception(failure.cause()); }) == "bac");
}

TEST_CASE("explore: a program that is right is explored to the end",
          "[testing]") {
  const testing::Explored done = explore(handshake(true));
  CHECK(done.complete);
  CHECK(done.runs > 10);
  Options options;
  options.budget = 0;
  const testing::Explored more = explore(handshake(true), options);
  CHECK(more.complete);
  CHECK(more.runs >= done.runs);
}

TEST_CASE("explore: says so when there are too many orders", "[testing]") {
  Options options;
  options.runs = 10;
  const testing::Failure failure =
      failure_of([&] { explore(two_walkers(3), options); });
  CHECK(contains(failure.what(), "more than 10 orders"));
  CHECK(failure.cause() == nullptr);
  options.partial = true;
  const testing::Explored part = explore(two_walkers(3), options);
  CHECK_FALSE(part.complete);
  CHECK(part.runs == 10);
  options.runs = 20;
  CHECK(explore(two_walkers(3), options).complete);
}

TEST_CASE("explore: finds hangs and leaks as well", "[testing]") {
  const auto hangs = []() -> Task<> {
    bool stop = false;
    const auto spinner = [&]() -> Task<> {
      while (!stop) co_await yield_now();
    };
    const auto stopper = [&]() -> Task<> {
      stop = false;
      co_return;
    };
    const Job<> first = spawn(spinner);
    const Job<> second = spawn(stopper);
    co_await join(first);
  };
  Options options;
  options.steps = 100;
  options.runs = 5;
  const testing::Failure hang = failure_of([&] { explore(hangs, options); });
  CHECK(contains(hang.what(), "no end after 100 steps"));
  CHECK(contains(hang.what(), "orders so far"));

  std::vector<std::coroutine_handle<>> frames;
  const auto leaks = [&]() -> Task<> {
    bool second = false;
    const auto b = [&]() -> Task<> {
      second = true;
      co_return;
    };
    const auto a = [&]() -> Task<> {
      if (second) frames.push_back(walker(0).release());
      co_return;
    };
    const Job<> first = spawn(a);
    const Job<> other = spawn(b);
    co_await wait(first);
    co_await wait(other);
  };
  const testing::Failure leak = failure_of([&] { explore(leaks); });
  CHECK(contains(leak.what(), "left behind: frames and jobs: 1"));
  for (const auto frame : frames) frame.destroy();
}

TEST_CASE("explore: a body that is not the same each time is refused",
          "[testing]") {
  int runs = 0;
  const auto body = [&]() -> Task<> {
    ++runs;
    for (int i = 0; i < 2 + runs; ++i) spawn(walker, 1);
    co_return;
  };
  CHECK(contains(thrown<Misuse>([&] { explore(body); }),
                 "the body is not the same each time"));
}

// ---------------------------------------------------------- kill_everywhere

TEST_CASE("kill_everywhere: a program that is right survives every kill",
          "[testing]") {
  const MaybeShortIo io;
  int alive = 0;
  const auto body = [&]() -> Task<> {
    struct Counted {
      explicit Counted(int& count) : count_(count) { ++count_; }
      ~Counted() { --count_; }
      int& count_;
    };
    const Counted counted(alive);
    const Pair pipe = make_pipe();
    const auto child = [&]() -> Task<> {
      const Counted mine(alive);
      const bool slept = co_await within(1s, violet::sleep(5s));
      CHECK_FALSE(slept);
      const std::size_t out = co_await write(pipe[1].get(), "x");
      CHECK(out == 1);
    };
    Nursery nursery;
    const Job<> job = nursery.spawn(child);
    char byte = 0;
    const auto count =
        co_await within(1h, read(pipe[0].get(), std::span<char>(&byte, 1)));
    if (count) {
      CHECK(*count == 1);
    }
    co_await wait(job);
    co_await wait_all_blocked();
  };
  const testing::KillCounts counts = kill_everywhere(body);
  CHECK(alive == 0);
  CHECK(counts.waits >= 8);
  CHECK(counts.kills > 2 * counts.waits);
  CHECK(counts.runs == counts.kills + 1);
}

TEST_CASE("kill_everywhere: finds an item that a kill loses", "[testing]") {
  const testing::KillCounts counts = kill_everywhere<Sale<true>>(
      sale_day<true>, take_stock<true>, {.seeds = 1000});
  CHECK(counts.waits > 10);
  CHECK(counts.runs > 1000 + 2 * counts.waits);
  CHECK(counts.kills > counts.runs / 2);
  CHECK(counts.kills <= counts.runs);

  const testing::Failure failure = failure_of(
      [] { kill_everywhere<Sale<false>>(sale_day<false>, take_stock<false>); });
  const std::string text = failure.what();
  CAPTURE(text);
  CHECK(contains(text, "killed after step "));
  CHECK(contains(text, "customer"));
  CHECK(contains(text, "testing_test.cpp:"));
  CHECK(contains(text, "an item is lost"));
  CHECK(thrown<std::runtime_error>([&] {
          std::rethrow_exception(failure.cause());
        }) == "an item is lost");
}

TEST_CASE("kill_everywhere: seeds find what one order does not show",
          "[testing]") {
  // Goes wrong only if the giver is killed when it is ahead of the other.
  struct State {
    int a = 0;
    int b = 0;
  };
  const auto body = [](State& state) -> Task<> {
    const auto first = [&]() -> Task<> {
      ++state.a;
      co_await yield_now();
    };
    const auto second = [&]() -> Task<> {
      if (state.a == 0) {
        state.b = 1;
        co_await yield_now();
        state.b = 0;
      }
    };
    Nursery nursery;
    nursery.spawn(first);
    nursery.spawn(second);
    co_await wait_all_blocked();
  };
  const auto check = [](State& state) {
    if (state.b != 0) throw std::runtime_error("left half done");
  };
  Options options;
  options.victims = testing::Victims::kOthers;
  const auto counts = kill_everywhere<State>(body, check, options);
  CHECK(counts.waits > 0);
  options.seeds = 1000;
  const testing::Failure failure =
      failure_of([&] { kill_everywhere<State>(body, check, options); });
  const std::string text = failure.what();
  CAPTURE(text);
  CHECK(contains(text, "seed "));
  CHECK(contains(text, "left half done"));
  const std::size_t place = text.find("first_seed = ");
  REQUIRE(place != std::string::npos);
  options.seeds = 1;
  options.first_seed = std::stoull(text.substr(place + 13));
  CHECK(failure_of([&] {
          kill_everywhere<State>(body, check, options);
        }).what() == text);
}

TEST_CASE("kill_everywhere: only the root, or anyone else", "[testing]") {
  const auto body = []() -> Task<> {
    Nursery nursery;
    const Job<> job = nursery.spawn(walker, 3);
    co_await wait(job);
  };
  Options options;
  const auto all = kill_everywhere(body, options);
  options.victims = testing::Victims::kRoot;
  const auto root = kill_everywhere(body, options);
  options.victims = testing::Victims::kOthers;
  const auto others = kill_everywhere(body, options);
  CHECK(root.waits == 2);
  CHECK(others.waits == 3);
  CHECK(all.waits == root.waits + others.waits);
  CHECK(all.kills == root.kills + others.kills);
  options.seeds = 50;
  options.victims = testing::Victims::kRoot;
  const auto counts = kill_everywhere(body, options);
  CHECK(counts.runs == root.runs + 50);
  CHECK(counts.kills > root.kills);
}

TEST_CASE("kill_everywhere: tells of hangs, leaks and other errors",
          "[testing]") {
  // The waiter is never told if the giver is killed.
  const auto hangs = []() -> Task<> {
    Signal signal(false);
    Nursery nursery;
    const Job<> first = nursery.spawn(waiter, std::ref(signal));
    const auto gives = [&]() -> Task<> {
      co_await walker(5);
      signal.give();
    };
    nursery.spawn(gives);
    co_await wait(first);
  };
  const std::string hang = failure_of([&] { kill_everywhere(hangs); }).what();
  CAPTURE(hang);
  CHECK(contains(hang, "kill_everywhere: #3"));
  CHECK(contains(hang, ", killed after step "));
  CHECK(contains(hang, "deadlock"));
  CHECK(contains(hang, "waiting for signal"));

  const auto spins = []() -> Task<> {
    bool stop = false;
    Nursery nursery;
    const auto stopper = [&]() -> Task<> {
      co_await yield_now();
      stop = true;
    };
    nursery.spawn(stopper);
    while (!stop) co_await yield_now();
  };
  Options options;
  options.steps = 1000;
  const std::string spin =
      failure_of([&] { kill_everywhere(spins, options); }).what();
  CHECK(contains(spin, "no end after 1000 steps"));

  std::vector<std::coroutine_handle<>> frames;
  const auto leaks = [&]() -> Task<> {
    const auto handle = walker(0).release();
    frames.push_back(handle);
    co_await yield_now();
    frames.pop_back();
    handle.destroy();
  };
  const std::string leak = failure_of([&] { kill_everywhere(leaks); }).what();
  CHECK(contains(leak, "killed after step 1 at testing_test.cpp:"));
  CHECK(contains(leak, "left behind: frames and jobs: 1"));
  for (const auto frame : frames) frame.destroy();

  const auto fails = []() -> Task<> {
    throw std::runtime_error("always");
    co_return;
  };
  const std::string always = failure_of([&] { kill_everywhere(fails); }).what();
  CHECK(always == "kill_everywhere: without any kill: always");
}

TEST_CASE("kill_everywhere: a kill that is held is carried out later",
          "[testing]") {
  // The root holds the nursery, so while a child steps its kill is held.
  int finished = 0;
  const auto body = [&]() -> Task<> {
    Nursery nursery;
    for (int i = 0; i < 3; ++i) nursery.spawn(walker, 4);
    co_await walker(6);
    co_await wait_all_blocked();
    ++finished;
  };
  Options options;
  options.victims = testing::Victims::kRoot;
  options.seeds = 300;
  const auto counts = kill_everywhere(body, options);
  CHECK(counts.kills > 250);
  CHECK(static_cast<std::size_t>(finished) < counts.runs);
}

// ----------------------------------------------------------- the front door

TEST_CASE("testing: a plain program without a framework can use it",
          "[testing]") {
  using namespace programs;
  TemporaryFolder folder;
  const std::string source = folder.file("plain.cpp");
  std::ofstream(source) << "#include <violet.hpp>\n"
                           "#include <violet/testing.hpp>\n"
                           "using namespace violet;\n"
                           "Task<int> body() { co_return 1; }\n"
                           "int main() { return testing::play(body) - 1; }\n";
  auto command = compile_command(programs::compiler(), {"-O0"});
  command.insert(command.end(), {"-c", source, "-o", folder.file("plain.o")});
  Program program(command);
  const End end = program.wait();
  CAPTURE(program.err());
  CHECK(end.code == 0);
}

// ----------------------------------------------------------------- regressions

TEST_CASE("play: a program that never waits under a shield is given up",
          "[testing]") {
  const auto spins = []() -> Task<> {
    for (;;) co_await yield_now();
  };
  Options options;
  options.steps = 1000;
  const auto body = [&]() -> Task<> { co_await shield(spins()); };
  const std::string text = thrown<Hang>([&] { play(body, Seed(0), options); });
  CHECK(contains(text, "no end after 1000 steps"));
}

TEST_CASE("play: a Remote that nobody posts to does not keep it for ever",
          "[testing]") {
  Options options;
  options.patience = 10ms;
  const auto body = []() -> Task<> {
    Oneshot<int> shot;
    const auto setter = shot.remote_setter();
    (void)co_await shot.get();
  };
  const std::string text = thrown<Hang>([&] { play(body, options); });
  CHECK(contains(text, "there is a Remote or an offload"));
  CHECK(contains(text, "oneshot"));
}

TEST_CASE("for_seeds: the failure says how to have it again, with the options",
          "[testing]") {
  Options options;
  options.budget = 0;
  const auto body = []() -> Task<> {
    co_await violet::sleep(1s);
    throw std::runtime_error("always");
  };
  const std::string text =
      thrown<testing::Failure>([&] { for_seeds(3, body, options); });
  CHECK(contains(text, "seed 1: always"));
  CHECK(contains(text, "play(body, Seed(1), options)"));
}

TEST_CASE("kill_everywhere: the root is the victim also where it has a limit",
          "[testing]") {
  const auto naps = []() -> Task<> {
    for (int i = 0; i < 5; ++i) co_await violet::sleep(1ms);
  };
  const auto body = [&]() -> Task<> { (void)co_await within(1s, naps()); };
  Options options;
  options.victims = Victims::kRoot;
  const KillCounts root = kill_everywhere(body, options);
  CHECK(root.waits >= 6);
  CHECK(root.kills + 1 == root.runs);
  options.victims = Victims::kOthers;
  const KillCounts others = kill_everywhere(body, options);
  CHECK(others.waits == 0);
  CHECK(others.kills == 0);
  CHECK(others.runs == 1);
}

TEST_CASE("explore: a program without an end is given up at once",
          "[testing]") {
  const auto spins = []() -> Task<> {
    for (;;) co_await yield_now();
  };
  const auto body = [&]() -> Task<> {
    TaskGroup group;
    group.spawn(spins);
    group.spawn(spins);
    co_await group.join();
  };
  const std::string text = thrown<testing::Failure>([&] { explore(body); });
  CHECK(contains(text, "no end after 10000 steps"));
}

TEST_CASE("play: on a simulated network, in virtual time", "[testing]") {
  Options options;
  options.network = true;
  const auto body = []() -> Task<> {
    network().latency(20ms);
    auto pair = network().pair();
    const Descriptor near = adopt(std::move(pair[0]));
    const Descriptor far = adopt(std::move(pair[1]));
    co_await write(near, "hello");
    char bytes[8];
    const std::size_t got = co_await read(far, bytes);
    CHECK(got == 5);
  };
  World world(Seed(3), options);
  world.play(body);
  CHECK(world.elapsed() == 20ms);
  const testing::Trace first = world.trace();
  world.play(body);
  CHECK(world.trace() == first);
}

TEST_CASE("play: a wait for a silent simulated network is a deadlock",
          "[testing]") {
  Options options;
  options.network = true;
  const auto body = []() -> Task<> {
    auto pair = network().pair();
    const Descriptor near = adopt(std::move(pair[0]));
    char bytes[8];
    (void)co_await read(near, bytes);
  };
  const std::string text = thrown<Deadlock>([&] { play(body, options); });
  CHECK(contains(text, "waiting for read"));
}

TEST_CASE("play: a simulated socket that is left open is a leak", "[testing]") {
  Options options;
  options.network = true;
  int left = -1;
  const auto body = [&]() -> Task<> {
    auto pair = network().pair();
    left = pair[0].release();
    co_return;
  };
  const std::string text = thrown<Leak>([&] { play(body, options); });
  CHECK(contains(text, "simulated sockets: 1"));
}

TEST_CASE("network: outside a run with one it is refused", "[testing]") {
  CHECK(contains(thrown<Misuse>([] { (void)network(); }),
                 "options.network = true"));
}

TEST_CASE("play: an hour of retries passes at once", "[testing]") {
  std::vector<int> tries;
  World world;
  world.play([&]() -> Task<> {
    const auto begun = Loop::current().now();
    for (int i = 0; Loop::current().now() - begun < 1h; ++i) {
      tries.push_back(i);
      const bool answered = co_await within(500ms, stopping());
      if (answered) co_return;
      co_await violet::sleep(500ms);
    }
  });
  CHECK(tries.size() == 3600);
  CHECK(std::is_sorted(tries.begin(), tries.end()));
  CHECK(world.elapsed() == 1h);
}

TEST_CASE("play: time does not jump while another thread has the word",
          "[testing][threads]") {
  World world;
  const bool in_time = world.play([]() -> Task<bool> {
    Oneshot<int> answer;
    support::Thread other([set = answer.remote_setter()] { set(7); });
    const auto got = co_await within(1h, answer.get());
    other.join();
    co_return got == 7;
  });
  CHECK(in_time);
  CHECK(world.elapsed() < 1h);
}
