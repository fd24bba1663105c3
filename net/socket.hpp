// socket.hpp - sockets before a loop knows them.
//
// Making, binding and asking are calls that never wait, so they are plain
// functions on an Fd. It may be made in one thread and used in another.
//
// Built on: address, runtime/fd. See: socket(7), tcp(7).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../runtime/fd.hpp"
#include "address.hpp"
#include "socket_path.hpp"

namespace violet {

/// How a listening socket is to be made.
struct ListenOptions {
  ListenOptions() noexcept {}

  /// Connections that may wait to be accepted; the system caps it.
  int backlog = 4096;

  /// Lets several sockets share the port, of other processes of the same user,
  /// too: the system spreads connections over them. See listen_sockets().
  bool reuse_port = false;

  /// Who may connect to a unix path: the bits of chmod(2), of which systems
  /// heed those for writing. 0: as the umask says.
  unsigned mode = 0;
};

/// A bound, listening socket. A port that was left a moment ago can be taken
/// again at once (SO_REUSEADDR). So can a unix path on which nobody listens
/// any more; one on which somebody does, and any other file, stays as it is.
/// Throws: std::system_error "bind 127.0.0.1:4915: Address already in use".
Fd listen_socket(const Address& address,
                 ListenOptions options = ListenOptions());

/// The same, where `path` takes over the file of a unix socket, and removes it
/// in the end. Without it the file stays.
Fd listen_socket(const Address& address, const ListenOptions& options,
                 SocketPath& path);

/// As many sockets as run_loops has loops, on one port that they share with
/// each other and with nobody else. A port of 0 becomes one real one.
/// Throws: as listen_socket().
std::vector<Fd> listen_sockets(const Address& address, std::size_t count,
                               ListenOptions options = ListenOptions());

/// Sets an option that is an int.
/// Throws: std::system_error that names the option.
void set_option(int fd, int level, int option, int value, const char* name);

/// Sends small messages at once instead of collecting them (TCP_NODELAY).
/// Without effect on sockets other than TCP.
void set_no_delay(int fd, int family) noexcept;

/// Two unix sockets that are connected with each other. `type`: SOCK_STREAM or
/// SOCK_DGRAM.
/// Throws: std::system_error.
std::pair<Fd, Fd> socket_pair(int type);

/// The address that a socket is bound to, or connected to.
/// Throws: std::system_error.
Address local_address(int fd);
Address peer_address(int fd);

namespace internal {
enum class NameOf : std::uint8_t { kItself, kPeer };

/// The same. Returns: 0 or a negated error number; `name` is untouched then.
int ask_name(int fd, NameOf whose, Address& name) noexcept;
}  // namespace internal

}  // namespace violet
