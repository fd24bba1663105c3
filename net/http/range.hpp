// range.hpp - parts of a representation, and requests with conditions.
//
// All of it is arithmetic on what was sent and what there is. A server says
// what it has (Selected), and evaluate() answers with the status to send, in
// the order of RFC 9110, section 13.2.2: nothing else needs to look at If-Match
// and its kin, or at Range.
//
// A range that is not understood is ignored, and the whole is sent: it was an
// optimisation to begin with. Only one that lies beyond the end gets 416.
//
// Built on: message. See: RFC 9110, sections 8.8, 13 and 14.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "message.hpp"

namespace violet::http {

// --------------------------------------------------------------------- ranges

/// Some bytes of a representation, half-open: "bytes=0-4" is [0, 5).
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t size() const noexcept { return end - begin; }
  friend bool operator==(const ByteRange& a, const ByteRange& b) noexcept {
    return a.begin == b.begin && a.end == b.end;
  }
};

/// What a Range asks of a representation. The ranges lie within it, are not
/// empty, and neither overlap nor touch each other: together they are never
/// more than the whole. They stand in the order in which they were asked for.
struct Ranges {
  static constexpr std::size_t kMost = 16;

  enum class Kind : std::uint8_t {
    kWhole,          // no range to go by: 200
    kSome,           // 206
    kUnsatisfiable,  // 416
  };

  Kind kind = Kind::kWhole;
  std::size_t count = 0;
  std::array<ByteRange, kMost> list{};
};

/// Reads the value of a Range for a representation of `size` bytes. kWhole is
/// the answer to another unit, to bad syntax, to more than Ranges::kMost
/// ranges, and to a suffix of an empty representation, of which no 206 can
/// speak. Ranges that overlap or touch are joined (RFC 9110, section 14.2 lets
/// a server do all of that).
Ranges parse_ranges(std::string_view text, std::uint64_t size) noexcept;

/// A Content-Range: "bytes 0-4/10", "bytes 0-4/*", or "bytes */10" where no
/// range was satisfiable.
struct ContentRange {
  std::optional<ByteRange> range;
  std::optional<std::uint64_t> size;  // of the whole; not given: "*"
};

/// Returns: nothing for another unit, bad syntax, or a range that does not lie
/// within the size.
std::optional<ContentRange> parse_content_range(std::string_view text) noexcept;

/// "bytes 0-4/10" and so on. A range must not be empty: there is no way to
/// write an empty one.
std::string text_of(const ContentRange& range);

// ------------------------------------------------------------------ validators

/// An entity tag: "abc" or W/"abc". A weak one stands for content that means
/// the same, a strong one for the same bytes.
/// Lifetime: the view is the text's.
struct ETag {
  bool weak = false;
  std::string_view opaque;  // between the quotes
};

/// Returns: nothing if the text is not one entity tag and nothing else.
std::optional<ETag> parse_etag(std::string_view text) noexcept;

/// RFC 9110, section 8.8.3.2.
inline bool strongly_equal(const ETag& a, const ETag& b) noexcept {
  return !a.weak && !b.weak && a.opaque == b.opaque;
}
inline bool weakly_equal(const ETag& a, const ETag& b) noexcept {
  return a.opaque == b.opaque;
}

// ------------------------------------------------------------------ conditions

/// What a server has under a name. Lifetime: the tag's view is the caller's.
struct Selected {
  bool exists = true;
  std::uint64_t size = 0;
  std::optional<ETag> etag;
  std::optional<Time> modified;

  /// The owner knows that nothing changed twice in the second of `modified`.
  /// Only then does a date in If-Range count: else two files could be mixed
  /// (RFC 9110, section 8.8.2.2).
  bool modified_is_strong = false;
};

/// How to go on with a request.
struct Verdict {
  /// 0: carry the request out. For GET and HEAD instead 200, or 206 with
  /// `ranges`. Else 304, 412 or 416 is the answer.
  int status = 0;
  Ranges ranges;
};

/// Evaluates the conditions of a request, and its Range.
/// `now` is for dates with two digits of year only.
Verdict evaluate(const RequestHead& head, const Selected& selected,
                 Time now) noexcept;

}  // namespace violet::http
