// http_scripted.hpp - servers that do to a client what a test wants.
// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "../net/http/client.hpp"
#include "../net/net.hpp"
#include "../runtime/testing.hpp"
#include "sockets.hpp"

namespace scripted {

using namespace sockets;
using http::Client;
using http::ClientOptions;
using http::Response;

/// What fails a run of the kit: it must throw.
inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

/// One client of a scripted server.
struct Peer {
  Peer(Connection conn, int number) : stream(std::move(conn)), nth(number) {}

  /// The next request: its head and its body as they came; empty at the end.
  Task<std::string> request() {
    std::string text;
    const bool there = co_await http::read_head(stream, parser);
    if (!there) co_return text;
    text = parser.text();
    http::BodyReader body(stream, http::body_of(parser.head()));
    text += co_await body.read_all(std::size_t{64} << 20);
    parser.next();
    co_return text;
  }

  /// Only its head.
  Task<std::string> head() {
    co_await http::read_head(stream, parser);
    std::string text(parser.text());
    parser.next();
    co_return text;
  }

  Task<> say(std::string text) { co_await stream.sendall(text); }

  /// "200 OK" with a body.
  Task<> answer(std::string body) {
    std::string text = concat(
        {"HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\n\r\n", body});
    co_await say(std::move(text));
  }

  Stream stream;
  const int nth;  // from 0
  http::RequestParser parser;
};

using Script = std::function<Task<>(Peer& peer)>;

/// Listens until its scope ends; treats each client as the script says, and
/// closes the connection then. What a script throws is the client's doing.
class Server {
 public:
  explicit Server(Script script) : script_(std::move(script)) {
    group_.on_failure([](const FailedJob&) {});
    group_.spawn([this] { return accept_all(); });
  }

  std::string url(std::string_view path = "/") const {
    return concat({"http://", listener_.address().text(), path});
  }
  Address address() const { return listener_.address(); }

  /// Clients so far.
  int clients() const { return clients_; }

 private:
  Task<> accept_all() {
    for (;;) {
      Connection conn = co_await listener_.accept();
      group_.spawn([this](Connection one,
                          int nth) { return treat(std::move(one), nth); },
                   std::move(conn), clients_++);
    }
  }

  Task<> treat(Connection conn, int nth) {
    Peer peer(std::move(conn), nth);
    co_await script_(peer);
  }

  Listener listener_{"127.0.0.1", 0};
  Script script_;
  int clients_ = 0;
  TaskGroup group_;
};

/// Answers every request with its target, and the size of its body if it has
/// one; a HEAD without a body.
inline Task<> answer_all(Peer& peer) {
  for (;;) {
    const std::string text = co_await peer.request();
    if (text.empty()) co_return;
    const auto begin = text.find(' ') + 1;
    const auto body = text.size() - text.find("\r\n\r\n") - 4;
    std::string answer = text.substr(begin, text.find(' ', begin) - begin);
    if (body > 0) answer += concat({" ", body});
    if (text.starts_with("HEAD ")) {
      co_await peer.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    } else {
      co_await peer.answer(answer);
    }
  }
}

/// A reply on one line: "200 body".
inline Task<std::string> told(Response reply) {
  const std::string body = co_await reply.read_all(std::size_t{64} << 20);
  co_return concat({reply.status(), " ", body});
}

inline Task<std::string> get(Client& client, std::string url) {
  Response reply = co_await client.get(url);
  co_return co_await told(std::move(reply));
}

inline Task<std::string> send(Client& client, http::Request request) {
  Response reply = co_await client.send(std::move(request));
  co_return co_await told(std::move(reply));
}

/// What a task throws, as text; what it returns if it does not.
inline Task<std::string> outcome(Task<std::string> task) {
  std::string text;
  try {
    text = co_await std::move(task);
  } catch (const std::exception& e) {
    text = e.what();
  }
  co_return text;
}

inline testing::Options with_network() {
  testing::Options options;
  options.network = true;
  return options;
}

/// Plays a body in a simulated network. Returns: the virtual time it took.
template <class Body>
Duration play_simulated(Body body) {
  testing::World world(with_network());
  world.play(body);
  return world.elapsed();
}

/// Plays it on real sockets, in a simulated network, and there byte by byte
/// with calls that are interrupted or told to wait.
template <class Body>
void play_everywhere(Body body) {
  {
    const MaybeShortIo io;
    testing::play(body);
  }
  play_simulated(body);
  play_simulated([&]() -> Task<> {
    FaultPlan plan;
    plan.one_byte().interrupt_every(3).would_block_every(4);
    co_await body();
  });
}

}  // namespace scripted
