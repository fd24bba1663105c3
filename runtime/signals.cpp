// signals.cpp - from the handler to the loop.
// SPDX-License-Identifier: MIT
#include "signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

namespace violet {

namespace {

constexpr std::size_t kMostLoops = 256;

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1,
#ifdef SIGINFO
                            SIGINFO
#endif
};

// What the handler and the loops share. All of it is lock-free.
std::array<std::atomic<Poller*>, kMostLoops> pollers;  // of listening loops
std::atomic<int> handlers_running = 0;
std::atomic<int> requests = 0;  // SIGINT and SIGTERM so far
std::atomic<int> dumps = 0;     // SIGUSR1 and SIGINFO so far
std::atomic<int> last_request = 0;
std::atomic<int> unwinds = 0;

// What else the loops share, and the actions that the handlers replaced.
std::mutex mutex;
int handlers_wanted = 0;
struct sigaction before[std::size(kSignals)];
struct sigaction alarm_before;  // of SIGALRM; set by the second request

thread_local SignalListener* listener_here = nullptr;

void on_alarm(int) {
  ::_exit(128 + last_request.load());
}

void on_signal(int number) {
  handlers_running.fetch_add(1);
  if (number == SIGINT || number == SIGTERM) {
    last_request.store(number);
    if (requests.fetch_add(1) == 1) {
      // Whatever hangs has one more second.
      struct sigaction exits{};
      exits.sa_handler = on_alarm;
      ::sigaction(SIGALRM, &exits, &alarm_before);
      ::alarm(1);
    }
  } else {
    dumps.fetch_add(1);
  }
  for (auto& poller : pollers) {
    if (Poller* listening = poller.load()) listening->wake();
  }
  handlers_running.fetch_sub(1);
}

void install_handlers() noexcept {
  requests = dumps = last_request = unwinds = 0;
  struct sigaction wanted{};
  wanted.sa_handler = on_signal;
  wanted.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    ::sigaction(kSignals[i], &wanted, &before[i]);
  }
}

void restore_handlers() noexcept {
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    ::sigaction(kSignals[i], &before[i], nullptr);
  }
  if (requests.load() < 2) return;
  ::alarm(0);
  ::sigaction(SIGALRM, &alarm_before, nullptr);
}

}  // namespace

SignalHandlers::SignalHandlers() noexcept {
  const std::lock_guard lock(mutex);
  if (handlers_wanted++ == 0) install_handlers();
}

SignalHandlers::~SignalHandlers() {
  const std::lock_guard lock(mutex);
  if (--handlers_wanted == 0) restore_handlers();
}

SignalListener::SignalListener(Loop& loop) : loop_(loop) {
  if (listener_here != nullptr) {
    throw_error(
        Misuse("violet: a loop of this thread listens to signals already; "
               "run_program() is not called inside itself"));
  }
  const std::lock_guard lock(mutex);
  while (place_ < kMostLoops && pollers[place_].load() != nullptr) ++place_;
  if (place_ == kMostLoops) {
    throw_error(Misuse("violet: more than 256 loops listen to signals"));
  }
  pollers[place_].store(&loop.poller());
  listener_here = this;
  loop_.set_wake_hook(act);
  // What came while this loop was being made is meant for it, too.
  if (requests.load() + dumps.load() != 0) loop.poller().wake();
}

// A handler on another thread may hold our poller: it is waited for. One on
// this thread has ended before we get here.
SignalListener::~SignalListener() {
  const std::lock_guard lock(mutex);
  loop_.set_wake_hook(nullptr);
  listener_here = nullptr;
  pollers[place_].store(nullptr);
  while (handlers_running.load() != 0) {
  }
}

void SignalListener::act(Loop& loop) noexcept {
  SignalListener& self = *listener_here;
  const int wanted = dumps.load();
  if (wanted != std::exchange(self.dumps_seen_, wanted)) {
    complain_with([&] { return loop.dump(); });
  }
  const int asked = requests.load();
  if (asked == std::exchange(self.requests_seen_, asked)) return;
  if (asked == 1 && loop.stop_is_heard()) return loop.stop();
  unwinds.store(last_request.load());
  loop.cancel(last_request.load() == SIGINT ? "SIGINT" : "SIGTERM", asked > 1);
}

int unwinding_signal() noexcept {
  return unwinds.load();
}

}  // namespace violet
