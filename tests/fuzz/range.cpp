// range.cpp - ranges, tags, dates and conditions nobody has thought of.
//
// Promised: ranges lie within the size, and neither overlap nor touch. What a
// Content-Range or a date says is printed and read as the same. A request with
// conditions gets one of the statuses there are.
//
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "../../net/http/parse.hpp"
#include "../../net/http/range.hpp"
#include "fuzz.hpp"

using namespace violet::http;

namespace {

constexpr Time kNow{std::chrono::seconds(1'800'000'000)};

void check_ranges(const Ranges& ranges, std::uint64_t size) {
  promise((ranges.kind == Ranges::Kind::kSome) == (ranges.count > 0),
          "some are more than none");
  promise(ranges.count <= Ranges::kMost, "limits hold");
  for (std::size_t i = 0; i < ranges.count; ++i) {
    const ByteRange& a = ranges.list[i];
    promise(a.begin < a.end && a.end <= size, "a range lies within");
    for (std::size_t k = 0; k < i; ++k) {
      const ByteRange& b = ranges.list[k];
      promise(a.end < b.begin || b.end < a.begin, "ranges do not meet");
    }
  }
}

void check_content_range(std::string_view text) {
  const auto range = parse_content_range(text);
  if (!range) return;
  if (range->range) {
    promise(range->range->begin < range->range->end, "a range is not empty");
    promise(!range->size || range->range->end <= *range->size,
            "a range lies within");
  }
  const auto again = parse_content_range(text_of(*range));
  promise(again && again->range == range->range && again->size == range->size,
          "the same Content-Range");
}

void check_date(std::string_view text) {
  const auto time = parse_date(text, kNow);
  if (!time ||
      *time < Time(std::chrono::sys_days(std::chrono::year(1) / 1 / 1)))
    return;
  promise(parse_date(date_text(*time), kNow) == time ||
              *time > Time(std::chrono::sys_days(std::chrono::year(9999) / 12 /
                                                 31)),
          "the same date");
}

/// Puts the line into a request, as the value of each field in turn.
void check_conditions(std::string_view value, std::uint64_t size) {
  for (const std::string_view name :
       {"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
        "If-Range"}) {
    std::string text;
    HeadWriter writer(text);
    writer.request("GET", "/").field("Host", "a").field("Range", "bytes=0-9");
    writer.field(name, value);
    if (writer.finish() != nullptr) return;
    RequestParser parser;
    parser.feed(text);
    if (!parser.done()) return;
    Selected selected;
    selected.size = size;
    selected.etag = ETag{false, "a"};
    selected.modified = kNow;
    const int status = evaluate(parser.head(), selected, kNow).status;
    promise(status == 200 || status == 206 || status == 304 || status == 412 ||
                status == 416,
            "the status is one of those there are");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const Input input(data, size);
  const std::uint64_t bytes = input.cuts[0] * 256u + input.cuts[1];
  check_ranges(parse_ranges(input.text, bytes), bytes);
  check_ranges(parse_ranges(input.text, kMostBytes), kMostBytes);
  check_content_range(input.text);
  check_date(input.text);
  check_conditions(trimmed(input.text), bytes);
  if (const auto tag = parse_etag(input.text)) {
    promise(tag->opaque.find('"') == tag->opaque.npos, "no quote in a tag");
  }
  return 0;
}
