// poller_kqueue.cpp - BSD and macOS: kqueue(2), and a pair of sockets to wake.
//
// A descriptor has two filters, one for each direction, and both report edges
// (EV_CLEAR). What add() and change() ask for is handed over together with
// the next wait, so that it costs no call of its own. The kernel forgets a
// descriptor when it is closed; changes that still lie here are dropped by
// closing(), before they could hit the next descriptor of that number.
//
// kqueue says nothing about urgent bytes. They end a read early, so whoever
// sends one makes its own stream wait until more arrives.
//
// On Linux this file is built with POLLER=kqueue, over libkqueue, to be tested
// there.
// SPDX-License-Identifier: MIT
#if !defined(__linux__) || defined(VIOLET_KQUEUE)

#include <fcntl.h>
#include <sys/types.h>

#include <sys/event.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "error.hpp"
#include "fd.hpp"
#include "poller.hpp"

namespace violet {

namespace {

using Change = struct kevent;

#ifdef __NetBSD__
using Count = std::size_t;
#else
using Count = int;
#endif

constexpr Count kEventsPerWait = 256;
constexpr Count kMostChanges = kEventsPerWait + 16;  // some room for repairs
constexpr Duration kLongestWait =
    std::chrono::hours(24);  // some kernels' limit

/// Returns: 0 or an error number; EPERM for what is always ready.
int refusal(int fd, bool& is_device) noexcept {
  struct stat status;
  if (::fstat(fd, &status) != 0) return errno;
  // What has no type, such as eventfd(2)'s, is as uncertain as a device.
  is_device = S_ISCHR(status.st_mode) || (status.st_mode & S_IFMT) == 0;
  const bool waits =
      is_device || S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode);
  return waits ? 0 : EPERM;
}

// Filters are unsigned on NetBSD.
template <class Filter>
Change change_of(int fd, Filter filter, int flags) noexcept {
  Change change{};
  change.ident = static_cast<decltype(change.ident)>(fd);
  change.filter = static_cast<decltype(change.filter)>(filter);
  change.flags = static_cast<decltype(change.flags)>(flags);
  return change;
}

std::uint8_t readiness(const Change& event) noexcept {
  const bool reads = event.filter == EVFILT_READ;
  unsigned bits = reads ? kReadable : kWritable;
  if ((event.flags & EV_EOF) != 0) {
    bits |= kEnded;
    // A peer that only stopped sending still reads. An error ends both.
    if (event.fflags != 0) bits |= kReadable | kWritable;
  }
  return static_cast<std::uint8_t>(bits);
}

/// What announces a filter's edges from now on.
template <class Filter>
Change edges_of(int fd, Filter filter) noexcept {
  return change_of(fd, filter, EV_ADD | EV_CLEAR);
}

class KqueuePoller final : public Poller {
 public:
  KqueuePoller() : queue_(::kqueue()) {
    if (!queue_) throw_system(errno, "kqueue");
    ::fcntl(queue_.get(), F_SETFD, FD_CLOEXEC);
    int ends[2];
    const int made = sys::kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    if (made < 0) throw_system(-made, "socketpair");
    wake_out_.reset(ends[0]);
    wake_in_.reset(ends[1]);
    const int error = submit(change_of(ends[0], EVFILT_READ, EV_ADD));
    if (error != 0) throw_system(error, "kevent");
  }

  TimePoint now() noexcept override { return Clock::now(); }

  int add(int fd, Token token, std::uint8_t bits) noexcept override {
    bool is_device = false;
    const int error = refusal(fd, is_device);
    if (error != 0) return error;
    if (!has_room_for(fd)) return ENOMEM;
    if (watch_of(fd).bits != 0) return EEXIST;
    return watch(fd, token, bits, is_device);
  }

  // What is asked for anew is announced anew.
  int change(int fd, Token token, std::uint8_t bits) noexcept override {
    if (fd < 0) return EBADF;
    if (!is_watched(fd)) return ENOENT;
    const Watch before = watch_of(fd);
    unwatch(fd);
    const int error = watch(fd, token, bits, false);
    if (error != 0) try_again(fd, before);
    return error;
  }

  void remove(int fd) noexcept override {
    if (is_watched(fd)) unwatch(fd);
  }

  void closing(int fd) noexcept override {
    if (!is_watched(fd)) return;
#ifdef __linux__
    unwatch(fd);  // libkqueue does not learn of a close
#else
    drop_changes(fd);
    watch_of(fd).bits = 0;
#endif
  }

  std::span<const Ready> wait(TimePoint deadline, bool) noexcept override {
    const int count = sleep_until(deadline);
    if (count < 0 && errno != EINTR) fatal("kevent failed");
    Ready* end = ready_;
    for (int i = 0; i < count; ++i) end = translate(events_[i], end);
    return {ready_, end};
  }

  void wake() noexcept override {
    const int saved = errno;  // a signal handler may call this
    // It can only fail because the buffer is full: then it wakes anyway.
    [[maybe_unused]] auto result = ::write(wake_in_.get(), "", 1);
    errno = saved;
  }

  // From now on somebody else waits, so that nothing may be kept back.
  int fd() noexcept override {
    at_once_ = true;
    const auto end = std::remove_if(
        changes_, changes_ + changes_count_,
        [this](const Change& change) { return submit(change) == 0; });
    changes_count_ = static_cast<Count>(end - changes_);
    if (changes_count_ > 0) wake();  // what is refused, the next wait tells
    return queue_.get();
  }

 private:
  /// What the kernel watches of a descriptor, or will from the next wait on.
  struct Watch {
    Token token;
    std::uint8_t bits;  // 0 if it is not watched
  };

  Watch& watch_of(int fd) noexcept {
    return watches_[static_cast<std::size_t>(fd)];
  }

  bool is_watched(int fd) noexcept {
    return fd >= 0 && static_cast<std::size_t>(fd) < watches_.size() &&
           watch_of(fd).bits != 0;
  }

  bool has_room_for(int fd) noexcept {
    const auto number = static_cast<std::size_t>(fd);
    if (number < watches_.size()) return true;
    return has_memory_for(
        [&] { watches_.resize(std::max(number + 1, watches_.size() * 2)); });
  }

  int watch(int fd, Token token, std::uint8_t bits, bool now) noexcept {
    watch_of(fd) = {token, bits};
    int error = 0;
    // In this order, since libkqueue forgets the end of the stream in the
    // other.
    if (bits & kWritable) error = ask(fd, EVFILT_WRITE, now);
    if (error == 0 && (bits & kReadable)) error = ask(fd, EVFILT_READ, now);
    if (error != 0) unwatch(fd);
    // Of devices, some have nothing to wait for, each system in its own words.
    const bool told = error == 0 || error == ENOMEM || error == EBADF;
    return told ? error : EPERM;
  }

  /// What was watched before a change failed: the next wait watches it, or
  /// tells who waits for it that it does not.
  void try_again(int fd, const Watch& before) noexcept {
    watch_of(fd) = before;
    for (const auto filter : {EVFILT_WRITE, EVFILT_READ}) {
      const unsigned bit = filter == EVFILT_READ ? kReadable : kWritable;
      if ((before.bits & bit) == 0 || changes_count_ == kMostChanges) continue;
      changes_[changes_count_++] = edges_of(fd, filter);
    }
    wake();
  }

  void unwatch(int fd) noexcept {
    drop_changes(fd);
    submit(change_of(fd, EVFILT_READ, EV_DELETE));
    submit(change_of(fd, EVFILT_WRITE, EV_DELETE));
    watch_of(fd).bits = 0;
  }

  template <class Filter>
  int ask(int fd, Filter filter, bool now) noexcept {
    const Change change = edges_of(fd, filter);
    if (now || at_once_ || changes_count_ >= kEventsPerWait) {
      return submit(change);
    }
    changes_[changes_count_++] = change;
    return 0;
  }

  void drop_changes(int fd) noexcept {
    const auto end = std::remove_if(
        changes_, changes_ + changes_count_, [=](const Change& change) {
          return static_cast<int>(change.ident) == fd;
        });
    changes_count_ = static_cast<Count>(end - changes_);
  }

  int submit(const Change& change) noexcept {
    const int result = ::kevent(queue_.get(), &change, 1, nullptr, 0, nullptr);
    return result < 0 ? errno : 0;
  }

  int sleep_until(TimePoint deadline) noexcept {
    if (deadline == kNever) return exchange(nullptr);
    using namespace std::chrono;
    Duration left{};
    if (deadline != TimePoint::min()) left = time_left(deadline, now());
    left = std::min(left, kLongestWait);
    const auto whole = duration_cast<seconds>(left);
    timespec timeout{};
    timeout.tv_sec = static_cast<decltype(timeout.tv_sec)>(whole.count());
    timeout.tv_nsec =
        static_cast<decltype(timeout.tv_nsec)>((left - whole).count());
    return exchange(&timeout);
  }

  /// Hands the changes over, and takes the news.
  int exchange(const timespec* timeout) noexcept {
    return ::kevent(queue_.get(), changes_, std::exchange(changes_count_, 0),
                    events_, kEventsPerWait, timeout);
  }

  Ready* translate(const Change& event, Ready* end) noexcept {
    const int fd = static_cast<int>(event.ident);
    if (fd == wake_out_.get()) {
      swallow_wake();
    } else if (is_watched(fd)) {
      Watch& watch = watch_of(fd);
      unsigned bits = readiness(event);
      if ((event.flags & EV_ERROR) != 0) bits = refused(watch);
      *end++ = {watch.token, static_cast<std::uint8_t>(bits)};
    }
    return end;
  }

  /// A change was refused, too late to say so: whoever waits asks again, and
  /// is answered at once from now on.
  unsigned refused(Watch& watch) noexcept {
    at_once_ = true;
    return std::exchange(watch.bits, std::uint8_t{0}) | kRefused;
  }

  void swallow_wake() noexcept {
    char bytes[256];
    while (::read(wake_out_.get(), bytes, sizeof bytes) == sizeof bytes) {
    }
    woken_ = true;
  }

  Fd queue_;
  Fd wake_out_;
  Fd wake_in_;
  bool at_once_ = false;  // changes do not wait for the next wait()

  std::vector<Watch> watches_;  // by number
  Count changes_count_ = 0;
  Change changes_[kMostChanges];  // to be handed over

  // What the last wait returned; valid until the next one.
  Change events_[kEventsPerWait];
  Ready ready_[kEventsPerWait];
};

}  // namespace

std::unique_ptr<Poller> make_poller() {
  return std::make_unique<KqueuePoller>();
}

}  // namespace violet

#endif  // kqueue
