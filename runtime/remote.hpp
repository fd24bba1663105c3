// remote.hpp - the one door through which other threads reach a loop.
//
// The idea: a loop and all that belongs to it live in one thread. What
// another thread wants done there, it posts: a function goes into the loop's
// mailbox, the loop is woken, and runs it between two steps. A mutex guards
// the mailbox, held for a few instructions; everything else needs none.
//
// What a thread has done for a job that waits comes back the same way, but
// without a function: it lies where the job waits for it, so the way back
// takes no memory and cannot fail.
//
// Built on: event, poller for waking.
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "event.hpp"
#include "poller.hpp"

namespace violet {

/// A function on its way to a loop.
class Post {
 public:
  virtual ~Post() = default;
  virtual void run() = 0;
  Post* next = nullptr;
};

/// Something that another thread does for a job. Once begun it comes back,
/// or, if the job has left it behind, stays with that thread.
class Return : public Waiter {
 public:
  /// True once it is done.
  bool is_back() const noexcept {
    return back_.load(std::memory_order_acquire);
  }

 protected:
  ~Return() = default;

  /// It begins anew, for `job`.
  void expect_for(Stack& waiting) noexcept {
    job = &waiting;
    back_.store(false, std::memory_order_relaxed);
  }

 private:
  friend class Mailbox;

  // Once it is under way, both change under the mutex of the mailbox.
  std::atomic<bool> back_ = false;
  bool left_ = false;  // nobody waits for it any more
};

/// What a loop shares with its remotes, and survives both.
class Mailbox {
 public:
  explicit Mailbox(Poller& poller) noexcept : poller_(&poller) {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox();

  /// Puts a post in. Returns: false if the loop is gone; the post is then
  /// still the caller's.
  bool put(Post& post) noexcept;

  /// Takes everything out, oldest first; the posts are the caller's, and the
  /// jobs for which something has come back are woken.
  Post* take_all() noexcept;

  /// The loop is gone: no more posts are accepted, and those that were not
  /// taken are destroyed.
  void close() noexcept;

  /// For the thread that has done it: its job is woken. From then on it
  /// belongs to that job again, which may destroy it at once.
  /// Returns: false if the job has left it behind; it is the caller's then.
  bool bring_back(Return& done) noexcept;

  /// For the job, which goes on without waiting to be woken, or goes.
  /// Blocks the thread until it is back.
  void receive(Return& done) noexcept;

  /// For a job that does not wait for the end of it.
  /// Returns: true if it is back, and the caller's; false if the other thread
  /// keeps it.
  bool leave_behind(Return& done) noexcept;

  // Remotes that could still post, posts that are not taken yet, and returns
  // that are expected.
  void add_remote() noexcept { users_.fetch_add(1); }
  void remove_remote() noexcept;
  void expect_one_less() noexcept { users_.fetch_sub(1); }
  bool in_use() const noexcept {
    return users_.load(std::memory_order_acquire) != 0;
  }

 private:
  void wake_loop(std::unique_lock<std::mutex>& lock) noexcept;

  // The mutex guards what stands up to the blank line. The poller is null once
  // the loop is gone; it is woken for the first post, and for the first
  // return, since the loop looked. Whoever does that counts as a waker, and
  // close() waits for these.
  Poller* poller_;
  WaitQueue returns_;  // that are back, and whose jobs are not woken yet
  mutable std::mutex mutex_;
  struct Blocked;
  Blocked* blocked_ = nullptr;  // the loop's thread, while it is in receive()
  Post* first_ = nullptr;
  Post* last_ = nullptr;

  std::atomic<int> users_ = 0;
  std::atomic<int> wakers_ = 0;
};

/// A loop as other threads may hold it. Copyable; any thread may use it and
/// destroy it. While one is alive its loop does not count as deadlocked.
class Remote {
 public:
  explicit Remote(std::shared_ptr<Mailbox> mailbox) noexcept
      : mailbox_(std::move(mailbox)) {
    mailbox_->add_remote();
  }
  Remote(const Remote& other) noexcept : Remote(other.mailbox_) {}
  Remote& operator=(const Remote& other) noexcept {
    Remote copy(other);
    std::swap(mailbox_, copy.mailbox_);
    return *this;
  }
  ~Remote() { mailbox_->remove_remote(); }

  /// Has the loop's thread call `function()` between two steps; posts of one
  /// thread keep their order. What it throws is a failure of the loop.
  /// Returns: false if the loop is gone, and the function never runs.
  /// Throws: std::bad_alloc.
  template <class F>
  bool post(F&& function) const {
    auto post =
        std::make_unique<Posted<std::decay_t<F>>>(std::forward<F>(function));
    if (!mailbox_->put(*post)) return false;
    post.release();
    return true;
  }

 private:
  template <class F>
  class Posted final : public Post {
   public:
    template <class G>
    explicit Posted(G&& function) : function_(std::forward<G>(function)) {}
    void run() override { function_(); }

   private:
    F function_;
  };

  std::shared_ptr<Mailbox> mailbox_;  // never null
};

}  // namespace violet
