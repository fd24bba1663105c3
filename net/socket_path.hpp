// socket_path.hpp - the file of a unix socket that listens.
//
// bind(2) makes a file, and nobody removes it: a server that was killed leaves
// one behind, on which no other can be started. To tell such a file from one
// that is in use, we try to connect: "connection refused" means that nobody
// listens. Only then is it replaced, and only if it is a socket.
//
// Between that question and the new socket another server might do the same,
// and each delete the other's. So both hold a lock meanwhile: flock(2) on the
// folder, which leaves no file behind and goes with its holder. Where it is
// not to be had (a folder that may not be read), nothing is replaced. Programs
// that do not take the lock can still be in each other's way.
//
// In the end the file is removed if it is still the one that was made, and
// only by the process that made it: a forked child leaves it alone. While the
// socket is open, its file's number cannot become another's; so the file goes
// first.
//
// Built on: address, runtime/fd. See: unix(7), flock(2).
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

#include "../runtime/fd.hpp"
#include "../runtime/sys.hpp"
#include "address.hpp"

namespace violet {

/// Holds the lock of the folder in which a path lies, if it can be had.
class FolderLock {
 public:
  /// Waits for it, for a second at most: it is held for moments only.
  explicit FolderLock(std::string_view path);

  bool held() const noexcept { return bool(folder_); }

  /// True if somebody else kept it for all that time.
  bool busy() const noexcept { return busy_; }

 private:
  Fd folder_;
  bool busy_ = false;
};

/// Owns the file of a unix socket. Move-only.
class SocketPath {
 public:
  SocketPath() noexcept {}

  /// Takes over the file that bind(2) has just made. A socket of a simulated
  /// network has none.
  explicit SocketPath(std::string_view path);
  SocketPath(SocketPath&& other) noexcept;
  SocketPath& operator=(SocketPath&& other) noexcept;
  ~SocketPath() { remove(); }

  /// Removes what bind(2) would stumble over: a socket on which nobody
  /// listens. Without the lock it removes nothing.
  /// Throws: std::system_error "bind unix:/path: Address already in use".
  static void make_way(const Address& address, const FolderLock& lock);

  /// As chmod(2). Throws: std::system_error.
  void change_mode(unsigned mode) const;

  /// Removes the file if it is still ours.
  void remove() noexcept;

  /// Leaves the file to others.
  void leave() noexcept { path_.clear(); }

 private:
  std::string path_;  // empty: none
  sys::FileNumber file_;
  int process_ = 0;
};

}  // namespace violet
