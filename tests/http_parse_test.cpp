// http_parse_test.cpp - heads from a stream, and what is refused.
//
// Each input is read whole, cut at every byte, byte by byte and at random, and
// must always give the same.
// SPDX-License-Identifier: MIT
#include "../net/http/parse.hpp"

#include <memory>
#include <string>
#include <string_view>

#include "catch.hpp"
#include "http_support.hpp"

using namespace violet::http;
using namespace std::string_view_literals;
using support::in_all_pieces;
using support::PieceList;

namespace {

/// Feeds the pieces, each from memory of its own size that is freed at once:
/// AddressSanitizer sees a byte read beyond, and a view kept into it.
/// Returns: how many bytes were taken.
std::size_t feed_all(HeadParser& parser, const PieceList& pieces) {
  std::size_t taken = 0;
  for (const std::string_view piece : pieces) {
    const auto copy = std::make_unique<char[]>(piece.size());
    piece.copy(copy.get(), piece.size());
    const std::size_t n = parser.feed({copy.get(), piece.size()});
    taken += n;
    if (parser.done() || parser.fault() != Fault::kNone) break;
    CHECK(n == piece.size());
  }
  return taken;
}

void append_common(std::string& out, const Head& head) {
  for (const Field field : head.fields)
    out.append(" [").append(field.name).append("=").append(field.value) += ']';
  if (head.minor_version == 0) out += " 1.0";
  if (head.length) out += " length " + std::to_string(*head.length);
  if (head.chunked) out += " chunked";
  if (!head.keeps_alive) out += " closes";
}

/// A request in one line, or why it is refused.
std::string read_request(const PieceList& pieces, const HeadLimits& limits) {
  RequestParser parser(limits);
  const std::size_t taken = feed_all(parser, pieces);
  if (parser.fault() != Fault::kNone) {
    CHECK_FALSE(parser.done());
    CHECK(parser.feed("GET / HTTP/1.1\r\n") == 0);
    return std::to_string(status_of(parser.fault())) + ' ' +
           std::string(text_of(parser.fault()));
  }
  if (!parser.done()) return "more";
  CHECK(parser.feed("x") == 0);
  const RequestHead& head = parser.head();
  std::string out(head.method);
  out.append(" ").append(head.target);
  append_common(out, head);
  if (head.expects_continue) out += " expects";
  if (head.host != head.fields.find("Host").value_or(""))
    out.append(" for ").append(head.host);
  CHECK(taken == parser.text().size());
  std::size_t size = 0;
  for (const std::string_view piece : pieces) size += piece.size();
  if (taken < size) out += " +" + std::to_string(size - taken);
  return out;
}

std::string request(std::string_view text, const HeadLimits& limits = {}) {
  return in_all_pieces(text, [&](const PieceList& pieces) {
    return read_request(pieces, limits);
  });
}

/// A request whose fields are these, after a Host.
std::string with(std::string_view fields) {
  return request("PUT / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) +
                 "\r\n");
}

std::string read_response(const PieceList& pieces) {
  ResponseParser parser;
  feed_all(parser, pieces);
  if (parser.fault() != Fault::kNone) {
    return std::string(text_of(parser.fault()));
  }
  if (!parser.done()) return "more";
  const ResponseHead& head = parser.head();
  std::string out =
      std::to_string(head.status) + ' ' + std::string(head.reason);
  append_common(out, head);
  return out;
}

std::string response(std::string_view text) {
  return in_all_pieces(text, read_response);
}

const std::string kBareLf = "400 a line ends in LF without CR";
const std::string kBareCr = "400 a CR stands inside a line";
const std::string kControl = "400 a control character stands in a line";
const std::string kNotEndedByChunked =
    "400 Transfer-Encoding does not end in chunked, once";
const std::string kNoLength = "400 Content-Length is not a number";

}  // namespace

// ------------------------------------------------------------- what is right

TEST_CASE("http parse: the smallest requests there are", "[http]") {
  CHECK(request("GET / HTTP/1.1\r\nHost: a\r\n\r\n") == "GET / [Host=a]");
  CHECK(request("GET / HTTP/1.0\r\n\r\n") == "GET / 1.0 closes");
  CHECK(request("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n") == "OPTIONS * [Host=]");
}

TEST_CASE("http parse: a request as a browser sends it", "[http]") {
  CHECK(request("GET /a%20b?c=d HTTP/1.1\r\n"
                "Host: www.example.org:8080\r\n"
                "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
                "Accept:text/html,*/*;q=0.8   \r\n"
                "X-Tab:\t a \t b\t\r\n"
                "X-Bytes: W\xc3\xb6rld\r\n"
                "Accept: b\r\n"
                "Empty: \t \r\n"
                "\r\n") ==
        "GET /a%20b?c=d [Host=www.example.org:8080] "
        "[User-Agent=Mozilla/5.0 (X11; Linux x86_64)] "
        "[Accept=text/html,*/*;q=0.8] [X-Tab=a \t b] "
        "[X-Bytes=W\xc3\xb6rld] [Accept=b] [Empty=]");
}

TEST_CASE("http parse: what follows the head is left to others", "[http]") {
  CHECK(
      request("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello") ==
      "PUT / [Host=a] [Content-Length=5] length 5 +5");
  CHECK(request("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n") ==
        "GET / 1.0 closes +18");
  CHECK(request("GET / HTTP/1.0\r\n\r\n\0\n\r"sv) == "GET / 1.0 closes +3");
}

TEST_CASE("http parse: a head that is not complete is no fault", "[http]") {
  const std::string whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(request(std::string_view(whole).substr(0, size)) == "more");
  }
}

namespace {

/// What `describe` says of each request, by one parser for all.
template <class Describe>
std::string read_pipelined(std::string_view text, Describe describe) {
  return in_all_pieces(text, [&](const PieceList& pieces) {
    RequestParser parser;
    std::string out;
    for (std::string_view piece : pieces) {
      while (!piece.empty()) {
        piece.remove_prefix(parser.feed(piece));
        if (parser.fault() != Fault::kNone) return std::string("fault");
        if (!parser.done()) continue;
        out += describe(parser.head());
        parser.next();
        CHECK(parser.idle());
      }
    }
    CHECK(parser.idle());
    return out;
  });
}

}  // namespace

TEST_CASE("http parse: pipelined requests are read one after the other",
          "[http]") {
  std::string text;
  for (int i = 0; i < 30; ++i) {
    text += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
    if (i % 3 == 0) text += "\r\n";  // some put one after a body
  }
  const std::string all = read_pipelined(
      text, [](const RequestHead& head) { return std::string(head.target); });
  std::string expected;
  for (int i = 0; i < 30; ++i) expected += '/' + std::to_string(i);
  CHECK(all == expected);
}

TEST_CASE("http parse: what is asked again is read as the first time",
          "[http]") {
  const std::string a =
      "PUT http://b/x?y HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n";
  const std::string b = "\r\nGET /x HTTP/1.0\r\nHost: c\r\n\r\n";
  std::string longer = a;  // they differ where the last one ended
  longer.insert(longer.size() - 2, "Expect: 100-continue\r\n");
  const std::string text = a + a + b + b + a + longer + longer + a;
  const std::string all = read_pipelined(text, [](const RequestHead& head) {
    std::string out(head.method);
    out.append(head.target).append(head.host);
    append_common(out, head);
    return out + "; ";
  });
  const std::string read_a =
      "PUThttp://b/x?yb [Host=b] [Content-Length=0] length 0; ";
  const std::string read_b = "GET/xc [Host=c] 1.0 closes; ";
  const std::string read_longer =
      "PUThttp://b/x?yb [Host=b] [Content-Length=0] [Expect=100-continue] "
      "length 0; ";
  CHECK(all == read_a + read_a + read_b + read_b + read_a + read_longer +
                   read_longer + read_a);
}

TEST_CASE("http parse: a folded response again is unfolded again", "[http]") {
  const std::string folded = "HTTP/1.1 200 OK\r\nA: b\r\n  c\r\n\r\n";
  ResponseParser parser;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(parser.feed(folded) == folded.size());
    REQUIRE(parser.done());
    CHECK(trimmed(*parser.head().fields.find("A")).substr(0, 1) == "b");
    CHECK(parser.head().fields.find("A")->back() == 'c');
    parser.next();
  }
}

TEST_CASE("http parse: a parser is idle until something but an empty line came",
          "[http]") {
  RequestParser parser;
  CHECK(parser.idle());
  parser.feed("\r");
  CHECK_FALSE(parser.idle());
  parser.feed("\n");
  CHECK(parser.idle());
  parser.feed("G");
  CHECK_FALSE(parser.idle());
  parser.feed("ET / HTTP/1.0\r\n\r\n");
  CHECK(parser.done());
  CHECK_FALSE(parser.idle());
  parser.release();
  CHECK(parser.idle());
  CHECK(parser.feed("GET /again HTTP/1.0\r\n\r\n") == 23);
  CHECK(parser.head().target == "/again");
}

TEST_CASE("http parse: nothing of one request is left for the next", "[http]") {
  RequestParser parser;
  parser.feed(
      "PUT http://b/ HTTP/1.0\r\nHost: a\r\nConnection: close\r\n"
      "Content-Length: 5\r\n\r\n");
  REQUIRE(parser.done());
  CHECK(parser.head().host == "b");
  parser.next();
  parser.feed("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
  REQUIRE(parser.done());
  CHECK(parser.head().host == "c");
  CHECK(parser.head().keeps_alive);
  CHECK(parser.head().length == std::nullopt);
  CHECK(parser.head().fields.size() == 1);
  parser.next();
  parser.feed("bad\r\n");
  CHECK(parser.fault() == Fault::kBadRequestLine);
  parser.next();
  CHECK(parser.fault() == Fault::kNone);
  parser.feed("GET /x HTTP/1.0\r\n\r\n");
  CHECK(parser.head().target == "/x");
  CHECK(parser.head().host == "");
}

TEST_CASE("http parse: a connection is kept as its version and lists say",
          "[http]") {
  const auto keeps = [](const char* version, const char* fields) {
    return request(std::string("GET / HTTP/") + version + "\r\nHost: a\r\n" +
                   fields + "\r\n")
               .find(" closes") == std::string::npos;
  };
  CHECK(keeps("1.1", ""));
  CHECK(keeps("1.1", "Connection: upgrade\r\n"));
  CHECK(keeps("1.1", "Connection: closed\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: Close\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: upgrade , close\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: a\r\nconnection: close\r\n"));
  CHECK_FALSE(keeps("1.1", "Connection: keep-alive, close\r\n"));
  CHECK_FALSE(keeps("1.0", ""));
  CHECK(keeps("1.0", "Connection: Keep-Alive\r\n"));
  CHECK_FALSE(keeps("1.0", "Connection: keep-alive\r\nConnection: close\r\n"));
  CHECK(keeps("1.2", ""));
}

TEST_CASE("http parse: a body is expected to be asked for only if there is one",
          "[http]") {
  const std::string expect = "Expect: 100-Continue\r\n";
  CHECK(with(expect + "Content-Length: 5\r\n").find(" expects") !=
        std::string::npos);
  CHECK(with(expect + "Transfer-Encoding: chunked\r\n").find(" expects") !=
        std::string::npos);
  CHECK(with(expect).find(" expects") == std::string::npos);
  CHECK(with(expect + "Content-Length: 0\r\n").find(" expects") ==
        std::string::npos);
  CHECK(request("PUT / HTTP/1.0\r\nContent-Length: 5\r\n" + expect + "\r\n")
            .find(" expects") == std::string::npos);
  CHECK(with("Expect: 200-ok\r\n") == "417 Expect asks for something unknown");
  CHECK(with("Expect: 100-continue, x\r\n") ==
        "417 Expect asks for something unknown");
  CHECK(with("Expect:\r\n") == "417 Expect asks for something unknown");
}

TEST_CASE("http parse: the target says whom a request is for, or else Host",
          "[http]") {
  CHECK(request("GET http://b:1/x HTTP/1.1\r\nHost: a\r\n\r\n") ==
        "GET http://b:1/x [Host=a] for b:1");
  CHECK(request("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n") ==
        "CONNECT b:443 [Host=a] for b:443");
}

// ------------------------------------------------------------- the first line

TEST_CASE("http parse: one empty line before a request is tolerated",
          "[http]") {
  CHECK(request("\r\nGET / HTTP/1.0\r\n\r\n") == "GET / 1.0 closes");
  const std::string twice =
      "400 more than one empty line comes before the request";
  CHECK(request("\r\n\r\nGET / HTTP/1.0\r\n\r\n") == twice);
  CHECK(request("\nGET / HTTP/1.0\r\n\r\n") == kBareLf);
  CHECK(request("\r\r\nGET / HTTP/1.0\r\n\r\n") == kBareCr);
}

TEST_CASE("http parse: a first line is method, target and version", "[http]") {
  const std::string shape =
      "400 the first line is not method, target and version";
  CHECK(request("GET\r\n") == shape);
  CHECK(request("GET /\r\n") == shape);  // HTTP/0.9
  CHECK(request("hello\r\n") == shape);
  const std::string space = "400 a line begins with a space where none may";
  CHECK(request(" GET / HTTP/1.1\r\n") == space);
  CHECK(request("\tGET / HTTP/1.1\r\n") == space);
  CHECK(request(" \r\n") == space);
  CHECK(request("\r\n GET / HTTP/1.1\r\n") == space);
  const std::string method = "400 the method is not a word";
  CHECK(request("GE(T / HTTP/1.1\r\n") == method);
  CHECK(request("GET\t/ HTTP/1.1\r\n") == method);
  CHECK(request("G\xc3\x8bT / HTTP/1.1\r\n") == method);
  CHECK(request("\"GET\" / HTTP/1.1\r\n") == method);
  const std::string target = "400 the target is none that this method may have";
  CHECK(request("GET  / HTTP/1.1\r\n") == target);
  CHECK(request("GET /\t HTTP/1.1\r\n") == target);
  CHECK(request("GET /#a HTTP/1.1\r\n") == target);
  CHECK(request("GET * HTTP/1.1\r\nHost: a\r\n\r\n") == target);
  CHECK(request("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n") == target);
  CHECK(request("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n") == target);
  CHECK(request("GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n") == target);
  CHECK(request("GET index.html HTTP/1.1\r\nHost: a\r\n\r\n") == target);
}

TEST_CASE("http parse: a version is of the form HTTP/1.1", "[http]") {
  const std::string garbage = "400 the version is not of the form HTTP/1.1";
  for (const char* version :
       {"", "HTTP", "HTTP/1", "HTTP/1.", "HTTP/1.1 ", " HTTP/1.1", "http/1.1",
        "HTTP/1.10", "HTTP/01.1", "HTTP/1,1", "HTTP/a.b", "HTTPS/1.1",
        "b HTTP/1.1", "HTTP/1.1\t", "HTTP/+1.1", "HTTP\\1.1", "H\xc3TTP/1.1"}) {
    CAPTURE(version);
    CHECK(request(std::string("GET / ") + version + "\r\n") == garbage);
  }
  const std::string other = "505 the version of HTTP is neither 1.0 nor 1.1";
  CHECK(request("GET / HTTP/2.0\r\n") == other);
  CHECK(request("GET / HTTP/0.9\r\n") == other);
  CHECK(request("GET / HTTP/3.0\r\n") == other);
  CHECK(request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == other);
}

TEST_CASE("http parse: what speaks no HTTP is refused at its first line end",
          "[http]") {
  CHECK(request("SSH-2.0-OpenSSH_9.2\r\n") ==
        "400 the first line is not method, target and version");
  CHECK(request("EHLO example.org\r\n") ==
        "400 the first line is not method, target and version");
}

TEST_CASE("http parse: what is no text is refused at its first byte",
          "[http]") {
  CHECK(request("\x16\x03\x01\x02"sv) == kControl);  // TLS
  CHECK(request("\x16\x03\x01\x02\x00\x01\n"sv) == kControl);
  CHECK(request("\r\n\x16"sv) == kControl);
  CHECK(request("\0"sv) == kControl);
  CHECK(request("G\x16"sv) == "more");
}

// ----------------------------------------------------------- lines and fields

TEST_CASE("http parse: a line ends in CR LF and in nothing else", "[http]") {
  CHECK(request("GET / HTTP/1.1\n") == kBareLf);
  CHECK(request("GET / HTTP/1.1\r\nHost: a\n\r\n") == kBareLf);
  CHECK(request("GET / HTTP/1.1\r\nHost: a\r\n\n") == kBareLf);
  CHECK(with("A: b\nB: c\r\n") == kBareLf);
  CHECK(with("A: b\rB: c\r\n") == kBareCr);
  CHECK(with("A: b\r\r\n") == kBareCr);
  CHECK(with("A\r: b\r\n") == kBareCr);
  CHECK(with("\r\r\n") == kBareCr);
  CHECK(request("GET /\r HTTP/1.1\r\n") == kBareCr);
}

TEST_CASE("http parse: no line has a control character", "[http]") {
  for (int c = 0; c < 256; ++c) {
    if (c == '\r' || c == '\n') continue;
    const char byte = static_cast<char>(c);
    const bool control = (c < 0x20 && c != '\t') || c == 0x7f;
    CAPTURE(c);
    const std::string value = std::string("A: x") + byte + "y\r\n";
    const std::string read = with(value);
    if (control) {
      CHECK(read == kControl);
    } else {
      CHECK(read == std::string("PUT / [Host=a] [A=x") + byte + "y]");
    }
  }
}

TEST_CASE("http parse: the name of a field is a word before its colon",
          "[http]") {
  const std::string name = "400 the name of a field is not a word";
  CHECK(with(": b\r\n") == name);
  CHECK(with("A(: b\r\n") == name);
  CHECK(with("A/B: b\r\n") == name);
  CHECK(with("\xc3\xa4: b\r\n") == name);
  CHECK(with("A\\: b\r\n") == name);
  CHECK(with("A\"b\": c\r\n") == name);
  CHECK(with("{}: c\r\n") == name);
  const std::string space = "400 a space stands before the colon of a field";
  CHECK(with("A : b\r\n") == space);
  CHECK(with("A\t: b\r\n") == space);
  CHECK(with("Content-Length : 5\r\n") == space);
  CHECK(with("Transfer-Encoding : chunked\r\n") == space);
  CHECK(with("A b: c\r\n") == space);
  CHECK(with("A\r\n") == "400 a field has no colon");
  CHECK(with("GET\r\n") == "400 a field has no colon");
  CHECK(with("A::b\r\n") == "PUT / [Host=a] [A=:b]");
}

TEST_CASE("http parse: no field of a request goes on in a second line",
          "[http]") {
  const std::string folded = "400 a field goes on in a second line";
  CHECK(with("A: b\r\n c\r\n") == folded);
  CHECK(with("A: b\r\n\tc\r\n") == folded);
  CHECK(with("A: b\r\n \r\n") == folded);
  CHECK(with("Transfer-Encoding:\r\n chunked\r\n") == folded);
  CHECK(request("GET / HTTP/1.1\r\n Host: a\r\n\r\n") ==
        "400 a line begins with a space where none may");
  CHECK(request("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n") ==
        "400 a line begins with a space where none may");
}

TEST_CASE("http parse: a 1.1 request has one Host, and it is a host",
          "[http]") {
  CHECK(request("GET / HTTP/1.1\r\n\r\n") == "400 Host is missing");
  CHECK(request("GET / HTTP/1.1\r\nHosts: a\r\n\r\n") == "400 Host is missing");
  CHECK(with("Host: a\r\n") == "400 there is more than one Host");
  CHECK(with("hOST: b\r\n") == "400 there is more than one Host");
  CHECK(request("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n") ==
        "400 there is more than one Host");
  for (const char* host : {"a b", "a/b", "a@b", "a:b", "a,b/", "http://a", "a?",
                           "[::1", "a:65536", "a:80:80", "\xc3\xa4"}) {
    CAPTURE(host);
    CHECK(request(std::string("GET / HTTP/1.1\r\nHost: ") + host +
                  "\r\n\r\n") == "400 Host is not a host");
  }
}

// -------------------------------------------------------------------- framing

TEST_CASE("http parse: a length is one number", "[http]") {
  CHECK(with("Content-Length: 0\r\n") ==
        "PUT / [Host=a] [Content-Length=0] length 0");
  CHECK(with("content-length:\t42 \r\n") ==
        "PUT / [Host=a] [content-length=42] length 42");
  CHECK(with("Content-Length: 9223372036854775807\r\n")
            .find("length 9223372036854775807") != std::string::npos);
  for (const auto length :
       {""sv,     "+5"sv,  "-5"sv, "5 5"sv, "5,5"sv,  "5, 5"sv, "5;"sv,
        "0x5"sv,  "5.0"sv, "05"sv, "00"sv,  "007"sv,  "5e1"sv,  "\"5\""sv,
        "five"sv, ","sv,   "5,"sv, "1_0"sv, "\xb2"sv, "5\t5"sv}) {
    CAPTURE(length);
    CHECK(with("Content-Length: " + std::string(length) + "\r\n") == kNoLength);
  }
  const std::string many = "400 there is more than one Content-Length";
  CHECK(with("Content-Length: 5\r\nContent-Length: 5\r\n") == many);
  CHECK(with("Content-Length: 5\r\nContent-Length: 6\r\n") == many);
  CHECK(with("Content-Length: 5\r\nA: b\r\ncontent-length: 0\r\n") == many);
}

TEST_CASE("http parse: a length beyond all sizes is too long", "[http]") {
  for (const char* length :
       {"9223372036854775808", "18446744073709551616", "18446744073709551621",
        "99999999999999999999999999999999"}) {
    CAPTURE(length);
    CHECK(with(std::string("Content-Length: ") + length + "\r\n") ==
          "413 the body is too long");
  }
}

TEST_CASE("http parse: length and coding together are refused", "[http]") {
  const std::string both =
      "400 both Content-Length and Transfer-Encoding are given";
  CHECK(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") == both);
  CHECK(with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") == both);
  CHECK(with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n") == both);
  CHECK(with("Transfer-Encoding: identity\r\nContent-Length: 5\r\n") == both);
}

TEST_CASE("http parse: the one coding is chunked, last and once", "[http]") {
  CHECK(with("Transfer-Encoding: chunked\r\n") ==
        "PUT / [Host=a] [Transfer-Encoding=chunked] chunked");
  CHECK(with("transfer-encoding:  Chunked \r\n").find(" chunked") !=
        std::string::npos);
  for (const auto coding : {""sv,
                            "identity"sv,
                            "gzip"sv,
                            "xchunked"sv,
                            "chunked, gzip"sv,
                            "chunked, identity"sv,
                            "chunked, chunked"sv,
                            "chunked,"sv,
                            ",chunked"sv,
                            "chunked;q=1"sv,
                            "\"chunked\""sv,
                            "chunked chunked"sv,
                            "chun ked"sv,
                            "chunked, "sv,
                            "chunkedchunked"sv,
                            "chunked\t,\tx"sv,
                            "chunked;"sv,
                            "'chunked'"sv,
                            "cHuNkEd, cow"sv,
                            "x chunked"sv}) {
    CAPTURE(coding);
    CHECK(with("Transfer-Encoding: " + std::string(coding) + "\r\n") ==
          kNotEndedByChunked);
  }
  CHECK(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") ==
        kNotEndedByChunked);
  CHECK(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") ==
        kNotEndedByChunked);
  const std::string other = "501 a transfer coding is unknown";
  CHECK(with("Transfer-Encoding: gzip, chunked\r\n") == other);
  CHECK(with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n") ==
        other);
  CHECK(with("Transfer-Encoding: identity, chunked\r\n") == other);
  CHECK(request("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        "400 HTTP/1.0 has no Transfer-Encoding");
}

TEST_CASE("http parse: near names decide nothing", "[http]") {
  CHECK(with("Content_Length: 5\r\nContent-Lengt: 5\r\n"
             "X-Content-Length: 5\r\nTransfer_Encoding: chunked\r\n")
            .find("length 5") == std::string::npos);
}

// --------------------------------------------------------------------- limits

TEST_CASE("http parse: a line, a head and their fields have limits", "[http]") {
  const HeadLimits limits{40, 100, 3};
  const auto get = [&](std::string_view target, std::string_view fields) {
    return request("GET " + std::string(target) + " HTTP/1.0\r\n" +
                       std::string(fields) + "\r\n",
                   limits);
  };
  const std::string line = "431 a line is too long";
  const std::string head = "431 the head is too long";
  // "GET  HTTP/1.0" has 13 bytes.
  CHECK(get("/" + std::string(26, 'a'), "") ==
        "GET /" + std::string(26, 'a') + " 1.0 closes");
  CHECK(get("/" + std::string(27, 'a'), "") == "414 the target is too long");
  CHECK(get("/" + std::string(5000, 'a'), "") == "414 the target is too long");
  // Refused as soon as no end of line can come in time: here, CR LF.
  CHECK(request(std::string(41, 'A'), limits) == "more");
  CHECK(request(std::string(42, 'A'), limits) ==
        "501 the method is too long to be known");
  CHECK(request(std::string(43, 'A'), limits) ==
        "501 the method is too long to be known");
  CHECK(request(std::string(5000, 'A') + " / HTTP/1.0\r\n\r\n", limits) ==
        "501 the method is too long to be known");

  CHECK(get("/", "A: " + std::string(37, 'a') + "\r\n") ==
        "GET / [A=" + std::string(37, 'a') + "] 1.0 closes");
  CHECK(get("/", "A: " + std::string(38, 'a') + "\r\n") == line);
  CHECK(get("/", "A: " + std::string(5000, 'a') + "\r\n") == line);
  CHECK(get("/", std::string(5000, ' ') + "\r\n") == line);

  CHECK(get("/", "A: 1\r\nB: 2\r\nC: 3\r\n") ==
        "GET / [A=1] [B=2] [C=3] 1.0 closes");
  CHECK(get("/", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n") ==
        "431 there are too many fields");

  // 16 of the first line, 40 + 40, 2 of the last: 98 in all, and 2 more.
  const std::string forty = "A: " + std::string(35, 'a') + "\r\n";
  CHECK(get("/", forty + forty).find("[A=") != std::string::npos);
  CHECK(get("/a", forty + forty).find("[A=") != std::string::npos);
  CHECK(get("/ab", forty + forty).find("[A=") != std::string::npos);
  CHECK(get("/abc", forty + forty) == head);
  CHECK(get("/", forty + forty + "B:\r\n") == head);
}

TEST_CASE("http parse: the usual limits are those of nginx", "[http]") {
  const std::string begin = "GET / HTTP/1.0\r\n";
  const auto read = [&](const std::string& fields) {
    return read_request({begin + fields + "\r\n"}, {});
  };
  CHECK(read("A: " + std::string(8189, 'a') + "\r\n").find("431") ==
        std::string::npos);
  CHECK(read("A: " + std::string(8190, 'a') + "\r\n") ==
        "431 a line is too long");
  std::string fields;
  for (int i = 0; i < 100; ++i) fields += "A: b\r\n";
  CHECK(read(fields).find("431") == std::string::npos);
  CHECK(read(fields + "A: b\r\n") == "431 there are too many fields");
  std::string megabyte;
  while (megabyte.size() < (1 << 20))
    megabyte += "A: " + std::string(1000, 'a') + "\r\n";
  CHECK(read(megabyte) == "431 the head is too long");
}

TEST_CASE("http parse: a parser holds no more than its limits, whatever comes",
          "[http]") {
  const HeadLimits limits{1000, 3000, 10};
  const std::string endless(1 << 20, 'a');
  for (const std::size_t step :
       {std::size_t{1}, std::size_t{999}, std::size_t{1} << 20}) {
    RequestParser parser(limits);
    parser.feed("GET / HTTP/1.1\r\nA: ");
    for (std::size_t at = 0; at < endless.size(); at += step) {
      parser.feed(std::string_view(endless).substr(at, step));
    }
    CHECK(parser.fault() == Fault::kLongLine);
    CHECK(parser.text().size() <= 3000);
  }
}

// ------------------------------------------------------------------ responses

TEST_CASE("http parse: responses as servers send them", "[http]") {
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") ==
        "200 OK [Content-Length=5] length 5");
  CHECK(response("HTTP/1.0 404 Not Found\r\n\r\n") ==
        "404 Not Found 1.0 closes");
  CHECK(response("HTTP/1.1 200 \r\n\r\n") == "200 ");
  CHECK(response("HTTP/1.1 200\r\n\r\n") == "200 ");
  CHECK(response("HTTP/1.1 999 \tW\xc3\xb6rld \r\n\r\n") ==
        "999 \tW\xc3\xb6rld ");
  CHECK(response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") ==
        "100 Continue");
}

TEST_CASE("http parse: what is no response is refused", "[http]") {
  const std::string wrong = "the first line is not version and status";
  for (const auto line :
       {""sv, "HTTP/1.1"sv, "HTTP/1.1 "sv, "HTTP/1.1 20"sv, "HTTP/1.1 2000"sv,
        "HTTP/1.1 099"sv, "HTTP/1.1 +20 OK"sv, "HTTP/1.1  200 OK"sv,
        "HTTP/1.1 200OK"sv, "HTTP/1.1\t200 OK"sv, "ICY 200 OK"sv,
        "HTTP/1.1 2a0 OK"sv, "HTTP/1.12 200 OK"sv, "GET / HTTP/1.1"sv,
        "200 OK HTTP/1.1"sv, "HTTP/1.1 200\tOK"sv}) {
    CAPTURE(line);
    CHECK(response(std::string(line) + "\r\n") == wrong);
  }
  CHECK(response("http/1.1 200 OK\r\n") ==
        "the version is not of the form HTTP/1.1");
  CHECK(response("HTTP/2.0 200 OK\r\n") ==
        "the version of HTTP is neither 1.0 nor 1.1");
  CHECK(response("HTTP/1.1 200 O\rK\r\n") == "a CR stands inside a line");
  CHECK(response("HTTP/1.1 200 OK\n") == "a line ends in LF without CR");
  CHECK(response(" HTTP/1.1 200 OK\r\n") ==
        "a line begins with a space where none may");
}

TEST_CASE("http parse: a folded line in a response becomes spaces", "[http]") {
  CHECK(response("HTTP/1.1 200 OK\r\nA: b\r\n  c\r\n\td \r\nE: f\r\n\r\n") ==
        "200 OK [A=b    c  \td] [E=f]");
  CHECK(response("HTTP/1.1 200 OK\r\nA:\r\n b\r\n\r\n") == "200 OK [A=b]");
  CHECK(response("HTTP/1.1 200 OK\r\nA: b\r\n \r\n\r\n") == "200 OK [A=b]");
  CHECK(response("HTTP/1.1 200 OK\r\n A: b\r\n\r\n") ==
        "a line begins with a space where none may");
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length:\r\n 5\r\n\r\n") ==
        "200 OK [Content-Length=5] length 5");
  CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 5\r\n\r\n") ==
        "Content-Length is not a number");
}

TEST_CASE("http parse: the framing of a response is as strict", "[http]") {
  const auto framed = [](const std::string& fields) {
    return response("HTTP/1.1 200 OK\r\n" + fields + "\r\n");
  };
  CHECK(framed("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") ==
        "both Content-Length and Transfer-Encoding are given");
  CHECK(framed("Content-Length: 5\r\nContent-Length: 5\r\n") ==
        "there is more than one Content-Length");
  CHECK(framed("Transfer-Encoding: gzip, chunked\r\n") ==
        "a transfer coding is unknown");
  CHECK(response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        "HTTP/1.0 has no Transfer-Encoding");
  CHECK(framed("Connection: close\r\n").find(" closes") != std::string::npos);
}
