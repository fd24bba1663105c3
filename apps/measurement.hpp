// measurement.hpp - what is due when, how long it took, and how to tell.
//
// With a rate each message has a moment at which it is due, and its time
// counts from there even if it could not be sent then: a server that stalls
// cannot hide the messages that it kept from being sent (coordinated
// omission).
// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "../net/net.hpp"
#include "histogram.hpp"

/// What every kind of load has.
struct LoadSettings {
  std::string target;
  std::size_t connections = 1;
  violet::Duration time = violet::Duration::max();
  std::uint64_t rate = 0;      // messages a second in all; 0: no limit
  std::uint64_t messages = 0;  // so many in all; 0: no limit
  bool json = false;
};

/// One measurement, and what its connections have in common.
class Measurement {
 public:
  using Duration = violet::Duration;
  using TimePoint = violet::TimePoint;
  using Clock = violet::Clock;

  explicit Measurement(const LoadSettings& settings) : settings_(settings) {}

  /// All clients are connected: from now on time counts.
  void begin() {
    last_ = start_ = Clock::now();
    if (settings_.time == Duration::max()) return;
    end_ = start_ + settings_.time;
    patience_.move_to(end_ + kPatience);
  }

  /// When message `number` of all is to be sent: now, or as the rate wants it.
  TimePoint due(std::uint64_t number) const {
    if (settings_.rate == 0) return Clock::now();
    const std::chrono::duration<double> after(
        static_cast<double>(number) / static_cast<double>(settings_.rate));
    return start_ + std::chrono::duration_cast<Duration>(after);
  }

  /// True if a message that is due then is not sent any more. One that is
  /// late, but was due in time, is.
  bool over(std::uint64_t number, TimePoint due) const {
    return stopped_.is_set() || due >= end_ ||
           (settings_.messages > 0 && number >= settings_.messages);
  }
  Duration left() const {
    return end_ == TimePoint::max() ? Duration::max() : end_ - Clock::now();
  }
  void stop() {
    stopped_.set();
    patience_.move_to(std::min(patience_.moment(), Clock::now() + kPatience));
  }
  auto stopped() { return stopped_.wait(); }

  /// Until when the last answers are waited for.
  violet::Deadline& patience() { return patience_; }

  void answered(TimePoint begun, TimePoint now) {
    times_.add(now - begun);
    last_ = now;
  }

  /// Something did not go as it should. `what` it was; the first tells enough.
  void failed(const char* what, const std::exception_ptr& error) {
    last_ = Clock::now();
    if (failures_++ > 0) return;
    violet::complain(
        violet::concat({what, " failed: ", violet::text_of(error)}));
  }

  const Histogram& times() const { return times_; }
  std::size_t failures() const { return failures_; }

  /// To the last answer or failure; all of the time, if that was to pass.
  Duration took() const {
    const bool all = settings_.time != Duration::max() &&
                     settings_.messages == 0 && !stopped_.is_set();
    return (all ? std::max(last_, end_) : last_) - start_;
  }
  double seconds() const {
    return std::chrono::duration<double>(took()).count();
  }

  /// How much of `count` there was in a second.
  double per_second(double count) const {
    return seconds() > 0 ? count / seconds() : 0;
  }

 private:
  static constexpr Duration kPatience = std::chrono::seconds(5);

  const LoadSettings& settings_;
  TimePoint start_;
  TimePoint end_ = TimePoint::max();
  violet::Deadline patience_{TimePoint::max()};
  TimePoint last_;  // answer or failure
  violet::Flag stopped_;
  Histogram times_;
  std::size_t failures_ = 0;
};

// ------------------------------------------------------------------- reporting

inline std::string number_text(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

inline std::string microseconds_text(violet::Duration time, int digits = 1) {
  return number_text(std::chrono::duration<double, std::micro>(time).count(),
                     digits);
}

/// "latency    min 21.4, p50 30.2, p99 51.7, p99.9 80.1, max 212.0 us"
inline std::string latency_text(const Histogram& times) {
  const auto us = [](violet::Duration time) { return microseconds_text(time); };
  return violet::concat(
      {"latency    min ", us(times.least()), ", p50 ", us(times.percentile(50)),
       ", p99 ", us(times.percentile(99)), ", p99.9 ",
       us(times.percentile(99.9)), ", max ", us(times.most()), " us"});
}

/// The same as a member of a JSON object.
inline std::string latency_json(const Histogram& times) {
  const auto us = [](violet::Duration time) { return microseconds_text(time); };
  return violet::concat({"\"latency_us\": {\"min\": ", us(times.least()),
                         ", \"p50\": ", us(times.percentile(50)),
                         ", \"p99\": ", us(times.percentile(99)),
                         ", \"p99.9\": ", us(times.percentile(99.9)),
                         ", \"max\": ", us(times.most()), "}"});
}

/// What runs beside a measurement: a signal ends it early, and on a terminal a
/// line tells how it goes on.
class Beside {
 public:
  Beside(Measurement& all, const char* messages) : live_(::isatty(2) == 1) {
    group_.spawn(stop_early, std::ref(all));
    if (live_) group_.spawn(tell_progress, std::cref(all), messages);
  }
  Beside(const Beside&) = delete;
  ~Beside() {
    if (live_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  static violet::Task<> stop_early(Measurement& all) {
    co_await violet::stopping();
    all.stop();
  }

  static violet::Task<> tell_progress(const Measurement& all,
                                      const char* messages) {
    for (std::uint64_t before = 0;;) {
      co_await violet::sleep(std::chrono::seconds(1));
      const std::uint64_t count = all.times().count();
      std::fprintf(stderr, "\r%s %s/s, p99 %s us \033[K",
                   number_text(static_cast<double>(count - before), 0).c_str(),
                   messages,
                   microseconds_text(all.times().percentile(99), 0).c_str());
      before = count;
    }
  }

  bool live_;
  violet::TaskGroup group_;
};
