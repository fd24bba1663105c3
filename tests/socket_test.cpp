// socket_test.cpp - sockets before a loop knows them, and their options.
// SPDX-License-Identifier: MIT
#include "../net/socket.hpp"

#include <sys/stat.h>

#include <thread>

#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

/// What listening there fails with.
std::string refusal(const Address& address,
                    ListenOptions options = ListenOptions()) {
  return thrown<std::system_error>(
      [&] { const Fd fd = listen_socket(address, options); });
}

/// The same for the sockets of three loops.
std::string refusal_of_three(const Address& address) {
  return thrown<std::system_error>([&] { listen_sockets(address, 3); });
}

/// A kernel that refuses one call.
class Refusing : public sys::Calls {
 public:
  int socket(int domain, int type, int protocol) noexcept override {
    return socket_error != 0 ? -socket_error
                             : Calls::socket(domain, type, protocol);
  }
  int listen(int fd, int backlog) noexcept override {
    asked_backlog = backlog;
    return listen_error != 0 ? -listen_error : Calls::listen(fd, backlog);
  }
  int socket_error = 0;
  int listen_error = 0;
  int asked_backlog = 0;
};

}  // namespace

TEST_CASE("socket: port 0 becomes a real port", "[socket]") {
  const Fd fd = listen_socket(Address::parse("127.0.0.1"));
  const Address address = local_address(fd.get());
  CHECK(address.port() != 0);
  CHECK(address.text() == "127.0.0.1:" + std::to_string(address.port()));
  CHECK(option_of(fd.get(), SOL_SOCKET, SO_ACCEPTCONN) == 1);
  const Fd client = dial(address);
  CHECK(peer_address(client.get()) == address);
}

TEST_CASE("socket: it listens on IPv6 and on a unix path", "[socket]") {
  if (has_ipv6()) {
    const Fd six = listen_socket(Address::parse("::1"));
    const Address address = local_address(six.get());
    CHECK(address.text() == "[::1]:" + std::to_string(address.port()));
    CHECK(peer_address(dial(address).get()) == address);
  }
  const Directory directory;
  const Fd path = listen_socket(directory.address());
  CHECK(local_address(path.get()).text() == directory.address().text());
  CHECK(peer_address(dial(directory.address()).get()).text() ==
        directory.address().text());
}

TEST_CASE("socket: a port left a moment ago is taken again", "[socket]") {
  Fd first = listen_socket(Address::parse("127.0.0.1"));
  const Address address = local_address(first.get());
  Fd client = dial(address);
  Fd served(::accept4(first.get(), nullptr, nullptr, SOCK_CLOEXEC));
  // The server ends the connection first: the port stays in TIME_WAIT.
  served.reset();
  REQUIRE(support::arrives(client.get(), POLLIN));
  client.reset();
  first.reset();
  const Fd second = listen_socket(address);
  CHECK(local_address(second.get()) == address);
  CHECK(option_of(second.get(), SOL_SOCKET, SO_REUSEADDR) == 1);
}

TEST_CASE("socket: an address in use is refused by name", "[socket]") {
  const int before = open_descriptors();
  {
    const Fd first = listen_socket(Address::parse("127.0.0.1"));
    const Address address = local_address(first.get());
    CHECK(refusal(address) ==
          "bind " + address.text() + ": " + support::text_of_error(EADDRINUSE));
    const Directory directory;
    const Fd path = listen_socket(directory.address());
    CHECK(refusal(directory.address()) ==
          "bind " + directory.address().text() + ": " +
              support::text_of_error(EADDRINUSE));
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("socket: several share a port that all agree to share", "[socket]") {
  ListenOptions shared;
  shared.reuse_port = true;
  const Fd first = listen_socket(Address::parse("127.0.0.1"), shared);
  const Address address = local_address(first.get());
  const Fd second = listen_socket(address, shared);
  CHECK(local_address(second.get()) == address);
  CHECK(refusal(address) ==
        "bind " + address.text() + ": " + support::text_of_error(EADDRINUSE));
}

TEST_CASE("socket: those of several loops share a port with nobody else",
          "[socket]") {
  const std::vector<Fd> sockets =
      listen_sockets(Address::parse("127.0.0.1"), 3);
  REQUIRE(sockets.size() == 3);
  const Address address = local_address(sockets[0].get());
  for (const Fd& fd : sockets) CHECK(local_address(fd.get()) == address);
  const std::string in_use =
      "bind " + address.text() + ": " + support::text_of_error(EADDRINUSE);
  CHECK(refusal(address) == in_use);
  CHECK(refusal_of_three(address) == in_use);
}

TEST_CASE("socket: an address of another machine is refused", "[socket]") {
  CHECK(refusal(Address::parse("192.0.2.1", 0)) ==
        "bind 192.0.2.1:0: " + support::text_of_error(EADDRNOTAVAIL));
  CHECK(refusal(Address::parse("unix:/no/such/place")) ==
        "bind unix:/no/such/place: No such file or directory");
}

TEST_CASE("socket: what the kernel refuses names the call", "[socket]") {
  Refusing calls;
  const support::ScopedCalls installed(calls);
  const int before = open_descriptors();
  const Address address = Address::parse("127.0.0.1");
  calls.socket_error = EMFILE;
  CHECK(refusal(address) ==
        "socket 127.0.0.1:0: " + support::text_of_error(EMFILE));
  calls.socket_error = 0;
  calls.listen_error = EACCES;
  CHECK(refusal(address) == "listen 127.0.0.1:0: Permission denied");
  CHECK(open_descriptors() == before);
  CHECK(refusal(Address()).find("socket nowhere: ") == 0);
}

TEST_CASE("socket: no memory is bad_alloc", "[socket]") {
  Refusing calls;
  const support::ScopedCalls installed(calls);
  calls.socket_error = ENOMEM;
  CHECK_THROWS_AS(listen_socket(Address::parse("127.0.0.1")), std::bad_alloc);
}

TEST_CASE("socket: the backlog is as long as asked", "[socket]") {
  Refusing calls;
  const support::ScopedCalls installed(calls);
  const Fd usual = listen_socket(Address::parse("127.0.0.1"));
  CHECK(calls.asked_backlog >= SOMAXCONN);
  ListenOptions options;
  options.backlog = 7;
  const Fd shorter = listen_socket(Address::parse("127.0.0.1"), options);
  CHECK(calls.asked_backlog == 7);
}

TEST_CASE("socket: an option that is refused is named", "[socket]") {
  CHECK(thrown<std::system_error>([] {
          set_option(-1, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
        }) == "setsockopt SO_REUSEADDR: Bad file descriptor");
  CHECK(thrown<std::system_error>([] { local_address(-1); }) ==
        "getsockname: Bad file descriptor");
  CHECK(thrown<std::system_error>([] { peer_address(-1); }) ==
        "getpeername: Bad file descriptor");
  const Fd fd = listen_socket(Address::parse("127.0.0.1"));
  CHECK(thrown<std::system_error>([&] { peer_address(fd.get()); }) ==
        "getpeername: " + support::text_of_error(ENOTCONN));
}

TEST_CASE("socket: TCP_NODELAY is set on TCP and harmless elsewhere",
          "[socket]") {
  const Fd fd = listen_socket(Address::parse("127.0.0.1"));
  CHECK(option_of(fd.get(), IPPROTO_TCP, TCP_NODELAY) == 0);
  set_no_delay(fd.get(), AF_INET);
  CHECK(option_of(fd.get(), IPPROTO_TCP, TCP_NODELAY) == 1);
  const Pair pair = support::make_socketpair();
  set_no_delay(pair[0].get(), AF_UNIX);
  set_no_delay(-1, AF_INET);
}

TEST_CASE("socket: both ends of a TCP connection send at once", "[socket]") {
  const MaybeShortIo io;
  World world;
  const Ends ends = world.run(tcp_ends());
  for (const int fd : {ends.first.fd(), ends.second.fd()}) {
    CHECK(option_of(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
  }
}

TEST_CASE("socket: every descriptor is close-on-exec and non-blocking",
          "[socket]") {
  const MaybeShortIo io;
  World world;
  const Directory directory;
  const Fd tcp = listen_socket(Address::parse("127.0.0.1"));
  const Fd path = listen_socket(directory.address());
  const Ends ends = world.run(tcp_ends());
  const Ends pair = connected_pair();
  for (const int fd : {tcp.get(), path.get(), ends.first.fd(), ends.second.fd(),
                       pair.first.fd(), pair.second.fd()}) {
    INFO(fd);
    CHECK(is_close_on_exec(fd));
    CHECK(is_non_blocking(fd));
  }
}

TEST_CASE("socket: one that is taken over becomes non-blocking", "[socket]") {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  const Pair pair = support::pair_of(fds);
  const Connection taken(Fd(::dup(pair[0].get())));
  CHECK(is_non_blocking(taken.fd()));
}

TEST_CASE("socket: one that is no connection is not taken over", "[socket]") {
  const int before = open_descriptors();
  CHECK(thrown<std::system_error>([] { const Connection c{Fd(-1)}; }) ==
        "getpeername: Bad file descriptor");
  CHECK(thrown<std::system_error>([] {
          Connection c(listen_socket(Address::parse("127.0.0.1")));
        }) == "getpeername: " + support::text_of_error(ENOTCONN));
  CHECK(thrown<std::system_error>([] { const Listener l{Fd(-1)}; }) ==
        "listener fd -1: Bad file descriptor");
  CHECK(open_descriptors() == before);
}

TEST_CASE("socket: one made in a thread is used in another",
          "[socket][threads]") {
  Fd fd;
  support::Thread([&] {
    fd = listen_socket(Address::parse("127.0.0.1"));
  }).join();
  World world;
  const Address address = local_address(fd.get());
  Listener listener(std::move(fd));
  CHECK(listener.address() == address);
  const Fd client = dial(address);
  auto accept_one = [&]() -> Task<Address> {
    const Connection conn = co_await listener.accept();
    co_return conn.peer();
  };
  const Address peer = world.run(accept_one());
  CHECK(peer == local_address(client.get()));
}
