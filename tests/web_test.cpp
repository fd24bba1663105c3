// web_test.cpp - the web server, as its clients see it.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <chrono>
#include <list>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

/// A web server on a port of its own, ready for clients.
struct Web : Program {
  explicit Web(const std::vector<std::string>& options = {})
      : Program(command_of(options)) {
    const std::string first = line();
    address = first.substr(first.rfind(' ') + 1);
    port = port_in(first);
    CHECK(first == "web: listening on " + address);
    CHECK(line() == "Server started at http://" + address);
  }

  static std::vector<std::string> command_of(
      const std::vector<std::string>& options) {
    std::vector<std::string> command{build_path("web"), "--port", "0"};
    command.insert(command.end(), options.begin(), options.end());
    return command;
  }

  std::string address;
  std::uint16_t port = 0;
};

std::string request(const std::string& line) {
  return line + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
}

/// All that is answered to a request.
std::string ask(const Web& web, const std::string& line) {
  const Client client(web.port);
  client.send(request(line));
  return client.receive_rest();
}

std::string body_of(const std::string& response) {
  const auto end = response.find("\r\n\r\n");
  return end == response.npos ? "?" : response.substr(end + 4);
}

}  // namespace

TEST_CASE("web: the two pages, and none else", "[web]") {
  Web web;
  std::string reply = ask(web, "GET /");
  CHECK(reply.rfind("HTTP/1.1 200 OK\r\n", 0) == 0);
  CHECK(contains(reply, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
  CHECK(contains(reply, "\r\nDate: "));
  CHECK(body_of(reply) == "<h1>Index</h1>");
  CHECK(body_of(ask(web, "GET /hello/W%C3%B6rld")) ==
        "<h1>Hello, W\xc3\xb6rld!</h1>");
  CHECK(body_of(ask(web, "GET /hello/%3Cscript%3E&")) ==
        "<h1>Hello, &lt;script&gt;&amp;!</h1>");
  CHECK(contains(ask(web, "GET /nowhere"), "HTTP/1.1 404 Not Found\r\n"));
  CHECK(contains(ask(web, "GET /hello/"), "HTTP/1.1 404 Not Found\r\n"));
  reply = ask(web, "DELETE /");
  CHECK(contains(reply, "HTTP/1.1 405 Method Not Allowed\r\n"));
  CHECK(contains(reply, "\r\nAllow: GET, HEAD, OPTIONS\r\n"));
  CHECK(body_of(ask(web, "HEAD /")) == "");
  CHECK(web.stop(SIGINT).code == 0);
  CHECK(contains(web.err(), "web: stopped: 7 served, 0 cut"));
}

TEST_CASE("web: fifty clients are greeted at once", "[web]") {
  const Web web;
  const auto begin = Clock::now();
  std::list<Client> clients;
  for (int i = 0; i < 50; ++i) {
    clients.emplace_back(web.port).send(request("GET /hello/x"));
  }
  for (const Client& client : clients) {
    CHECK(body_of(client.receive_rest()) == "<h1>Hello, x!</h1>");
  }
  const auto took = Clock::now() - begin;
  CHECK(took >= std::chrono::milliseconds(500));
  CHECK(took < std::chrono::seconds(20));  // one by one it would be 25
}

TEST_CASE("web: a connection is kept, and what is too large refused", "[web]") {
  const Web web;
  const Client client(web.port);
  for (int i = 0; i < 3; ++i) {
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    std::string reply;
    while (reply.find("</h1>") == reply.npos) reply += client.receive(1);
    CHECK(body_of(reply) == "<h1>Index</h1>");
  }
  client.send("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(1 << 20, 'x'));
  CHECK(contains(client.receive_rest(), "HTTP/1.1 431 "));
}

TEST_CASE("web: a stop answers what has been asked", "[web]") {
  Web web;
  const Client idle(web.port);
  const Client client(web.port);
  client.send(
      "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
      "GET /hello/late HTTP/1.1\r\nHost: h\r\n\r\n");
  std::string reply;
  while (reply.find("</h1>") == reply.npos) reply += client.receive(1);
  web.signal(SIGTERM);
  CHECK(idle.receive_rest() == "");
  reply = client.receive_rest();
  CHECK(body_of(reply) == "<h1>Hello, late!</h1>");
  CHECK(contains(reply, "\r\nConnection: close\r\n"));
  CHECK(web.wait().code == 0);
}
