// http_text_test.cpp - words, numbers, dates, escapes, and the faults.
// SPDX-License-Identifier: MIT
#include "../net/http/text.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "../net/http/fault.hpp"
#include "catch.hpp"

using namespace violet::http;
using namespace std::string_view_literals;

namespace {

Time at(int year, int month, int day, int seconds = 0) {
  return std::chrono::sys_days(std::chrono::year(year) / month / day) +
         std::chrono::seconds(seconds);
}

const Time kNow = at(2026, 11, 21);
const Time kExample = at(1994, 11, 6, (8 * 60 + 49) * 60 + 37);

std::string unescaped(std::string_view text) {
  std::string out = "before ";
  const bool right = append_unescaped(out, text);
  return right ? out.substr(7) : out + "refused";
}

std::string escaped(std::string_view text) {
  std::string out;
  append_escaped(out, text);
  return out;
}

std::string html(std::string_view text) {
  std::string out;
  append_html(out, text);
  return out;
}

}  // namespace

TEST_CASE("http text: words are equal in any case, and nothing else is",
          "[http]") {
  CHECK(same_word("Content-Length", "content-LENGTH"));
  CHECK(same_word("", ""));
  CHECK_FALSE(same_word("a", "b"));
  CHECK_FALSE(same_word("a", "aa"));
  // Differ in the bit that letters differ in.
  CHECK_FALSE(same_word("@", "`"));
  CHECK_FALSE(same_word("[", "{"));
  CHECK_FALSE(same_word("-", "\r"));
}

TEST_CASE("http text: a word has no spaces, separators and controls",
          "[http]") {
  CHECK(is_token("GET"));
  CHECK(is_token("!#$%&'*+-.^_`|~09azAZ"));
  CHECK_FALSE(is_token(""));
  for (int c = 0; c < 256; ++c) {
    const std::string text(1, static_cast<char>(c));
    const bool alphanumeric = (c >= '0' && c <= '9') ||
                              (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool other =
        "!#$%&'*+-.^_`|~"sv.find(static_cast<char>(c)) != std::string::npos;
    CAPTURE(c);
    CHECK(is_token(text) == (alphanumeric || other));
  }
}

TEST_CASE("http text: pieces are one more than separators", "[http]") {
  const auto pieces = [](std::string_view text) {
    std::string out;
    Pieces all(text, ',');
    for (std::string_view piece; all.next(piece);)
      out.append("<").append(piece).append(">");
    return out;
  };
  CHECK(pieces("") == "<>");
  CHECK(pieces("a") == "<a>");
  CHECK(pieces(",") == "<><>");
  CHECK(pieces("a, b,,c,") == "<a>< b><><c><>");
}

TEST_CASE("http text: a list has a word, and not a part of one", "[http]") {
  CHECK(has_word("keep-alive, Upgrade", "upgrade"));
  CHECK(has_word(" ,\tclose\t,", "close"));
  CHECK_FALSE(has_word("closed", "close"));
  CHECK_FALSE(has_word("close;now", "close"));
  CHECK_FALSE(has_word("", "close"));
}

TEST_CASE("http text: a number has digits and nothing else", "[http]") {
  CHECK(parse_number("0") == 0u);
  CHECK(parse_number("007") == 7u);
  CHECK(parse_number("9223372036854775807") == kMostBytes);
  for (const auto text :
       {""sv, " 1"sv, "1 "sv, "+1"sv, "-1"sv, "0x1"sv, "1,1"sv, "1.0"sv,
        "1e3"sv, "1\0"sv, "\xb2"sv, "1_000"sv, "99999999999999999999999x"sv}) {
    CAPTURE(text);
    CHECK_FALSE(parse_number(text));
  }
}

TEST_CASE("http text: a number beyond all sizes is told from a size",
          "[http]") {
  for (const auto text :
       {"9223372036854775808"sv, "18446744073709551615"sv,
        "18446744073709551616"sv, "18446744073709551621"sv,
        "99999999999999999999999999999999999999999999999999"sv}) {
    CAPTURE(text);
    CHECK(parse_number(text) == kMostBytes + 1);
  }
  std::string out = "=";
  append_number(out, 18446744073709551615u);
  append_number(out, 0);
  CHECK(out == "=184467440737095516150");
}

TEST_CASE("http text: a date prints in the one form that is not obsolete",
          "[http]") {
  CHECK(date_text(kExample) == "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(date_text(Time()) == "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(date_text(at(1969, 12, 31, 86399)) == "Wed, 31 Dec 1969 23:59:59 GMT");
  CHECK(date_text(at(2024, 2, 29)) == "Thu, 29 Feb 2024 00:00:00 GMT");
  CHECK(date_text(at(1, 1, 1)) == "Mon, 01 Jan 0001 00:00:00 GMT");
  CHECK(date_text(at(0, 12, 31)) == "Mon, 01 Jan 0001 00:00:00 GMT");
  CHECK(date_text(at(9999, 12, 31, 86399)) == "Fri, 31 Dec 9999 23:59:59 GMT");
  CHECK(date_text(at(10000, 1, 1)) == "Fri, 31 Dec 9999 23:59:59 GMT");
}

TEST_CASE("http text: a date is read in all three forms", "[http]") {
  CHECK(parse_date("Sun, 06 Nov 1994 08:49:37 GMT", kNow) == kExample);
  CHECK(parse_date("Sunday, 06-Nov-94 08:49:37 GMT", kNow) == kExample);
  CHECK(parse_date("Sun Nov  6 08:49:37 1994", kNow) == kExample);
  CHECK(parse_date("Wed Nov 16 08:49:37 1994", kNow) ==
        kExample + std::chrono::days(10));
  CHECK(parse_date("Sat, 31 Dec 2016 23:59:60 GMT", kNow) == at(2017, 1, 1));
}

TEST_CASE("http text: what prints is read again, on each day of 400 years",
          "[http]") {
  for (Time day = at(1900, 1, 1, 43210); day < at(2300, 1, 1);
       day += std::chrono::days(1)) {
    if (parse_date(date_text(day), kNow) == day) continue;
    FAIL(date_text(day));
  }
}

TEST_CASE("http text: two digits of a year are at most 50 years ahead",
          "[http]") {
  const auto year_of = [](std::string_view year, Time now) {
    const auto text = "Monday, 01-Jan-" + std::string(year) + " 00:00:00 GMT";
    const auto time = parse_date(text, now);
    if (!time) return 0;
    return static_cast<int>(std::chrono::year_month_day(
                                std::chrono::floor<std::chrono::days>(*time))
                                .year());
  };
  CHECK(year_of("94", kNow) == 1994);
  CHECK(year_of("26", kNow) == 2026);
  CHECK(year_of("76", kNow) == 2076);
  CHECK(year_of("77", kNow) == 1977);
  CHECK(year_of("00", kNow) == 2000);
  CHECK(year_of("94", at(1994, 6, 1)) == 1994);
  CHECK(year_of("01", at(1999, 6, 1)) == 2001);
  CHECK(year_of("99", at(2000, 6, 1)) == 1999);
  // A day that only some years have.
  CHECK(parse_date("Tuesday, 29-Feb-00 00:00:00 GMT", kNow) == at(2000, 2, 29));
  CHECK_FALSE(parse_date("Tuesday, 29-Feb-01 00:00:00 GMT", kNow));
}

TEST_CASE("http text: what is nearly a date is none", "[http]") {
  for (const auto text : {""sv,
                          "Sun"sv,
                          "Sun, 06 Nov 1994 08:49:37"sv,
                          "Sun, 06 Nov 1994 08:49:37 UTC"sv,
                          "Sun, 06 Nov 1994 08:49:37 GMT "sv,
                          " Sun, 06 Nov 1994 08:49:37 GMT"sv,
                          "Sun,06 Nov 1994 08:49:37 GMT"sv,
                          "sun, 06 nov 1994 08:49:37 gmt"sv,
                          "Sun, 6 Nov 1994 08:49:37 GMT"sv,
                          "Sun, 06 Nov 94 08:49:37 GMT"sv,
                          "Sun, 06 Nov 1994 8:49:37 GMT"sv,
                          "Sun, 06 Nov 1994 24:00:00 GMT"sv,
                          "Sun, 06 Nov 1994 08:60:00 GMT"sv,
                          "Sun, 06 Nov 1994 08:49:61 GMT"sv,
                          "Sun, 31 Nov 1994 08:49:37 GMT"sv,
                          "Sun, 00 Nov 1994 08:49:37 GMT"sv,
                          "Sun, 29 Feb 1900 08:49:37 GMT"sv,
                          "Sun, 06-Nov-94 08:49:37 GMT"sv,
                          "Sunday, 06 Nov 1994 08:49:37 GMT"sv,
                          "Sunday Nov  6 08:49:37 1994"sv,
                          "Sun Nov 6 08:49:37 1994"sv,
                          "Sun Nov  6 08:49:37 1994 GMT"sv,
                          "Son, 06 Nov 1994 08:49:37 GMT"sv,
                          "Sun, 06 Nov 1994 08:49:37 +0000"sv,
                          "784111777"sv,
                          "Sun, 06 Nov 1994 08:49:37 GMT\0"sv,
                          "Sun, +6 Nov 1994 08:49:37 GMT"sv}) {
    CAPTURE(text);
    CHECK_FALSE(parse_date(text, kNow));
  }
}

TEST_CASE("http text: escapes are decoded, and bad ones refused whole",
          "[http]") {
  CHECK(unescaped("W%C3%B6rld") == "W\xc3\xb6rld");
  CHECK(unescaped("a+b%2fC%2F") == "a+b/C/");
  CHECK(unescaped("%25%32%35") == "%25");  // once, not twice
  CHECK(unescaped("%00"sv) == "\0"sv);
  CHECK(unescaped("") == "");
  for (const auto text : {"%"sv, "%4"sv, "a%"sv, "%4g"sv, "%g4"sv, "%%41"sv,
                          "% 41"sv, "%u0041"sv, "%0x41"sv, "ok%2"sv, "%+1"sv}) {
    CAPTURE(text);
    CHECK(unescaped(text) == "before refused");
  }
}

TEST_CASE("http text: each name survives being escaped", "[http]") {
  for (int c = 0; c < 256; ++c) {
    const std::string name(1, static_cast<char>(c));
    CAPTURE(c);
    CHECK(unescaped(escaped(name)) == name);
    // It is safe in a path, in HTML and in quotes.
    CHECK(escaped(name).find_first_of("/?#&'\"<>: \t\r\n\\") ==
          std::string::npos);
  }
  CHECK(escaped("a b&c.txt") == "a%20b%26c.txt");
  CHECK(escaped("W\xc3\xb6rld") == "W%C3%B6rld");
}

TEST_CASE("http text: HTML has no way out of a text or an attribute",
          "[http]") {
  CHECK(html("<script>alert('x' & \"y\")</script>") ==
        "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;");
  CHECK(html("W\xc3\xb6rld") == "W\xc3\xb6rld");
}

TEST_CASE("http text: the type goes by what follows the last dot", "[http]") {
  CHECK(type_of_name("index.html") == "text/html; charset=utf-8");
  CHECK(type_of_name("INDEX.HTML") == "text/html; charset=utf-8");
  CHECK(type_of_name("a.tar.gz") == "application/gzip");
  CHECK(type_of_name("photo.JPeG") == "image/jpeg");
  CHECK(type_of_name("a.7z") == "application/x-7z-compressed");
  CHECK(type_of_name("a.zst") == "application/zstd");
  CHECK(type_of_name("a.webmanifest") == "application/manifest+json");
  for (const auto name : {"html"sv, "a."sv, ""sv, "."sv, "a.nosuchtype"sv,
                          "a.averylongextension"sv, "a.html "sv, "a.\xff"sv,
                          "a.webmanifests"sv}) {
    CAPTURE(name);
    CHECK(type_of_name(name) == "application/octet-stream");
  }
}

TEST_CASE("http text: each fault has a status and a sentence of its own",
          "[http]") {
  std::set<std::string_view> sentences;
  for (int i = 0; i < kFaultCount; ++i) {
    const Fault fault = static_cast<Fault>(i);
    CAPTURE(i, text_of(fault));
    CHECK(sentences.insert(text_of(fault)).second);
    CHECK(text_of(fault).size() > 10);
    const int status = status_of(fault);
    const int known[] = {400, 411, 413, 414, 417, 431, 501, 502, 505};
    const bool is_known = std::find(std::begin(known), std::end(known),
                                    status) != std::end(known);
    CHECK(is_known == (fault != Fault::kNone));
  }
  // One of each part of the table, which is in the order of the faults.
  CHECK(text_of(Fault::kBareLf) == "a line ends in LF without CR");
  CHECK(status_of(Fault::kLongTarget) == 414);
  CHECK(status_of(Fault::kOtherVersion) == 505);
  CHECK(status_of(Fault::kBadStatus) == 502);
  CHECK(status_of(Fault::kManyFields) == 431);
  CHECK(status_of(Fault::kOtherExpectation) == 417);
  CHECK(status_of(Fault::kOtherCoding) == 501);
  CHECK(status_of(Fault::kLengthRequired) == 411);
  CHECK(status_of(Fault::kLongBody) == 413);
  CHECK(text_of(Fault::kCutShort) == "the body ends too early");
}

TEST_CASE("http text: a fault is an error code, too", "[http]") {
  const std::error_code code = Fault::kLongBody;
  CHECK(code.message() == "the body is too long");
  CHECK(std::string_view(code.category().name()) == "http");
  CHECK(code == Fault::kLongBody);
  CHECK(code != Fault::kBareLf);
  CHECK_FALSE(std::error_code(Fault::kNone));
}

TEST_CASE("http text: a size for people is never more than there is",
          "[http]") {
  CHECK(size_text(0) == "0 B");
  CHECK(size_text(1023) == "1023 B");
  CHECK(size_text(1024) == "1.0 KiB");
  CHECK(size_text(1536) == "1.5 KiB");
  CHECK(size_text((1 << 20) - 1) == "1023.9 KiB");
  CHECK(size_text(std::uint64_t{3} << 40) == "3.0 TiB");
  CHECK(size_text(~std::uint64_t{0}) == "15.9 EiB");
}
