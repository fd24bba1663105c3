// signal_events.hpp - signals as events.
//
//     Signals news({SIGHUP, SIGWINCH});
//     for (;;) {
//       const Signal signal = co_await news.next();
//       if (signal == SIGHUP) reload();
//     }
//
// The idea: the handler counts (signals.hpp), and each Signals remembers how
// far it has come. So each of them, in one loop or on several threads, hears
// every signal, also those that came while nobody waited; and a wait that is
// killed has consumed nothing.
//
// The kernel keeps one pending signal of a kind: of several that are sent in
// the same moment, some may become one. After the last of them at least one
// delivery follows, and one of each kind.
//
// A Signals for SIGINT, SIGTERM or SIGUSR1 takes it over from run_program
// while it lives: the signal asks nobody to stop any more, and dumps nothing.
//
// Built on: signals.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "signals.hpp"

namespace violet {

class Signals;

/// A signal that has come.
class Signal {
 public:
  Signal() noexcept {}
  Signal(int number, std::uint32_t times) noexcept
      : number_(number), times_(times) {}

  int number() const noexcept { return number_; }
  operator int() const noexcept { return number_; }

  /// How many were delivered since the last that was told.
  std::uint32_t times() const noexcept { return times_; }

 private:
  int number_ = 0;
  std::uint32_t times_ = 0;
};

class [[nodiscard]] SignalEvent final : public Event,
                                        public Link<SignalEvent>,
                                        private WakeHearer {
 public:
  explicit SignalEvent(Signals& signals) noexcept
      : WakeHearer(come, is_awaited), signals_(&signals) {}
  SignalEvent(SignalEvent&& other) noexcept
      : Event(std::move(other)),
        WakeHearer(come, is_awaited),
        signals_(other.signals_) {}

  bool attempt() noexcept override;
  void stand_by() noexcept;
  void undo() noexcept override;
  void describe(Description& out) const override;
  int error() const noexcept { return error_; }
  Signal result() const;

 private:
  friend class Signals;

  static void come(WakeHearer& self) noexcept;
  static bool is_awaited(WakeHearer&) noexcept { return true; }
  bool wait() noexcept;
  void stop() noexcept;
  bool waits() const noexcept { return Link<SignalEvent>::in_list(); }

  Signals* signals_;  // null once it is gone
  Signal got_;
};

/// Listens to some signals while it lives. Belongs to one thread.
///
/// What handled them before is restored when the last of all that listen to
/// a signal goes.
class Signals {
 public:
  /// Throws: Misuse for none, for SIGKILL and SIGSTOP, which nobody can catch,
  /// for SIGPIPE and SIGXFSZ, which are ignored, and for those that tell of an
  /// error in the program itself, such as SIGSEGV.
  explicit Signals(std::initializer_list<int> numbers);
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  /// A job that waits is woken and throws Misuse.
  ~Signals();

  /// Waits for the next of the signals.
  /// Suspends: unless one has come since the last that was told.
  /// Returns: the signal. Of different ones that came meanwhile each is
  /// returned once, in turn; of several jobs that wait, each gets another.
  /// Throws: Misuse if this is destroyed meanwhile, or beyond 256 loops.
  /// Kill: no signal is lost.
  SignalEvent next() noexcept { return SignalEvent(*this); }

 private:
  friend class SignalEvent;

  struct Heard {
    int number;
    std::uint32_t arrivals;  // that have been told
  };

  void listen_to(int number);
  void leave_all() noexcept;
  bool has_news() const noexcept;
  bool take(Signal& signal) noexcept;
  bool is_next(const SignalEvent& event) const noexcept;
  void wake_next() noexcept;
  std::string names() const;

  std::vector<Heard> heard_;
  std::size_t next_ = 0;  // who is asked first: nobody crowds out another
  List<SignalEvent, SignalEvent> waiting_;  // first in, first served
};

}  // namespace violet
