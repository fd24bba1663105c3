// layer.cpp - passing on.
// SPDX-License-Identifier: MIT
#include "layer.hpp"

#include <utility>

#include "error.hpp"

namespace violet::sys {

Layer::Layer() noexcept
    : below_(*std::exchange(calls, this)),
      files_below_(*std::exchange(file_calls, this)) {}

Layer::~Layer() {
  if (calls != this) {
    fatal(
        "whoever answers system calls goes in the thread in which it came, "
        "and before whoever came earlier: see sys::Layer");
  }
  calls = &below_;
  file_calls = &files_below_;
}

int Layer::socket(int domain, int type, int protocol) noexcept {
  return below_.socket(domain, type, protocol);
}

int Layer::socketpair(int domain, int type, int protocol,
                      int (&fds)[2]) noexcept {
  return below_.socketpair(domain, type, protocol, fds);
}

int Layer::bind(int fd, const sockaddr* name, unsigned size) noexcept {
  return below_.bind(fd, name, size);
}

int Layer::listen(int fd, int backlog) noexcept {
  return below_.listen(fd, backlog);
}

int Layer::accept(int fd, sockaddr* peer, unsigned* size) noexcept {
  return below_.accept(fd, peer, size);
}

int Layer::connect(int fd, const sockaddr* name, unsigned size) noexcept {
  return below_.connect(fd, name, size);
}

ssize_t Layer::recv(int fd, void* data, std::size_t size, int flags) noexcept {
  return below_.recv(fd, data, size, flags);
}

ssize_t Layer::send(int fd, const void* data, std::size_t size,
                    int flags) noexcept {
  return below_.send(fd, data, size, flags);
}

ssize_t Layer::recvmsg(int fd, msghdr* message, int flags) noexcept {
  return below_.recvmsg(fd, message, flags);
}

ssize_t Layer::sendmsg(int fd, const msghdr* message, int flags) noexcept {
  return below_.sendmsg(fd, message, flags);
}

ssize_t Layer::read(int fd, void* data, std::size_t size) noexcept {
  return below_.read(fd, data, size);
}

ssize_t Layer::write(int fd, const void* data, std::size_t size) noexcept {
  return below_.write(fd, data, size);
}

int Layer::close(int fd) noexcept {
  return below_.close(fd);
}

int Layer::shutdown(int fd, int how) noexcept {
  return below_.shutdown(fd, how);
}

int Layer::getsockopt(int fd, int level, int name, void* value,
                      unsigned* size) noexcept {
  return below_.getsockopt(fd, level, name, value, size);
}

int Layer::setsockopt(int fd, int level, int name, const void* value,
                      unsigned size) noexcept {
  return below_.setsockopt(fd, level, name, value, size);
}

int Layer::getsockname(int fd, sockaddr* name, unsigned* size) noexcept {
  return below_.getsockname(fd, name, size);
}

int Layer::getpeername(int fd, sockaddr* name, unsigned* size) noexcept {
  return below_.getpeername(fd, name, size);
}

int Layer::duplicate(int fd) noexcept {
  return files_below_.duplicate(fd);
}

std::shared_ptr<Names> Layer::names() noexcept {
  return below_.names();
}

int Layer::get_flags(int fd) noexcept {
  return below_.get_flags(fd);
}

int Layer::set_flags(int fd, int flags) noexcept {
  return below_.set_flags(fd, flags);
}

int Layer::file_type(int fd) noexcept {
  return below_.file_type(fd);
}

int Layer::unlink(const char* path) noexcept {
  return below_.unlink(path);
}

int Layer::open(const char* path, int flags, unsigned mode) noexcept {
  return files_below_.open(path, flags, mode);
}

int Layer::open_beneath(int folder, const char* path, int flags,
                        bool cached_only) noexcept {
  return files_below_.open_beneath(folder, path, flags, cached_only);
}

int Layer::list(int folder, std::vector<std::string>& names) {
  return files_below_.list(folder, names);
}

ssize_t Layer::pread(int fd, void* data, std::size_t size,
                     std::int64_t offset) noexcept {
  return files_below_.pread(fd, data, size, offset);
}

ssize_t Layer::pwrite(int fd, const void* data, std::size_t size,
                      std::int64_t offset) noexcept {
  return files_below_.pwrite(fd, data, size, offset);
}

ssize_t Layer::read_cached(int fd, void* data, std::size_t size,
                           std::int64_t offset) noexcept {
  return files_below_.read_cached(fd, data, size, offset);
}

ssize_t Layer::write_cached(int fd, const void* data,
                            std::size_t size) noexcept {
  return files_below_.write_cached(fd, data, size);
}

bool Layer::in_memory(int fd) noexcept {
  return files_below_.in_memory(fd);
}

ssize_t Layer::sendfile(int socket, int file, std::int64_t offset,
                        std::size_t size) noexcept {
  return files_below_.sendfile(socket, file, offset, size);
}

std::int64_t Layer::unsent(int socket) noexcept {
  return files_below_.unsent(socket);
}

std::int64_t Layer::seek(int fd, std::int64_t offset, int whence) noexcept {
  return files_below_.seek(fd, offset, whence);
}

std::int64_t Layer::file_size(int fd) noexcept {
  return files_below_.file_size(fd);
}

int Layer::sync(int fd, bool data_only) noexcept {
  return files_below_.sync(fd, data_only);
}

int Layer::truncate(int fd, std::int64_t size) noexcept {
  return files_below_.truncate(fd, size);
}

int Layer::rename(const char* from, const char* to) noexcept {
  return files_below_.rename(from, to);
}

int Layer::status(int fd, FileStatus& status) noexcept {
  return files_below_.status(fd, status);
}

int Layer::status_at(const char* path, FileStatus& status) noexcept {
  return files_below_.status_at(path, status);
}

int Layer::lock(int fd) noexcept {
  return files_below_.lock(fd);
}

int Layer::lock_range(int fd, std::int64_t begin, std::int64_t size) noexcept {
  return files_below_.lock_range(fd, begin, size);
}

int Layer::chmod(const char* path, unsigned mode) noexcept {
  return below_.chmod(path, mode);
}

int Layer::file_at(const char* path, FileNumber& which) noexcept {
  return below_.file_at(path, which);
}

int Layer::lock_folder(const char* path) noexcept {
  return below_.lock_folder(path);
}

int Layer::backlog(int fd) noexcept {
  return below_.backlog(fd);
}

int Layer::poll(pollfd* descriptors, unsigned long count,
                int timeout_ms) noexcept {
  return below_.poll(descriptors, count, timeout_ms);
}

int Layer::start_thread(void* (*body)(void*) noexcept,
                        void* argument) noexcept {
  return files_below_.start_thread(body, argument);
}

int Layer::pipe(int (&fds)[2]) noexcept {
  return files_below_.pipe(fds);
}

int Layer::spawn(int (*start)(const void*) noexcept,
                 const void* plan) noexcept {
  return files_below_.spawn(start, plan);
}

int Layer::wait_child(int pid, int options, ChildEnd& end) noexcept {
  return files_below_.wait_child(pid, options, end);
}

int Layer::kill(int pid, int signal) noexcept {
  return files_below_.kill(pid, signal);
}

int Layer::open_process(int pid) noexcept {
  return files_below_.open_process(pid);
}

void* Layer::allocate(std::size_t size) noexcept {
  return below_.allocate(size);
}

bool Layer::shortens() const noexcept {
  return below_.shortens();
}

}  // namespace violet::sys
