// sys_files.cpp - the kernel as the one who answers for files, threads and
// processes.
//
// By itself, so that a program that has none does not carry it.
// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/magic.h>
#include <linux/sockios.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#if __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#endif
#else
#include <sys/event.h>
#endif

#include <array>
#include <climits>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "sys.hpp"

namespace violet::sys {

constinit FileCalls file_kernel;
constinit thread_local FileCalls* file_calls = &file_kernel;

int FileCalls::duplicate(int fd) noexcept {
  return checked(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

int FileCalls::open(const char* path, int flags, unsigned mode) noexcept {
  return checked(::open(path, flags | O_CLOEXEC, static_cast<mode_t>(mode)));
}

namespace {
// What O_NOFOLLOW says of a symbolic link.
#if defined(__FreeBSD__) || defined(__DragonFly__)
constexpr int kNoLink = EMLINK;
#elif defined(__NetBSD__)
constexpr int kNoLink = EFTYPE;
#else
constexpr int kNoLink = ELOOP;
#endif
}  // namespace

int open_by_segments(int folder, const char* path, int flags) noexcept {
  int at = folder;
  for (;;) {
    std::array<char, NAME_MAX + 1> name;
    const std::size_t size = std::strcspn(path, "/");
    if (size > NAME_MAX) break;
    std::memcpy(name.data(), path, size);
    name[size] = '\0';
    if (std::strcmp(name.data(), "..") == 0) {
      if (at != folder) ::close(at);
      return -EXDEV;
    }
    path += size;
    const bool last = *path == '\0';
    const int how = last ? flags : O_RDONLY | O_DIRECTORY;
    const int next =
        checked(::openat(at, name.data(), how | O_NOFOLLOW | O_CLOEXEC));
    if (at != folder) ::close(at);
    if (last || next < 0) return next == -kNoLink ? -ELOOP : next;
    at = next;
    ++path;
  }
  if (at != folder) ::close(at);
  return -ENAMETOOLONG;
}

int FileCalls::open_beneath(int folder, const char* path, int flags,
                            bool cached_only) noexcept {
#if defined(__NR_openat2) && defined(RESOLVE_CACHED)
  open_how how{};
  how.flags = static_cast<unsigned>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH;
  if (cached_only) how.resolve |= RESOLVE_CACHED;
  constexpr int kTries = 16;  // something may be renamed meanwhile
  for (int i = 0; i < kTries; ++i) {
    const auto opened = static_cast<int>(
        checked(::syscall(__NR_openat2, folder, path, &how, sizeof how)));
    if (opened == -EAGAIN && !cached_only) continue;
    // An old kernel, or one that was told to know nothing of the call.
    if (opened != -ENOSYS && opened != -EPERM && opened != -EINVAL) {
      return opened;
    }
    break;
  }
#endif
  return cached_only ? -EAGAIN : open_by_segments(folder, path, flags);
}

int FileCalls::list(int folder, std::vector<std::string>& names) {
  const int own =
      checked(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (own < 0) return own;
  struct Closer {
    void operator()(DIR* dir) const noexcept { ::closedir(dir); }
  };
  const std::unique_ptr<DIR, Closer> dir(::fdopendir(own));
  if (dir == nullptr) {
    const int error = -errno;
    ::close(own);
    return error;
  }
  errno = 0;
  while (const dirent* const entry = ::readdir(dir.get())) {
    const char* const name = entry->d_name;
    const bool itself = std::strcmp(name, ".") == 0;
    if (!itself && std::strcmp(name, "..") != 0) names.emplace_back(name);
    errno = 0;
  }
  return -errno;
}

ssize_t FileCalls::pread(int fd, void* data, std::size_t size,
                         std::int64_t offset) noexcept {
  return checked(::pread(fd, data, size, static_cast<off_t>(offset)));
}

ssize_t FileCalls::pwrite(int fd, const void* data, std::size_t size,
                          std::int64_t offset) noexcept {
  return checked(::pwrite(fd, data, size, static_cast<off_t>(offset)));
}

#if defined(__linux__) && defined(RWF_NOWAIT)

ssize_t FileCalls::read_cached(int fd, void* data, std::size_t size,
                               std::int64_t offset) noexcept {
  const iovec piece{data, size};
  return checked(
      ::preadv2(fd, &piece, 1, static_cast<off_t>(offset), RWF_NOWAIT));
}

ssize_t FileCalls::write_cached(int fd, const void* data,
                                std::size_t size) noexcept {
  const iovec piece{const_cast<void*>(data), size};
  return checked(::pwritev2(fd, &piece, 1, -1, RWF_NOWAIT));
}

#else

ssize_t FileCalls::read_cached(int, void*, std::size_t, std::int64_t) noexcept {
  return -EOPNOTSUPP;
}

ssize_t FileCalls::write_cached(int, const void*, std::size_t) noexcept {
  return -EOPNOTSUPP;
}

#endif

bool FileCalls::in_memory(int fd) noexcept {
#if defined(__linux__)
  struct statfs system;
  if (::fstatfs(fd, &system) != 0) return false;
  return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
#else
  static_cast<void>(fd);
  return false;
#endif
}

ssize_t FileCalls::sendfile(int socket, int file, std::int64_t offset,
                            std::size_t size) noexcept {
#if defined(__linux__)
  off_t from = static_cast<off_t>(offset);
  return checked(::sendfile(socket, file, &from, size));
#elif defined(__APPLE__)
  off_t count = static_cast<off_t>(size);
  const int result =
      ::sendfile(file, socket, static_cast<off_t>(offset), &count, nullptr, 0);
  // What went out before it would have blocked is told in `count`.
  return result < 0 && count == 0 ? -errno : static_cast<ssize_t>(count);
#elif defined(__FreeBSD__) || defined(__DragonFly__)
  off_t count = 0;
  const int result = ::sendfile(file, socket, static_cast<off_t>(offset), size,
                                nullptr, &count, 0);
  return result < 0 && count == 0 ? -errno : static_cast<ssize_t>(count);
#else
  static_cast<void>(socket), static_cast<void>(file);
  static_cast<void>(offset), static_cast<void>(size);
  return -ENOSYS;
#endif
}

std::int64_t FileCalls::unsent([[maybe_unused]] int socket) noexcept {
  int count = 0;
#if defined(SIOCOUTQ)
  const int failed = checked(::ioctl(socket, SIOCOUTQ, &count));
#elif defined(FIONWRITE)
  const int failed = checked(::ioctl(socket, FIONWRITE, &count));
#elif defined(SO_NWRITE)
  socklen_t size = sizeof count;
  const int failed =
      checked(::getsockopt(socket, SOL_SOCKET, SO_NWRITE, &count, &size));
#else
  const int failed = -EOPNOTSUPP;
#endif
  return failed < 0 ? failed : count;
}

std::int64_t FileCalls::seek(int fd, std::int64_t offset, int whence) noexcept {
  return checked(std::int64_t{::lseek(fd, static_cast<off_t>(offset), whence)});
}

std::int64_t FileCalls::file_size(int fd) noexcept {
  struct stat status;
  const int result = checked(::fstat(fd, &status));
  return result < 0 ? result : std::int64_t{status.st_size};
}

// On macOS fsync(2) leaves it in the cache of the disk.
int FileCalls::sync(int fd, bool data_only) noexcept {
#if defined(__APPLE__)
  static_cast<void>(data_only);
  if (::fcntl(fd, F_FULLFSYNC) == 0) return 0;
  return checked(::fsync(fd));  // a file system that knows no such thing
#elif defined(__linux__) || defined(__NetBSD__) || defined(__OpenBSD__)
  return checked(data_only ? ::fdatasync(fd) : ::fsync(fd));
#else
  static_cast<void>(data_only);
  return checked(::fsync(fd));
#endif
}

int FileCalls::truncate(int fd, std::int64_t size) noexcept {
  return checked(::ftruncate(fd, static_cast<off_t>(size)));
}

int FileCalls::rename(const char* from, const char* to) noexcept {
  return checked(::rename(from, to));
}

namespace {
std::int64_t nanoseconds(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + std::int64_t{time.tv_nsec};
}

int fill(FileStatus& status, const struct stat& found) noexcept {
#ifdef __APPLE__
  const timespec& modified = found.st_mtimespec;
  const timespec& changed = found.st_ctimespec;
#else
  const timespec& modified = found.st_mtim;
  const timespec& changed = found.st_ctim;
#endif
  status.number.device = static_cast<std::uint64_t>(found.st_dev);
  status.number.inode = static_cast<std::uint64_t>(found.st_ino);
  status.type = static_cast<int>(found.st_mode & S_IFMT);
  status.links = static_cast<std::uint64_t>(found.st_nlink);
  status.size = found.st_size;
  status.modified_ns = nanoseconds(modified);
  status.changed_ns = nanoseconds(changed);
  return 0;
}
}  // namespace

int FileCalls::status(int fd, FileStatus& status) noexcept {
  struct stat found;
  const int result = checked(::fstat(fd, &found));
  return result < 0 ? result : fill(status, found);
}

int FileCalls::status_at(const char* path, FileStatus& status) noexcept {
  struct stat found;
  const int result = checked(::lstat(path, &found));
  return result < 0 ? result : fill(status, found);
}

int FileCalls::lock(int fd) noexcept {
  return uninterrupted(
      [fd] { return checked(::flock(fd, LOCK_EX | LOCK_NB)); });
}

int FileCalls::lock_range(int fd, std::int64_t begin,
                          std::int64_t size) noexcept {
#ifdef F_OFD_SETLK
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(begin);
  range.l_len = static_cast<off_t>(size);
  const int result = checked(::fcntl(fd, F_OFD_SETLK, &range));
  return result == -EACCES || result == -EAGAIN ? -EWOULDBLOCK : result;
#else
  static_cast<void>(begin), static_cast<void>(size);
  return lock(fd);
#endif
}

int FileCalls::start_thread(void* (*body)(void*) noexcept,
                            void* argument) noexcept {
  // A thread begins with the mask of the one that makes it.
  sigset_t blocked;
  sigset_t before;
  sigfillset(&blocked);  // on macOS these are macros
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
    sigdelset(&blocked, fault);
  }
  ::pthread_sigmask(SIG_SETMASK, &blocked, &before);
  pthread_t thread;
  const int error = ::pthread_create(&thread, nullptr, body, argument);
  if (error == 0) ::pthread_detach(thread);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return -error;
}

int FileCalls::pipe(int (&fds)[2]) noexcept {
#ifdef __APPLE__
  const int result = checked(::pipe(fds));
  if (result < 0) return result;
  for (const int fd : fds) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return result;
#else
  return checked(::pipe2(fds, O_CLOEXEC));
#endif
}

int FileCalls::spawn(int (*start)(const void*) noexcept,
                     const void* plan) noexcept {
  return start(plan);
}

int FileCalls::wait_child(int pid, int options, ChildEnd& end) noexcept {
  siginfo_t info{};  // without WNOHANG's child, si_pid stays 0
  const int result =
      ::waitid(P_PID, static_cast<id_t>(pid), &info, options | WEXITED);
  if (result < 0) return -errno;
  end = {info.si_code, info.si_status};
  return info.si_pid != 0;
}

int FileCalls::kill(int pid, int signal) noexcept {
  return checked(::kill(pid, signal));
}

int FileCalls::open_process(int pid) noexcept {
#if defined(SYS_pidfd_open)
  return static_cast<int>(checked(::syscall(SYS_pidfd_open, pid, 0)));
#elif defined(EVFILT_PROC)
  // A queue is a descriptor like any other: this one has a single event.
  const int queue = ::kqueue();
  if (queue < 0) return -errno;
  struct kevent ends{};
  ends.ident = static_cast<decltype(ends.ident)>(pid);
  ends.filter = EVFILT_PROC;
  ends.flags = EV_ADD;
  ends.fflags = NOTE_EXIT;
  ::fcntl(queue, F_SETFD, FD_CLOEXEC);
  if (::kevent(queue, &ends, 1, nullptr, 0, nullptr) == 0) return queue;
  const int error = errno;
  ::close(queue);
  return -error;
#else
  static_cast<void>(pid);
  return -ENOSYS;
#endif
}

}  // namespace violet::sys
