// sendfile.cpp - without a copy, where the system can.
// SPDX-License-Identifier: MIT
#include "sendfile.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>

#include "../runtime/shield.hpp"

namespace violet {

namespace {

// What is sent between two looks at whether the next lies in memory, and what
// is read at a time where the system refuses.
constexpr std::size_t kFetchedBytes = std::size_t{256} << 10;

// What is sent at once of a file that cannot lie elsewhere.
constexpr std::size_t kMemoryBytes = std::size_t{4} << 20;

/// Looks at both ends: what is read from a disk is read in order.
bool lies_in_memory(const File& from, std::uint64_t offset,
                    std::size_t size) noexcept {
  if (from.in_memory()) return true;
  const auto is_there = [file = from.fd()](std::uint64_t place) {
    char byte;
    return sys::uninterrupted([&] {
             return sys::file_calls->read_cached(
                 file, &byte, 1, static_cast<std::int64_t>(place));
           }) >= 0;
  };
  return is_there(offset) && is_there(offset + size - 1);
}

/// Blocks until a piece lies in memory. What goes wrong shows when it is sent.
void fetch(int file, std::uint64_t offset, std::size_t size) noexcept {
  const std::unique_ptr<char[]> scratch(new (std::nothrow) char[size]);
  if (scratch == nullptr) return;
  std::size_t got = 0;
  while (got < size) {
    const ssize_t count = sys::uninterrupted([&] {
      return sys::file_calls->pread(file, scratch.get(), size - got,
                                    static_cast<std::int64_t>(offset + got));
    });
    if (count <= 0) return;
    got += static_cast<std::size_t>(count);
  }
}

// What follows is told of an error by `code`; without one, it throws.

/// One piece, where the system refuses to send it itself.
Task<std::size_t> read_and_send(const Connection& to, const File& from,
                                std::uint64_t offset, std::span<char> buffer,
                                std::error_code* code) {
  if (code == nullptr) {
    const std::size_t count = co_await from.read_at(buffer, offset);
    co_await to.sendall(std::string_view(buffer.data(), count));
    co_return count;
  }
  const std::size_t count = co_await from.read_at(buffer, offset, *code);
  if (*code) co_return 0;
  const std::string_view piece(buffer.data(), count);
  co_return co_await to.sendall(piece, *code);
}

Task<std::size_t> send_piece(const Connection& to, const File& from,
                             std::uint64_t offset, std::size_t size,
                             bool& refused, std::error_code* code) {
  if (!lies_in_memory(from, offset, size)) {
    co_await offload([&] { fetch(from.fd(), offset, size); });
  }
  SendFileEvent event(to, from, offset, size);
  internal::Outcome<std::size_t> sent;
  std::error_code failed;
  if (code != nullptr) {
    Coded<SendFileEvent> coded(std::move(event), failed);
    co_await internal::into(sent, coded);
    refused = coded.refused();
    if (!refused) *code = failed;
  } else {
    co_await internal::into(sent, event);
    refused = event.refused();
  }
  co_return refused ? 0 : sent.take();
}

Task<FileSent> send_all(const Connection& to, const File& from,
                        std::uint64_t offset, std::uint64_t count,
                        std::error_code* code) {
  FileSent done;
  bool refused = false;
  std::unique_ptr<char[]> buffer;  // once it is refused
  while (done.bytes < count && !done.ended) {
    const std::uint64_t left = count - done.bytes;
    const std::size_t most =
        from.in_memory() && !refused ? kMemoryBytes : kFetchedBytes;
    auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, most));
    const std::uint64_t place = offset + done.bytes;
    std::size_t sent = 0;
    if (!refused) {
      sent = co_await send_piece(to, from, place, size, refused, code);
      if (refused) buffer.reset(new char[kFetchedBytes]);
    }
    if (refused) {
      size = std::min(size, kFetchedBytes);
      const std::span<char> room(buffer.get(), size);
      sent = co_await read_and_send(to, from, place, room, code);
    }
    done.bytes += sent;
    if (code != nullptr && *code) break;
    done.ended = sent < size;
  }
  co_return done;
}

}  // namespace

bool SendFileEvent::attempt() noexcept {
  if (sent_ == count_) return true;
  return drive<Direction::kWrite>([this](int fd) { return send_on(fd); });
}

ssize_t SendFileEvent::send_on(int fd) noexcept {
  for (;;) {
    const ssize_t count = sys::uninterrupted([&] {
      return sys::file_calls->sendfile(
          fd, file_, static_cast<std::int64_t>(offset_ + sent_),
          count_ - sent_);
    });
    if (count <= 0) return count;  // 0: the file has ended
    sent_ += static_cast<std::size_t>(count);
    slot_->sent(static_cast<std::size_t>(count));
    if (sent_ == count_) return 0;
    if (!spend()) return kGoBehind;
  }
}

bool SendFileEvent::refused() const noexcept {
  const bool cannot = error_ == EINVAL || error_ == ENOSYS ||
                      error_ == EOPNOTSUPP || error_ == ENOTSOCK;
  return cannot && sent_ == 0;
}

void SendFileEvent::describe(Description& out) const {
  describe_as("sendfile", out);
  out.text += concat({" ", sent_, "/", count_});
}

Task<FileSent> sendfile(const Connection& to, const File& from,
                        std::uint64_t offset, std::uint64_t count) {
  if (static_cast<std::int64_t>(offset) < 0) {
    throw_system(EINVAL, concat({"sendfile ", from.path()}));
  }
  return send_all(to, from, offset, count, nullptr);
}

Task<FileSent> sendfile(const Connection& to, const File& from,
                        std::uint64_t offset, std::uint64_t count,
                        std::error_code& code) {
  code.clear();
  if (static_cast<std::int64_t>(offset) < 0) {
    code = std::make_error_code(std::errc::invalid_argument);
    count = 0;
  }
  return send_all(to, from, offset, count, &code);
}

}  // namespace violet
