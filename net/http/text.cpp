// text.cpp - reading and writing them.
// SPDX-License-Identifier: MIT
#include "text.hpp"

#include <algorithm>
#include <charconv>

namespace violet::http {

bool has_word(std::string_view list, std::string_view word) noexcept {
  Pieces pieces(list, ',');
  for (std::string_view piece; pieces.next(piece);) {
    if (same_word(trimmed(piece), word)) return true;
  }
  return false;
}

// -------------------------------------------------------------------- numbers

std::optional<std::uint64_t> parse_number(std::string_view text) noexcept {
  if (text.empty()) return std::nullopt;
  std::uint64_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    // The rest is read all the same: it may be no number after all.
    number = number > kMostBytes / 10
                 ? kMostBytes + 1
                 : number * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return std::min(number, kMostBytes + 1);
}

void append_number(std::string& out, std::uint64_t number) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  out.append(digits, end);
}

std::string size_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  std::size_t unit = 0;
  while (bytes >= 1024 * 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  const std::uint64_t tenths = bytes * 10 / 1024;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " " +
         kUnits[unit];
}

// ---------------------------------------------------------------------- dates

namespace {

constexpr std::string_view kDays[] = {"Sunday",    "Monday",   "Tuesday",
                                      "Wednesday", "Thursday", "Friday",
                                      "Saturday"};
constexpr std::string_view kMonths[] = {"Jan", "Feb", "Mar", "Apr",
                                        "May", "Jun", "Jul", "Aug",
                                        "Sep", "Oct", "Nov", "Dec"};

void put_two(char* at, unsigned number) noexcept {
  at[0] = static_cast<char>('0' + number / 10 % 10);
  at[1] = static_cast<char>('0' + number % 10);
}

/// Reads a date from its front. Once something is not as it must be, nothing
/// more is read, and failed() is true.
class DateReader {
 public:
  explicit DateReader(std::string_view text) noexcept : rest_(text) {}

  bool failed() const noexcept { return failed_; }
  bool ended() const noexcept { return !failed_ && rest_.empty(); }

  bool skip(std::string_view what) noexcept {
    if (failed_ || rest_.substr(0, what.size()) != what) return false;
    rest_.remove_prefix(what.size());
    return true;
  }

  void expect(std::string_view what) noexcept {
    if (!skip(what)) failed_ = true;
  }

  int number(int digits) noexcept {
    int number = 0;
    for (int i = 0; i < digits && !failed_; ++i) {
      const char c = rest_.empty() ? '?' : rest_.front();
      if (c < '0' || c > '9') {
        failed_ = true;
        return 0;
      }
      number = number * 10 + (c - '0');
      rest_.remove_prefix(1);
    }
    return number;
  }

  unsigned month() noexcept {
    for (unsigned i = 0; i < 12; ++i) {
      if (skip(kMonths[i])) return i + 1;
    }
    failed_ = true;
    return 1;
  }

  /// True if the name of the day is spelled out.
  bool day_name() noexcept {
    for (const std::string_view day : kDays) {
      if (skip(day)) return true;
      if (skip(day.substr(0, 3))) return false;
    }
    failed_ = true;
    return false;
  }

  std::chrono::seconds clock() noexcept {
    const int hours = number(2);
    expect(":");
    const int minutes = number(2);
    expect(":");
    const int seconds = number(2);  // 60 in a leap second
    if (hours > 23 || minutes > 59 || seconds > 60) failed_ = true;
    return std::chrono::seconds((hours * 60 + minutes) * 60 + seconds);
  }

 private:
  std::string_view rest_;
  bool failed_ = false;
};

struct DateParts {
  int year = 0;
  unsigned month = 1;
  unsigned day = 0;
  std::chrono::seconds clock{};
};

std::optional<Time> time_of(const DateParts& parts) noexcept {
  const std::chrono::year_month_day date(std::chrono::year(parts.year),
                                         std::chrono::month(parts.month),
                                         std::chrono::day(parts.day));
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date) + parts.clock;
}

int century_of(Time now) noexcept {
  const auto days = std::chrono::floor<std::chrono::days>(now);
  const int year = static_cast<int>(std::chrono::year_month_day(days).year());
  return year - year % 100;
}

}  // namespace

void write_date(std::span<char, kDateSize> into, Time time) noexcept {
  using namespace std::chrono;
  constexpr Time kFirst = sys_days(year(1) / 1 / 1);
  constexpr Time kLast = sys_days(year(9999) / 12 / 31) + seconds(86399);
  time = std::clamp(time, kFirst, kLast);
  const auto days = floor<std::chrono::days>(time);
  const year_month_day date(days);
  const auto clock = static_cast<unsigned>((time - days).count());
  const auto year_number = static_cast<unsigned>(static_cast<int>(date.year()));

  constexpr std::string_view kForm = "Sun, 06 Nov 1994 08:49:37 GMT";
  static_assert(kForm.size() == kDateSize);
  char* const text = into.data();
  kForm.copy(text, kDateSize);
  kDays[weekday(days).c_encoding()].copy(text, 3);
  put_two(text + 5, static_cast<unsigned>(date.day()));
  kMonths[static_cast<unsigned>(date.month()) - 1].copy(text + 8, 3);
  put_two(text + 12, year_number / 100);
  put_two(text + 14, year_number);
  put_two(text + 17, clock / 3600);
  put_two(text + 20, clock / 60 % 60);
  put_two(text + 23, clock % 60);
}

void append_date(std::string& out, Time time) {
  std::array<char, kDateSize> text;
  write_date(text, time);
  out.append(text.data(), text.size());
}

std::string date_text(Time time) {
  std::string text;
  append_date(text, time);
  return text;
}

std::optional<Time> parse_date(std::string_view text, Time now) noexcept {
  DateReader reader(text);
  DateParts parts;
  const bool spelled_out = reader.day_name();
  const bool has_comma = reader.skip(", ");
  if (has_comma) {
    const std::string_view dash = spelled_out ? "-" : " ";
    parts.day = static_cast<unsigned>(reader.number(2));
    reader.expect(dash);
    parts.month = reader.month();
    reader.expect(dash);
    parts.year = reader.number(spelled_out ? 2 : 4);
    reader.expect(" ");
    parts.clock = reader.clock();
    reader.expect(" GMT");
  } else if (!spelled_out) {
    reader.expect(" ");
    parts.month = reader.month();
    reader.expect(" ");
    parts.day = static_cast<unsigned>(reader.number(reader.skip(" ") ? 1 : 2));
    reader.expect(" ");
    parts.clock = reader.clock();
    reader.expect(" ");
    parts.year = reader.number(4);
  }
  if (!reader.ended()) return std::nullopt;
  if (!has_comma || !spelled_out) return time_of(parts);

  // The latest year with these two digits that is at most 50 years ahead.
  parts.year += century_of(now) + 100;
  const auto ahead = now + std::chrono::days(50 * 146097 / 400);
  auto time = time_of(parts);
  for (int i = 0; i < 2 && (!time || *time > ahead); ++i) {
    parts.year -= 100;
    time = time_of(parts);
  }
  return time;
}

// -------------------------------------------------------------------- escapes

bool append_unescaped(std::string& out, std::string_view text) {
  const std::size_t before = out.size();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const int high =
        i + 2 < text.size() ? internal::hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? internal::hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

void append_escaped(std::string& out, std::string_view name) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (const char c : name) {
    if (internal::is(internal::kPlain, c)) {
      out.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out.append({'%', kDigits[byte / 16], kDigits[byte % 16]});
  }
}

void append_html(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out.push_back(c);
    }
  }
}

// ---------------------------------------------------------------------- types

namespace {

struct TypeEntry {
  std::string_view extension;
  std::string_view type;
};

// By extension; binary search relies on it.
constexpr TypeEntry kTypes[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"apk", "application/vnd.android.package-archive"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/plain; charset=utf-8"},
    {"cpp", "text/plain; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"doc", "application/msword"},
    {"docx",
     "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/plain; charset=utf-8"},
    {"hpp", "text/plain; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"html", "text/html; charset=utf-8"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar; charset=utf-8"},
    {"jar", "application/java-archive"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"log", "text/plain; charset=utf-8"},
    {"m4a", "audio/mp4"},
    {"md", "text/markdown; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"mkv", "video/matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"odp", "application/vnd.oasis.opendocument.presentation"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"opus", "audio/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx",
     "application/"
     "vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"py", "text/plain; charset=utf-8"},
    {"rar", "application/vnd.rar"},
    {"rtf", "application/rtf"},
    {"sh", "text/plain; charset=utf-8"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"tsv", "text/tab-separated-values; charset=utf-8"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain; charset=utf-8"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx",
     "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "application/xml"},
    {"xz", "application/x-xz"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

constexpr bool extension_before(const TypeEntry& a,
                                const TypeEntry& b) noexcept {
  return a.extension < b.extension;
}
static_assert(std::is_sorted(std::begin(kTypes), std::end(kTypes),
                             extension_before));

}  // namespace

std::string_view type_of_name(std::string_view name) noexcept {
  constexpr std::string_view kUnknown = "application/octet-stream";
  char extension[12];  // as long as the longest, and one more
  const auto dot = name.rfind('.');
  if (dot == name.npos || name.size() - dot - 1 > sizeof extension) {
    return kUnknown;
  }
  const std::size_t size = name.size() - dot - 1;
  for (std::size_t i = 0; i < size; ++i)
    extension[i] = lower(name[dot + 1 + i]);
  const TypeEntry wanted{{extension, size}, {}};
  const auto* const found = std::lower_bound(
      std::begin(kTypes), std::end(kTypes), wanted, extension_before);
  const bool known =
      found != std::end(kTypes) && found->extension == wanted.extension;
  return known ? found->type : kUnknown;
}

}  // namespace violet::http
