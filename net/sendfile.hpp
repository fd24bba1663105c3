// sendfile.hpp - from a file to a connection.
//
// The idea: what lies in the system's memory can go out without a copy into
// ours, by sendfile(2). But that call waits for the disk, and with it the loop
// would. So a file goes piece by piece: before each the system is asked
// whether it lies in memory, and if it does not, or the system cannot tell, a
// thread of the pool reads it first.
//
// Where the system refuses (a file system, a kind of socket, none such call)
// the pieces are read and sent.
//
// Built on: connection, runtime/file. See: sendfile(2), preadv2(2).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <system_error>

#include "../runtime/file.hpp"
#include "connection.hpp"

namespace violet {

/// What sendfile() has done.
struct FileSent {
  FileSent() noexcept {}
  std::uint64_t bytes = 0;
  bool ended = false;  ///< the file ended before `count` bytes of it
};

/// One piece, by the system.
class [[nodiscard]] SendFileEvent : public SocketEvent {
 public:
  SendFileEvent(const Connection& to, const File& from, std::uint64_t offset,
                std::size_t count) noexcept
      : SocketEvent(to.descriptor().slot()),
        file_(from.fd()),
        offset_(offset),
        count_(count) {}
  bool attempt() noexcept override;
  void undo() noexcept override { undo_claim(Direction::kWrite); }
  void describe(Description& out) const override;

  /// True if the system cannot do it, and nothing was sent.
  bool refused() const noexcept;
  std::size_t value() const noexcept { return sent_; }
  std::size_t result() const {
    if (error_ != 0) throw_error("sendfile");
    return sent_;
  }

 private:
  ssize_t send_on(int fd) noexcept;

  int file_;
  std::uint64_t offset_;
  std::size_t count_;
  std::size_t sent_ = 0;
};

/// Sends `count` bytes of a file, from `offset` on.
/// Suspends: whenever the connection takes no more, or the disk is asked.
/// Returns: how many were sent: all, unless the file has ended.
/// Throws: std::system_error; Misuse if another job sends already.
/// Kill: some of it may have been sent; sent_bytes() tells.
/// Lifetime: connection and file outlive the task.
/// Cost: two system calls for 256 KiB to see that they lie in memory.
Task<FileSent> sendfile(const Connection& to, const File& from,
                        std::uint64_t offset, std::uint64_t count);

/// The same, told by a code, and by how much was sent before.
Task<FileSent> sendfile(const Connection& to, const File& from,
                        std::uint64_t offset, std::uint64_t count,
                        std::error_code& code);

}  // namespace violet
