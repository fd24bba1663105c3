// events.cpp - the attempts of the basic events.
// SPDX-License-Identifier: MIT
#include "events.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

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
  const Duration left = time_left(timer_.deadline(), loop_of(*job()).now());
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
  return drive<Direction::kRead>(
      [this](int fd) { return slot_->file() ? read_file(fd) : read_from(fd); });
}

ssize_t ReadEvent::read_from(int fd) noexcept {
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
}

// -------------------------------------------------------------------- of files

namespace {

// What is copied from or to memory at once, or asked of a disk.
constexpr std::size_t kFilePieceBytes = std::size_t{256} << 10;

/// True if a call that must not wait for the disk would have to.
bool asks_disk(Slot& slot, ssize_t error) noexcept {
  if (error == -EAGAIN) return true;
  if (error != -EOPNOTSUPP && error != -ENOSYS) return false;
  slot.traits |= kAsksDisk;
  return true;
}

/// What is to be said if there is no thread to ask the disk: EAGAIN would mean
/// that there will be an edge.
ssize_t no_thread(int error) noexcept {
  return error == EAGAIN ? -ENOMEM : -error;
}

bool may_lie_in_memory(const Slot& slot) noexcept {
  return (slot.traits & kAsksDisk) == 0;
}

}  // namespace

internal::ReadAhead::ReadAhead(int fd, std::int64_t from,
                               std::size_t most) noexcept
    : HeapCall(OffloadPool::standard(), Loop::current()),
      offset(from),
      data(static_cast<char*>(sys::calls->allocate(most))),
      fd_(fd),
      most_(most) {}

internal::ReadAhead::~ReadAhead() {
  std::free(data);
}

void internal::ReadAhead::work() noexcept {
  result = sys::uninterrupted(
      [this] { return sys::file_calls->pread(fd_, data, most_, offset); });
}

ssize_t ReadEvent::read_file(int fd) noexcept {
  if (ahead_ != nullptr) return read_ahead(fd);
  const std::size_t most = std::min(buffer_.size(), kFilePieceBytes);
  if (may_lie_in_memory(*slot_)) {
    const ssize_t count = sys::uninterrupted([&] {
      return sys::file_calls->read_cached(fd, buffer_.data(), most, -1);
    });
    if (count >= 0) {
      got_ = static_cast<std::size_t>(count);
      spend_on_copy(got_);
    }
    if (count >= 0 || !asks_disk(*slot_, count)) return count;
  }
  const std::int64_t offset = sys::file_calls->seek(fd, 0, SEEK_CUR);
  if (offset < 0) return static_cast<ssize_t>(offset);
  ahead_.reset(new (std::nothrow) internal::ReadAhead(fd, offset, most));
  if (ahead_ == nullptr || ahead_->data == nullptr) return -ENOMEM;
  return read_ahead(fd);
}

/// Takes what was read ahead, and only now moves the descriptor on. If somebody
/// else has moved it meanwhile, it begins anew.
ssize_t ReadEvent::read_ahead(int fd) noexcept {
  if (!ahead_->attempt(*job(), error_)) return kAway;
  if (error_ != 0) return no_thread(error_);
  const HeldCall<internal::ReadAhead> back = std::move(ahead_);
  if (back->result < 0) return back->result;
  if (sys::file_calls->seek(fd, 0, SEEK_CUR) != back->offset) return kGoBehind;
  sys::file_calls->seek(fd, back->result, SEEK_CUR);
  got_ = static_cast<std::size_t>(back->result);
  std::memcpy(buffer_.data(), back->data, got_);
  return back->result;
}

internal::WritePiece::WritePiece(Fd owned) noexcept
    : OffloadWait(OffloadPool::standard()), own_(std::move(owned)) {}

void internal::WritePiece::prepare(int fd, std::string_view data) noexcept {
  fd_ = own_ ? own_.get() : fd;
  data_ = data;
}

void internal::WritePiece::work() noexcept {
  result = sys::uninterrupted(
      [this] { return sys::calls->write(fd_, data_.data(), data_.size()); });
}

void WriteEvent::describe(Description& out) const {
  out.text = concat({"write ", name(), " ", written_, "/", data_.size()});
}

// A piece that is away uses the caller's data: whatever becomes of the
// descriptor, it has to come back first.
bool WriteEvent::attempt() noexcept {
  if (data_.empty()) return true;
  if (!have_slot()) return true;
  if (away_ && !receive_piece()) return false;
  return drive<Direction::kWrite>(
      [this](int fd) { return slot_->file() ? write_file(fd) : write_on(fd); });
}

bool WriteEvent::receive_piece() noexcept {
  if (!attempt_part(*piece_)) return false;
  count_piece();
  return true;
}

/// What was under way is out then, and value() counts it.
void WriteEvent::undo_piece() noexcept {
  undo_part(*piece_);
  if (away_) count_piece();
}

void WriteEvent::count_piece() noexcept {
  away_ = false;
  if (piece_->result <= 0) return;
  written_ += static_cast<std::size_t>(piece_->result);
  slot_->sent(static_cast<std::size_t>(piece_->result));
}

/// Returns: as write_on, or kAway.
ssize_t WriteEvent::write_file(int fd) noexcept {
  if (piece_ != nullptr) {  // one has come back
    const ssize_t result = std::exchange(piece_->result, 0);
    if (result < 0) return result;
    if (written_ == data_.size()) return 0;
    if (result > 0 && !spend()) return kGoBehind;
  }
  if (may_lie_in_memory(*slot_)) {
    const ssize_t done = write_cached(fd);
    if (done >= 0 || done == kGoBehind || !asks_disk(*slot_, done)) return done;
  }
  if (piece_ == nullptr) {
    // A number that is ours may be closed, and used again, by another job.
    const int own = slot_->borrowed() ? -1 : sys::file_calls->duplicate(fd);
    if (own < 0 && !slot_->borrowed()) return own;
    piece_.reset(new (std::nothrow) internal::WritePiece(Fd(own)));
    if (piece_ == nullptr) return -ENOMEM;
  }
  piece_->prepare(fd, data_.substr(written_, kFilePieceBytes));
  away_ = !attempt_part(*piece_);
  return away_ ? kAway : no_thread(piece_->error());
}

ssize_t WriteEvent::write_cached(int fd) noexcept {
  for (;;) {
    const std::string_view rest = data_.substr(written_, kFilePieceBytes);
    const ssize_t count = sys::uninterrupted([&] {
      return sys::file_calls->write_cached(fd, rest.data(), rest.size());
    });
    if (count <= 0) return count == 0 ? -EAGAIN : count;
    written_ += static_cast<std::size_t>(count);
    slot_->sent(static_cast<std::size_t>(count));
    spend_on_copy(static_cast<std::size_t>(count));
    if (written_ == data_.size()) return 0;
    if (!spend()) return kGoBehind;
  }
}

// -------------------------------------------------------- of everything else

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
