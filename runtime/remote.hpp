// remote.hpp - the one door through which other threads reach a loop.
//
// The idea: a loop and all that belongs to it live in one thread. What
// another thread wants done there, it posts: a function goes into the loop's
// mailbox, the loop is woken, and runs it between two steps. A mutex guards
// the mailbox, held for a few instructions; everything else needs none.
//
// Built on: poller, for waking.
// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "poller.hpp"

namespace violet {

/// A function on its way to a loop.
class Post {
 public:
  virtual ~Post() = default;
  virtual void run() = 0;
  Post* next = nullptr;
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

  /// Takes everything out, oldest first; the posts are the caller's.
  Post* take_all() noexcept;

  /// The loop is gone: no more posts are accepted, and those that were not
  /// taken are destroyed.
  void close() noexcept;

  // Remotes that could still post, and posts that are not taken yet.
  void add_remote() noexcept { users_.fetch_add(1); }
  void remove_remote() noexcept;
  bool in_use() const noexcept {
    return users_.load(std::memory_order_acquire) != 0;
  }

 private:
  // Guards what follows up to the blank line. The poller is null once the loop
  // is gone, and is woken under the lock, so it cannot go away meanwhile.
  mutable std::mutex mutex_;
  Poller* poller_;
  Post* first_ = nullptr;
  Post* last_ = nullptr;

  std::atomic<int> users_ = 0;
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
