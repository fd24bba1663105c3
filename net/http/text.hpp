// text.hpp - the small languages inside HTTP: words, numbers, lists, dates,
// escapes.
//
// What is read here refuses what the grammar does not have: a number has
// digits and nothing else, a word no spaces. That is no pedantry. Where one
// reader takes "+5" for 5 and another for nothing, they see two different
// messages in the same bytes.
//
// Built on: nothing. See: RFC 9110, section 5.6; RFC 3986, section 2.1.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace violet::http {

namespace internal {

// What a byte may be part of.
inline constexpr std::uint8_t kToken = 1;   // names, methods
inline constexpr std::uint8_t kTarget = 2;  // targets of requests
inline constexpr std::uint8_t kValue = 4;   // values of fields, reasons
inline constexpr std::uint8_t kHost = 8;    // names of hosts, but no escapes
inline constexpr std::uint8_t kPlain = 16;  // what a path needs not escape

constexpr std::array<std::uint8_t, 256> make_kinds() noexcept {
  std::array<std::uint8_t, 256> kinds{};
  const auto add = [&](std::uint8_t kind, std::string_view bytes) {
    for (const char c : bytes) kinds[static_cast<unsigned char>(c)] |= kind;
  };
  for (unsigned c = 0x21; c < 256; ++c) {
    if (c != 0x7f) kinds[c] |= kValue | kTarget;
  }
  add(kValue, " \t");
  // A target ends at '#', and no client leaves these as they are (RFC 9112,
  // section 3.2); browsers do leave []{}|^` in a query, and curl bytes that
  // are not ASCII.
  for (const char c : std::string_view("#\"<>\\")) {
    kinds[static_cast<unsigned char>(c)] &= static_cast<std::uint8_t>(~kTarget);
  }
  constexpr std::string_view kLettersAndDigits =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  add(kToken | kHost | kPlain, kLettersAndDigits);
  add(kToken, "!#$%&'*+-.^_`|~");  // RFC 9110, section 5.6.2
  add(kHost, "-._~!$&'()*+,;=");   // RFC 3986, reg-name
  add(kPlain, "-._~!$()*+,;=@");   // RFC 3986, pchar without & ' and :
  return kinds;
}
inline constexpr auto kKinds = make_kinds();

inline bool is(std::uint8_t kind, char c) noexcept {
  return (kKinds[static_cast<unsigned char>(c)] & kind) != 0;
}

/// True if each byte is of that kind; also for an empty text.
inline bool all_are(std::uint8_t kind, std::string_view text) noexcept {
  std::uint8_t common = kind;
  for (const char c : text) common &= kKinds[static_cast<unsigned char>(c)];
  return common == kind;
}

/// -1 for what is no hexadecimal digit.
constexpr int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace internal

// ------------------------------------------------------------ words and lists

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

/// Equal but for the case of ASCII letters.
inline bool same_word(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

/// A method, the name of a field: a `token`, which is never empty.
inline bool is_token(std::string_view text) noexcept {
  return !text.empty() && internal::all_are(internal::kToken, text);
}

/// Without spaces and tabs at both ends.
constexpr std::string_view trimmed(std::string_view text) noexcept {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

/// The pieces of a text between separators, one after the other. A text has
/// one piece more than separators, so an empty text has one, which is empty.
/// Lifetime: the pieces are the text's.
class Pieces {
 public:
  constexpr Pieces(std::string_view text, char separator) noexcept
      : rest_(text), separator_(separator) {}

  /// Returns: false if there is none left.
  constexpr bool next(std::string_view& piece) noexcept {
    if (!more_) return false;
    const auto at = rest_.find(separator_);
    more_ = at != rest_.npos;
    piece = rest_.substr(0, at);
    if (more_) rest_.remove_prefix(at + 1);
    return true;
  }

 private:
  std::string_view rest_;
  char separator_;
  bool more_ = true;
};

/// True if a list such as "keep-alive, Upgrade" has that word, in any case.
bool has_word(std::string_view list, std::string_view word) noexcept;

// -------------------------------------------------------------------- numbers

/// The largest size there is: that of the largest file.
inline constexpr std::uint64_t kMostBytes =
    std::numeric_limits<std::int64_t>::max();

/// Digits and nothing else. What is more than kMostBytes is given as
/// kMostBytes + 1: it is a number, but none to go on with.
std::optional<std::uint64_t> parse_number(std::string_view text) noexcept;

/// Appends it in digits.
void append_number(std::string& out, std::uint64_t number);

/// For people: "812 B", "3.4 MiB". Never more than there is.
std::string size_text(std::uint64_t bytes);

// ---------------------------------------------------------------------- dates

using Time = std::chrono::sys_seconds;

/// The second that it is.
inline Time current_time() noexcept {
  return std::chrono::floor<std::chrono::seconds>(
      std::chrono::system_clock::now());
}

inline constexpr std::size_t kDateSize = 29;

/// Writes "Sun, 06 Nov 1994 08:49:37 GMT". Years before 1 and after 9999 have
/// no such form; the first or the last second that has one stands for them.
void write_date(std::span<char, kDateSize> into, Time time) noexcept;
void append_date(std::string& out, Time time);
std::string date_text(Time time);

/// Reads that form and the two that are obsolete:
/// "Sunday, 06-Nov-94 08:49:37 GMT" and "Sun Nov  6 08:49:37 1994".
/// The name of the day is not compared with the date. `now` tells the century
/// of two digits: more than 50 years ahead is in the past (RFC 9110, section
/// 5.6.7).
/// Returns: nothing if it is no date.
std::optional<Time> parse_date(std::string_view text, Time now) noexcept;

// -------------------------------------------------------------------- escapes

/// Appends `text` with %XX decoded. Returns: false if an escape is bad; then
/// `out` is as before.
bool append_unescaped(std::string& out, std::string_view text);

/// Appends the name of a file or folder as one segment of a path, with every
/// byte escaped that may not stand there, and also '/', '&', ':' and quotes:
/// it is a relative link as it stands, and may go into HTML.
void append_escaped(std::string& out, std::string_view name);

/// Appends it as text of HTML, or as a quoted attribute.
void append_html(std::string& out, std::string_view text);

/// "text/html; charset=utf-8" for "index.html"; "application/octet-stream" for
/// what is not known. Goes by what follows the last dot, in any case.
std::string_view type_of_name(std::string_view name) noexcept;

}  // namespace violet::http
