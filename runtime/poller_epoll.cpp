// poller_epoll.cpp - Linux: epoll(7) and eventfd(2).
//
// Timeouts go through epoll_pwait2(2), which takes nanoseconds, and on
// kernels before 5.11 (or under ThreadSanitizer) through epoll_wait(2) in
// milliseconds rounded up: a truncated timeout would spin through the last
// millisecond.
//
// SPDX-License-Identifier: MIT
#if defined(__linux__) && !defined(VIOLET_KQUEUE)

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "error.hpp"
#include "fd.hpp"
#include "poller.hpp"

namespace violet {

namespace {

constexpr int kEventsPerWait = 256;
constexpr std::uint64_t kWakeToken = ~std::uint64_t{0};

// ThreadSanitizer keeps a signal back until its thread makes a call that it
// knows. It does not know syscall(2): whoever waits in there sleeps on.
#if defined(__SANITIZE_THREAD__)
#define VIOLET_KNOWN_CALLS_ONLY
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VIOLET_KNOWN_CALLS_ONLY
#endif
#endif

std::uint64_t packed(Token token) noexcept {
  return token.index | std::uint64_t{token.generation} << 32;
}

Token unpacked(std::uint64_t data) noexcept {
  return {static_cast<std::uint32_t>(data),
          static_cast<std::uint32_t>(data >> 32)};
}

std::uint32_t interest(std::uint8_t bits) noexcept {
  std::uint32_t events = EPOLLET | EPOLLRDHUP | EPOLLPRI;
  if (bits & kReadable) events |= EPOLLIN;
  if (bits & kWritable) events |= EPOLLOUT;
  return events;
}

std::uint8_t readiness(std::uint32_t events) noexcept {
  static_assert(unsigned{EPOLLIN} == unsigned{kReadable} &&
                unsigned{EPOLLOUT} == unsigned{kWritable});
  constexpr std::uint32_t kEnds = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;
  std::uint32_t bits = events & (EPOLLIN | EPOLLOUT);
  if ((events & kEnds) != 0) [[unlikely]] {
    bits |= kEnded | kReadable;
    // A peer that only stopped sending still reads: RDHUP says nothing about
    // our writes. HUP and ERR end both directions.
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) bits |= kWritable;
  }
  return static_cast<std::uint8_t>(bits);
}

Fd checked(int number, const char* call) {
  if (number < 0) throw_system(errno, call);
  return Fd(number);
}

class EpollPoller final : public Poller {
 public:
  EpollPoller()
      : epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        wake_(checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;  // each write is news: none is read
    event.data.u64 = kWakeToken;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) {
      throw_system(errno, "epoll_ctl eventfd");
    }
  }

  TimePoint now() noexcept override { return Clock::now(); }

  // steady_clock is CLOCK_MONOTONIC; this is what the last tick left of it.
  TimePoint rough_now() noexcept override {
    timespec rough;
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &rough);
    return TimePoint(std::chrono::seconds(rough.tv_sec) +
                     std::chrono::nanoseconds(rough.tv_nsec));
  }

  int add(int fd, Token token, std::uint8_t bits) noexcept override {
    return control(EPOLL_CTL_ADD, fd, token, bits);
  }

  int change(int fd, Token token, std::uint8_t bits) noexcept override {
    return control(EPOLL_CTL_MOD, fd, token, bits);
  }

  void remove(int fd) noexcept override {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }

  std::span<const Ready> wait(TimePoint deadline, bool) noexcept override {
    const int count = sleep_until(deadline);
    if (count < 0 && errno != EINTR) fatal("epoll_wait failed");
    Ready* end = ready_;
    for (int i = 0; i < count; ++i) {
      const std::uint64_t data = events_[i].data.u64;
      if (data == kWakeToken) [[unlikely]] {
        woken_ = true;
      } else {
        *end++ = {unpacked(data), readiness(events_[i].events)};
      }
    }
    return {ready_, end};
  }

  void wake() noexcept override {
    const int saved = errno;  // a signal handler may call this
    const std::uint64_t one = 1;
    // It could only fail with a full counter, which takes 2^64 of these.
    [[maybe_unused]] auto result = ::write(wake_.get(), &one, sizeof one);
    errno = saved;
  }

  int fd() noexcept override { return epoll_.get(); }

 private:
  int control(int operation, int fd, Token token, std::uint8_t bits) noexcept {
    epoll_event event{};
    event.events = interest(bits);
    event.data.u64 = packed(token);
    if (::epoll_ctl(epoll_.get(), operation, fd, &event) == 0) return 0;
    return errno;
  }

  int sleep_until(TimePoint deadline) noexcept {
    if (deadline == kNever) return wait_ms(-1);
    if (deadline == TimePoint::min()) return wait_ms(0);
    const Duration left = time_left(deadline, now());
    if (left == Duration::zero()) return wait_ms(0);
    return wait_for(left);
  }

  int wait_ms(int timeout_ms) noexcept {
    return ::epoll_wait(epoll_.get(), events_, kEventsPerWait, timeout_ms);
  }

  int wait_for(Duration left) noexcept {
    using namespace std::chrono;
#if defined(SYS_epoll_pwait2) && !defined(VIOLET_KNOWN_CALLS_ONLY)
    if (!lacks_pwait2_) {
      const auto whole = duration_cast<seconds>(left);
      struct {  // struct __kernel_timespec: 64 bits on every machine
        std::int64_t seconds;
        std::int64_t nanoseconds;
      } timeout{whole.count(), (left - whole).count()};
      const long count = ::syscall(SYS_epoll_pwait2, epoll_.get(), events_,
                                   kEventsPerWait, &timeout, nullptr, 0);
      if (count >= 0 || errno != ENOSYS) return static_cast<int>(count);
      lacks_pwait2_ = true;
    }
#endif
    const auto rounded = ceil<milliseconds>(left).count();
    return wait_ms(static_cast<int>(std::min<long long>(rounded, INT_MAX)));
  }

  Fd epoll_;
  Fd wake_;
  [[maybe_unused]] bool lacks_pwait2_ = false;

  // What the last wait returned; valid until the next one.
  epoll_event events_[kEventsPerWait];
  Ready ready_[kEventsPerWait];
};

}  // namespace

std::unique_ptr<Poller> make_poller() {
  return std::make_unique<EpollPoller>();
}

}  // namespace violet

#endif  // epoll
