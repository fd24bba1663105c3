// url.cpp - URLs and references nobody has thought of.
//
// Promised: a URL that is accepted has one spelling, which is read as the same.
// Its path has no dot segments. What a client sends of it, a server can read.
// All that holds of the URL that a reference means, too.
//
// An input is a URL, and behind a line end a reference in what lies there.
//
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "../../net/http/parse.hpp"
#include "../../net/http/url.hpp"
#include "fuzz.hpp"

using namespace violet::http;

namespace {

void check_path(const Url& url) {
  const std::string_view target = url.target();
  promise(target.starts_with('/'), "a target is a path");
  for (const char c : target) {
    promise(c > ' ' && c < 0x7f && c != '#', "what may not stand is escaped");
  }
  Pieces pieces(target.substr(0, target.find('?')), '/');
  for (std::string_view piece; pieces.next(piece);) {
    promise(piece != "." && piece != "..", "no dot segments");
  }
}

/// A server reads what a client writes of it.
void check_request(const Url& url) {
  std::string text;
  HeadWriter writer(text);
  const std::string host = url.authority();
  writer.request("GET", url.target()).field("Host", host);
  promise(writer.finish() == nullptr, "it can be asked for");
  RequestParser parser;
  parser.feed(text);
  if (text.size() > 8000) return;  // a server need not read so much
  promise(parser.done(), "it can be read");
  promise(parser.head().target == url.target(), "the same target");
  promise(parser.head().host == host, "the same host");
}

void check_url(const Url& url) {
  promise(!url.host().empty() && url.port() != 0, "somebody to connect to");
  check_path(url);
  check_request(url);
  std::string refusal;
  const Url again = Url::parse(url.text(), refusal);
  promise(refusal.empty() && again == url, "it is read as the same");
  promise(again.text() == url.text(), "there is one spelling");
  promise(url.resolve(url.text(), refusal) == url, "it refers to itself");
  promise(url.resolve("", refusal) == url, "so does nothing at all");
}

/// Returns: false if there is none.
bool check_outcome(const Url& url, const std::string& refusal) {
  if (!refusal.empty()) {
    promise(url == Url(), "what is refused is none");
    return false;
  }
  check_url(url);
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto end = text.find('\n');
  std::string refusal;
  const Url base = Url::parse(text.substr(0, end), refusal);
  if (!check_outcome(base, refusal) || end == text.npos) return 0;
  const Url there = base.resolve(text.substr(end + 1), refusal);
  check_outcome(there, refusal);
  return 0;
}
