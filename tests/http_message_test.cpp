// http_message_test.cpp - fields looked up, heads written.
// SPDX-License-Identifier: MIT
#include "../net/http/message.hpp"

#include <string>
#include <string_view>

#include "../net/http/parse.hpp"
#include "catch.hpp"

using namespace violet::http;
using namespace std::string_view_literals;

namespace {

/// The fields of a response, parsed.
struct Parsed {
  explicit Parsed(std::string fields) {
    parser.feed("HTTP/1.1 200 OK\r\n" + fields + "\r\n");
    REQUIRE(parser.done());
  }
  const Fields& operator*() const { return parser.head().fields; }

  ResponseParser parser;
};

/// Why the head of a response with one more field is refused.
std::string refusal(std::string_view name, std::string_view value) {
  std::string out = "as before";
  HeadWriter head(out);
  head.response(200).field(name, value).field("After", "it");
  const char* why = head.finish();
  if (why == nullptr) return "accepted";
  CHECK(out == "as before");
  return why;
}

std::string request_refusal(std::string_view method, std::string_view target) {
  std::string out;
  HeadWriter head(out);
  head.request(method, target).field("Host", "a");
  const char* why = head.finish();
  if (why == nullptr) return "accepted";
  CHECK(out.empty());
  return why;
}

}  // namespace

TEST_CASE("http message: fields are found in any case, and keep their own",
          "[http]") {
  const Parsed parsed("Content-Type: text/plain\r\nX-ONE:1\r\nx-one: 2\r\n");
  const Fields fields = *parsed;
  CHECK(fields.find("content-type") == "text/plain");
  CHECK(fields.find("x-One") == "1");
  CHECK(fields.find("x-on") == std::nullopt);
  CHECK(fields.count("X-One") == 2);
  CHECK(fields.only("X-One") == std::nullopt);
  CHECK(fields.only("Content-Type") == "text/plain");
  CHECK(fields.only("Nothing") == std::nullopt);
  std::string all;
  for (const Field field : fields)
    all.append(field.name).append("=").append(field.value).append(" ");
  CHECK(all == "Content-Type=text/plain X-ONE=1 x-one=2 ");
}

TEST_CASE("http message: fields of one name are one list", "[http]") {
  const Parsed parsed("Vary: a, b\r\nX: c\r\nvary: C ,\r\n");
  CHECK((*parsed).has_word("Vary", "B"));
  CHECK((*parsed).has_word("Vary", "c"));
  CHECK_FALSE((*parsed).has_word("Vary", "a, b"));
  CHECK_FALSE((*parsed).has_word("X", "a"));
}

TEST_CASE("http message: no fields are none", "[http]") {
  const Fields none;
  CHECK(none.empty());
  CHECK(none.find("a") == std::nullopt);
  CHECK_FALSE(none.begin() != none.end());
}

TEST_CASE("http message: a head is written line by line", "[http]") {
  std::string out = "before|";
  HeadWriter head(out);
  head.response(200)
      .field("Content-Type", "text/plain")
      .field("Empty", "")
      .date("Date", Time())
      .length(12);
  REQUIRE(head.finish() == nullptr);
  CHECK(out ==
        "before|HTTP/1.1 200 OK\r\n"
        "Content-Type: text/plain\r\n"
        "Empty: \r\n"
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        "Content-Length: 12\r\n"
        "\r\n");

  out.clear();
  HeadWriter request(out);
  request.request("PUT", "/a?b").field("Host", "[::1]:80").chunked();
  REQUIRE(request.finish() == nullptr);
  CHECK(out ==
        "PUT /a?b HTTP/1.1\r\nHost: [::1]:80\r\n"
        "Transfer-Encoding: chunked\r\n\r\n");
}

TEST_CASE("http message: trailers are written without a first line", "[http]") {
  std::string out;
  HeadWriter none(out);
  REQUIRE(none.finish() == nullptr);
  CHECK(out == "\r\n");
  out.clear();
  HeadWriter trailers(out);
  trailers.field("Digest", "x");
  REQUIRE(trailers.finish() == nullptr);
  CHECK(out == "Digest: x\r\n\r\n");
  HeadWriter framing(out);
  framing.field("Content-Length", "5");
  CHECK(framing.finish() == "a trailer has no say about framing"sv);
}

TEST_CASE("http message: no value ends its line", "[http]") {
  const std::string wrong = "the value of a field has a control character";
  for (const auto value :
       {"a\r\nEvil: 1"sv, "a\r"sv, "a\nb"sv, "\n"sv, "a\0b"sv, "\x7f"sv,
        "a\r\n\r\nHTTP/1.1 200 OK"sv, "\x1b[0m"sv, "\v"sv, "\f"sv}) {
    CAPTURE(value);
    CHECK(refusal("Location", value) == wrong);
  }
  CHECK(refusal("A", " a") ==
        "the value of a field begins or ends with a space");
  CHECK(refusal("A", "a\t") ==
        "the value of a field begins or ends with a space");
  CHECK(refusal("A", "a \t b \xc3\xb6") == "accepted");
}

TEST_CASE("http message: no name is anything but a word", "[http]") {
  for (const auto name : {""sv, "a b"sv, "a:"sv, "a\r\n"sv, "a\0"sv, " a"sv,
                          "a "sv, "a\x80"sv, "\t"sv}) {
    CAPTURE(name);
    CHECK(refusal(name, "x") == "the name of a field is not a word");
  }
}

TEST_CASE("http message: a first line has no way out either", "[http]") {
  CHECK(request_refusal("GET", "/a?b=c") == "accepted");
  CHECK(request_refusal("CONNECT", "a:1") == "accepted");
  for (const auto method : {""sv, "GET "sv, "G\r\nT"sv, "G\0T"sv}) {
    CHECK(request_refusal(method, "/") == "the method is not a word");
  }
  for (const auto target : {""sv, "/ HTTP/1.1"sv, "/\r\nEvil: 1"sv, "/\n"sv,
                            "/a\0"sv, "/a#b"sv, "a"sv, "*"sv}) {
    CAPTURE(target);
    CHECK(request_refusal("GET", target) ==
          "the target is none that this method may have");
  }
  for (const auto reason : {"a\r\nEvil: 1"sv, "\n"sv, "\0"sv}) {
    std::string out;
    HeadWriter head(out);
    head.response(200, reason);
    CHECK(head.finish() == "the reason has a control character"sv);
    CHECK(out.empty());
  }
  for (const int status : {-1, 0, 99, 1000}) {
    std::string out;
    HeadWriter head(out);
    head.response(status, "x");
    CHECK(head.finish() == "a status has three digits"sv);
  }
}

TEST_CASE("http message: the first line comes first, and once", "[http]") {
  const auto why = "the first line of a head comes first, and once"sv;
  std::string out;
  HeadWriter twice(out);
  twice.response(200).response(200);
  CHECK(twice.finish() == why);
  HeadWriter late(out);
  late.field("A", "b").request("GET", "/");
  CHECK(late.finish() == why);
  CHECK(out.empty());
}

TEST_CASE("http message: a body has one framing", "[http]") {
  const auto framed = [](auto write) {
    std::string out;
    HeadWriter head(out);
    head.response(200);
    write(head);
    const char* why = head.finish();
    return std::string(why == nullptr ? "accepted" : why);
  };
  CHECK(framed([](HeadWriter& h) { h.length(1); }) == "accepted");
  CHECK(framed([](HeadWriter& h) { h.chunked(); }) == "accepted");
  CHECK(framed([](HeadWriter& h) { h.length(1).chunked(); }) ==
        "the body has two framings");
  CHECK(framed([](HeadWriter& h) { h.length(1).length(1); }) ==
        "the body has two framings");
  CHECK(framed([](HeadWriter& h) {
          h.chunked().field("content-LENGTH", "1");
        }) == "the body has two framings");
  CHECK(framed([](HeadWriter& h) {
          h.field("transfer-encoding", "gzip, chunked");
        }) == "the only transfer coding is chunked");
  for (const auto length : {"", "+5", "5,5", "-1", "9223372036854775808"}) {
    CHECK(framed([&](HeadWriter& h) { h.field("Content-Length", length); }) ==
          "the length is not a number");
  }
  CHECK(framed([](HeadWriter& h) { h.date("Content-Length", Time()); }) ==
        "the length is not a number");
}

TEST_CASE("http message: the usual statuses have names", "[http]") {
  CHECK(reason_of(200) == "OK");
  CHECK(reason_of(416) == "Range Not Satisfiable");
  CHECK(reason_of(507) == "Insufficient Storage");
  CHECK(reason_of(299) == "");
  for (int fault = 1; fault < kFaultCount; ++fault) {
    CHECK(reason_of(status_of(static_cast<Fault>(fault))) != "");
  }
}
