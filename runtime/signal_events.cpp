// signal_events.cpp - who is told of which signal.
// SPDX-License-Identifier: MIT
#include "signal_events.hpp"

#include <signal.h>

#include <algorithm>

namespace violet {

namespace {

/// Why a program cannot listen to a signal; null if it can.
const char* objection_to(int number) noexcept {
  switch (number) {
    case SIGKILL:
    case SIGSTOP: return ": nobody can catch it";
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT:
      return ": it tells of an error in the program itself, which cannot go "
             "on; use sigaction(2)";
    case SIGPIPE:
      return ": a loop ignores it; the write tells broken_pipe instead";
    case SIGXFSZ:
      return ": a loop ignores it; the write tells file_too_large instead";
    default: return nullptr;
  }
}

[[noreturn, gnu::cold]] void refuse(int number, const char* why) {
  throw_error(Misuse(
      concat({"violet: Signals cannot have ", signal_name(number), why})));
}

}  // namespace

// ------------------------------------------------------------------ one wait

bool SignalEvent::attempt() noexcept {
  if (signals_ == nullptr) return true;
  if (signals_->is_next(*this) && signals_->take(got_)) {
    stop();
    return true;
  }
  return waits() ? false : wait();
}

void SignalEvent::stand_by() noexcept {
  if (signals_ == nullptr || waits()) return;
  if (!internal::begin_hearing(loop_of(*job()), *this)) return;
  signals_->waiting_.push_back(*this);
}

/// Stands in the line. A signal that came before its loop listened would wake
/// nobody, so it is asked for once more.
bool SignalEvent::wait() noexcept {
  if (!internal::begin_hearing(loop_of(*job()), *this)) {
    error_ = ENOSPC;
    return true;
  }
  signals_->waiting_.push_back(*this);
  if (!signals_->is_next(*this) || !signals_->take(got_)) return false;
  stop();
  return true;
}

/// Leaves the line. The next in it may have something to get already.
void SignalEvent::stop() noexcept {
  if (!waits()) return;
  signals_->waiting_.remove(*this);
  internal::stop_hearing(loop_of(*job()), *this);
  signals_->wake_next();
}

void SignalEvent::undo() noexcept {
  stop();
}

void SignalEvent::come(WakeHearer& self) noexcept {
  static_cast<SignalEvent&>(self).signals_->wake_next();
}

void SignalEvent::describe(Description& out) const {
  out.text = signals_ == nullptr ? "signal, gone" : signals_->names();
}

Signal SignalEvent::result() const {
  if (signals_ == nullptr) {
    throw_error(
        Misuse("violet: the Signals is gone: it was destroyed while this job "
               "waited; let it outlive the jobs that use it"));
  }
  if (error_ != 0) {
    throw_error(Misuse("violet: more than 256 loops listen to signals"));
  }
  return got_;
}

// -------------------------------------------------------------- who listens

Signals::Signals(std::initializer_list<int> numbers) {
  if (numbers.size() == 0) {
    throw_error(Misuse("violet: Signals of no signal would wait for ever"));
  }
  for (const int number : numbers) {
    if (const char* why = objection_to(number)) refuse(number, why);
  }
  heard_.reserve(numbers.size());
  for (const int number : numbers) listen_to(number);
}

void Signals::listen_to(int number) {
  const bool known =
      std::any_of(heard_.begin(), heard_.end(),
                  [=](const Heard& heard) { return heard.number == number; });
  if (known) return;
  if (internal::take_signal(number) != 0) {
    leave_all();
    refuse(number, ": there is no such signal");
  }
  heard_.push_back({number, internal::arrivals(number)});
}

void Signals::leave_all() noexcept {
  for (const Heard& heard : heard_) internal::leave_signal(heard.number);
  heard_.clear();
}

Signals::~Signals() {
  while (!waiting_.empty()) {
    SignalEvent& event = waiting_.pop_front();
    internal::stop_hearing(loop_of(*event.job()), event);
    event.signals_ = nullptr;
    wake(*event.job());
  }
  leave_all();
}

bool Signals::has_news() const noexcept {
  return std::any_of(heard_.begin(), heard_.end(), [](const Heard& heard) {
    return internal::arrivals(heard.number) != heard.arrivals;
  });
}

bool Signals::take(Signal& signal) noexcept {
  for (std::size_t i = 0; i < heard_.size(); ++i) {
    Heard& heard = heard_[(next_ + i) % heard_.size()];
    const std::uint32_t now = internal::arrivals(heard.number);
    const std::uint32_t times = now - heard.arrivals;
    if (times == 0) continue;
    heard.arrivals = now;
    next_ = (next_ + i + 1) % heard_.size();
    signal = Signal(heard.number, times);
    return true;
  }
  return false;
}

bool Signals::is_next(const SignalEvent& event) const noexcept {
  return waiting_.empty() || &waiting_.front() == &event;
}

void Signals::wake_next() noexcept {
  if (!waiting_.empty() && has_news()) wake(*waiting_.front().job());
}

std::string Signals::names() const {
  std::string text = "signal";
  for (const Heard& heard : heard_) {
    text += concat(
        {&heard == &heard_.front() ? " " : " or ", signal_name(heard.number)});
  }
  return text;
}

}  // namespace violet
