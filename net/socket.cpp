// socket.cpp - the calls that never wait.
// SPDX-License-Identifier: MIT
#include "socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "../runtime/error.hpp"
#include "../runtime/sys.hpp"

namespace violet {

namespace {

int checked(int result, const char* call, const Address& address) {
  if (result < 0) throw_system(-result, concat({call, " ", address.text()}));
  return result;
}

}  // namespace

Fd listen_socket(const Address& address, ListenOptions options) {
  Fd fd(checked(sys::calls->socket(address.family(), SOCK_STREAM, 0), "socket",
                address));
  if (address.family() != AF_UNIX) {
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    if (options.reuse_port) {
      set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    }
  }
  checked(sys::calls->bind(fd.get(), address.get(), address.size()), "bind",
          address);
  checked(sys::calls->listen(fd.get(), options.backlog), "listen", address);
  return fd;
}

void set_option(int fd, int level, int option, int value, const char* name) {
  const int result =
      sys::calls->setsockopt(fd, level, option, &value, sizeof value);
  if (result < 0) throw_system(-result, concat({"setsockopt ", name}));
}

void set_no_delay(int fd, int family) noexcept {
  if (family != AF_INET && family != AF_INET6) return;
  const int one = 1;
  // Fails only on a connection that is broken already; its next operation
  // will say so.
  sys::calls->setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

Address local_address(int fd) {
  sockaddr_storage name{};
  unsigned size = sizeof name;
  auto* pointer = reinterpret_cast<sockaddr*>(&name);
  const int result = sys::calls->getsockname(fd, pointer, &size);
  if (result < 0) throw_system(-result, "getsockname");
  return Address::from(pointer, size);
}

Address peer_address(int fd) {
  sockaddr_storage name{};
  unsigned size = sizeof name;
  auto* pointer = reinterpret_cast<sockaddr*>(&name);
  const int result = sys::calls->getpeername(fd, pointer, &size);
  if (result < 0) throw_system(-result, "getpeername");
  return Address::from(pointer, size);
}

}  // namespace violet
