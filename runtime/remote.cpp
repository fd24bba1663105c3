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
  last_ = nullptr;
  return std::exchange(first_, nullptr);
}

void Mailbox::close() noexcept {
  {
    const std::lock_guard lock(mutex_);
    poller_ = nullptr;
  }
  destroy_all(take_all());
}

bool Mailbox::empty() const noexcept {
  const std::lock_guard lock(mutex_);
  return first_ == nullptr;
}

void Mailbox::add_remote() noexcept {
  remotes_.fetch_add(1, std::memory_order_relaxed);
}

// The last remote that goes may leave a loop with nothing to wait for: it is
// woken to find that out.
void Mailbox::remove_remote() noexcept {
  if (remotes_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  const std::lock_guard lock(mutex_);
  if (poller_ != nullptr) poller_->wake();
}

}  // namespace violet
