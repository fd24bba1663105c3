// url.hpp - where a resource is: http://host:port/path?query.
//
// A URL is taken apart once, into what a client needs: whom to connect to,
// what to say in Host, and the target of the request. It comes out in one
// spelling: the host in small letters, no port 80, no "." and ".." in the
// path, and what may not stand in a request escaped. A fragment is nobody's
// business but the caller's, and is dropped.
//
// Refused: user names in URLs (they end up in logs), and https, since there
// is no TLS here.
//
// Built on: text, target; address. See: RFC 3986, sections 3, 5 and 6.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "target.hpp"

namespace violet::http {

/// An absolute URL. A plain value.
class Url {
 public:
  static constexpr std::uint16_t kDefaultPort = 80;

  /// None at all: no host.
  Url() noexcept {}

  /// "http://host", with a port, a path and a query or without.
  /// Throws: std::system_error (invalid_argument) "'htp://x' is not a URL that
  /// begins with http://: Invalid argument".
  static Url parse(std::string_view text);

  /// The same, where `refusal` says what is wrong; empty if nothing is.
  static Url parse(std::string_view text, std::string& refusal);

  /// The URL that a reference in a document at this one means, for instance
  /// in a Location: "../b?c", "/b", "//other/b", "?c" or a whole URL.
  /// Throws: as parse().
  Url resolve(std::string_view reference) const;
  Url resolve(std::string_view reference, std::string& refusal) const;

  /// Whom to connect to: a name or a number, without brackets.
  const std::string& host() const noexcept { return host_; }
  std::uint16_t port() const noexcept { return port_; }

  /// What a Host says: "example.org", "[::1]:8080".
  std::string authority() const;

  /// What a request asks for: "/path?query"; never empty.
  const std::string& target() const noexcept { return target_; }

  /// "http://example.org/path?query"
  std::string text() const;

  /// True if it leads to the same server.
  bool same_server(const Url& other) const noexcept {
    return port_ == other.port_ && host_ == other.host_;
  }

  friend bool operator==(const Url&, const Url&) = default;

 private:
  const char* take_authority(std::string_view authority);
  const char* take_path(std::string_view path, std::string_view query,
                        bool has_query);

  std::string host_;
  std::string target_ = "/";
  std::uint16_t port_ = kDefaultPort;
};

}  // namespace violet::http
