// http_server_test.cpp - requests on a connection, one after the other.
//
// Server and clients are jobs of one loop, over real sockets and in virtual
// time, so that limits of time are tried without waiting for them.
// SPDX-License-Identifier: MIT
#include "../net/http/server.hpp"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "http_support.hpp"
#include "sockets.hpp"

using namespace sockets;
using namespace std::string_view_literals;

namespace {

/// What fails a run of the kit: it must throw.
void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// A server, and what it did.
struct Site {
  http::Router router;
  http::Options options;
  Address address;
  ServerSummary summary;
  std::string log;
  int called = 0;  // handlers

  /// Runs a scenario beside it. Nothing of both is left.
  template <class Scenario>
  void run(Scenario scenario) {
    const MaybeShortIo io;
    log = errors_of([&] { testing::play(body(scenario)); });
  }

  template <class Scenario>
  Task<> body(Scenario& scenario) {
    Listener listener("127.0.0.1", 0);
    address = listener.address();
    auto serves = [this](Listener own) -> Task<ServerSummary> {
      return http::serve(std::move(own), router, options);
    };
    auto server = spawn(serves, std::move(listener));
    co_await scenario(*this);
    Loop::current().stop();
    summary = co_await join(server);
  }

  /// Notes that it was called.
  template <class F>
  auto counted(F handler) {
    return [this, handler](http::Exchange& x) {
      ++called;
      return handler(x);
    };
  }
};

Task<> hello(http::Exchange& x) {
  co_await x.send(200, "text/plain", "Hello\n");
}

/// Sends back the body as it comes.
Task<> echo_body(http::Exchange& x) {
  x.start(200);
  while (true) {
    const std::string_view piece = co_await x.read();
    if (piece.empty()) break;
    co_await x.write(piece);
  }
}

/// Sends back the body once it is there.
Task<> repeat(http::Exchange& x) {
  const std::string body = co_await x.read_all(1000);
  co_await x.send(200, "text/plain", body);
}

/// So many bytes, or fewer where they come one by one.
std::size_t scaled(std::size_t size) {
  return MaybeShortIo::wanted() ? size / 20 : size;
}

/// A response without what differs each second.
std::string plain(std::string text) {
  for (std::size_t at = 0; (at = text.find("Date: ", at)) != text.npos;) {
    text.erase(at, text.find("\r\n", at) + 2 - at);
  }
  return text;
}

/// All that a server answers to a text, up to the end of the connection.
/// `half`: the client ends its side first.
Task<std::string> ask(Address address, std::string text, bool half = true) {
  Connection conn = co_await connect(address);
  std::error_code code;
  co_await conn.sendall(text, code);
  if (half && !code) conn.shutdown(Half::kSending);
  std::string reply;
  for (;;) {  // up to a reset, if that is what a broken response ends with
    const Chunk chunk = co_await conn.recv(code);
    if (!chunk) co_return plain(reply);
    reply += chunk.view();
  }
}

std::string get(std::string_view target, std::string_view fields = {}) {
  return concat({"GET ", target, " HTTP/1.1\r\nHost: h\r\n", fields, "\r\n"});
}

std::string text_response(std::string_view body,
                          std::string_view type = "text/plain") {
  return concat({"HTTP/1.1 200 OK\r\nContent-Type: ", type,
                 "\r\nContent-Length: ", body.size(), "\r\n\r\n", body});
}

const std::string kHello = text_response("Hello\n");

/// The status of each response in a text, and "..." for the rest of the last
/// one if the text does not end with it.
std::string statuses(std::string_view text, bool heads = false) {
  std::string all;
  http::ResponseParser parser;
  while (!text.empty()) {
    text.remove_prefix(parser.feed(text));
    if (!parser.done()) return all + "?";
    all += std::to_string(parser.head().status);
    if (parser.head().fields.has_word("Connection", "close")) all += " close";
    http::BodyDecoder body(
        http::body_of(parser.head(), heads ? "HEAD" : "GET"));
    while (!body.done() && !text.empty()) (void)body.next(text);
    if (!body.done()) body.end();
    all += body.done() ? "; " : "...; ";
    parser.next();
  }
  return all;
}

}  // namespace

// -------------------------------------------------------------------- requests

TEST_CASE("http server: a request is answered, and the next one", "[http]") {
  Site site;
  site.router.get("/", hello);
  site.run([](Site& s) -> Task<> {
    Connection conn = co_await connect(s.address);
    for (int i = 0; i < 3; ++i) {
      co_await conn.sendall(get("/"));
      const std::string head = co_await receive(conn, kHello.size() + 37);
      CHECK(plain(head) == kHello);
    }
    const std::string last =
        co_await ask(s.address, get("/", "Connection: close\r\n"), false);
    CHECK(statuses(last) == "200 close; ");
  });
  CHECK(site.summary.served == 2);
  CHECK(site.log == "");
}

TEST_CASE("http server: pipelined requests are answered in order", "[http]") {
  Site site;
  site.router.get("/{n}", [](http::Exchange& x) -> Task<> {
    if (x.parameter("n") == "slow") co_await violet::sleep(500ms);
    co_await x.send(200, "text/plain", x.parameter("n"));
  });
  site.router.put("/", repeat);
  site.run([](Site& s) -> Task<> {
    const std::string all =
        get("/1") + get("/slow") +
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" +
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nchu\r\n3\r\nnks\r\n0\r\n\r\n" +
        get("/2");
    const std::string expected = text_response("1") + text_response("slow") +
                                 text_response("body") +
                                 text_response("chunks") + text_response("2");
    std::string reply = co_await ask(s.address, all);
    CHECK(reply == expected);
    Connection conn = co_await connect(s.address);  // byte by byte
    for (const char& byte : all) {
      co_await conn.sendall(std::string_view(&byte, 1));
      if (s.options.log == Log::kNormal) co_await yield_now();
    }
    conn.shutdown(Half::kSending);
    reply = co_await receive_all(conn);
    CHECK(plain(reply) == expected);
  });
}

TEST_CASE("http server: what a handler sees of a request", "[http]") {
  Site site;
  std::string seen;
  site.router.get("/{first}/x/{rest*}", [&seen](http::Exchange& x) -> Task<> {
    seen =
        concat({x.path(), "|", x.parameter("first"), "|", x.parameter("rest"),
                "|", x.query("q").value_or("none"), "|", x.request().host});
    std::string misuse;
    try {
      (void)x.parameter("second");
    } catch (const Misuse& error) {
      misuse = error.what();
    }
    CHECK(misuse.find("has no parameter {second}") != misuse.npos);
    CHECK(x.peer().text().find("127.0.0.1:") == 0);
    co_await x.send(200, {}, {});
  });
  site.run([&seen](Site& s) -> Task<> {
    co_await ask(s.address, get("/a%20b//x/c/%C3%B6?q=1+2"));
    CHECK(seen == "/a b/x/c/\xc3\xb6|a b|c/\xc3\xb6|1 2|h");
    co_await ask(s.address, get("http://other:1/a/x/"));
    CHECK(seen == "/a/x/|a||none|other:1");
  });
}

// --------------------------------------------------------------------- routing

TEST_CASE("http server: the best pattern answers, whatever their order",
          "[http]") {
  Site site;
  const auto says = [](const char* text) {
    return [text](http::Exchange& x) -> Task<> {
      co_await x.send(200, "t/t", text);
    };
  };
  site.router.get("/{all*}", says("all"))
      .get("/{one}", says("one"))
      .get("/a", says("a"))
      .get("/a/", says("folder"))
      .get("/a/{one}/c", says("a one c"))
      .get("/a/{rest*}", says("a rest"))
      .get("/", says("root"))
      .put("/{all*}", says("put"));
  site.run([](Site& s) -> Task<> {
    const std::pair<const char*, const char*> cases[] = {
        {"/", "root"},        {"/a", "a"},        {"/a/", "folder"},
        {"/b", "one"},        {"/b/", "all"},     {"/a/b/c", "a one c"},
        {"/a/b/d", "a rest"}, {"/a/b", "a rest"}, {"//", "root"},
        {"/b/c", "all"},      {"/%61", "a"}};
    for (const auto& [target, text] : cases) {
      CAPTURE(target);
      const std::string reply = co_await ask(s.address, get(target));
      CHECK(reply == text_response(text, "t/t"));
    }
    const std::string reply = co_await ask(
        s.address, "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    CHECK(reply == text_response("put", "t/t"));
  });
}

TEST_CASE("http server: what is asked again is answered as before", "[http]") {
  const auto tell = [](const char* who) {
    return [who](http::Exchange& x) {
      const std::string_view given = x.parameter("name");
      x.reply(200, {}, concat({who, " ", x.path(), " ", given, "! "}));
    };
  };
  http::Router inner;
  inner.get("/inner/{name}", tell("inner"));
  Site site;
  site.router.get("/{name}", tell("first"))
      .get("/a/{name}", tell("second"))
      .get("/inner/{name*}", [&](http::Exchange& x) -> Task<> {
        std::optional<Task<>> rest = inner.answer(x);
        if (rest) co_await std::move(*rest);
      });
  site.run([](Site& s) -> Task<> {
    std::string all;
    for (const char* path :
         {"/x", "/x", "/x", "/a/x", "/a/x", "/y", "/inner/x", "/inner/x",
          "/inner/x", "/none/x", "/none/x", "/x", "/%78", "/%78"}) {
      all += get(path);
    }
    const std::string replies = co_await ask(s.address, all);
    std::string said;
    http::Pieces lines(replies, '\n');
    for (std::string_view line; lines.next(line);) {
      const auto end = line.find('!');
      if (end != line.npos) said += concat({line.substr(0, end), "; "});
      if (line.starts_with("404 ")) said += "404; ";
    }
    CHECK(said ==
          "first /x x; first /x x; first /x x; second /a/x x; second /a/x x; "
          "first /y y; inner /inner/x x; inner /inner/x x; inner /inner/x x; "
          "404; 404; first /x x; first /x x; first /x x; ");
  });
}

TEST_CASE("http server: a router that changes answers by its new routes",
          "[http]") {
  Site site;
  http::Router& router = site.router;
  const auto tell = [](const char* what) {
    return [what](http::Exchange& x) { x.reply(200, {}, what); };
  };
  http::Router spare;
  spare.get("/swap", tell("(swapped)"));
  router.get("/swap", [&](http::Exchange& x) {
    x.reply(200, {}, "(here)");
    router.swap(spare);
  });
  spare.get("/{path*}", [&](http::Exchange& x) {
    x.reply(200, {}, "(any)");
    router.get("/new", tell("(new)"));
  });
  site.run([&](Site& s) -> Task<> {
    std::string reply =
        co_await ask(s.address, get("/swap") + get("/swap") + get("/swap") +
                                    get("/new") + get("/new") + get("/new"));
    std::string said;
    for (auto at = reply.find('('); at != reply.npos;
         at = reply.find('(', at + 1)) {
      said += reply.substr(at, reply.find(')', at) + 1 - at);
    }
    CHECK(said == "(here)(swapped)(swapped)(any)(new)(new)");
  });
}

TEST_CASE("http server: a pattern that is none is refused", "[http]") {
  http::Router router;
  router.get("/{a}/b", hello);
  const auto misuse = [&](std::string_view method, std::string_view pattern) {
    try {
      router.add(method, pattern, hello);
    } catch (const Misuse& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(contains(misuse("GET", "a"), "begins with no slash"));
  CHECK(contains(misuse("GET", "/a{b}"), "has a brace"));
  CHECK(contains(misuse("GET", "/{}"), "has a brace"));
  CHECK(contains(misuse("GET", "/{a*}/b"), "goes on after"));
  CHECK(contains(misuse("GE T", "/"), "is no method"));
  CHECK(contains(misuse("GET", "/{a}/b"), "already"));
  CHECK(contains(misuse("GET", "/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}"),
                 "more than eight"));
  CHECK(misuse("PUT", "/{a}/b") == "");
}

TEST_CASE("http server: methods that nobody gave a handler", "[http]") {
  Site site;
  site.router.get("/a", hello).put("/a", hello).post("/b", hello);
  site.run([](Site& s) -> Task<> {
    const auto of = [&s](std::string_view line) {
      return ask(s.address, concat({line, " HTTP/1.1\r\nHost: h\r\n\r\n"}));
    };
    std::string reply = co_await of("HEAD /a");
    CHECK(reply == kHello.substr(0, kHello.size() - 6));
    reply = co_await of("OPTIONS /a");
    CHECK(reply ==
          "HTTP/1.1 204 No Content\r\n"
          "Allow: GET, HEAD, PUT, OPTIONS\r\n\r\n");
    reply = co_await of("OPTIONS *");
    CHECK(contains(reply, "Allow: GET, HEAD, PUT, POST, OPTIONS\r\n"));
    reply = co_await of("DELETE /a");
    CHECK(contains(reply, "HTTP/1.1 405 Method Not Allowed\r\n"));
    CHECK(contains(reply, "Allow: GET, HEAD, PUT, OPTIONS\r\n"));
    reply = co_await of("GET /b");
    CHECK(contains(reply, "Allow: POST, OPTIONS\r\n"));
    reply = co_await of("HEAD /b");
    CHECK(contains(reply, "405"));
    CHECK(reply.ends_with("\r\n\r\n"));
    reply = co_await of("GET /c");
    CHECK(statuses(reply) == "404; ");
    reply = co_await of("BREW /a");
    CHECK(statuses(reply) == "501; ");
    reply = co_await of("CONNECT h:80");
    CHECK(statuses(reply) == "501; ");
  });
}

// ------------------------------------------------------------- what is refused

TEST_CASE("http server: each fault has its status, and nothing follows it",
          "[http]") {
  Site site;
  site.router.add("POST", "/", site.counted(echo_body));
  site.router.get("/after", site.counted(hello));
  struct Case {
    const char* status;
    std::string request;
  };
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";
  const Case heads[] = {
      {"400", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"400", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"},
      {"400", post + "Content-Length: 3, 3\r\n\r\n"},
      {"400", post + "Content-Length: +3\r\n\r\n"},
      {"400", post + "Content-Length: -1\r\n\r\n"},
      {"400", post + "Content-Length: 0x3\r\n\r\n"},
      {"400", post + "Content-Length : 3\r\n\r\n"},
      {"400", post + "Transfer-Encoding : chunked\r\n\r\n"},
      {"400", post + "Transfer-Encoding: chunked, chunked\r\n\r\n"},
      {"400", post + "Transfer-Encoding: chunked\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n"},
      {"400", post + "Transfer-Encoding: identity\r\n\r\n"},
      {"501", post + "Transfer-Encoding: gzip, chunked\r\n\r\n"},
      {"400", post + "X: a\r\n b\r\n\r\n"},
      {"400", post + "X: a\n\r\n"},
      {"400", "POST / HTTP/1.1\nHost: h\n\n"},
      {"400", post + "X: a\rb\r\n\r\n"},
      {"400", post + std::string("X: a\0b\r\n\r\n", 10)},
      {"400", post + "X\r\n\r\n"},
      {"400", post + ": x\r\n\r\n"},
      {"400", "POST / HTTP/1.1\r\n Host: h\r\n\r\n"},
      {"400", "POST  / HTTP/1.1\r\nHost: h\r\n\r\n"},
      {"400", "POST / HTTP/1.1 \r\nHost: h\r\n\r\n"},
      {"400", "POST / HTTP/1.1\r\n\r\n"},
      {"400", "POST / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"},
      {"400", "POST / HTTP/1.1\r\nHost: a b\r\n\r\n"},
      {"400", "POST /a b HTTP/1.1\r\nHost: h\r\n\r\n"},
      {"400", "POST / http/1.1\r\nHost: h\r\n\r\n"},
      {"400", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"505", "POST / HTTP/2.0\r\nHost: h\r\n\r\n"},
      {"417", post + "Expect: the best\r\n\r\n"},
      {"414", "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n\r\n"},
      {"431", post + "X: " + std::string(9000, 'a') + "\r\n\r\n"},
      {"431", post +
                  [] {
                    std::string many;
                    for (int i = 0; i < 101; ++i) many += "X: y\r\n";
                    return many;
                  }()},
      {"400", "GET /%2e%2e/ HTTP/1.1\r\nHost: h\r\n\r\n"},
      {"400", "GET /a%2Fb HTTP/1.1\r\nHost: h\r\n\r\n"},
      {"400", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"},
      {"413", post + "Content-Length: 99999999999999999999\r\n\r\n"},
      {"413", post + "Content-Length: 2001\r\n\r\n"},
  };
  site.options.body.body = 2000;
  site.run([&](Site& s) -> Task<> {
    for (const Case& one : heads) {
      CAPTURE(one.request.substr(0, 200));
      const std::string reply =
          co_await ask(s.address, one.request + get("/after"), false);
      CHECK(statuses(reply) == std::string(one.status) + " close; ");
    }
    CHECK(s.called == 0);

    // The response to these has begun: it is cut, and nothing else comes.
    const char* const bodies[] = {"x\r\n",
                                  "-1\r\n",
                                  "3\nabc\r\n0\r\n\r\n",
                                  "3\r\nabcd\r\n0\r\n",
                                  " 3\r\nabc",
                                  "3 x\r\n",
                                  "0x3\r\nabc\r\n",
                                  "\r\n",
                                  "3\r\nabc\n",
                                  "ffffffffffffffff1\r\n",
                                  "8000000000000000\r\n",
                                  "3\r\nabc\r\n0\r\nX: y\n\r\n"};
    for (const char* const body : bodies) {
      CAPTURE(body);
      const std::string reply =
          co_await ask(s.address, chunked + body + get("/after"), false);
      CHECK(statuses(reply).find(';') == statuses(reply).rfind(';'));
      CHECK_FALSE(contains(reply, "Hello"));
      CHECK_FALSE(contains(reply, "\r\n0\r\n\r\n"));
    }
    CHECK(s.called == static_cast<int>(std::size(bodies)));
  });
}

TEST_CASE("http server: who speaks TLS hears at once that nobody else does",
          "[http]") {
  Site site;
  site.router.get("/", hello);
  site.run([](Site& s) -> Task<> {
    const auto begin = Loop::current().now();
    const std::string reply = co_await ask(s.address, "\x16\x03\x01", false);
    CHECK(statuses(reply) == "400 close; ");
    CHECK(Loop::current().now() - begin < s.options.head_time);
  });
}

TEST_CASE("http server: a body that is broken or too long is refused",
          "[http]") {
  Site site;
  site.options.body.body = 1500;
  site.router.post("/", repeat);
  site.router.put("/", [](http::Exchange& x) -> Task<> {
    const http::Fault fault = http::check_length_given(x.request());
    if (fault != http::Fault::kNone) {
      throw http::Error(http::status_of(fault), http::text_of(fault));
    }
    co_await x.send(200, {}, {});
  });
  site.run([](Site& s) -> Task<> {
    const std::string chunked =
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    std::string reply = co_await ask(s.address, chunked + "3\r\nabcd", false);
    CHECK(statuses(reply) == "400 close; ");
    reply = co_await ask(s.address, chunked + "600\r\n", false);
    CHECK(statuses(reply) == "413 close; ");
    const std::string much(1200, 'a');
    reply = co_await ask(s.address, chunked + "4b0\r\n" + much, false);
    CHECK(statuses(reply) == "413 close; ");
    reply = co_await ask(s.address,
                         "POST / HTTP/1.1\r\nHost: h\r\n"
                         "Content-Length: 1200\r\n\r\n" +
                             much);
    CHECK(statuses(reply) == "413; ");  // it was read and dropped
    reply = co_await ask(s.address,
                         "POST / HTTP/1.1\r\nHost: h\r\n"
                         "Content-Length: 5\r\n\r\nabc");
    CHECK(statuses(reply) == "400 close; ");
    reply = co_await ask(s.address, "PUT / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(statuses(reply) == "411; ");
  });
  CHECK(site.log == "");
}

// ---------------------------------------------------------------------- bodies

TEST_CASE("http server: a client that waits is told to go on", "[http]") {
  Site site;
  site.router.put("/", repeat);
  site.router.post("/", echo_body);
  site.router.put("/no", hello);
  site.run([](Site& s) -> Task<> {
    const std::string fields =
        " HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
        "Content-Length: 4\r\n\r\n";
    Connection conn = co_await connect(s.address);
    co_await conn.sendall("PUT /" + fields);
    std::string reply = co_await receive(conn, 25);
    CHECK(reply == "HTTP/1.1 100 Continue\r\n\r\n");
    co_await conn.sendall("body");
    conn.shutdown(Half::kSending);
    reply = co_await receive_all(conn);
    CHECK(plain(reply) == text_response("body"));

    // Also where the response begins before the body is read.
    Connection early = co_await connect(s.address);
    co_await early.sendall("POST /" + fields);
    reply = co_await receive(early, 25);
    CHECK(reply == "HTTP/1.1 100 Continue\r\n\r\n");
    co_await early.sendall("body");
    reply = co_await receive_all(early);
    CHECK((contains(reply, "\r\n\r\n4\r\nbody\r\n0\r\n\r\n") ||
           MaybeShortIo::wanted()));  // in smaller chunks, then

    // Who has sent it already need not be told.
    reply = co_await ask(s.address, "PUT /" + fields + "body");
    CHECK((reply == text_response("body") ||
           MaybeShortIo::wanted()));  // it may not have come yet

    // Who is refused is not told, and may not be taken at the word.
    reply = co_await ask(s.address, "PUT /no" + fields, false);
    CHECK(statuses(reply) == "200 close; ");
    reply = co_await ask(s.address, "PUT /nowhere" + fields, false);
    CHECK(statuses(reply) == "404 close; ");
  });
}

TEST_CASE("http server: a body that nobody reads is dropped, or ends it all",
          "[http]") {
  Site site;
  site.router.put("/", hello);
  site.options.unwanted = 1000;
  site.run([](Site& s) -> Task<> {
    const auto put = [](std::size_t size) {
      return concat({"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: ", size,
                     "\r\n\r\n", std::string(size, 'x')});
    };
    std::string reply = co_await ask(s.address, put(1000) + put(10));
    CHECK(statuses(reply) == "200; 200; ");
    reply = co_await ask(s.address, put(1001) + put(10), false);
    CHECK(statuses(reply) == "200 close; ");
    // The answer arrives, though its client is still busy sending.
    reply = co_await ask(s.address, put(scaled(4 << 20)), false);
    CHECK(statuses(reply) == "200 close; ");
  });
}

TEST_CASE("http server: bodies are streams in both directions", "[http]") {
  Site site;
  site.router.post("/", echo_body);
  const std::string text = random_bytes(scaled(300'000));
  site.run([&text](Site& s) -> Task<> {
    for (const bool chunked : {false, true}) {
      Stream conn(co_await connect(s.address));
      auto send = [&]() -> Task<> {
        const http::Framing framing{
            chunked ? http::BodyKind::kChunked : http::BodyKind::kLength,
            text.size()};
        std::string head;
        http::HeadWriter writer(head);
        writer.request("POST", "/").field("Host", "h");
        if (chunked) {
          writer.chunked();
        } else {
          writer.length(text.size());
        }
        REQUIRE(writer.finish() == nullptr);
        co_await conn.write(head);
        http::BodyWriter body(conn, framing);
        for (const auto piece : support::cut_each(text, 7000)) {
          co_await body.write(piece);
        }
        co_await body.finish();
        co_await conn.flush();
      };
      auto sender = spawn(send);
      http::ResponseParser parser;
      co_await http::read_head(conn, parser);
      CHECK(parser.head().chunked);
      http::BodyReader body(conn, http::body_of(parser.head(), "POST"));
      const std::string all = co_await body.read_all(text.size());
      CHECK(all == text);
      co_await join(sender);
    }
  });
}

TEST_CASE("http server: 1.0 gets no chunks, and keeps alive if it asks to",
          "[http]") {
  Site site;
  site.router.get("/", hello);
  site.router.post("/", echo_body);
  site.run([](Site& s) -> Task<> {
    std::string reply = co_await ask(
        s.address, "POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody", false);
    CHECK(reply == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody");
    const std::string keep = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    reply = co_await ask(s.address, keep + "GET / HTTP/1.0\r\n\r\n", false);
    CHECK(statuses(reply) == "200; 200 close; ");
    CHECK(contains(reply, "Connection: keep-alive\r\n"));
  });
}

// -------------------------------------------------------------------- handlers

TEST_CASE("http server: what a handler throws concerns its client only",
          "[http]") {
  Site site;
  site.router.get("/", hello)
      .get("/breaks",
           [](http::Exchange&) -> Task<> {
             co_await yield_now();
             throw std::runtime_error("out of paper");
           })
      .get("/says",
           [](http::Exchange& x) -> Task<> {
             x.field("X", "dropped");
             co_await yield_now();
             throw http::Error(507, "the disk is full");
           })
      .get("/late",
           [](http::Exchange& x) -> Task<> {
             x.start(200);
             co_await x.write("some");
             co_await x.flush();
             throw std::runtime_error("out of ink");
           })
      .get("/short",
           [](http::Exchange& x) -> Task<> {
             x.start(200, 10);
             co_await x.write("some");
           })
      .get("/mute", [](http::Exchange&) -> Task<> { co_return; });
  site.run([](Site& s) -> Task<> {
    std::string reply = co_await ask(s.address, get("/breaks") + get("/"));
    CHECK(statuses(reply) == "500; 200; ");
    CHECK_FALSE(contains(reply, "paper"));
    reply = co_await ask(s.address, get("/says") + get("/"));
    CHECK(statuses(reply) == "507; 200; ");
    CHECK(contains(reply, "\r\n\r\nthe disk is full\n"));
    CHECK_FALSE(contains(reply, "X:"));
    reply = co_await ask(s.address, get("/late") + get("/"));
    // Short reads may leave that to a reset, which drops what has come.
    CHECK((statuses(reply) == "200...; " || MaybeShortIo::wanted()));
    reply = co_await ask(s.address, get("/short") + get("/"));
    CHECK_FALSE(contains(reply, "Hello"));
    reply = co_await ask(s.address, get("/mute") + get("/"));
    CHECK(statuses(reply) == "500; 200; ");
  });
  CHECK(contains(site.log, "GET /breaks: out of paper\n"));
  CHECK(contains(site.log, ": GET /late: out of ink\n"));
  CHECK(contains(site.log,
                 ": GET /short: violet: a body of 10 bytes was begun,"
                 " and ends after 4"));
}

TEST_CASE("http server: what another server does wrong is no client's fault",
          "[http]") {
  Site site;
  site.router.get("/{what}", [](http::Exchange& x) -> Task<> {
    const std::string what(x.parameter("what"));
    co_await yield_now();
    if (what == "reset") throw_system(ECONNRESET, "recv of another server");
    if (what == "long") throw LimitExceeded("read_all of another server", 5);
    if (what == "odd") throw http::Error(42, "no status");
    throw std::system_error(make_error_code(http::Fault::kBadVersion), what);
  });
  site.run([](Site& s) -> Task<> {
    for (const char* what : {"/reset", "/long", "/odd", "/fault"}) {
      CAPTURE(what);
      const std::string reply = co_await ask(s.address, get(what));
      CHECK(statuses(reply) == "500; ");
    }
  });
  CHECK(contains(site.log, "GET /reset: recv of another server: "));
  CHECK(contains(site.log, "GET /long: read_all of another server, limit 5"));
  CHECK(contains(site.log, "GET /odd: no status\n"));
  CHECK(contains(site.log, "GET /fault: fault: "));
}

TEST_CASE("http server: what a client has chosen forges no line of the log",
          "[http]") {
  Site site;
  site.router.get("/{name}", [](http::Exchange&) -> Task<> {
    co_await yield_now();
    throw std::runtime_error("out of paper");
  });
  site.run([](Site& s) -> Task<> {
    const std::string reply =
        co_await ask(s.address, get("/a%0Aviolet:%20all%20is%20well%1B[2J"));
    CHECK(statuses(reply) == "500; ");
  });
  CHECK(contains(site.log, ": GET /a?violet: all is well?[2J: out of paper\n"));
  CHECK(std::count(site.log.begin(), site.log.end(), '\n') == 1);
}

TEST_CASE("http server: a handler that is no coroutine may throw as others do",
          "[http]") {
  Site site;
  site.router.get("/{name}", [](http::Exchange& x) -> Task<> {
    if (x.parameter("name") != "here") throw http::Error(410, "it was here");
    return hello(x);
  });
  site.run([](Site& s) -> Task<> {
    const std::string reply =
        co_await ask(s.address, get("/there") + get("/here"));
    CHECK(statuses(reply) == "410; 200; ");
    CHECK(contains(reply, "\r\n\r\nit was here\n"));
  });
  CHECK(site.log == "");
}

TEST_CASE("http server: what waits for nothing may be a plain function",
          "[http]") {
  Site site;
  const std::string long_text(100'000, 'x');
  site.router
      .get("/", [](http::Exchange& x) { x.reply(200, "text/plain", "Here\n"); })
      .post("/", [](http::Exchange& x) { x.reply(201, {}, "unread"); })
      .get("/long",
           [&](http::Exchange& x) { x.reply(200, "text/plain", long_text); })
      .get("/mute", [](http::Exchange&) {})
      .get("/odd", [](http::Exchange& x) { x.reply(299, {}, "no reason"); })
      .get("/says", [](http::Exchange&) { throw http::Error(410, "gone"); })
      .get("/torn",
           [](http::Exchange& x) {
             x.reply(200, {}, "never seen");
             throw std::runtime_error("out of ink");
           })
      .get("/twice",
           [](http::Exchange& x) {
             x.reply(200, {}, "one");
             CHECK_THROWS_AS(x.reply(200, {}, "two"), Misuse);
           })
      .get("/later", [](http::Exchange& x) -> Task<> {
        x.field("X", "y").reply(203, "text/plain", "as it returns");
        co_await yield_now();
      });
  site.run([&](Site& s) -> Task<> {
    std::string reply = co_await ask(
        s.address, get("/") + get("/mute") + get("/says") + get("/"));
    CHECK(statuses(reply) == "200; 500; 410; 200; ");
    CHECK(contains(reply, "\r\n\r\nHere\n"));
    reply = co_await ask(s.address, get("/odd") + get("/odd"));
    CHECK(statuses(reply) == "299; 299; ");
    reply = co_await ask(s.address, get("/later") + get("/twice") + get("/"));
    CHECK(statuses(reply) == "203; 200; 200; ");
    CHECK(contains(reply, "\r\nX: y\r\n"));
    CHECK(contains(reply, "\r\n\r\nas it returns"));
    reply = co_await ask(s.address,
                         "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + get("/later"));
    CHECK_FALSE(contains(reply, "Here"));
    CHECK(contains(reply, "\r\nContent-Length: 5\r\n"));
    CHECK(contains(reply, "as it returns"));
    reply = co_await ask(s.address, get("/long"));
    CHECK(contains(reply, "\r\n\r\n" + long_text));
    // A body that nobody reads comes after the answer, or not at all.
    reply = co_await ask(
        s.address,
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" +
            get("/"));
    CHECK(statuses(reply) == "201; 200; ");
    reply = co_await ask(s.address, get("/torn"));
    CHECK(reply == "");
  });
  CHECK(contains(site.log, ": GET /torn: out of ink\n"));
}

TEST_CASE("http server: a text that nobody awaited ends the connection",
          "[http]") {
  Site site;
  const std::string large(20'000, 'B');
  site.router.get("/", hello)
      .get("/sent",
           [&](http::Exchange& x) {
             const auto dropped = x.send(200, "text/plain", large);
             (void)dropped;
           })
      .get("/written",
           [&](http::Exchange& x) -> Task<> {
             x.start(200);
             const auto dropped = x.write(large);
             (void)dropped;
             co_await x.flush();
           })
      .get("/small", [](http::Exchange& x) {
        const auto dropped = x.send(200, "text/plain", "went out all the same");
        (void)dropped;
      });
  site.run([&](Site& s) -> Task<> {
    std::string reply = co_await ask(s.address, get("/sent") + get("/"));
    CHECK_FALSE(contains(reply, "Hello"));
    reply = co_await ask(s.address, get("/written") + get("/"));
    CHECK_FALSE(contains(reply, "Hello"));
    reply = co_await ask(s.address, get("/small") + get("/"));
    CHECK(statuses(reply) == "200; 200; ");
  });
  CHECK(contains(site.log,
                 ": GET /sent: violet: the response was not sent: "
                 "co_await what"));
  CHECK(contains(site.log, ": GET /written: violet: the response was not"));
}

TEST_CASE("http server: a response that cannot be is a mistake", "[http]") {
  Site site;
  std::vector<std::string> misuses;
  site.router.get("/", [&](http::Exchange& x) -> Task<> {
    const auto try_to = [&](auto action) {
      try {
        action();
      } catch (const Misuse& error) {
        misuses.emplace_back(error.what());
      }
    };
    try_to([&] { x.field("Content-Length", "3"); });
    try_to([&] { x.field("Transfer-Encoding", "chunked"); });
    try_to([&] { x.field("Connection", "close"); });
    try_to([&] { x.field("X", "a\r\nSet-Cookie: b"); });
    try_to([&] { x.field("X y", "a"); });
    try_to([&] { x.start(100); });
    x.field("X", "good").field("N", 7);
    co_await x.send(200, {}, "text");
    try_to([&] { x.field("X", "late"); });
    try_to([&] { x.start(200); });
  });
  site.run([&](Site& s) -> Task<> {
    const std::string reply = co_await ask(s.address, get("/"));
    CHECK(reply ==
          "HTTP/1.1 200 OK\r\nX: good\r\nN: 7\r\n"
          "Content-Length: 4\r\n\r\ntext");
  });
  REQUIRE(misuses.size() == 8);
  CHECK(contains(misuses[0], "the server itself writes Content-Length"));
  CHECK(contains(misuses[3], "cannot be sent"));
  CHECK(contains(misuses[5], "100 is no status"));
  CHECK(contains(misuses[6], "the response has begun"));
  CHECK(contains(misuses[7], "has begun already"));
}

TEST_CASE("http server: a large response goes out in pieces of any size",
          "[http]") {
  Site site;
  const std::string text = random_bytes(scaled(200'000));
  site.router.get("/{size}", [&text](http::Exchange& x) -> Task<> {
    const auto size = http::parse_number(x.parameter("size")).value_or(0);
    if (size == 0) co_return co_await x.send(200, {}, text);
    x.start(200, text.size());
    const auto each = static_cast<std::size_t>(size);
    for (const auto piece : support::cut_each(text, each)) {
      co_await x.write(piece);
    }
  });
  site.run([&text](Site& s) -> Task<> {
    for (const char* const size : {"/0", "/1", "/9999", "/16384", "/70000"}) {
      const std::string reply = co_await ask(s.address, get(size));
      CHECK(reply.substr(reply.find("\r\n\r\n") + 4) == text);
    }
  });
}

// ------------------------------------------------------------------------ time

TEST_CASE("http server: who is too slow is told so, or left", "[http]") {
  Site site;
  site.router.put("/", repeat);
  site.options.keep_alive = 60s;
  site.options.head_time = 10s;
  site.options.stall_time = 30s;
  site.run([](Site& s) -> Task<> {
    const auto since = [](TimePoint then) {
      return Loop::current().now() - then;
    };
    TimePoint begin = Loop::current().now();
    std::string reply = co_await ask(s.address, "", false);
    CHECK(reply == "");
    CHECK(since(begin) >= 60s);
    CHECK(since(begin) < 70s);

    begin = Loop::current().now();
    reply = co_await ask(s.address, "PUT / HTTP/1.1\r\nHo", false);
    CHECK(statuses(reply) == "408 close; ");
    CHECK(since(begin) >= 10s);
    CHECK(since(begin) < 13s);

    // A byte now and then does not help a head, but it helps a body.
    const std::string head =
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
    begin = Loop::current().now();
    Connection conn = co_await connect(s.address);
    std::error_code code;
    for (const char& byte : head) {
      co_await conn.sendall(std::string_view(&byte, 1), code);
      co_await violet::sleep(1s);
      if (code) break;
    }
    CHECK(code);
    begin = Loop::current().now();
    Connection slow = co_await connect(s.address);
    co_await slow.sendall(head);
    for (const char* const byte : {"s", "l", "o", "w"}) {
      co_await violet::sleep(20s);
      co_await slow.sendall(byte);
    }
    reply = co_await receive_all(slow);
    CHECK(statuses(plain(reply)) == "408 close; ");
    CHECK(since(begin) >= 110s);
    CHECK(since(begin) < 113s);
  });
}

TEST_CASE("http server: a handler's 408 does not wait for the rest of a body",
          "[http]") {
  Site site;
  site.router.put("/", [](http::Exchange& x) -> Task<> {
    co_await x.read();
    throw http::Error(408, "too slow");
  });
  site.run([](Site& s) -> Task<> {
    const TimePoint begin = Loop::current().now();
    const std::string reply = co_await ask(
        s.address, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
        false);
    CHECK(statuses(reply) == "408 close; ");
    CHECK(Loop::current().now() - begin < 5s);
  });
}

TEST_CASE("http server: a client that never reads is given up", "[http]") {
  if (MaybeShortIo::wanted()) return;  // byte by byte, the buffers are endless
  Site site;
  bool began = false;
  site.router.get("/", [&began](http::Exchange& x) -> Task<> {
    began = true;
    co_await x.send(200, {}, std::string(32 << 20, 'x'));
  });
  site.options.stall_time = 30s;
  site.run([&began](Site& s) -> Task<> {
    Connection conn = co_await connect(s.address);
    co_await conn.sendall(get("/"));
    co_await violet::sleep(20s);
    CHECK(began);
    CHECK(s.summary.served == 0);
    co_await violet::sleep(20s);
    std::error_code code;
    std::size_t came = 0;
    for (;;) {
      const Chunk chunk = co_await conn.recv(code);
      came += chunk.size();
      if (!chunk) break;
    }
    CHECK(came < (32 << 20));
  });
  CHECK(site.log == "");
}

TEST_CASE("http server: slow clients do not stop others", "[http]") {
  Site site;
  site.router.get("/", hello);
  site.run([](Site& s) -> Task<> {
    std::vector<Connection> slow;
    for (int i = 0; i < 50; ++i) {
      slow.push_back(co_await connect(s.address));
      co_await slow.back().sendall("GET / HTTP/1.1\r\nHost: h\r\nX: ");
    }
    const TimePoint begin = Loop::current().now();
    const std::string reply = co_await ask(s.address, get("/"));
    CHECK(reply == kHello);
    CHECK(Loop::current().now() - begin < 1s);
  });
}

// --------------------------------------------------------------------- the end

TEST_CASE("http server: a stop ends who waits, and lets others finish",
          "[http]") {
  Site site;
  site.router.get("/", [](http::Exchange& x) -> Task<> {
    co_await violet::sleep(2s);
    co_await x.send(200, {}, "late");
  });
  site.router.put("/", repeat);
  TimePoint begin;
  site.run([&begin](Site& s) -> Task<> {
    Connection idle = co_await connect(s.address);
    Connection used = co_await connect(s.address);
    co_await used.sendall(
        "PUT / HTTP/1.1\r\nHost: h\r\n"
        "Content-Length: 1\r\n\r\nx");
    co_await receive(used, 10);
    Connection busy = co_await connect(s.address);
    co_await busy.sendall(get("/") + get("/"));
    Connection half = co_await connect(s.address);
    co_await half.sendall(
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue"
        "\r\nContent-Length: 4\r\n\r\n");
    co_await receive(half, 25);
    co_await violet::sleep(1s);
    begin = Loop::current().now();
    Loop::current().stop();
    const std::string nothing = co_await receive_all(idle);
    CHECK(nothing == "");
    co_await receive_all(used);
    CHECK(Loop::current().now() - begin < 1s);
    co_await half.sendall("body");
    std::string reply = co_await receive_all(half);
    CHECK(statuses(plain(reply)) == "200 close; ");
    reply = co_await receive_all(busy);
    CHECK(statuses(plain(reply)) == "200 close; ");
    busy.close();
    half.close();
  });
  CHECK(site.summary.cut == 0);
  CHECK(site.summary.served == 4);
}

// Of what has been sent, megabytes may lie in the system's buffers: room for
// more comes rarely, though the client takes something all the time.
TEST_CASE("http server: who takes little, but takes it, is not given up",
          "[http]") {
  if (MaybeShortIo::wanted()) return;  // then little is on its way
  const std::string body(24 << 20, 'b');
  char path[] = "/tmp/violet_http_test_XXXXXX";
  const Fd file(::mkstemp(path));
  REQUIRE(::ftruncate(file.get(), 24 << 20) == 0);
  Site site;
  site.options.stall_time = 30s;
  site.router.get("/text", [&](http::Exchange& x) -> Task<> {
    co_await x.send(200, "text/plain", body);
  });
  site.router.get("/file", [&](http::Exchange& x) -> Task<> {
    const File opened = co_await open_file(path);
    http::Selected about;
    about.size = body.size();
    co_await x.send_file(opened, about, "text/plain");
  });
  site.run([&](Site& s) -> Task<> {
    for (const char* target : {"/text", "/file"}) {
      CAPTURE(target);
      const Fd client = dial(s.address);
      // A receiver tells of room once a sixteenth of its buffer is free.
      const int buffer = 256 * 1024;
      ::setsockopt(client.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
      REQUIRE(support::put(client.get(), get(target, "Connection: close\r\n")));
      std::size_t got = 0;
      std::vector<char> room(128 * 1024);
      for (int i = 0; i < 30; ++i) {
        co_await violet::sleep(9s);
        const ssize_t some = ::recv(client.get(), room.data(), room.size(), 0);
        if (some > 0) got += static_cast<std::size_t>(some);
      }
      while (got < body.size()) {  // now as fast as it can
        const ssize_t some = ::recv(client.get(), room.data(), room.size(), 0);
        if (some == 0) break;
        if (some > 0) got += static_cast<std::size_t>(some);
        if (some < 0) co_await yield_now();
      }
      CHECK(got > body.size());
    }
    // Who takes nothing is.
    const Fd client = dial(s.address);
    REQUIRE(support::put(client.get(), get("/file")));
    co_await violet::sleep(120s);
  });
  ::unlink(path);
  CHECK(site.summary.cut == 0);
}

TEST_CASE("http server: a connection may be limited to some requests",
          "[http]") {
  Site site;
  site.router.get("/", hello);
  site.options.max_requests = 2;
  site.run([](Site& s) -> Task<> {
    const std::string reply =
        co_await ask(s.address, get("/") + get("/") + get("/"), false);
    CHECK(statuses(reply) == "200; 200 close; ");
  });
}

TEST_CASE("http server: who finds no place hears 503", "[http]") {
  Site site;
  site.router.get("/", hello);
  site.options.max_connections = 1;
  site.options.when_full = turn_away;
  site.run([](Site& s) -> Task<> {
    Connection first = co_await connect(s.address);
    co_await first.sendall("GET");
    co_await testing::wait_all_blocked();
    const std::string reply = co_await ask(s.address, get("/"), false);
    CHECK(statuses(reply) == "503 close; ");
    CHECK(contains(reply, "Retry-After: 1\r\n"));
  });
  CHECK(site.summary.refused == 1);
}

TEST_CASE("http server: a client may reset at any place", "[http]") {
  Site site;
  site.router.put("/", repeat);
  site.options.log = Log::kErrors;
  site.run([](Site& s) -> Task<> {
    const std::string request =
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4\r\nbody\r\n0\r\n\r\n";
    for (std::size_t size = 0; size <= request.size(); ++size) {
      Connection conn = co_await connect(s.address);
      co_await conn.sendall(request.substr(0, size));
      if (size % 2 == 0) co_await testing::wait_all_blocked();
      reset(conn);
      co_await yield_now();
    }
    const std::string reply = co_await ask(s.address, request);
    CHECK(reply == text_response("body"));
  });
  CHECK(site.log == "");
}

TEST_CASE("http server: a kill anywhere leaves nothing behind",
          "[http][kill]") {
  const auto body = [&]() -> Task<> {
    http::Router router;
    router.get("/", hello).put("/", echo_body);
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    TaskGroup group;
    auto serves = [&router](Listener own) -> Task<> {
      co_await http::serve(std::move(own), router);
    };
    auto server = group.spawn(serves, std::move(listener));
    auto client = [address]() -> Task<> {
      std::error_code code;  // the server may be the one that was killed
      Connection conn = co_await connect(address, code);
      const std::string all =
          get("/") +
          "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
          "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n" +
          get("/nowhere") + "nonsense\r\n\r\n";
      if (!code) co_await conn.sendall(all, code);
      std::string reply;
      while (!code) {
        const Chunk chunk = co_await conn.recv(code);
        if (!chunk) break;
        reply += chunk.view();
      }
      require(reply.empty() || reply.starts_with("HTTP/1.1 200 OK\r\n"),
              "a reply does not begin as one");
    };
    auto asks = group.spawn(client);
    const bool ended = co_await within(10s, wait(asks));
    (void)ended;
    server.kill();
    asks.kill();
    co_await wait(server);
  };
  testing::Options options;
  options.seeds = 100;
  const auto counts = testing::kill_everywhere(body, options);
  CHECK(counts.waits > 20);
}
