// datagram_test.cpp - UDP and unix datagrams.
// SPDX-License-Identifier: MIT
#include "../net/datagram.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/group.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

void in_world(const std::function<Task<>()>& body) {
  play(body);
}

DatagramSocket bound(const char* host = "127.0.0.1") {
  return DatagramSocket(host, 0);
}

/// A socket that is connected to where nobody is.
DatagramSocket to_nobody() {
  Address address;
  {
    const DatagramSocket gone = bound();
    address = gone.local();
  }
  DatagramSocket socket = DatagramSocket::unbound(AF_INET);
  socket.connect(address);
  return socket;
}

/// Sends back `count` datagrams to whoever sends them.
Task<> echo_datagrams(const DatagramSocket& socket, int count) {
  for (int i = 0; i < count; ++i) {
    const Datagram datagram = co_await socket.recv_from();
    co_await socket.send_to(datagram, datagram.sender());
  }
}

/// What is in the queue of a socket, in order.
Task<std::string> drained(const DatagramSocket& socket) {
  std::string texts;
  for (;;) {
    const auto datagram = co_await within(0s, socket.recv_from());
    if (!datagram) co_return texts;
    texts.append(datagram->view());
  }
}

Task<> receive_one(const DatagramSocket& socket) {
  const Datagram datagram = co_await socket.recv_from();
}

Task<> send_one(const DatagramSocket& socket, std::string text) {
  co_await socket.send(text);
}

Task<> send_one_to(const DatagramSocket& socket, std::string text, Address to) {
  co_await socket.send_to(text, to);
}

std::string bind_error(const Address& address) {
  return thrown<std::system_error>([&] { DatagramSocket socket(address); });
}

}  // namespace

// ---------------------------------------------------------------- to and fro

TEST_CASE("datagram: each comes back whole, an empty one too", "[datagram]") {
  const MaybeShortIo io;
  std::vector<const char*> hosts = {"127.0.0.1"};
  if (has_ipv6()) hosts.push_back("::1");
  for (const char* host : hosts) {
    in_world([=]() -> Task<> {
      const DatagramSocket server = bound(host);
      const DatagramSocket client = bound(host);
      const std::vector<std::size_t> sizes = {0, 1, 1400, 65507, 0};
      TaskGroup group;
      group.spawn(echo_datagrams, std::cref(server),
                  static_cast<int>(sizes.size()));
      for (const std::size_t size : sizes) {
        CAPTURE(size);
        const std::string sent = random_bytes(size);
        co_await client.send_to(sent, server.local());
        const Datagram back = co_await client.recv_from();
        CHECK(back.size() == size);
        CHECK(back.view() == sent);
        CHECK(back.sender() == server.local());
        CHECK_FALSE(back.truncated());
      }
      co_await group.join();
    });
  }
}

TEST_CASE("datagram: one that is too long is an error that says so",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    const DatagramSocket client = bound();
    const Address to = server.local();
    std::string error =
        co_await error_of(send_one_to(client, std::string(65508, 'x'), to));
    CHECK(error == "send " + to.text() +
                       " (65508 bytes): " + support::text_of_error(EMSGSIZE));
    // The socket is as good as before.
    co_await client.send_to("small", to);
    const Datagram got = co_await server.recv_from();
    CHECK(got.view() == "small");
  });
}

TEST_CASE("datagram: one longer than the buffer says that it was cut",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    const DatagramSocket client = bound();
    const Address to = server.local();
    std::array<char, 4> buffer;
    for (const char* text : {"12345", "1234", "", "67", "89"}) {
      co_await client.send_to(text, to);
    }
    Received got = co_await server.recv_from(buffer);
    CHECK(got.size == 4);
    CHECK(got.truncated);
    CHECK(got.sender == client.local());
    got = co_await server.recv_from(buffer);
    CHECK(got.size == 4);
    CHECK_FALSE(got.truncated);
    got = co_await server.recv_from(buffer);
    CHECK(got.size == 0);
    CHECK_FALSE(got.truncated);
    // Without room for a byte it is consumed all the same.
    got = co_await server.recv_from(std::span<char>());
    CHECK(got.size == 0);
    CHECK(got.truncated);
    const Datagram last = co_await server.recv_from();
    CHECK(last.view() == "89");
  });
}

TEST_CASE("datagram: several peers are told apart", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    constexpr int kPeers = 8;
    constexpr int kEach = 20;
    int answered = 0;
    const auto peer = [&](int number) -> Task<> {
      const DatagramSocket socket = bound();
      for (int i = 0; i < kEach; ++i) {
        const std::string text =
            std::to_string(number) + ":" + std::to_string(i);
        co_await socket.send_to(text, server.local());
        const Datagram back = co_await socket.recv_from();
        if (back.view() == text && back.sender() == server.local()) ++answered;
      }
    };
    TaskGroup group;
    group.spawn(echo_datagrams, std::cref(server), kPeers * kEach);
    for (int i = 0; i < kPeers; ++i) group.spawn(peer, i);
    co_await group.join();
    CHECK(answered == kPeers * kEach);
  });
}

TEST_CASE("datagram: one job receives while another sends", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket socket = bound();
    TaskGroup group;
    const Job<> reader = group.spawn(receive_one, std::cref(socket));
    co_await testing::wait_all_blocked();
    CHECK(is_waiting(reader));
    co_await socket.send_to("to myself", socket.local());
    co_await group.join();
  });
}

// ------------------------------------------------------------------ connected

TEST_CASE("datagram: a connected socket hears its peer alone", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    const DatagramSocket stranger = bound();
    DatagramSocket client = DatagramSocket::unbound(AF_INET);
    CHECK(client.peer().text() == "nowhere");
    client.connect(server.local());
    CHECK(client.peer() == server.local());
    co_await stranger.send_to("from a stranger", client.local());
    co_await client.send("ping");
    const Datagram ping = co_await server.recv_from();
    CHECK(ping.view() == "ping");
    CHECK(ping.sender() == client.local());
    co_await server.send_to("pong", ping.sender());
    std::array<char, 16> buffer;
    const Received pong = co_await client.recv(buffer);
    CHECK(std::string_view(buffer.data(), pong.size) == "pong");
    CHECK(pong.sender == server.local());
  });
}

TEST_CASE("datagram: sending to nobody in particular needs a peer",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket socket = bound();
    const std::string error = co_await error_of(send_one(socket, "x"));
    CHECK(error == "send " + socket.local().text() + ": " +
                       support::text_of_error(EDESTADDRREQ));
  });
}

TEST_CASE("datagram: a refusal is told once to a connected socket",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket client = to_nobody();
    const std::string refused = "recv " + client.peer().text() + ": " +
                                support::text_of_error(ECONNREFUSED);
    co_await client.send("anyone?");
    const std::string error = co_await error_of(receive_one(client));
    CHECK(error == refused);
    // It is the same socket as before: now there is somebody.
    const DatagramSocket server(client.peer());
    co_await client.send("and now?");
    const Datagram got = co_await server.recv_from();
    CHECK(got.view() == "and now?");
    co_await server.send_to("yes", got.sender());
    const Datagram yes = co_await client.recv();
    CHECK(yes.view() == "yes");
  });
}

TEST_CASE("datagram: a refusal wakes who waits already",
          "[datagram][libkqueue:so_error]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket client = to_nobody();
    TaskGroup group;
    std::error_code code;
    const auto receives = [&]() -> Task<> {
      const Datagram none = co_await client.recv(code);
      CHECK(none.size() == 0);
    };
    group.spawn(receives);
    co_await testing::wait_all_blocked();
    co_await client.send("anyone?");
    co_await group.join();
    CHECK(code == std::errc::connection_refused);
  });
}

TEST_CASE("datagram: a send is told of the refusal of the one before",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket client = to_nobody();
    const Address to = client.peer();
    co_await client.send("anyone?");
    REQUIRE(support::arrives(client.fd(), POLLERR));
    std::error_code code;
    co_await client.send("still no one?", code);
    CHECK(code == std::errc::connection_refused);
    // That has sent nothing, and the next is sent.
    const DatagramSocket server(to);
    co_await client.send("now", code);
    CHECK_FALSE(code);
    const std::string got = co_await drained(server);
    CHECK(got == "now");
  });
}

TEST_CASE("datagram: what became of one does not stop an unconnected socket",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket client = bound();
    const DatagramSocket server = bound();
    const Address nobody = to_nobody().peer();
    // No system reports it, so the plan does.
    FaultPlan plan;
    plan.fail(Call::kRecvmsg, ECONNREFUSED, 1, 3);
    plan.fail(Call::kSendmsg, ECONNREFUSED, 2, 50);
    co_await client.send_to("lost", nobody);
    co_await client.send_to("found", server.local());
    const Datagram got = co_await server.recv_from();
    CHECK(got.view() == "found");
    CHECK(plan.failed(Call::kRecvmsg) == 3);
    CHECK(plan.failed(Call::kSendmsg) == 50);
  });
}

TEST_CASE("datagram: who is always refused does not keep others waiting",
          "[datagram]") {
  in_world([]() -> Task<> {
    const DatagramSocket client = bound();
    FaultPlan plan;
    plan.fail(Call::kRecvmsg, ECONNREFUSED, 1, FaultPlan::kForEver);
    TaskGroup group;
    group.spawn(receive_one, std::cref(client));
    for (int i = 0; i < 100; ++i) co_await yield_now();
    CHECK(plan.failed(Call::kRecvmsg) >= 100);
  });
}

TEST_CASE("datagram: a pair is connected", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const auto [near, far] = connected_datagram_pair();
    // More than a lent buffer holds, for a unix datagram can be that long.
    const std::string longer = random_bytes(70'000);
    for (const std::string& text :
         {std::string("one"), std::string(), longer}) {
      co_await near.send(text);
      const Datagram got = co_await far.recv();
      CHECK(got.view() == std::string_view(text).substr(0, 65536));
      CHECK(got.truncated() == (text.size() > 65536));
    }
  });
}

// ------------------------------------------------------------------ addresses

TEST_CASE("datagram: an address in use is an error that says so",
          "[datagram]") {
  const DatagramSocket socket = bound();
  CHECK(socket.local().port() != 0);
  CHECK(bind_error(socket.local()) == "bind " + socket.local().text() + ": " +
                                          support::text_of_error(EADDRINUSE));
  CHECK_THROWS_AS(DatagramSocket("no.number", 1), std::system_error);
}

TEST_CASE("datagram: sockets may share a port if all of them say so",
          "[datagram]") {
  DatagramOptions options;
  options.reuse_port = true;
  const DatagramSocket one("127.0.0.1", 0, options);
  const DatagramSocket two(one.local(), options);
  CHECK(two.local() == one.local());
  CHECK(bind_error(one.local()) != "nothing");
}

TEST_CASE("datagram: only who asked for it may broadcast", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const Address all = Address::parse("255.255.255.255", 9);
    const DatagramSocket plain = bound();
    const std::string error = co_await error_of(send_one_to(plain, "x", all));
    CHECK(error == "send 255.255.255.255:9: " + support::text_of_error(EACCES));
    CHECK(option_of(plain.fd(), SOL_SOCKET, SO_BROADCAST) == 0);
    DatagramOptions options;
    options.broadcast = true;
    const DatagramSocket loud("127.0.0.1", 0, options);
    CHECK(option_of(loud.fd(), SOL_SOCKET, SO_BROADCAST) != 0);
    // Whether there is a network to send it to is the machine's business.
    std::error_code code;
    co_await loud.send_to("x", all, code);
    CHECK(code != std::errc::permission_denied);
  });
}

TEST_CASE("datagram: a socket made elsewhere is taken over", "[datagram]") {
  const MaybeShortIo io;
  Fd stream(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK_THROWS_AS(DatagramSocket(std::move(stream)), Misuse);
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    Fd made(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const Address to = server.local();
    CHECK(::connect(made.get(), to.get(), to.size()) == 0);
    const DatagramSocket client(std::move(made));
    CHECK(client.peer() == to);
    CHECK(is_non_blocking(client.fd()));
    co_await client.send("hello");
    const Datagram got = co_await server.recv_from();
    CHECK(got.view() == "hello");
  });
}

TEST_CASE("datagram: sockets of ours are not inherited and never block",
          "[datagram]") {
  const DatagramSocket socket = bound();
  CHECK(is_close_on_exec(socket.fd()));
  CHECK(is_non_blocking(socket.fd()));
}

// ----------------------------------------------------------------- unix paths

TEST_CASE("datagram: unix sockets with paths answer each other", "[datagram]") {
  const MaybeShortIo io;
  const Directory one;
  const Directory two;
  in_world([&]() -> Task<> {
    const DatagramSocket server(one.address());
    const DatagramSocket client(two.address());
    CHECK(server.local() == one.address());
    for (const char* text : {"one", "", "three"}) {
      co_await client.send_to(text, one.address());
      const Datagram question = co_await server.recv_from();
      CHECK(question.sender() == two.address());
      co_await server.send_to(question, question.sender());
      const Datagram answer = co_await client.recv_from();
      CHECK(answer.view() == text);
    }
  });
}

TEST_CASE("datagram: the path of a unix socket goes with it", "[datagram]") {
  const Directory directory;
  const auto there = [&] {
    return ::access(directory.file().c_str(), F_OK) == 0;
  };
  {
    DatagramSocket socket(directory.address());
    CHECK(there());
    const DatagramSocket moved = std::move(socket);
    CHECK(there());
  }
  CHECK_FALSE(there());
  DatagramSocket closed(directory.address());
  closed.close();
  CHECK_FALSE(there());
  // Another file that has taken its place stays.
  {
    const DatagramSocket socket(directory.address());
    ::unlink(directory.file().c_str());
    const Fd foreign(
        ::open(directory.file().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  CHECK(there());
}

TEST_CASE("datagram: a path that nobody uses any more is replaced",
          "[datagram]") {
  const MaybeShortIo io;
  const Directory directory;
  const Address address = directory.address();
  for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
    {
      const Fd dead(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
      CHECK(::bind(dead.get(), address.get(), address.size()) == 0);
    }
    in_world([&]() -> Task<> {
      const DatagramSocket server(address);
      const DatagramSocket client = DatagramSocket::unbound(AF_UNIX);
      co_await client.send_to("found", address);
      const Datagram got = co_await server.recv_from();
      CHECK(got.view() == "found");
      // One that is in use is not.
      CHECK(bind_error(address) == "bind " + address.text() + ": " +
                                       support::text_of_error(EADDRINUSE));
    });
  }
  // Nor is what is no socket.
  const Fd foreign(
      ::open(directory.file().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  CHECK(contains(bind_error(address), "there is a file that is no socket"));
  CHECK(::access(directory.file().c_str(), F_OK) == 0);
}

TEST_CASE("datagram: a stream server's path is not taken from it",
          "[datagram]") {
  const Directory directory;
  const Address address = directory.address();
  const Fd server(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::bind(server.get(), address.get(), address.size()) == 0);
  CHECK(::listen(server.get(), 1) == 0);
  CHECK(bind_error(address) ==
        "bind " + address.text() + ": " + support::text_of_error(EADDRINUSE));
  CHECK(::access(directory.file().c_str(), F_OK) == 0);
}

// -------------------------------------------------------------------- waiting

TEST_CASE("datagram: a killed receive leaves the datagram there",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    const DatagramSocket client = bound();
    Job<> reader = spawn(receive_one, std::cref(server));
    co_await testing::wait_all_blocked();
    co_await client.send_to("kept", server.local());
    REQUIRE(support::arrives(server.fd(), POLLIN));
    reader.kill();
    CHECK(reader.killed());
    const std::string left = co_await drained(server);
    CHECK(left == "kept");
  });
}

TEST_CASE("datagram: kill everywhere loses and doubles nothing",
          "[datagram][kill]") {
  const MaybeShortIo io;
  struct State {
    int received = 0;
    int sent = 0;
    std::string left;
  };
  testing::Options options;
  options.seeds = 100;
  options.victims = testing::Victims::kOthers;
  const auto counts = testing::kill_everywhere<State>(
      [](State& state) -> Task<> {
        const auto ends = connected_datagram_pair();
        const auto sends = [&]() -> Task<> {
          for (int i = 0; i < 4; ++i) {
            co_await ends.first.send("x");
            ++state.sent;
          }
        };
        const auto receives = [&]() -> Task<> {
          for (;;) {
            const auto one = co_await within(1s, ends.second.recv());
            if (!one) co_return;
            ++state.received;
          }
        };
        TaskGroup group;
        group.spawn(sends);
        group.spawn(receives);
        co_await group.join();
        state.left = co_await drained(ends.second);
      },
      [](State& state) {
        const int there = state.received + static_cast<int>(state.left.size());
        // A kill after the call and before the count is none of a wait.
        if (there != state.sent) throw std::logic_error("one is lost");
      },
      options);
  CHECK(counts.waits >= 8);
}

TEST_CASE("datagram: a second reader or writer is told so", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const DatagramSocket socket = bound();
    TaskGroup group;
    group.spawn(receive_one, std::cref(socket));
    co_await testing::wait_all_blocked();
    const std::string error = co_await error_of(receive_one(socket));
    CHECK(contains(error, "another job waits for the same already"));
    CHECK(contains(error, "recv " + socket.local().text()));
  });
}

TEST_CASE("datagram: closing tells who waits", "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    DatagramSocket socket = bound();
    TaskGroup group;
    std::error_code code;
    const auto receives = [&]() -> Task<> {
      (void)co_await socket.recv_from(code);
    };
    group.spawn(receives);
    co_await testing::wait_all_blocked();
    const int number = socket.fd();
    socket.close();
    CHECK_FALSE(socket);
    // A successor with the same number hears nothing of that.
    const DatagramSocket next = bound();
    CHECK(next.fd() == number);
    const std::string none = co_await drained(next);
    co_await group.join();
    CHECK(code == std::errc::bad_file_descriptor);
    std::string error = co_await error_of(receive_one(socket));
    CHECK(contains(error, "Bad file descriptor"));
    const DatagramSocket never;
    error = co_await error_of(send_one(never, "x"));
    CHECK(contains(error, "Bad file descriptor"));
  });
}

TEST_CASE("datagram: one that waits to receive registers for reading alone",
          "[datagram]") {
  SimPoller time;
  support::CountingPoller poller(time);
  LoopOptions options;
  options.poller = &poller;
  Loop loop(options);
  loop.run([](support::CountingPoller& counts) -> Task<> {
    const DatagramSocket server = bound();
    const DatagramSocket client = bound();
    CHECK(counts.adds == 0);
    for (int i = 0; i < 10; ++i) {
      TaskGroup group;
      group.spawn(receive_one, std::cref(server));
      co_await testing::wait_all_blocked();
      co_await client.send_to("x", server.local());
      co_await group.join();
    }
    CHECK(counts.adds == 1);
    CHECK(counts.added_bits == kReadable);
    CHECK(counts.changes == 0);
  }(poller));
}

TEST_CASE("datagram: a sender waits for a full socket and goes on",
          "[datagram]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const auto ends = connected_datagram_pair();
    constexpr int kCount = 2000;
    const std::string text(1000, 'x');
    int received = 0;
    bool waited = false;
    const auto sends = [&]() -> Task<> {
      for (int i = 0; i < kCount; ++i) co_await ends.first.send(text);
    };
    TaskGroup group;
    const Job<> sender = group.spawn(sends);
    co_await testing::wait_all_blocked();
    waited = is_waiting(sender);
    while (received < kCount) {
      const Datagram got = co_await ends.second.recv();
      if (got.view() == text) ++received;
    }
    co_await group.join();
    CHECK(waited);
    CHECK(received == kCount);
  });
}

TEST_CASE("datagram: a unix receiver that is behind is waited for",
          "[datagram]") {
  const MaybeShortIo io;
  const Directory directory;
  in_world([&]() -> Task<> {
    const DatagramSocket receiver(directory.address());
    const DatagramSocket other = DatagramSocket::unbound(AF_UNIX);
    const DatagramSocket sender = DatagramSocket::unbound(AF_UNIX);
    // The queue is full of what somebody else has sent: nothing tells the
    // sender when that is read.
    std::size_t queued = 0;
    for (;;) {
      const bool sent =
          co_await within(0s, other.send_to("o", directory.address()));
      if (!sent) break;
      ++queued;
    }
    TaskGroup group;
    const Job<> sending =
        group.spawn(send_one_to, std::cref(sender), "s", directory.address());
    co_await testing::wait_all_blocked();
    CHECK(is_waiting(sending));
    const std::string first = co_await drained(receiver);
    CHECK(first == std::string(queued, 'o'));
    co_await group.join();
    const Datagram late = co_await receiver.recv_from();
    CHECK(late.view() == "s");
    CHECK(late.sender().family() == 0);
  });
}

TEST_CASE("datagram: who waits for a unix receiver can be killed and closed",
          "[datagram]") {
  const MaybeShortIo io;
  const Directory directory;
  const Duration elapsed = play([&]() -> Task<> {
    const DatagramSocket receiver(directory.address());
    DatagramSocket sender = DatagramSocket::unbound(AF_UNIX);
    const auto fills = [&]() -> Task<> {
      for (;;) co_await sender.send_to("f", directory.address());
    };
    Job<> filling = spawn(fills);
    co_await testing::wait_all_blocked();
    CHECK(is_waiting(filling));
    CHECK(filling.kill());
    std::error_code code;
    const auto sends = [&]() -> Task<> {
      co_await sender.send_to("f", directory.address(), code);
    };
    Job<> sending = spawn(sends);
    co_await testing::wait_all_blocked();
    const std::string busy =
        co_await error_of(send_one_to(sender, "x", directory.address()));
    CHECK(contains(busy, "another job waits for the same already"));
    sender.close();
    co_await join(sending);
    CHECK(code == std::errc::bad_file_descriptor);
  });
  CHECK(elapsed == 0ms);
}

TEST_CASE(
    "datagram: a connected unix sender is told at once that there is room",
    "[datagram]") {
  const MaybeShortIo io;
  const Directory directory;
  const Duration elapsed = play([&]() -> Task<> {
    const DatagramSocket receiver(directory.address());
    DatagramSocket sender = DatagramSocket::unbound(AF_UNIX);
    sender.connect(directory.address());
    constexpr int kCount = 200;
    const auto sends = [&]() -> Task<> {
      for (int i = 0; i < kCount; ++i) co_await sender.send("x");
    };
    TaskGroup group;
    const Job<> sending = group.spawn(sends);
    co_await testing::wait_all_blocked();
    CHECK(is_waiting(sending));
    for (int i = 0; i < kCount; ++i) co_await receive_one(receiver);
    co_await group.join();
  });
  CHECK(elapsed == 0ms);
}

TEST_CASE("datagram: faults tell who must wait, and nothing is lost",
          "[datagram]") {
  in_world([]() -> Task<> {
    const DatagramSocket server = bound();
    const DatagramSocket client = bound();
    FaultPlan plan;
    plan.one_byte().interrupt_every(3).would_block_every(2);
    TaskGroup group;
    group.spawn(echo_datagrams, std::cref(server), 50);
    for (int i = 0; i < 50; ++i) {
      const std::string sent = random_bytes(100, static_cast<unsigned>(i));
      co_await client.send_to(sent, server.local());
      const Datagram back = co_await client.recv_from();
      CHECK(back.view() == sent);
    }
    co_await group.join();
    CHECK(plan.interrupted() > 0);
    CHECK(plan.told_to_wait() > 0);
    CHECK(plan.shortened() == 0);
  });
}

TEST_CASE("datagram: no memory for a lent buffer is an error that passes",
          "[datagram]") {
  class NoBuffers final : public sys::Calls {
   public:
    void* allocate(std::size_t size) noexcept override {
      return size == internal::BufferPool::kBytes ? nullptr
                                                  : Calls::allocate(size);
    }
  };
  support::in_a_thread([] {  // which has no buffer at hand
    in_world([]() -> Task<> {
      const DatagramSocket server = bound();
      co_await server.send_to("kept", server.local());
      bool refused = false;
      NoBuffers calls;
      {
        const support::ScopedCalls installed(calls);
        try {
          co_await receive_one(server);
        } catch (const std::bad_alloc&) {
          refused = true;
        }
      }
      CHECK(refused);
      const std::string left = co_await drained(server);
      CHECK(left == "kept");
    });
  });
}

TEST_CASE("datagram: a dump says what is waited for", "[datagram]") {
  in_world([]() -> Task<> {
    const DatagramSocket socket = bound();
    TaskGroup group;
    group.spawn(receive_one, std::cref(socket));
    co_await testing::wait_all_blocked();
    CHECK(contains(Loop::current().dump(), "recv " + socket.local().text()));
  });
}
