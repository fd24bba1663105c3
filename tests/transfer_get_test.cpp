// transfer_get_test.cpp - `transfer get` from servers good and bad.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "../apps/transfer/errand.hpp"
#include "../apps/transfer/sha256.hpp"
#include "../net/net.hpp"
#include "program.hpp"
#include "support.hpp"
#include "transfer_support.hpp"

using namespace programs;
using support::contains;
namespace http = violet::http;

namespace {

using Words = std::vector<std::string>;

/// What a server does with its one file.
struct Manners {
  std::string data;
  std::string tag = "\"1\"";
  std::string fields;    // more of them, with their ends
  bool ranges = true;    // it knows them
  std::size_t cut = 0;   // bytes of a body before it hangs up; 0: never
  int busy_from = 1;     // from this request on
  int busy = 0;          // until this one, they get 503
  std::string later_on;  // fields of that, with their ends
  int cuts = 1 << 30;    // so many bodies are cut
  int changes = 0;       // from this request on there is `later`
  std::string later;
  std::chrono::milliseconds rest{0};  // before each body
  std::string first_fields;  // instead of `fields` until a body was cut
  std::string total;         // instead of the size in a Content-Range
  std::string total_behind;  // only where that does not begin at the first byte
  std::size_t shift = 0;     // added to where it says that a piece begins
};

/// A file server in a process of its own, which writes what it is asked for
/// on its stdout.
class FileServer {
 public:
  explicit FileServer(Manners manners)
      : listener_(
            violet::listen_socket(violet::Address::parse("127.0.0.1", 0))),
        url("http://" + violet::local_address(listener_.get()).text() + "/f"),
        process_([this, manners] { return serve(manners); }) {}

  /// What it has been asked for: the Range of each request.
  std::string asked() {
    process_.pump();
    return process_.out();
  }

 private:
  struct Shared {
    std::atomic<int> requests{0};
    std::atomic<int> cuts{0};
  };

  int serve(const Manners& manners) const {
    ::fcntl(listener_.get(), F_SETFL, 0);
    Shared shared;
    for (;;) {
      const int client = ::accept(listener_.get(), nullptr, nullptr);
      if (client < 0) return 1;
      std::thread([client, &manners, &shared] {
        while (answer(client, manners, shared)) {
        }
        ::close(client);
      }).detach();
    }
  }

  static std::string value_of(const std::string& head, const char* name) {
    const auto at = head.find(name);
    if (at == head.npos) return {};
    const auto begin = at + std::strlen(name);
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }

  /// Returns: false once the connection is to be closed.
  static bool answer(int client, const Manners& m, Shared& shared) {
    std::string head;
    for (char c; !head.ends_with("\r\n\r\n"); head += c) {
      if (::recv(client, &c, 1, 0) != 1) return false;
    }
    const int number = ++shared.requests;
    const std::string range = value_of(head, "Range: bytes=");
    const std::string note = "[" + range + "]\n";
    [[maybe_unused]] ssize_t noted = ::write(1, note.data(), note.size());
    if (number >= m.busy_from && number <= m.busy) {
      return send(client, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n" +
                              m.later_on + "\r\n");
    }
    const bool changed = m.changes > 0 && number >= m.changes;
    const std::string& data = changed ? m.later : m.data;
    const std::string tag = changed ? "\"2\"" : m.tag;
    const std::string condition = value_of(head, "If-Range: ");
    std::size_t begin = 0;
    std::size_t last = 0;
    const bool wants =
        std::sscanf(range.c_str(), "%zu-%zu", &begin, &last) == 2;
    std::string total = std::to_string(data.size());
    if (!m.total.empty()) total = m.total;
    if (begin > 0 && !m.total_behind.empty()) total = m.total_behind;
    std::string first = "HTTP/1.1 200 OK\r\n";
    std::string body = data;
    if (m.ranges && wants && (condition.empty() || condition == tag)) {
      if (begin >= data.size()) {
        return send(client,
                    "HTTP/1.1 416 No\r\nContent-Length: 0\r\nContent-Range: "
                    "bytes */" +
                        total + "\r\n\r\n");
      }
      last = std::min(last, data.size() - 1);
      body = data.substr(begin, last - begin + 1);
      first = "HTTP/1.1 206 Part\r\nContent-Range: bytes " +
              std::to_string(begin == 0 ? 0 : begin + m.shift) + "-" +
              std::to_string(last) + "/" + total + "\r\n";
    }
    first += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    if (!tag.empty()) first += "ETag: " + tag + "\r\n";
    std::this_thread::sleep_for(m.rest);
    const std::string& fields =
        shared.cuts == 0 && !m.first_fields.empty() ? m.first_fields : m.fields;
    const bool cuts =
        m.cut > 0 && body.size() > m.cut && ++shared.cuts <= m.cuts;
    if (cuts) body.resize(m.cut);
    return send(client, first + fields + "\r\n" + body) && !cuts;
  }

  static bool send(int client, const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t count =
          ::send(client, &text[at], text.size() - at, MSG_NOSIGNAL);
      if (count <= 0) return false;
      at += static_cast<std::size_t>(count);
    }
    return true;
  }

  violet::Fd listener_;

 public:
  const std::string url;

 private:
  Program process_;
};

/// A run of `transfer get` into a folder, as the file "f".
struct Get : Program {
  Get(const FileServer& server, const Folder& folder, Words options = {})
      : Program(command(server.url, folder.file("f"), std::move(options))) {}

  static Words command(const std::string& url, const std::string& file,
                       Words options) {
    options.insert(options.begin(), {build_path("transfer"), "get", url, file});
    return options;
  }
};

/// Fetches, and checks that the file is there and nothing else.
void check_get(const FileServer& server, const Folder& folder,
               const std::string& data, Words options = {}) {
  Get get(server, folder, std::move(options));
  const End end = get.wait();
  CAPTURE(get.out(), get.err());
  CHECK(end.code == 0);
  CHECK(contains(get.out(), "got " + folder.file("f") + " " +
                                std::to_string(data.size()) + " bytes"));
  CHECK((contents(folder.file("f")) == data));
  CHECK(folder.names() == Names{"f"});
}

Manners with_data(std::size_t size) {
  Manners manners;
  manners.data = noise(size);
  return manners;
}

}  // namespace

TEST_CASE("transfer get: files of every size come in pieces", "[transfer]") {
  for (const std::size_t size : {0u, 1u, 999u, 1000u, 1001u, 12'001u}) {
    CAPTURE(size);
    const Manners manners = with_data(size);
    for (const Words& options :
         {Words{"--chunk", "1000"}, Words{"--chunk", "1000", "--parallel", "1"},
          Words{"--chunk", "1000", "--threads", "3"}, Words{}}) {
      FileServer server(manners);
      const Folder folder;
      check_get(server, folder, manners.data, options);
      if (size > 1000 && options.size() > 1) {
        CHECK(contains(server.asked(), "[0-999]\n"));
        CHECK(contains(server.asked(), "[1000-"));
      }
    }
  }
}

TEST_CASE(
    "transfer get: a server without ranges is listened to from the "
    "beginning",
    "[transfer]") {
  Manners manners = with_data(100'000);
  manners.ranges = false;
  {
    FileServer server(manners);
    const Folder folder;
    check_get(server, folder, manners.data);
    CHECK(server.asked() == "[0-0]\n");
  }
  manners.cut = 50'000;
  manners.cuts = 2;
  FileServer server(manners);
  const Folder folder;
  check_get(server, folder, manners.data, {"--quiet"});
  CHECK(server.asked() == "[0-0]\n[]\n[]\n");
}

TEST_CASE("transfer get: what breaks off is asked for where it broke",
          "[transfer]") {
  Manners manners = with_data(20'000);
  manners.cut = 1500;
  manners.busy = 1;
  FileServer server(manners);
  const Folder folder;
  // Each time something comes, so one retry in a row is enough.
  check_get(server, folder, manners.data,
            {"--chunk", "4000", "--retries", "1", "--quiet"});
  CHECK(contains(server.asked(), "[0-3999]\n"));
  CHECK(contains(server.asked(), "[1500-3999]\n"));
  CHECK(contains(server.asked(), "[3000-3999]\n"));
}

TEST_CASE("transfer get: there is an end to trying", "[transfer]") {
  Manners manners = with_data(1000);
  manners.busy = 100;
  FileServer server(manners);
  const Folder folder;
  Get get(server, folder, {"--retries", "2"});
  CHECK(get.wait().code == 1);
  CAPTURE(get.err());
  CHECK(contains(get.err(), "503 Busy; trying again\n"));
  CHECK(contains(get.err(), "transfer: GET " + server.url + ": 503 Busy\n"));
  CHECK(folder.names().empty());
}

TEST_CASE("transfer get: who is told when to come again does not come before",
          "[transfer]") {
  for (const bool ranges : {true, false}) {
    Manners manners = with_data(1000);
    manners.ranges = ranges;
    manners.busy = 1;
    manners.later_on = "Retry-After: 1\r\n";
    FileServer server(manners);
    const Folder folder;
    const auto begin = std::chrono::steady_clock::now();
    Get get(server, folder);
    CHECK(get.wait().code == 0);
    CHECK(std::chrono::steady_clock::now() - begin >= 1s);
    CHECK(contains(get.err(), "503 Busy; trying again in 1 s\n"));
    CHECK((contents(folder.file("f")) == manners.data));
  }
}

TEST_CASE("transfer get: a whole file that is deferred is asked for again",
          "[transfer]") {
  Manners manners = with_data(100'000);
  manners.ranges = false;
  manners.cut = 50'000;
  manners.cuts = 1;
  manners.busy_from = 2;
  manners.busy = 2;
  FileServer server(manners);
  const Folder folder;
  check_get(server, folder, manners.data, {"--quiet"});
  CHECK(server.asked() == "[0-0]\n[]\n[]\n");
}

namespace {

/// What some fields ask for, in seconds.
long long wait_of(const std::string& fields) {
  http::ResponseParser parser;
  parser.feed("HTTP/1.1 503 Busy\r\n" + fields + "\r\n");
  REQUIRE(parser.done());
  const violet::Duration wait = transfer::wait_of(
      parser.head().fields, http::Time(std::chrono::seconds(784111777)));
  CHECK(wait % std::chrono::seconds(1) == 0s);
  return wait / std::chrono::seconds(1);
}

}  // namespace

TEST_CASE("transfer: a Retry-After is seconds or a date, and has bounds",
          "[transfer]") {
  // It is Sun, 06 Nov 1994 08:49:37 GMT.
  const std::string soon = "Retry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\n";
  CHECK(wait_of("") == 0);
  CHECK(wait_of("Retry-After: 0\r\n") == 0);
  CHECK(wait_of("Retry-After: 120\r\n") == 120);
  CHECK(wait_of("Retry-After: 3600\r\n") == 300);
  CHECK(wait_of("Retry-After: 9223372036854775807\r\n") == 300);
  CHECK(wait_of("Retry-After: 99999999999999999999\r\n") == 300);
  CHECK(wait_of(soon) == 10);
  // By the clock of whoever has written it.
  CHECK(wait_of(soon + "Date: Sun, 06 Nov 1994 08:49:45 GMT\r\n") == 2);
  CHECK(wait_of(soon + "Date: Sun, 06 Nov 1994 08:50:00 GMT\r\n") == 0);
  CHECK(wait_of(soon + "Date: now\r\n") == 10);
  CHECK(wait_of("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n") == 300);
  for (const char* none : {"-1", "+1", "1.5", "1 s", "soon", "", "1, 2"}) {
    CAPTURE(none);
    CHECK(wait_of(std::string("Retry-After: ") + none + "\r\n") == 0);
  }
  CHECK(wait_of("Retry-After: 1\r\nRetry-After: 2\r\n") == 0);
}

TEST_CASE("transfer: a pause grows, and is as long as it is asked for",
          "[transfer]") {
  transfer::Errand errand;
  errand.quiet = true;
  errand.retries = 9;
  std::vector<std::chrono::milliseconds> pauses;
  const auto body = [&]() -> violet::Task<> {
    int attempt = 0;
    for (const auto asked : {0s, 0s, 2s, 1s, 0s, 0s, 0s, 300s, 1s}) {
      const auto begin = support::now();
      transfer::Setback setback("busy", asked);
      co_await errand.pause(attempt, std::move(setback));
      pauses.push_back(std::chrono::duration_cast<std::chrono::milliseconds>(
          support::now() - begin));
    }
    transfer::Setback last("busy", 1s);
    co_await errand.pause(attempt, std::move(last));
  };
  CHECK_THROWS_AS(support::in_virtual_time(body), transfer::Rejected);
  CHECK(pauses == std::vector<std::chrono::milliseconds>{200ms, 400ms, 2s,
                                                         1600ms, 3200ms, 6400ms,
                                                         6400ms, 300s, 6400ms});
}

TEST_CASE("transfer get: pieces of two versions are never mixed",
          "[transfer]") {
  Manners manners = with_data(20'000);
  manners.later = noise(20'000, 7);
  for (const char* tag : {"\"1\"", ""}) {
    manners.tag = tag;
    manners.changes = 6;
    FileServer server(manners);
    const Folder folder;
    Get get(server, folder, {"--chunk", "1000"});
    CHECK(get.wait().code == 1);
    CHECK(contains(get.err(), " has changed while it was fetched\n"));
    CHECK(folder.names() == Names{"f.part", "f.part.state"});
    // The next run finds that out at once, and begins anew.
    check_get(server, folder, manners.later, {"--chunk", "1000"});
  }
}

TEST_CASE("transfer get: who is interrupted goes on where it was",
          "[transfer]") {
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    CAPTURE(signal);
    Manners manners = with_data(100'000);
    manners.rest = 100ms;
    FileServer server(manners);
    const Folder folder;
    const Words options{"--chunk", "1000", "--parallel", "2"};
    Get get(server, folder, options);
    eventually("a state", [&] {
      return contains(contents(folder.file("f.part.state")), "have ");
    });
    const End end = get.stop(signal);
    if (signal != SIGKILL) CHECK(end.code == 128 + signal);
    CHECK(contains(contents(folder.file("f.part.state")), "have "));
    const std::size_t before = count_of(server.asked(), "\n");
    Words faster = options;
    faster.insert(faster.end(), {"--parallel", "50"});
    check_get(server, folder, manners.data, faster);
    const std::size_t after = count_of(server.asked(), "\n");
    // One more to begin with; what was there is not asked for again.
    CHECK(after - before < 101);
  }
}

TEST_CASE("transfer get: a state that does not fit is of no use",
          "[transfer]") {
  const Manners manners = with_data(5000);
  FileServer server(manners);
  const auto state_of = [](const std::string& url, const char* tag, int have) {
    return "violet transfer get 1\nurl " + url + "\nsize 5000\ntag " + tag +
           "\nmodified \nhave 0 " + std::to_string(have) + "\n";
  };
  for (const std::string& state :
       {std::string("nonsense"), std::string(),
        state_of(server.url, "\"1\"", 5001),
        state_of("http://other/", "\"1\"", 5000),
        state_of(server.url, "\"0\"", 5000), state_of(server.url, "", 5000)}) {
    CAPTURE(state);
    const Folder folder;
    std::ofstream(folder.file("f.part")) << std::string(5000, 'x');
    std::ofstream(folder.file("f.part.state")) << state;
    check_get(server, folder, manners.data);
  }
  // This one fits: nothing but the first byte is asked for, before and after.
  const Folder folder;
  std::ofstream(folder.file("f.part")) << manners.data;
  std::ofstream(folder.file("f.part.state"))
      << state_of(server.url, "\"1\"", 5000);
  const std::size_t before = count_of(server.asked(), "\n");
  check_get(server, folder, manners.data);
  CHECK(count_of(server.asked(), "\n") == before + 2);
}

TEST_CASE("transfer get: an old state never speaks for new bytes",
          "[transfer]") {
  for (const bool ranges : {true, false}) {
    CAPTURE(ranges);
    Manners manners = with_data(5000);
    manners.ranges = ranges;
    manners.rest = 100ms;
    FileServer server(manners);
    const Folder folder;
    const std::string state = folder.file("f.part.state");
    std::ofstream(state) << "violet transfer get 1\nurl " + server.url +
                                "\nsize 5000\ntag \"1\"\nmodified \n"
                                "have 0 5000\n";
    Get get(server, folder, {"--chunk", "1000", "--parallel", "1"});
    eventually("a state that is gone",
               [&] { return !std::filesystem::exists(state); });
    get.stop(SIGKILL);
    check_get(server, folder, manners.data);
  }
}

TEST_CASE("transfer get: a state is believed only as it is under the lock",
          "[transfer]") {
  Manners manners = with_data(5000);
  manners.busy = 1;
  manners.later_on = "Retry-After: 1\r\n";
  FileServer server(manners);
  const Folder folder;
  const std::string part = folder.file("f.part");
  std::ofstream(part) << manners.data;
  std::ofstream(part + ".state") << "violet transfer get 1\nurl " + server.url +
                                        "\nsize 5000\ntag \"1\"\n"
                                        "modified \nhave 0 5000\n";
  Get get(server, folder);
  eventually("a pause", [&] {
    get.pump();
    return contains(get.err(), "trying again");
  });
  // Meanwhile somebody else begins anew, and is killed.
  std::filesystem::remove(part + ".state");
  std::ofstream(part) << std::string(5000, '\0');
  CHECK(get.wait().code == 0);
  CHECK((contents(folder.file("f")) == manners.data));
}

TEST_CASE("transfer get: a state that cannot be kept is told once",
          "[transfer]") {
  Manners manners = with_data(3000);
  manners.rest = 1200ms;
  FileServer server(manners);
  const Folder folder;
  const std::string file = folder.file(std::string(245, 'f'));
  Program get(
      Get::command(server.url, file, {"--chunk", "1000", "--parallel", "1"}));
  CHECK(get.wait().code == 0);
  CHECK((contents(file) == manners.data));
  CHECK(count_of(get.err(), "File name too long; until this is mended, who") ==
        1);
  CHECK(count_of(get.err(), "\n") == 1);
}

TEST_CASE("transfer get: where pieces are of no use, all is asked for at once",
          "[transfer]") {
  for (const std::size_t size : {5000u, 0u}) {
    CAPTURE(size);
    Manners manners = with_data(size);
    manners.total = "*";
    FileServer server(manners);
    const Folder folder;
    check_get(server, folder, manners.data);
    CHECK(server.asked() == "[0-0]\n[]\n");
  }
}

TEST_CASE("transfer get: other bytes than those asked for are refused",
          "[transfer]") {
  Manners manners = with_data(5000);
  manners.shift = 1;
  FileServer server(manners);
  const Folder folder;
  Get get(server, folder, {"--chunk", "1000", "--parallel", "1"});
  CHECK(get.wait().code == 1);
  CHECK(contains(get.err(),
                 ": the server sends other bytes than those that "
                 "it was asked for\n"));
}

TEST_CASE("transfer: pieces are cut as they are taken, however many there are",
          "[transfer]") {
  const std::uint64_t end = ~std::uint64_t{0};
  std::deque<transfer::ByteRange> left{{0, 3}, {end - 1, end}, {5, end - 9}};
  std::vector<transfer::ByteRange> pieces(4);
  for (auto& piece : pieces) CHECK(transfer::cut(left, 2, piece));
  using Pieces = std::vector<transfer::ByteRange>;
  CHECK((pieces == Pieces{{0, 2}, {2, 3}, {end - 1, end}, {5, 7}}));
  CHECK(left.size() == 1);
  left.clear();
  CHECK_FALSE(transfer::cut(left, 2, pieces.front()));
}

TEST_CASE("transfer: all loops together have so many pieces under way",
          "[transfer]") {
  for (const std::size_t parallel : {1u, 7u, 8u, 9u}) {
    for (const int threads : {1, 2, 8, 16}) {
      transfer::Errand errand;
      errand.parallel = parallel;
      errand.threads = threads;
      std::size_t jobs = 0;
      for (int i = 0; i < threads; ++i) jobs += errand.jobs_of_loop(i);
      CHECK(jobs == parallel);
      CHECK(errand.jobs_of_loop(0) > 0);
    }
  }
}

TEST_CASE("transfer get: a file that changes under the last piece is no mix",
          "[transfer]") {
  Manners manners = with_data(5000);
  manners.later = noise(5000, 7);
  manners.changes = 7;  // after the first byte and five pieces
  FileServer server(manners);
  const Folder folder;
  Get get(server, folder, {"--chunk", "1000"});
  CHECK(get.wait().code == 1);
  CHECK(contains(get.err(), " has changed while it was fetched\n"));
  CHECK_FALSE(std::filesystem::exists(folder.file("f")));
}

TEST_CASE("transfer get: a piece need not tell the size of the whole",
          "[transfer]") {
  Manners manners = with_data(5000);
  manners.total_behind = "*";
  FileServer server(manners);
  const Folder folder;
  Get get(server, folder, {"--chunk", "1000"});
  const End end = get.wait();
  CAPTURE(get.err());
  CHECK(end.code == 0);
  CHECK(contents(folder.file("f")) == manners.data);
}

TEST_CASE("transfer get: of two who fetch one file the second is refused",
          "[transfer]") {
  Manners manners = with_data(20'000);
  manners.rest = 500ms;  // ten seconds, which nobody waits for
  FileServer server(manners);
  const Folder folder;
  Get first(server, folder, {"--chunk", "1000", "--parallel", "1"});
  programs::eventually("bytes that come", [&] {
    return std::filesystem::exists(folder.file("f.part"));
  });
  Get second(server, folder);
  CHECK(second.wait().code == 1);
  CHECK(contains(second.err(), "somebody else fetches " + folder.file("f")));
  CHECK(first.stop(SIGINT).code == 130);
  check_get(server, folder, manners.data,
            {"--chunk", "1000", "--parallel", "20"});
}

TEST_CASE("transfer get: of many failures one is told", "[transfer]") {
  transfer::OneFailure failures;
  const auto fails = [](int which) -> violet::Task<> {
    co_await violet::sleep(1s);
    throw transfer::Rejected(std::to_string(which));
  };
  const auto body = [&]() -> violet::Task<> {
    violet::TaskGroup group;
    for (int i = 0; i < 3; ++i) {
      group.spawn([&, i] { return failures.among(fails(i)); });
    }
    std::string why;
    try {
      co_await group.join();
    } catch (const transfer::Rejected& e) {
      why = e.what();
    }
    CHECK(why == "0");
    CHECK(group.failures().empty());  // none but that one
    CHECK(failures.happened());
  };
  support::in_virtual_time(body);
}

namespace {

/// Fetches "abc", or is told that what came is not what the digest says.
void check_digest(const Manners& manners, bool is_right) {
  FileServer server(manners);
  const Folder folder;
  if (is_right) return check_get(server, folder, "abc");
  Get get(server, folder);
  CHECK(get.wait().code == 1);
  CHECK(contains(get.err(), "has not the digest that the server gave"));
  CHECK(folder.names().empty());
}

}  // namespace

TEST_CASE("transfer get: a digest that the server gives is checked",
          "[transfer]") {
  // Of "abc" (FIPS 180-4); the base64 of its SHA-256.
  const std::string right = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
  for (const bool is_right : {true, false}) {
    for (const bool ranges : {true, false}) {
      Manners manners;
      manners.data = is_right ? "abc" : "abd";
      manners.ranges = ranges;
      manners.fields = "Repr-Digest: sha-256=:" + right + ":\r\n";
      check_digest(manners, is_right);
    }
  }
}

TEST_CASE("transfer get: a digest is that of the answer which was whole",
          "[transfer]") {
  const std::string right =
      "Repr-Digest: sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:\r\n";
  const std::string wrong =
      "Repr-Digest: sha-512=:AAAA:\r\n"
      "Repr-Digest: sha-256=:unGWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:\r\n";
  Manners manners;
  manners.data = "abc";
  manners.ranges = false;
  manners.cut = 1;
  manners.cuts = 1;
  for (const bool is_right : {true, false}) {
    manners.first_fields = is_right ? wrong : right;
    manners.fields = is_right ? right : wrong;
    check_digest(manners, is_right);
  }
}

TEST_CASE("transfer get: what is not there leaves nothing", "[transfer]") {
  Program web({build_path("web"), "--port", "0", "--quiet"});
  const std::string first = web.line();
  const std::string url =
      "http://" + first.substr(first.rfind(' ') + 1) + "/nothing";
  const Folder folder;
  Program get(Get::command(url, folder.file("f"), {}));
  CHECK(get.wait().code == 1);
  CHECK(get.err() == "transfer: GET " + url + ": 404 Not Found\n");
  CHECK(folder.names().empty());
}

TEST_CASE(
    "transfer get: a file that is there is replaced when the new one is "
    "whole",
    "[transfer]") {
  const Manners manners = with_data(5000);
  FileServer server(manners);
  const Folder folder;
  std::ofstream(folder.file("f")) << "old";
  check_get(server, folder, manners.data);
  Program nowhere(
      Get::command(server.url, folder.file("no/such/f"), {"--quiet"}));
  CHECK(nowhere.wait().code == 1);
  CHECK(contains(nowhere.err(), "No such file or directory"));
}

TEST_CASE("transfer get: only a plain file is replaced", "[transfer]") {
  const Folder folder;
  const std::string url = "http://127.0.0.1:1/f";
  const std::string fifo = folder.file("fifo");
  const std::string link = folder.file("link");
  const std::string other = folder.file("other");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  REQUIRE(::symlink("/etc/hostname", link.c_str()) == 0);
  REQUIRE(::symlink("/etc/hostname", (other + ".part").c_str()) == 0);
  const auto refusal = [&](const std::string& file) {
    Program get(Get::command(url, file, {}));
    CHECK(get.wait().code == 2);
    return get.err();
  };
  CHECK(contains(refusal(fifo), "fifo' is no plain file, and would be"));
  CHECK(contains(refusal(link), "link' is no plain file"));
  CHECK(contains(refusal(other), "other.part' is no plain file"));
  CHECK(contains(refusal("/dev/null"), "'/dev/null' is no plain file"));
  CHECK(contains(refusal(folder.path()), "is a folder: add the name of a"));
  CHECK(contains(refusal(folder.path() + '/'), "/' is no name of a file"));
  CHECK(folder.names() == Names{"fifo", "link", "other.part"});
}

TEST_CASE("transfer get: what is wrong on the command line is told",
          "[transfer]") {
  Program bad(Get::command("127.0.0.1/f", "f", {}));
  CHECK(bad.wait().code == 2);
  CHECK(bad.err() ==
        "transfer: '127.0.0.1/f' is not a URL that begins with http://; try "
        "--help\n");
  Program none({build_path("transfer"), "get", "http://a/"});
  CHECK(none.wait().code == 2);
  CHECK(none.err() == "transfer: FILE is missing; try --help\n");
}
