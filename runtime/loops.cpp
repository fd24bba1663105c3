// loops.cpp - threads, one loop each.
// SPDX-License-Identifier: MIT
#include "loops.hpp"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "signals.hpp"

namespace violet {

namespace internal {

namespace {

/// The loops of one run_loops, and what went wrong first.
class Crew {
 public:
  Crew(RootMaker& maker, std::string& killed, bool listen_to_signals) noexcept
      : maker_(maker), killed_(killed) {
    if (listen_to_signals) handlers_.emplace();
  }

  void run(int count) {
    missing_ = count;
    std::vector<std::thread> threads;
    const auto error = caught([&] {
      for (int i = 1; i < count; ++i) start(threads, i);
    });
    if (error) fail(error);
    run_one(0);
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void start(std::vector<std::thread>& threads, int index) {
    const auto error = caught(
        [&] { threads.emplace_back([this, index] { run_one(index); }); });
    if (!error) return;
    const auto* refused = exception_as<std::system_error>(error);
    if (refused == nullptr) std::rethrow_exception(error);
    throw_system(refused->code().value(),
                 concat({"start a thread for loop ", index}));
  }

  void run_one(int index) noexcept {
    std::string killed;
    const auto error = caught([&] {
      Loop loop;
      std::optional<SignalListener> listener;
      if (handlers_) listener.emplace(loop);
      if (join(loop)) loop.run_killable(maker_.make(index), killed);
    });
    if (error || !killed.empty()) fail(error, std::move(killed));
  }

  /// Waits until all loops are there: what one takes as it runs, descriptors
  /// above all, another may still need. Returns: false if one has failed.
  bool join(Loop& loop) {
    std::unique_lock lock(mutex_);
    mailboxes_.push_back(loop.mailbox());
    --missing_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return missing_ == 0 || failed_; });
    return !failed_;
  }

  /// The first failure ends the others, and their ends are no news.
  void fail(const std::exception_ptr& error,
            std::string&& killed = {}) noexcept {
    const std::lock_guard lock(mutex_);
    if (failed_) return tell(error);
    failed_ = true;
    failure_ = error;
    killed_ = std::move(killed);
    changed_.notify_all();
    for (const auto& mailbox : mailboxes_) {
      Remote(mailbox).post(
          [] { Loop::current().cancel("another loop failed"); });
    }
  }

  static void tell(const std::exception_ptr& error) noexcept {
    if (!error || exception_as<Killed>(error)) return;
    complain_with(
        [&] { return concat({"another loop failed, too: ", text_of(error)}); });
  }

  RootMaker& maker_;

  // Held for the whole run: a signal may end some loops before others begin.
  std::optional<SignalHandlers> handlers_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  int missing_ = 0;  // loops that have not begun yet
  std::vector<std::shared_ptr<Mailbox>> mailboxes_;
  bool failed_ = false;  // and then one of these says how
  std::exception_ptr failure_;
  std::string& killed_;
};

}  // namespace

void run_loops_with(int count, RootMaker& maker, std::string& killed,
                    bool listen_to_signals) {
  if (count < 1) {
    throw_error(Misuse(
        concat({"violet: run_loops needs at least one loop, not ", count})));
  }
  Crew(maker, killed, listen_to_signals).run(count);
}

}  // namespace internal

}  // namespace violet
