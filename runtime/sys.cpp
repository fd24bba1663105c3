// sys.cpp - the kernel as the one who answers.
// SPDX-License-Identifier: MIT
#include "sys.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#else
#include <sys/event.h>
#endif

#include <cstdlib>

namespace violet::sys {

constinit Calls kernel;

namespace {

// Every socket we make is non-blocking and close-on-exec from birth, so that
// no fork(2) in another thread can catch it in between.
#ifdef SOCK_NONBLOCK

constexpr int kBorn = SOCK_NONBLOCK | SOCK_CLOEXEC;

int brought_up(int fd) noexcept {
  return checked(fd);
}

int accept_one(int fd, sockaddr* peer, unsigned* size) noexcept {
  return ::accept4(fd, peer, size, kBorn);
}

#else  // macOS: right after it, which is all that can be done there

constexpr int kBorn = 0;

int brought_up(int fd) noexcept {
  if (fd < 0) return -errno;
  const int on = 1;
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
  return fd;
}

int accept_one(int fd, sockaddr* peer, unsigned* size) noexcept {
  return ::accept(fd, peer, size);
}

#endif

}  // namespace

int Calls::socket(int domain, int type, int protocol) noexcept {
  return brought_up(::socket(domain, type | kBorn, protocol));
}

int Calls::socketpair(int domain, int type, int protocol,
                      int (&fds)[2]) noexcept {
  const int result = ::socketpair(domain, type | kBorn, protocol, fds);
  if (result < 0) return -errno;
  for (const int fd : fds) brought_up(fd);
  return result;
}

int Calls::accept(int fd, sockaddr* peer, unsigned* size) noexcept {
  return brought_up(accept_one(fd, peer, size));
}

int Calls::bind(int fd, const sockaddr* name, unsigned size) noexcept {
  return checked(::bind(fd, name, size));
}

int Calls::listen(int fd, int backlog) noexcept {
  return checked(::listen(fd, backlog));
}

int Calls::connect(int fd, const sockaddr* name, unsigned size) noexcept {
  return checked(::connect(fd, name, size));
}

ssize_t Calls::recv(int fd, void* data, std::size_t size, int flags) noexcept {
  return checked(::recv(fd, data, size, flags));
}

// kNoSignal always: a peer that went away is an error of one connection,
// never a signal to the process.
ssize_t Calls::send(int fd, const void* data, std::size_t size,
                    int flags) noexcept {
  return checked(::send(fd, data, size, flags | kNoSignal));
}

ssize_t Calls::recvmsg(int fd, msghdr* message, int flags) noexcept {
  return checked(::recvmsg(fd, message, flags));
}

ssize_t Calls::sendmsg(int fd, const msghdr* message, int flags) noexcept {
  return checked(::sendmsg(fd, message, flags | kNoSignal));
}

ssize_t Calls::read(int fd, void* data, std::size_t size) noexcept {
  return checked(::read(fd, data, size));
}

ssize_t Calls::write(int fd, const void* data, std::size_t size) noexcept {
  return checked(::write(fd, data, size));
}

// Never repeated on EINTR: on Linux the descriptor is gone all the same, see
// close(2), and may already belong to somebody else.
int Calls::close(int fd) noexcept {
  return checked(::close(fd));
}

int Calls::shutdown(int fd, int how) noexcept {
  return checked(::shutdown(fd, how));
}

int Calls::getsockopt(int fd, int level, int name, void* value,
                      unsigned* size) noexcept {
  return checked(::getsockopt(fd, level, name, value, size));
}

int Calls::setsockopt(int fd, int level, int name, const void* value,
                      unsigned size) noexcept {
  return checked(::setsockopt(fd, level, name, value, size));
}

int Calls::getsockname(int fd, sockaddr* name, unsigned* size) noexcept {
  return checked(::getsockname(fd, name, size));
}

int Calls::getpeername(int fd, sockaddr* name, unsigned* size) noexcept {
  return checked(::getpeername(fd, name, size));
}

std::shared_ptr<Names> Calls::names() noexcept {
  return nullptr;
}

int Calls::get_flags(int fd) noexcept {
  return checked(::fcntl(fd, F_GETFL));
}

int Calls::set_flags(int fd, int flags) noexcept {
  return checked(::fcntl(fd, F_SETFL, flags));
}

int Calls::file_type(int fd) noexcept {
  struct stat status;
  const int result = checked(::fstat(fd, &status));
  return result < 0 ? result : static_cast<int>(status.st_mode & S_IFMT);
}

int Calls::unlink(const char* path) noexcept {
  return checked(::unlink(path));
}

int Calls::chmod(const char* path, unsigned mode) noexcept {
  return checked(::chmod(path, static_cast<mode_t>(mode)));
}

int Calls::file_at(const char* path, FileNumber& which) noexcept {
  struct stat status;
  const int result = checked(::lstat(path, &status));
  if (result < 0) return result;
  which.device = static_cast<std::uint64_t>(status.st_dev);
  which.inode = static_cast<std::uint64_t>(status.st_ino);
  return static_cast<int>(status.st_mode & S_IFMT);
}

int Calls::lock_folder(const char* path) noexcept {
  const int fd = checked(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd < 0) return fd;
  const int refused =
      uninterrupted([fd] { return checked(::flock(fd, LOCK_EX | LOCK_NB)); });
  if (refused == 0) return fd;
  ::close(fd);
  return refused;
}

// Of a listening TCP socket, Linux tells the length of the queue where it
// tells of others what has not been acknowledged. The systems with kqueue(2)
// tell it as the size of what can be read.
int Calls::backlog(int fd) noexcept {
#ifdef __linux__
  tcp_info info{};
  socklen_t size = sizeof info;
  constexpr std::size_t kEnd =
      offsetof(tcp_info, tcpi_unacked) + sizeof info.tcpi_unacked;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) {
    return -errno;
  }
  return size >= kEnd ? static_cast<int>(info.tcpi_unacked) : -EOPNOTSUPP;
#else
  const int queue = checked(::kqueue());
  if (queue < 0) return queue;
  struct kevent news{};
  EV_SET(&news, static_cast<uintptr_t>(fd), EVFILT_READ, EV_ADD, 0, 0, 0);
  const timespec at_once{0, 0};
  const int count = checked(::kevent(queue, &news, 1, &news, 1, &at_once));
  ::close(queue);
  return count <= 0 ? count : static_cast<int>(news.data);
#endif
}

int Calls::poll(pollfd* descriptors, unsigned long count,
                int timeout_ms) noexcept {
  return checked(::poll(descriptors, static_cast<nfds_t>(count), timeout_ms));
}

int set_nonblocking(int fd) noexcept {
  const int flags = calls->get_flags(fd);
  if (flags < 0) return flags;
  if ((flags & O_NONBLOCK) == 0) calls->set_flags(fd, flags | O_NONBLOCK);
  return 0;
}

int poll_now(int fd, short events) noexcept {
  pollfd descriptor{fd, events, 0};
  const int ready =
      uninterrupted([&] { return calls->poll(&descriptor, 1, 0); });
  return ready <= 0 ? ready : descriptor.revents;
}

void* Calls::allocate(std::size_t size) noexcept {
  return std::malloc(size);
}

}  // namespace violet::sys
