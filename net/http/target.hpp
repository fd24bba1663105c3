// target.hpp - what a request asks for: the forms of a target, paths, queries.
//
// A path becomes a name below some root folder in one step, and only if there
// is one way to read it: "." and ".." are refused in every spelling, as are an
// encoded slash and a NUL. Clients resolve dot segments before they ask (RFC
// 3986, section 5.2.4), so nobody honest is turned away.
//
// Built on: fault, text. See: RFC 9112, section 3.2; RFC 3986, section 3.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fault.hpp"
#include "text.hpp"

namespace violet::http {

enum class TargetForm : std::uint8_t {
  kOrigin,     // GET /path?query
  kAbsolute,   // GET http://host/path?query
  kAuthority,  // CONNECT host:port
  kAsterisk,   // OPTIONS *
};

/// A target taken apart. Nothing is decoded.
/// Lifetime: the views are the text's.
struct Target {
  TargetForm form = TargetForm::kOrigin;
  std::string_view scheme;     // of kAbsolute
  std::string_view authority;  // of kAbsolute and kAuthority: host and port
  std::string_view path;       // begins with '/', unless there is none
  std::string_view query;      // what follows '?'
  bool has_query = false;      // "/a?" has an empty one, "/a" has none
};

/// Takes a target apart. Which form it may have depends on the method.
/// Returns: kBadTarget if it has none of them.
Fault parse_target(std::string_view method, std::string_view text,
                   Target& out) noexcept;

/// True for the value of a Host: a name or a number, and perhaps a port; also
/// for an empty one. No user before an '@'.
bool is_host(std::string_view text) noexcept;

/// The host without the port, and the port. Lifetime: the view is the text's.
struct HostAndPort {
  std::string_view host;  // an IPv6 address has its brackets
  std::optional<std::uint16_t> port;
};
HostAndPort split_host(std::string_view host) noexcept;

// ---------------------------------------------------------------------- paths

/// Decodes a path into a name relative to a root folder: "/a%20b//c" becomes
/// "a b/c", "/" becomes "". A slash at the end stays: it asks for a folder.
/// Empty segments are dropped, as file systems do. Splitting the result at
/// '/' (with Pieces) gives the segments.
/// Returns: kBadPath for a bad escape, a NUL, an encoded slash, and a segment
/// "." or ".." in any spelling; `out` is empty then. Other bytes are taken as
/// they are, also a backslash and what is not UTF-8.
Fault decode_path(std::string_view path, std::string& out);

// -------------------------------------------------------------------- queries

/// One "name=value" of a query, not decoded.
struct Parameter {
  std::string_view name;
  std::string_view value;
};

/// Reads a query's parameters one by one; empty ones between two '&' are
/// skipped. Lifetime: the parameters are the query's.
class Query {
 public:
  explicit Query(std::string_view query) noexcept : pieces_(query, '&') {}

  /// Returns: false if there is none left.
  bool next(Parameter& parameter) noexcept;

 private:
  Pieces pieces_;
};

/// Decodes a name or a value of a query, where '+' is a space.
/// Returns: nothing if an escape is bad.
std::optional<std::string> decode_parameter(std::string_view text);

/// The decoded value of the first parameter with that name; empty for one
/// without a value, as in "?upload".
/// Returns: nothing if there is none, or if it has a bad escape.
std::optional<std::string> query_value(std::string_view query,
                                       std::string_view name);

}  // namespace violet::http
