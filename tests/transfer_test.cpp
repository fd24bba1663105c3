// transfer_test.cpp - the transfer service, as its clients see it: every
// status over a real socket, and files that go round with other people's
// tools.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../apps/transfer/meter.hpp"
#include "../apps/transfer/multipart.hpp"
#include "../apps/transfer/sha256.hpp"
#include "program.hpp"
#include "support.hpp"
#include "transfer_support.hpp"

using namespace programs;
using support::contains;

namespace {

using Words = std::vector<std::string>;

constexpr std::size_t kPiece = 5u << 20;

/// The sizes at which pieces begin and end in all ways.
const std::vector<std::size_t> kSizes = {0,      1,          kPiece - 1,
                                         kPiece, kPiece + 1, (12u << 20) + 1};

/// `transfer serve` on a port of its own, ready for clients.
struct Server : Program {
  explicit Server(const Folder& folder, const Words& options = {},
                  const std::string& shell = "")
      : Program(command_of(folder, options, shell)) {
    port = port_in(line());
  }

  static Words command_of(const Folder& folder, const Words& options,
                          const std::string& shell) {
    Words command{build_path("transfer"), "serve",  "--port", "0", "--dir",
                  folder.path(),          "--quiet"};
    command.insert(command.end(), options.begin(), options.end());
    if (shell.empty()) return command;
    Words whole{"/bin/sh", "-c", shell + "; exec \"$0\" \"$@\""};
    whole.insert(whole.end(), command.begin(), command.end());
    return whole;
  }

  std::string url(const std::string& name = "") const {
    return "http://127.0.0.1:" + std::to_string(port) + "/" + name;
  }

  /// Sends a request on a connection of its own. Returns: the whole answer.
  std::string ask(const std::string& method, const std::string& target,
                  const Words& fields = {}, std::string_view body = "") const {
    std::string text = method + " " + target + " HTTP/1.1\r\nHost: a\r\n";
    for (const std::string& field : fields) text += field + "\r\n";
    const bool sends = method == "PUT" || method == "POST";
    if (sends && !contains(text, "Content-Length") &&
        !contains(text, "Transfer-Encoding")) {
      text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    }
    text += "Connection: close\r\n\r\n";
    const Client client(port);
    client.send(text);
    try {
      client.send(body);
    } catch (const std::system_error&) {  // it has refused it already
    }
    return client.receive_rest();
  }

  std::string put(const std::string& name, std::string_view body) const {
    return ask("PUT", "/" + name, {}, body);
  }

  /// Bytes from `begin` to before `end` of `data`.
  std::string put_piece(const std::string& name, const std::string& data,
                        std::size_t begin, std::size_t end,
                        const std::string& id = "") const {
    Words fields{"Content-Range: bytes " + std::to_string(begin) + "-" +
                 std::to_string(end - 1) + "/" + std::to_string(data.size())};
    if (!id.empty()) fields.push_back("Upload-Id: " + id);
    return ask("PUT", "/" + name, fields,
               std::string_view(data).substr(begin, end - begin));
  }

  std::uint16_t port = 0;
};

/// The number in the first line of an answer.
int status_of(const std::string& answer) {
  int status = 0;
  std::sscanf(answer.c_str(), "HTTP/1.1 %d ", &status);
  return status;
}

std::string body_of(const std::string& answer) {
  const auto end = answer.find("\r\n\r\n");
  return end == answer.npos ? "" : answer.substr(end + 4);
}

/// True if the machine has a program, or a module of Python; says so if not.
bool has_tool(const std::string& check) {
  if (std::system((check + " > /dev/null 2>&1").c_str()) == 0) return true;
  WARN("skipped: this fails here: " << check);
  return false;
}

/// Runs a shell's command. Returns: what it wrote on stdout.
std::string output_of(const std::string& command) {
  Program shell({"/bin/sh", "-c", command});
  const End end = shell.wait();
  CAPTURE(command, shell.err());
  CHECK(end.code == 0);
  return shell.out();
}

void write_file(const std::string& path, const std::string& data) {
  std::ofstream(path, std::ios::binary) << data;
}

}  // namespace

// -------------------------------------------------------------------- statuses

TEST_CASE("transfer serve: a whole body is 201, and 200 where it replaces",
          "[transfer]") {
  const Folder folder;
  Server server(folder);
  const std::string first = server.put("a%20b", "hello");
  CHECK(status_of(first) == 201);
  CHECK(contains(first, "\r\nContent-Type: application/json\r\n"));
  CHECK(body_of(first) ==
        "{\"name\": \"a b\", \"size\": 5, \"received\": [[0, 5]], "
        "\"complete\": true}\n");
  CHECK(contents(folder.file("a b")) == "hello");
  CHECK(status_of(server.put("a%20b", "other")) == 200);
  CHECK(body_of(server.ask("GET", "/a%20b")) == "other");
  const std::string chunked =
      server.ask("PUT", "/c", {"Transfer-Encoding: chunked"},
                 "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  CHECK(status_of(chunked) == 201);
  CHECK(contents(folder.file("c")) == "abcde");
  CHECK(folder.names() == Names{"a b", "c"});
  CHECK(server.stop(SIGINT).code == 0);
}

TEST_CASE("transfer serve: a piece is 202 until the last, which is 201 or 200",
          "[transfer]") {
  const Folder folder;
  Server server(folder);
  const std::string data = "0123456789";
  for (const int last : {201, 200}) {
    const std::string first = server.put_piece("f", data, 6, 10);
    CHECK(status_of(first) == 202);
    CHECK(body_of(first) ==
          "{\"name\": \"f\", \"size\": 10, \"received\": [[6, 10]], "
          "\"complete\": false}\n");
    CHECK(status_of(server.put_piece("f", data, 0, 3)) == 202);
    if (last == 201) CHECK(status_of(server.ask("GET", "/f")) == 404);
    const std::string end = server.put_piece("f", data, 2, 7);
    CHECK(status_of(end) == last);
    CHECK(contains(end, "\"complete\": true"));
    CHECK(body_of(server.ask("GET", "/f")) == data);
  }
}

TEST_CASE("transfer serve: how far an upload is, and a way to give it up",
          "[transfer]") {
  const Folder folder;
  Server server(folder);
  const std::string data(100, 'x');
  const std::string nothing = server.ask("HEAD", "/f?upload");
  CHECK(status_of(nothing) == 404);
  CHECK(contains(nothing, "\r\nUpload-Protocol: 1\r\n"));
  server.put_piece("f", data, 10, 20, "abc");
  server.put_piece("f", data, 50, 60, "abc");
  const std::string head = server.ask("HEAD", "/f?upload");
  CHECK(status_of(head) == 200);
  CHECK(body_of(head).empty());
  CHECK(contains(head, "\r\nUpload-Size: 100\r\n"));
  CHECK(contains(head, "\r\nUpload-Id: abc\r\n"));
  CHECK(contains(head, "\r\nUpload-Complete: false\r\n"));
  CHECK(contains(head, "\r\nUpload-Missing: 0-9,20-49,60-99\r\n"));
  CHECK(contains(server.ask("GET", "/f?upload"),
                 "\"received\": [[10, 20], [50, 60]], \"complete\": false"));
  const Words other{"Upload-Id: other"};
  CHECK(status_of(server.ask("DELETE", "/f?upload", other)) == 409);
  CHECK(status_of(server.ask("DELETE", "/f?upload")) == 204);
  CHECK(status_of(server.ask("DELETE", "/f?upload")) == 404);
  CHECK(folder.names().empty());

  server.put_piece("g", data, 0, 100, "abc");
  CHECK(status_of(server.ask("DELETE", "/g?upload", other)) == 404);
  const std::string done = server.ask("HEAD", "/g?upload");
  CHECK(contains(done, "\r\nUpload-Complete: true\r\n"));
  CHECK(contains(done, "\r\nUpload-Missing: \r\n"));
}

TEST_CASE("transfer serve: a piece whose message is broken completes nothing",
          "[transfer]") {
  Folder folder;
  Server server(folder);
  const Words piece{"Content-Range: bytes 0-4/5", "Transfer-Encoding: chunked"};
  REQUIRE(status_of(server.ask("PUT", "/f", {}, "old")) == 201);
  for (const char* body :
       {"5\r\nhello\r\n7\r\nmoremor\r\n0\r\n\r\n", "5\r\nhello\r\nZZ\r\n"}) {
    CAPTURE(body);
    CHECK(status_of(server.ask("PUT", "/f", piece, body)) == 400);
    CHECK(contents(folder.file("f")) == "old");
  }
  const char* const right = "5\r\nhello\r\n0\r\n\r\n";
  CHECK(status_of(server.ask("PUT", "/f", piece, right)) == 200);
  CHECK(contents(folder.file("f")) == "hello");
}

TEST_CASE("transfer serve: a journal that is far too long takes no memory",
          "[transfer]") {
  Folder folder;
  const std::string journal = folder.file(".f.upload");
  std::ofstream(journal) << "";
  REQUIRE(::truncate(journal.c_str(), off_t{1} << 40) == 0);
  Server server(folder);
  CHECK(status_of(server.ask("PUT", "/f", {"Content-Range: bytes 0-1/4"},
                             "ab")) == 202);
  CHECK(status_of(server.ask("PUT", "/f", {"Content-Range: bytes 2-3/4"},
                             "cd")) == 201);
  CHECK(contents(folder.file("f")) == "abcd");
}

TEST_CASE("transfer serve: what is malformed is 400", "[transfer]") {
  const Folder folder;
  Server server(folder);
  const auto put = [&](const Words& fields, std::string_view body) {
    return status_of(server.ask("PUT", "/f", fields, body));
  };
  for (const char* range :
       {"bytes 0-4/4", "bytes 4-0/10", "bytes 0-4/*", "bytes */10", "0-4/10",
        "lines 0-4/10", "bytes 0-5/10", "bytes 0-3/10", "bytes -1-3/10"}) {
    CAPTURE(range);
    CHECK(put({std::string("Content-Range: ") + range}, "12345") == 400);
  }
  CHECK(put({"Content-Range: bytes 0-4/10", "Upload-Id: two words"}, "12345") ==
        400);
  // Two readers could take it for two pieces, or for two uploads.
  CHECK(put({"Content-Range: bytes 0-4/10", "Content-Range: bytes 5-9/10"},
            "12345") == 400);
  CHECK(put({"Content-Range: bytes 0-4/10", "Upload-Id: a", "Upload-Id: b"},
            "12345") == 400);
  // Who got it would not know that it has to be unpacked.
  CHECK(put({"Content-Encoding: gzip"}, "12345") == 415);
  CHECK(put({"Content-Encoding: identity"}, "12345") == 201);
  // As many bytes as were announced, or it counts for nothing.
  CHECK(put({"Content-Range: bytes 0-4/10", "Transfer-Encoding: chunked"},
            "3\r\nabc\r\n0\r\n\r\n") == 400);
  CHECK(put({"Content-Range: bytes 0-4/10", "Transfer-Encoding: chunked"},
            "7\r\nabcdefg\r\n0\r\n\r\n") == 400);
  CHECK(put({"Content-Length: 3", "Transfer-Encoding: chunked"},
            "3\r\nabc\r\n0\r\n\r\n") == 400);
  CHECK(put({"Content-Length: 3", "Content-Length: 4"}, "abc") == 400);
  for (const char* target :
       {"/../f", "/%2e%2e/f", "/%2E./f", "/a/..%2ff", "/a%00", "/a%2fb",
        "/bad%ff", "/", "//", "/folder/"}) {
    CAPTURE(target);
    CHECK(status_of(server.ask("PUT", target, {}, "x")) == 400);
  }
  CHECK(status_of(server.ask("POST", "/", {}, "x")) == 400);
  CHECK(status_of(server.ask("POST", "/", {"Content-Type: text/plain"}, "x")) ==
        400);
}

namespace {

std::string tag_in(const std::string& answer) {
  const auto at = answer.find("\r\nETag: ");
  if (at == answer.npos) return "";
  return answer.substr(at + 8, answer.find("\r\n", at + 2) - at - 8);
}

}  // namespace

TEST_CASE("transfer serve: a condition of a PUT that does not hold is 412",
          "[transfer]") {
  const Folder folder;
  Server server(folder);
  const auto put = [&](const std::string& condition, const std::string& body) {
    return server.ask("PUT", "/f", {condition}, body);
  };
  CHECK(status_of(put("If-Match: *", "no")) == 412);
  CHECK(status_of(put("If-Match: \"a\"", "no")) == 412);
  CHECK(folder.names().empty());
  const std::string created = put("If-None-Match: *", "one");
  CHECK(status_of(created) == 201);
  const std::string tag = tag_in(created);
  CHECK(tag == tag_in(server.ask("HEAD", "/f")));
  CHECK(status_of(put("If-None-Match: *", "two")) == 412);
  CHECK(status_of(put("If-None-Match: \"a\", W/" + tag, "two")) == 412);
  CHECK(status_of(put("If-Match: W/" + tag, "two")) == 412);
  CHECK(status_of(put("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
                      "two")) == 412);
  CHECK(contents(folder.file("f")) == "one");
  const std::string replaced = put("If-Match: \"a\", " + tag, "two");
  CHECK(status_of(replaced) == 200);
  CHECK(tag_in(replaced) != tag);
  CHECK(status_of(put("If-Match: " + tag, "three")) == 412);
  CHECK(status_of(put("If-None-Match: " + tag, "three")) == 200);
  CHECK(status_of(put("If-Match: *", "four")) == 200);
  CHECK(contents(folder.file("f")) == "four");

  // Of pieces, the one that completes the file counts, and others are told.
  const auto piece = [&](const std::string& range, const std::string& body) {
    return server.ask("PUT", "/g",
                      {"If-None-Match: *", "Content-Range: bytes " + range},
                      body);
  };
  CHECK(status_of(piece("0-2/6", "abc")) == 202);
  const std::string last = piece("3-5/6", "def");
  CHECK(status_of(last) == 201);
  CHECK(tag_in(last) == tag_in(server.ask("HEAD", "/g")));
  CHECK(status_of(piece("0-2/6", "abc")) == 412);
  CHECK(folder.names() == Names{"f", "g"});
}

TEST_CASE("transfer serve: what a 412 leaves of the connection", "[transfer]") {
  const Folder folder;
  Server server(folder);
  const auto head = [](std::size_t size, const std::string& more = "") {
    return "PUT /f HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\n" + more +
           "Content-Length: " + std::to_string(size) + "\r\n\r\n";
  };
  const std::string next =
      "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  {  // A small body is dropped, and the next request is one.
    const Client client(server.port);
    client.send(head(1000) + std::string(1000, 'x') + next);
    const std::string answers = client.receive_rest();
    CHECK(status_of(answers) == 412);
    CHECK(contains(answers, "HTTP/1.1 404 Not Found\r\n"));
  }
  {  // A long one is not read, and neither is what follows.
    const Client client(server.port);
    client.send(head(1 << 20));
    const std::string answer = client.receive_rest();
    CHECK(status_of(answer) == 412);
    CHECK(contains(answer, "\r\nConnection: close\r\n"));
  }
  {  // Who asks before he sends it is spared that.
    const Client client(server.port);
    client.send(head(1 << 20, "Expect: 100-continue\r\n"));
    CHECK(status_of(client.receive_rest()) == 412);
  }
  CHECK(folder.names().empty());
}

TEST_CASE("transfer serve: two servers over one folder lose no update",
          "[transfer]") {
  const Folder folder;
  Server one(folder);
  Server other(folder);
  std::atomic<int> created{0};
  std::atomic<int> updated{0};
  std::vector<support::Thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      const Server& server = i % 2 == 0 ? one : other;
      const Words if_new{"If-None-Match: *"};
      if (status_of(server.ask("PUT", "/n", if_new, "0")) == 201) ++created;
      for (int k = 0; k < 25; ++k) {  // each adds one, if nobody comes between
        const std::string now = server.ask("GET", "/n");
        const int number = std::atoi(body_of(now).c_str());
        const std::string answer =
            server.ask("PUT", "/n", {"If-Match: " + tag_in(now)},
                       std::to_string(number + 1));
        if (status_of(answer) == 200) ++updated;
      }
    });
  }
  clients.clear();
  CHECK(created == 1);
  CHECK(updated >= 25);
  CHECK(contents(folder.file("n")) == std::to_string(updated));
  CHECK(folder.names() == Names{"n"});
}

TEST_CASE(
    "transfer serve: what is hidden or no file is 403, what is not there "
    "404, what is not done 405",
    "[transfer]") {
  const Folder folder;
  REQUIRE(::mkdir(folder.file("sub").c_str(), 0777) == 0);
  REQUIRE(::symlink("/etc/passwd", folder.file("link").c_str()) == 0);
  write_file(folder.file(".secret"), "x");
  Server server(folder);
  CHECK(status_of(server.put(".secret", "y")) == 403);
  CHECK(status_of(server.put("sub/.x", "y")) == 403);
  CHECK(status_of(server.put("sub", "y")) == 403);
  CHECK(status_of(server.put("link", "y")) == 403);
  CHECK(status_of(server.put("nowhere/x", "y")) == 404);
  for (const char* target : {"/.secret", "/link", "/nothing", "/sub/x",
                             "/sub/..%5cx", "/.secret?upload"}) {
    CAPTURE(target);
    const int status = status_of(server.ask("GET", target));
    CHECK((status == 404 || status == 403));
  }
  CHECK(status_of(server.ask("GET", "/sub")) == 301);
  CHECK(status_of(server.ask("GET", "/sub/")) == 200);
  CHECK(status_of(server.put("sub/x", "y")) == 201);
  const std::string removal = server.ask("DELETE", "/sub/x");
  CHECK(status_of(removal) == 405);
  CHECK(contains(removal, "\r\nAllow: GET, HEAD, OPTIONS, POST, PUT\r\n"));
  const std::string patch = server.ask("PATCH", "/sub/x");
  CHECK(status_of(patch) == 405);
  CHECK(contains(patch, "\r\nAllow: "));
  CHECK(contents("/etc/passwd") != "y");
}

TEST_CASE("transfer serve: who stalls is 408, and what came of a piece is kept",
          "[transfer]") {
  const Folder folder;
  Server server(folder, {"--timeout", "100ms"});
  const Client client(server.port);
  client.send(
      "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n"
      "Content-Range: bytes 10-59/100\r\n\r\n0123456789");
  CHECK(status_of(client.receive_rest()) == 408);
  CHECK(contains(server.ask("GET", "/f?upload"), "\"received\": [[10, 20]]"));
}

TEST_CASE("transfer serve: another upload of a name in progress is 409",
          "[transfer]") {
  const Folder folder;
  Server server(folder);
  const std::string data(100, 'x');
  CHECK(status_of(server.put_piece("f", data, 0, 10, "one")) == 202);
  const std::string other = server.put_piece("f", data, 10, 20, "two");
  CHECK(status_of(other) == 409);
  CHECK(body_of(other) ==
        "another upload of 'f' is in progress, of 100 bytes\n");
  CHECK(status_of(server.put_piece("f", data, 10, 20)) == 409);
  CHECK(status_of(server.put_piece("f", data + "x", 10, 20, "one")) == 409);
  // A whole body is another matter.
  CHECK(status_of(server.put("f", "whole")) == 201);
  CHECK(status_of(server.put_piece("f", data, 10, 100, "one")) == 200);
  CHECK(contents(folder.file("f")) == data);
}

TEST_CASE("transfer serve: lengths that are missing, too long, or out of range",
          "[transfer]") {
  const Folder folder;
  Server server(folder, {"--max-body", "1000"});
  const Client silent(server.port);
  silent.send("PUT /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  CHECK(status_of(silent.receive_rest()) == 411);
  CHECK(status_of(server.put("f", std::string(1000, 'x'))) == 201);
  CHECK(status_of(server.put("f", std::string(1001, 'x'))) == 413);
  CHECK(status_of(server.put("f", std::string(4 << 20, 'x'))) == 413);
  CHECK(status_of(server.ask(
            "PUT", "/f", {"Transfer-Encoding: chunked"},
            "400\r\n" + std::string(1024, 'x') + "\r\n0\r\n\r\n")) == 413);
  CHECK(status_of(server.put_piece("f", std::string(1001, 'x'), 0, 10)) == 413);
  CHECK(status_of(server.ask("GET", "/" + std::string(100'000, 'x'))) == 414);
  CHECK(status_of(server.ask("GET", "/f",
                             {"A: " + std::string(200'000, 'x')})) == 431);
  CHECK(contents(folder.file("f")) == std::string(1000, 'x'));
  CHECK(folder.names() == Names{"f"});

  const std::string part = server.ask("GET", "/f", {"Range: bytes=10-12"});
  CHECK(status_of(part) == 206);
  CHECK(contains(part, "\r\nContent-Range: bytes 10-12/1000\r\n"));
  CHECK(body_of(part) == "xxx");
  const std::string beyond = server.ask("GET", "/f", {"Range: bytes=1000-"});
  CHECK(status_of(beyond) == 416);
  CHECK(contains(beyond, "\r\nContent-Range: bytes */1000\r\n"));
}

TEST_CASE("transfer serve: a file has a tag, which changes with it",
          "[transfer]") {
  const Folder folder;
  Server server(folder);
  server.put("f.html", "one");
  const std::string answer = server.ask("GET", "/f.html");
  const auto at = answer.find("\r\nETag: ") + 8;
  const std::string tag = answer.substr(at, answer.find("\r\n", at) - at);
  CHECK(contains(answer, "\r\nContent-Type: text/html"));
  CHECK(contains(answer, "\r\nX-Content-Type-Options: nosniff\r\n"));
  CHECK(contains(answer, "\r\nContent-Security-Policy: sandbox\r\n"));
  CHECK(contains(answer, "\r\nLast-Modified: "));
  CHECK(status_of(server.ask("GET", "/f.html", {"If-None-Match: " + tag})) ==
        304);
  CHECK(status_of(server.ask("HEAD", "/f.html")) == 200);
  const Words half{"If-Range: " + tag, "Range: bytes=0-0"};
  CHECK(status_of(server.ask("GET", "/f.html", half)) == 206);
  server.put("f.html", "two");
  CHECK(status_of(server.ask("GET", "/f.html", {"If-None-Match: " + tag})) ==
        200);
  CHECK(body_of(server.ask("GET", "/f.html", half)) == "two");
}

TEST_CASE(
    "transfer serve: who finds no place in time is 503, and told when to "
    "try again",
    "[transfer]") {
  const Folder folder;
  Server server(folder, {"--max-transfers", "1", "--timeout", "300ms"});
  std::string refused;
  {
    Client holder(server.port);
    holder.send(
        "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx");
    eventually("a transfer", [&] { return !folder.names().empty(); });
    // The holder goes on a little, so that it is not given up before.
    for (int i = 0; i < 100 && refused.empty(); ++i) {
      Client other(server.port);
      other.send("GET /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      while (!other.readable(50)) holder.send("x");
      refused = other.receive_rest();
    }
  }
  CHECK(status_of(refused) == 503);
  CHECK(contains(refused, "\r\nRetry-After: 5\r\n"));
  eventually("a free place",
             [&] { return status_of(server.ask("GET", "/")) == 200; });
}

TEST_CASE("transfer serve: a slow upload is given up while others wait",
          "[transfer]") {
  const Folder folder;
  Server server(folder, {"--max-transfers", "1"});
  const std::string piece =
      "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n"
      "Content-Range: bytes 0-49999/100000\r\n\r\nx";
  const std::string form =
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n"
      "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
      "--b\r\nContent-Disposition: form-data; filename=g\r\n\r\nx";
  for (const std::string& request : {piece, form}) {
    const std::size_t before = folder.names().size();
    const Client slow(server.port);
    slow.send(request);
    eventually("an upload", [&] { return folder.names().size() > before; });
    const Client other(server.port);
    other.send(
        "PUT /o HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        "Connection: close\r\n\r\ny");
    while (!slow.readable(50)) slow.send("x");
    CHECK(contains(slow.receive_rest(), "and others wait"));
    CHECK(status_of(other.receive_rest()) < 202);
  }
  // What came of the piece is kept.
  CHECK(contains(server.ask("GET", "/f?upload"), "\"received\": [[0, "));
  CHECK_FALSE(std::filesystem::exists(folder.file("g")));
}

TEST_CASE("transfer serve: a slow download goes on, but not in the others' way",
          "[transfer]") {
  const Folder folder;
  write_file(folder.file("large"), noise(8 << 20));
  Server server(folder, {"--max-transfers", "1"});
  const Client slow(server.port, 4096);
  slow.send("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  std::string got = slow.receive(1);
  CHECK(status_of(server.put("o", "y")) == 201);
  got += slow.receive_rest();
  CHECK((body_of(got) == contents(folder.file("large"))));
}

TEST_CASE("transfer serve: bytes that somebody else sends now are 503",
          "[transfer]") {
  const Folder folder;
  Server server(folder, {"--timeout", "300ms"});
  const Client holder(server.port);
  holder.send(
      "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
      "Content-Range: bytes 0-99999/100000\r\n\r\nx");
  eventually("an upload", [&] { return folder.names().size() == 2; });
  Client other(server.port);
  other.send(
      "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
      "Content-Range: bytes 0-9/100000\r\nConnection: close\r\n\r\n0123456789");
  while (!other.readable(50)) holder.send("x");
  const std::string refused = other.receive_rest();
  CHECK(status_of(refused) == 503);
  CHECK(contains(refused, "\r\nRetry-After: 1\r\n"));
}

TEST_CASE("transfer serve: a full disk is 507, and the upload goes on later",
          "[transfer]") {
  if (support::kSanitized) return;  // TSan's shadow is a file, and limited, too
  const Folder folder;
  const std::string data = noise(1 << 20);
  {
    Server server(folder, {}, "ulimit -f 600; trap '' XFSZ");
    CHECK(status_of(server.put("whole", data)) == 507);
    CHECK(folder.names().empty());
    CHECK(status_of(server.put_piece("f", data, 0, 100'000, "id")) == 202);
    CHECK(status_of(server.put_piece("f", data, 100'000, data.size(), "id")) ==
          507);
  }
  Server server(folder);
  const std::string state = server.ask("GET", "/f?upload");
  CHECK(status_of(state) == 200);
  CHECK(contains(state, "\"received\": [[0, "));
  CHECK(status_of(server.put_piece("f", data, 100'000, data.size(), "id")) ==
        201);
  CHECK((contents(folder.file("f")) == data));
}

#ifdef __linux__
TEST_CASE("transfer serve: who has no descriptor left says 503", "[transfer]") {
  if (support::kSanitized) return;  // their new threads open files
  const Folder folder;
  Server server(folder, {}, "ulimit -n 20");
  std::list<Client> clients;
  for (int i = 0; i < 20; ++i) {
    clients.emplace_back(server.port).send("PUT /f HTTP/1.1\r\nHost: a\r\n");
  }
  eventually("descriptors that are all taken", [&] {
    using Entries = std::filesystem::directory_iterator;
    return std::distance(Entries(server.proc("fd")), Entries()) >= 20;
  });
  clients.front().send("Content-Length: 1\r\nConnection: close\r\n\r\nx");
  const std::string refused = clients.front().receive_rest();
  CHECK(status_of(refused) == 503);
  CHECK(contains(refused, "\r\nRetry-After: 1\r\n"));
  CHECK(body_of(refused) == "the server has too much open\n");
}
#endif

TEST_CASE(
    "transfer serve: a client that is refused reads why, even while it "
    "sends",
    "[transfer]") {
  const Folder folder;
  Server server(folder);
  const std::string data(8 << 20, 'x');
  for (int i = 0; i < 20; ++i) {
    CHECK(status_of(server.put("no/such/folder", data)) == 404);
  }
}

// ---------------------------------------------------------------- whoever dies

TEST_CASE("transfer serve: kill -9 in mid-upload loses nothing that was told",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(3 << 20);
  constexpr std::size_t kStep = 100'000;
  std::size_t at = 0;
  while (at < data.size()) {
    Server server(folder);
    if (at != 0) {
      const std::string state = server.ask("GET", "/f?upload");
      REQUIRE(contains(state, "\"received\": [[0, " + std::to_string(at)));
    }
    for (int i = 0; i < 3 && at < data.size(); ++i) {
      const std::size_t end = std::min(at + kStep, data.size());
      const int status = status_of(server.put_piece("f", data, at, end, "id"));
      REQUIRE((status == 202 || (status == 201 && end == data.size())));
      at = end;
    }
    const Client cut(server.port);
    cut.send(
        "PUT /f HTTP/1.1\r\nHost: a\r\nUpload-Id: id\r\n"
        "Content-Length: 10\r\nContent-Range: bytes 0-9/" +
        std::to_string(data.size()) + "\r\n\r\n012");
    server.signal(SIGKILL);
    server.wait();
  }
  CHECK((contents(folder.file("f")) == data));
}

TEST_CASE(
    "transfer serve: two servers take pieces of one upload, and one of "
    "them dies",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(1 << 20);
  Server first(folder);
  Server second(folder);
  constexpr std::size_t kStep = 100'000;
  int created = 0;
  for (std::size_t at = 0; at < data.size(); at += kStep) {
    if (at == 5 * kStep) {
      first.signal(SIGKILL);
      first.wait();
    }
    const bool even = at / kStep % 2 == 0 && at < 5 * kStep;
    const std::size_t end = std::min(at + kStep, data.size());
    const int status =
        status_of((even ? first : second).put_piece("f", data, at, end, "id"));
    if (status == 201) ++created;
    CHECK((status == 201 || status == 202));
  }
  CHECK(created == 1);
  CHECK((contents(folder.file("f")) == data));
}

TEST_CASE("transfer serve: a stop lets an upload finish", "[transfer]") {
  const Folder folder;
  Server server(folder);
  const Client client(server.port);
  client.send("PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
  eventually("a transfer", [&] { return !folder.names().empty(); });
  server.signal(SIGTERM);
  eventually("a closed port", [&] { return refused(server.port); });
  client.send("56789");
  CHECK(status_of(client.receive_rest()) == 201);
  CHECK(server.wait().code == 0);
  CHECK(contents(folder.file("f")) == "0123456789");
}

// ----------------------------------------------------------------------- pages

TEST_CASE(
    "transfer serve: a folder is a page with links, without what is "
    "hidden",
    "[transfer]") {
  const Folder folder;
  REQUIRE(::mkdir(folder.file("sub").c_str(), 0777) == 0);
  write_file(folder.file("<b>&.txt"), "12345");
  write_file(folder.file(".hidden"), "x");
  REQUIRE(::symlink("/etc/passwd", folder.file("link").c_str()) == 0);
  Server server(folder);
  const std::string page = server.ask("GET", "/");
  CHECK(status_of(page) == 200);
  CHECK(contains(page, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
  CHECK(contains(page, "<a href=\"sub/\">sub/</a>"));
  CHECK(contains(page, ">&lt;b&gt;&amp;.txt</a></td><td>5 B</td>"));
  CHECK(contains(page, "<a href=\"%3Cb%3E%26.txt\">"));
  CHECK(
      contains(page, "<form method=\"post\" enctype=\"multipart/form-data\">"));
  CHECK_FALSE(contains(page, "hidden\""));
  CHECK_FALSE(contains(page, "passwd"));
  CHECK_FALSE(contains(page, ">link<"));
  CHECK_FALSE(contains(page, "<b>"));
  CHECK(contains(server.ask("GET", "/sub/"), "<a href=\"../\">"));
}

TEST_CASE("transfer serve: a form without script stores its files",
          "[transfer]") {
  const Folder folder;
  REQUIRE(::mkdir(folder.file("sub").c_str(), 0777) == 0);
  Server server(folder);
  const std::string data = noise(300'000) + "\r\n--b\r\n--";
  const std::string form =
      "--bound\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nno file"
      "\r\n--bound\r\nContent-Disposition: form-data; name=\"file\"; "
      "filename=\"C:\\one.bin\"\r\nContent-Type: x/y\r\n\r\n" +
      data +
      "\r\n--bound\r\ncontent-disposition: form-data; filename=\"t%22o\"; "
      "name=\"file\"\r\n\r\n\r\n--bound--\r\n";
  const Words type{"Content-Type: multipart/form-data; boundary=bound"};
  const std::string answer = server.ask("POST", "/sub/", type, form);
  CHECK(status_of(answer) == 303);
  CHECK(contains(answer, "\r\nLocation: /sub/\r\n"));
  CHECK((contents(folder.file("sub/one.bin")) == data));
  CHECK(std::filesystem::exists(folder.file("sub/t\"o")));
  CHECK(std::filesystem::file_size(folder.file("sub/t\"o")) == 0);

  // Of another server's page, cut short, hidden, or none at all.
  Words foreign = type;
  foreign.push_back("Origin: http://elsewhere");
  CHECK(status_of(server.ask("POST", "/", foreign, form)) == 403);
  foreign.back() = "Origin: http://a";
  CHECK(status_of(server.ask("POST", "/sub/", foreign, form)) == 303);
  CHECK(status_of(server.ask("POST", "/", type, form.substr(0, 200'000))) ==
        400);
  CHECK(status_of(server.ask("POST", "/", type, "nothing")) == 400);
  CHECK(status_of(server.ask(
            "POST", "/", type,
            "--bound\r\nContent-Disposition: form-data; name=\"file\"; "
            "filename=\".x\"\r\n\r\nx\r\n--bound--\r\n")) == 403);
  CHECK(folder.names() == Names{"sub"});
}

TEST_CASE("multipart: a form is the same however it was cut", "[transfer]") {
  using transfer::Multipart;
  const std::string form =
      "preamble\r\n--b\r\nA: b\r\nContent-Disposition: form-data; name=\"n\"; "
      "filename=\"f\"\r\n\r\nda\r\n--ta\r\n--b\r\n\r\nno head\r\n--b  \r\n"
      "Content-Disposition: form-data; name=e\r\n\r\n\r\n--b--\r\nepilogue";
  const auto read = [&](std::size_t step) {
    Multipart parts("b");
    std::string said;
    std::size_t at = 0;
    for (;;) {
      switch (parts.next()) {
        case Multipart::kPart:
          said +=
              "<" + parts.name() + "," + parts.file_name().value_or("-") + ":";
          break;
        case Multipart::kData: said += parts.data(); break;
        case Multipart::kEnd: said += ">"; break;
        case Multipart::kDone: return said;
        case Multipart::kBad: return said + "bad";
        case Multipart::kMore:
          if (at >= form.size()) return said + "more";
          parts.feed(std::string_view(form).substr(at, step));
          at += step;
      }
    }
  };
  for (std::size_t step = 1; step <= form.size(); ++step) {
    CAPTURE(step);
    REQUIRE(read(step) == "<n,f:da\r\n--ta><,-:no head><e,-:>");
  }
  CHECK(transfer::boundary_of("Multipart/Form-Data; boundary=\"a b\"") ==
        "a b");
  CHECK(transfer::boundary_of("multipart/form-data; x=y; boundary=z") == "z");
  CHECK_FALSE(transfer::boundary_of("multipart/form-data").has_value());
  CHECK_FALSE(transfer::boundary_of("text/plain; boundary=z").has_value());
  CHECK_FALSE(
      transfer::boundary_of("multipart/form-data; boundary=").has_value());
}

// -------------------------------------------------------- other people's tools

TEST_CASE("transfer serve: files go round with curl", "[transfer][tools]") {
  if (!has_tool("curl --version")) return;
  const Folder folder;
  const Folder here;
  Server server(folder);
  for (const std::size_t size : kSizes) {
    CAPTURE(size);
    const std::string data = noise(size);
    write_file(here.file("f"), data);
    const std::string quoted = "'" + here.file("f") + "' ";
    const std::string curl = "curl -sS --fail-with-body --max-time 60 ";
    CHECK(contains(output_of(curl + "-T " + quoted + server.url("a")),
                   "\"complete\": true"));
    CHECK(contains(output_of(curl + "-C - -T " + quoted + server.url("b")),
                   "\"complete\": true"));
    output_of(curl + "-o '" + here.file("a") + "' " + server.url("a"));
    CHECK((contents(here.file("a")) == data));
    // The second half of what has begun, both ways.
    if (size < 2) {
      CHECK((contents(folder.file("b")) == data));
      continue;
    }
    write_file(here.file("b"), data.substr(0, size / 2));
    output_of(curl + "-C - -o '" + here.file("b") + "' " + server.url("b"));
    CHECK((contents(here.file("b")) == data));
    const std::string half = std::to_string(size / 2);
    server.put_piece("c", data, 0, size / 2);
    CHECK(contains(
        output_of(curl + "-C " + half + " -T " + quoted + server.url("c")),
        "\"complete\": true"));
    CHECK((contents(folder.file("c")) == data));
  }
  const std::string form =
      "curl -sS -w '%{http_code}' -o /dev/null -F 'file=@" + here.file("f") +
      "' " + server.url();
  CHECK(output_of(form) == "303");
  CHECK((contents(folder.file("f")) == contents(here.file("f"))));
}

namespace {

constexpr const char* kRequests = R"(
import hashlib, requests, sys
url, piece = sys.argv[1], 5 * 1024 * 1024
session = requests.Session()
for size in map(int, sys.argv[2:]):
    data = bytes(i * 7 % 251 for i in range(1009)) * (size // 1009 + 1)
    data = data[:size]
    parts = [(i, min(i + piece, size)) for i in range(0, size, piece)]
    for a, b in reversed(parts):
        reply = session.put(url, data[a:b], headers={
            "Content-Range": f"bytes {a}-{b - 1}/{size}"})
        assert reply.status_code in (200, 201, 202), reply.text
        assert [a, b] == reply.json()["received"][0][:1] + [b] or a == 0
    if not parts:
        reply = session.put(url, b"")
    assert reply.json()["complete"], reply.text
    assert int(session.head(url).headers["Content-Length"]) == size
    back = b""
    for a, b in parts:
        reply = session.get(url, headers={"Range": f"bytes={a}-{b - 1}"})
        assert reply.status_code == 206
        back += reply.content
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
print("good")
)";

constexpr const char* kAiohttp = R"(
import aiohttp, asyncio, hashlib, sys
url, piece = sys.argv[1], 5 * 1024 * 1024
async def main():
    async with aiohttp.ClientSession() as session:
        for size in map(int, sys.argv[2:]):
            data = bytes(i * 3 % 251 for i in range(1009)) * (size // 1009 + 1)
            data = data[:size]
            parts = [(i, min(i + piece, size)) for i in range(0, size, piece)]
            async def put(a, b):
                async with session.put(url, data=data[a:b], headers={
                        "Content-Range": f"bytes {a}-{b - 1}/{size}"}) as reply:
                    assert reply.status in (200, 201, 202), await reply.text()
                    return (await reply.json())["complete"]
            async def get(a, b):
                async with session.get(url, headers={
                        "Range": f"bytes={a}-{b - 1}"}) as reply:
                    assert reply.status == 206
                    return await reply.read()
            if parts:
                done = await asyncio.gather(*(put(a, b) for a, b in parts))
                assert sum(done) == 1, done
            else:
                async with session.put(url, data=b"") as reply:
                    assert reply.status in (200, 201)
            async def pieces():
                for i in range(0, size, 100_000):
                    yield data[i:i + 100_000]
            async with session.put(url + "s", data=pieces()) as reply:
                assert reply.status in (200, 201), await reply.text()
            for name in (url, url + "s"):
                async with session.get(name) as reply:
                    assert await reply.read() == data
            got = await asyncio.gather(*(get(a, b) for a, b in parts))
            back = hashlib.sha256(b"".join(got)).digest()
            assert back == hashlib.sha256(data).digest()
asyncio.run(main())
print("good")
)";

void runs_python(const std::string& module, const char* script) {
  // The system's Python has the system's packages, another may have others.
  const std::string imports = " -c 'import " + module + "'";
  std::string python3 = "python3";
  if (std::system((python3 + imports + " 2> /dev/null").c_str()) != 0) {
    python3 = "/usr/bin/python3";
    if (!has_tool(python3 + imports)) return;
  }
  const Folder folder;
  Server server(folder);
  Words command{python3, "-c", script, server.url("f")};
  for (const std::size_t size : kSizes) command.push_back(std::to_string(size));
  Program python(command);
  const End end = python.wait();
  CAPTURE(python.err());
  CHECK(end.code == 0);
  CHECK(python.out() == "good\n");
}

}  // namespace

TEST_CASE("transfer serve: files go round with Python's requests",
          "[transfer][tools]") {
  runs_python("requests", kRequests);
}

TEST_CASE("transfer serve: files go round with Python's aiohttp",
          "[transfer][tools]") {
  runs_python("aiohttp", kAiohttp);
}

// ---------------------------------------------------------------------- memory

TEST_CASE("transfer serve: a hundred uploads at once take little memory",
          "[transfer][memory]") {
#ifdef __linux__
  const ManyDescriptors many;
  REQUIRE(many.at_least(400));
  const Folder folder;
  Server server(folder);
  constexpr std::size_t kSize = 2 << 20;
  const std::string piece = noise(64 << 10);
  std::list<Client> clients;
  for (int i = 0; i < 100; ++i) {
    clients.emplace_back(server.port)
        .send("PUT /f" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n" +
              "Connection: close\r\nContent-Length: " + std::to_string(kSize) +
              "\r\n\r\n");
  }
  for (std::size_t sent = 0; sent < kSize; sent += piece.size()) {
    for (const Client& client : clients) client.send(piece);
  }
  for (const Client& client : clients) {
    CHECK(status_of(client.receive_rest()) == 201);
  }
  const long peak_kib = std::atol(server.status("VmHWM").c_str());
  CAPTURE(peak_kib);
  if (!support::kSanitized) CHECK(peak_kib < 64 * 1024);
#endif
}

TEST_CASE("transfer serve: who waits for a place holds little memory",
          "[transfer][memory]") {
#ifdef __linux__
  const ManyDescriptors many;
  REQUIRE(many.at_least(600));
  const Folder folder;
  Server server(folder, {"--max-transfers", "1"});
  const auto resident_kib = [&] {
    return std::atol(server.status("VmRSS").c_str());
  };
  const long before_kib = resident_kib();
  constexpr int kCount = 400;
  const std::string head =
      " HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
  const std::string body(60'000, 'x');
  std::list<Client> clients;
  for (int i = 0; i < kCount; ++i) {
    const Client& client = clients.emplace_back(server.port);
    client.send("PUT /f" + std::to_string(i) + head + body);
  }
  // A dump comes from a loop that has seen them all.
  eventually("all of them in line", [&] {
    return count_of(server.dump(), "semaphore") >= kCount - 1;
  });
  const long each_kib = (resident_kib() - before_kib) / kCount;
  CAPTURE(each_kib);
  if (!support::kSanitized) CHECK(each_kib < 20);
#endif
}

TEST_CASE("transfer: mistakes on the command line", "[transfer]") {
  const auto said = [](const Words& words, int code) {
    Words command{build_path("transfer")};
    command.insert(command.end(), words.begin(), words.end());
    Program program(command);
    CHECK(program.wait().code == code);
    return code == 0 ? program.out() : program.err();
  };
  CHECK(contains(said({"--help"}, 0), "usage: transfer"));
  CHECK(contains(said({"serve", "--help"}, 0), "usage: transfer serve"));
  CHECK(contains(said({"surve"}, 2), "unknown command 'surve'"));
  CHECK(said({"serve", "--prot", "1"}, 2) ==
        "transfer: unknown option '--prot' (did you mean '--port'?); try "
        "--help\n");
  CHECK(said({"serve", "--dir", ""}, 2) ==
        "transfer: option '--dir' needs a value, FOLDER; try --help\n");
  CHECK(said({"put", "", "http://h/"}, 2) ==
        "transfer: FILE is empty; try --help\n");
  CHECK(said({"get", ""}, 2) == "transfer: URL is empty; try --help\n");
  CHECK(said({"serve", "--port", "0", "--dir", "/nowhere"}, 1) ==
        "transfer: open /nowhere: No such file or directory\n");
}

// ---------------------------------------------------------------- transfer put

namespace {

/// `transfer put` of a file.
Words put_command(const std::string& file, const std::string& url,
                  const Words& options = {}) {
  Words command{build_path("transfer"), "put"};
  command.insert(command.end(), options.begin(), options.end());
  command.push_back(file);
  command.push_back(url);
  return command;
}

/// A server that a test scripts: `answer(request)` for each request's head,
/// after its body has come. An empty answer closes the connection.
class Scripted {
 public:
  using Answer = std::function<std::string(const std::string& head,
                                           const std::string& body)>;

  explicit Scripted(Answer answer)
      : answer_(std::move(answer)),
        listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    auto* address = reinterpret_cast<sockaddr*>(&name);
    if (::bind(listener_.get(), address, size) != 0 ||
        ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), address, &size) != 0) {
      fail_with_errno("listen");
    }
    port_ = ntohs(name.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  Scripted(const Scripted&) = delete;
  ~Scripted() {
    ends_ = true;
    try {
      const Client last(port_);  // wakes it
    } catch (const std::system_error&) {
    }
    thread_.join();
  }

  std::string url(const std::string& name) const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/" + name;
  }

 private:
  void serve() {
    while (!ends_) {
      const violet::Fd one(::accept(listener_.get(), nullptr, nullptr));
      if (!one || ends_) continue;
      converse(one.get());
    }
  }

  /// One request; "Connection: close" is in each answer.
  void converse(int fd) {
    std::string got;
    char buffer[65536];
    std::size_t end = 0;
    std::size_t length = 0;
    for (;;) {
      const ssize_t count = ::recv(fd, buffer, sizeof buffer, 0);
      if (count <= 0) return;
      got.append(buffer, static_cast<std::size_t>(count));
      end = got.find("\r\n\r\n");
      if (end == got.npos) continue;
      const auto field = got.find("Content-Length: ");
      if (field < end) length = std::strtoul(&got[field + 16], nullptr, 10);
      if (got.size() >= end + 4 + length) break;
    }
    const std::string said = answer_(got.substr(0, end), got.substr(end + 4));
    std::size_t sent = 0;
    while (sent < said.size()) {
      const ssize_t count =
          ::send(fd, said.data() + sent, said.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;
      sent += static_cast<std::size_t>(count);
    }
  }

  Answer answer_;
  violet::Fd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

std::string reply(const std::string& first, const std::string& fields = "",
                  const std::string& body = "") {
  return "HTTP/1.1 " + first + "\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n" + fields + "\r\n" + body;
}

}  // namespace

TEST_CASE("transfer put: what was sent of a file that changed is given up",
          "[transfer][put]") {
  const Folder here;
  const std::string file = here.file("f");
  write_file(file, std::string(100, 'a'));
  std::string asked;
  Scripted server([&](const std::string& head, const std::string&) {
    asked += head.substr(0, head.find(' ')) + " ";
    if (head.starts_with("HEAD"))
      return reply("404 No", "Upload-Protocol: 1\r\n");
    if (head.starts_with("PUT")) write_file(file, std::string(101, 'b'));
    return reply("202 Accepted");
  });
  Program put(
      put_command(file, server.url("f"), {"--chunk", "50", "--parallel", "1"}));
  CHECK(put.wait().code == 1);
  CHECK(put.err() == "transfer: " + file + " has changed while it was sent\n");
  CHECK(asked.starts_with("HEAD PUT DELETE "));
}

TEST_CASE("transfer put: only a plain file that knows its length is sent",
          "[transfer][put]") {
  const Folder folder;
  Server server(folder);
  write_file(folder.file("f"), "precious");
  Program device(put_command("/dev/zero", server.url("f")));
  CHECK(device.wait().code == 2);
  CHECK(contains(device.err(),
                 "'/dev/zero' is no plain file: copy what comes "
                 "from it to one"));
#ifdef __linux__
  Program proc(put_command("/proc/self/status", server.url("f")));
  CHECK(proc.wait().code == 1);
  CHECK(proc.err() ==
        "transfer: /proc/self/status does not say how long it is: copy it "
        "first\n");
#endif
  CHECK(contents(folder.file("f")) == "precious");
}

TEST_CASE("transfer put: a redirect that leads nowhere is not tried again",
          "[transfer][put]") {
  const Folder here;
  write_file(here.file("f"), "body");
  for (const char* where : {"https://127.0.0.1/", "/f?upload"}) {
    Scripted server([&](const std::string&, const std::string&) {
      return reply("307 There", std::string("Location: ") + where + "\r\n");
    });
    Program put(put_command(here.file("f"), server.url("f")));
    CHECK(put.wait().code == 1);
    CAPTURE(put.err());
    CHECK(programs::count_of(put.err(), "\n") == 1);
    CHECK(contains(put.err(), "redirect"));
  }
}

TEST_CASE("transfer put: files of every size arrive, one way or another",
          "[transfer][put]") {
  const Folder folder;
  const Folder here;
  Server server(folder);
  const std::vector<Words> ways = {{"--parallel", "1"},
                                   {},
                                   {"--parallel", "16", "--chunk", "1MiB"},
                                   {"--threads", "3", "--chunk", "300000"}};
  std::uint32_t number = 0;
  for (const std::size_t size : kSizes) {
    for (const Words& way : ways) {
      CAPTURE(size, way);
      const std::string data = noise(size, ++number);
      write_file(here.file("f"), data);
      const std::string name = std::to_string(number);
      Program put(put_command(here.file("f"), server.url(name), way));
      CHECK(put.wait().code == 0);
      CHECK(put.err() == "");
      CHECK(put.out().starts_with("stored " + server.url(name) + " " +
                                  std::to_string(size) + " bytes: "));
      CHECK((contents(folder.file(name)) == data));
    }
  }
  // Below a folder it has its own name. What is there is not sent again.
  for (int i = 0; i < 2; ++i) {
    Program put(put_command(here.file("f"), server.url()));
    CHECK(put.wait().code == 0);
    CHECK(contains(put.out(), i == 0 ? "bytes: 12.0 MiB in" : "bytes: 0 B in"));
  }
  CHECK((contents(folder.file("f")) == contents(here.file("f"))));
}

TEST_CASE("transfer put: only what is missing is sent", "[transfer][put]") {
  const Folder folder;
  const Folder here;
  Server server(folder);
  const std::string data = noise(3'000'000);
  write_file(here.file("f"), data);
  const std::string id = "sha256-" + output_of("sha256sum '" + here.file("f") +
                                               "' | cut -d ' ' -f 1 | "
                                               "tr -d '\\n'");
  server.put_piece("f", data, 1'000'000, 2'500'000, id);
  Program put(put_command(here.file("f"), server.url()));
  CHECK(put.wait().code == 0);
  CHECK(contains(put.out(), "bytes: 1.4 MiB in"));
  CHECK((contents(folder.file("f")) == data));
}

TEST_CASE(
    "transfer put: a server that dies again and again gets all in the "
    "end",
    "[transfer][put]") {
  const Folder folder;
  const Folder here;
  const std::string data = noise(20 << 20);
  write_file(here.file("f"), data);
  std::optional<Server> server;
  server.emplace(folder);
  const Words same_port{"--port", std::to_string(server->port)};
  Program put(put_command(here.file("f"), server->url(),
                          {"--chunk", "100KiB", "--parallel", "4"}));
  int deaths = 0;
  for (; deaths < 5; ++deaths) {
    const auto grown = [&] {
      for (const std::string& name : folder.names()) {
        if (name == "f") return true;
        if (!name.ends_with(".upload")) continue;
        const std::string text = contents(folder.file(name));
        if (count_of(text, "have ") >= 10u * unsigned(deaths + 1)) return true;
      }
      return false;
    };
    eventually("some pieces", grown);
    server->signal(SIGKILL);
    server->wait();
    server.emplace(folder, same_port);
  }
  const End end = put.wait();
  CAPTURE(put.err());
  CHECK(end.code == 0);
  CHECK((contents(folder.file("f")) == data));
}

TEST_CASE("transfer put: after Ctrl-C the same command goes on",
          "[transfer][put]") {
  const Folder folder;
  const Folder here;
  Server server(folder);
  const std::string data = noise(30 << 20);
  write_file(here.file("f"), data);
  const Words command = put_command(here.file("f"), server.url(),
                                    {"--chunk", "20KiB", "--parallel", "2"});
  {
    Program put(command);
    eventually("some pieces", [&] {
      for (const std::string& name : folder.names()) {
        if (name.ends_with(".upload") &&
            count_of(contents(folder.file(name)), "have ") > 20) {
          return true;
        }
      }
      return false;
    });
    CHECK(put.stop(SIGINT).code == 128 + SIGINT);
  }
  REQUIRE_FALSE(std::filesystem::exists(folder.file("f")));
  Program put(command);
  CHECK(put.wait().code == 0);
  CHECK_FALSE(contains(put.out(), "bytes: 30.0 MiB in"));
  CHECK((contents(folder.file("f")) == data));
}

TEST_CASE("transfer put: a server that knows no pieces gets the whole file",
          "[transfer][put]") {
  const Folder here;
  const std::string data = noise(1'000'000);
  write_file(here.file("f"), data);
  std::string stored;
  int puts = 0;
  bool cut = false;
  std::optional<Scripted> server;
  server.emplace([&](const std::string& head, const std::string& body) {
    if (head.starts_with("HEAD /f?upload ")) return reply("404 Not Found");
    if (head.starts_with("HEAD /f ")) {
      return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
             std::to_string(stored.size()) + "\r\n\r\n";
    }
    if (contains(head, "Content-Range")) cut = true;
    if (++puts < 3) return puts == 1 ? "" : reply("502 Bad Gateway");
    stored = body;
    return reply("204 No Content");
  });
  Program put(put_command(here.file("f"), server->url("f")));
  CHECK(put.wait().code == 0);
  server.reset();  // and its thread, which writes what follows
  CHECK_FALSE(cut);
  CHECK(puts == 3);
  CHECK((stored == data));
  CHECK(count_of(put.err(), "; trying again\n") == 2);
  CHECK(contains(put.err(), ": 502 Bad Gateway; trying again\n"));
}

TEST_CASE("transfer put: who is told when to come again does not come before",
          "[transfer][put]") {
  const Folder here;
  write_file(here.file("f"), "some bytes");
  int heads = 0;
  int puts = 0;
  std::optional<Scripted> server;
  server.emplace([&](const std::string& head, const std::string&) {
    if (head.starts_with("HEAD /f?upload ")) {
      if (++heads > 1) return reply("404 Not Found");
      return std::string(
          "HTTP/1.1 429 Slowly\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
          "\r\n");
    }
    if (head.starts_with("HEAD")) return reply("404 Not Found");
    if (++puts == 1) {
      return std::string(
          "HTTP/1.1 503 Busy\r\nRetry-After: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
          "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n");
    }
    return reply("204 No Content");
  });
  const auto begin = std::chrono::steady_clock::now();
  Program put(put_command(here.file("f"), server->url("f")));
  CHECK(put.wait().code == 0);
  CHECK(std::chrono::steady_clock::now() - begin >= 2s);
  server.reset();
  CHECK(puts == 2);
  CHECK(contains(put.err(), ": 429 Slowly; trying again in 1 s\n"));
  CHECK(contains(put.err(), ": 503 Busy; trying again in 1 s\n"));
}

TEST_CASE("transfer put: what will not get better is told at once",
          "[transfer][put]") {
  const Folder folder;
  const Folder here;
  write_file(here.file("f"), "some bytes");
  Server server(folder);
  server.put_piece("f", std::string(20, 'x'), 0, 10, "other");
  const auto said = [&](const std::string& file, const std::string& url,
                        const Words& options = {}) {
    Program put(put_command(file, url, options));
    CHECK(put.wait().code == 1);
    CHECK(count_of(put.err(), "\n") == 1);
    return put.err();
  };
  CHECK(said(here.file("f"), server.url("f")) ==
        "transfer: another upload of " + server.url("f") +
            " is in progress; a DELETE of " + server.url("f?upload") +
            " gives it up\n");
  CHECK(said(here.file("f"), server.url("no/f")) ==
        "transfer: PUT " + server.url("no/f") +
            ": 404 Not Found: there is no such folder\n");
  CHECK(said(here.file("nothing"), server.url("g")) ==
        "transfer: open " + here.file("nothing") +
            ": No such file or directory\n");
  CHECK(
      contains(said(here.file("f"), "http://127.0.0.1:1/f", {"--retries", "0"}),
               " 127.0.0.1:1: "));
  Program wrong(put_command(here.file("f"), "https://a/f"));
  CHECK(wrong.wait().code == 2);
  for (const char* url : {"http://a/f?x", "http://a/f#x"}) {
    Program more(put_command(here.file("f"), url));
    CHECK(more.wait().code == 2);
  }
  Program whole(put_command(folder.path(), server.url("f")));
  CHECK(whole.wait().code == 2);
  CHECK(contains(whole.err(), "' is a folder: send its files one by one"));
}

TEST_CASE("transfer serve: where nothing may be written is 403", "[transfer]") {
  const char* const kReadOnly = "/sys/power";  // also for root
  if (!std::filesystem::is_directory(kReadOnly)) return;
  const Folder folder;
  Server server(folder, {"--dir", kReadOnly});
  const std::string text = "the server may not write there\n";
  for (const std::string& reply :
       {server.put("f", "bytes"), server.put_piece("f", "bytes", 0, 2, "id")}) {
    CHECK(status_of(reply) == 403);
    CHECK(body_of(reply) == text);
  }
  const Folder here;
  write_file(here.file("f"), "bytes");
  Program put(put_command(here.file("f"), server.url("f")));
  CHECK(put.wait().code == 1);
  CHECK(put.err() == "transfer: PUT " + server.url("f") +
                         ": 403 Forbidden: the server may not write there\n");
}

TEST_CASE("transfer put: what a server misses beyond the file is not believed",
          "[transfer][put]") {
  const Folder here;
  write_file(here.file("f"), "some bytes");
  transfer::Sha256 sum;
  sum.add("some bytes");
  const std::string id = "sha256-" + sum.text();
  for (const char* missing :
       {"0-9223372036854775806", "5-18446744073709551615", "5-9,0-4"}) {
    CAPTURE(missing);
    std::string got;
    std::optional<Scripted> server;
    server.emplace([&](const std::string& head, const std::string& body) {
      if (head.starts_with("HEAD /f?upload ")) {
        return "HTTP/1.1 200 OK\r\nUpload-Protocol: 1\r\nUpload-Id: " + id +
               "\r\nUpload-Size: 10\r\nUpload-Missing: " + missing +
               "\r\nContent-Length: 0\r\n\r\n";
      }
      if (head.starts_with("HEAD")) return reply("404 Not Found");
      got = body;
      return reply("201 Created");
    });
    Program put(put_command(here.file("f"), server->url("f")));
    CHECK(put.wait().code == 0);
    server.reset();
    CHECK(got == "some bytes");
  }
}

TEST_CASE("transfer put: progress is a bar on a terminal, and lines elsewhere",
          "[transfer][put]") {
  using transfer::bar_text;
  CHECK(bar_text(0, 100, 0) == "[----------------]   0%  0 B of 100 B");
  CHECK(bar_text(5 << 20, 10 << 20, 1 << 20) ==
        "[########--------]  50%  5.0 MiB of 10.0 MiB  1.0 MiB/s  5 s left");
  CHECK(bar_text(100, 100, 10) ==
        "[################] 100%  100 B of 100 B  10 B/s  0 s left");
  const std::uint64_t much = (std::uint64_t{1} << 40) - 1;
  CHECK(bar_text(much - (much >> 15), much, 16'000).size() < 80);
  CHECK(bar_text((std::uint64_t{1} << 30) - 1, much, 300'000'000).size() < 80);
  CHECK(bar_text(0, 0, 0) == "[################] 100%  0 B of 0 B");
  CHECK(contains(bar_text(0, 10'000, 1), "2 h 46 m left"));
  CHECK(contains(bar_text(0, 100, 1), "1 m 40 s left"));
}

TEST_CASE("sha256: the digests of the standard, however the bytes come",
          "[transfer]") {
  const auto digest = [](const std::string& text, std::size_t step) {
    transfer::Sha256 sum;
    for (std::size_t at = 0; at < text.size(); at += step) {
      sum.add(std::string_view(text).substr(at, step));
    }
    return sum.text();
  };
  CHECK(digest("", 1) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc", 1) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1'000'000, 'a');
  for (const std::size_t step : {7u, 63u, 64u, 65u, 1'000'000u}) {
    CHECK(digest(million, step) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
  for (const std::size_t size : {55u, 56u, 63u, 64u, 119u, 120u}) {
    const std::string text = noise(size);
    CHECK(digest(text, 1) == digest(text, size));
  }
}

// ------------------------------------------------------- several at one folder

namespace {

/// A port that was free a moment ago, for programs that cannot choose one.
std::uint16_t free_port() {
  const violet::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  if (::bind(fd.get(), address, size) != 0 ||
      ::getsockname(fd.get(), address, &size) != 0) {
    fail_with_errno("bind");
  }
  return ntohs(name.sin_port);
}

/// Bytes that a process has written, to files and sockets.
std::uint64_t written_by(const Program& program) {
  const std::string text = contents(program.proc("io"));
  return std::strtoull(Program::value_of(text, "wchar").c_str(), nullptr, 10);
}

std::string address_of(std::uint16_t port) {
  return "127.0.0.1:" + std::to_string(port);
}

/// An upload through a balancer before two servers, one of which dies.
void goes_through(const Words& balancer, std::uint16_t port,
                  const Folder& folder, Server& first, Server& second) {
  const Folder here;
  const std::string data = noise(20 << 20);
  write_file(here.file("f"), data);
  Program between(balancer);
  eventually("a balancer that listens", [&] { return !refused(port); });
  Program put(put_command(
      here.file("f"), "http://127.0.0.1:" + std::to_string(port) + "/",
      {"--chunk", "50KiB", "--parallel", "4", "--retries", "20"}));
  eventually("pieces at both", [&] {
    return written_by(first) > 500'000 && written_by(second) > 500'000;
  });
  REQUIRE_FALSE(std::filesystem::exists(folder.file("f")));
  first.signal(SIGKILL);
  first.wait();
  const End end = put.wait();
  CAPTURE(put.err(), between.err());
  CHECK(end.code == 0);
  CHECK((contents(folder.file("f")) == data));
  // A form of the page that the browser has got through it.
  const std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"file\"; "
      "filename=\"g\"\r\n\r\nfrom a form\r\n--b--\r\n";
  const Client browser(port);
  browser.send("POST / HTTP/1.1\r\nHost: " + address_of(port) +
               "\r\nOrigin: http://" + address_of(port) +
               "\r\nContent-Type: multipart/form-data; boundary=b\r\n"
               "Connection: close\r\nContent-Length: " +
               std::to_string(form.size()) + "\r\n\r\n" + form);
  CHECK(status_of(browser.receive_rest()) == 303);
  CHECK(contents(folder.file("g")) == "from a form");
}

}  // namespace

#ifdef __linux__

TEST_CASE("transfer: two servers behind nginx, one of which dies",
          "[transfer][tools]") {
  if (!has_tool("nginx -v")) return;
  const Folder folder;
  const Folder here;
  Server first(folder);
  Server second(folder);
  const std::uint16_t port = free_port();
  const std::string temporary = here.file("temporary");
  write_file(
      here.file("nginx.conf"),
      "daemon off; master_process off; pid " + here.file("pid") +
          "; error_log stderr crit;\nevents {}\nhttp { access_log off;"
          " client_max_body_size 0; proxy_request_buffering off;\n"
          " client_body_temp_path " +
          temporary + "; proxy_temp_path " + temporary +
          "; fastcgi_temp_path " + temporary + "; uwsgi_temp_path " +
          temporary + "; scgi_temp_path " + temporary +
          ";\n upstream both { server " + address_of(first.port) +
          " fail_timeout=1s; server " + address_of(second.port) +
          " fail_timeout=1s; }\n server { listen " + address_of(port) +
          "; location / { proxy_pass http://both; proxy_http_version 1.1;"
          " proxy_set_header Host $http_host;"
          " proxy_set_header Connection \"\"; } } }\n");
  goes_through({"nginx", "-e", "stderr", "-p", here.path(), "-c",
                here.file("nginx.conf")},
               port, folder, first, second);
}

TEST_CASE("transfer: two servers behind HAProxy, one of which dies",
          "[transfer][tools]") {
  if (!has_tool("haproxy -v")) return;
  const Folder folder;
  const Folder here;
  Server first(folder);
  Server second(folder);
  const std::uint16_t port = free_port();
  write_file(here.file("haproxy.cfg"),
             "defaults\n  mode http\n  timeout connect 5s\n  timeout client "
             "60s\n  timeout server 60s\n  option redispatch\n"
             "listen both\n  bind " +
                 address_of(port) + "\n  balance roundrobin\n  server first " +
                 address_of(first.port) +
                 " check inter 200ms\n  server second " +
                 address_of(second.port) + " check inter 200ms\n");
  goes_through({"haproxy", "-db", "-f", here.file("haproxy.cfg")}, port, folder,
               first, second);
}

#endif
