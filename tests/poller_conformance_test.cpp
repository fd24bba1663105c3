// poller_conformance_test.cpp - what every poller owes, one suite for all.
// SPDX-License-Identifier: MIT
#include <netinet/in.h>
#include <poll.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <thread>

#include "../runtime/poller.hpp"
#include "../runtime/poller_sim.hpp"
#include "../runtime/sim_network.hpp"
#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using support::make_pipe;
using support::make_socketpair;
using support::make_tcp_pair;
using support::open_descriptors;
using support::Pair;
using support::pair_of;
using support::Thread;
using namespace std::chrono_literals;

namespace {

constexpr std::uint8_t kBoth = kReadable | kWritable;

/// A poller under test, and where its descriptors come from.
class Tested {
 public:
  explicit Tested(std::unique_ptr<Poller> poller)
      : own_(std::move(poller)), poller_(own_.get()) {}
  Tested(std::unique_ptr<SimNetwork> network, bool simulates)
      : network_(std::move(network)),
        poller_(&network_->poller()),
        simulates_(simulates) {}

  Poller* operator->() const noexcept { return poller_; }
  Poller& operator*() const noexcept { return *poller_; }

  /// True if what is made here is simulated, and its channels are streams.
  bool simulates() const noexcept { return simulates_; }

  /// [0] reads what [1] writes.
  Pair channel() const { return simulates_ ? network_->pair() : make_pipe(); }
  Pair tcp_pair() const {
    return simulates_ ? network_->pair() : make_tcp_pair();
  }
  Pair unix_pair() const {
    if (!simulates_) return make_socketpair();
    int fds[2];
    REQUIRE(sys::calls->socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    return pair_of(fds);
  }

 private:
  std::unique_ptr<Poller> own_;
  std::unique_ptr<SimNetwork> network_;
  Poller* poller_;
  bool simulates_ = false;
};

/// Runs the test that asks for it once with each poller.
Tested each_poller() {
  const int kind = GENERATE(0, 1, 2, 3);
  const char* const names[] = {"the system's", "sim", "sim network",
                               "sim network, of simulated sockets"};
  UNSCOPED_INFO("poller: " << names[kind]);
  if (kind == 0) return Tested(make_poller());
  if (kind == 1) return Tested(std::make_unique<SimPoller>());
  return Tested(std::make_unique<SimNetwork>(), kind == 3);
}

// As in support.hpp, but through the seam, where simulated sockets are.

bool put(int fd, std::string_view text) {
  return sys::calls->write(fd, text.data(), text.size()) ==
         static_cast<ssize_t>(text.size());
}

std::string get(int fd) {
  char buffer[4096];
  const ssize_t count = sys::calls->read(fd, buffer, sizeof buffer);
  return count <= 0 ? std::string()
                    : std::string(buffer, static_cast<std::size_t>(count));
}

void fill(int fd) {
  const std::string block(4096, 'f');
  for (std::size_t size = block.size(); size > 0; size /= 2) {
    while (sys::calls->write(fd, block.data(), size) > 0) continue;
  }
}

bool arrives(int fd, short events) {
  pollfd descriptor{fd, events, 0};
  return sys::calls->poll(&descriptor, 1, 10'000) == 1;
}

/// What the next wait says of `token`; it waits for real if need be.
std::uint8_t bits_of(Poller& poller, std::uint32_t index) {
  std::uint8_t bits = 0;
  for (const Ready& news : poller.wait(poller.now() + 5s, true)) {
    if (news.token.index == index) bits |= news.bits;
  }
  return bits;
}

/// True if there is no news at all.
bool is_silent(Poller& poller) {
  return poller.wait(TimePoint::min(), false).empty();
}

/// Two UDP sockets that are connected to each other.
Pair make_udp_pair() {
  Pair pair;
  sockaddr_in names[2] = {};
  unsigned size = sizeof names[0];
  for (std::size_t i = 0; i < 2; ++i) {
    names[i].sin_family = AF_INET;
    names[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* address = reinterpret_cast<sockaddr*>(&names[i]);
    pair[i].reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(pair[i].get(), address, size) == 0);
    REQUIRE(::getsockname(pair[i].get(), address, &size) == 0);
  }
  for (std::size_t i = 0; i < 2; ++i) {
    auto* address = reinterpret_cast<sockaddr*>(&names[1 - i]);
    REQUIRE(::connect(pair[i].get(), address, size) == 0);
  }
  return pair;
}

}  // namespace

// ------------------------------------------------------------------ readiness

TEST_CASE("conformance: what is ready already is announced on add",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  put(pipe[1].get(), "x");
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  CHECK(bits_of(*poller, 1) == kReadable);
  REQUIRE(poller->add(pipe[1].get(), {2, 1}, kBoth) == 0);
  CHECK(bits_of(*poller, 2) == kWritable);
}

TEST_CASE("conformance: what is not ready is not announced", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  std::uint8_t bits = kReadable;
  if (!poller.simulates()) bits = kBoth;  // a pipe's end reads only
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, bits) == 0);
  CHECK(is_silent(*poller));
}

TEST_CASE("conformance: an edge is announced once", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  CHECK(bits_of(*poller, 1) == kReadable);
  CHECK(is_silent(*poller));
  CHECK(get(pipe[0].get()) == "x");
  CHECK(is_silent(*poller));
  put(pipe[1].get(), "y");
  CHECK(bits_of(*poller, 1) == kReadable);
}

TEST_CASE("conformance: more bytes are a new edge though old ones wait",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pair = poller.unix_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  put(pair[1].get(), "x");
  CHECK(bits_of(*poller, 1) == kReadable);
  put(pair[1].get(), "y");
  CHECK(bits_of(*poller, 1) == kReadable);
}

TEST_CASE("conformance: room after a full buffer is an edge", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  fill(pipe[1].get());
  REQUIRE(poller->add(pipe[1].get(), {1, 1}, kBoth) == 0);
  CHECK(is_silent(*poller));
  while (!get(pipe[0].get()).empty()) continue;
  CHECK(bits_of(*poller, 1) == kWritable);
}

TEST_CASE("conformance: a change announces anew what is ready",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pair = poller.unix_pair();
  put(pair[1].get(), "x");
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  CHECK(bits_of(*poller, 1) == kReadable);
  CHECK(is_silent(*poller));
  REQUIRE(poller->change(pair[0].get(), {1, 1}, kBoth) == 0);
  CHECK(bits_of(*poller, 1) == kBoth);
  CHECK(is_silent(*poller));
}

TEST_CASE("conformance: a change may rename the registration",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  put(pipe[1].get(), "x");
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  REQUIRE(poller->change(pipe[0].get(), {9, 4}, kReadable) == 0);
  const auto news = poller->wait(poller->now() + 5s, true);
  REQUIRE(news.size() == 1);
  CHECK(news[0].token.index == 9);
  CHECK(news[0].token.generation == 4);
}

TEST_CASE("conformance: a token comes back as it was given", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  put(pipe[1].get(), "x");
  const Token token =
      GENERATE(Token{0, 0}, Token{0, 1}, Token{7, 0xffff'fffe},
               Token{1, 0xffff'ffff}, Token{0x7fff'ffff, 0x8000'0000});
  REQUIRE(poller->add(pipe[0].get(), token, kReadable) == 0);
  const auto news = poller->wait(poller->now() + 5s, true);
  REQUIRE(news.size() == 1);
  CHECK(news[0].token.index == token.index);
  CHECK(news[0].token.generation == token.generation);
}

TEST_CASE("conformance: a removed descriptor is silent and can be added again",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  poller->remove(pipe[0].get());
  put(pipe[1].get(), "x");
  CHECK(is_silent(*poller));
  REQUIRE(poller->add(pipe[0].get(), {1, 2}, kReadable) == 0);
  CHECK(bits_of(*poller, 1) == kReadable);
}

TEST_CASE("conformance: closing a descriptor forgets it", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  put(pipe[1].get(), "x");
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  pipe[0].reset();
  CHECK(is_silent(*poller));
}

TEST_CASE("conformance: a second add is refused, a change takes the token",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  REQUIRE(poller->add(pipe[0].get(), {2, 1}, kReadable) == EEXIST);
  REQUIRE(poller->change(pipe[0].get(), {2, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  const auto news = poller->wait(poller->now() + 5s, true);
  REQUIRE(news.size() == 1);
  CHECK(news[0].token.index == 2);
}

TEST_CASE("conformance: a hundred ready descriptors all arrive",
          "[conformance]") {
  const auto poller = each_poller();
  std::vector<Pair> pipes;
  for (std::uint32_t i = 0; i < 100; ++i) {
    pipes.push_back(poller.channel());
    REQUIRE(poller->add(pipes.back()[0].get(), {i, i + 1}, kReadable) == 0);
  }
  for (const Pair& pipe : pipes) put(pipe[1].get(), "x");
  std::set<std::uint32_t> arrived;
  for (int round = 0; round < 100 && arrived.size() < 100; ++round) {
    for (const Ready& news : poller->wait(TimePoint::min(), false)) {
      CHECK(news.bits == kReadable);
      CHECK(news.token.generation == news.token.index + 1);
      CHECK(arrived.insert(news.token.index).second);
    }
  }
  CHECK(arrived.size() == 100);
  CHECK(is_silent(*poller));
}

TEST_CASE("conformance: a crowd of more than one wait can tell arrives too",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = make_pipe();
  std::vector<Fd> copies;  // each is a registration of its own
  for (std::uint32_t i = 0; i < 400; ++i) {
    copies.emplace_back(::fcntl(pipe[0].get(), F_DUPFD_CLOEXEC, 0));
    REQUIRE(copies.back());
    REQUIRE(poller->add(copies.back().get(), {i, 0}, kReadable) == 0);
  }
  put(pipe[1].get(), "x");
  std::set<std::uint32_t> arrived;
  for (int round = 0; round < 100 && arrived.size() < 400; ++round) {
    for (const Ready& news : poller->wait(TimePoint::min(), false)) {
      CHECK(arrived.insert(news.token.index).second);
    }
  }
  CHECK(arrived.size() == 400);
}

// -------------------------------------------------------------------- the end

TEST_CASE("conformance: a peer that stops sending ends reading, not writing",
          "[conformance]") {
  const auto poller = each_poller();
  const bool tcp = GENERATE(false, true);
  Pair pair = tcp ? poller.tcp_pair() : poller.unix_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  CHECK(is_silent(*poller));
  sys::calls->shutdown(pair[1].get(), SHUT_WR);
  CHECK(bits_of(*poller, 1) == (kReadable | kEnded));
}

TEST_CASE("conformance: a peer that closes ends both directions",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pair = poller.unix_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kBoth) == 0);
  CHECK(bits_of(*poller, 1) == kWritable);
  pair[1].reset();
  CHECK(bits_of(*poller, 1) == (kReadable | kWritable | kEnded));
}

TEST_CASE("conformance: the last writer's close ends a pipe", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = make_pipe();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kBoth) == 0);
  CHECK(is_silent(*poller));
  pipe[1].reset();
  CHECK((bits_of(*poller, 1) & (kReadable | kEnded)) == (kReadable | kEnded));
}

TEST_CASE("conformance: the last reader's close ends a full pipe's writer",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  fill(pipe[1].get());
  REQUIRE(poller->add(pipe[1].get(), {1, 1}, kBoth) == 0);
  CHECK(is_silent(*poller));
  pipe[0].reset();
  CHECK((bits_of(*poller, 1) & (kWritable | kEnded)) == (kWritable | kEnded));
}

TEST_CASE("conformance: a reset ends both directions", "[conformance]") {
  const auto poller = each_poller();
  Pair pair = poller.tcp_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  CHECK(is_silent(*poller));
  const linger at_once{1, 0};
  sys::calls->setsockopt(pair[1].get(), SOL_SOCKET, SO_LINGER, &at_once,
                         sizeof at_once);
  pair[1].reset();
  CHECK((bits_of(*poller, 1) & (kReadable | kWritable | kEnded)) ==
        (kReadable | kWritable | kEnded));
}

#ifndef VIOLET_KQUEUE  // kqueue(2) says nothing about urgent bytes
TEST_CASE("conformance: an urgent byte counts as an end", "[conformance]") {
  const auto poller = each_poller();
  Pair pair = make_tcp_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  CHECK(is_silent(*poller));
  REQUIRE(::send(pair[1].get(), "!", 1, MSG_OOB) == 1);
  CHECK((bits_of(*poller, 1) & (kReadable | kEnded)) == (kReadable | kEnded));
}
#endif

TEST_CASE("conformance: data and the end come in one edge, both told",
          "[conformance]") {
  const auto poller = each_poller();
  const bool tcp = GENERATE(false, true);
  Pair pair = tcp ? poller.tcp_pair() : poller.unix_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  CHECK(is_silent(*poller));
  put(pair[1].get(), "last");
  sys::calls->shutdown(pair[1].get(), SHUT_WR);
  REQUIRE(arrives(pair[0].get(), POLLRDHUP));
  CHECK(bits_of(*poller, 1) == (kReadable | kEnded));
  CHECK(is_silent(*poller));
  CHECK(get(pair[0].get()) == "last");
}

// ------------------------------------------------------------- kinds of things

TEST_CASE("conformance: a regular file is refused with EPERM",
          "[conformance]") {
  const auto poller = each_poller();
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CHECK(poller->add(file.get(), {1, 1}, kReadable) == EPERM);
}

TEST_CASE("conformance: what is no descriptor is refused with EBADF",
          "[conformance]") {
  const auto poller = each_poller();
  CHECK(poller->add(-1, {1, 1}, kReadable) == EBADF);
  CHECK(poller->change(-1, {1, 1}, kReadable) == EBADF);
  poller->remove(-1);
}

TEST_CASE("conformance: sockets watched for reading are silent as they send",
          "[conformance]") {
  const auto poller = each_poller();
  const int kind = GENERATE(0, 1, 2);
  Pair pair = kind == 0   ? poller.unix_pair()
              : kind == 1 ? make_socketpair(SOCK_DGRAM)
                          : make_udp_pair();
  REQUIRE(poller->add(pair[0].get(), {1, 1}, kReadable) == 0);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(sys::calls->send(pair[0].get(), "x", 1, 0) == 1);
    REQUIRE(arrives(pair[1].get(), POLLIN));
    CHECK(get(pair[1].get()) == "x");
    CHECK(is_silent(*poller));
  }
}

// ------------------------------------------------------------------------ time

TEST_CASE("conformance: the clock never goes back", "[conformance]") {
  const auto poller = each_poller();
  TimePoint last = poller->now();
  for (int i = 0; i < 1000; ++i) {
    const TimePoint next = poller->now();
    REQUIRE(next >= last);
    last = next;
  }
}

TEST_CASE("conformance: a deadline is never early", "[conformance]") {
  const auto poller = each_poller();
  for (const Duration length : std::initializer_list<Duration>{
           1ns, 999ns, 1us, 999'999ns, 1'000'001ns, 3'500'000ns}) {
    const TimePoint deadline = poller->now() + length;
    CHECK(poller->wait(deadline, false).empty());
    CHECK(poller->now() >= deadline);
    CHECK_FALSE(poller->woken());
  }
}

TEST_CASE("conformance: a deadline is never early while others may wake it",
          "[conformance]") {
  const auto poller = each_poller();
  const TimePoint deadline = poller->now() + 2'500'000ns;
  CHECK(poller->wait(deadline, true).empty());
  CHECK(poller->now() >= deadline);
}

TEST_CASE("conformance: a deadline is never early with descriptors watched",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  for (const Duration length :
       std::initializer_list<Duration>{1us, 500us, 2'500us}) {
    const TimePoint deadline = poller->now() + length;
    CHECK(poller->wait(deadline, false).empty());
    CHECK(poller->now() >= deadline);
  }
}

TEST_CASE("conformance: a deadline in the past only looks", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  const TimePoint past = poller->now();
  CHECK(poller->wait(TimePoint::min(), false).empty());
  CHECK(poller->wait(TimePoint(), false).empty());
  CHECK(poller->wait(past, true).empty());
  put(pipe[1].get(), "x");
  CHECK(poller->wait(past, false).size() == 1);
}

TEST_CASE("conformance: readiness ends a wait long before its deadline",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  const TimePoint deadline = poller->now() + 1h;
  CHECK(poller->wait(deadline, false).size() == 1);
  CHECK(poller->now() < deadline);
}

TEST_CASE("conformance: a wait without end ends with readiness",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  CHECK(poller->wait(kNever, false).size() == 1);
}

TEST_CASE("conformance: a deadline in the farthest future is no error",
          "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  CHECK(poller->wait(kNever - 1ns, true).size() == 1);
}

// -------------------------------------------------------------------- wake-ups

TEST_CASE("conformance: wake() before a wait ends it, and is told once",
          "[conformance]") {
  const auto poller = each_poller();
  CHECK_FALSE(poller->woken());
  poller->wake();
  const TimePoint deadline = poller->now() + 1h;
  CHECK(poller->wait(deadline, true).empty());
  CHECK(poller->now() < deadline);
  CHECK(poller->woken());
  CHECK_FALSE(poller->woken());
  CHECK(is_silent(*poller));
  CHECK_FALSE(poller->woken());
}

TEST_CASE("conformance: wake-ups that nobody waited for count as one",
          "[conformance]") {
  const auto poller = each_poller();
  for (int i = 0; i < 100; ++i) poller->wake();
  CHECK(is_silent(*poller));
  CHECK(poller->woken());
  CHECK(is_silent(*poller));
  CHECK_FALSE(poller->woken());
}

TEST_CASE("conformance: wake() from another thread ends a wait",
          "[conformance][threads]") {
  const auto poller = each_poller();
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> about_to_wait = false;
    Thread waker([&] {
      while (!about_to_wait) std::this_thread::yield();
      poller->wake();
    });
    const TimePoint deadline = poller->now() + 1h;
    about_to_wait = true;
    CHECK(poller->wait(deadline, true).empty());
    waker.join();
    CHECK(poller->now() < deadline);
    CHECK(poller->woken());
  }
}

TEST_CASE("conformance: wake() leaves errno alone", "[conformance]") {
  const auto poller = each_poller();
  errno = ERANGE;
  poller->wake();
  CHECK(errno == ERANGE);
}

TEST_CASE("conformance: a wake-up loses no readiness", "[conformance]") {
  const auto poller = each_poller();
  Pair pipe = poller.channel();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  put(pipe[1].get(), "x");
  poller->wake();
  bool woken = false;
  std::size_t count = 0;
  for (int round = 0; round < 3; ++round) {
    count += poller->wait(TimePoint::min(), true).size();
    woken = poller->woken() || woken;
  }
  CHECK(woken);
  CHECK(count == 1);
}

// --------------------------------------------------------------- foreign loops

TEST_CASE("conformance: fd() is readable when there is news",
          "[conformance][libkqueue:poll]") {
  const auto poller = each_poller();
  pollfd foreign{poller->fd(), POLLIN, 0};
  CHECK(::poll(&foreign, 1, 0) == 0);
  Pair pipe = make_pipe();
  REQUIRE(poller->add(pipe[0].get(), {1, 1}, kReadable) == 0);
  CHECK(::poll(&foreign, 1, 0) == 0);
  put(pipe[1].get(), "x");
  CHECK(::poll(&foreign, 1, 5000) == 1);
  CHECK(bits_of(*poller, 1) == kReadable);
  CHECK(::poll(&foreign, 1, 0) == 0);
  poller->wake();
  CHECK(::poll(&foreign, 1, 5000) == 1);
}

TEST_CASE("conformance: a poller opens nothing that outlives it",
          "[conformance][libkqueue:close]") {
  const int before = open_descriptors();
  {
    const auto poller = each_poller();
    CHECK(open_descriptors() > before);
    CHECK((::fcntl(poller->fd(), F_GETFD) & FD_CLOEXEC) != 0);
  }
  CHECK(open_descriptors() == before);
}
