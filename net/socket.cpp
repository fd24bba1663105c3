// socket.cpp - the calls that never wait.
// SPDX-License-Identifier: MIT
#include "socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

#include "../runtime/error.hpp"
#include "../runtime/sys.hpp"

namespace violet {

namespace {

int checked(int result, const char* call, const Address& address) {
  if (result < 0) throw_system(-result, concat({call, " ", address.text()}));
  return result;
}

void share_port(const Fd& fd) {
  set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
}

Fd bound_socket(const Address& address, bool shared) {
  Fd fd(checked(sys::calls->socket(address.family(), SOCK_STREAM, 0), "socket",
                address));
  if (address.family() != AF_UNIX) {
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    if (shared) share_port(fd);
  }
  checked(sys::calls->bind(fd.get(), address.get(), address.size()), "bind",
          address);
  return fd;
}

void listen_on(const Fd& fd, const Address& address,
               const ListenOptions& options) {
  checked(sys::calls->listen(fd.get(), options.backlog), "listen", address);
}

}  // namespace

Fd listen_socket(const Address& address, ListenOptions options) {
  SocketPath path;
  Fd fd = listen_socket(address, options, path);
  path.leave();
  return fd;
}

// The mode is set before anybody can connect. The lock goes before the path,
// which takes it itself if it has to remove the file.
Fd listen_socket(const Address& address, const ListenOptions& options,
                 SocketPath& path) {
  if (address.path().empty()) {
    Fd fd = bound_socket(address, options.reuse_port);
    listen_on(fd, address, options);
    return fd;
  }
  SocketPath made;
  Fd fd;
  {
    const FolderLock lock(address.path());
    SocketPath::make_way(address, lock);
    fd = bound_socket(address, false);
    made = SocketPath(address.path());
    if (options.mode != 0) made.change_mode(options.mode);
    listen_on(fd, address, options);
  }
  path = std::move(made);
  return fd;
}

// The first is bound alone, so that a stranger on the port is an error, and
// shares it from then on.
std::vector<Fd> listen_sockets(const Address& address, std::size_t count,
                               ListenOptions options) {
  std::vector<Fd> sockets;
  sockets.push_back(bound_socket(address, options.reuse_port));
  if (count > 1) share_port(sockets[0]);
  const Address shared = local_address(sockets[0].get());
  while (sockets.size() < count) sockets.push_back(bound_socket(shared, true));
  for (const Fd& fd : sockets) listen_on(fd, shared, options);
  return sockets;
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

std::pair<Fd, Fd> socket_pair(int type) {
  int numbers[2];
  const int result = sys::calls->socketpair(AF_UNIX, type, 0, numbers);
  if (result < 0) throw_system(-result, "socketpair");
  return {Fd(numbers[0]), Fd(numbers[1])};
}

int internal::ask_name(int fd, NameOf whose, Address& name) noexcept {
  sockaddr_storage storage{};
  unsigned size = sizeof storage;
  auto* const pointer = reinterpret_cast<sockaddr*>(&storage);
  const int result = whose == NameOf::kPeer
                         ? sys::calls->getpeername(fd, pointer, &size)
                         : sys::calls->getsockname(fd, pointer, &size);
  if (result >= 0) name = Address::from(pointer, size);
  return result;
}

Address local_address(int fd) {
  Address name;
  const int result = internal::ask_name(fd, internal::NameOf::kItself, name);
  if (result < 0) throw_system(-result, "getsockname");
  return name;
}

Address peer_address(int fd) {
  Address name;
  const int result = internal::ask_name(fd, internal::NameOf::kPeer, name);
  if (result < 0) throw_system(-result, "getpeername");
  return name;
}

}  // namespace violet
