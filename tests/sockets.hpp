// sockets.hpp - what the tests of sockets share.
// SPDX-License-Identifier: MIT
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>

#include "../net/net.hpp"
#include "script.hpp"

namespace sockets {

using namespace script;

// ------------------------------------------------------------------- streams

/// The two ends of one stream.
using Ends = std::pair<Connection, Connection>;

/// The ends of a TCP stream: first connected, second accepted.
inline Task<Ends> tcp_ends(std::string host = "127.0.0.1") {
  Listener listener(host, 0);
  Connection near = co_await connect(listener.address());
  Connection far = co_await listener.accept();
  co_return Ends(std::move(near), std::move(far));
}

/// One client of an echo server.
inline Task<> echo(Connection conn) {
  while (auto data = co_await conn.recv()) co_await conn.sendall(data);
}

/// Everything up to the end of the stream.
inline Task<std::string> receive_all(const Connection& from) {
  std::string text;
  for (;;) {
    const Chunk chunk = co_await from.recv();
    if (!chunk) co_return text;
    text.append(chunk.view());
  }
}

/// `count` bytes, or fewer if the stream ends, however many pieces it takes.
inline Task<std::string> receive(const Connection& from, std::size_t count) {
  std::string text(count, '\0');
  std::size_t got = 0;
  while (got < count) {
    const std::span<char> rest(text.data() + got, count - got);
    const std::size_t some = co_await from.recv(rest);
    if (some == 0) break;
    got += some;
  }
  text.resize(got);
  co_return text;
}

/// Sends a request and waits for as much again.
inline Task<std::string> ask(const Connection& server, std::string request) {
  co_await server.sendall(request);
  std::string answer = co_await receive(server, request.size());
  co_return answer;
}

/// What a task throws, as text; "nothing" if it does not.
inline Task<std::string> error_of(Task<> task) {
  std::string text = "nothing";
  try {
    co_await std::move(task);
  } catch (const std::exception& e) {
    text = e.what();
  }
  co_return text;
}

/// Has a closing of this socket reset the connection.
inline void reset_on_close(int fd) {
  const linger at_once{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

inline void reset(Connection& conn) {
  reset_on_close(conn.fd());
  conn.close();
}

/// A connected socket that no loop knows, made past the seam.
inline Fd dial(const Address& address) {
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), address.get(), address.size()) != 0) {
    throw_system(errno, "dial " + address.text());
  }
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return fd;
}

/// Waits until `size` bytes lie in a socket, so that what is on its way never
/// decides a test.
inline void await_bytes(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  while (::recv(fd, bytes.data(), size, MSG_PEEK | MSG_WAITALL) < 0) {
  }
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

inline int option_of(int fd, int level, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(fd, level, option, &value, &size);
  return value;
}

inline bool is_close_on_exec(int fd) {
  return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

inline bool is_non_blocking(int fd) {
  return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/// True if this machine has the IPv6 loopback address.
inline bool has_ipv6() {
  const Address address = Address::parse("::1");
  const Fd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd && ::bind(fd.get(), address.get(), address.size()) == 0;
}

/// Bytes that look like nothing.
inline std::string random_bytes(std::size_t size, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// ------------------------------------------------------------------ the world

/// A fresh directory that is gone at the end, with one file in it at most.
class Directory {
 public:
  Directory() {
    if (::mkdtemp(path_) == nullptr) throw_system(errno, "mkdtemp");
  }
  Directory(const Directory&) = delete;
  ~Directory() {
    ::unlink(file().c_str());
    ::rmdir(path_);
  }

  std::string file() const { return std::string(path_) + "/socket"; }
  Address address() const { return Address::parse("unix:" + file()); }

 private:
  char path_[32] = "/tmp/violet_test_XXXXXX";
};

/// Sets how many descriptors this process may have, for a scope.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit wanted = before_;
    wanted.rlim_cur = std::min(limit, before_.rlim_max);
    enough_ = wanted.rlim_cur == limit;
    ::setrlimit(RLIMIT_NOFILE, &wanted);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  /// False if the system does not allow that many.
  bool enough() const noexcept { return enough_; }

 private:
  rlimit before_{};
  bool enough_ = false;
};

// clang's UndefinedBehaviorSanitizer opens a pipe to look whether memory is
// there, so its programs do not survive without descriptors.
#if defined(__has_feature)
#if __has_feature(undefined_behavior_sanitizer)
#define VIOLET_NEEDS_DESCRIPTORS
#endif
#endif

/// Counts what goes through the seam.
class CountedCalls : public sys::Calls {
 public:
  ssize_t recv(int fd, void* data, std::size_t size,
               int flags) noexcept override {
    ++recvs;
    return noted(Calls::recv(fd, data, size, flags));
  }
  ssize_t send(int fd, const void* data, std::size_t size,
               int flags) noexcept override {
    ++sends;
    return noted(Calls::send(fd, data, size, flags));
  }
  int accept(int fd, sockaddr* peer, unsigned* size) noexcept override {
    ++accepts;
    return static_cast<int>(noted(Calls::accept(fd, peer, size)));
  }
  int close(int fd) noexcept override {
    ++closes;
    return Calls::close(fd);
  }

  int recvs = 0;
  int sends = 0;
  int accepts = 0;
  int closes = 0;
  int failures = 0;  // of those that can fail

 private:
  ssize_t noted(ssize_t result) noexcept {
    if (result < 0) ++failures;
    return result;
  }
};

/// A job's state as its scheduler knows it.
template <class T>
bool is_ready(const Job<T>& job) {
  return job.block()->step == Step::kReady;
}

template <class T>
bool is_waiting(const Job<T>& job) {
  return job.block()->step == Step::kWaiting;
}

/// Gives every job that is ready a step, several times, and the poller too.
inline Task<> settle() {
  for (int i = 0; i < 10; ++i) co_await sleep(1ms);
}

/// A stream, and the other end of what it is over.
struct Fed {
  Fed() : Fed(connected_pair()) {}
  explicit Fed(Ends ends)
      : stream(std::move(ends.first)), far(std::move(ends.second)) {}
  Stream stream;
  Connection far;
};

}  // namespace sockets
