// script.hpp - what the tests of the core write their little programs with.
// SPDX-License-Identifier: MIT
#pragma once

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

#include "../runtime/events.hpp"
#include "../runtime/poller_sim.hpp"
#include "support.hpp"

namespace script {

using namespace violet;
using namespace std::chrono_literals;
using support::contains;
using support::errors_of;
using support::in_child;
using support::make_pipe;
using support::MaybeShortIo;
using support::open_descriptors;
using support::Pair;

/// Virtual time that never hangs: where nothing at all could wake the loop
/// any more, the run is cancelled and `hung` says so.
class Time final : public Poller {
 public:
  TimePoint now() noexcept override { return sim_.now(); }
  int add(int fd, Token token, std::uint8_t bits) noexcept override {
    return sim_.add(fd, token, bits);
  }
  int change(int fd, Token token, std::uint8_t bits) noexcept override {
    return sim_.change(fd, token, bits);
  }
  void remove(int fd) noexcept override { sim_.remove(fd); }
  void closing(int fd) noexcept override { sim_.closing(fd); }
  std::span<const Ready> wait(TimePoint deadline,
                              bool wake_expected) noexcept override {
    if (deadline != kNever || wake_expected || loop == nullptr) {
      return ask(deadline, wake_expected);
    }
    // Nobody else may wake this loop, so what is not there soon never comes.
    const auto news = sim_.look(2s);
    woken_ = sim_.woken() || woken_;
    if (news.empty()) {
      hung = true;
      loop->cancel("this would hang");
    }
    return news;
  }
  void wake() noexcept override { sim_.wake(); }
  int fd() noexcept override { return sim_.fd(); }
  void advance(Duration duration) noexcept { sim_.advance(duration); }

  Loop* loop = nullptr;
  bool hung = false;

 private:
  std::span<const Ready> ask(TimePoint deadline, bool wake_expected) noexcept {
    const auto news = sim_.wait(deadline, wake_expected);
    woken_ = sim_.woken() || woken_;
    return news;
  }

  SimPoller sim_;
};

/// A loop in virtual time.
class World {
 public:
  explicit World(std::uint8_t budget = 32) : loop(options(time, budget)) {
    time.loop = &loop;
  }

  template <class T>
  T run(Task<T> root) {
    return loop.run(std::move(root));
  }

  /// Virtual time since the world began.
  Duration elapsed() { return time.now() - began_; }

  Time time;
  Loop loop;

 private:
  static LoopOptions options(Poller& poller, std::uint8_t budget) {
    LoopOptions result;
    result.poller = &poller;
    result.budget = budget;
    return result;
  }

  TimePoint began_ = time.now();
};

/// Writes a name into a log when it is destroyed, and when it is made.
class Witness {
 public:
  Witness(std::string& log, std::string name)
      : log_(&log), name_(std::move(name)) {
    log_->append("+" + name_ + " ");
  }
  Witness(const Witness&) = delete;
  Witness(Witness&& other) noexcept
      : log_(std::exchange(other.log_, nullptr)),
        name_(std::move(other.name_)) {}
  ~Witness() {
    if (log_ != nullptr) log_->append("-" + name_ + " ");
  }

 private:
  std::string* log_;
  std::string name_;
};

/// Calls a function when it is destroyed.
template <class F>
class AtEnd {
 public:
  explicit AtEnd(F function) : function_(std::move(function)) {}
  AtEnd(const AtEnd&) = delete;
  ~AtEnd() { function_(); }

 private:
  F function_;
};

/// A group as a test needs one: it notes what it is told.
class Nursery final : public Group {
 public:
  Nursery() : Group(Loop::current(), Loop::current().current_job()) {}
  ~Nursery() { dissolve(); }

  template <class F, class... Args>
  auto spawn(F&& function, Args&&... arguments) {
    return internal::spawn_in(*this, {}, std::forward<F>(function),
                              std::forward<Args>(arguments)...);
  }

  std::string failures;
  int left_count = 0;

 private:
  void failed(JobBlock& child) noexcept override {
    failures += child.ending()->text() + ";";
  }
  void left(JobBlock&) noexcept override { ++left_count; }
};

/// Frames in use. Frees what earlier tests left in the pool, which would have
/// to be counted each time.
inline std::size_t live_frames() noexcept {
  frame_pool.release();
  return frame_pool.live();
}

/// What must be as before once a loop is gone.
struct Footprint {
  std::size_t blocks = live_frames();
  std::size_t slots = Slots::here().in_use();
  int claims = Slots::here().waiting();
  int descriptors = open_descriptors();

  bool operator==(const Footprint&) const = default;
};

/// Runs a body in a world of its own and checks that nothing is left.
/// Returns: the virtual time that passed.
template <class Body>
Duration play(Body body, std::uint8_t budget = 32) {
  const Footprint before;
  Duration elapsed{};
  {
    World world(budget);
    world.run(body());
    elapsed = world.elapsed();
    CHECK_FALSE(world.time.hung);
    CHECK(world.loop.timers().empty());
    CHECK(Slots::here().waiting() == before.claims);
  }
  CHECK(Footprint() == before);
  return elapsed;
}

/// What an action throws, as text; "nothing" if it does not.
template <class E, class Action>
std::string thrown(Action action) {
  try {
    action();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing";
}

/// A job that never ends by itself and can be woken by nobody.
inline Task<> forever() {
  co_await stopping();
}

/// Sleeps for so long that only a kill ends it.
inline Task<> long_sleep() {
  co_await violet::sleep(24h * 365);
}

}  // namespace script
