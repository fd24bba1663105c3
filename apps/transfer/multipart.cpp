// multipart.cpp - boundaries, and the fields of parts.
// SPDX-License-Identifier: MIT
#include "multipart.hpp"

#include "../../net/http/text.hpp"

namespace transfer {

using violet::http::same_word;
using violet::http::trimmed;

namespace {

constexpr std::size_t kMostBoundary = 70;  // RFC 2046, section 5.1.1

/// The value of a parameter in "type; name=value; name=\"value\"".
std::optional<std::string> parameter(std::string_view text,
                                     std::string_view name) {
  for (auto at = text.find(';'); at != text.npos;) {
    text.remove_prefix(at + 1);
    const auto equals = text.find('=');
    if (equals == text.npos) return std::nullopt;
    const bool found = same_word(trimmed(text.substr(0, equals)), name);
    text.remove_prefix(equals + 1);
    std::string value;
    if (text.starts_with('"')) {
      std::size_t i = 1;
      for (; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '"') ++i;
        value += text[i];
      }
      if (i == text.size()) return std::nullopt;
      text.remove_prefix(i + 1);
    } else {
      value = trimmed(text.substr(0, text.find(';')));
    }
    if (found) return value;
    at = text.find(';');
  }
  return std::nullopt;
}

/// Browsers write a quote in the name of a file as %22, and leave the rest as
/// it is (the HTML standard, "multipart form data"); curl writes \".
std::string with_quotes(std::string name) {
  for (auto at = name.find("%22"); at != name.npos; at = name.find("%22", at)) {
    name.replace(at, 3, 1, '"');
  }
  return name;
}

}  // namespace

std::optional<std::string> boundary_of(std::string_view content_type) {
  const auto type = trimmed(content_type.substr(0, content_type.find(';')));
  if (!same_word(type, "multipart/form-data")) return std::nullopt;
  auto boundary = parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > kMostBoundary) {
    return std::nullopt;
  }
  return boundary;
}

// The first boundary stands at the very beginning: as if a line had ended.
Multipart::Multipart(const std::string& boundary)
    : boundary_("\r\n--" + boundary), buffer_("\r\n") {}

void Multipart::feed(std::string_view bytes) {
  buffer_.erase(0, taken_);
  taken_ = 0;
  data_ = {};
  buffer_.append(bytes);
}

Multipart::Event Multipart::next() {
  for (;;) {
    switch (at_) {
      case At::kBefore: {
        const Event event = skip_to_boundary();
        if (event == kMore) return event;
        break;
      }
      case At::kAfterBoundary: {
        const Event event = after_boundary();
        if (event == kMore) return event;
        break;
      }
      case At::kHead: return read_head();
      case At::kBody: return read_body();
      case At::kDone: return kDone;
      case At::kBad: return kBad;
    }
  }
}

/// What comes before the first boundary is nobody's.
Multipart::Event Multipart::skip_to_boundary() {
  const auto found = rest().find(boundary_);
  if (found == std::string_view::npos) {
    const std::size_t size = rest().size();
    if (size > boundary_.size()) taken_ += size - boundary_.size();
    return kMore;
  }
  taken_ += found + boundary_.size();
  at_ = At::kAfterBoundary;
  return kEnd;
}

/// A part follows a line end; "--" is the end of all.
Multipart::Event Multipart::after_boundary() {
  while (rest().starts_with(' ') || rest().starts_with('\t')) ++taken_;
  if (rest().size() < 2) return kMore;
  if (rest().starts_with("--")) {
    at_ = At::kDone;
  } else if (rest().starts_with("\r\n")) {
    name_.clear();
    file_name_.reset();
    at_ = At::kHead;  // the line end stays: a head may be empty
  } else {
    at_ = At::kBad;
  }
  return kEnd;
}

Multipart::Event Multipart::read_head() {
  const auto end = rest().find("\r\n\r\n");
  if (end == std::string_view::npos || end > kMostHeadBytes) {
    if (rest().size() <= kMostHeadBytes + 4) return kMore;
    at_ = At::kBad;
    return kBad;
  }
  std::string_view head = rest().substr(0, end + 2);
  while (!head.empty()) {
    const auto line = head.find("\r\n");
    read_field(head.substr(0, line));
    head.remove_prefix(line + 2);
  }
  taken_ += end + 4;
  at_ = At::kBody;
  return kPart;
}

void Multipart::read_field(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == line.npos) return;
  if (!same_word(line.substr(0, colon), "Content-Disposition")) return;
  const std::string_view value = line.substr(colon + 1);
  name_ = parameter(value, "name").value_or("");
  file_name_ = parameter(value, "filename");
  if (file_name_) file_name_ = with_quotes(*file_name_);
}

Multipart::Event Multipart::read_body() {
  const auto found = rest().find(boundary_);
  if (found == 0) {
    taken_ += boundary_.size();
    at_ = At::kAfterBoundary;
    return kEnd;
  }
  std::size_t count = found;
  if (found == std::string_view::npos) {
    if (rest().size() < boundary_.size()) return kMore;
    count = rest().size() - boundary_.size() + 1;
  }
  data_ = rest().substr(0, count);
  taken_ += count;
  return kData;
}

}  // namespace transfer
