// target.cpp - taking targets apart.
// SPDX-License-Identifier: MIT
#include "target.hpp"

#include <algorithm>

namespace violet::http {

namespace {

/// Path and query of what is left of a target.
void split_path(std::string_view text, Target& out) noexcept {
  const auto mark = text.find('?');
  out.path = text.substr(0, mark);
  out.has_query = mark != text.npos;
  if (out.has_query) out.query = text.substr(mark + 1);
}

bool is_scheme(std::string_view text) noexcept {
  if (text.empty()) return false;
  const char first = lower(text.front());
  if (first < 'a' || first > 'z') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') ||
           c == '+' || c == '-' || c == '.';
  });
}

Fault parse_absolute(std::string_view text, Target& out) noexcept {
  const auto mark = text.find("://");
  if (mark == text.npos || !is_scheme(text.substr(0, mark))) {
    return Fault::kBadTarget;
  }
  out.form = TargetForm::kAbsolute;
  out.scheme = text.substr(0, mark);
  text.remove_prefix(mark + 3);
  const auto end = text.find_first_of("/?");
  out.authority = text.substr(0, end);
  if (end != text.npos) split_path(text.substr(end), out);
  const bool valid = !out.authority.empty() && is_host(out.authority) &&
                     !split_host(out.authority).host.empty();
  return valid ? Fault::kNone : Fault::kBadTarget;
}

Fault parse_authority(std::string_view text, Target& out) noexcept {
  out.form = TargetForm::kAuthority;
  out.authority = text;
  if (!is_host(text)) return Fault::kBadTarget;
  const HostAndPort parts = split_host(text);
  const bool whole = !parts.host.empty() && parts.port.has_value();
  return whole ? Fault::kNone : Fault::kBadTarget;
}

/// Where the port's colon is; the text's size if there is none.
std::size_t end_of_host(std::string_view text) noexcept {
  if (text.empty() || text.front() != '[') {
    return std::min(text.find(':'), text.size());
  }
  const auto bracket = text.find(']');
  return bracket == text.npos ? text.size() : bracket + 1;
}

bool is_escape(std::string_view text) noexcept {
  return text.size() >= 3 && text[0] == '%' &&
         internal::hex_value(text[1]) >= 0 && internal::hex_value(text[2]) >= 0;
}

/// Where the name of a host ends that may be empty.
std::size_t end_of_name(std::string_view text) noexcept {
  std::size_t end = 0;
  for (;;) {
    while (end < text.size() && internal::is(internal::kHost, text[end])) ++end;
    if (!is_escape(text.substr(end))) return end;
    end += 3;
  }
}

bool is_port(std::string_view text) noexcept {
  return text.empty() || parse_number(text).value_or(kMostBytes) <= 65535;
}

/// What stands between the brackets of an IPv6 address, roughly: enough that
/// nothing else can hide there.
bool is_ipv6(std::string_view text) noexcept {
  return text.find(':') != text.npos &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return internal::hex_value(c) >= 0 || c == ':' || c == '.';
         });
}

}  // namespace

Fault parse_target(std::string_view method, std::string_view text,
                   Target& out) noexcept {
  out = Target();
  if (text.empty() || !internal::all_are(internal::kTarget, text)) {
    return Fault::kBadTarget;
  }
  if (method == "CONNECT") return parse_authority(text, out);
  if (text.front() == '/') {
    split_path(text, out);
    return Fault::kNone;
  }
  if (text == "*" && method == "OPTIONS") {
    out.form = TargetForm::kAsterisk;
    return Fault::kNone;
  }
  return parse_absolute(text, out);
}

bool is_host(std::string_view text) noexcept {
  const bool bracket = !text.empty() && text.front() == '[';
  const std::size_t end = bracket ? end_of_host(text) : end_of_name(text);
  if (bracket && (text[end - 1] != ']' || !is_ipv6(text.substr(1, end - 2)))) {
    return false;
  }
  return end == text.size() ||
         (text[end] == ':' && is_port(text.substr(end + 1)));
}

HostAndPort split_host(std::string_view host) noexcept {
  const std::size_t end = end_of_host(host);
  HostAndPort parts{host.substr(0, end), std::nullopt};
  if (end >= host.size()) return parts;
  const auto port = parse_number(host.substr(end + 1));
  if (port && *port <= 65535) parts.port = static_cast<std::uint16_t>(*port);
  return parts;
}

// ---------------------------------------------------------------------- paths

namespace {

/// A segment, or an empty one for the slash at the end.
bool append_segment(std::string& out, std::string_view raw) {
  const std::size_t before = out.size();
  if (!append_unescaped(out, raw)) return false;
  const std::string_view segment = std::string_view(out).substr(before);
  return segment != "." && segment != ".." &&
         segment.find('/') == segment.npos &&
         segment.find('\0') == segment.npos;
}

}  // namespace

Fault decode_path(std::string_view path, std::string& out) {
  out.clear();
  if (path.empty()) return Fault::kNone;  // http://host is http://host/
  if (path.front() != '/') return Fault::kBadPath;
  Pieces segments(path.substr(1), '/');
  bool slash = false;
  for (std::string_view segment; segments.next(segment); slash = true) {
    if (slash && !out.empty() && out.back() != '/') out.push_back('/');
    if (segment.empty()) continue;
    if (!append_segment(out, segment)) {
      out.clear();
      return Fault::kBadPath;
    }
  }
  return Fault::kNone;
}

// -------------------------------------------------------------------- queries

bool Query::next(Parameter& parameter) noexcept {
  for (std::string_view piece; pieces_.next(piece);) {
    if (piece.empty()) continue;
    const auto equals = piece.find('=');
    parameter.name = piece.substr(0, equals);
    parameter.value =
        equals == piece.npos ? std::string_view() : piece.substr(equals + 1);
    return true;
  }
  return false;
}

std::optional<std::string> decode_parameter(std::string_view text) {
  std::string spaced(text);
  std::replace(spaced.begin(), spaced.end(), '+', ' ');
  std::string decoded;
  if (!append_unescaped(decoded, spaced)) return std::nullopt;
  return decoded;
}

std::optional<std::string> query_value(std::string_view query,
                                       std::string_view name) {
  Query parameters(query);
  for (Parameter one; parameters.next(one);) {
    if (decode_parameter(one.name) == name) return decode_parameter(one.value);
  }
  return std::nullopt;
}

}  // namespace violet::http
