// events.hpp - what a job can wait for without a network.
//
// Each is a function, named by the verb, that returns an event: a program
// says `co_await sleep(1s)`. Nothing here knows more of the scheduler than
// any other file may; a user's own events are written in the same way.
//
// Built on: offload, scheduler, slots.
// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <source_location>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "offload.hpp"
#include "owned.hpp"
#include "scheduler.hpp"

namespace violet {

// ------------------------------------------------------------ time and turns

/// The one wait that has nothing to attempt and nothing to undo.
class [[nodiscard]] YieldEvent {};

template <>
class Await<YieldEvent> {
 public:
  explicit Await(YieldEvent&) noexcept {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const noexcept {
    loop_of(*running).yield(*running);
  }
  void await_resume() const noexcept {}
};

/// Lets every other ready job have a step first.
/// Suspends: always.
inline YieldEvent yield_now() noexcept {
  return {};
}

class [[nodiscard]] SleepEvent final : public Event {
 public:
  explicit SleepEvent(Duration duration) noexcept : duration_(duration) {}
  SleepEvent(SleepEvent&& other) noexcept
      : Event(std::move(other)), duration_(other.duration_) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  void result() const;

 private:
  Duration duration_;
  bool armed_ = false;
  Timer timer_;
};

/// Waits for at least `duration`, counted from a fresh reading of the clock
/// as the wait begins. Zero or less is yield_now().
/// Suspends: always.
/// Throws: std::bad_alloc.
/// Cost: O(log n) in the number of timers; no allocation each.
inline SleepEvent sleep(Duration duration) noexcept {
  return SleepEvent(duration);
}

// ----------------------------------------------------------- the end of jobs

template <class T>
class [[nodiscard]] JoinEvent final : public JobEndEvent {
 public:
  explicit JoinEvent(internal::TypedJob<T>* job) noexcept : JobEndEvent(job) {}
  bool attempt() noexcept override { return attempt_join(); }
  bool sees() const noexcept override { return true; }
  void describe(Description& out) const override { describe_end("join", out); }
  decltype(auto) result() const {
    throw_ending();
    return static_cast<internal::TypedJob<T>*>(target_)->result.get();
  }
};

template <class T>
class [[nodiscard]] TakingJoinEvent final : public JobEndEvent {
 public:
  explicit TakingJoinEvent(internal::TypedJob<T>* job) noexcept
      : JobEndEvent(job) {}
  bool attempt() noexcept override { return attempt_join(); }
  bool sees() const noexcept override { return true; }
  void describe(Description& out) const override { describe_end("join", out); }
  T result() const {
    throw_ending();
    return static_cast<internal::TypedJob<T>*>(target_)->result.take();
  }
};

/// Waits until a job has ended. Any number of jobs may join one.
/// Suspends: until then.
/// Returns: a reference to what the job returned, valid as long as a handle.
/// Throws: what the job threw; Killed if it was killed; Misuse if it would
/// never end: it is this very job, or holds it, or waits for it.
template <class T>
JoinEvent<T> join(const Job<T>& job) noexcept {
  return JoinEvent<T>(job.block());
}

/// The same for a handle that is not needed any more. Returns: the value
/// itself.
template <class T>
TakingJoinEvent<T> join(Job<T>&& job) noexcept {
  return TakingJoinEvent<T>(job.block());
}

class [[nodiscard]] WaitEvent final : public JobEndEvent {
 public:
  explicit WaitEvent(JobBlock* job) noexcept : JobEndEvent(job) {}
  bool attempt() noexcept override { return attempt_end(); }
  void describe(Description& out) const override { describe_end("wait", out); }
  void result() const noexcept {}
};

/// Waits until a job has ended, however it did.
/// Suspends: until then.
/// Throws: nothing; an exception of the job stays unseen.
template <class T>
WaitEvent wait(const Job<T>& job) noexcept {
  return WaitEvent(job.block());
}

class [[nodiscard]] KillEvent final : public JobEndEvent {
 public:
  KillEvent(JobBlock* job, std::string_view reason,
            std::source_location where) noexcept
      : JobEndEvent(job), reason_(reason), where_(where) {}
  bool attempt() noexcept override;
  void describe(Description& out) const override { describe_end("kill", out); }
  void result() const noexcept {}

 private:
  std::string_view reason_;  // outlives the co_await expression
  std::source_location where_;
  bool asked_ = false;
};

/// Kills a job and waits until it is gone. On the job itself: ends it here.
/// Suspends: only if the kill is held; see Job::kill.
template <class T>
KillEvent kill(
    const Job<T>& job, std::string_view reason = {},
    std::source_location where = std::source_location::current()) noexcept {
  return KillEvent(job.block(), reason, where);
}

class [[nodiscard]] StoppingEvent final : public Event {
 public:
  explicit StoppingEvent(Loop& loop) noexcept : hears_(loop) {}
  StoppingEvent(StoppingEvent&& other) noexcept
      : Event(std::move(other)), hears_(other.hears_.loop()) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override { out.text = "stopping"; }
  void result() const noexcept {}

 private:
  StopHearer hears_;
  Waiter place_;
};

/// Waits until the program is asked to stop: by a first SIGINT or SIGTERM
/// under run_program, or by Loop::stop().
/// Suspends: until then.
/// Throws: Misuse outside a loop.
inline StoppingEvent stopping() {
  return StoppingEvent(Loop::current());
}

// ---------------------------------------------------------------- descriptors

/// What the events on plain descriptors share. A number that somebody else
/// owns is borrowed for the time of the event: its flags stay untouched, so
/// it is asked for readiness before each call.
class DescriptorEvent : public SlotEvent {
 protected:
  explicit DescriptorEvent(int fd) noexcept : SlotEvent(nullptr), fd_(fd) {}
  explicit DescriptorEvent(const Descriptor& owned) noexcept
      : SlotEvent(owned.slot()), fd_(owned.fd()) {}
  DescriptorEvent(DescriptorEvent&&) noexcept = default;
  ~DescriptorEvent() = default;

  /// Finds a slot for a borrowed number. Returns: false, with error_ set, if
  /// there is none to be had.
  bool have_slot() noexcept;

  /// Asks the system, without waiting. `events` as for poll(2).
  /// Returns: 0 if the descriptor is ready, or a negated error number.
  ssize_t ask(short events) const noexcept;

  /// True unless it is open for the other direction only (fcntl(2)).
  bool allows(int access) const noexcept;

  std::string name() const { return concat({"fd ", fd_}); }

  int fd_;
};

class [[nodiscard]] ReadableEvent : public DescriptorEvent {
 public:
  explicit ReadableEvent(int fd) noexcept : DescriptorEvent(fd) {}
  explicit ReadableEvent(const Descriptor& owned) noexcept
      : DescriptorEvent(owned) {}
  bool attempt() noexcept override;
  void undo() noexcept override { undo_claim(Direction::kRead); }
  void describe(Description& out) const override {
    out.text = concat({"readable ", name()});
  }
  int error() const noexcept { return error_; }
  void value() const noexcept {}
  void result() const {
    if (error_ != 0) raise("readable", name());
  }
};

class [[nodiscard]] WritableEvent : public DescriptorEvent {
 public:
  explicit WritableEvent(int fd) noexcept : DescriptorEvent(fd) {}
  explicit WritableEvent(const Descriptor& owned) noexcept
      : DescriptorEvent(owned) {}
  bool attempt() noexcept override;
  void undo() noexcept override { undo_claim(Direction::kWrite); }
  void describe(Description& out) const override {
    out.text = concat({"writable ", name()});
  }
  int error() const noexcept { return error_; }
  void value() const noexcept {}
  void result() const {
    if (error_ != 0) raise("writable", name());
  }
};

/// Waits until a descriptor can be read without blocking, or has ended. It
/// may be anything that poll(2) takes; its flags stay as they are.
/// Suspends: unless it is ready already.
/// Throws: std::system_error; Misuse if another job waits to read it.
/// Lifetime: the descriptor stays open meanwhile.
inline ReadableEvent readable(int fd) noexcept {
  return ReadableEvent(fd);
}
inline ReadableEvent readable(const Descriptor& owned) noexcept {
  return ReadableEvent(owned);
}
inline Coded<ReadableEvent> readable(int fd, std::error_code& code) noexcept {
  return Coded<ReadableEvent>(readable(fd), code);
}
inline Coded<ReadableEvent> readable(const Descriptor& owned,
                                     std::error_code& code) noexcept {
  return Coded<ReadableEvent>(readable(owned), code);
}

/// The same for writing.
inline WritableEvent writable(int fd) noexcept {
  return WritableEvent(fd);
}
inline WritableEvent writable(const Descriptor& owned) noexcept {
  return WritableEvent(owned);
}
inline Coded<WritableEvent> writable(int fd, std::error_code& code) noexcept {
  return Coded<WritableEvent>(writable(fd), code);
}
inline Coded<WritableEvent> writable(const Descriptor& owned,
                                     std::error_code& code) noexcept {
  return Coded<WritableEvent>(writable(owned), code);
}

namespace internal {

/// What is read from a file into memory of its own, and taken from there when
/// the job goes on: so a kill has consumed nothing, and need not wait.
class ReadAhead final : public HeapCall {
 public:
  ReadAhead(int fd, std::int64_t from, std::size_t most) noexcept;
  ReadAhead(const ReadAhead&) = delete;
  ~ReadAhead() override;

  const std::int64_t offset;
  char* data;          // null if there was no memory
  ssize_t result = 0;  // once it is back

 private:
  void work() noexcept override;

  int fd_;  // if it is closed meanwhile, nobody takes the result
  std::size_t most_;
};

/// What is written to a file at a time.
class WritePiece final : public OffloadWait {
 public:
  explicit WritePiece(Fd owned) noexcept;
  void prepare(int fd, std::string_view data) noexcept;
  int error() const noexcept { return error_; }

  ssize_t result = 0;  // once it is back

 private:
  void work() noexcept override;

  const Fd own_;  // a number that nobody else closes; -1 if fd_ is such
  int fd_ = -1;
  std::string_view data_;
};

}  // namespace internal

class [[nodiscard]] ReadEvent : public DescriptorEvent {
 public:
  ReadEvent(int fd, std::span<char> buffer) noexcept
      : DescriptorEvent(fd), buffer_(buffer) {}
  ReadEvent(const Descriptor& owned, std::span<char> buffer) noexcept
      : DescriptorEvent(owned), buffer_(buffer) {}
  bool attempt() noexcept override;
  void undo() noexcept override {
    ahead_.reset();
    undo_claim(Direction::kRead);
  }
  void describe(Description& out) const override {
    out.text = concat({"read ", name()});
  }
  int error() const noexcept { return error_; }
  std::size_t value() const noexcept { return got_; }
  std::size_t result() const {
    if (error_ != 0) raise("read", name());
    return got_;
  }

 private:
  ssize_t read_from(int fd) noexcept;
  ssize_t read_file(int fd) noexcept;
  ssize_t read_ahead(int fd) noexcept;

  std::span<char> buffer_;  // the caller's, for the time of the wait
  std::size_t got_ = 0;
  HeldCall<internal::ReadAhead> ahead_;  // for a file, if it has to wait
};

class [[nodiscard]] WriteEvent : public DescriptorEvent {
 public:
  WriteEvent(int fd, std::string_view data) noexcept
      : DescriptorEvent(fd), data_(data) {}
  WriteEvent(const Descriptor& owned, std::string_view data) noexcept
      : DescriptorEvent(owned), data_(data) {}
  bool attempt() noexcept override;
  void undo() noexcept override {
    if (piece_ != nullptr) undo_piece();
    undo_claim(Direction::kWrite);
  }
  void describe(Description& out) const override;
  int error() const noexcept { return error_; }
  std::size_t value() const noexcept { return written_; }
  std::size_t result() const {
    if (error_ != 0) raise("write", name());
    return written_;
  }

  // As of PartEvent, for a limit: a piece of a file that is being written is
  // waited for. Unlike a part, it may be undone all the same: any() does.
  bool give_up(std::string_view reason) noexcept {
    return given_up_ = piece_ == nullptr || piece_->give_up(reason);
  }
  bool given_up() const noexcept { return given_up_; }
  static constexpr bool kCanBeUndone = true;

 private:
  ssize_t write_on(int fd) noexcept;
  ssize_t write_file(int fd) noexcept;
  ssize_t write_cached(int fd) noexcept;
  bool receive_piece() noexcept;
  void undo_piece() noexcept;
  void count_piece() noexcept;

  std::string_view data_;  // the caller's, for the time of the wait
  std::size_t written_ = 0;
  Owned<internal::WritePiece> piece_;  // for a file, as ahead_ above
  bool away_ = false;                  // that is offloaded
  bool given_up_ = false;
};

/// Reads what is there, up to the size of the buffer: from a pipe, a terminal,
/// a file, whatever the descriptor is.
/// Suspends: until something is there. A file is read off the loop, unless what
/// is asked for lies in memory and the system can tell (preadv2(2)).
/// Returns: the number of bytes; 0 at the end, or for an empty buffer.
/// Throws: std::system_error; Misuse if another job reads it.
/// Kill: no byte has been consumed.
template <class D>
ReadEvent read(const D& descriptor, std::span<char> buffer) noexcept {
  return ReadEvent(descriptor, buffer);
}
template <class D>
Coded<ReadEvent> read(const D& descriptor, std::span<char> buffer,
                      std::error_code& code) noexcept {
  return Coded<ReadEvent>(ReadEvent(descriptor, buffer), code);
}

/// Writes all of `data`.
/// Suspends: whenever the descriptor takes no more. A file is written off the
/// loop, unless the system says that it need not wait (pwritev2(2)).
/// Returns: the number of bytes written: all, unless the error_code form
/// reports an error.
/// Throws: std::system_error; Misuse if another job writes it.
/// Kill: some of it may have been written. Waits for a piece of a file that is
/// being written, of 256 KiB at most.
template <class D>
WriteEvent write(const D& descriptor, std::string_view data) noexcept {
  return WriteEvent(descriptor, data);
}
template <class D>
Coded<WriteEvent> write(const D& descriptor, std::string_view data,
                        std::error_code& code) noexcept {
  return Coded<WriteEvent>(WriteEvent(descriptor, data), code);
}

}  // namespace violet
