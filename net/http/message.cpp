// message.cpp - looking fields up, and writing heads.
// SPDX-License-Identifier: MIT
#include "message.hpp"

#include <algorithm>
#include <iterator>

namespace violet::http {

std::optional<std::string_view> Fields::find(
    std::string_view name) const noexcept {
  for (std::size_t i = 0; i < size_; ++i) {
    if (same_word((*this)[i].name, name)) return (*this)[i].value;
  }
  return std::nullopt;
}

std::optional<std::string_view> Fields::only(
    std::string_view name) const noexcept {
  return count(name) == 1 ? find(name) : std::nullopt;
}

std::size_t Fields::count(std::string_view name) const noexcept {
  std::size_t count = 0;
  for (const Field field : *this) {
    if (same_word(field.name, name)) ++count;
  }
  return count;
}

bool Fields::has_word(std::string_view name,
                      std::string_view word) const noexcept {
  for (const Field field : *this) {
    if (same_word(field.name, name) && http::has_word(field.value, word)) {
      return true;
    }
  }
  return false;
}

namespace {

struct ReasonEntry {
  int status;
  std::string_view reason;
};

constexpr ReasonEntry kReasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {511, "Network Authentication Required"},
};

}  // namespace

std::string_view reason_of(int status) noexcept {
  const auto* const found =
      std::find_if(std::begin(kReasons), std::end(kReasons),
                   [&](const ReasonEntry& r) { return r.status == status; });
  return found == std::end(kReasons) ? std::string_view() : found->reason;
}

// -------------------------------------------------------------------- writing

[[gnu::cold]] HeadWriter& HeadWriter::refuse(const char* why) noexcept {
  if (refusal_ == nullptr) refusal_ = why;
  return *this;
}

/// True for a first line that may be written now.
bool HeadWriter::begins(const char* refusal) noexcept {
  if (out_.size() != begin_) {
    refuse("the first line of a head comes first, and once");
  }
  if (refusal != nullptr) refuse(refusal);
  has_first_line_ = true;
  return refusal_ == nullptr;
}

HeadWriter& HeadWriter::request(std::string_view method,
                                std::string_view target) {
  Target parts;
  const char* why = nullptr;
  if (!is_token(method)) {
    why = "the method is not a word";
  } else if (parse_target(method, target, parts) != Fault::kNone) {
    why = "the target is none that this method may have";
  }
  if (!begins(why)) return *this;
  out_.append(method).append(" ").append(target).append(" HTTP/1.1\r\n");
  return *this;
}

HeadWriter& HeadWriter::response(int status, std::string_view reason) {
  const char* why = nullptr;
  if (status < 100 || status > 999) {
    why = "a status has three digits";
  } else if (!internal::all_are(internal::kValue, reason)) {
    why = "the reason has a control character";
  }
  if (!begins(why)) return *this;
  out_.append("HTTP/1.1 ");
  append_number(out_, static_cast<std::uint64_t>(status));
  out_.append(" ").append(reason).append("\r\n");
  return *this;
}

/// Refuses what may not be a field.
void HeadWriter::admit(std::string_view name, std::string_view value) noexcept {
  if (!is_token(name)) refuse("the name of a field is not a word");
  if (!internal::all_are(internal::kValue, value)) {
    refuse("the value of a field has a control character");
  }
  if (trimmed(value).size() != value.size()) {
    refuse("the value of a field begins or ends with a space");
  }
  const bool length = same_word(name, "Content-Length");
  if (!length && !same_word(name, "Transfer-Encoding")) return;
  if (!has_first_line_) refuse("a trailer has no say about framing");
  if (framed_) refuse("the body has two framings");
  if (length && parse_number(value).value_or(kMostBytes + 1) > kMostBytes) {
    refuse("the length is not a number");
  }
  if (!length && !same_word(value, "chunked")) {
    refuse("the only transfer coding is chunked");
  }
  framed_ = true;
}

void HeadWriter::append_line(std::string_view name, std::string_view value) {
  out_.append(name).append(": ").append(value).append("\r\n");
}

HeadWriter& HeadWriter::field(std::string_view name, std::string_view value) {
  admit(name, value);
  if (refusal_ == nullptr) append_line(name, value);
  return *this;
}

HeadWriter& HeadWriter::field(std::string_view name, std::uint64_t number) {
  std::string digits;
  append_number(digits, number);
  return field(name, digits);
}

HeadWriter& HeadWriter::date(std::string_view name, Time time) {
  admit(name, "");
  if (refusal_ != nullptr) return *this;
  out_.append(name).append(": ");
  append_date(out_, time);
  out_.append("\r\n");
  return *this;
}

const char* HeadWriter::finish() {
  if (refusal_ == nullptr) {
    out_.append("\r\n");
  } else {
    out_.resize(begin_);
  }
  return refusal_;
}

}  // namespace violet::http
