// events.cpp - the attempts of the basic events.
// SPDX-License-Identifier: MIT
#include "events.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>

#include <algorithm>
#include <cstdio>

namespace violet {

bool SleepEvent::attempt() noexcept {
  if (armed_) return !timer_.active();
  armed_ = true;
  if (duration_ <= Duration::zero()) {
    go_behind();
    return false;
  }
  Loop& loop = loop_of(*job());
  const bool started =
      loop.timers().start(timer_, after(loop.now(), duration_), *job());
  if (!started) error_ = ENOMEM;
  return !started;
}

void SleepEvent::undo() noexcept {
  loop_of(*job()).timers().stop(timer_);
}

void SleepEvent::describe(Description& out) const {
  out.text = "sleep";
  if (!timer_.active() || timer_.deadline() == kNever) return;
  const Duration left = timer_.deadline() - loop_of(*job()).now();
  char text[48];
  std::snprintf(text, sizeof text, ", %.1f s left",
                std::chrono::duration<double>(left).count());
  out.text += text;
}

void SleepEvent::result() const {
  if (error_ != 0) throw_system(error_, "sleep");
}

bool KillEvent::attempt() noexcept {
  if (!std::exchange(asked_, true) && target_ != nullptr) {
    kill_job(*target_, reason_, where_);
  }
  return attempt_end();
}

bool StoppingEvent::attempt() noexcept {
  Loop& loop = loop_of(*job());
  if (loop.stop_requested()) return true;
  stand_in(loop.stop_waiters(), place_, *job());
  return false;
}

void StoppingEvent::undo() noexcept {
  leave(loop_of(*job()).stop_waiters(), place_);
}

bool DescriptorEvent::have_slot() noexcept {
  if (slot_ != nullptr) return true;
  if (fd_ >= 0) use(Slots::here().borrow(fd_));
  if (slot_ == nullptr) error_ = fd_ >= 0 ? ENOMEM : EBADF;
  return slot_ != nullptr;
}

ssize_t DescriptorEvent::ask(short events) const noexcept {
  const int ready = sys::poll_now(fd_, events);
  if (ready == 0) return -EAGAIN;
  if (ready < 0) return ready;
  return (ready & POLLNVAL) != 0 ? -EBADF : 0;
}

// Who waits for a direction that the descriptor does not have waits for ever.
bool DescriptorEvent::allows(int access) const noexcept {
  const int flags = sys::calls->get_flags(fd_);
  const int mode = flags & O_ACCMODE;
  return flags < 0 || mode == O_RDWR || mode == access;
}

bool ReadableEvent::attempt() noexcept {
  if (!have_slot()) return true;
  return drive<Direction::kRead>([this](int) { return ask(POLLIN); });
}

bool WritableEvent::attempt() noexcept {
  if (!have_slot()) return true;
  return drive<Direction::kWrite>([this](int) { return ask(POLLOUT); });
}

bool ReadEvent::attempt() noexcept {
  if (buffer_.empty()) return true;
  if (!have_slot()) return true;
  return drive<Direction::kRead>([this](int fd) -> ssize_t {
    if (slot_->borrowed()) {
      const ssize_t refused = ask(POLLIN);
      if (refused == -EAGAIN && !allows(O_RDONLY)) return -EBADF;
      if (refused < 0) return refused;
    }
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->read(fd, buffer_.data(), buffer_.size()); });
    if (count < 0) return count;
    got_ = static_cast<std::size_t>(count);
    slot_->received(got_, buffer_.size());
    return count;
  });
}

void WriteEvent::describe(Description& out) const {
  out.text = concat({"write ", name(), " ", written_, "/", data_.size()});
}

bool WriteEvent::attempt() noexcept {
  if (data_.empty()) return true;
  if (!have_slot()) return true;
  return drive<Direction::kWrite>([this](int fd) { return write_on(fd); });
}

// A borrowed pipe may be blocking: poll(2) promises room for PIPE_BUF bytes
// and no more.
ssize_t WriteEvent::write_on(int fd) noexcept {
  for (;;) {
    std::string_view rest = data_.substr(written_);
    if (slot_->borrowed()) {
      const ssize_t refused = ask(POLLOUT);
      if (refused == -EAGAIN && !allows(O_WRONLY)) return -EBADF;
      if (refused < 0) return refused;
      rest = rest.substr(0, PIPE_BUF);
    }
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->write(fd, rest.data(), rest.size()); });
    if (count < 0) return count;
    written_ += static_cast<std::size_t>(count);
    slot_->sent(static_cast<std::size_t>(count));
    if (written_ == data_.size()) return 0;
    if (!spend()) return kGoBehind;
  }
}

}  // namespace violet
