// datagram.hpp - UDP and unix datagrams.
//
// A datagram arrives whole or not at all, and one may be empty: there is no
// end of a stream. So what is received says how long it was, who sent it, and
// whether the buffer was too short for it.
//
// UDP reports what became of a datagram late, as an error of some later
// operation (ICMP "port unreachable" becomes ECONNREFUSED). A socket that is
// connected is told so once and stays as it is. One that is not talks to many
// peers, and the error names none of them: there it is passed over.
//
// As everywhere, an operation happens when its job goes on with it: a killed
// recv_from() leaves the datagram to the next one.
//
// Refused: multicast, ancillary data, several datagrams in one call.
//
// Built on: connection, socket. See: udp(7), unix(7), recvmsg(2).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "connection.hpp"
#include "socket.hpp"
#include "socket_path.hpp"

namespace violet {

/// What is known of a datagram in the caller's buffer.
struct Received {
  Received() noexcept {}

  std::size_t size = 0;    ///< in the buffer; 0 for an empty datagram
  bool truncated = false;  ///< it was longer: the rest is lost
  Address sender;          ///< no address for a unix socket without a name
};

/// A datagram in a lent buffer. It may be empty.
/// Lifetime: as of a Chunk.
class Datagram {
 public:
  Datagram() noexcept {}
  Datagram(Chunk&& bytes, const Received& received) noexcept
      : bytes_(std::move(bytes)), received_(received) {}

  const char* data() const noexcept { return bytes_.data(); }
  std::size_t size() const noexcept { return bytes_.size(); }
  std::string_view view() const noexcept { return bytes_.view(); }
  operator std::string_view() const noexcept { return view(); }

  bool truncated() const noexcept { return received_.truncated; }
  const Address& sender() const noexcept { return received_.sender; }

 private:
  Chunk bytes_;
  Received received_;
};

/// What the events on datagram sockets share.
class DatagramEvent : public SlotEvent {
 public:
  int error() const noexcept { return error_; }

 protected:
  explicit DatagramEvent(Slot* slot) noexcept : SlotEvent(slot) {}
  DatagramEvent(DatagramEvent&&) noexcept = default;
  ~DatagramEvent() = default;

  /// True for the refusal of an earlier datagram that cannot be attributed.
  bool is_stray(ssize_t negated_error) const noexcept;

  /// Receives one. Returns: a count or a negated error number.
  ssize_t receive(int fd, std::span<char> buffer, Received& out) noexcept;

  /// The peer, if it is connected to one, or else where it is bound.
  std::string object() const;
};

class [[nodiscard]] RecvFromEvent : public DatagramEvent {
 public:
  RecvFromEvent(Slot* slot, std::span<char> buffer) noexcept
      : DatagramEvent(slot), buffer_(buffer) {}
  bool attempt() noexcept override;
  void undo() noexcept override { undo_claim(Direction::kRead); }
  void describe(Description& out) const override {
    out.text = concat({"recv ", object()});
  }
  Received value() const noexcept { return received_; }
  Received result() const {
    if (error_ != 0) raise("recv", object());
    return received_;
  }

 private:
  std::span<char> buffer_;  // the caller's
  Received received_;
};

class [[nodiscard]] RecvDatagramEvent : public DatagramEvent {
 public:
  explicit RecvDatagramEvent(Slot* slot) noexcept : DatagramEvent(slot) {}
  bool attempt() noexcept override;
  void undo() noexcept override { undo_claim(Direction::kRead); }
  void describe(Description& out) const override {
    out.text = concat({"recv ", object()});
  }
  Datagram value() const noexcept;
  Datagram result() const {
    if (error_ != 0) raise("recv", object());
    return value();
  }

 private:
  ssize_t receive_lent(int fd) noexcept;

  Received received_;
};

class [[nodiscard]] SendDatagramEvent : public DatagramEvent {
 public:
  /// No address: to whom the socket is connected.
  SendDatagramEvent(Slot* slot, std::string_view data,
                    const Address& to) noexcept
      : DatagramEvent(slot), data_(data), to_(to) {}
  SendDatagramEvent(SendDatagramEvent&&) noexcept = default;
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override {
    out.text = concat({"send ", target()});
  }
  void value() const noexcept {}
  void result() const;

 private:
  ssize_t send_on(int fd) noexcept;
  bool is_behind(ssize_t negated_error) const noexcept;
  bool wait_a_while() noexcept;
  std::string target() const;

  std::string_view data_;  // the caller's
  Address to_;
  internal::Retry retry_;  // while a unix receiver is behind
};

/// How a datagram socket is to be made.
struct DatagramOptions {
  DatagramOptions() noexcept {}

  /// Lets it send to broadcast addresses.
  bool broadcast = false;

  /// Lets several sockets share the port, of other processes of the same user,
  /// too. Linux spreads datagrams over them by sender.
  bool reuse_port = false;
};

/// A socket for datagrams. Move-only; closes with its last owner. Belongs to
/// the thread that made it.
class DatagramSocket {
 public:
  /// A socket that is closed.
  DatagramSocket() noexcept {}

  /// Takes over a datagram socket. Throws: std::system_error; Misuse if it is
  /// none.
  explicit DatagramSocket(Fd socket);

  /// Binds: to an IPv4, IPv6 or unix address. A port of 0 becomes a real one.
  /// The file of a unix socket is made, and removed in the end if it is still
  /// ours. One on which nobody is any more is replaced; see socket_path.hpp.
  /// Throws: std::system_error "bind 127.0.0.1:4915: Address already in use".
  explicit DatagramSocket(const Address& local,
                          DatagramOptions options = DatagramOptions());

  /// The same; the host is a number as in Address::parse.
  DatagramSocket(std::string_view host, std::uint16_t port,
                 DatagramOptions options = DatagramOptions())
      : DatagramSocket(Address::parse(host, port), options) {}

  /// A socket of a family (AF_INET, AF_INET6, AF_UNIX) that gets an address
  /// when it first sends; a unix one never gets any, so nobody can answer it.
  /// Throws: std::system_error.
  static DatagramSocket unbound(int family,
                                DatagramOptions options = DatagramOptions());

  /// Fixes the peer: only its datagrams are received, send() goes there, and
  /// its refusals are told. May be called again. Never waits.
  /// Throws: std::system_error.
  void connect(const Address& peer);

  /// Receives a datagram into `buffer`.
  /// Suspends: until one is there.
  /// Returns: its size, its sender, and whether it was longer than `buffer`.
  /// Throws: std::system_error; Misuse if another job receives already.
  /// Kill: no datagram has been consumed.
  /// Lifetime: the buffer outlives the wait.
  RecvFromEvent recv_from(std::span<char> buffer) const noexcept {
    return RecvFromEvent(descriptor_.slot(), buffer);
  }
  Coded<RecvFromEvent> recv_from(std::span<char> buffer,
                                 std::error_code& code) const noexcept {
    return Coded<RecvFromEvent>(recv_from(buffer), code);
  }

  /// Receives a datagram in a lent buffer of 64 KiB, which is enough for any
  /// of UDP.
  /// Suspends, Throws, Kill: as recv_from(buffer).
  RecvDatagramEvent recv_from() const noexcept {
    return RecvDatagramEvent(descriptor_.slot());
  }
  Coded<RecvDatagramEvent> recv_from(std::error_code& code) const noexcept {
    return Coded<RecvDatagramEvent>(recv_from(), code);
  }

  /// Sends one datagram, whole.
  /// Suspends: while the system takes none, or a unix receiver is behind; it
  /// is asked again after 1 to 64 ms then. send() is told at once.
  /// Throws: std::system_error, EMSGSIZE if it is too long; Misuse if another
  /// job sends already. What becomes of it on its way nobody tells.
  /// Kill: nothing has been sent.
  /// Lifetime: the data outlive the wait.
  SendDatagramEvent send_to(std::string_view data,
                            const Address& to) const noexcept {
    return SendDatagramEvent(descriptor_.slot(), data, to);
  }
  Coded<SendDatagramEvent> send_to(std::string_view data, const Address& to,
                                   std::error_code& code) const noexcept {
    return Coded<SendDatagramEvent>(send_to(data, to), code);
  }

  // To and from the peer that connect() has fixed. A refusal of what was sent
  // before is thrown once, by whichever of them comes next; a send that throws
  // it has sent nothing.
  RecvFromEvent recv(std::span<char> buffer) const noexcept {
    return recv_from(buffer);
  }
  Coded<RecvFromEvent> recv(std::span<char> buffer,
                            std::error_code& code) const noexcept {
    return recv_from(buffer, code);
  }
  RecvDatagramEvent recv() const noexcept { return recv_from(); }
  Coded<RecvDatagramEvent> recv(std::error_code& code) const noexcept {
    return recv_from(code);
  }
  SendDatagramEvent send(std::string_view data) const noexcept {
    return send_to(data, Address());
  }
  Coded<SendDatagramEvent> send(std::string_view data,
                                std::error_code& code) const noexcept {
    return send_to(data, Address(), code);
  }

  /// Closes now. A job that waits on it gets bad_file_descriptor.
  void close() noexcept {
    path_.remove();
    descriptor_.close();
  }
  explicit operator bool() const noexcept { return bool(descriptor_); }

  /// Where it is bound, and whom it is connected to; "nowhere" if to none.
  /// Throws: std::system_error.
  Address local() const;
  Address peer() const;

  /// The descriptor, still owned by the socket; -1 if it is closed.
  int fd() const noexcept { return descriptor_.fd(); }
  const Descriptor& descriptor() const noexcept { return descriptor_; }

 private:
  explicit DatagramSocket(Descriptor&& descriptor) noexcept
      : descriptor_(std::move(descriptor)) {}

  Descriptor descriptor_;
  SocketPath path_;  // removed before the socket is closed
};

/// Two unix datagram sockets that are connected to each other.
/// Throws: std::system_error.
std::pair<DatagramSocket, DatagramSocket> connected_datagram_pair();

}  // namespace violet
