// socket_path.cpp - who may replace and remove it.
// SPDX-License-Identifier: MIT
#include "socket_path.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "../runtime/error.hpp"
#include "../runtime/file.hpp"

namespace violet {

namespace {

constexpr int kPauseMs = 10;

/// Returns: what connecting to it gives, 0 or a negated error number.
int knock_at(const Address& address) noexcept {
  const Fd fd(sys::calls->socket(AF_UNIX, SOCK_STREAM, 0));
  if (!fd) return -EMFILE;
  return sys::uninterrupted([&] {
    return sys::calls->connect(fd.get(), address.get(), address.size());
  });
}

/// The same file, also once the process has moved to another folder.
std::string absolute(std::string_view path) {
  char before[4097] = "";
  if (!path.starts_with('/') && ::getcwd(before, sizeof before - 1)) {
    std::strcat(before, "/");
  }
  return concat({std::string_view(before), path});
}

}  // namespace

FolderLock::FolderLock(std::string_view path) {
  const std::string folder = folder_of(path);
  for (int tries = 0; tries < 100; ++tries) {
    const int fd = sys::calls->lock_folder(folder.c_str());
    folder_ = Fd(fd);
    busy_ = fd == -EWOULDBLOCK;
    if (!busy_) return;
    sys::calls->poll(nullptr, 0, kPauseMs);
  }
}

SocketPath::SocketPath(std::string_view path)
    : path_(absolute(path)), process_(::getpid()) {
  if (sys::calls->file_at(path_.c_str(), file_) != S_IFSOCK) path_.clear();
}

SocketPath::SocketPath(SocketPath&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      file_(other.file_),
      process_(other.process_) {}

SocketPath& SocketPath::operator=(SocketPath&& other) noexcept {
  if (this != &other) {
    remove();
    path_ = std::exchange(other.path_, {});
    file_ = other.file_;
    process_ = other.process_;
  }
  return *this;
}

void SocketPath::make_way(const Address& address, const FolderLock& lock) {
  const std::string path(address.path());
  sys::FileNumber file;
  const int type = sys::calls->file_at(path.c_str(), file);
  if (type < 0) return;  // none, or bind(2) says why
  int error = EEXIST;
  const char* why = " (there is a file that is no socket)";
  if (type == S_IFSOCK) {
    const int answer = knock_at(address);
    if (answer == -ENOENT) return;
    const bool stale = answer == -ECONNREFUSED;
    if (stale && lock.held()) {
      sys::calls->unlink(path.c_str());
      return;
    }
    error = EADDRINUSE;
    why =
        stale ? " (nobody listens there, but its folder cannot be locked)" : "";
  }
  throw_system(error, concat({"bind ", address.text(), why}));
}

void SocketPath::change_mode(unsigned mode) const {
  const int result = sys::calls->chmod(path_.c_str(), mode);
  if (result < 0) throw_system(-result, concat({"chmod ", path_}));
}

// A server that takes its place meanwhile holds the lock. If somebody keeps it
// for too long the file stays: it does no harm, since the next one replaces it.
void SocketPath::remove() noexcept {
  if (path_.empty() || process_ != ::getpid()) return;
  has_memory_for([this] {
    const FolderLock lock(path_);
    sys::FileNumber file;
    const int type = sys::calls->file_at(path_.c_str(), file);
    if (!lock.busy() && type == S_IFSOCK && file == file_) {
      sys::calls->unlink(path_.c_str());
    }
  });
  path_.clear();
}

}  // namespace violet
