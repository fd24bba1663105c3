// remote.cpp - the mailbox.
// SPDX-License-Identifier: MIT
#include "remote.hpp"

#include <condition_variable>
#include <thread>

namespace violet {

namespace {

void destroy_all(Post* post) noexcept {
  while (post != nullptr) delete std::exchange(post, post->next);
}

}  // namespace

/// Lies on the stack of the thread that is blocked.
struct Mailbox::Blocked {
  std::condition_variable came_back;
};

Mailbox::~Mailbox() {
  destroy_all(first_);
}

/// Wakes the loop after the mutex is free again: a loop on the same processor
/// runs at once, and would have to wait for it.
void Mailbox::wake_loop(std::unique_lock<std::mutex>& lock) noexcept {
  Poller& poller = *poller_;
  wakers_.fetch_add(1, std::memory_order_relaxed);
  lock.unlock();
  poller.wake();
  wakers_.fetch_sub(1, std::memory_order_release);
}

bool Mailbox::put(Post& post) noexcept {
  std::unique_lock lock(mutex_);
  if (poller_ == nullptr) return false;
  post.next = nullptr;
  users_.fetch_add(1);
  if (last_ == nullptr) {
    first_ = last_ = &post;
    wake_loop(lock);
  } else {
    last_ = last_->next = &post;
  }
  return true;
}

Post* Mailbox::take_all() noexcept {
  const std::lock_guard lock(mutex_);
  wake_all(returns_);
  for (const Post* post = first_; post != nullptr; post = post->next) {
    users_.fetch_sub(1);
  }
  last_ = nullptr;
  return std::exchange(first_, nullptr);
}

// Who waits for it does not go on before the mutex is free again: it is woken
// under the mutex, or takes it. So nothing here is touched after that.
bool Mailbox::bring_back(Return& done) noexcept {
  std::unique_lock lock(mutex_);
  if (done.left_) return false;
  const bool first = returns_.empty();
  returns_.push_back(done);
  done.back_.store(true, std::memory_order_release);
  if (blocked_ != nullptr) blocked_->came_back.notify_all();
  if (first) wake_loop(lock);
  return true;
}

void Mailbox::receive(Return& done) noexcept {
  if (done.is_back() && !done.in_list()) return;  // its job was woken
  std::unique_lock lock(mutex_);
  Blocked here;
  blocked_ = &here;
  while (!done.is_back()) here.came_back.wait(lock);
  blocked_ = nullptr;
  leave(returns_, done);
}

bool Mailbox::leave_behind(Return& done) noexcept {
  const std::lock_guard lock(mutex_);
  leave(returns_, done);
  done.left_ = true;
  return done.is_back();
}

void Mailbox::close() noexcept {
  {
    const std::lock_guard lock(mutex_);
    poller_ = nullptr;
  }
  while (wakers_.load(std::memory_order_acquire) != 0) {
    std::this_thread::yield();
  }
  destroy_all(take_all());
}

// The last remote that goes may leave a loop with nothing to wait for: it is
// woken to find that out.
void Mailbox::remove_remote() noexcept {
  if (users_.fetch_sub(1) > 1) return;
  const std::lock_guard lock(mutex_);
  if (poller_ != nullptr) poller_->wake();
}

}  // namespace violet
