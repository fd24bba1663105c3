// http_interop_test.cpp - the client and other people's servers. What is not
// installed is skipped.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>

#include "../net/http/http.hpp"
#include "../net/net.hpp"
#include "program.hpp"

using namespace programs;
using namespace violet;
using http::Response;

namespace {

/// A folder that goes with all that is in it.
class Folder {
 public:
  Folder() {
    if (::mkdtemp(path_.data()) == nullptr) fail_with_errno("mkdtemp");
    std::filesystem::create_directory(path_ + "/files");
  }
  Folder(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  void put(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ + "/files/" + name) << bytes;
  }

 private:
  std::string path_ = "/tmp/violet.XXXXXX";
};

bool is_there(const std::string& command) {
  const std::string quiet = command + " > /dev/null 2>&1";
  return std::system(quiet.c_str()) == 0;
}

/// Asks with a client of a loop of its own.
template <class Body>
void with_client(Body body) {
  run([](Body& asks) -> Task<> {
    http::Client client;
    co_await asks(client);
  }(body));
}

/// A file, a part of it, and what is not there, on one connection.
Task<> ask_for_files(http::Client& client, std::string base,
                     std::string bytes) {
  Response whole = co_await client.get(base + "/file.bin");
  CHECK(whole.status() == 200);
  CHECK(whole.length() == bytes.size());
  const std::string got = co_await whole.read_all(1 << 20);
  CHECK((got == bytes));

  Response head = co_await client.head(base + "/file.bin");
  CHECK(head.status() == 200);
  CHECK(head.done());
  CHECK(head.length() == bytes.size());

  Response missing = co_await client.get(base + "/nothing");
  CHECK(missing.status() == 404);
  co_await missing.read_all(1 << 20);

  Response folder = co_await client.get(base + "/folder");
  CHECK(folder.url().text() == base + "/folder/");  // after a redirect
  co_await folder.read_all(1 << 20);

  for (int i = 0; i < 10; ++i) {
    Response again = co_await client.get(base + "/file.bin");
    const std::string same = co_await again.read_all(1 << 20);
    CHECK((same == bytes));
  }
}

constexpr const char* kPythonServer = R"(
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
  protocol_version = sys.argv[1]
  def log_message(self, *args): pass
  def do_PUT(self):
    body = b''
    if self.headers.get('Transfer-Encoding') == 'chunked':
      while True:
        size = int(self.rfile.readline(), 16)
        body += self.rfile.read(size)
        self.rfile.readline()
        if size == 0: break
    else:
      body = self.rfile.read(int(self.headers['Content-Length']))
    self.send_response(201)
    self.send_header('Transfer-Encoding', 'chunked')
    self.end_headers()
    for at in range(0, len(body), 1000):
      part = body[at:at + 1000]
      self.wfile.write(b'%x\r\n%s\r\n' % (len(part), part))
    self.wfile.write(b'0\r\n\r\n')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0),
    functools.partial(Handler, directory=sys.argv[2]))
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
)";

struct Python : Program {
  Python(const Folder& folder, const char* version)
      : Program({"python3", "-c", kPythonServer, version,
                 folder.path() + "/files"}),
        base("http://127.0.0.1:" + line()) {}
  std::string base;
};

/// nginx cannot take any port that is free, so one is looked for.
class Nginx {
 public:
  explicit Nginx(const Folder& folder) {
    for (int tries = 0; tries < 5 && !start(folder); ++tries) {
    }
    if (!process_) fail("nginx does not start");
  }
  std::string base;

 private:
  bool start(const Folder& folder) {
    const std::uint16_t port = [] {
      const Fd fd = listen_socket(Address::parse("127.0.0.1", 0));
      return local_address(fd.get()).port();
    }();
    const std::string config = folder.path() + "/conf";
    std::ofstream(config) << config_text(folder.path(), port);
    process_ = std::make_unique<Program>(
        std::vector<std::string>{"nginx", "-p", folder.path(), "-c", config,
                                 "-e", folder.path() + "/log"});
    base = concat({"http://127.0.0.1:", port});
    const auto answers = [&](http::Client& client) -> Task<bool> {
      try {
        const Response reply = co_await client.head(base + "/");
        co_return reply.status() > 0;
      } catch (const std::system_error&) {
        co_return false;
      }
    };
    for (int i = 0; i < 500; ++i) {
      bool up = false;
      with_client([&](http::Client& client) -> Task<> {
        up = co_await answers(client);
      });
      if (up) return true;
      std::this_thread::sleep_for(10ms);
    }
    process_.reset();
    return false;
  }

  static std::string config_text(const std::string& path, unsigned port) {
    std::string text = concat(
        {"daemon off; master_process off; pid ", path, "/pid;\n",
         "events {}\nhttp {\naccess_log off;\nlarge_client_header_buffers 4 "
         "8k;\n"});
    for (const char* kind :
         {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      text += concat({kind, "_temp_path ", path, "/", kind, ";\n"});
    }
    text +=
        concat({"types { text/html html; }\n",
                "server {\nlisten 127.0.0.1:", port, ";\nroot ", path,
                "/files;\nautoindex on;\n", "location /folder { ssi on; }\n",
                "location /put/ { dav_methods PUT; "
                "create_full_put_path on; client_max_body_size 1m; }\n",
                "}\n}\n"});
    return text;
  }

  std::unique_ptr<Program> process_;
};

}  // namespace

TEST_CASE("http interop: Python's http.server, of both versions",
          "[http][interop]") {
  if (!is_there("python3 -c 'import http.server'")) {
    WARN("skipped: there is no python3 here");
    return;
  }
  const std::string bytes = noise(300'000);
  const Folder folder;
  folder.put("file.bin", bytes);
  std::filesystem::create_directory(folder.path() + "/files/folder");
  for (const char* version : {"HTTP/1.0", "HTTP/1.1"}) {
    CAPTURE(version);
    const Python server(folder, version);
    with_client([&](http::Client& client) -> Task<> {
      co_await ask_for_files(client, server.base, bytes);
      // With 1.1 it closes after an error alone.
      const bool keeps = version == std::string("HTTP/1.1");
      CHECK((client.pool().made() == 2) == keeps);
    });
  }
}

TEST_CASE("http interop: bodies to Python and back, counted and in chunks",
          "[http][interop]") {
  if (!is_there("python3 -c 'import http.server'")) {
    WARN("skipped: there is no python3 here");
    return;
  }
  const Folder folder;
  const Python server(folder, "HTTP/1.1");
  const std::string bytes = noise(123'456);
  with_client([&](http::Client& client) -> Task<> {
    Response reply = co_await client.put(server.base + "/x", bytes);
    CHECK(reply.status() == 201);
    std::string got = co_await reply.read_all(1 << 20);
    CHECK((got == bytes));
    const auto writes = [&](http::BodyWriter& out) -> Task<> {
      for (std::size_t at = 0; at < bytes.size(); at += 777) {
        co_await out.write(std::string_view(bytes).substr(at, 777));
      }
    };
    http::Request request("PUT", server.base + "/x");
    request.body(writes);
    Response echoed = co_await client.send(std::move(request));
    got = co_await echoed.read_all(1 << 20);
    CHECK((got == bytes));
    CHECK(client.pool().made() == 1);
  });
}

TEST_CASE("http interop: nginx", "[http][interop]") {
  if (!is_there("nginx -v")) {
    WARN("skipped: there is no nginx here");
    return;
  }
  const std::string bytes = noise(300'000);
  const Folder folder;
  folder.put("file.bin", bytes);
  std::filesystem::create_directory(folder.path() + "/files/folder");
  folder.put("folder/index.html", "<p>a<!--#echo var=\"uri\" -->b");
  const Nginx server(folder);
  with_client([&](http::Client& client) -> Task<> {
    co_await ask_for_files(client, server.base, bytes);

    http::Request part("GET", server.base + "/file.bin");
    part.field("Range", "bytes=1000-1999");
    Response reply = co_await client.send(std::move(part));
    CHECK(reply.status() == 206);
    CHECK(reply.fields().find("Content-Range") == "bytes 1000-1999/300000");
    std::string got = co_await reply.read_all(1 << 20);
    CHECK((got == bytes.substr(1000, 1000)));

    Response page = co_await client.get(server.base + "/folder/index.html");
    CHECK(page.head().chunked);
    got = co_await page.read_all(1 << 20);
    CHECK(got == "<p>a/folder/index.htmlb");

    const auto writes = [&](http::BodyWriter& out) -> Task<> {
      co_await out.write("hello ");
      co_await out.write("world");
    };
    http::Request request("PUT", server.base + "/put/new");
    request.body(writes).expect_continue();
    Response stored = co_await client.send(std::move(request));
    CHECK(stored.status() == 201);
    co_await stored.read_all(1 << 20);
    CHECK(contents(folder.path() + "/files/put/new") == "hello world");
    CHECK(client.pool().made() == 1);

    // Refused while it is sent: nginx answers, and then closes.
    const std::string large(20'000'000, 'x');
    Response refused = co_await client.put(server.base + "/put/large", large);
    CHECK(refused.status() == 413);
    CHECK_FALSE(std::filesystem::exists(folder.path() + "/files/put/large"));
  });
}
