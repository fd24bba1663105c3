// loops.cpp - threads, one loop each.
// SPDX-License-Identifier: MIT
#include "loops.hpp"

#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "signals.hpp"

namespace violet {

namespace internal {

namespace {

/// The loops of one run_loops, and what went wrong first.
class Crew {
 public:
  Crew(RootMaker& maker, bool listen_to_signals) noexcept : maker_(maker) {
    if (listen_to_signals) handlers_.emplace();
  }

  void run(int count) {
    std::vector<std::thread> threads;
    try {
      for (int i = 1; i < count; ++i) {
        threads.emplace_back([this, i] { run_one(i); });
      }
    } catch (...) {
      fail(std::current_exception());
    }
    run_one(0);
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void run_one(int index) noexcept {
    try {
      Loop loop;
      std::optional<SignalListener> listener;
      if (handlers_) listener.emplace(loop);
      if (!join(loop)) return;
      loop.run(maker_.make(index));
    } catch (...) {
      fail(std::current_exception());
    }
  }

  /// Makes a loop known to the others. Returns: false if one has failed.
  bool join(Loop& loop) {
    const std::lock_guard lock(mutex_);
    if (failure_) return false;
    remotes_.push_back(loop.mailbox());
    return true;
  }

  void fail(std::exception_ptr error) noexcept {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = error;
    for (const auto& mailbox : remotes_) {
      Remote(mailbox).post(
          [] { Loop::current().cancel("another loop failed"); });
    }
  }

  RootMaker& maker_;

  // Held for the whole run: a signal may end some loops before others begin.
  std::optional<SignalHandlers> handlers_;

  std::mutex mutex_;  // guards what follows
  std::vector<std::shared_ptr<Mailbox>> remotes_;
  std::exception_ptr failure_;
};

}  // namespace

void run_loops_with(int count, RootMaker& maker, bool listen_to_signals) {
  if (count < 1) {
    throw Misuse(
        concat({"violet: run_loops needs at least one loop, not ", count}));
  }
  Crew(maker, listen_to_signals).run(count);
}

}  // namespace internal

}  // namespace violet
