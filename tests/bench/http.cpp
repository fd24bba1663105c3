// http.cpp - what reading HTTP costs, beside copying the same bytes.
//
// The bar is 400 ns for the request of a browser. memcpy of the same bytes, and
// one memchr for each line, are what no parser can do without.
// SPDX-License-Identifier: MIT
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

#include "../../net/http/body.hpp"
#include "../../net/http/range.hpp"
#include "bench.hpp"

using namespace violet;

static long allocations = 0;

// Not inlined: g++ would take malloc and delete for a mismatched pair.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace {

// What Chrome 126 asks of a page that it has been at before.
constexpr std::string_view kBrowser =
    "GET /assets/index.html?from=mail&page=2 HTTP/1.1\r\n"
    "Host: www.example.org\r\n"
    "Connection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, "
    "like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,"
    "image/webp,image/apng,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-User: ?1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://www.example.org/assets/\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: session=0f9a8b7c6d5e4f3a2b1c; theme=dark; seen=1718000000\r\n"
    "If-None-Match: \"5f1a-61b0c2d4e8f00\"\r\n"
    "\r\n";

constexpr std::string_view kSmall =
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

volatile std::size_t sink;

/// Reads that request and one with another host by turns, since a parser knows
/// the last one.
void parse(std::string_view text, std::size_t step, long count) {
  std::string other(text);
  ++other.at(other.find("Host: ") + 6);
  http::RequestParser parser;
  std::size_t sum = 0;
  for (long i = 0; i < count; ++i) {
    const std::string_view one = i % 2 == 0 ? text : std::string_view(other);
    for (std::size_t at = 0; at < one.size(); at += step) {
      parser.feed(one.substr(at, step));
    }
    sum += parser.head().fields.size() + parser.head().method.size();
    parser.next();
  }
  sink = sum;
}

void parse_again(std::string_view text, long count) {
  http::RequestParser parser;
  std::size_t sum = 0;
  for (long i = 0; i < count; ++i) {
    parser.feed(text);
    sum += parser.head().fields.size();
    parser.next();
  }
  sink = sum;
}

/// How often memory is asked for in `count` requests, after a first one.
long allocations_of(std::string_view text, long count) {
  http::RequestParser parser;
  long before = 0;
  for (long i = 0; i <= count; ++i) {
    parser.feed(i % 2 == 0 ? text : kSmall);
    parser.next();
    if (i == 0) before = allocations;
  }
  return allocations - before;
}

void copy(std::string_view text, long count) {
  static char to[4096];
  for (long i = 0; i < count; ++i) {
    std::memcpy(to, text.data(), text.size());
    asm volatile("" : : "r"(to) : "memory");
  }
}

void find_lines(std::string_view text, long count) {
  std::size_t lines = 0;
  for (long i = 0; i < count; ++i) {
    const char* p = text.data();
    const char* const end = p + text.size();
    while (const void* at =
               std::memchr(p, '\n', static_cast<std::size_t>(end - p))) {
      p = static_cast<const char*>(at) + 1;
      ++lines;
    }
  }
  sink = lines;
}

void write_head(long count) {
  std::string out;
  for (long i = 0; i < count; ++i) {
    out.clear();
    http::HeadWriter head(out);
    head.response(200)
        .field("Content-Type", "text/plain; charset=utf-8")
        .field("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .length(12);
    if (head.finish() != nullptr) return;
    sink = out.size();
  }
}

void decode_chunks(std::string_view body, long count) {
  std::size_t sum = 0;
  for (long i = 0; i < count; ++i) {
    http::BodyDecoder decoder({http::BodyKind::kChunked, 0});
    std::string_view rest = body;
    while (!decoder.done()) sum += decoder.next(rest).size();
  }
  sink = sum;
}

}  // namespace

int main() {
  std::printf("a browser's request: %zu bytes, a small one: %zu\n",
              kBrowser.size(), kSmall.size());
  bench("memcpy of a browser's request", 1'000,
        [](long n) { copy(kBrowser, n); });
  bench("memchr for each of its lines", 1'000,
        [](long n) { find_lines(kBrowser, n); });
  bench("parse it", 1'000, [](long n) { parse(kBrowser, kBrowser.size(), n); });
  bench("parse it, cut in 100 bytes each", 500,
        [](long n) { parse(kBrowser, 100, n); });
  bench("parse it byte by byte", 500, [](long n) { parse(kBrowser, 1, n); });
  bench("parse a small one", 1'000,
        [](long n) { parse(kSmall, kSmall.size(), n); });
  bench("a browser's again, with nothing changed", 1'000,
        [](long n) { parse_again(kBrowser, n); });
  bench("write the head of a response", 1'000, write_head);

  std::printf("%-58s %8ld\n", "allocations in 1000 more of a browser's",
              allocations_of(kBrowser, 1000));

  std::string body;
  http::ChunkEncoder chunks;
  const std::string piece(16 * 1024, 'x');
  for (int i = 0; i < 16; ++i)
    body.append(chunks.before(piece.size())) += piece;
  body += chunks.last();
  bench("decode 16 chunks of 16 KiB", 500,
        [&](long n) { decode_chunks(body, n); });
  bench("a Range of three, evaluated", 1'000, [](long n) {
    for (long i = 0; i < n; ++i) {
      sink = http::parse_ranges("bytes=0-99, 500-599, -100", 10'000).count;
    }
  });
}
