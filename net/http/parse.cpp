// parse.cpp - lines, fields, and what they mean together.
// SPDX-License-Identifier: MIT
#include "parse.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace violet::http {

namespace {

using internal::is;
using internal::kTarget;
using internal::kToken;

bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// Sixteen bytes that are worked on at once; g++ and clang have these for every
/// processor.
using Bytes [[gnu::vector_size(16)]] = unsigned char;

Bytes sixteen(unsigned char byte) noexcept {
  Bytes bytes;
  std::memset(&bytes, byte, sizeof bytes);
  return bytes;
}

/// The first control character, which most often ends a line; `end` if there is
/// none.
const char* find_control(const char* p, const char* end) noexcept {
  for (; end - p >= 16; p += 16) {
    Bytes bytes;
    std::memcpy(&bytes, p, sizeof bytes);
    const auto hits = (bytes < sixteen(0x20)) | (bytes == sixteen(0x7f));
    std::uint64_t halves[2];  // of ones where it hits
    std::memcpy(halves, &hits, sizeof halves);
    if ((halves[0] | halves[1]) == 0) continue;
    if constexpr (std::endian::native != std::endian::little) break;
    return halves[0] != 0 ? p + std::countr_zero(halves[0]) / 8
                          : p + std::countr_zero(halves[1]) / 8 + 8;
  }
  while (p != end && !is_control(*p)) ++p;
  return p;
}

const char* find_line_end(const char* p, const char* end) noexcept {
  return static_cast<const char*>(
      std::memchr(p, '\n', static_cast<std::size_t>(end - p)));
}

std::string_view between(const char* begin, const char* end) noexcept {
  return {begin, static_cast<std::size_t>(end - begin)};
}

/// A line without its end may have tabs, but nothing else of this kind.
Fault check_controls(std::string_view line) noexcept {
  if (line.find('\r') != line.npos) return Fault::kBareCr;
  const auto wrong = [](char c) { return is_control(c) && c != '\t'; };
  const bool any = std::any_of(line.begin(), line.end(), wrong);
  return any ? Fault::kControl : Fault::kNone;
}

/// True for who speaks something else, such as TLS: there may be no end of a
/// line for long, so that is told by the first byte.
bool begins_no_text(char c) noexcept {
  return is_control(c) && c != '\r' && c != '\n' && c != '\t';
}

bool is_blank(char c) noexcept {
  return c == ' ' || c == '\t';
}

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

/// "HTTP/1.1". A later 1.x is read as 1.1 (RFC 9110, section 2.5).
Fault read_version(std::string_view text, int& minor_version) noexcept {
  if (text.size() != 8 || text.substr(0, 5) != "HTTP/" || !is_digit(text[5]) ||
      text[6] != '.' || !is_digit(text[7])) {
    return Fault::kBadVersion;
  }
  if (text[5] != '1') return Fault::kOtherVersion;
  minor_version = text[7] == '0' ? 0 : 1;
  return Fault::kNone;
}

}  // namespace

// ---------------------------------------------------------------------- lines

HeadParser::HeadParser(const HeadLimits& limits, Stage begin) noexcept
    : limits_(limits), begin_(begin), stage_(begin) {
  constexpr std::size_t kMost = 1 << 30;  // places are kept in 32 bits
  limits_.line = std::min(limits_.line, kMost);
  limits_.head = std::min(limits_.head, kMost);
}

std::size_t HeadParser::feed(std::string_view bytes) {
  const char* const begin = bytes.data();
  const char* const end = begin + bytes.size();
  const char* p = begin;
  if (known_) {
    known_ = false;
    if (bytes.substr(0, text_.size()) == text_) {
      stage_ = Stage::kDone;
      repeats_ = true;
      return text_.size();
    }
    forget();
  }
  if (stage_ < Stage::kDone && !between_lines()) p += end_cut_line(bytes);
  if (stage_ < Stage::kDone && p != end) p = take_lines(p, end);
  if (stage_ == Stage::kDone && line_ != 0) complete();
  return static_cast<std::size_t>(p - begin);
}

/// Adds to a line that has begun, up to its end. Returns: how many bytes.
std::size_t HeadParser::end_cut_line(std::string_view bytes) {
  const auto line_end = bytes.find('\n');
  const bool ends = line_end != bytes.npos;
  const std::size_t wanted = ends ? line_end + 1 : bytes.size();
  const std::size_t left = room() - (text_.size() - line_);
  text_.append(bytes.substr(0, std::min(wanted, left)));
  const std::string_view line = std::string_view(text_).substr(line_);
  if (wanted > left || (!ends && wanted == left)) {
    fail(too_long(line));
  } else if (ends) {
    take_line(line, false);
  }
  return wanted;
}

/// Takes the lines that are whole, and then keeps them and the beginning of the
/// next with one copy. Returns: where the head or the bytes end.
const char* HeadParser::take_lines(const char* p, const char* end) {
  const char* const begin = p;
  while (stage_ < Stage::kDone && p != end) {
    if (stage_ == Stage::kFirstLine && begins_no_text(*p)) {
      fail(Fault::kControl);
      break;
    }
    const char* stop = find_control(p, end);
    const bool clean = end - stop >= 2 && stop[0] == '\r' && stop[1] == '\n';
    stop = clean ? stop + 1 : find_line_end(stop, end);
    if (stop == nullptr) break;
    take_line(between(p, stop + 1), clean);
    p = stop + 1;
  }
  if (stage_ < Stage::kDone && p != end) {
    const std::string_view cut = between(p, end);
    if (cut.size() >= room()) fail(too_long(cut.substr(0, room())));
    p = end;
  }
  if (stage_ != Stage::kFailed) text_.append(begin, p);
  return p;
}

/// How many bytes the line may have, with its end.
std::size_t HeadParser::room() const noexcept {
  return std::min(limits_.line + 2, limits_.head - line_);
}

Fault HeadParser::too_long(std::string_view line) const noexcept {
  if (stage_ == Stage::kFirstLine) return long_first_line(line);
  return line.size() < limits_.line + 2 ? Fault::kLongHead : Fault::kLongLine;
}

/// One whole line with its end. `clean`: it has no control character before
/// its CR LF.
void HeadParser::take_line(std::string_view line, bool clean) {
  const Fault fault = line.size() > room() ? too_long(line.substr(0, room()))
                                           : read_line(line, clean);
  if (fault != Fault::kNone) return fail(fault);
  line_ += line.size();
}

Fault HeadParser::read_line(std::string_view line, bool clean) {
  if (line.size() < 2 || line[line.size() - 2] != '\r') return Fault::kBareLf;
  line.remove_suffix(2);
  if (!clean) {
    const Fault fault = check_controls(line);
    if (fault != Fault::kNone) return fault;
  }
  if (stage_ == Stage::kFields) {
    if (!line.empty()) return read_field(line);
    stage_ = Stage::kDone;
    return Fault::kNone;
  }
  if (line.empty() && may_skip_line()) {
    return std::exchange(skipped_, true) ? Fault::kEmptyLines : Fault::kNone;
  }
  if (!line.empty() && is_blank(line.front())) return Fault::kLeadingSpace;
  stage_ = Stage::kFields;
  return first_line(line, line_);
}

void HeadParser::fail(Fault fault) noexcept {
  stage_ = Stage::kFailed;
  fault_ = fault;
}

void HeadParser::complete() noexcept {
  if (folded_) unfold();
  const Fault fault = last_line();
  if (fault != Fault::kNone) fail(fault);
  line_ = 0;
}

// Whoever asks for the same again sends the same bytes: a poll, a check whether
// all is well. Then nothing is to be read that has not been read already.
void HeadParser::next() noexcept {
  known_ = stage_ == Stage::kDone && line_ == 0 && !folded_;
  if (!known_) forget();
  stage_ = begin_;
}

void HeadParser::forget() noexcept {
  text_.clear();
  entries_.clear();
  line_ = 0;
  known_ = repeats_ = false;
  fault_ = Fault::kNone;
  skipped_ = false;
  folded_ = false;
}

void HeadParser::release() noexcept {
  forget();
  stage_ = begin_;
  std::string().swap(text_);
  std::vector<internal::FieldEntry>().swap(entries_);
}

// --------------------------------------------------------------------- fields

Fault HeadParser::read_field(std::string_view line) {
  if (is_blank(line.front())) return fold(line);
  if (entries_.size() >= limits_.fields) return Fault::kManyFields;
  std::size_t colon = 0;
  while (is(kToken, line.data()[colon])) ++colon;  // the CR is none
  if (colon == line.size()) return Fault::kNoColon;
  if (line[colon] != ':') {
    return is_blank(line[colon]) ? Fault::kSpaceBeforeColon : Fault::kBadName;
  }
  if (colon == 0) return Fault::kBadName;

  std::size_t begin = colon + 1;
  std::size_t end = line.size();
  while (begin < end && is_blank(line[begin])) ++begin;
  while (begin < end && is_blank(line[end - 1])) --end;
  if (entries_.empty())
    entries_.reserve(std::min<std::size_t>(limits_.fields, 24));
  entries_.push_back({static_cast<std::uint32_t>(line_),
                      static_cast<std::uint32_t>(colon),
                      static_cast<std::uint32_t>(line_ + begin),
                      static_cast<std::uint32_t>(end - begin)});
  return Fault::kNone;
}

/// A line that goes on with the field before it.
Fault HeadParser::fold(std::string_view line) noexcept {
  if (entries_.empty()) return Fault::kLeadingSpace;
  if (!may_fold()) return Fault::kFoldedLine;
  internal::FieldEntry& entry = entries_.back();
  entry.value_size =
      static_cast<std::uint32_t>(line_ + line.size()) - entry.value;
  folded_ = true;
  return Fault::kNone;
}

/// Puts spaces where lines were folded (RFC 9112, section 5.2).
void HeadParser::unfold() noexcept {
  for (internal::FieldEntry& entry : entries_) {
    char* const begin = text_.data() + entry.value;
    char* const end = begin + entry.value_size;
    std::replace(begin, end, '\r', ' ');
    std::replace(begin, end, '\n', ' ');
    const std::string_view value = trimmed({begin, entry.value_size});
    entry.value = static_cast<std::uint32_t>(value.data() - text_.data());
    entry.value_size = static_cast<std::uint32_t>(value.size());
  }
}

// -------------------------------------------------------------------- framing

namespace {

/// What the fields of a head say together about its framing.
class FramingReader {
 public:
  void read_length(std::string_view value) noexcept {
    if (std::exchange(has_length_, true)) note(Fault::kManyLengths);
    length_ = parse_number(value);
    // A leading zero is octal for some readers.
    const bool odd = value.size() > 1 && value.front() == '0';
    if (!length_ || odd) note(Fault::kBadLength);
    if (length_.value_or(0) > kMostBytes) note(Fault::kLongBody);
  }

  /// Lists in several fields are one list. No element of it may be empty.
  void read_codings(std::string_view value) noexcept {
    has_codings_ = true;
    Pieces codings(value, ',');
    for (std::string_view coding; codings.next(coding);) {
      coding = trimmed(coding);
      if (coding.empty() || chunked_) note(Fault::kBadCoding);
      chunked_ = same_word(coding, "chunked");
      if (!chunked_) other_ = true;
    }
  }

  void read_connection(std::string_view value) noexcept {
    close_ = close_ || has_word(value, "close");
    keep_alive_ = keep_alive_ || has_word(value, "keep-alive");
  }

  Fault conclude(Head& head) noexcept {
    if (has_codings_) {
      if (head.minor_version == 0) note(Fault::kCodingIn10);
      if (has_length_) note(Fault::kLengthAndCoding);
      if (!chunked_) note(Fault::kBadCoding);
      if (other_) note(Fault::kOtherCoding);
    }
    head.length = length_;
    head.chunked = chunked_;
    head.keeps_alive = !close_ && (keep_alive_ || head.minor_version != 0);
    return fault_;
  }

 private:
  void note(Fault fault) noexcept {
    if (fault_ == Fault::kNone) fault_ = fault;
  }

  std::optional<std::uint64_t> length_;
  bool has_length_ = false;
  bool has_codings_ = false;
  bool chunked_ = false;  // so is the last coding until now
  bool other_ = false;
  bool close_ = false;
  bool keep_alive_ = false;
  Fault fault_ = Fault::kNone;
};

}  // namespace

Fault HeadParser::read_common(Head& head) const noexcept {
  head.fields = fields();
  FramingReader framing;
  for (const Field field : head.fields) {
    switch (field.name.size()) {  // most names end here
      case 10:
        if (same_word(field.name, "Connection"))
          framing.read_connection(field.value);
        break;
      case 14:
        if (same_word(field.name, "Content-Length"))
          framing.read_length(field.value);
        break;
      case 17:
        if (same_word(field.name, "Transfer-Encoding"))
          framing.read_codings(field.value);
        break;
      default: break;
    }
  }
  return framing.conclude(head);
}

// ------------------------------------------------------------------- requests

Fault RequestParser::first_line(std::string_view line,
                                std::size_t begin) noexcept {
  const char* const text = line.data();  // a CR ends it
  std::size_t end = 0;
  while (is(kToken, text[end])) ++end;
  if (end == line.size()) return Fault::kBadRequestLine;
  if (end == 0 || text[end] != ' ') return Fault::kBadMethod;
  method_ = {begin, end};

  const std::size_t target = end + 1;
  end = target;
  while (is(kTarget, text[end])) ++end;
  if (end == line.size()) return Fault::kBadRequestLine;
  if (end == target || text[end] != ' ') return Fault::kBadTarget;
  target_ = {begin + target, end - target};
  return read_version(line.substr(end + 1), head_.minor_version);
}

Fault RequestParser::long_first_line(std::string_view line) const noexcept {
  return line.find(' ') == line.npos ? Fault::kLongMethod : Fault::kLongTarget;
}

Fault RequestParser::last_line() noexcept {
  head_.method = at(method_);
  head_.target = at(target_);
  Fault fault = parse_target(head_.method, head_.target, head_.parts);
  if (fault == Fault::kNone) fault = read_common(head_);
  if (fault == Fault::kNone) fault = read_host();
  return fault;
}

/// Whom it is for, and what is expected (RFC 9110, section 10.1.1).
Fault RequestParser::read_host() noexcept {
  bool found = false;
  head_.host = {};
  head_.expects_continue = false;
  for (const Field field : head_.fields) {
    if (field.name.size() == 4 && same_word(field.name, "Host")) {
      if (std::exchange(found, true)) return Fault::kManyHosts;
      if (!is_host(field.value)) return Fault::kBadHost;
      head_.host = field.value;
    }
    if (field.name.size() == 6 && same_word(field.name, "Expect") &&
        head_.minor_version != 0) {
      if (!same_word(field.value, "100-continue")) {
        return Fault::kOtherExpectation;
      }
      head_.expects_continue = head_.chunked || head_.length.value_or(0) > 0;
    }
  }
  if (!found && head_.minor_version != 0) return Fault::kNoHost;
  if (!head_.parts.authority.empty()) head_.host = head_.parts.authority;
  return Fault::kNone;
}

// ------------------------------------------------------------------ responses

Fault ResponseParser::first_line(std::string_view line,
                                 std::size_t begin) noexcept {
  constexpr std::size_t kStatus = 9;  // "HTTP/1.1 " comes before it
  constexpr std::size_t kEnd = kStatus + 3;
  if (line.size() < kEnd || line[kStatus - 1] != ' ') return Fault::kBadStatus;
  const std::string_view digits = line.substr(kStatus, 3);
  if (!std::all_of(digits.begin(), digits.end(), is_digit) ||
      digits.front() == '0') {
    return Fault::kBadStatus;
  }
  head_.status =
      (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
  reason_ = {};
  if (line.size() > kEnd) {  // some leave the space out with the reason
    if (line[kEnd] != ' ') return Fault::kBadStatus;
    reason_ = {begin + kEnd + 1, line.size() - kEnd - 1};
  }
  return read_version(line.substr(0, kStatus - 1), head_.minor_version);
}

Fault ResponseParser::last_line() noexcept {
  head_.reason = at(reason_);
  return read_common(head_);
}

}  // namespace violet::http
