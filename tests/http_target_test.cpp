// http_target_test.cpp - what a request asks for.
// SPDX-License-Identifier: MIT
#include "../net/http/target.hpp"

#include <string>
#include <string_view>

#include "catch.hpp"

using namespace violet::http;
using namespace std::string_view_literals;

namespace {

/// A target taken apart, on one line.
std::string parts_of(std::string_view method, std::string_view text) {
  Target target;
  if (parse_target(method, text, target) != Fault::kNone) return "refused";
  std::string out;
  switch (target.form) {
    case TargetForm::kOrigin: out = "origin"; break;
    case TargetForm::kAbsolute: out = "absolute"; break;
    case TargetForm::kAuthority: out = "authority"; break;
    case TargetForm::kAsterisk: out = "asterisk"; break;
  }
  const auto add = [&](const char* name, std::string_view part) {
    if (!part.empty()) out.append(" ").append(name).append("=").append(part);
  };
  add("scheme", target.scheme);
  add("authority", target.authority);
  add("path", target.path);
  if (target.has_query) out.append(" query=").append(target.query);
  return out;
}

std::string decoded(std::string_view path) {
  std::string out = "left from before";
  const Fault fault = decode_path(path, out);
  if (fault == Fault::kNone) return out;
  CHECK(fault == Fault::kBadPath);
  CHECK(out.empty());
  return "refused";
}

}  // namespace

TEST_CASE("http target: the four forms are told apart", "[http]") {
  CHECK(parts_of("GET", "/") == "origin path=/");
  CHECK(parts_of("GET", "/a/b?c=d?e/f") == "origin path=/a/b query=c=d?e/f");
  CHECK(parts_of("GET", "/?") == "origin path=/ query=");
  CHECK(parts_of("GET", "//host/a") == "origin path=//host/a");
  CHECK(parts_of("OPTIONS", "*") == "asterisk");
  CHECK(parts_of("GET", "http://example.org:80/a?b") ==
        "absolute scheme=http authority=example.org:80 path=/a query=b");
  CHECK(parts_of("GET", "http://example.org") ==
        "absolute scheme=http authority=example.org");
  CHECK(parts_of("GET", "http://[::1]?q") ==
        "absolute scheme=http authority=[::1] query=q");
  CHECK(parts_of("CONNECT", "example.org:443") ==
        "authority authority=example.org:443");
  // What browsers leave as it is in a query, and bytes that are not ASCII.
  CHECK(parts_of("GET", "/a|b?{x}^`[y]") == "origin path=/a|b query={x}^`[y]");
  CHECK(parts_of("GET", "/W\xc3\xb6rld") == "origin path=/W\xc3\xb6rld");
}

TEST_CASE("http target: what has none of the forms is refused", "[http]") {
  for (const auto text : {""sv,
                          "a"sv,
                          "*"sv,
                          "index.html"sv,
                          "example.org:80"sv,
                          "http:/a"sv,
                          "http://"sv,
                          "http:///a"sv,
                          "://host/"sv,
                          "1http://host/"sv,
                          "ht tp://host/"sv,
                          "http://user@host/"sv,
                          "http://user:pw@host/"sv,
                          "http://host:port/"sv,
                          "http://host:65536/"sv,
                          "http://[::1/"sv,
                          "http://:80/"sv,
                          "/a b"sv,
                          "/a\tb"sv,
                          "/a#b"sv,
                          "/a\"b"sv,
                          "/a<b"sv,
                          "/a\\b"sv,
                          "/a\0b"sv,
                          "/a\rb"sv,
                          "/a\nb"sv,
                          "/a\x7f"sv,
                          "?a"sv}) {
    CAPTURE(text);
    CHECK(parts_of("GET", text) == "refused");
  }
  for (const auto text :
       {"/"sv, "example.org"sv, "example.org:"sv, ":443"sv,
        "http://example.org:443"sv, "a@example.org:443"sv, "*"sv}) {
    CAPTURE(text);
    CHECK(parts_of("CONNECT", text) == "refused");
  }
}

TEST_CASE("http target: a host is a name or a number, and perhaps a port",
          "[http]") {
  for (const auto text :
       {""sv, "example.org"sv, "example.org:80"sv, "example.org:"sv,
        "127.0.0.1:8080"sv, "[::1]"sv, "[::1]:80"sv, "[::ffff:10.0.0.1]:1"sv,
        "a_b"sv, "%41.org"sv, "localhost:65535"sv}) {
    CAPTURE(text);
    CHECK(is_host(text));
  }
  for (const auto text : {"a b"sv,
                          "a,b/"sv,
                          "a/"sv,
                          "a?"sv,
                          "a#"sv,
                          "user@a"sv,
                          "a:b"sv,
                          "a:80:80"sv,
                          "a:65536"sv,
                          "a:+80"sv,
                          "a:-1"sv,
                          "::1"sv,
                          "[::1"sv,
                          "::1]"sv,
                          "[]"sv,
                          "[a]"sv,
                          "[::1]80"sv,
                          "[::1]x:80"sv,
                          "[::g]"sv,
                          "a%4"sv,
                          "a%zz"sv,
                          "a\x80"sv,
                          "a\\b"sv,
                          "a\0b"sv,
                          "a:99999999999999999999"sv,
                          "http://a"sv,
                          "[[::1]]"sv}) {
    CAPTURE(text);
    CHECK_FALSE(is_host(text));
  }
}

TEST_CASE("http target: host and port come apart", "[http]") {
  CHECK(split_host("example.org:80").host == "example.org");
  CHECK(split_host("example.org:80").port == 80);
  CHECK(split_host("[::1]:65535").host == "[::1]");
  CHECK(split_host("[::1]:65535").port == 65535);
  CHECK(split_host("[::1]").port == std::nullopt);
  CHECK(split_host("example.org:").host == "example.org");
  CHECK(split_host("example.org:").port == std::nullopt);
  CHECK(split_host("").host == "");
}

TEST_CASE("http target: a path becomes a name below the root", "[http]") {
  CHECK(decoded("/") == "");
  CHECK(decoded("") == "");
  CHECK(decoded("/a") == "a");
  CHECK(decoded("/a/b.txt") == "a/b.txt");
  CHECK(decoded("/a/") == "a/");
  CHECK(decoded("/a%20b/W%C3%B6rld") == "a b/W\xc3\xb6rld");
  CHECK(decoded("/...") == "...");
  CHECK(decoded("/..a/a../.a") == "..a/a../.a");
  CHECK(decoded("/a+b") == "a+b");
  CHECK(decoded("/%2525") == "%25");  // decoded once
}

TEST_CASE("http target: empty segments count for nothing", "[http]") {
  CHECK(decoded("//") == "");
  CHECK(decoded("///a//b///") == "a/b/");
  CHECK(decoded("//etc/passwd") == "etc/passwd");
}

TEST_CASE("http target: there is no way up, in any spelling", "[http]") {
  for (const auto path : {"/.."sv,
                          "/../"sv,
                          "/../etc/passwd"sv,
                          "/a/../b"sv,
                          "/a/.."sv,
                          "/."sv,
                          "/./"sv,
                          "/a/./b"sv,
                          "/%2e%2e"sv,
                          "/%2E%2e/"sv,
                          "/.%2e/x"sv,
                          "/%2e./x"sv,
                          "/%2e"sv,
                          "/a/%2e/b"sv,
                          "/a//../b"sv,
                          "/a%2fb"sv,
                          "/..%2f"sv,
                          "/%2F"sv,
                          "/..%2F..%2Fetc"sv,
                          "/%2e%2e%2fetc"sv,
                          "/a%00"sv,
                          "/%00"sv,
                          "/..%00/"sv,
                          "/a\0"sv,
                          "/%"sv,
                          "/%2"sv,
                          "/a%zz"sv,
                          "/%%32%65"sv,
                          "a"sv,
                          ".."sv,
                          "/a/%2e%2E/%2e%2e/"sv}) {
    CAPTURE(path);
    CHECK(decoded(path) == "refused");
  }
}

TEST_CASE("http target: other spellings of dots are names of files", "[http]") {
  // Escaped twice, overlong UTF-8, full-width dots, backslashes: bytes of a
  // name like any other on the systems this runs on.
  CHECK(decoded("/%252e%252e/x") == "%2e%2e/x");
  CHECK(decoded("/%c0%ae%c0%ae/x") == "\xc0\xae\xc0\xae/x");
  CHECK(decoded("/%ef%bc%8e/x") == "\xef\xbc\x8e/x");
  CHECK(decoded("/..%5c..%5cx") == "..\\..\\x");
  CHECK(decoded("/..;/x") == "..;/x");
  CHECK(decoded("/%20..") == " ..");
}

TEST_CASE("http target: no decoded path leaves its root, whatever is sent",
          "[http]") {
  // All texts of up to six of these.
  const std::string_view parts[] = {"/", ".", "%2e", "%2f", "a", "%00"};
  std::string path;
  int accepted = 0;
  for (int code = 0; code < 6 * 6 * 6 * 6 * 6 * 6; ++code) {
    path = "/";
    for (int i = 0, rest = code; i < 6; ++i, rest /= 6) path += parts[rest % 6];
    std::string out;
    if (decode_path(path, out) != Fault::kNone) continue;
    ++accepted;
    Pieces pieces(out, '/');
    bool right = out.empty() || out.front() != '/';
    for (std::string_view piece; pieces.next(piece);) {
      if (piece == "." || piece == ".." || piece.find('\0') != piece.npos)
        right = false;
    }
    if (out.find("//") != out.npos) right = false;
    if (!right) FAIL(path << " became " << out);
  }
  CHECK(accepted > 1000);
}

TEST_CASE("http target: a query is read parameter by parameter", "[http]") {
  const auto all = [](std::string_view text) {
    std::string out;
    Query query(text);
    for (Parameter one; query.next(one);) {
      out.append("<").append(one.name).append("|").append(one.value).append(
          ">");
    }
    return out;
  };
  CHECK(all("a=1&b=2") == "<a|1><b|2>");
  CHECK(all("upload") == "<upload|>");
  CHECK(all("a=b=c") == "<a|b=c>");
  CHECK(all("=x&&a=&") == "<|x><a|>");
  CHECK(all("") == "");
  CHECK(all("a;b=1") == "<a;b|1>");
}

TEST_CASE("http target: a parameter's value is found and decoded", "[http]") {
  CHECK(query_value("a=1&b=x+y%2B&a=2", "a") == "1");
  CHECK(query_value("a=1&b=x+y%2B", "b") == "x y+");
  CHECK(query_value("upload", "upload") == "");
  CHECK(query_value("%61=1", "a") == "1");
  CHECK(query_value("b=1", "a") == std::nullopt);
  CHECK(query_value("A=1", "a") == std::nullopt);
  CHECK(query_value("a=%zz", "a") == std::nullopt);
  CHECK(query_value("%zz=1&a=2", "a") == "2");
  CHECK(query_value("", "a") == std::nullopt);
}
