// address.hpp - where a socket is: IPv4, IPv6 or a unix path.
//
// An Address is the kernel's own sockaddr with a text form: what is printed
// is what can be parsed. Only numbers are parsed here; looking up names can
// take seconds: see resolve.hpp.
//
// Built on: error. See: ip(7), ipv6(7), unix(7).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

struct sockaddr;

namespace violet {

/// An endpoint. A plain value of 116 bytes.
class Address {
 public:
  /// No address at all; prints as "nowhere".
  Address() noexcept {}

  /// From numbers: "127.0.0.1", "::1" (also "[::1]" and "fe80::1%eth0"), or
  /// "unix:/path" with the port left out. "unix:@name" is an abstract name,
  /// which only Linux has (a file may be called "unix:./@name"). "localhost"
  /// is 127.0.0.1, "" is every IPv4 address of this machine.
  /// Throws: std::system_error (invalid_argument) that names the host.
  static Address parse(std::string_view host, std::uint16_t port = 0);

  /// The same, where `refusal` says what is wrong with the host; empty if
  /// nothing is.
  static Address parse(std::string_view host, std::uint16_t port,
                       std::string& refusal);

  /// From what the kernel filled in.
  static Address from(const sockaddr* name, unsigned size) noexcept;

  const sockaddr* get() const noexcept {
    return reinterpret_cast<const sockaddr*>(bytes_);
  }
  unsigned size() const noexcept { return size_; }

  /// AF_INET, AF_INET6, AF_UNIX, or 0 for none.
  int family() const noexcept;

  /// The port; 0 for unix paths.
  std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;

  /// The file of a unix socket; empty for all else, and for the abstract names
  /// of Linux, which are no files. Lifetime: the address's.
  std::string_view path() const noexcept;

  /// "127.0.0.1:4915", "[::1]:4915", "unix:/path", "unix:@name".
  std::string text() const;

  friend bool operator==(const Address& a, const Address& b) noexcept {
    return a.size_ == b.size_ && std::memcmp(a.bytes_, b.bytes_, a.size_) == 0;
  }

 private:
  static constexpr std::size_t kMaxBytes = 112;  // sockaddr_un, the largest

  alignas(4) unsigned char bytes_[kMaxBytes] = {};
  unsigned size_ = 0;
};

}  // namespace violet
