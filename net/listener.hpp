// listener.hpp - bind, listen, accept.
//
// Refused and broken connections in the backlog are skipped, as accept(2)
// advises. When the process or the system has no descriptors left, accepting
// pauses until one is closed here, or for 100 ms: connections wait in the
// backlog meanwhile, and the loop does not spin.
//
// Built on: socket, connection. See: accept(2), listen(2).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "connection.hpp"
#include "socket.hpp"

namespace violet {

class Listener;

class [[nodiscard]] AcceptEvent : public SocketEvent {
 public:
  explicit AcceptEvent(Slot* slot) noexcept : SocketEvent(slot) {}
  AcceptEvent(AcceptEvent&& other) noexcept : SocketEvent(std::move(other)) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  Connection value() noexcept { return Connection(std::move(accepted_)); }
  Connection result();

  /// For one that nobody awaits: accepts at this listener from now on.
  void move_to(const Listener& listener) noexcept;

  /// True while it waits for a descriptor to be had.
  bool paused() const noexcept { return paused_; }

 private:
  ssize_t accept_on(int fd) noexcept;
  bool pause(int error) noexcept;
  void end_pause() noexcept;

  Descriptor accepted_;

  // While no descriptors are to be had: whichever comes first ends that.
  bool paused_ = false;
  Waiter descriptor_freed_;
  Timer retry_;
};

/// A listening socket. Move-only; closes with its last owner, and removes the
/// file of a unix socket that it has made. Belongs to the thread that made it.
class Listener {
 public:
  /// A listener that is closed.
  Listener() noexcept {}

  Listener(Listener&& other) noexcept = default;
  Listener& operator=(Listener&& other) noexcept;

  /// Takes over a listening socket: from listen_socket(), or one that this
  /// process was given, see inherited_sockets(). It becomes non-blocking. The
  /// file of a unix socket stays.
  /// Throws: std::system_error, if it does not listen, too.
  explicit Listener(Fd socket);

  /// Binds and listens. A unix path is made, and removed in the end; see
  /// listen_socket(). Throws: std::system_error.
  explicit Listener(const Address& address,
                    ListenOptions options = ListenOptions());

  /// The same; the host is a number as in Address::parse.
  Listener(std::string_view host, std::uint16_t port,
           ListenOptions options = ListenOptions())
      : Listener(Address::parse(host, port), options) {}

  /// Waits for the next client.
  /// Suspends: until one is there.
  /// Returns: a Connection.
  /// Throws: std::system_error, never for a client that went away again;
  /// Misuse if another job accepts already.
  /// Kill: no client is lost; the next accept gets it.
  AcceptEvent accept() const noexcept {
    return AcceptEvent(descriptor_.slot());
  }
  Coded<AcceptEvent> accept(std::error_code& code) const noexcept {
    return Coded<AcceptEvent>(accept(), code);
  }

  /// Where it listens; a port of 0 has become a real one.
  const Address& address() const noexcept { return address_; }

  /// Clients that are connected and wait to be accepted; where the system
  /// does not tell, as many as there can be.
  std::size_t backlog() const noexcept;

  /// Removes the file of a unix socket, if this listener has made it: nobody
  /// can connect any more, and who has connected can still be accepted.
  void remove_path() noexcept { path_.remove(); }

  /// Stops listening. Clients in the backlog are reset; a job that accepts
  /// gets bad_file_descriptor.
  void close() noexcept {
    path_.remove();
    descriptor_.close();
  }
  explicit operator bool() const noexcept { return bool(descriptor_); }

  /// What the events of other files are made of.
  const Descriptor& descriptor() const noexcept { return descriptor_; }

 private:
  void open(Fd socket, std::uint8_t traits);

  Descriptor descriptor_;
  Address address_;
  SocketPath path_;  // removed before the socket is closed
};

/// The listening sockets that whoever started this process has given it,
/// in the manner of systemd: LISTEN_FDS of them from number 3 on, if
/// LISTEN_PID is this process. Only the first call returns them.
/// See: sd_listen_fds(3).
std::vector<Fd> inherited_sockets();

}  // namespace violet
