// remote.cpp - the mailbox.
// SPDX-License-Identifier: MIT
#include "remote.hpp"

namespace violet {

namespace {

void destroy_all(Post* post) noexcept {
  while (post != nullptr) delete std::exchange(post, post->next);
}

}  // namespace

Mailbox::~Mailbox() {
  destroy_all(first_);
}

bool Mailbox::put(Post& post) noexcept {
  const std::lock_guard lock(mutex_);
  if (poller_ == nullptr) return false;
  post.next = nullptr;
  users_.fetch_add(1);
  if (last_ == nullptr) {
    first_ = last_ = &post;
    poller_->wake();  // the first post since the loop looked
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
  const std::lock_guard lock(mutex_);
  if (done.left_) return false;
  if (returns_.empty()) poller_->wake();
  returns_.push_back(done);
  done.back_.store(true, std::memory_order_release);
  if (blocked_) came_back_.notify_all();
  return true;
}

void Mailbox::receive(Return& done) noexcept {
  if (done.is_back() && !done.in_list()) return;  // its job was woken
  std::unique_lock lock(mutex_);
  blocked_ = true;
  while (!done.is_back()) came_back_.wait(lock);
  blocked_ = false;
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
