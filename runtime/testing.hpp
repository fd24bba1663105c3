// testing.hpp - a kit for testing programs that wait.
//
// The idea: what a program of jobs does depends on time, on the order in
// which ready jobs have their steps, and on who is killed when. A test that
// owns all three has the same result every time, and can try them all:
//
//     play(body)                    once, in virtual time
//     play(body, Seed(7))           once, in the order that 7 stands for
//     for_seeds(1000, body)         in a thousand orders
//     explore(body)                 in every order, for small programs
//     kill_everywhere(body)         with a kill at each of its waits
//     co_await wait_all_blocked()   in a body: until nobody else can go on
//
// A body is a callable without parameters that returns a Task. Each run has a
// loop of its own, in which time jumps to the next deadline when every job
// waits. What would hang fails at once, and what is left behind is a failure.
//
// All of it throws and knows no framework; it works under any, and in a plain
// main(). A body says that something is wrong by throwing, too. Under many
// runs, a framework's check that only takes note would not tell which of
// them it was: use the one that throws.
//
// Descriptors are real ones, unless Options::network simulates sockets. What
// goes on between two ends in one process is as repeatable as the rest; news
// from outside comes when it comes.
//
// Include <violet/testing.hpp>: it has FaultPlan and SimNetwork, too.
//
// Built on: scheduler, director, poller_sim.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "faults.hpp"
#include "poller_sim.hpp"
#include "scheduler.hpp"
#include "sim_network.hpp"

namespace violet::testing {

// ------------------------------------------------------- what can go wrong

/// The run would never have ended. The text says who waits for what. If not
/// even a descriptor could wake anyone, it is a violet::Deadlock instead.
class Hang : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The run has left something behind: frames, jobs, timers, waits, descriptors
/// that a loop knows. The text says what. A bare Fd is not found.
class Leak : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Which order the jobs have their steps in: one of 2^64. Seed(0) is first
/// in, first out.
struct Seed {
  explicit Seed(std::uint64_t number) noexcept : value(number) {}
  std::uint64_t value;
};

/// One step of a run, and where it ended.
struct TraceStep {
  std::uint32_t job = 0;
  std::uint32_t part_of = 0;        // the job that it is a part of, or itself
  Step how = Step::kReturned;       // or kWaiting, kReady
  std::uint32_t ahead_of = 0;       // jobs that had been ready for longer
  Line line = {};                   // the await; null if it came to none
  std::source_location spawned_at;  // the job; the root knows no such place

  bool operator==(const TraceStep& other) const noexcept;

  /// "#2 consumer waits at main.cpp:12"
  std::string text() const;
};

/// What happened in a run, step by step.
struct Trace {
  std::vector<TraceStep> steps;
  bool operator==(const Trace&) const = default;

  /// A numbered line for each step.
  std::string text() const;
};

/// One of many runs has failed. The text says which, how to have it again,
/// and what went wrong.
class Failure : public std::runtime_error {
 public:
  Failure(const std::string& text, std::exception_ptr cause, Trace trace)
      : std::runtime_error(text),
        cause_(std::move(cause)),
        trace_(std::make_shared<const Trace>(std::move(trace))) {}

  /// What that run threw.
  std::exception_ptr cause() const noexcept { return cause_; }

  /// What happened in it until then.
  const Trace& trace() const noexcept { return *trace_; }

 private:
  std::exception_ptr cause_;
  std::shared_ptr<const Trace> trace_;
};

/// Who is killed by kill_everywhere.
enum class Victims : std::uint8_t { kAll, kRoot, kOthers };

/// For all of the following; what does not concern a function is ignored.
struct Options {
  /// See LoopOptions. With 0 every event is a wait, and so a point at which
  /// the order may change. kill_everywhere always has 0.
  std::uint8_t budget = 32;

  /// Real time that real descriptors, and other threads that hold a Remote,
  /// get when nothing else can happen.
  Duration patience = std::chrono::seconds(1);

  /// Simulates sockets: each run has a SimNetwork of its own, see network().
  bool network = false;

  /// A run that takes more steps than this hangs; in explore() one of 10 000.
  /// Without a seed, jumps of time are counted instead, and jobs that never
  /// wait are not found out.
  std::size_t steps = 1'000'000;

  /// explore: how many orders there may be, and whether it is all right if
  /// there are more.
  std::size_t runs = 100'000;
  bool partial = false;

  /// kill_everywhere: whom to kill, and in how many more orders.
  Victims victims = Victims::kAll;
  std::uint64_t seeds = 0;

  /// for_seeds and kill_everywhere: the first of the seeds.
  std::uint64_t first_seed = 1;
};

/// What explore() did.
struct Explored {
  std::size_t runs = 0;
  bool complete = false;  // there is no other order
};

/// What kill_everywhere() did.
struct KillCounts {
  std::size_t waits = 0;  // first in, first out, of those who may be killed
  std::size_t runs = 0;
  std::size_t kills = 0;
};

// -------------------------------------------------------------- underneath

namespace internal {

/// What is run, once or many times, whatever its type.
class Program {
 public:
  virtual ~Program() = default;
  virtual std::string run(Loop& loop) = 0;  // returns: how it was killed
  virtual std::size_t frames() const noexcept { return 0; }  // it has already
};

template <class T>
inline constexpr bool is_task = violet::internal::is_task<T>;

template <class Body>
using ValueOf = typename std::invoke_result_t<Body&>::Value;

/// A body that is run once, for its value.
template <class Body>
class OneRun final : public Program {
 public:
  explicit OneRun(Body& body) noexcept : body_(body) {}
  std::string run(Loop& loop) override {
    using T = ValueOf<Body>;
    std::string killed;
    const Job<T> job = loop.run_killable(body_(), killed);
    if (!killed.empty()) return killed;
    if constexpr (std::is_reference_v<T>) {
      result.value = &job.block()->result.take();
    } else if constexpr (!std::is_void_v<T>) {
      result.value.emplace(job.block()->result.take());
    }
    return {};
  }
  violet::internal::Result<ValueOf<Body>> result;

 private:
  Body& body_;
};

/// A task that was made before its world.
template <class T>
class TaskRun final : public Program {
 public:
  explicit TaskRun(Task<T>&& task) noexcept
      : holder_(std::move(task)), once_(holder_) {}
  std::string run(Loop& loop) override { return once_.run(loop); }
  std::size_t frames() const noexcept override { return 1; }
  T take() { return once_.result.take(); }

 private:
  using Holder = violet::internal::TaskHolder<T>;
  Holder holder_;
  OneRun<Holder> once_;
};

/// A body that each run has a copy of.
template <class Body>
class ManyRuns final : public Program {
 public:
  explicit ManyRuns(const Body& body) noexcept : body_(body) {}
  std::string run(Loop& loop) override {
    Body fresh(body_);
    std::string killed;
    loop.run_killable(fresh(), killed);
    return killed;
  }

 private:
  const Body& body_;
};

/// The same with a state of its own, which is looked at afterwards.
template <class State, class Body, class Check>
class CheckedRuns final : public Program {
 public:
  CheckedRuns(const Body& body, const Check& check) noexcept
      : body_(body), check_(check) {}
  std::string run(Loop& loop) override {
    State state{};
    Body fresh(body_);
    Check check(check_);
    std::string killed;
    const auto error = caught([&] { loop.run_killable(fresh(state), killed); });
    if (!error || exception_as<Killed>(error)) check(state);
    if (error) std::rethrow_exception(error);
    return killed;
  }

 private:
  const Body& body_;
  const Check& check_;
};

class Time;
void for_seeds(std::uint64_t count, Program& program, const Options& options);
Explored explore(Program& program, const Options& options);
KillCounts kill_everywhere(Program& program, Options options);

}  // namespace internal

// ------------------------------------------------------------------ one run

/// Where bodies are played one after the other, for a test that wants to ask
/// afterwards how it went.
class World {
 public:
  /// First in, first out, without a trace.
  explicit World(const Options& options = Options()) noexcept
      : options_(options) {}

  /// In the order of `seed`, with a trace.
  explicit World(Seed seed, const Options& options = Options()) noexcept
      : options_(options), directed_(true), seed_(seed) {}

  /// Runs a body, or a task, in virtual time and a loop of its own.
  /// Returns: what it returns, which must not own frames or descriptors.
  /// Throws: what Loop::run throws; Hang; Leak.
  template <class Body>
  auto play(Body&& body) -> internal::ValueOf<Body> {
    internal::OneRun<std::remove_reference_t<Body>> once(body);
    perform(once);
    return once.result.take();
  }
  template <class T>
  T play(Task<T> task) {
    internal::TaskRun<T> once(std::move(task));
    perform(once);
    return once.take();
  }

  /// Virtual time that the last play took.
  Duration elapsed() const noexcept { return elapsed_; }

  /// The steps of the last play; none in a world without a seed.
  const Trace& trace() const noexcept { return trace_; }

  /// Lets time pass during a play, as a long computation would.
  void advance(Duration duration) noexcept;

 private:
  void perform(internal::Program& program);

  Options options_;
  bool directed_ = false;
  Seed seed_{0};
  internal::Time* time_ = nullptr;  // while something is played
  Duration elapsed_{};
  Trace trace_;
};

/// Plays a body, or a task, in a world of its own; see World::play.
template <class Body>
decltype(auto) play(Body&& body, const Options& options = Options()) {
  return World(options).play(std::forward<Body>(body));
}
template <class Body>
decltype(auto) play(Body&& body, Seed seed,
                    const Options& options = Options()) {
  return World(seed, options).play(std::forward<Body>(body));
}

// ---------------------------------------------------------------- many runs

/// Runs a copy of `body` for each of `count` seeds.
/// Throws: Failure for the first that fails.
template <class Body>
void for_seeds(std::uint64_t count, Body body,
               const Options& options = Options()) {
  internal::ManyRuns<Body> runs(body);
  internal::for_seeds(count, runs, options);
}

/// Runs a copy of `body` in every order in which the ready jobs can have
/// their steps. Time only passes while none is ready, so a limit never passes
/// in between; and what is possible at once is no point of choice, unless
/// options.budget is 0.
/// Throws: Failure, with the shortest order that fails, and of several the
/// one that is nearest to first in, first out; also if there are more orders
/// than options.runs, unless options.partial. Misuse for a body that is not
/// the same each time.
/// Cost: three jobs that wait twice each have 1680 orders, four have 369 600;
/// an order takes some microseconds.
template <class Body>
Explored explore(Body body, const Options& options = Options()) {
  internal::ManyRuns<Body> runs(body);
  return internal::explore(runs, options);
}

/// Runs a copy of `body` again and again, and kills a job in each run, while
/// the others go on to their end. First in, first out, that is done twice for
/// each wait: once when it has begun, once when it is over and the job is about
/// to go on. Then each of options.seeds other orders has one kill, of any job
/// at any step, drawn by the seed.
/// Throws: Failure, if a run throws anything but Killed, hangs, or leaves
/// something behind.
template <class Body>
KillCounts kill_everywhere(Body body, const Options& options = Options()) {
  internal::ManyRuns<Body> runs(body);
  return internal::kill_everywhere(runs, options);
}

/// The same for a body that takes a State&, which is made anew for each run.
/// `check(state)` is called after each, and throws if something is wrong.
template <class State, class Body, class Check>
KillCounts kill_everywhere(Body body, Check check,
                           const Options& options = Options()) {
  internal::CheckedRuns<State, Body, Check> runs(body, check);
  return internal::kill_everywhere(runs, options);
}

// ---------------------------------------------------------------- in a body

/// The network of the run that is under way, with Options::network.
/// Throws: Misuse without one.
SimNetwork& network();

class [[nodiscard]] AllBlockedEvent final : public Event {
 public:
  AllBlockedEvent() noexcept {}
  AllBlockedEvent(AllBlockedEvent&& other) noexcept : Event(std::move(other)) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override {
    out.text = "all others to be blocked";
  }
  void result() const noexcept {}

 private:
  bool asked_ = false;
  Waiter place_;
};

/// Waits until every other job is parked, no descriptor has news and no timer
/// is due. Time does not jump meanwhile. What the system has still on its way
/// to a descriptor, or another thread to the loop, is not seen. Works in any
/// loop.
/// Suspends: always. Of several jobs that wait so, one goes on at a time.
/// Kill: nothing is lost.
inline AllBlockedEvent wait_all_blocked() noexcept {
  return AllBlockedEvent();
}

}  // namespace violet::testing
