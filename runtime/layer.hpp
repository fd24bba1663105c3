// layer.hpp - one who answers system calls over another.
//
// The idea: whatever stands in the kernel's place for a test answers some
// calls and passes on the rest, to the kernel or to another stand-in that was
// there before. So a test can put faults over a simulated network.
//
// Built on: sys.
// SPDX-License-Identifier: MIT
#pragma once

#include "sys.hpp"

namespace violet::sys {

/// Answers the system calls of this thread while it lives, by passing them
/// on to whoever answered before. A test derives from it and overrides the
/// calls that it wants to answer.
/// Lifetime: layers of one thread die in the reverse order of their making.
class Layer : public Calls, public FileCalls {
 public:
  Layer() noexcept;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  ~Layer() override;

  int socket(int domain, int type, int protocol) noexcept override;
  int socketpair(int domain, int type, int protocol,
                 int (&fds)[2]) noexcept override;
  int bind(int fd, const sockaddr* name, unsigned size) noexcept override;
  int listen(int fd, int backlog) noexcept override;
  int accept(int fd, sockaddr* peer, unsigned* size) noexcept override;
  int connect(int fd, const sockaddr* name, unsigned size) noexcept override;
  ssize_t recv(int fd, void* data, std::size_t size,
               int flags) noexcept override;
  ssize_t send(int fd, const void* data, std::size_t size,
               int flags) noexcept override;
  ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept override;
  ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept override;
  ssize_t read(int fd, void* data, std::size_t size) noexcept override;
  ssize_t write(int fd, const void* data, std::size_t size) noexcept override;
  int close(int fd) noexcept override;
  int shutdown(int fd, int how) noexcept override;
  int getsockopt(int fd, int level, int name, void* value,
                 unsigned* size) noexcept override;
  int setsockopt(int fd, int level, int name, const void* value,
                 unsigned size) noexcept override;
  int getsockname(int fd, sockaddr* name, unsigned* size) noexcept override;
  int getpeername(int fd, sockaddr* name, unsigned* size) noexcept override;
  int duplicate(int fd) noexcept override;
  std::shared_ptr<Names> names() noexcept override;
  int get_flags(int fd) noexcept override;
  int set_flags(int fd, int flags) noexcept override;
  int file_type(int fd) noexcept override;
  int unlink(const char* path) noexcept override;
  int open(const char* path, int flags, unsigned mode) noexcept override;
  int open_beneath(int folder, const char* path, int flags,
                   bool cached_only) noexcept override;
  int list(int folder, std::vector<std::string>& names) override;
  ssize_t pread(int fd, void* data, std::size_t size,
                std::int64_t offset) noexcept override;
  ssize_t pwrite(int fd, const void* data, std::size_t size,
                 std::int64_t offset) noexcept override;
  ssize_t read_cached(int fd, void* data, std::size_t size,
                      std::int64_t offset) noexcept override;
  ssize_t write_cached(int fd, const void* data,
                       std::size_t size) noexcept override;
  bool in_memory(int fd) noexcept override;
  ssize_t sendfile(int socket, int file, std::int64_t offset,
                   std::size_t size) noexcept override;
  std::int64_t unsent(int socket) noexcept override;
  std::int64_t seek(int fd, std::int64_t offset, int whence) noexcept override;
  std::int64_t file_size(int fd) noexcept override;
  int sync(int fd, bool data_only) noexcept override;
  int truncate(int fd, std::int64_t size) noexcept override;
  int rename(const char* from, const char* to) noexcept override;
  int status(int fd, FileStatus& status) noexcept override;
  int status_at(const char* path, FileStatus& status) noexcept override;
  int lock(int fd) noexcept override;
  int lock_range(int fd, std::int64_t begin,
                 std::int64_t size) noexcept override;
  int chmod(const char* path, unsigned mode) noexcept override;
  int file_at(const char* path, FileNumber& which) noexcept override;
  int lock_folder(const char* path) noexcept override;
  int backlog(int fd) noexcept override;
  int poll(pollfd* descriptors, unsigned long count,
           int timeout_ms) noexcept override;
  int start_thread(void* (*body)(void*) noexcept,
                   void* argument) noexcept override;
  int pipe(int (&fds)[2]) noexcept override;
  int spawn(int (*start)(const void*) noexcept,
            const void* plan) noexcept override;
  int wait_child(int pid, int options, ChildEnd& end) noexcept override;
  int kill(int pid, int signal) noexcept override;
  int open_process(int pid) noexcept override;
  void* allocate(std::size_t size) noexcept override;
  bool shortens() const noexcept override;

 private:
  Calls& below_;
  FileCalls& files_below_;
};

}  // namespace violet::sys
