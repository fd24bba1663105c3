// offload.cpp - the line in front of a pool, and the threads that serve it.
// SPDX-License-Identifier: MIT
#include "offload.hpp"

#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <new>

namespace violet {

/// What a pool shares with its threads, and survives it until the last of
/// them has gone.
class OffloadPool::Line : public Link<Line> {
 public:
  explicit Line(unsigned most_threads);
  ~Line();

  // For the pool.
  void close() noexcept;
  const unsigned most_threads;
  unsigned threads() const noexcept;
  std::size_t queued() const noexcept;

  // For a call.
  int add(PoolCall& call) noexcept;
  bool take_back(PoolCall& call) noexcept;

  /// Bumped in each process that is forked.
  static inline std::atomic<unsigned> forks = 0;

 private:
  using State = PoolCall::State;

  static void* serve(void* line) noexcept;
  void serve() noexcept;
  void make(PoolCall& call) noexcept;

  static void before_fork() noexcept;
  static void after_fork() noexcept;
  static void in_forked() noexcept;

  // Guards what follows, and the state of every call that has stood here.
  mutable std::mutex mutex_;
  std::condition_variable comes_;  // a call, or the end
  List<PoolCall, PoolCall> calls_;
  std::size_t queued_ = 0;  // of calls_
  unsigned threads_ = 0;
  // Of them, those that make no call, or are only about to bring one back: a
  // job that calls again and again needs one thread.
  std::atomic<unsigned> idle_ = 0;
  bool closed_ = false;  // the pool is gone: the last thread deletes this

  // All lines of the process, for fork(2). Never destroyed, as a thread may
  // still go when the process ends.
  struct All {
    std::mutex mutex;
    List<Line, Line> lines;
  };
  static All& all() {
    static All& all = *new All;
    return all;
  }
};

// -------------------------------------------------------------------- fork(2)

OffloadPool::Line::Line(unsigned most) : most_threads(most) {
  [[maybe_unused]] static const int once =
      ::pthread_atfork(before_fork, after_fork, in_forked);
  const std::lock_guard lock(all().mutex);
  all().lines.push_back(*this);
}

OffloadPool::Line::~Line() {
  const std::lock_guard lock(all().mutex);
  all().lines.remove(*this);
}

void OffloadPool::Line::before_fork() noexcept {
  all().mutex.lock();
  auto& lines = all().lines;
  for (Line* line = lines.first(); line; line = lines.next(*line)) {
    line->mutex_.lock();
  }
}

void OffloadPool::Line::after_fork() noexcept {
  auto& lines = all().lines;
  for (Line* line = lines.first(); line; line = lines.next(*line)) {
    line->mutex_.unlock();
  }
  all().mutex.unlock();
}

/// The new process has none of the threads, and none of the jobs that wait:
/// every line begins anew. The condition is not destroyed, since that would
/// wait for the threads that wait in it.
void OffloadPool::Line::in_forked() noexcept {
  forks.fetch_add(1);
  auto& lines = all().lines;
  for (Line* line = lines.first(); line; line = lines.next(*line)) {
    ::new (&line->comes_) std::condition_variable;
    while (!line->calls_.empty()) line->calls_.pop_front();
    line->queued_ = 0;
    line->threads_ = 0;
    line->idle_ = 0;
  }
  after_fork();
}

// ------------------------------------------------------------------- the line

int OffloadPool::Line::add(PoolCall& call) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (idle_ <= queued_ && threads_ < most_threads) {
      const int error = -sys::file_calls->start_thread(serve, this);
      if (error == 0) {
        ++threads_;
        ++idle_;
      }
      if (threads_ == 0) return error;  // else those that there are will do
    }
    call.set_state(State::kQueued);
    calls_.push_back(call);
    ++queued_;
  }
  comes_.notify_one();
  return 0;
}

bool OffloadPool::Line::take_back(PoolCall& call) noexcept {
  const std::lock_guard lock(mutex_);
  if (call.state() != State::kQueued) return call.state() == State::kIdle;
  calls_.remove(call);
  --queued_;
  call.set_state(State::kIdle);
  return true;
}

void* OffloadPool::Line::serve(void* line) noexcept {
  static_cast<Line*>(line)->serve();
  return nullptr;
}

void OffloadPool::Line::serve() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (calls_.empty() && !closed_) comes_.wait(lock);
    if (calls_.empty()) break;
    PoolCall& call = calls_.pop_front();
    --queued_;
    --idle_;
    call.set_state(State::kBegun);
    lock.unlock();
    make(call);
    lock.lock();
  }
  const bool last = --threads_ == 0;
  lock.unlock();
  if (last) delete this;
}

void OffloadPool::Line::make(PoolCall& call) noexcept {
  sys::calls = call.calls_;
  sys::file_calls = call.file_calls_;
  call.work();
  sys::calls = &sys::kernel;
  sys::file_calls = &sys::file_kernel;
  ++idle_;
  if (!call.mailbox_->bring_back(call)) call.left();
}

void OffloadPool::Line::close() noexcept {
  bool unused;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    while (!calls_.empty()) {
      PoolCall& call = calls_.pop_front();
      call.set_state(State::kRefused);
      call.mailbox_->bring_back(call);
    }
    queued_ = 0;
    unused = threads_ == 0;
    comes_.notify_all();
  }
  if (unused) delete this;
}

unsigned OffloadPool::Line::threads() const noexcept {
  const std::lock_guard lock(mutex_);
  return threads_;
}

std::size_t OffloadPool::Line::queued() const noexcept {
  const std::lock_guard lock(mutex_);
  return queued_;
}

// ------------------------------------------------------------------- the pool

OffloadPool::OffloadPool(unsigned most_threads)
    : line_(*new Line(most_threads)) {
  if (most_threads != 0) return;
  line_.close();
  throw_error(
      Misuse("violet: a pool of no threads never makes a call; give it at "
             "least one"));
}

OffloadPool::~OffloadPool() {
  line_.close();
}

OffloadPool& OffloadPool::standard() {
  static OffloadPool& pool = *new OffloadPool();
  return pool;
}

unsigned OffloadPool::most_threads() const noexcept {
  return line_.most_threads;
}

unsigned OffloadPool::threads() const noexcept {
  return line_.threads();
}

std::size_t OffloadPool::queued() const noexcept {
  return line_.queued();
}

// -------------------------------------------------------------------- a call

int PoolCall::send(JobBlock& waiting, sys::Calls& calls,
                   sys::FileCalls& file_calls) noexcept {
  expect_for(waiting);
  mailbox_ = loop_of(waiting).mailbox().get();
  calls_ = &calls;
  file_calls_ = &file_calls;
  forks_ = OffloadPool::Line::forks.load(std::memory_order_relaxed);
  return line_->add(*this);
}

// One that has begun, or was refused, may have outlived its line.
bool PoolCall::take_back() noexcept {
  return state() == State::kIdle ||
         (state() == State::kQueued && line_->take_back(*this));
}

// There is a thread already, so this cannot fail.
void PoolCall::send_again() noexcept {
  line_->add(*this);
}

bool PoolCall::of_this_process() const noexcept {
  return forks_ == OffloadPool::Line::forks.load(std::memory_order_relaxed);
}

const char* PoolCall::text_of_state() const noexcept {
  return begun() ? "running" : "queued";
}

// -------------------------------------------------------------------- the wait

bool OffloadWait::attempt() noexcept {
  if (!waits_) {
    auto& waiting = static_cast<JobBlock&>(*job());
    error_ = send(waiting, *sys::calls, *sys::file_calls);
    if (error_ != 0) return true;
    waits_ = true;
    begin(waiting);
    return false;
  }
  if (!is_back()) return false;
  mailbox().receive(*this);
  waits_ = false;
  end();
  return true;
}

// A process that was forked meanwhile has nobody who would bring it back.
void OffloadWait::undo() noexcept {
  if (!std::exchange(waits_, false)) return;
  if (of_this_process() && !take_back()) mailbox().receive(*this);
  end();
}

void OffloadWait::describe(Description& out) const {
  out.text = concat({"offload, ", text_of_state()});
}

// System calls in it go to the kernel: who answered them when it began may be
// gone before it ends.
bool HeapCall::attempt(Stack& waiting, int& error) noexcept {
  if (!away_) {
    error =
        send(static_cast<JobBlock&>(waiting), sys::kernel, sys::file_kernel);
    if (error != 0) return true;
    mailbox_->add_remote();
    away_ = true;
    return false;
  }
  if (!is_back()) return false;
  mailbox_->receive(*this);
  mailbox_->expect_one_less();
  away_ = false;
  return true;
}

void HeapCall::let_go() noexcept {
  if (away_) {
    mailbox_->expect_one_less();
    if (!of_this_process()) return;
    if (!take_back() && !mailbox_->leave_behind(*this)) return;
  }
  delete this;
}

void HeapCall::describe(Description& out) const {
  out.text = concat({"offload, ", text_of_state()});
}

void internal::check_offload(int error, bool refused) {
  if (error != 0) throw_system(error, "offload: no thread can be made");
  if (!refused) return;
  throw_error(
      Misuse("violet: the pool of an offload is gone, and the call had not "
             "begun: let the pool outlive the jobs that use it"));
}

}  // namespace violet
