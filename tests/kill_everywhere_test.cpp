// kill_everywhere_test.cpp - everything that waits is killed at each wait.
//
// Every event is a wait here (budget 0). Each scenario is run once for each
// of its waits, with the job killed that has just begun it or is about to go
// on, and then in a thousand other orders. Nothing may hang or be left behind,
// and each scenario says what else must hold: no permit, item or wake-up is
// lost or doubled.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../net/connection.hpp"
#include "../net/listener.hpp"
#include "../net/server.hpp"
#include "../runtime/channel.hpp"
#include "../runtime/combine.hpp"
#include "../runtime/generator.hpp"
#include "../runtime/group.hpp"
#include "../runtime/oneshot.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/sync.hpp"
#include "../runtime/testing.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;
using testing::kill_everywhere;
using testing::KillCounts;

#ifdef __OPTIMIZE__
constexpr std::uint64_t kSeeds = support::kSanitized ? 200 : 1000;
#else
constexpr std::uint64_t kSeeds = 300;
#endif

testing::Options many_seeds() {
  testing::Options options;
  options.seeds = kSeeds;
  return options;
}

/// What fails a run of kill_everywhere: it must throw.
void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

template <class State, class Body, class Check>
void survives(std::size_t waits, Body body, Check check) {
  const KillCounts counts = kill_everywhere<State>(body, check, many_seeds());
  CHECK(counts.waits >= waits);
  CHECK(counts.kills >= counts.waits);
  CHECK(counts.runs >= counts.waits + kSeeds);
}

/// Frames and jobs that are alive, and who has come how far.
struct Books {
  int alive = 0;
  int done = 0;
  int begun = 0;
};

/// A local variable that is counted.
class Counted {
 public:
  explicit Counted(Books& books) noexcept : books_(books) { ++books_.alive; }
  Counted(const Counted&) = delete;
  ~Counted() { --books_.alive; }

 private:
  Books& books_;
};

Task<> nap(Books& books, Duration duration) {
  const Counted here(books);
  ++books.begun;
  co_await violet::sleep(duration);
  ++books.done;
}

Task<int> value(Books& books, int result) {
  const Counted here(books);
  co_await yield_now();
  co_await violet::sleep(1ms);
  co_return result;
}

void all_gone(const Books& books) {
  require(books.alive == 0, "a frame is left");
}

}  // namespace

TEST_CASE("kill everywhere: a task group", "[kill]") {
  survives<Books>(
      8,
      [](Books& books) -> Task<> {
        TaskGroup group;
        for (int i = 1; i <= 3; ++i) group.spawn(nap, std::ref(books), i * 1ms);
        co_await group.join();
        group.spawn(nap, std::ref(books), 1ms);
        co_await group.close();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a group with a limit", "[kill]") {
  survives<Books>(
      10,
      [](Books& books) -> Task<> {
        TaskGroup group(2);
        for (int i = 0; i < 4; ++i) {
          co_await group.room();
          require(group.running() < 2, "there is no room");
          group.spawn(nap, std::ref(books), 1ms);
          group.spawn(nap, std::ref(books), 1ms);
          require(group.running() <= 2, "the limit is exceeded");
        }
        co_await group.join();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a group inside a heap object", "[kill]") {
  survives<Books>(
      4,
      [](Books& books) -> Task<> {
        auto group = std::make_unique<TaskGroup>();
        group->spawn(nap, std::ref(books), 1ms);
        group->spawn(nap, std::ref(books), 2ms);
        co_await yield_now();
        co_await within(1ms, group->join());
        group.reset();
        co_await yield_now();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a group that outlives its owner on the heap",
          "[kill]") {
  struct State : Books {
    std::unique_ptr<TaskGroup> group;
  };
  survives<State>(
      4,
      [](State& state) -> Task<> {
        const auto owner = [&]() -> Task<> {
          state.group = std::make_unique<TaskGroup>();
          state.group->spawn(nap, std::ref(state), 2ms);
          co_await violet::sleep(1ms);
        };
        const Job<> job = spawn(owner);
        co_await wait(job);
        require(state.group == nullptr || state.group->empty(),
                "a job has outlived the owner of its group");
      },
      [](State& state) { all_gone(state); });
}

TEST_CASE("kill everywhere: a child that fails", "[kill]") {
  const auto scenario = [] {
    survives<Books>(
        6,
        [](Books& books) -> Task<> {
          const auto fails = [&]() -> Task<> {
            const Counted here(books);
            co_await violet::sleep(2ms);
            throw std::logic_error("on purpose");
          };
          TaskGroup group;
          group.spawn(nap, std::ref(books), 1ms);
          group.spawn(fails);
          group.spawn(nap, std::ref(books), 3ms);
          try {
            co_await group.join();
          } catch (const std::logic_error&) {
            ++books.done;
          }
          require(group.empty(), "a sibling has survived");
        },
        all_gone);
  };
  // The failure of a group whose owner was killed goes there.
  const std::string errors = errors_of(scenario);
  CHECK(contains(errors, "failed, nobody asked"));
}

TEST_CASE("kill everywhere: start", "[kill]") {
  survives<Books>(
      5,
      [](Books& books) -> Task<> {
        const auto service = [&](Started started) -> Task<> {
          const Counted here(books);
          co_await violet::sleep(1ms);
          started.ready();
          co_await violet::sleep(1ms);
        };
        TaskGroup group;
        try {
          const Job<> job = co_await group.start(service);
          co_await wait(job);
        } catch (const Killed&) {  // before it was ready
        }
        co_await group.join();
      },
      all_gone);
}

TEST_CASE("kill everywhere: all, any, map_limited, Completed", "[kill]") {
  survives<Books>(
      30,
      [](Books& books) -> Task<> {
        const auto numbered = [&](int number) { return value(books, number); };
        try {
          const auto [one, two] =
              co_await all(value(books, 1), value(books, 2));
          require(one == 1 && two == 2, "all() mixes values up");
          const auto first = co_await any(value(books, 3), nap(books, 9ms));
          require(first.index() == 0 && std::get<0>(first) == 3,
                  "any() tells another");
          require(books.alive == 0, "any() has left a loser");
          const std::vector<int> numbers{1, 2, 3};
          const auto mapped = co_await map_limited(2, numbers, numbered);
          require(mapped == numbers, "map_limited() mixes values up");
          std::vector<Task<int>> tasks;
          for (const int number : numbers) tasks.push_back(numbered(number));
          Completed<int> completed(std::move(tasks));
          while (const auto result = co_await completed.next()) {
            require(result->value == static_cast<int>(result->index) + 1,
                    "Completed mixes values up");
          }
        } catch (const Killed&) {  // one of them was
        }
      },
      all_gone);
}

TEST_CASE("kill everywhere: a kill of an ancestor from a destructor",
          "[kill]") {
  struct State : Books {
    Job<> owner;
  };
  survives<State>(
      5,
      [](State& state) -> Task<> {
        const auto child = [&]() -> Task<> {
          const Counted here(state);
          const AtEnd end([&] { state.owner.kill("from below"); });
          co_await violet::sleep(1ms);
          co_await yield_now();
        };
        const auto middle = [&]() -> Task<> {
          const Counted here(state);
          TaskGroup group;
          group.spawn(child);
          group.spawn(nap, std::ref(state), 2ms);
          co_await group.join();
          co_await yield_now();
        };
        const auto owner = [&]() -> Task<> {
          const Counted here(state);
          TaskGroup group;
          group.spawn(middle);
          co_await group.join();
          co_await violet::sleep(1ms);
        };
        TaskGroup group;
        state.owner = group.spawn(owner);
        co_await wait(state.owner);
        require(state.alive == 0, "a killed job has left a frame");
        state.owner = Job<>();
      },
      [](State& state) {
        state.owner = Job<>();
        all_gone(state);
      });
}

TEST_CASE("kill everywhere: a shielded child whose scope is left", "[kill]") {
  survives<Books>(
      4,
      [](Books& books) -> Task<> {
        const auto child = [&]() -> Task<> {
          const Counted here(books);
          co_await shield(nap(books, 5ms));
          co_await violet::sleep(1ms);
        };
        {
          TaskGroup group;
          group.spawn(child);
          co_await violet::sleep(1ms);
        }
        require(books.alive == 0, "the scope has left a child");
        co_await yield_now();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a shield, and a limit around it and inside it",
          "[kill]") {
  survives<Books>(
      8,
      [](Books& books) -> Task<> {
        const auto inside = [&]() -> Task<> {
          const Counted here(books);
          (void)co_await within(1ms, nap(books, 3ms));
          co_await violet::sleep(2ms);
        };
        const auto body = [&]() -> Task<> {
          const Counted here(books);
          co_await shield(inside());
          co_await violet::sleep(5ms);
        };
        const bool done = co_await within(1ms, body());
        require(!done, "the limit has not acted");
        co_await yield_now();
      },
      all_gone);
}

TEST_CASE("kill everywhere: what a shield holds runs to its end", "[kill]") {
  struct State : Books {
    int shields = 0;
    int ended = 0;
  };
  survives<State>(
      6,
      [](State& state) -> Task<> {
        const auto inside = [&]() -> Task<> {
          ++state.shields;
          co_await violet::sleep(2ms);
          co_await yield_now();
          ++state.ended;
        };
        const auto body = [&]() -> Task<> {
          co_await shield(inside());
          co_await violet::sleep(1ms);
        };
        TaskGroup group;
        const Job<> job = group.spawn(body);
        co_await violet::sleep(1ms);
        co_await kill(job);
      },
      [](State& state) {
        require(state.shields == state.ended, "a shield was cut");
      });
}

TEST_CASE("kill everywhere: finally at each of its moments", "[kill]") {
  struct State : Books {
    int entered = 0;
    int cleaned = 0;
  };
  survives<State>(
      8,
      [](State& state) -> Task<> {
        const auto cleanup = [&]() -> Task<> {
          co_await violet::sleep(1ms);
          co_await yield_now();
          ++state.cleaned;
        };
        const auto inside = [&]() -> Task<> {
          ++state.entered;
          co_await nap(state, 2ms);
        };
        const auto body = [&]() -> Task<> {
          const Counted here(state);
          co_await finally(inside(), cleanup);
          co_await violet::sleep(1ms);
        };
        TaskGroup group;
        const Job<> first = group.spawn(body);
        const Job<> second = group.spawn(body);
        co_await violet::sleep(1ms);
        co_await kill(first);
        co_await wait(second);
      },
      [](State& state) {
        all_gone(state);
        require(state.entered == state.cleaned, "a cleanup was lost");
      });
}

TEST_CASE("kill everywhere: deadlines that are moved", "[kill]") {
  survives<Books>(
      5,
      [](Books& books) -> Task<> {
        Deadline deadline(2ms);
        const auto mover = [&]() -> Task<> {
          co_await violet::sleep(1ms);
          deadline.move(3ms);
        };
        TaskGroup group;
        group.spawn(mover);
        (void)co_await within(deadline, nap(books, 9ms));
        (void)co_await within(deadline, violet::sleep(9ms));
        co_await group.join();
      },
      all_gone);
}

TEST_CASE("kill everywhere: any of two accepts loses no client", "[kill]") {
  const MaybeShortIo io;
  struct State {
    std::vector<Connection> clients;
    int taken = 0;
  };
  testing::Options options = many_seeds();
  options.victims = testing::Victims::kOthers;
  const KillCounts counts = kill_everywhere<State>(
      [](State& state) -> Task<> {
        const Listener first("127.0.0.1", 0);
        const Listener second("127.0.0.1", 0);
        state.clients.push_back(co_await connect(first.address()));
        state.clients.push_back(co_await connect(second.address()));
        support::arrives(first.descriptor().fd(), POLLIN);
        support::arrives(second.descriptor().fd(), POLLIN);
        const auto taker = [&]() -> Task<> {
          const auto taken = co_await any(first.accept(), second.accept());
          ++state.taken;
        };
        const Job<> job = spawn(taker);
        co_await wait(job);
        // Whoever was not taken is still there for the next.
        for (; state.taken < 2; ++state.taken) {
          const auto rest =
              co_await within(1s, any(first.accept(), second.accept()));
          require(rest.has_value(), "a client was lost");
        }
        const auto none =
            co_await within(0s, any(first.accept(), second.accept()));
        require(!none.has_value(), "a client was doubled");
        state.clients.clear();
      },
      [](State& state) { state.clients.clear(); }, options);
  CHECK(counts.waits >= 1);
}

TEST_CASE("kill everywhere: a semaphore", "[kill]") {
  struct State : Books {
    int inside = 0;
  };
  survives<State>(
      12,
      [](State& state) -> Task<> {
        Semaphore semaphore(2);
        const auto user = [&]() -> Task<> {
          const Counted here(state);
          const Permit permit = co_await semaphore.acquire();
          require(++state.inside <= 2, "one too many is inside");
          const AtEnd leave([&] { --state.inside; });
          co_await violet::sleep(1ms);
        };
        {
          TaskGroup group;
          for (int i = 0; i < 5; ++i) group.spawn(user);
          co_await group.join();
        }
        require(semaphore.available() == 2, "a permit was lost");
        require(semaphore.waiting() == 0, "somebody still waits");
      },
      [](State& state) {
        all_gone(state);
        require(state.inside == 0, "somebody is still inside");
      });
}

TEST_CASE("kill everywhere: a mutex and a condition", "[kill]") {
  struct State : Books {
    int items = 0;
  };
  survives<State>(
      12,
      [](State& state) -> Task<> {
        Mutex mutex;
        Condition condition(mutex);
        const auto taker = [&]() -> Task<> {
          const Counted here(state);
          Mutex::Lock lock = co_await mutex.lock();
          while (state.items == 0) co_await condition.wait(lock);
          --state.items;
        };
        const auto maker = [&]() -> Task<> {
          const Counted here(state);
          const Mutex::Lock lock = co_await mutex.lock();
          co_await yield_now();
          ++state.items;
          condition.notify();
        };
        TaskGroup group;
        for (int i = 0; i < 3; ++i) group.spawn(taker);
        for (int i = 0; i < 4; ++i) group.spawn(maker);  // one to spare
        co_await group.join();
        require(!mutex.locked(), "the mutex is still locked");
      },
      [](State& state) { all_gone(state); });
}

TEST_CASE("kill everywhere: a flag", "[kill]") {
  survives<Books>(
      6,
      [](Books& books) -> Task<> {
        Flag flag;
        const auto waits = [&]() -> Task<> {
          const Counted here(books);
          co_await flag.wait();
          ++books.done;
        };
        TaskGroup group;
        for (int i = 0; i < 3; ++i) group.spawn(waits);
        co_await violet::sleep(1ms);
        flag.set();
        flag.clear();
        co_await group.join();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a channel", "[kill]") {
  struct State : Books {
    std::vector<int> received;  // recv() has returned
    std::vector<int> offered;   // send() has been called
    std::string failures;
  };
  for (const std::size_t capacity : {0u, 1u, 3u}) {
    CAPTURE(capacity);
    survives<State>(
        15,
        [capacity](State& state) -> Task<> {
          Channel<int> channel(capacity);
          const auto producer = [&](Sender<int> sender, int first) -> Task<> {
            const Counted here(state);
            for (int i = first; i < first + 3; ++i) {
              state.offered.push_back(i);
              co_await sender.send(i);
            }
          };
          const auto consumer = [&](Receiver<int> receiver) -> Task<> {
            const Counted here(state);
            while (const auto item = co_await receiver.recv()) {
              state.received.push_back(*item);
            }
          };
          TaskGroup group;
          group.on_failure([&](const FailedJob& failure) {
            state.failures += text_of(failure.error);
          });
          group.spawn(producer, channel.sender(), 10);
          group.spawn(producer, channel.sender(), 20);
          group.spawn(consumer, channel.receiver());
          group.spawn(consumer, channel.receiver());
          co_await group.join();
          for (const int item : channel.drain()) state.received.push_back(item);
        },
        [](State& state) {
          all_gone(state);
          // A sender may be told that every consumer was killed, and no more.
          require(state.failures.empty() ||
                      contains(state.failures, "nobody receives"),
                  "a failure of another kind");
          std::vector<int> once = state.received;
          std::sort(once.begin(), once.end());
          require(std::adjacent_find(once.begin(), once.end()) == once.end(),
                  "an item was doubled");
          for (const int item : once) {
            require(std::count(state.offered.begin(), state.offered.end(),
                               item) == 1,
                    "an item came from nowhere");
          }
        });
  }
}

TEST_CASE("kill everywhere: no item of a channel is lost", "[kill]") {
  struct State : Books {
    std::vector<int> sent;
    std::vector<int> received;
  };
  for (const std::size_t capacity : {0u, 1u, 3u}) {
    CAPTURE(capacity);
    testing::Options options = many_seeds();
    options.victims = testing::Victims::kOthers;  // the root counts
    const KillCounts counts = kill_everywhere<State>(
        [capacity](State& state) -> Task<> {
          Channel<int> channel(capacity);
          const auto producer = [&](int first) -> Task<> {
            for (int i = first; i < first + 3; ++i) {
              co_await channel.send(i);
              state.sent.push_back(i);
            }
          };
          const auto consumer = [&]() -> Task<> {
            while (const auto item = co_await channel.recv()) {
              state.received.push_back(*item);
            }
          };
          TaskGroup producers;
          TaskGroup consumers;
          producers.spawn(producer, 10);
          producers.spawn(producer, 20);
          consumers.spawn(consumer);
          consumers.spawn(consumer);
          // One that is never killed takes what others have left.
          while (!producers.empty()) {
            const auto item = co_await within(1ms, channel.recv());
            if (item && *item) state.received.push_back(**item);
          }
          channel.close();
          co_await consumers.join();
          for (const int item : channel.drain()) state.received.push_back(item);
          std::sort(state.received.begin(), state.received.end());
          std::sort(state.sent.begin(), state.sent.end());
          require(std::includes(state.received.begin(), state.received.end(),
                                state.sent.begin(), state.sent.end()),
                  "an item was lost");
        },
        [](State&) {}, options);
    CHECK(counts.waits > 10);
  }
}

TEST_CASE("kill everywhere: any of sends and receives", "[kill]") {
  struct State : Books {
    int sent = 0;
    int received = 0;
    int offered = 0;
  };
  testing::Options options = many_seeds();
  options.victims = testing::Victims::kOthers;  // the root counts
  for (const std::size_t capacity : {0u, 1u}) {
    CAPTURE(capacity);
    const KillCounts counts = kill_everywhere<State>(
        [capacity](State& state) -> Task<> {
          Channel<int> left(capacity);
          Channel<int> right(capacity);
          const auto chooser = [&]() -> Task<> {
            for (int i = 0; i < 3; ++i) {
              ++state.offered;
              const auto done =
                  co_await within(2ms, any(left.recv(), right.send(1)));
              if (!done) continue;
              done->index() == 0 ? ++state.received : ++state.sent;
            }
          };
          const auto other = [&]() -> Task<> {
            for (int i = 0; i < 3; ++i) {
              ++state.offered;
              const auto done =
                  co_await within(3ms, any(right.recv(), left.send(1)));
              if (!done) continue;
              done->index() == 0 ? ++state.received : ++state.sent;
            }
          };
          TaskGroup group;
          group.spawn(chooser);
          group.spawn(other);
          co_await group.join();
          state.received += static_cast<int>(left.drain().size());
          state.received += static_cast<int>(right.drain().size());
        },
        [](State& state) {
          // A sender that is killed right after its item went has not counted.
          require(state.received >= state.sent, "an item was lost");
          require(state.received <= state.sent + 1, "an item was doubled");
        },
        options);
    CHECK(counts.kills > 10);
  }
}

TEST_CASE("kill everywhere: a server and its clients on a simulated network",
          "[kill]") {
  struct State {
    int served = 0;
    int answered = 0;
  };
  testing::Options options = many_seeds();
  options.network = true;
  const KillCounts counts = kill_everywhere<State>(
      [](State& state) -> Task<> {
        testing::network().latency(1ms);
        const auto handler = [](Connection conn) -> Task<> {
          while (const auto data = co_await conn.recv()) {
            co_await conn.sendall(data);
          }
        };
        const auto client = [&](Address address) -> Task<> {
          std::error_code code;
          const Connection conn = co_await connect(address, code);
          if (code) co_return;  // the server was killed
          co_await conn.sendall("hello", code);
          char bytes[5];
          const auto got = co_await conn.recv(bytes, code);
          if (!code && got == 5) ++state.answered;
        };
        TaskGroup group;
        const auto serving = [&](Listener listener) -> Task<> {
          (void)co_await serve(std::move(listener), handler);
        };
        Listener listener("10.0.0.1", 80);
        const Address address = listener.address();
        const Job<> server = group.spawn(serving, std::move(listener));
        {
          TaskGroup clients;
          for (int i = 0; i < 3; ++i) clients.spawn(client, address);
          co_await clients.join();
        }
        server.kill();
        co_await group.join();
      },
      [](State& state) { require(state.answered <= 3, "an answer too many"); },
      options);
  CHECK(counts.waits > 10);
}

TEST_CASE("kill everywhere: a oneshot", "[kill]") {
  survives<Books>(
      4,
      [](Books& books) -> Task<> {
        Oneshot<int> shot;
        std::optional setter(shot.setter());
        const auto sets = [](auto set) -> Task<> {
          co_await violet::sleep(1ms);
          set(7);
        };
        const auto gets = [&]() -> Task<> {
          const Counted here(books);
          try {
            const int got = co_await shot.get();
            require(got == 7, "another value");
          } catch (const Closed&) {  // who would have set it was killed
          }
        };
        TaskGroup group;
        group.spawn(sets, *setter);
        setter.reset();
        group.spawn(gets);
        co_await group.join();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a generator that a job drives", "[kill]") {
  survives<Books>(
      4,
      [](Books& books) -> Task<> {
        const auto numbers = [](Books& to) -> Generator<int, int> {
          const Counted here(to);
          int sent = 0;
          for (;;) sent = co_yield sent + 1;
        };
        const auto driver = [&]() -> Task<> {
          auto one = numbers(books);
          auto got = one.next();
          for (int i = 0; i < 3; ++i) {
            co_await violet::sleep(1ms);
            got = one.send(*got);
          }
          require(*got == 4, "a value was lost on its way");
        };
        TaskGroup group;
        group.spawn(driver);
        group.spawn(driver);
        co_await group.join();
      },
      all_gone);
}

TEST_CASE("kill everywhere: a limited read loses no byte", "[kill]") {
  const MaybeShortIo io;
  testing::Options options = many_seeds();
  options.victims = testing::Victims::kOthers;
  const KillCounts counts = kill_everywhere<Books>(
      [](Books& books) -> Task<> {
        const Pair pipe = make_pipe();
        std::string got;
        const auto reader = [&]() -> Task<> {
          const Counted here(books);
          char byte = 0;
          for (int i = 0; i < 2; ++i) {
            const auto count = co_await within(
                1s, read(pipe[0].get(), std::span<char>(&byte, 1)));
            if (count && *count == 1) got += byte;
          }
        };
        require(support::put(pipe[1].get(), "abcd"), "the pipe is full");
        {
          TaskGroup group;
          const Job<> first = group.spawn(reader);
          co_await wait(first);
          const Job<> second = group.spawn(reader);
          co_await wait(second);
          co_await group.join();
        }
        got += support::get(pipe[0].get());  // what nobody has read
        require(got == "abcd", "a byte was lost or doubled");
      },
      all_gone, options);
  CHECK(counts.waits >= 4);
}

TEST_CASE("kill everywhere: any of events loses neither item nor permit",
          "[kill]") {
  struct State : Books {
    int taken = 0;
  };
  testing::Options options = many_seeds();
  options.victims = testing::Victims::kOthers;  // the root counts
  const KillCounts counts = kill_everywhere<State>(
      [](State& state) -> Task<> {
        Channel<int> channel(1);
        Semaphore semaphore(1);
        const auto either = [&]() -> Task<> {
          const Counted here(state);
          const auto got = co_await any(channel.recv(), semaphore.acquire());
          if (got.index() == 0) ++state.taken;
          co_await violet::sleep(1ms);
        };
        int sent = 0;
        {
          TaskGroup group;
          Permit mine = co_await semaphore.acquire();
          for (int i = 0; i < 3; ++i) group.spawn(either);
          co_await violet::sleep(1ms);
          if (channel.try_send(1)) ++sent;
          mine.release();
          co_await violet::sleep(1ms);
          if (channel.try_send(2)) ++sent;
          const bool all = co_await within(1h, group.join());
          require(all, "somebody waits for ever");
        }
        const auto left = static_cast<int>(channel.drain().size());
        require(state.taken + left == sent, "an item was lost or doubled");
        require(semaphore.available() == 1, "the permit was lost or doubled");
      },
      [](State& state) { all_gone(state); }, options);
  CHECK(counts.waits > 8);
}

TEST_CASE("kill everywhere: limits around what is granted", "[kill]") {
  survives<Books>(
      12,
      [](Books& books) -> Task<> {
        Semaphore semaphore(1);
        Mutex mutex;
        Condition condition(mutex);
        Flag flag;
        const auto user = [&]() -> Task<> {
          const Counted here(books);
          const auto permit = co_await within(2ms, semaphore.acquire());
          co_await violet::sleep(1ms);
          auto lock = co_await within(2ms, mutex.lock());
          if (lock) (void)co_await within(1ms, condition.wait(*lock));
          if (lock && !lock->owns()) co_await lock->lock();
          (void)co_await within(1ms, flag.wait());
        };
        {
          TaskGroup group;
          for (int i = 0; i < 3; ++i) group.spawn(user);
          co_await violet::sleep(3ms);
          condition.notify(2);
          flag.set();
          co_await group.join();
        }
        require(semaphore.available() == 1, "a permit was lost");
        require(!mutex.locked(), "the mutex is still locked");
        require(condition.waiting() + flag.waiting() + semaphore.waiting() +
                        mutex.waiting() ==
                    0,
                "somebody still waits");
      },
      all_gone);
}

TEST_CASE("kill everywhere: Completed whose scope is left, and any in any",
          "[kill]") {
  survives<Books>(
      6,
      [](Books& books) -> Task<> {
        try {
          {
            std::vector<Task<int>> tasks;
            for (int i = 1; i <= 3; ++i) tasks.push_back(value(books, i));
            Completed<int> completed(std::move(tasks));
            const auto first = co_await completed.next();
            require(first.has_value(), "nothing ended");
          }
          require(books.alive == 0, "Completed has left a task");
          const auto inner = [&]() -> Task<int> {
            const auto got = co_await any(value(books, 5), nap(books, 9ms));
            co_return std::get<0>(got);
          };
          const auto outer = co_await any(inner(), nap(books, 9ms));
          require(std::get<0>(outer) == 5, "any() tells another");
          require(books.alive == 0, "any() has left a loser");
        } catch (const Killed&) {  // one of them was
        }
      },
      all_gone);
}
