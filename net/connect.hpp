// connect.hpp - connecting to a name: whichever of its addresses answers.
//
// The idea: a host has several addresses, and some may lead nowhere without
// anybody saying so. So they are not tried one after the other: a second
// attempt begins while the first has no answer yet, and the first to succeed
// is taken (RFC 8305, "Happy Eyeballs"). All attempts are parts of one event
// in the frame of one job: there is nothing to be joined, and a kill or a
// limit closes all of them.
//
// Built on: resolve, connection. See: RFC 8305, sections 4, 5 and 8.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../runtime/owned.hpp"
#include "connection.hpp"
#include "resolve.hpp"

namespace violet {

/// How several addresses are tried.
struct ConnectOptions {
  ConnectOptions() noexcept {}

  /// How long an attempt may be without an answer before the next address is
  /// tried beside it. One that fails makes room for the next at once.
  Duration attempt_delay = std::chrono::milliseconds(250);
};

/// The order in which addresses are tried: the families take turns, beginning
/// with that of the first, and each keeps its own order.
std::vector<Address> in_turns(const std::vector<Address>& addresses);

class [[nodiscard]] ConnectToAnyEvent : public Event {
 public:
  /// `name` stands in errors: "example.org:80"; it may be empty.
  ConnectToAnyEvent(std::string name, std::vector<Address> addresses,
                    ConnectOptions options) noexcept
      : name_(std::move(name)),
        addresses_(std::move(addresses)),
        options_(options) {}
  ConnectToAnyEvent(ConnectToAnyEvent&& other) noexcept;
  ~ConnectToAnyEvent();

  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  int error() const noexcept { return error_; }
  Connection value() noexcept;
  Connection result();

 private:
  struct Attempt {
    explicit Attempt(const Address& address) noexcept : event(address) {}
    std::optional<Heirless<ConnectEvent>> event;  // none once it has failed
    int error = 0;
  };

  bool prepare() noexcept;
  bool try_all() noexcept;
  bool ended(Attempt& attempt) noexcept;
  bool may_begin_another() const noexcept;
  void begin_another() noexcept;
  bool is_under_way() const noexcept;
  void keep_only(const Attempt* kept) noexcept;
  std::string causes() const;

  std::string name_;
  std::vector<Address> addresses_;
  ConnectOptions options_;

  // Those that were begun, in the order of the addresses. It has room for all
  // of them from the start, so that no event in it ever moves.
  std::vector<Attempt> attempts_;
  Attempt* winner_ = nullptr;
  Timer next_;              // when another one may begin
  bool due_later_ = false;  // next_ was started: it runs or has fired
};

/// Connects to the first of several addresses that answers. They are tried in
/// turns of IPv4 and IPv6, beginning with the family of the first.
/// Suspends: until one has answered, or all have failed.
/// Returns: a Connection; peer() tells which it was.
/// Throws: std::system_error with the last cause, and a text that has all:
/// "connect: 192.0.2.1:80: Network is unreachable; 127.0.0.1:80: Connection
/// refused". Misuse if there are none.
/// Kill: all sockets are closed.
ConnectToAnyEvent connect(const std::vector<Address>& addresses,
                          ConnectOptions options = ConnectOptions());
inline Coded<ConnectToAnyEvent> connect(const std::vector<Address>& addresses,
                                        ConnectOptions options,
                                        std::error_code& code) {
  return Coded<ConnectToAnyEvent>(connect(addresses, options), code);
}
inline Coded<ConnectToAnyEvent> connect(const std::vector<Address>& addresses,
                                        std::error_code& code) {
  return connect(addresses, ConnectOptions(), code);
}

/// What connect(host, port) is in the middle of: of a number it connects to
/// at once, and of a name it looks up the addresses first.
class [[nodiscard]] ConnectToHostEvent : public Event {
 public:
  ConnectToHostEvent(std::string_view host, std::uint16_t port,
                     ConnectOptions options);
  ConnectToHostEvent(ConnectToHostEvent&&) noexcept;
  ~ConnectToHostEvent();

  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  std::error_code code() const noexcept;
  Connection value() noexcept;
  Connection result();

 private:
  struct Search;  // for a name: its addresses, then one that answers

  // One of them: a number needs no search, and no memory.
  std::optional<Heirless<ConnectEvent>> direct_;
  Owned<Search> search_;
};

/// Connects to a host: a name, or a number as in Address::parse. Of a name all
/// addresses are tried, see above, and the time that its look-up takes has no
/// limit but those of within().
/// Suspends: until one has answered, or all have failed.
/// Returns: a Connection.
/// Throws: std::system_error that names the host and each cause: "connect
/// example.org:80: 2001:db8::1: Network is unreachable; 192.0.2.1: Connection
/// refused"; what resolve() throws.
/// Kill: all sockets are closed, and a look-up is left behind.
/// Cost: of a number, that of an Address; of a name, that of resolve().
inline ConnectToHostEvent connect(std::string_view host, std::uint16_t port,
                                  ConnectOptions options = ConnectOptions()) {
  return ConnectToHostEvent(host, port, options);
}
inline Coded<ConnectToHostEvent> connect(std::string_view host,
                                         std::uint16_t port,
                                         ConnectOptions options,
                                         std::error_code& code) {
  return Coded<ConnectToHostEvent>(ConnectToHostEvent(host, port, options),
                                   code);
}
inline Coded<ConnectToHostEvent> connect(std::string_view host,
                                         std::uint16_t port,
                                         std::error_code& code) {
  return connect(host, port, ConnectOptions(), code);
}

}  // namespace violet
