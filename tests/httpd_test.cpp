// httpd_test.cpp - the server of files, as its clients see it.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <algorithm>
#include <cstdlib>
#include <list>
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

TEST_CASE("httpd: slow clients of every kind stop nobody, and take little",
          "[httpd][memory]") {
  const ManyDescriptors many;
  REQUIRE(many.at_least(1200));
  TemporaryFolder folder;
  std::ofstream(folder.file("a")) << std::string(16 << 20, 'x');
  std::ofstream(folder.file("b")) << "small";
  Httpd httpd(folder, {"--grace", "100ms"});
  CHECK(contains(ask(httpd, "/b"), "\r\n\r\nsmall"));
  const auto resident_kib = [&] {
    return std::atol(httpd.status("VmRSS").c_str());
  };
  const long before_kib = resident_kib();

  // Half a head, half a body, a thousand ranges, and a reader that is slow.
  std::string ranges = "0-1";
  for (int i = 1; i < 1000; ++i) ranges += ",5-" + std::to_string(i * 10);
  const Words requests{
      "GET /a HTTP/1.1\r\nHost: h\r\nX-",
      "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nx",
      "GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=" + ranges + "\r\n\r\n",
      "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"};
  std::list<Client> slow;
  for (int i = 0; i < 400; ++i) {
    slow.emplace_back(httpd.port, 4096)
        .send(requests[static_cast<std::size_t>(i) % requests.size()]);
  }
  for (int i = 0; i < 10; ++i) {
    for (const Client& client : slow) {
      if (!client.readable()) client.send("y");  // a byte now and then
    }
    CHECK(contains(ask(httpd, "/b"), "\r\n\r\nsmall"));
  }
#ifdef __linux__
  const long each_kib = (resident_kib() - before_kib) / 400;
  CAPTURE(each_kib);
  if (!support::kSanitized) CHECK(each_kib < 24);
#endif
  CHECK(httpd.stop(SIGTERM).code == 0);
  for (const Client& client : slow) {
    CHECK(client.receive_rest().size() < (16 << 20));
  }
}
