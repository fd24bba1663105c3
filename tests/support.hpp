// support.hpp - what several test files share.
//
// Virtual time, a gate to wait at, counters for objects, descriptors and
// pollers, and the kernel's stand-ins that the seam (runtime/sys.hpp) takes.
//
// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__) && defined(VIOLET_KQUEUE)
#include <sys/event.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/poller_sim.hpp"
#include "../runtime/within.hpp"

namespace support {

// ------------------------------------------------------------------- objects

/// Counts its living objects, so that a test can tell that destructors ran.
/// It owns heap memory: AddressSanitizer sees one destroyed twice or never.
class Tracked {
 public:
  Tracked() : Tracked(0) {}
  explicit Tracked(int value) : value_(new int(value)) { ++alive_; }
  Tracked(const Tracked& other) : Tracked(*other.value_) { ++copies_; }
  Tracked(Tracked&& other) noexcept
      : value_(std::exchange(other.value_, nullptr)) {
    ++alive_;
  }
  Tracked& operator=(Tracked other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Tracked() {
    --alive_;
    delete value_;
  }

  /// The value; -1 for one that was moved from.
  int value() const noexcept { return value_ == nullptr ? -1 : *value_; }

  static int alive() noexcept { return alive_; }
  static int copies() noexcept { return copies_; }

 private:
  int* value_;
  static inline thread_local int alive_ = 0;
  static inline thread_local int copies_ = 0;
};

/// The order in which things happened.
using Order = std::vector<std::string>;

/// Notes its end in an Order.
class Noted {
 public:
  Noted(Order& order, std::string name) noexcept
      : order_(&order), name_(std::move(name)) {}
  Noted(Noted&& other) noexcept
      : order_(std::exchange(other.order_, nullptr)),
        name_(std::move(other.name_)) {}
  Noted(const Noted&) = delete;
  Noted& operator=(const Noted&) = delete;
  ~Noted() {
    if (order_ != nullptr) order_->push_back(name_);
  }

 private:
  Order* order_;
  std::string name_;
};

/// What the system calls an error number; each C library has its own words.
inline std::string text_of_error(int error) {
  return std::system_category().message(error);
}

// --------------------------------------------------------------- descriptors

#if defined(__linux__) && defined(VIOLET_KQUEUE)
/// libkqueue opens and closes its own behind our back, see libkqueue/close.c:
/// sockets once, for as long as there is a kqueue, and the rest for each.
inline void keep_libkqueue_up() {
  static pid_t process = 0;  // a fork has none of its parent's
  if (std::exchange(process, ::getpid()) != ::getpid()) ::kqueue();
}

inline bool is_of_libkqueue(int fd) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  char name[16] = {};
  if (::readlink(link.c_str(), name, sizeof name - 1) < 0) return true;
  return std::string_view(name).starts_with("anon_inode") ||
         std::string_view(name).starts_with("pipe:");
}
#else
inline void keep_libkqueue_up() {}
inline bool is_of_libkqueue(int) {
  return false;
}
#endif

/// How many descriptors this process has open. One call of poll(2) for all:
/// tests that kill everywhere ask thousands of times.
inline int open_descriptors() {
  keep_libkqueue_up();
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  std::vector<pollfd> all(std::min<std::size_t>(limit.rlim_cur, 4096));
  for (std::size_t i = 0; i < all.size(); ++i) all[i].fd = static_cast<int>(i);
  ::poll(all.data(), static_cast<nfds_t>(all.size()), 0);
  const auto is_open = [](const pollfd& one) {
    return (one.revents & POLLNVAL) == 0 && !is_of_libkqueue(one.fd);
  };
  return static_cast<int>(std::count_if(all.begin(), all.end(), is_open));
}

inline bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

/// Two ends that are connected: of a pipe, [0] reads and [1] writes.
using Pair = std::array<violet::Fd, 2>;

inline Pair pair_of(const int (&fds)[2]) {
  return {violet::Fd(fds[0]), violet::Fd(fds[1])};
}

inline Pair make_pipe(int flags = O_CLOEXEC | O_NONBLOCK) {
  int fds[2];
  if (::pipe2(fds, flags) != 0) violet::throw_system(errno, "pipe2");
  return pair_of(fds);
}

/// A pair of connected unix sockets.
inline Pair make_socketpair(int type = SOCK_STREAM) {
  int fds[2];
  type |= SOCK_CLOEXEC | SOCK_NONBLOCK;
  if (::socketpair(AF_UNIX, type, 0, fds) != 0) {
    violet::throw_system(errno, "socketpair");
  }
  return pair_of(fds);
}

/// A pair of TCP sockets that are connected by the loopback.
inline Pair make_tcp_pair() {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&name);
  socklen_t size = sizeof name;
  const violet::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  violet::Fd near(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(listener.get(), address, size) != 0 ||
      ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), address, &size) != 0 ||
      ::connect(near.get(), address, size) != 0) {
    violet::throw_system(errno, "make_tcp_pair");
  }
  violet::Fd far(::accept4(listener.get(), nullptr, nullptr,
                           SOCK_CLOEXEC | SOCK_NONBLOCK));
  ::fcntl(near.get(), F_SETFL, O_NONBLOCK);
  return {std::move(near), std::move(far)};
}

/// Writes all of a small text at once, past the seam.
inline bool put(int fd, std::string_view text) {
  return ::write(fd, text.data(), text.size()) ==
         static_cast<ssize_t>(text.size());
}

/// Reads what is there at once, past the seam.
inline std::string get(int fd) {
  char buffer[4096];
  const ssize_t count = ::read(fd, buffer, sizeof buffer);
  return count <= 0 ? std::string()
                    : std::string(buffer, static_cast<std::size_t>(count));
}

/// Waits, past every poller, until `events` or the end have come to `fd`, so
/// that what is on its way never decides a test.
inline bool arrives(int fd, short events) {
  pollfd descriptor{fd, events, 0};
  return ::poll(&descriptor, 1, 10'000) == 1;
}

/// Fills a pipe or socket until it takes no more. Returns: the bytes taken.
inline std::size_t fill(int fd) {
  const std::string block(4096, 'f');
  std::size_t sum = 0;
  for (std::size_t size = block.size(); size > 0; size /= 2) {
    ssize_t count;
    while ((count = ::write(fd, block.data(), size)) > 0) {
      sum += static_cast<std::size_t>(count);
    }
  }
  return sum;
}

// ------------------------------------------------------------- virtual time

/// Runs `function(arguments...)`, a coroutine, in virtual time.
/// Returns: what it returns. Throws: what it throws.
template <class F, class... Args>
auto in_virtual_time(F&& function, Args&&... arguments) {
  violet::SimPoller time;
  violet::LoopOptions options;
  options.poller = &time;
  violet::Loop loop(options);
  return loop.run(function(std::forward<Args>(arguments)...));
}

/// The loop's clock, for durations in virtual time.
inline violet::TimePoint now() {
  return violet::Loop::current().now();
}

/// Where jobs wait until somebody opens. Written as any user's event is.
class Gate {
 public:
  class Event final : public violet::Event {
   public:
    explicit Event(Gate& gate) noexcept : gate_(gate) {}
    Event(Event&& other) noexcept
        : violet::Event(std::move(other)), gate_(other.gate_) {}
    bool attempt() noexcept override {
      ++gate_.attempts;
      if (gate_.open_) return true;
      place_.job = job();
      if (!place_.in_list()) gate_.waiting_.push_back(place_);
      return false;
    }
    void undo() noexcept override {
      ++gate_.undone;
      violet::leave(gate_.waiting_, place_);
    }
    void describe(violet::Description& out) const override {
      out.text = "gate";
    }
    void result() const noexcept {}

   private:
    Gate& gate_;
    violet::Waiter place_;
  };

  Gate() noexcept {}
  Gate(const Gate&) = delete;

  Event pass() noexcept { return Event(*this); }
  void open() noexcept {
    open_ = true;
    violet::wake_all(waiting_);
  }
  /// Wakes everyone without opening.
  void knock() noexcept { violet::wake_all(waiting_); }
  bool deserted() const noexcept { return waiting_.empty(); }

  int attempts = 0;
  int undone = 0;

 private:
  violet::WaitQueue waiting_;
  bool open_ = false;
};

// ------------------------------------------------------------------- pollers

/// Passes everything to another poller, counts it, and adds made-up news.
class CountingPoller final : public violet::Poller {
 public:
  explicit CountingPoller(violet::Poller& real) : real_(real) {}

  violet::TimePoint now() noexcept override { return real_.now(); }
  int add(int fd, violet::Token token, std::uint8_t bits) noexcept override {
    ++adds;
    added_bits = bits;
    last_token = token;
    return refuse != 0 ? refuse : real_.add(fd, token, bits);
  }
  int change(int fd, violet::Token token, std::uint8_t bits) noexcept override {
    ++changes;
    return real_.change(fd, token, bits);
  }
  void remove(int fd) noexcept override {
    ++removes;
    real_.remove(fd);
  }
  std::span<const violet::Ready> wait(violet::TimePoint deadline,
                                      bool wake_expected) noexcept override {
    ++waits;
    if (!news.empty()) {
      told_ = std::exchange(news, {});
      return told_;
    }
    const auto ready = real_.wait(deadline, wake_expected);
    woken_ = real_.woken() || woken_;
    return ready;
  }
  void wake() noexcept override {
    ++wakes;
    real_.wake();
  }
  void closing(int fd) noexcept override { real_.closing(fd); }
  int fd() noexcept override { return real_.fd(); }

  int adds = 0;
  int changes = 0;
  int removes = 0;
  int waits = 0;
  int wakes = 0;
  int refuse = 0;               // what add() answers instead, if not 0
  std::uint8_t added_bits = 0;  // of the last add()
  violet::Token last_token = {};
  std::vector<violet::Ready> news;  // told by the next wait()

 private:
  violet::Poller& real_;
  std::vector<violet::Ready> told_;
};

/// A loop in virtual time whose poller counts.
struct CountedLoop {
  explicit CountedLoop(std::uint8_t budget = 32) : loop(options(budget)) {}

  violet::LoopOptions options(std::uint8_t budget) {
    violet::LoopOptions options;
    options.poller = &poller;
    options.budget = budget;
    return options;
  }

  violet::SimPoller time;
  CountingPoller poller{time};
  violet::Loop loop;
};

// ------------------------------------------------------------------ the seam

/// Puts another object in the kernel's place, in this thread, for a scope.
class ScopedCalls {
 public:
  // Not inline: g++ would warn that a pointer to a local variable gets out,
  // and not see that the destructor takes it back.
  [[gnu::noinline]] explicit ScopedCalls(violet::sys::Calls& calls) noexcept
      : before_(std::exchange(violet::sys::calls, &calls)),
        files_before_(violet::sys::file_calls) {
    if (auto* files = dynamic_cast<violet::sys::FileCalls*>(&calls)) {
      violet::sys::file_calls = files;
    }
  }
  ScopedCalls(const ScopedCalls&) = delete;
  ScopedCalls& operator=(const ScopedCalls&) = delete;
  ~ScopedCalls() {
    violet::sys::calls = before_;
    violet::sys::file_calls = files_before_;
  }

 private:
  violet::sys::Calls* before_;
  violet::sys::FileCalls* files_before_;
};

/// A kernel at its worst that is still correct: every transfer on a byte
/// stream is cut to one byte, and every second call is interrupted.
class ShortCalls : public violet::sys::Calls, public violet::sys::FileCalls {
 public:
  ssize_t recv(int fd, void* data, std::size_t size,
               int flags) noexcept override {
    if (interrupted()) return -EINTR;
    return Calls::recv(fd, data, limited(fd, size), flags);
  }
  ssize_t send(int fd, const void* data, std::size_t size,
               int flags) noexcept override {
    if (interrupted()) return -EINTR;
    return Calls::send(fd, data, limited(fd, size), flags);
  }
  ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept override {
    return interrupted() ? -EINTR : Calls::recvmsg(fd, message, flags);
  }
  ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept override {
    return interrupted() ? -EINTR : Calls::sendmsg(fd, message, flags);
  }
  ssize_t read(int fd, void* data, std::size_t size) noexcept override {
    if (interrupted()) return -EINTR;
    return Calls::read(fd, data, limited(fd, size));
  }
  ssize_t write(int fd, const void* data, std::size_t size) noexcept override {
    if (fd == 2) return Calls::write(fd, data, size);
    if (interrupted()) return -EINTR;
    return Calls::write(fd, data, limited(fd, size));
  }
  int accept(int fd, sockaddr* peer, unsigned* size) noexcept override {
    if (interrupted()) return -EINTR;
    return Calls::accept(fd, peer, size);
  }
  int poll(pollfd* descriptors, unsigned long count,
           int timeout_ms) noexcept override {
    if (interrupted()) return -EINTR;
    return Calls::poll(descriptors, count, timeout_ms);
  }
  ssize_t pread(int fd, void* data, std::size_t size,
                std::int64_t offset) noexcept override {
    if (interrupted()) return -EINTR;
    return FileCalls::pread(fd, data, limited(fd, size), offset);
  }
  ssize_t pwrite(int fd, const void* data, std::size_t size,
                 std::int64_t offset) noexcept override {
    if (interrupted()) return -EINTR;
    return FileCalls::pwrite(fd, data, limited(fd, size), offset);
  }
  ssize_t read_cached(int fd, void* data, std::size_t size,
                      std::int64_t offset) noexcept override {
    if (interrupted()) return -EINTR;
    return FileCalls::read_cached(fd, data, limited(fd, size), offset);
  }
  ssize_t write_cached(int fd, const void* data,
                       std::size_t size) noexcept override {
    if (interrupted()) return -EINTR;
    return FileCalls::write_cached(fd, data, limited(fd, size));
  }
  ssize_t sendfile(int socket, int file, std::int64_t offset,
                   std::size_t size) noexcept override {
    if (interrupted()) return -EINTR;
    return FileCalls::sendfile(socket, file, offset, limited(socket, size));
  }
  bool shortens() const noexcept override { return true; }

 private:
  bool interrupted() noexcept { return ++count_ % 2 == 0; }

  // A datagram cut short would be lost, and an eventfd takes eight bytes.
  std::size_t limited(int fd, std::size_t size) noexcept {
    const int type = file_type(fd);
    if (type == S_IFSOCK) {
      int kind = 0;
      unsigned bytes = sizeof kind;
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &bytes);
      if (kind != SOCK_STREAM) return size;
    } else if (type != S_IFIFO && type != S_IFREG) {
      return size;
    }
    return std::min<std::size_t>(size, 1);
  }

  std::atomic<unsigned> count_ = 0;  // what is offloaded counts, too
};

/// Installs ShortCalls for its scope if VIOLET_TEST_IO is "short". Stands at
/// the start of every test that goes through sockets or pipes.
class MaybeShortIo {
 public:
  MaybeShortIo() noexcept {
    if (wanted()) installed_.emplace(calls_);
  }

  static bool wanted() noexcept {
    const char* value = std::getenv("VIOLET_TEST_IO");
    return value != nullptr && std::strcmp(value, "short") == 0;
  }

 private:
  ShortCalls calls_;
  std::optional<ScopedCalls> installed_;
};

// ------------------------------------------------------ threads and processes

/// A thread that its scope waits for, however the scope is left.
class Thread {
 public:
  template <class F>
  explicit Thread(F&& body) : thread_(std::forward<F>(body)) {}
  Thread(Thread&&) noexcept = default;
  Thread& operator=(Thread&&) = delete;
  ~Thread() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::thread thread_;
};

/// Runs `body()` in a fresh thread and waits for it; what it throws is thrown
/// on. For a test that would spoil what belongs to a thread if it failed.
template <class F>
void in_a_thread(F body) {
  std::exception_ptr error;
  Thread([&] {
    try {
      body();
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

/// How a child process ended.
struct ChildEnd {
  int status = 0;      // exit status, -1 if a signal ended it
  int signal = 0;      // the signal that ended it, 0 if none did
  std::string errors;  // what it wrote to stderr
};

/// Runs `body()` in a child process, which then exits with status 0, and 3
/// if the body throws. For code that is expected to end its process.
template <class F>
ChildEnd in_child(F body) {
  Pair pipe = make_pipe(O_CLOEXEC);
  const pid_t child = ::fork();
  if (child < 0) violet::throw_system(errno, "fork");
  if (child == 0) {
    ::dup2(pipe[1].get(), 2);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (const int caught : {SIGABRT, SIGSEGV, SIGILL, SIGBUS, SIGFPE}) {
      ::signal(caught, SIG_DFL);
    }
    int status = 0;
    try {
      body();
    } catch (...) {
      status = 3;
    }
    ::_exit(status);
  }
  ChildEnd end;
  pipe[1].reset();
  for (;;) {
    const std::string some = get(pipe[0].get());
    if (some.empty()) break;
    end.errors += some;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return end;
}

/// What `body()` writes to stderr in this process.
template <class F>
std::string errors_of(F body) {
  Pair pipe = make_pipe();
  const violet::Fd before(::dup(2));
  ::dup2(pipe[1].get(), 2);
  try {
    body();
  } catch (...) {
    ::dup2(before.get(), 2);
    throw;
  }
  ::dup2(before.get(), 2);
  return get(pipe[0].get());
}

/// True if `text` has `part` in it.
inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace support
