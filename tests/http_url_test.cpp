// http_url_test.cpp - URLs taken apart, and references followed.
// SPDX-License-Identifier: MIT
#include "../net/http/url.hpp"

#include <string>
#include <string_view>
#include <system_error>

#include "catch.hpp"

using namespace violet::http;
using namespace std::string_view_literals;

namespace {

/// A URL as it comes out, or what is wrong with it.
std::string read(std::string_view text) {
  std::string refusal = "left from before";
  const Url url = Url::parse(text, refusal);
  if (refusal.empty()) return url.text();
  CHECK(url == Url());
  return refusal;
}

std::string followed(std::string_view base, std::string_view reference) {
  std::string refusal;
  const Url url = Url::parse(base).resolve(reference, refusal);
  return refusal.empty() ? url.text() : refusal;
}

bool refused(std::string_view text, std::string_view why) {
  const std::string said = read(text);
  CAPTURE(said);
  return said.find(why) != said.npos;
}

}  // namespace

TEST_CASE("http url: the parts that a client needs", "[http]") {
  const Url url = Url::parse("http://Example.org:8080/a/b?c=d#e");
  CHECK(url.host() == "example.org");
  CHECK(url.port() == 8080);
  CHECK(url.authority() == "example.org:8080");
  CHECK(url.target() == "/a/b?c=d");
  CHECK(url.text() == "http://example.org:8080/a/b?c=d");
}

TEST_CASE("http url: what is left out has a default", "[http]") {
  CHECK(read("http://a") == "http://a/");
  CHECK(read("HTTP://a:80/") == "http://a/");
  CHECK(read("http://a:/b") == "http://a/b");
  CHECK(read("http://a?b") == "http://a/?b");
  CHECK(read("http://a?") == "http://a/?");
  CHECK(read("http://a#b/c?d") == "http://a/");
  CHECK(Url::parse("http://a").port() == 80);
}

TEST_CASE("http url: an IPv6 address has brackets but in host()", "[http]") {
  const Url url = Url::parse("http://[::1]:8080/");
  CHECK(url.host() == "::1");
  CHECK(url.authority() == "[::1]:8080");
  CHECK(Url::parse("http://[2001:DB8::1]").authority() == "[2001:db8::1]");
  CHECK(refused("http://[::1::2]/", "no IPv6 address"));
  CHECK(refused("http://[1.2.3.4]/", "no valid host"));
  CHECK(refused("http://[::1/", "no valid host"));
  CHECK(refused("http://[::1]x/", "no valid host"));
}

TEST_CASE("http url: what may not stand in a request is escaped", "[http]") {
  CHECK(read("http://a/b c?d e") == "http://a/b%20c?d%20e");
  CHECK(read("http://a/\xc3\xa4") == "http://a/%C3%A4");
  CHECK(read("http://a/%41%2f[]{}|^`\"<>\\") ==
        "http://a/%41%2f%5B%5D%7B%7D%7C%5E%60%22%3C%3E%5C");
  CHECK(refused("http://a/b\r\nX: y", "a control character"));
  CHECK(refused("http://a/b?\0"sv, "a control character"));
  CHECK(refused("http://a/100%", "written %25"));
  CHECK(refused("http://a/?%4", "written %25"));
  CHECK(refused("http://a/%4g", "written %25"));
}

TEST_CASE("http url: dot segments are resolved before anybody is asked",
          "[http]") {
  CHECK(read("http://a/b/../c") == "http://a/c");
  CHECK(read("http://a/b/./c/.") == "http://a/b/c/");
  CHECK(read("http://a/b/..") == "http://a/");
  CHECK(read("http://a/../../b") == "http://a/b");
  CHECK(read("http://a/..") == "http://a/");
  CHECK(read("http://a//b//../c") == "http://a//b/c");
  CHECK(read("http://a/b?../c") == "http://a/b?../c");
}

TEST_CASE("http url: what is none is refused with a reason", "[http]") {
  CHECK(read("ftp://a/") == "'ftp://a/' is not a URL that begins with http://");
  for (const auto text : {"", "a", "a:80", "127.0.0.1:80/b", "/b", "http:b",
                          "http:/b", "//a/b", "://a", "unix:/x"}) {
    CAPTURE(text);
    CHECK(refused(text, "begins with http://"));
  }
  for (const auto text : {"http://", "http:///b", "http://:80/", "http://?b"}) {
    CAPTURE(text);
    CHECK(refused(text, "has no host"));
  }
  for (const auto text :
       {"http://a b/", "http://a:b/", "http://a:65536/", "http://a:1:2/",
        "http://a%/", "http://a\r\nb/", "http://[/", "http://a\\b/"}) {
    CAPTURE(text);
    CHECK(refused(text, "has no valid host"));
  }
  CHECK(refused("http://a:0/", "port 0"));
  CHECK(refused("https://a/", "put a proxy"));
  CHECK(refused("HTTPS://a/", "put a proxy"));
  CHECK(refused("http://user:secret@a/", "Authorization"));
}

TEST_CASE("http url: a refusal is thrown as an error that shows the text",
          "[http]") {
  std::string said;
  try {
    Url::parse("ftp://a" + std::string(1000, 'b'));
  } catch (const std::system_error& e) {
    said = e.what();
    CHECK(e.code() == std::errc::invalid_argument);
  }
  CHECK(said.find("'ftp://abbb") == 0);
  CHECK(said.size() < 300);
  CHECK_THROWS_AS(Url::parse("http://a/").resolve("https://b/"),
                  std::system_error);
}

TEST_CASE("http url: references as in RFC 3986, section 5.4", "[http]") {
  const auto base = "http://a/b/c/d;p?q"sv;
  const std::string_view normal[][2] = {
      {"g", "http://a/b/c/g"},
      {"./g", "http://a/b/c/g"},
      {"g/", "http://a/b/c/g/"},
      {"/g", "http://a/g"},
      {"//g", "http://g/"},
      {"?y", "http://a/b/c/d;p?y"},
      {"g?y", "http://a/b/c/g?y"},
      {"#s", "http://a/b/c/d;p?q"},
      {"g#s", "http://a/b/c/g"},
      {"g?y#s", "http://a/b/c/g?y"},
      {";x", "http://a/b/c/;x"},
      {"g;x", "http://a/b/c/g;x"},
      {"g;x?y#s", "http://a/b/c/g;x?y"},
      {"", "http://a/b/c/d;p?q"},
      {".", "http://a/b/c/"},
      {"./", "http://a/b/c/"},
      {"..", "http://a/b/"},
      {"../", "http://a/b/"},
      {"../g", "http://a/b/g"},
      {"../..", "http://a/"},
      {"../../", "http://a/"},
      {"../../g", "http://a/g"},
      {"../../../g", "http://a/g"},
      {"../../../../g", "http://a/g"},
      {"/./g", "http://a/g"},
      {"/../g", "http://a/g"},
      {"g.", "http://a/b/c/g."},
      {".g", "http://a/b/c/.g"},
      {"g..", "http://a/b/c/g.."},
      {"..g", "http://a/b/c/..g"},
      {"./../g", "http://a/b/g"},
      {"./g/.", "http://a/b/c/g/"},
      {"g/./h", "http://a/b/c/g/h"},
      {"g/../h", "http://a/b/c/h"},
      {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
      {"g;x=1/../y", "http://a/b/c/y"},
      {"g?y/./x", "http://a/b/c/g?y/./x"},
      {"g?y/../x", "http://a/b/c/g?y/../x"},
      {"g#s/../x", "http://a/b/c/g"},
      {"http://h:81/i", "http://h:81/i"},
  };
  for (const auto& [reference, target] : normal) {
    CAPTURE(reference);
    CHECK(followed(base, reference) == target);
  }
  CHECK(followed(base, "g:h") == "'g:h' is not a URL that begins with http://");
}

TEST_CASE("http url: a path with two slashes in front is no server", "[http]") {
  CHECK(followed("http://a//b/c?d", "") == "http://a//b/c?d");
  CHECK(followed("http://a//b/c?d", "?e") == "http://a//b/c?e");
  CHECK(followed("http://a//b/c", "e") == "http://a//b/e");
  CHECK(followed("http://a//b/c", "../e") == "http://a//e");
}

TEST_CASE("http url: a reference keeps the server unless it names another",
          "[http]") {
  const Url base = Url::parse("http://a:81/b?c");
  CHECK(base.resolve("/d").text() == "http://a:81/d");
  CHECK(base.resolve("//a/d").text() == "http://a/d");
  CHECK(base.resolve("/d").same_server(base));
  CHECK_FALSE(base.resolve("//a/d").same_server(base));
  CHECK_FALSE(base.resolve("//b:81/d").same_server(base));
  CHECK(base.resolve("//A:81/d").same_server(base));
  CHECK_THROWS_AS(base.resolve("d:e/f"), std::system_error);
}
