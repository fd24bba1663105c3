// url.cpp - taking URLs apart, and following references.
// SPDX-License-Identifier: MIT
#include "url.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>

#include "../../runtime/error.hpp"
#include "../address.hpp"

namespace violet::http {

namespace {

/// The five parts of a URL or a reference (RFC 3986, appendix B), without the
/// fragment. Lifetime: the views are the text's.
struct Parts {
  std::optional<std::string_view> scheme;
  std::optional<std::string_view> authority;
  std::string_view path;
  std::optional<std::string_view> query;
};

Parts split(std::string_view text) noexcept {
  Parts parts;
  text = text.substr(0, text.find('#'));
  if (const auto mark = text.find('?'); mark != text.npos) {
    parts.query = text.substr(mark + 1);
    text = text.substr(0, mark);
  }
  const auto colon = text.find(':');
  if (colon != text.npos && colon < text.find('/')) {
    parts.scheme = text.substr(0, colon);
    text.remove_prefix(colon + 1);
  }
  if (text.starts_with("//")) {
    const auto end = std::min(text.find('/', 2), text.size());
    parts.authority = text.substr(2, end - 2);
    text.remove_prefix(end);
  }
  parts.path = text;
  return parts;
}

/// RFC 3986, section 5.2.4, for a path that begins with a slash.
std::string without_dots(std::string_view path) {
  std::string out;
  Pieces segments(path.substr(1), '/');
  bool folder = false;  // the last one was a dot segment, and ends in a slash
  for (std::string_view segment; segments.next(segment);) {
    folder = segment == "." || segment == "..";
    if (segment == "..") out.resize(std::min(out.rfind('/'), out.size()));
    if (!folder) out.append("/").append(segment);
  }
  if (folder || out.empty()) out.push_back('/');
  return out;
}

/// Section 5.2.3: a relative path replaces what follows the last slash.
std::string merged(std::string_view base, std::string_view path) {
  std::string out(base.substr(0, base.rfind('/') + 1));
  out.append(path);
  return out;
}

/// Appends a path or a query with what may not stand there escaped.
/// Returns: null, or what is wrong.
const char* append_safely(std::string& out, std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  constexpr std::string_view kUnsafe = "[]{}|^`";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return "has a control character";
    if (c == '%' &&
        (text.size() - i < 3 || internal::hex_value(text[i + 1]) < 0 ||
         internal::hex_value(text[i + 2]) < 0)) {
      return "has a % that is not followed by two hexadecimal digits; one that "
             "means itself is written %25";
    }
    if (internal::is(internal::kTarget, c) && byte < 0x80 &&
        kUnsafe.find(c) == kUnsafe.npos) {
      out.push_back(c);
    } else {
      out.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
    }
  }
  return nullptr;
}

/// Returns: null, or what is wrong with a scheme.
const char* refuse_scheme(const Parts& parts) noexcept {
  if (parts.scheme && same_word(*parts.scheme, "https")) {
    return "needs TLS, which Violet does not have: put a proxy that speaks it "
           "before the server, and name that proxy with http://";
  }
  const bool known = parts.scheme && same_word(*parts.scheme, "http") &&
                     parts.authority.has_value();
  return known ? nullptr : "is not a URL that begins with http://";
}

std::string refusal_of(std::string_view text, const char* why) {
  constexpr std::size_t kShown = 200;
  const std::string_view rest = text.size() > kShown ? "..." : "";
  return concat({"'", text.substr(0, kShown), rest, "' ", why});
}

}  // namespace

const char* Url::take_authority(std::string_view authority) {
  if (authority.find('@') != authority.npos) {
    return "has a user name: send an Authorization field instead";
  }
  if (!is_host(authority)) return "has no valid host";
  const HostAndPort parts = split_host(authority);
  std::string_view host = parts.host;
  if (host.empty()) return "has no host";
  port_ = parts.port.value_or(kDefaultPort);
  if (port_ == 0) return "has port 0, where nobody can listen";
  if (host.front() == '[') {
    host = host.substr(1, host.size() - 2);
    std::string refusal;
    Address::parse(host, port_, refusal);
    if (!refusal.empty()) return "has brackets around no IPv6 address";
  }
  host_ = host;
  std::transform(host_.begin(), host_.end(), host_.begin(), lower);
  return nullptr;
}

const char* Url::take_path(std::string_view path, std::string_view query,
                           bool has_query) {
  target_.clear();
  const std::string clean = without_dots(path.empty() ? "/" : path);
  if (const char* why = append_safely(target_, clean)) return why;
  if (!has_query) return nullptr;
  target_.push_back('?');
  return append_safely(target_, query);
}

Url Url::parse(std::string_view text, std::string& refusal) {
  Url url;
  const Parts parts = split(text);
  const char* why = refuse_scheme(parts);
  if (why == nullptr) why = url.take_authority(*parts.authority);
  if (why == nullptr) {
    why = url.take_path(parts.path, parts.query.value_or(""),
                        parts.query.has_value());
  }
  refusal = why == nullptr ? std::string() : refusal_of(text, why);
  return why == nullptr ? url : Url();
}

Url Url::parse(std::string_view text) {
  std::string refusal;
  Url url = parse(text, refusal);
  if (!refusal.empty()) throw_system(EINVAL, refusal);
  return url;
}

// RFC 3986, section 5.2.2.
Url Url::resolve(std::string_view reference, std::string& refusal) const {
  const Parts parts = split(reference);
  if (parts.scheme) return parse(reference, refusal);
  Url url(*this);
  // Not split(): a path may begin with two slashes.
  const std::string_view own(target_);
  const auto mark = std::min(own.find('?'), own.size());
  const char* why = nullptr;
  std::string path(parts.path);
  std::optional<std::string_view> query = parts.query;
  if (parts.authority) {
    why = url.take_authority(*parts.authority);
  } else if (path.empty()) {
    path = own.substr(0, mark);
    if (!query && mark < own.size()) query = own.substr(mark + 1);
  } else if (path.front() != '/') {
    path = merged(own.substr(0, mark), path);
  }
  if (why == nullptr) {
    why = url.take_path(path, query.value_or(""), query.has_value());
  }
  refusal = why == nullptr ? std::string() : refusal_of(reference, why);
  return why == nullptr ? url : Url();
}

Url Url::resolve(std::string_view reference) const {
  std::string refusal;
  Url url = resolve(reference, refusal);
  if (!refusal.empty()) throw_system(EINVAL, refusal);
  return url;
}

std::string Url::authority() const {
  const bool brackets = host_.find(':') != host_.npos;
  std::string out = concat({brackets ? "[" : "", host_, brackets ? "]" : ""});
  if (port_ != kDefaultPort) out += concat({":", port_});
  return out;
}

std::string Url::text() const {
  return concat({"http://", authority(), target_});
}

}  // namespace violet::http
