// httpd_test.cpp - the server of files, as its clients see it.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

using Words = std::vector<std::string>;

/// A server of a folder with one file, on a port of its own.
struct Httpd : Program {
  Httpd(const TemporaryFolder& folder, const Words& options = {})
      : Program(command_of(folder, options)) {
    const std::string first = line();
    CHECK(first.rfind("httpd: listening on 127.0.0.1:", 0) == 0);
    port = port_in(first);
    url = "http://127.0.0.1:" + std::to_string(port);
  }

  static Words command_of(const TemporaryFolder& folder, const Words& options) {
    Words command{build_path("httpd"), "--port", "0", "--dir", folder.path()};
    command.insert(command.end(), options.begin(), options.end());
    return command;
  }

  std::uint16_t port = 0;
  std::string url;
};

std::string ask(const Httpd& httpd, const std::string& target) {
  const Client client(httpd.port);
  client.send("GET " + target +
              " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  return client.receive_rest();
}

bool has_curl() {
  Program curl({"curl", "--version"});
  return curl.wait().code == 0;
}

/// What curl prints, and 0 if it is content.
End run_curl(const Words& options, std::string& out) {
  Words command{"curl", "-sS", "--max-time", "20"};
  command.insert(command.end(), options.begin(), options.end());
  Program curl(command);
  const End end = curl.wait();
  out = curl.out();
  CAPTURE(curl.err());
  CHECK(curl.err() == "");
  return end;
}

}  // namespace

TEST_CASE("httpd: serves a folder, and stops", "[httpd]") {
  TemporaryFolder folder;
  std::ofstream(folder.file("a.txt")) << "0123456789";
  for (const char* const loops : {"1", "3"}) {
    Httpd httpd(folder, {"--loops", loops});
    for (int i = 0; i < 8; ++i) {
      CHECK(contains(ask(httpd, "/a.txt"), "\r\n\r\n0123456789"));
    }
    CHECK(contains(ask(httpd, "/"), "<a href=\"a.txt\">a.txt</a>"));
    CHECK(contains(ask(httpd, "/../a.txt"), "HTTP/1.1 400 "));
    CHECK(httpd.stop(SIGTERM).code == 0);
    CHECK(contains(httpd.err(), "httpd: stopped: 10 served, 0 cut"));
  }
}

TEST_CASE("httpd: a folder that is not there is a failure", "[httpd]") {
  Program httpd({build_path("httpd"), "--port", "0", "--dir", "/nonexistent"});
  CHECK(httpd.wait().code == 1);
  CHECK(httpd.out() == "");
  CHECK(httpd.err() == "httpd: open /nonexistent: No such file or directory\n");
}

TEST_CASE("httpd: curl is content", "[httpd]") {
  if (!has_curl()) return;
  TemporaryFolder folder;
  TemporaryFolder got;
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += std::to_string(i) + '\n';
  std::ofstream(folder.file("a b.txt"), std::ios::binary) << text;
  const Httpd httpd(folder);
  const std::string url = httpd.url + "/a%20b.txt";
  std::string out;
  CHECK(run_curl({url}, out).code == 0);
  CHECK((out == text));
  CHECK(run_curl({"-r", "3-11", url}, out).code == 0);
  CHECK(out == text.substr(3, 9));

  // Goes on where a download was cut.
  const std::string file = got.file("part");
  std::ofstream(file, std::ios::binary) << text.substr(0, 100'000);
  CHECK(run_curl({"-C", "-", "-o", file, url}, out).code == 0);
  CHECK((contents(file) == text));

  // Nothing is sent twice.
  const std::string tag = got.file("tag");
  CHECK(run_curl({"--etag-save", tag, "-o", file, url}, out).code == 0);
  CHECK(run_curl({"--etag-compare", tag, "-o", got.file("new"), "-w",
                  "%{http_code} %{size_download}", url},
                 out)
            .code == 0);
  CHECK(out == "304 0");
  CHECK(run_curl({"--path-as-is", "-o", "/dev/null", "-w", "%{http_code}",
                  httpd.url + "/../../etc/passwd"},
                 out)
            .code == 0);
  CHECK(out == "400");
}

TEST_CASE("httpd: a client that never reads does not stop others, and is left",
          "[httpd]") {
  TemporaryFolder folder;
  std::ofstream(folder.file("a")) << std::string(16 << 20, 'x');
  std::ofstream(folder.file("b")) << "small";
  Httpd httpd(folder, {"--timeout", "1s"});
  const Client greedy(httpd.port, 4096);
  greedy.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(contains(ask(httpd, "/b"), "\r\n\r\nsmall"));
  const auto begin = Clock::now();
  bool serves = true;  // until the job is gone that sends it
  while (serves && Clock::now() - begin < kLimit) {
    serves = contains(httpd.dump(), "sendfile");
  }
  CHECK_FALSE(serves);
  CHECK(greedy.receive_rest().size() < (16 << 20));
}
