// http_range_test.cpp - ranges, tags, and requests with conditions.
//
// Ranges are read a second time by a slow reference that marks bytes one by
// one.
// SPDX-License-Identifier: MIT
#include "../net/http/range.hpp"

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../net/http/parse.hpp"
#include "../runtime/random.hpp"
#include "catch.hpp"

using namespace violet::http;
using namespace std::string_view_literals;
using violet::internal::Random;

namespace {

/// "whole", "416", or the ranges as "[0,5) [7,8)".
std::string text_of_ranges(const Ranges& ranges) {
  if (ranges.kind == Ranges::Kind::kWhole) return "whole";
  if (ranges.kind == Ranges::Kind::kUnsatisfiable) return "416";
  std::string out;
  for (std::size_t i = 0; i < ranges.count; ++i) {
    if (i > 0) out += ' ';
    out += '[' + std::to_string(ranges.list[i].begin) + ',' +
           std::to_string(ranges.list[i].end) + ')';
  }
  return out;
}

std::string ranges(std::string_view text, std::uint64_t size) {
  return text_of_ranges(parse_ranges(text, size));
}

/// What a Content-Range says, printed again.
std::string content_range(std::string_view text) {
  const auto range = parse_content_range(text);
  return range ? text_of(*range) : "refused";
}

std::string etag(std::string_view text) {
  const auto tag = parse_etag(text);
  if (!tag) return "refused";
  return (tag->weak ? "weak " : "strong ") + std::string(tag->opaque);
}

}  // namespace

TEST_CASE("http range: first and last, open ends, the last so many", "[http]") {
  CHECK(ranges("bytes=0-0", 10) == "[0,1)");
  CHECK(ranges("bytes=0-4", 10) == "[0,5)");
  CHECK(ranges("bytes=5-", 10) == "[5,10)");
  CHECK(ranges("bytes=0-", 10) == "[0,10)");
  CHECK(ranges("bytes=-5", 10) == "[5,10)");
  CHECK(ranges("bytes=-10", 10) == "[0,10)");
  CHECK(ranges("bytes=-11", 10) == "[0,10)");
  CHECK(ranges("bytes=9-9", 10) == "[9,10)");
  CHECK(ranges("bytes=5-100", 10) == "[5,10)");
  CHECK(ranges("Bytes=0-4", 10) == "[0,5)");
}

TEST_CASE("http range: what lies beyond the end is not satisfiable", "[http]") {
  CHECK(ranges("bytes=10-", 10) == "416");
  CHECK(ranges("bytes=10-20", 10) == "416");
  CHECK(ranges("bytes=-0", 10) == "416");
  CHECK(ranges("bytes=10-,-0,20-30", 10) == "416");
  CHECK(ranges("bytes=0-0", 0) == "416");
  CHECK(ranges("bytes=0-", 0) == "416");
  CHECK(ranges("bytes=-0", 0) == "416");
  CHECK(ranges("bytes=-5", 0) == "whole");  // no 206 can say "nothing"
  CHECK(ranges("bytes=10-,0-1", 10) == "[0,2)");
}

TEST_CASE("http range: numbers beyond all sizes lie beyond the end", "[http]") {
  const std::string huge = "99999999999999999999999999";
  CHECK(ranges("bytes=" + huge + "-", 10) == "416");
  CHECK(ranges("bytes=0-" + huge, 10) == "[0,10)");
  CHECK(ranges("bytes=-" + huge, 10) == "[0,10)");
  CHECK(ranges("bytes=18446744073709551616-", 10) == "416");
  CHECK(ranges("bytes=0-18446744073709551615", kMostBytes) ==
        "[0,9223372036854775807)");
  CHECK(ranges("bytes=9223372036854775806-", kMostBytes) ==
        "[9223372036854775806,9223372036854775807)");
}

TEST_CASE("http range: what is not understood is ignored", "[http]") {
  for (const auto text : {""sv,
                          "bytes"sv,
                          "bytes="sv,
                          "bytes=,"sv,
                          "bytes=-"sv,
                          "bytes=a-b"sv,
                          "bytes=5-4"sv,
                          "bytes=0-4,x"sv,
                          "bytes=0-4,5-4"sv,
                          "bytes 0-4"sv,
                          "bytes =0-4"sv,
                          "items=0-4"sv,
                          "0-4"sv,
                          "bytes=0 - 4"sv,
                          "bytes=0-4-5"sv,
                          "bytes=+0-4"sv,
                          "bytes=0x0-4"sv,
                          "bytes=--4"sv,
                          "bytes=0"sv,
                          "bytes=0-4;5-6"sv,
                          "octets=0-4"sv,
                          " bytes=0-4"sv,
                          "bytes=0-4\0"sv,
                          "bytes:0-4"sv,
                          "bytes=1.0-4"sv,
                          "xbytes=0-4"sv,
                          "bytes=, ,"sv}) {
    CAPTURE(text);
    CHECK(ranges(text, 10) == "whole");
  }
}

TEST_CASE("http range: several keep their order", "[http]") {
  CHECK(ranges("bytes=0-0,-1", 10) == "[0,1) [9,10)");
  CHECK(ranges("bytes=8-8, 4-4\t,\t0-0", 10) == "[8,9) [4,5) [0,1)");
  CHECK(ranges("bytes=,0-0,,5-5,", 10) == "[0,1) [5,6)");
}

TEST_CASE("http range: those that overlap or touch become one", "[http]") {
  CHECK(ranges("bytes=0-4,3-6", 10) == "[0,7)");
  CHECK(ranges("bytes=0-4,5-6", 10) == "[0,7)");
  CHECK(ranges("bytes=5-6,0-4", 10) == "[0,7)");
  CHECK(ranges("bytes=0-1,8-9,4-5,1-8", 10) == "[0,10)");
  CHECK(ranges("bytes=8-9,0-1,4-5,2-3", 10) == "[8,10) [0,6)");
  CHECK(ranges("bytes=0-,0-,0-,0-,0-", 10) == "[0,10)");
}

TEST_CASE("http range: more than 16 are ignored", "[http]") {
  std::string text = "bytes=0-0";
  std::string expected = "[0,1)";
  for (int i = 1; i < 16; ++i) {
    text += "," + std::to_string(2 * i) + "-" + std::to_string(2 * i);
    expected +=
        " [" + std::to_string(2 * i) + "," + std::to_string(2 * i + 1) + ")";
  }
  CHECK(ranges(text, 100) == expected);
  CHECK(ranges(text + ",50-50", 100) == "whole");
  CHECK(ranges(text + ",", 100) == "whole");  // an empty one counts
}

TEST_CASE("http range: both readers agree about ranges", "[http]") {
  Random random(9110);
  int some = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::uint64_t size = random.below(20);
    std::string text = "bytes=";
    std::array<bool, 20> wanted{};
    bool satisfiable = false;
    bool suffix_of_nothing = false;
    bool bad = false;
    const auto count = 1 + random.below(6);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t a = random.below(24);
      const std::uint64_t b = random.below(24);
      const auto shape = random.below(4);
      const auto first = std::to_string(a);
      const auto last = std::to_string(b);
      if (i > 0) text += ',';
      text += shape == 0   ? '-' + last
              : shape == 1 ? first + '-'
                           : first + '-' + last;
      if (shape >= 2 && b < a) bad = true;
      if (shape == 0 && b > 0) {
        satisfiable = true;
        if (size == 0) suffix_of_nothing = true;
      }
      for (std::uint64_t at = 0; at < size; ++at) {
        const bool in = shape == 0   ? at + b >= size
                        : shape == 1 ? at >= a
                                     : at >= a && at <= b;
        if (!in) continue;
        wanted[at] = true;
        satisfiable = true;
      }
    }
    const Ranges read = parse_ranges(text, size);
    CAPTURE(text, size, text_of_ranges(read));
    if (bad || suffix_of_nothing) {
      REQUIRE(read.kind == Ranges::Kind::kWhole);
      continue;
    }
    REQUIRE((read.kind == Ranges::Kind::kSome) == satisfiable);
    if (!satisfiable) {
      REQUIRE(read.kind == Ranges::Kind::kUnsatisfiable);
      continue;
    }
    ++some;
    std::array<int, 22> covered{};  // one byte more on each side
    for (std::size_t i = 0; i < read.count; ++i) {
      REQUIRE(read.list[i].begin < read.list[i].end);
      REQUIRE(read.list[i].end <= size);
      for (auto at = read.list[i].begin; at < read.list[i].end; ++at)
        ++covered[at + 1];
    }
    std::size_t runs = 0;
    for (std::size_t at = 0; at < 20; ++at) {
      REQUIRE(covered[at + 1] == (wanted[at] ? 1 : 0));
      if (covered[at + 1] == 1 && covered[at] == 0) ++runs;
    }
    REQUIRE(read.count == runs);  // none touch each other
  }
  CHECK(some > 5000);
}

TEST_CASE("http range: a Content-Range is read and printed", "[http]") {
  for (const auto text :
       {"bytes 0-4/10"sv, "bytes 0-0/1"sv, "bytes 0-4/*"sv, "bytes */10"sv,
        "bytes */0"sv, "bytes 5242880-10485759/12582913"sv,
        "bytes 0-9223372036854775806/9223372036854775807"sv}) {
    CHECK(content_range(text) == text);
  }
  CHECK(content_range("BYTES 00-04/010") == "bytes 0-4/10");
  const auto range = parse_content_range("bytes 3-4/10");
  REQUIRE(range);
  CHECK(range->range == ByteRange{3, 5});
  CHECK(range->range->size() == 2);
  CHECK(range->size == 10u);
  CHECK(parse_content_range("bytes */10")->range == std::nullopt);
}

TEST_CASE("http range: a Content-Range that contradicts itself is refused",
          "[http]") {
  for (const auto text : {""sv,
                          "bytes"sv,
                          "bytes "sv,
                          "bytes 0-4"sv,
                          "bytes 0-4/"sv,
                          "bytes 5-4/10"sv,
                          "bytes 0-10/10"sv,
                          "bytes 0-0/0"sv,
                          "bytes */*"sv,
                          "bytes=0-4/10"sv,
                          "bytes  0-4/10"sv,
                          "bytes 0-4 /10"sv,
                          "bytes 0-4/ 10"sv,
                          "bytes 0-4/10 "sv,
                          "bytes 0-4/+10"sv,
                          "bytes -4/10"sv,
                          "bytes 0-/10"sv,
                          "bytes a-b/c"sv,
                          "bytes 0-4/10/11"sv,
                          "items 0-4/10"sv,
                          "bytes 0-4,6-7/10"sv,
                          "bytes 0-4/0x10"sv,
                          "bytes 0-9223372036854775807/*"sv,
                          "bytes 0-4/9223372036854775808"sv,
                          "bytes 18446744073709551616-18446744073709551617/*"sv,
                          "bytes */18446744073709551626"sv}) {
    CAPTURE(text);
    CHECK(content_range(text) == "refused");
  }
}

// ------------------------------------------------------------------ validators

TEST_CASE("http range: an entity tag is quoted, and perhaps weak", "[http]") {
  CHECK(etag("\"abc\"") == "strong abc");
  CHECK(etag("\"\"") == "strong ");
  CHECK(etag("W/\"a,b\"") == "weak a,b");
  CHECK(etag("\"\xc3\xa4!\"") == "strong \xc3\xa4!");
  for (const auto text :
       {""sv, "abc"sv, "\""sv, "\"abc"sv, "abc\""sv, "w/\"abc\""sv, "W/abc"sv,
        "W/"sv, "W \"a\""sv, "\"a\"\"b\""sv, "\"a\" "sv, " \"a\""sv, "'a'"sv,
        "\"a b\""sv, "\"a\tb\""sv, "\"a\x7f\""sv, "*"sv}) {
    CAPTURE(text);
    CHECK(etag(text) == "refused");
  }
}

TEST_CASE("http range: strong tags mean the same bytes, weak ones do not",
          "[http]") {
  // The table of RFC 9110, section 8.8.3.2.
  const ETag w1{true, "1"};
  const ETag w2{true, "2"};
  const ETag s1{false, "1"};
  CHECK_FALSE(strongly_equal(w1, w1));
  CHECK(weakly_equal(w1, w1));
  CHECK_FALSE(strongly_equal(w1, w2));
  CHECK_FALSE(weakly_equal(w1, w2));
  CHECK_FALSE(strongly_equal(w1, s1));
  CHECK(weakly_equal(w1, s1));
  CHECK(strongly_equal(s1, s1));
  CHECK(weakly_equal(s1, s1));
}

// ------------------------------------------------------------------ conditions

namespace {

const Time kModified = std::chrono::sys_days(std::chrono::year(1994) / 11 / 6) +
                       std::chrono::seconds(31777);
constexpr char kSame[] = "Sun, 06 Nov 1994 08:49:37 GMT";
constexpr char kEarlier[] = "Sun, 06 Nov 1994 08:49:36 GMT";
constexpr char kLater[] = "Sun, 06 Nov 1994 08:49:38 GMT";

/// What there is: 10 bytes with the tag "a".
Selected usual() {
  Selected selected;
  selected.size = 10;
  selected.etag = ETag{false, "a"};
  selected.modified = kModified;
  return selected;
}

/// The status, and the ranges of a 206.
std::string answer(std::string_view method, const std::string& fields,
                   const Selected& selected = usual()) {
  RequestParser parser;
  parser.feed(std::string(method) + " / HTTP/1.1\r\nHost: a\r\n" + fields +
              "\r\n");
  REQUIRE(parser.done());
  const Verdict verdict = evaluate(parser.head(), selected,
                                   kModified + std::chrono::hours(24 * 365));
  std::string out = std::to_string(verdict.status);
  if (verdict.status == 206) out += ' ' + text_of_ranges(verdict.ranges);
  return out;
}

std::string field(std::string_view name, std::string_view value) {
  return std::string(name).append(": ").append(value).append("\r\n");
}

}  // namespace

TEST_CASE("http range: a request without conditions is carried out", "[http]") {
  CHECK(answer("GET", "") == "200");
  CHECK(answer("HEAD", "") == "200");
  CHECK(answer("PUT", "") == "0");
  CHECK(answer("DELETE", "") == "0");
}

TEST_CASE("http range: If-Match wants the same bytes to be there", "[http]") {
  for (const char* const method : {"GET", "PUT", "DELETE"}) {
    const std::string goes_on = method == "GET"sv ? "200" : "0";
    CAPTURE(method);
    CHECK(answer(method, field("If-Match", "\"a\"")) == goes_on);
    CHECK(answer(method, field("If-Match", "\"b\", \"a\"")) == goes_on);
    CHECK(answer(method, field("If-Match", "\"b\"") +
                             field("if-match", "\"a\"")) == goes_on);
    CHECK(answer(method, field("If-Match", "*")) == goes_on);
    CHECK(answer(method, field("If-Match", "\"b\"")) == "412");
    CHECK(answer(method, field("If-Match", "W/\"a\"")) == "412");
    CHECK(answer(method, field("If-Match", "")) == "412");
    CHECK(answer(method, field("If-Match", "a")) == "412");
    CHECK(answer(method, field("If-Match", "\"a,b\"")) == "412");
    CHECK(answer(method, field("If-Match", "\"x\"\"a\"")) == "412");
  }
  Selected weak = usual();
  weak.etag->weak = true;
  CHECK(answer("GET", field("If-Match", "\"a\""), weak) == "412");
  CHECK(answer("GET", field("If-Match", "W/\"a\""), weak) == "412");
  Selected none;
  none.exists = false;
  CHECK(answer("PUT", field("If-Match", "*"), none) == "412");
  CHECK(answer("PUT", field("If-Match", "\"a\""), none) == "412");
}

TEST_CASE("http range: If-Unmodified-Since counts only without If-Match",
          "[http]") {
  CHECK(answer("PUT", field("If-Unmodified-Since", kSame)) == "0");
  CHECK(answer("PUT", field("If-Unmodified-Since", kLater)) == "0");
  CHECK(answer("PUT", field("If-Unmodified-Since", kEarlier)) == "412");
  CHECK(answer("GET", field("If-Unmodified-Since", kEarlier)) == "412");
  CHECK(answer("PUT", field("If-Unmodified-Since", "yesterday")) == "0");
  CHECK(answer("PUT", field("If-Unmodified-Since", kEarlier) +
                          field("If-Unmodified-Since", kEarlier)) == "0");
  CHECK(answer("PUT", field("If-Match", "\"a\"") +
                          field("If-Unmodified-Since", kEarlier)) == "0");
  CHECK(answer("PUT", field("If-Match", "\"b\"") +
                          field("If-Unmodified-Since", kLater)) == "412");
  Selected undated = usual();
  undated.modified.reset();
  CHECK(answer("PUT", field("If-Unmodified-Since", kEarlier), undated) == "0");
}

TEST_CASE("http range: If-None-Match spares what the client has", "[http]") {
  for (const char* const method : {"GET", "HEAD"}) {
    CAPTURE(method);
    CHECK(answer(method, field("If-None-Match", "\"a\"")) == "304");
    CHECK(answer(method, field("If-None-Match", "W/\"a\"")) == "304");
    CHECK(answer(method, field("If-None-Match", "*")) == "304");
    CHECK(answer(method, field("If-None-Match", "\"b\" ,\t\"a\"")) == "304");
    CHECK(answer(method, field("If-None-Match", "\"b\"")) == "200");
    CHECK(answer(method, field("If-None-Match", "\"b,\", \"c\"")) == "200");
    CHECK(answer(method, field("If-None-Match", "rubbish")) == "200");
  }
  CHECK(answer("PUT", field("If-None-Match", "\"a\"")) == "412");
  CHECK(answer("PUT", field("If-None-Match", "*")) == "412");
  CHECK(answer("PUT", field("If-None-Match", "\"b\"")) == "0");
  Selected none;
  none.exists = false;
  CHECK(answer("PUT", field("If-None-Match", "*"), none) == "0");
}

TEST_CASE("http range: If-Modified-Since counts only without If-None-Match",
          "[http]") {
  for (const char* const method : {"GET", "HEAD"}) {
    CAPTURE(method);
    CHECK(answer(method, field("If-Modified-Since", kSame)) == "304");
    CHECK(answer(method, field("If-Modified-Since", kLater)) == "304");
    CHECK(answer(method, field("If-Modified-Since", kEarlier)) == "200");
    CHECK(answer(method, field("If-Modified-Since",
                               "Sunday, 06-Nov-94 08:49:37 GMT")) == "304");
    CHECK(answer(method, field("If-Modified-Since",
                               "Sun Nov  6 08:49:37 1994")) == "304");
    CHECK(answer(method, field("If-Modified-Since", "0")) == "200");
    CHECK(answer(method, field("If-None-Match", "\"b\"") +
                             field("If-Modified-Since", kSame)) == "200");
    CHECK(answer(method, field("If-None-Match", "\"a\"") +
                             field("If-Modified-Since", kEarlier)) == "304");
  }
  CHECK(answer("PUT", field("If-Modified-Since", kSame)) == "0");
}

TEST_CASE("http range: a failed match wins over a cache that is fresh",
          "[http]") {
  CHECK(answer("GET", field("If-Match", "\"b\"") +
                          field("If-None-Match", "\"a\"")) == "412");
  CHECK(answer("GET", field("If-Match", "\"a\"") +
                          field("If-None-Match", "\"a\"")) == "304");
  CHECK(answer("GET", field("If-Unmodified-Since", kEarlier) +
                          field("If-Modified-Since", kSame)) == "412");
}

TEST_CASE("http range: what does not exist is not found, on any condition",
          "[http]") {
  Selected none;
  none.exists = false;
  for (const auto& fields :
       {field("If-Match", "*"), field("If-None-Match", "*"),
        field("If-Modified-Since", kSame), field("Range", "bytes=0-4")}) {
    CHECK(answer("GET", fields, none) == "0");
    CHECK(answer("HEAD", fields, none) == "0");
  }
}

TEST_CASE("http range: a Range is for GET", "[http]") {
  CHECK(answer("GET", field("Range", "bytes=0-4")) == "206 [0,5)");
  CHECK(answer("GET", field("Range", "bytes=10-")) == "416");
  CHECK(answer("GET", field("Range", "lines=1-2")) == "200");
  CHECK(answer("HEAD", field("Range", "bytes=0-4")) == "200");
  CHECK(answer("PUT", field("Range", "bytes=0-4")) == "0");
  // Two of them are not a list.
  CHECK(answer("GET", field("Range", "bytes=0-4") +
                          field("Range", "bytes=6-7")) == "200");
  // Conditions come first.
  CHECK(answer("GET", field("Range", "bytes=0-4") +
                          field("If-None-Match", "\"a\"")) == "304");
  CHECK(answer("GET", field("Range", "bytes=10-") +
                          field("If-Match", "\"b\"")) == "412");
}

TEST_CASE("http range: If-Range gives the whole where things have changed",
          "[http]") {
  const std::string range = field("Range", "bytes=0-4");
  CHECK(answer("GET", range + field("If-Range", "\"a\"")) == "206 [0,5)");
  CHECK(answer("GET", range + field("If-Range", "\"b\"")) == "200");
  CHECK(answer("GET", range + field("If-Range", "W/\"a\"")) == "200");
  CHECK(answer("GET", range + field("If-Range", "a")) == "200");
  CHECK(answer("GET", range + field("If-Range", "\"a\", \"b\"")) == "200");
  CHECK(answer("GET", range + field("If-Range", "\"a\"") +
                          field("If-Range", "\"a\"")) == "200");
  CHECK(answer("GET", field("Range", "bytes=10-") +
                          field("If-Range", "\"b\"")) == "200");
  CHECK(answer("GET", field("If-Range", "\"b\"")) == "200");
  Selected weak = usual();
  weak.etag->weak = true;
  CHECK(answer("GET", range + field("If-Range", "W/\"a\""), weak) == "200");
}

TEST_CASE("http range: a date in If-Range counts only if it is strong",
          "[http]") {
  const std::string range = field("Range", "bytes=0-4");
  Selected strong = usual();
  strong.modified_is_strong = true;
  CHECK(answer("GET", range + field("If-Range", kSame)) == "200");
  CHECK(answer("GET", range + field("If-Range", kSame), strong) == "206 [0,5)");
  CHECK(answer("GET", range + field("If-Range", kLater), strong) == "200");
  CHECK(answer("GET", range + field("If-Range", kEarlier), strong) == "200");
  strong.modified.reset();
  CHECK(answer("GET", range + field("If-Range", kSame), strong) == "200");
}
