// http_cost_test.cpp - what an answer costs, in calls of the system and in
// memory.
//
// The client is this test itself, past the seam and without a loop: all that
// is counted is the server's. Each server is warm when the counting begins.
// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "../net/http/files.hpp"
#include "../net/http/server.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "mallocs.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

constexpr int kTimes = 100;
constexpr std::size_t kMuch = std::size_t{64} << 20;

Task<> greet(http::Exchange& x) {
  co_await x.send(200, "text/plain", "Hello, world!");
}

std::string get(std::string_view target) {
  return concat({"GET ", target, " HTTP/1.1\r\nHost: h\r\n\r\n"});
}

/// What has been counted since this was made.
class Costs {
 public:
  explicit Costs(const support::CountingPoller& poller)
      : poller_(poller),
        registered_(poller.adds + poller.changes),
        mallocs_(asked()) {}

  /// Each kind of call, and how often.
  std::string calls() const {
    std::string text;
    const std::string log = plan.log();
    http::Pieces lines(log, '\n');
    for (std::string_view line; lines.next(line);) {
      // The sanitizers have every frame asked for by itself.
      const bool counts = !support::kSanitized || !line.starts_with("allocate");
      if (!line.empty() && counts) text += concat({line, "; "});
    }
    return text;
  }
  int registrations() const {
    return poller_.adds + poller_.changes - registered_;
  }
  long mallocs() const { return asked() - mallocs_; }

  const FaultPlan plan;  // of no faults: it counts

 private:
  static long asked() {
#ifdef VIOLET_COUNTS_MALLOC
    return support::mallocs;
#else
    return 0;
#endif
  }

  const support::CountingPoller& poller_;
  const int registered_;
  const long mallocs_;
};

/// Comes first: all other checks take memory themselves.
void check_mallocs(const Costs& costs, long expected) {
  const long taken = costs.mallocs();
#ifdef VIOLET_COUNTS_MALLOC
  CHECK(taken == expected);
#else
  CHECK((taken == 0 && expected >= 0));  // nobody counts
#endif
}

/// A client with a socket and nothing else.
class Bare {
 public:
  explicit Bare(Address address) : fd_(dial(address)) {}

  void send(std::string_view text) const {
    REQUIRE(support::put(fd_.get(), text));
  }

  /// The length of a whole answer, head included; the answers to come are as
  /// long. Gives the server its turns meanwhile.
  Task<std::size_t> learn() const {
    std::string text;
    while (text.find("\r\n\r\n") == text.npos) {
      co_await yield_now();
      text += support::get(fd_.get());
    }
    http::ResponseParser parser;
    const std::size_t head = parser.feed(text);
    const auto size =
        head + static_cast<std::size_t>(parser.head().length.value_or(0));
    if (size > text.size()) co_await drop(size - text.size());
    co_return size;
  }

  /// Receives so many bytes.
  Task<> drop(std::size_t count) const {
    while (count > 0) {
      const ssize_t got =
          ::recv(fd_.get(), room_, std::min(sizeof room_, count), 0);
      if (got > 0) {
        count -= static_cast<std::size_t>(got);
      } else {
        REQUIRE(got < 0);  // else the server has closed
        co_await yield_now();
      }
    }
  }

 private:
  Fd fd_;
  static inline char room_[64 * 1024];
};

/// Runs `scenario(address, poller)` beside a server.
template <class Scenario>
void beside(const http::Router& router, Scenario scenario) {
  support::CountedLoop counted;
  counted.loop.run([](const http::Router& routes, const Scenario& body,
                      const support::CountingPoller& poller) -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    auto serves = [&routes](Listener own) -> Task<> {
      co_await http::serve(std::move(own), routes);
    };
    auto server = spawn(serves, std::move(listener));
    co_await body(address, poller);
    Loop::current().stop();
    co_await join(server);
  }(router, scenario, counted.poller));
}

/// Runs `scenario(client, size, poller)` beside one that greets, and that has
/// greeted the client once. Each answer has so many bytes.
template <class Scenario>
void beside_greeter(Scenario scenario) {
  http::Router router;
  router.get("/", greet);
  beside(router, [&scenario](Address address, auto& poller) -> Task<> {
    const Bare client(address);
    client.send(get("/"));
    const std::size_t size = co_await client.learn();
    co_await scenario(client, size, poller);
  });
}

/// A folder with a small file, and perhaps a big one.
class Folder {
 public:
  Folder() {
    if (::mkdtemp(path_.data()) == nullptr) throw_system(errno, "mkdtemp");
    std::ofstream(path_ + "/small") << std::string(1024, 's');
  }
  Folder(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

  void write_big() const {
    std::ofstream big(path_ + "/big");
    const std::string block(std::size_t{1} << 20, 'b');
    for (std::size_t i = 0; i < kMuch; i += block.size()) big << block;
  }

  /// False where system or file system cannot say so: then a thread opens and
  /// reads, whose calls count, too.
  bool tells_what_is_cached() const {
    const Fd folder(::open(path_.c_str(), O_RDONLY));
    const Fd small(
        sys::file_kernel.open_beneath(folder.get(), "small", O_RDONLY, true));
    char byte;
    return small &&
           (sys::file_kernel.in_memory(small.get()) ||
            sys::file_kernel.read_cached(small.get(), &byte, 1, 0) == 1);
  }

 private:
  std::string path_ = "/tmp/violet_cost_XXXXXX";
};

}  // namespace

TEST_CASE("http cost: an answer is one recv, one send and no memory",
          "[http][cost]") {
  beside_greeter(
      [](const Bare& client, std::size_t size, auto& poller) -> Task<> {
        const std::string request = get("/");
        const Costs costs(poller);
        for (int i = 0; i < kTimes; ++i) {
          client.send(request);
          co_await client.drop(size);
        }
        check_mallocs(costs, 0);
        CHECK(costs.calls() == "recv 100; send 100; ");
        CHECK(costs.registrations() == 0);
      });
}

TEST_CASE("http cost: the Date of a new second takes no memory",
          "[http][cost]") {
  beside_greeter([](const Bare& client, std::size_t size,
                    auto& poller) -> Task<> {
    const std::string request = get("/");
    const Costs costs(poller);
    for (const auto start = std::time(nullptr); std::time(nullptr) <= start;) {
    }
    client.send(request);
    co_await client.drop(size);
    check_mallocs(costs, 0);
  });
}

TEST_CASE("http cost: pipelined requests are one recv, and a send each",
          "[http][cost]") {
  beside_greeter(
      [](const Bare& client, std::size_t size, auto& poller) -> Task<> {
        std::string sixteen;
        for (int i = 0; i < 16; ++i) sixteen += get("/");
        const Costs costs(poller);
        client.send(sixteen);
        co_await client.drop(16 * size);
        check_mallocs(costs, 0);
        CHECK(costs.calls() == "recv 1; send 16; ");
        CHECK(costs.registrations() == 0);
      });
}

TEST_CASE("http cost: a small file is six calls, and takes memory four times",
          "[http][cost]") {
  const Folder folder;
  if (!folder.tells_what_is_cached()) return;
  http::Router router;
  router.get("/{path*}", http::Files(folder.path()));
  beside(router, [](Address address, auto& poller) -> Task<> {
    const std::string request = get("/small");
    const Bare client(address);
    client.send(request);
    const std::size_t size = co_await client.learn();
    const auto let_it_close = []() -> Task<> {
      co_await yield_now();  // the answer has been sent
      co_await yield_now();  // and whoever was ready had a turn
    };
    co_await let_it_close();
    const Costs costs(poller);
    for (int i = 0; i < kTimes; ++i) {
      client.send(request);
      co_await client.drop(size);
      co_await let_it_close();
    }
    check_mallocs(costs, 4 * kTimes);
    CHECK(costs.calls() ==
          "recv 100; send 100; close 100; open_beneath 100; pread 100; "
          "status 100; ");
    CHECK(costs.registrations() == 0);
  });
}

// Two looks at each 256 KiB, whether they lie in memory, unless the file system
// has no other place; and a call to send them, or one more where the client's
// window ends within.
TEST_CASE("http cost: a big file goes out in four calls for 256 KiB at most",
          "[http][cost]") {
  const Folder folder;
  if (!folder.tells_what_is_cached()) return;
  folder.write_big();
  http::Router router;
  router.get("/{path*}", http::Files(folder.path()));
  beside(router, [](Address address, auto& poller) -> Task<> {
    const std::string request = get("/big");
    const Bare client(address);
    client.send(get("/small"));
    co_await client.learn();
    const Costs costs(poller);
    client.send(request);
    const std::size_t size = co_await client.learn();
    CHECK(size > kMuch);
    constexpr std::size_t kPieces = kMuch / (256 * 1024);
    CHECK(costs.plan.count(Call::kRecv) == 1);
    CHECK(costs.plan.count(Call::kSend) == 1);  // the head
    CHECK(costs.plan.count(Call::kOpenBeneath) == 1);
    CHECK(costs.plan.count(Call::kPread) <= 2 * kPieces);
    CHECK(costs.plan.count(Call::kSendfile) <= 2 * kPieces);
    CHECK(costs.registrations() == 0);
  });
}
