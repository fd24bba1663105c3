// connection_test.cpp - a stream socket: connect, recv, send, shut down.
// SPDX-License-Identifier: MIT
#include "../net/connection.hpp"
#include "../runtime/combine.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "catch.hpp"
#include "mallocs.hpp"
#include "sockets.hpp"

using namespace sockets;
#ifdef VIOLET_COUNTS_MALLOC
using support::mallocs;
#endif

namespace {

/// More than the buffers of two sockets hold, so that a sender has to wait.
std::size_t much(std::size_t usual) {
  if (MaybeShortIo::wanted()) return 1'000'000;
  return support::kSanitized ? std::min<std::size_t>(usual, 8 << 20) : usual;
}

/// How much is carried from end to end; byte by byte it is less.
std::size_t moderate(std::size_t usual) {
  return MaybeShortIo::wanted() ? std::min<std::size_t>(usual, 60'000) : usual;
}

/// Makes a sender's buffer as small as it can be.
void make_narrow(const Connection& conn) {
  const int least = 1;
  ::setsockopt(conn.fd(), SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
}

/// Counts what a poller tells, and how often.
class NewsPoller final : public Poller {
 public:
  TimePoint now() noexcept override { return real_.now(); }
  int add(int fd, Token token, std::uint8_t bits) noexcept override {
    added.push_back(bits);
    return real_.add(fd, token, bits);
  }
  int change(int fd, Token token, std::uint8_t bits) noexcept override {
    ++changes;
    return real_.change(fd, token, bits);
  }
  void remove(int fd) noexcept override {
    ++removes;
    real_.remove(fd);
  }
  std::span<const Ready> wait(TimePoint deadline,
                              bool wake_expected) noexcept override {
    const auto ready = real_.wait(deadline, wake_expected);
    woken_ = real_.woken() || woken_;
    news += ready.size();
    return ready;
  }
  void wake() noexcept override { real_.wake(); }
  void closing(int fd) noexcept override { real_.closing(fd); }
  int fd() noexcept override { return real_.fd(); }

  std::vector<std::uint8_t> added;
  int changes = 0;
  int removes = 0;
  std::size_t news = 0;

 private:
  SimPoller real_;
};

/// A loop in virtual time that counts its news.
struct NewsLoop {
  LoopOptions options() {
    LoopOptions result;
    result.poller = &poller;
    return result;
  }

  NewsPoller poller;
  Loop loop{options()};
};

/// A kernel that takes one byte with each send, and never blocks.
class OneByteSends : public sys::Calls {
 public:
  ssize_t send(int fd, const void* data, std::size_t size,
               int flags) noexcept override {
    return Calls::send(fd, data, std::min<std::size_t>(size, 1), flags);
  }
};

/// Sends `data` in pieces of random size, with turns for others in between.
Task<> send_in_pieces(const Connection& to, const std::string& data,
                      std::size_t most) {
  std::mt19937 random(7);
  std::string_view rest = data;
  while (!rest.empty()) {
    const std::size_t size = std::min(rest.size(), random() % most + 1);
    co_await to.sendall(rest.substr(0, size));
    rest.remove_prefix(size);
    if (random() % 4 == 0) co_await yield_now();
  }
  to.shutdown(Half::kSending);
}

/// Reads to the end in pieces of random size.
Task<std::string> receive_in_pieces(const Connection& from, std::size_t most) {
  std::mt19937 random(11);
  std::string text;
  std::string piece(most, '\0');
  for (;;) {
    const std::span<char> room(piece.data(), random() % most + 1);
    const std::size_t got = co_await from.recv(room);
    if (got == 0) co_return text;
    text.append(piece, 0, got);
  }
}

/// What comes back through an echo of `data`.
Task<std::string> echoed(const std::string& data, std::size_t most) {
  Ends ends = co_await tcp_ends();
  spawn(echo, std::move(ends.second));
  auto sender = spawn(send_in_pieces, std::cref(ends.first), std::cref(data),
                      std::size_t{most});
  std::string text = co_await receive_in_pieces(ends.first, most);
  co_await join(sender);
  co_return text;
}

Task<> receive_into(const Connection& from, std::string& text) {
  const Chunk chunk = co_await from.recv();
  text.assign(chunk.view());
}

Task<> send_text(const Connection& to, const std::string& text) {
  co_await to.sendall(text);
}

Task<> connect_to(const Address& address) {
  const Connection conn = co_await connect(address);
}

/// Runs the scenario in a world of its own; nothing is left of it.
template <class F>
void in_world(F scenario) {
  const Footprint before;
  {
    World world;
    world.run(scenario());
    CHECK_FALSE(world.time.hung);
  }
  CHECK(Footprint() == before);
}

constexpr char kBusy[] =
    ": another job waits for the same already; let one job do all the "
    "reading and one all the writing";

/// A connected pair, whose first end has a number that is free: also where
/// another thread has just freed a lower one.
Ends pair_at(int number) {
  support::Pair pair = support::make_socketpair();
  if (pair[1].get() == number) std::swap(pair[0], pair[1]);
  if (pair[0].get() != number) {
    pair[0].reset(::fcntl(pair[0].get(), F_DUPFD_CLOEXEC, number));
  }
  Connection first(std::move(pair[0]));  // it gets the slot that is free
  return Ends(std::move(first), Connection(std::move(pair[1])));
}

}  // namespace

// ------------------------------------------------------------ what comes back

TEST_CASE("connection: every size comes back byte for byte", "[connection]") {
  const MaybeShortIo io;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{1023}, std::size_t{1024},
        std::size_t{1025}, moderate(65536), moderate(10 << 20)}) {
    INFO(size);
    const std::string data = random_bytes(size);
    World world;
    const std::string back = world.run(echoed(data, size > 70000 ? 30000 : 99));
    CHECK((back == data));
    CHECK_FALSE(world.time.hung);
  }
}

TEST_CASE("connection: one byte at a time comes back", "[connection]") {
  const MaybeShortIo io;
  const std::string data = random_bytes(3000);
  World world;
  CHECK((world.run(echoed(data, 1)) == data));
}

TEST_CASE("connection: a chunk lends what came", "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = connected_pair();
    co_await ends.first.sendall("x");
    Chunk chunk = co_await ends.second.recv();
    CHECK(chunk);
    CHECK(chunk.view() == "x");
    CHECK(chunk.size() == 1);
    Chunk other = std::move(chunk);
    CHECK_FALSE(chunk);
    CHECK(other.view() == "x");
    // While one is lent, the next is another one.
    co_await ends.first.sendall("y");
    Chunk next = co_await ends.second.recv();
    CHECK(other.view() == "x");
    CHECK(next.view() == "y");
    std::swap(other, next);
    CHECK(other.view() == "y");
    ends.first.close();
    const Chunk end = co_await ends.second.recv();
    CHECK_FALSE(end);
    CHECK(end.view().empty());
  });
}

TEST_CASE("connection: many lent chunks live side by side", "[connection]") {
  in_world([]() -> Task<> {
    Ends ends = connected_pair();
    std::deque<Chunk> chunks;
    for (int i = 0; i < 40; ++i) {
      const std::string text = std::to_string(i);
      co_await ends.first.sendall(text);
      chunks.push_back(co_await ends.second.recv());
    }
    for (int i = 0; i < 40; ++i) {
      CHECK(chunks[static_cast<std::size_t>(i)].view() == std::to_string(i));
    }
  });
}

TEST_CASE("connection: a buffer is filled up to its size", "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    co_await ends.first.sendall("abcdef");
    await_bytes(ends.second.fd(), 6);
    std::string text = co_await receive(ends.second, 4);
    CHECK(text == "abcd");
    text = co_await receive(ends.second, 2);
    CHECK(text == "ef");
    // An empty buffer asks for nothing.
    const std::size_t none = co_await ends.second.recv(std::span<char>());
    CHECK(none == 0);
    ends.first.close();
    char byte;
    const std::size_t end =
        co_await ends.second.recv(std::span<char>(&byte, 1));
    CHECK(end == 0);
    const std::size_t again =
        co_await ends.second.recv(std::span<char>(&byte, 1));
    CHECK(again == 0);
  });
}

TEST_CASE("connection: send takes what fits and sendall the rest",
          "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = connected_pair();
    make_narrow(ends.first);
    const std::string data = random_bytes(50'000);
    const std::size_t taken = co_await ends.first.send(data);
    CHECK(taken >= 1);
    CHECK(taken < data.size());
    CHECK(ends.first.sent_bytes() == taken);
    auto rest = [&]() -> Task<> {
      const std::string_view view(data);
      const std::size_t sent = co_await ends.first.sendall(view.substr(taken));
      CHECK(sent == data.size() - taken);
    };
    auto sender = spawn(rest);
    const std::string text = co_await receive(ends.second, data.size());
    CHECK((text == data));
    co_await join(sender);
    CHECK(ends.first.sent_bytes() == data.size());
    const std::size_t nothing = co_await ends.first.sendall("");
    CHECK(nothing == 0);
    const std::size_t none = co_await ends.first.send("");
    CHECK(none == 0);
  });
}

// ------------------------------------------------------------- slow and gone

TEST_CASE("connection: a peer that never reads holds up its sender only",
          "[connection]") {
  const MaybeShortIo io;
  const std::string data(much(100 << 20), 'd');
  in_world([&]() -> Task<> {
    Ends slow = co_await tcp_ends();
    make_narrow(slow.first);
    auto sender = spawn(send_text, std::cref(slow.first), std::cref(data));
    Ends quick = co_await tcp_ends();
    auto server = spawn(echo, std::move(quick.second));
    for (int i = 0; i < 20; ++i) {
      const std::string answer = co_await ask(quick.first, "are you there?");
      CHECK(answer == "are you there?");
      co_await sleep(1ms);
    }
    CHECK_FALSE(sender.ended());
    CHECK(slow.first.sent_bytes() < data.size());
    sender.kill();
    server.kill();
  });
}

TEST_CASE("connection: a peer that goes away while we send is an error",
          "[connection]") {
  const MaybeShortIo io;
  const std::string data(much(20 << 20), 'd');
  in_world([&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    make_narrow(ends.first);
    const std::string peer = ends.first.peer().text();
    auto sender = spawn(send_text, std::cref(ends.first), std::cref(data));
    co_await receive(ends.second, 1000);
    CHECK_FALSE(sender.ended());
    ends.second.close();
    co_await wait(sender);
    const std::string error = text_of(sender.error());
    CHECK((error == "sendall " + peer + ": Connection reset by peer" ||
           error == "sendall " + peer + ": Broken pipe"));
    // From then on it is always the second.
    const std::string next = co_await error_of(send_text(ends.first, data));
    CHECK(next == "sendall " + peer + ": Broken pipe");
  });
}

TEST_CASE("connection: no send raises SIGPIPE", "[connection]") {
  const MaybeShortIo io;
  // One turn at a time: only run() ignores the signal.
  const auto end = in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    Loop loop;
    std::string error;
    auto scenario = [&]() -> Task<> {
      Ends ends = connected_pair();
      ends.second.close();
      std::string text = "x";
      error = co_await error_of(send_text(ends.first, text));
    };
    loop.spawn(scenario);
    while (loop.run_once()) {
    }
    if (!contains(error, "Broken pipe")) throw Misuse(error);
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 0);
}

TEST_CASE("connection: a reset is an error and no end of stream",
          "[connection][libkqueue:so_error]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    const std::string peer = ends.first.peer().text();
    std::string text;
    // Once while somebody waits, once before anybody does.
    auto reader = spawn(receive_into, std::cref(ends.first), std::ref(text));
    co_await settle();
    CHECK(is_waiting(reader));
    reset(ends.second);
    co_await wait(reader);
    CHECK(text_of(reader.error()) ==
          "recv " + peer + ": Connection reset by peer");

    Ends others = co_await tcp_ends();
    reset(others.second);
    const std::string error =
        co_await error_of(receive_into(others.first, text));
    CHECK(contains(error, "Connection reset by peer"));
  });
}

TEST_CASE("connection: after a half close the answer still arrives",
          "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    auto server = [](Connection conn) -> Task<> {
      const std::string request = co_await receive_all(conn);
      co_await conn.sendall("you said " + request);
    };
    spawn(server, std::move(ends.second));
    co_await ends.first.sendall("hello");
    ends.first.shutdown(Half::kSending);
    const std::string answer = co_await receive_all(ends.first);
    CHECK(answer == "you said hello");
    // What we have ended we cannot use any more.
    std::string more = "more";
    const std::string error = co_await error_of(send_text(ends.first, more));
    CHECK(contains(error, "Broken pipe"));
  });
}

TEST_CASE("connection: either half and both can be shut down", "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = connected_pair();
    std::string text = "unset";
    auto reader = spawn(receive_into, std::cref(ends.first), std::ref(text));
    co_await settle();
    ends.first.shutdown(Half::kReceiving);
    co_await join(reader);
    CHECK(text.empty());
    ends.second.shutdown(Half::kBoth);
    const std::string rest = co_await receive_all(ends.second);
    CHECK(rest.empty());
    Connection closed;
    CHECK(thrown<std::system_error>([&] { closed.shutdown(Half::kBoth); }) ==
          "shutdown nowhere: Bad file descriptor");
    std::error_code code;
    closed.shutdown(Half::kBoth, code);
    CHECK(code == std::errc::bad_file_descriptor);
    ends.first.shutdown(Half::kSending, code);
    CHECK(!code);
  });
}

TEST_CASE("connection: bytes and the end in one edge both arrive",
          "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    // Before the first wait, and during one.
    Ends early = co_await tcp_ends();
    co_await early.first.sendall("last words");
    early.first.close();
    REQUIRE(support::arrives(early.second.fd(), POLLRDHUP));
    std::string text = co_await receive_all(early.second);
    CHECK(text == "last words");

    Ends late = co_await tcp_ends();
    auto reader = spawn(receive_all, std::cref(late.second));
    co_await settle();
    CHECK(is_waiting(reader));
    co_await late.first.sendall("last words");
    late.first.close();
    REQUIRE(support::arrives(late.second.fd(), POLLRDHUP));
    text = co_await join(reader);
    CHECK(text == "last words");
  });
}

#ifndef VIOLET_KQUEUE  // kqueue(2) says nothing about urgent bytes
TEST_CASE("connection: an urgent byte hides nothing that follows it",
          "[connection]") {
  const MaybeShortIo io;
  const bool at_once = GENERATE(true, false);
  in_world([at_once]() -> Task<> {
    Ends ends = co_await tcp_ends();
    auto reader = spawn(receive, std::cref(ends.second), std::size_t{6});
    if (!at_once) co_await settle();
    const int fd = ends.first.fd();
    ::send(fd, "abc", 3, 0);
    if (!at_once) co_await settle();
    ::send(fd, "!", 1, MSG_OOB);
    if (!at_once) co_await settle();
    ::send(fd, "def", 3, 0);
    const std::string text = co_await join(reader);
    CHECK(text == "abcdef");
  });
}
#endif

// ------------------------------------------------------------ two at one end

TEST_CASE("connection: a second reader is told to stay away", "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    std::string first;
    std::string second;
    auto reader = spawn(receive_into, std::cref(ends.first), std::ref(first));
    co_await settle();
    auto other = spawn(receive_into, std::cref(ends.first), std::ref(second));
    co_await wait(other);
    const std::exception_ptr error = other.error();
    CHECK_THROWS_AS(std::rethrow_exception(error), Misuse);
    CHECK(text_of(error) == "recv " + ends.first.peer().text() + kBusy);
    // The first is not disturbed, also if bytes are there already.
    co_await ends.second.sendall("1");
    co_await join(reader);
    CHECK(first == "1");
    CHECK(second.empty());
  });
}

TEST_CASE("connection: a reader and a writer work side by side",
          "[connection]") {
  const MaybeShortIo io;
  const std::string data = random_bytes(moderate(1 << 20));
  in_world([&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    make_narrow(ends.first);
    auto a = spawn(send_in_pieces, std::cref(ends.first), std::cref(data),
                   std::size_t{20'000});
    auto b = spawn(send_in_pieces, std::cref(ends.second), std::cref(data),
                   std::size_t{20'000});
    auto c = spawn(receive_all, std::cref(ends.first));
    auto d = spawn(receive_all, std::cref(ends.second));
    const std::string& left = co_await join(c);
    const std::string& right = co_await join(d);
    CHECK((left == data));
    CHECK((right == data));
    co_await join(a);
    co_await join(b);
  });
}

TEST_CASE("connection: a second sender is told to stay away", "[connection]") {
  const MaybeShortIo io;
  const std::string data(moderate(20 << 20), 'a');
  in_world([&]() -> Task<> {
    Ends ends = connected_pair();
    make_narrow(ends.first);
    auto sender = spawn(send_text, std::cref(ends.first), std::cref(data));
    co_await settle();
    CHECK(is_waiting(sender));
    std::string intruder = "bbb";
    const std::string error =
        co_await error_of(send_text(ends.first, intruder));
    CHECK(error == "sendall unix:" + std::string(kBusy));
    const std::string text = co_await receive(ends.second, data.size());
    CHECK((text == data));
    co_await join(sender);
  });
}

TEST_CASE("connection: no sender comes between the pieces of another",
          "[connection]") {
  // The first sender gives way to others in the middle of its text, since it
  // has made many calls, and not because the socket was full.
  OneByteSends calls;
  const support::ScopedCalls installed(calls);
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    const std::string first(100, 'a');
    const std::string second(10, 'b');
    auto a = spawn(send_text, std::cref(ends.first), std::cref(first));
    auto b = spawn(send_text, std::cref(ends.first), std::cref(second));
    co_await wait(a);
    co_await wait(b);
    ends.first.close();
    const std::string text = co_await receive_all(ends.second);
    CHECK(a.error() == nullptr);
    const bool refused = b.error() != nullptr;
    CHECK(text == (refused ? first : first + second));
  });
}

// -------------------------------------------------------------------- closing

TEST_CASE("connection: close() wakes who waits for it", "[connection]") {
  const MaybeShortIo io;
  const std::string data(much(20 << 20), 'd');
  in_world([&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    make_narrow(ends.first);
    const std::string peer = ends.first.peer().text();
    std::string text;
    auto reader = spawn(receive_into, std::cref(ends.first), std::ref(text));
    auto writer = spawn(send_text, std::cref(ends.first), std::cref(data));
    co_await settle();
    CHECK(is_waiting(reader));
    CHECK(is_waiting(writer));
    CHECK(ends.first);
    ends.first.close();
    CHECK_FALSE(ends.first);
    CHECK(ends.first.fd() == -1);
    co_await wait(reader);
    co_await wait(writer);
    CHECK(text_of(reader.error()) == "recv " + peer + ": Bad file descriptor");
    CHECK(text_of(writer.error()) ==
          "sendall " + peer + ": Bad file descriptor");
    ends.first.close();  // once more is harmless
    const std::string error = co_await error_of(receive_into(ends.first, text));
    CHECK(error == "recv " + peer + ": Bad file descriptor");
  });
}

TEST_CASE("connection: its owner may die while somebody waits",
          "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    std::optional<Ends> ends(connected_pair());
    std::string text;
    auto reader = spawn(receive_into, std::cref(ends->first), std::ref(text));
    co_await settle();
    ends.reset();
    co_await wait(reader);
    CHECK(text_of(reader.error()) == "recv unix:: Bad file descriptor");
  });
}

TEST_CASE("connection: one that never was cannot be used", "[connection]") {
  in_world([]() -> Task<> {
    const Connection none;
    CHECK_FALSE(none);
    CHECK(none.fd() == -1);
    CHECK(none.sent_bytes() == 0);
    CHECK(none.peer() == Address());
    CHECK_THROWS_AS(none.local(), std::system_error);
    std::string text = "x";
    std::string error = co_await error_of(receive_into(none, text));
    CHECK(error ==
          "recv on a Connection that was moved from: Bad file descriptor");
    error = co_await error_of(send_text(none, text));
    CHECK(error ==
          "sendall on a Connection that was moved from: Bad file descriptor");
  });
}

TEST_CASE("connection: late news of a descriptor wakes no successor",
          "[connection]") {
  const MaybeShortIo io;
  const Footprint before;
  {
    support::CountedLoop world;
    auto scenario = [&]() -> Task<> {
      Ends old = connected_pair();
      std::string text;
      auto reader = spawn(receive_into, std::cref(old.first), std::ref(text));
      co_await settle();
      const Token stale = world.poller.last_token;
      const int number = old.first.fd();
      reader.kill();
      old.first = Connection();

      const Ends fresh = pair_at(number);
      REQUIRE(fresh.first.fd() == number);
      auto successor =
          spawn(receive_into, std::cref(fresh.first), std::ref(text));
      co_await settle();
      REQUIRE(is_waiting(successor));
      REQUIRE(world.poller.last_token.index == stale.index);
      REQUIRE(world.poller.last_token.generation != stale.generation);
      CountedCalls calls;
      const support::ScopedCalls counted(calls);
      world.poller.news.push_back({stale, kReadable | kEnded});
      co_await settle();
      CHECK(world.poller.news.empty());
      CHECK(calls.recvs == 0);
      CHECK(is_waiting(successor));
      // Only its own news does.
      world.poller.news.push_back({world.poller.last_token, kReadable});
      co_await settle();
      CHECK(calls.recvs == 1);
      CHECK(is_waiting(successor));
      successor.kill();
    };
    world.loop.run(scenario());
  }
  CHECK(Footprint() == before);
}

TEST_CASE("connection: a number that is used again at once starts anew",
          "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Ends old = co_await tcp_ends();
    // Its end of stream is known, and its bytes are unread.
    std::string text;
    auto reader = spawn(receive_into, std::cref(old.first), std::ref(text));
    co_await settle();
    reader.kill();
    const int number = old.first.fd();
    co_await old.second.sendall("of the old one");
    old.second.close();
    old.first.close();
    const Ends fresh = pair_at(number);
    CHECK(fresh.first.fd() == number);
    auto successor =
        spawn(receive_into, std::cref(fresh.first), std::ref(text));
    co_await settle();
    CHECK(is_waiting(successor));
    co_await fresh.second.sendall("n");
    co_await join(successor);
    CHECK(text == "n");
  });
}

// -------------------------------------------------------------------- killing

TEST_CASE("connection: a killed recv has consumed no byte", "[connection]") {
  const MaybeShortIo io;
  const bool tcp = GENERATE(false, true);
  in_world([tcp]() -> Task<> {
    Ends ends = connected_pair();
    if (tcp) ends = co_await tcp_ends();
    Ends trigger = connected_pair();
    std::string text = "nothing";
    auto reader = spawn(receive_into, std::cref(ends.first), std::ref(text));
    bool was_ready = false;
    // Its news comes just before the reader's, in the same turn.
    auto kills = [&]() -> Task<> {
      const Chunk go = co_await trigger.first.recv();
      was_ready = is_ready(reader);
      CHECK(reader.kill());
    };
    auto killer = spawn(kills);
    co_await settle();
    CHECK(support::put(trigger.second.fd(), "!"));
    CHECK(support::put(ends.second.fd(), "abc"));
    await_bytes(ends.first.fd(), 3);
    co_await join(killer);
    CHECK(was_ready);
    CHECK(reader.killed());
    CHECK(text == "nothing");
    const std::string all = co_await receive(ends.first, 3);
    CHECK(all == "abc");
  });
}

TEST_CASE("connection: a killed send has sent nothing", "[connection]") {
  in_world([]() -> Task<> {
    Ends ends = connected_pair();
    make_narrow(ends.first);
    const std::size_t stuffed = support::fill(ends.first.fd());
    auto body = [&]() -> Task<> { co_await ends.first.send("never"); };
    auto sender = spawn(body);
    co_await settle();
    CHECK(is_waiting(sender));
    sender.kill();
    CHECK(ends.first.sent_bytes() == 0);
    ends.first.close();
    const std::string text = co_await receive_all(ends.second);
    CHECK(text.size() == stuffed);
    CHECK_FALSE(contains(text, "never"));
  });
}

TEST_CASE("connection: of a killed sendall it is known how much was sent",
          "[connection]") {
  const MaybeShortIo io;
  const std::string data = random_bytes(much(20 << 20));
  in_world([&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    make_narrow(ends.first);
    co_await ends.first.sendall("head");
    auto sender = spawn(send_text, std::cref(ends.first), std::cref(data));
    std::string got = co_await receive(ends.second, 5000);
    CHECK_FALSE(sender.ended());
    CHECK(sender.kill());
    const std::uint64_t sent = ends.first.sent_bytes();
    CHECK(sent >= 5000);
    CHECK(sent < data.size());
    ends.first.close();
    CHECK(ends.first.sent_bytes() == sent);  // known even then
    got += co_await receive_all(ends.second);
    CHECK(got.size() == sent);
    CHECK((got == "head" + data.substr(0, sent - 4)));
  });
}

// ------------------------------------------------------------------ addresses

TEST_CASE("connection: both ends know each other", "[connection]") {
  const MaybeShortIo io;
  std::vector<std::string> hosts = {"127.0.0.1"};
  if (has_ipv6()) hosts.push_back("::1");
  for (const std::string& host : hosts) {
    in_world([&]() -> Task<> {
      Listener listener(host, 0);
      Connection near = co_await connect(host, listener.address().port());
      Connection far = co_await listener.accept();
      CHECK(near.peer() == listener.address());
      CHECK(far.local() == listener.address());
      CHECK(near.local() == far.peer());
      CHECK(far.peer().text() == local_address(near.fd()).text());
      // Known even after it has reset the connection, or we have closed it.
      const Address peer = far.peer();
      reset(near);
      REQUIRE(support::arrives(far.fd(), POLLIN));
      CHECK(far.peer() == peer);
      far.close();
      CHECK(far.peer() == peer);
      CHECK_THROWS_AS(far.local(), std::system_error);
    });
  }
}

TEST_CASE("connection: a unix server with a full backlog is waited for",
          "[connection]") {
  const Directory directory;
  in_world([&]() -> Task<> {
    ListenOptions options;
    options.backlog = 2;
    Listener listener(directory.address(), options);
    std::vector<Connection> queued;
    for (;;) {
      auto conn = co_await within(0s, connect(directory.address()));
      if (!conn) break;
      queued.push_back(std::move(*conn));
      REQUIRE(queued.size() < 100);
    }
    Connection late;
    const auto connects = [&]() -> Task<> {
      late = co_await connect(directory.address());
    };
    Job<> killed = spawn(connects);
    Job<> connecting = spawn(connects);
    co_await settle();
    CHECK_FALSE(late);
    CHECK(killed.kill());
    for (std::size_t i = 0; i < queued.size(); ++i) co_await listener.accept();
    co_await join(connecting);
    spawn(echo, co_await listener.accept());
    const std::string answer = co_await ask(late, "hello");
    CHECK(answer == "hello");
  });
}

TEST_CASE("connection: a unix connection knows its path", "[connection]") {
  const MaybeShortIo io;
  const Directory directory;
  in_world([&]() -> Task<> {
    Listener listener(directory.address());
    CHECK(listener.address().text() == directory.address().text());
    Connection near = co_await connect(directory.address());
    Connection far = co_await listener.accept();
    spawn(echo, std::move(far));
    const std::string answer = co_await ask(near, "hello");
    CHECK(answer == "hello");
    CHECK(near.peer().family() == AF_UNIX);
    CHECK(near.local().text() == "unix:");
  });
  in_world([&]() -> Task<> {
    ::unlink(directory.file().c_str());
    Listener listener(directory.address());
    Connection near = co_await connect(directory.address());
    Connection far = co_await listener.accept();
    CHECK(far.local().text() == directory.address().text());
    CHECK(far.peer().text() == "unix:");
  });
}

TEST_CASE("connection: a socket made elsewhere is taken over", "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    Connection near(dial(listener.address()));
    CHECK(near.peer() == listener.address());
    Connection far = co_await listener.accept();
    spawn(echo, std::move(far));
    const std::string answer = co_await ask(near, "hello");
    CHECK(answer == "hello");
  });
}

// ----------------------------------------------------------------- connecting

TEST_CASE("connection: a refused connect names the address",
          "[connection][libkqueue:so_error]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    Address address;
    {
      const Listener gone("127.0.0.1", 0);
      address = gone.address();
    }
    std::string error = co_await error_of(connect_to(address));
    CHECK(error == "connect " + address.text() + ": Connection refused");
    const Address nowhere = Address::parse("unix:/no/such/path");
    error = co_await error_of(connect_to(nowhere));
    CHECK(error == "connect unix:/no/such/path: No such file or directory");
    const Address none;
    error = co_await error_of(connect_to(none));
    CHECK(error == "connect nowhere: Address family not supported by protocol");
  });
}

TEST_CASE("connection: connect says if no descriptor is left", "[connection]") {
  class NoSocket final : public sys::Calls {
   public:
    int socket(int, int, int) noexcept override { return -EMFILE; }
  };
  NoSocket calls;
  const support::ScopedCalls installed(calls);
  in_world([]() -> Task<> {
    const Address address = Address::parse("127.0.0.1", 1);
    const std::string error = co_await error_of(connect_to(address));
    CHECK(error == "connect 127.0.0.1:1: " + support::text_of_error(EMFILE));
  });
}

namespace {

/// An address whose backlog is full: connecting to it takes for ever.
class BlackHole {
 public:
  BlackHole() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const Address any = Address::parse("127.0.0.1");
    ::bind(socket_.get(), any.get(), any.size());
    ::listen(socket_.get(), 0);
    address_ = local_address(socket_.get());
    for (Fd& client : clients_) {
      client =
          Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      ::connect(client.get(), address_.get(), address_.size());
    }
  }
  const Address& address() const { return address_; }

 private:
  Fd socket_;
  Fd clients_[3];
  Address address_;
};

}  // namespace

TEST_CASE("connection: a killed connect closes its socket", "[connection]") {
  const MaybeShortIo io;
  const BlackHole hole;
  in_world([&]() -> Task<> {
    const int before = open_descriptors();
    auto job = spawn(connect_to, std::cref(hole.address()));
    co_await yield_now();
    co_await yield_now();
    REQUIRE(is_waiting(job));
    CHECK(open_descriptors() == before + 1);
    CHECK(contains(Loop::current().dump(), "connect " + hole.address().text()));
    CHECK(job.kill());
    CHECK(open_descriptors() == before);
  });
}

TEST_CASE("connection: a connect may have a limit of time", "[connection]") {
  const MaybeShortIo io;
  const BlackHole hole;
  in_world([&]() -> Task<> {
    const int before = open_descriptors();
    std::optional<Connection> none =
        co_await within(10ms, connect(hole.address()));
    CHECK_FALSE(none);
    CHECK(open_descriptors() == before);
    Listener listener("127.0.0.1", 0);
    std::optional<Connection> some =
        co_await within(1h, connect(listener.address()));
    REQUIRE(some);
    CHECK(some->peer() == listener.address());
  });
}

TEST_CASE("connection: a connect that nobody gave a limit is waited for",
          "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    // The answer may come in the same turn or in a later one.
    for (int i = 0; i < 20; ++i) {
      const Ends ends = co_await tcp_ends();
      CHECK(ends.first.peer() == ends.second.local());
    }
  });
}

// ---------------------------------------------------------------- error codes

TEST_CASE("connection: an error code is cleared by success", "[connection]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    const std::error_code stale = std::make_error_code(std::errc::io_error);
    Listener listener("127.0.0.1", 0);
    std::error_code code = stale;
    Connection near = co_await connect(listener.address(), code);
    CHECK_FALSE(code);
    CHECK(near);
    code = stale;
    Connection far = co_await listener.accept(code);
    CHECK_FALSE(code);
    CHECK(far);
    code = stale;
    std::size_t count = co_await near.sendall("abc", code);
    CHECK_FALSE(code);
    CHECK(count == 3);
    code = stale;
    count = co_await near.send("d", code);
    CHECK_FALSE(code);
    CHECK(count == 1);
    code = stale;
    char buffer[8];
    count = co_await far.recv(std::span<char>(buffer), code);
    CHECK_FALSE(code);
    CHECK(count >= 1);
    near.close();
    std::string text(buffer, count);
    for (;;) {
      code = stale;
      const Chunk chunk = co_await far.recv(code);
      CHECK_FALSE(code);
      if (!chunk) break;
      text.append(chunk.view());
    }
    CHECK(text == "abcd");
  });
}

TEST_CASE("connection: an error code tells what an exception would",
          "[connection][libkqueue:so_error]") {
  const MaybeShortIo io;
  in_world([]() -> Task<> {
    std::error_code code;
    Address address;
    Connection near;
    Connection far;
    {
      Listener listener("127.0.0.1", 0);
      address = listener.address();
      near = co_await connect(address);
      far = co_await listener.accept();
    }
    const Connection none = co_await connect(address, code);
    CHECK(code == std::errc::connection_refused);
    CHECK(code.category() == std::system_category());
    CHECK_FALSE(none);

    reset(near);
    REQUIRE(support::arrives(far.fd(), POLLIN));
    const Chunk chunk = co_await far.recv(code);
    CHECK(code == std::errc::connection_reset);
    CHECK_FALSE(chunk);
    std::size_t count = co_await far.sendall("x", code);
    CHECK(code == std::errc::broken_pipe);
    CHECK(count == 0);
    count = co_await far.send("x", code);
    CHECK(code == std::errc::broken_pipe);
    far.close();
    char byte;
    count = co_await far.recv(std::span<char>(&byte, 1), code);
    CHECK(code == std::errc::bad_file_descriptor);
    CHECK(count == 0);
    const Listener closed;
    const Connection nobody = co_await closed.accept(code);
    CHECK(code == std::errc::bad_file_descriptor);
    CHECK_FALSE(nobody);
  });
}

TEST_CASE("connection: sendall tells by code how far it came",
          "[connection][libkqueue:so_error]") {
  const MaybeShortIo io;
  const std::string data(much(20 << 20), 'd');
  in_world([&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    make_narrow(ends.first);
    std::error_code code;
    std::size_t sent = 0;
    auto body = [&]() -> Task<> {
      sent = co_await ends.first.sendall(data, code);
    };
    auto sender = spawn(body);
    co_await receive(ends.second, 3000);
    reset(ends.second);
    co_await join(sender);
    CHECK(code == std::errc::connection_reset);
    CHECK(sent >= 3000);
    CHECK(sent < data.size());
    CHECK(sent == ends.first.sent_bytes());
  });
}

TEST_CASE("connection: a kill touches no error code", "[connection]") {
  const MaybeShortIo io;
  const BlackHole hole;
  in_world([&]() -> Task<> {
    const std::error_code before = std::make_error_code(std::errc::io_error);
    std::error_code codes[4] = {before, before, before, before};
    Ends ends = connected_pair();
    make_narrow(ends.first);
    const std::string data(much(1 << 20), 'd');
    Listener listener("127.0.0.1", 0);
    auto receives = [&]() -> Task<> { co_await ends.first.recv(codes[0]); };
    auto sends = [&]() -> Task<> {
      co_await ends.first.sendall(data, codes[1]);
    };
    auto connects = [&]() -> Task<> {
      co_await connect(hole.address(), codes[2]);
    };
    auto accepts = [&]() -> Task<> { co_await listener.accept(codes[3]); };
    const Job<> jobs[] = {spawn(receives), spawn(sends), spawn(connects),
                          spawn(accepts)};
    co_await settle();
    for (const Job<>& job : jobs) {
      CHECK(is_waiting(job));
      CHECK(job.kill());
    }
    for (const std::error_code& code : codes) CHECK(code == before);
  });
}

// --------------------------------------------------------- across loops' lives

TEST_CASE("connection: it works in one run after the other", "[connection]") {
  const MaybeShortIo io;
  Ends ends = violet::run(tcp_ends());
  for (int i = 0; i < 3; ++i) {
    auto scenario = [&]() -> Task<std::string> {
      auto job = spawn(receive, std::cref(ends.second), std::size_t{5});
      co_await yield_now();
      co_await ends.first.sendall("hello");
      std::string text = co_await join(job);
      co_return text;
    };
    CHECK(violet::run(scenario()) == "hello");
  }
}

TEST_CASE("connection: each loop registers it once and forgets it never",
          "[connection]") {
  std::optional<Ends> ends;
  for (int i = 0; i < 2; ++i) {
    NewsLoop world;
    auto scenario = [&]() -> Task<> {
      if (!ends) ends.emplace(co_await tcp_ends());
      world.poller.added.clear();
      auto server = spawn(receive, std::cref(ends->second), std::size_t{200});
      auto client = spawn(receive, std::cref(ends->first), std::size_t{200});
      for (int k = 0; k < 100; ++k) {
        co_await ends->first.sendall("ab");
        co_await ends->second.sendall("cd");
        co_await yield_now();
      }
      co_await join(server);
      co_await join(client);
    };
    world.loop.run(scenario());
    // The first loop has registered the connecting end for its connect.
    CHECK(world.poller.added.size() == (i == 0 ? 1u : 2u));
    CHECK(world.poller.changes == 0);
    if (i == 1) ends.reset();
    CHECK(world.poller.removes == 0);
  }
}

TEST_CASE("connection: one registration serves a whole life", "[connection]") {
  NewsLoop world;
  auto scenario = [&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    for (int i = 0; i < 10; ++i) {
      Connection near = co_await connect(listener.address());
      Connection far = co_await listener.accept();
      auto server = spawn(echo, std::move(far));
      for (int k = 0; k < 10; ++k) {
        const std::string answer = co_await ask(near, "hello");
        CHECK(answer == "hello");
      }
      near.close();
      co_await join(server);
    }
  };
  world.loop.run(scenario());
  // Each end once. The listener may have been tried with success each time.
  CHECK(std::count(world.poller.added.begin(), world.poller.added.end(),
                   kReadable | kWritable) == 20);
  CHECK(world.poller.added.size() <= 21);
  CHECK(world.poller.changes == 0);
  CHECK(world.poller.removes == 0);
}

TEST_CASE("connection: it may outlive its loop", "[connection]") {
  const MaybeShortIo io;
  const Footprint before;
  {
    std::optional<Ends> ends;
    std::string text;
    {
      World world;
      auto scenario = [&]() -> Task<> {
        ends.emplace(co_await tcp_ends());
        auto reader =
            spawn(receive_into, std::cref(ends->first), std::ref(text));
        co_await settle();
        reader.kill();
      };
      world.run(scenario());
    }
    CHECK(ends->first);
    CHECK(ends->first.peer() == ends->second.local());
    ends->first.close();
    CHECK_FALSE(ends->first);
  }
  CHECK(Footprint() == before);
}

TEST_CASE("connection: one that waits dies with its loop", "[connection]") {
  const MaybeShortIo io;
  const Footprint before;
  {
    Loop loop;
    auto scenario = [](Ends ends) -> Task<> {
      const Chunk never = co_await ends.first.recv();
    };
    loop.spawn(scenario, connected_pair());
    loop.run_once();
    CHECK(contains(loop.dump(), "recv fd "));
    CHECK(Slots::here().in_use() == before.slots + 2);
  }
  CHECK(Footprint() == before);
}

TEST_CASE("connection: one in a static variable ends with the program",
          "[connection]") {
  const auto end = in_child([] {
    static Connection kept;
    auto scenario = []() -> Task<> {
      Ends ends = co_await tcp_ends();
      kept = std::move(ends.first);
      co_await kept.sendall("x");
      auto reads = []() -> Task<> { const Chunk c = co_await kept.recv(); };
      auto reader = spawn(reads);
      co_await yield_now();
      co_await kill(reader);
    };
    violet::run(scenario());
    std::exit(7);
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 7);
}

TEST_CASE("connection: one in a thread's own variable ends with the thread",
          "[connection][threads]") {
  const MaybeShortIo io;
  const int before = open_descriptors();
  support::Thread([] {
    // Its slot outlives it only if the thread's slots are older.
    Slots::here();
    thread_local Connection kept;
    auto scenario = []() -> Task<> {
      Ends ends = connected_pair();
      kept = std::move(ends.first);
      co_await kept.sendall("x");
      const Chunk chunk = co_await ends.second.recv();
    };
    violet::run(scenario());
  }).join();
  CHECK(open_descriptors() == before);
}

// --------------------------------------------------------------- what it costs

TEST_CASE("connection: an echo is one recv and one send for each message",
          "[connection]") {
  CountedCalls calls;
  const support::ScopedCalls installed(calls);
  in_world([&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    spawn(echo, std::move(ends.second));
    char buffer[64];
    co_await ends.first.sendall("warm up");
    co_await ends.first.recv(std::span<char>(buffer));
    calls.recvs = calls.sends = calls.failures = 0;
    for (int i = 0; i < 1000; ++i) {
      co_await ends.first.sendall("hello");
      const std::size_t got = co_await ends.first.recv(std::span<char>(buffer));
      if (got != 5) FAIL("an echo came in pieces");
    }
    // Both ends live in this process.
    CHECK(calls.recvs == 2000);
    CHECK(calls.sends == 2000);
    CHECK(calls.failures == 0);
  });
}

#ifdef VIOLET_COUNTS_MALLOC
TEST_CASE("connection: an echo takes no memory", "[connection]") {
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    spawn(echo, std::move(ends.second));
    char buffer[64];
    co_await ends.first.sendall("warm up");
    co_await ends.first.recv(std::span<char>(buffer));
    const long before = mallocs;
    for (int i = 0; i < 1000; ++i) {
      co_await ends.first.sendall("hello");
      co_await ends.first.recv(std::span<char>(buffer));
    }
    const long taken = mallocs - before;
    CHECK(taken == 0);
    // The counter does count.
    void* volatile one = ::operator new(1);
    ::operator delete(one);
    CHECK(mallocs > before);
  });
}
#endif

TEST_CASE("connection: a unix echo is woken by reading only", "[connection]") {
  NewsLoop world;
  auto scenario = [&]() -> Task<> {
    Ends ends = connected_pair();
    spawn(echo, std::move(ends.second));
    std::string answer = co_await ask(ends.first, "warm up");
    const std::size_t before = world.poller.news;
    for (int i = 0; i < 100; ++i) {
      answer = co_await ask(ends.first, "hello");
      CHECK(answer == "hello");
    }
    CHECK(world.poller.news - before == 200);
    for (const std::uint8_t bits : world.poller.added) CHECK(bits == kReadable);
    CHECK(world.poller.changes == 0);
  };
  world.loop.run(scenario());
}

TEST_CASE("connection: a unix sender asks for room once in its life",
          "[connection]") {
  NewsLoop world;
  const std::string data = random_bytes(300'000);
  auto scenario = [&]() -> Task<> {
    Ends ends = connected_pair();
    make_narrow(ends.first);
    auto reader = spawn(receive, std::cref(ends.first), std::size_t{1});
    co_await yield_now();
    auto sender = spawn(send_text, std::cref(ends.first), std::cref(data));
    const std::string text = co_await receive(ends.second, data.size());
    CHECK((text == data));
    co_await join(sender);
    co_await ends.second.sendall("x");
    co_await join(reader);
    CHECK(world.poller.changes == 1);
  };
  world.loop.run(scenario());
}

TEST_CASE("connection: a UDP socket is woken by reading only", "[connection]") {
  NewsLoop world;
  auto scenario = [&]() -> Task<> {
    Descriptor ends[2];
    Fd sockets[2];
    for (Fd& fd : sockets) {
      fd = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const Address any = Address::parse("127.0.0.1");
      REQUIRE(::bind(fd.get(), any.get(), any.size()) == 0);
    }
    for (int i = 0; i < 2; ++i) {
      const Address other = local_address(sockets[1 - i].get());
      REQUIRE(::connect(sockets[i].get(), other.get(), other.size()) == 0);
    }
    for (int i = 0; i < 2; ++i) ends[i] = adopt(std::move(sockets[i]));
    char buffer[64];
    auto answers = [&]() -> Task<> {
      char request[64];
      for (;;) {
        const std::size_t size = co_await read(ends[1], request);
        co_await write(ends[1], std::string_view(request, size));
      }
    };
    auto server = spawn(answers);
    co_await write(ends[0], "warm up");
    co_await read(ends[0], buffer);
    const std::size_t before = world.poller.news;
    for (int i = 0; i < 100; ++i) {
      co_await write(ends[0], "hello");
      const std::size_t size = co_await read(ends[0], buffer);
      CHECK(size == 5);
    }
    CHECK(world.poller.news - before == 200);
    for (const std::uint8_t bits : world.poller.added) CHECK(bits == kReadable);
    CHECK(world.poller.changes == 0);
    server.kill();
  };
  world.loop.run(scenario());
}

TEST_CASE("connection: one that waits holds no buffer", "[connection]") {
  // Blocks of 64 KiB that the seam was asked for.
  class CountedBuffers final : public sys::Calls {
   public:
    void* allocate(std::size_t size) noexcept override {
      if (size == internal::BufferPool::kBytes) ++buffers;
      return Calls::allocate(size);
    }
    int buffers = 0;
  };
  support::in_a_thread([] {
    CountedBuffers calls;
    const support::ScopedCalls installed(calls);
    World world;
    auto scenario = [&]() -> Task<> {
      std::deque<Ends> all;
      for (int i = 0; i < 20; ++i) {
        all.push_back(connected_pair());
        spawn(echo, std::move(all.back().second));
      }
      co_await settle();
      calls.buffers = 0;
      for (int i = 0; i < 20; ++i) {
        const std::string answer =
            co_await ask(all[static_cast<std::size_t>(i)].first, "hello");
        if (answer != "hello") throw Misuse(answer);
      }
    };
    world.run(scenario());
    // The frame pool may have asked for a chunk of the same size.
    if (calls.buffers > 2) throw Misuse("each connection holds a buffer");
  });
}

TEST_CASE("connection: no memory for a lent buffer is bad_alloc",
          "[connection]") {
  class NoBuffers final : public sys::Calls {
   public:
    void* allocate(std::size_t size) noexcept override {
      if (refuse && size == internal::BufferPool::kBytes) return nullptr;
      return Calls::allocate(size);
    }
    bool refuse = false;
  };
  in_world([]() -> Task<> {
    NoBuffers calls;
    const support::ScopedCalls installed(calls);
    Ends ends = connected_pair();
    co_await ends.first.sendall("x");
    std::deque<Chunk> all;  // so that the pool has none left
    for (int i = 0; i < 20; ++i) {
      all.push_back(co_await ends.second.recv());
      co_await ends.first.sendall("x");
    }
    calls.refuse = true;
    bool refused = false;
    try {
      all.push_back(co_await ends.second.recv());
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    CHECK(refused);
    calls.refuse = false;
    // The byte is still there.
    const Chunk chunk = co_await ends.second.recv();
    CHECK(chunk.view() == "x");
  });
}

// ----------------------------------------------------------- killed everywhere

namespace {

/// One run of an echo handler against a scripted peer, in which the handler
/// is killed after `rounds` steps of everybody.
struct KilledEcho {
  void run(int kill_after) {
    // Byte by byte there are many more waits.
    const std::size_t piece = MaybeShortIo::wanted() ? 100 : 4000;
    const std::string data = random_bytes(6 * piece, 3);
    World world(0);
    auto scenario = [&]() -> Task<> {
      Ends ends = connected_pair();
      make_narrow(ends.first);
      make_narrow(ends.second);
      // What the handler leaves unread can be read from here.
      const Fd leftovers(::dup(ends.second.fd()));
      auto handler = spawn(echo, std::move(ends.second));
      auto sends = [&]() -> Task<> {
        std::string_view to_send = data;
        while (!to_send.empty()) {
          const std::size_t count =
              co_await ends.first.send(to_send.substr(0, piece));
          sent.append(to_send.substr(0, count));
          to_send.remove_prefix(count);
        }
        ends.first.shutdown(Half::kSending);
      };
      auto receives = [&]() -> Task<> {
        for (;;) {
          const Chunk chunk = co_await ends.first.recv();
          if (!chunk) co_return;
          back.append(chunk.view());
          co_await yield_now();
        }
      };
      auto sender = spawn(sends);
      auto receiver = spawn(receives);
      for (int i = 0; i < kill_after && !handler.ended(); ++i) {
        ++rounds;
        co_await yield_now();
      }
      if (!handler.ended()) {
        Description wait;
        if (handler.block()->event != nullptr) {
          handler.block()->event->describe(wait);
        }
        receiving = contains(wait.text, "recv");
        CHECK(handler.kill());
        sender.kill();
        // Whatever the handler had sent is under way to us.
        ::shutdown(leftovers.get(), SHUT_WR);
        co_await join(receiver);
        for (;;) {
          const std::string more = support::get(leftovers.get());
          if (more.empty()) break;
          rest += more;
        }
      } else {
        finished = true;
        ::shutdown(leftovers.get(), SHUT_WR);
        co_await join(receiver);
      }
    };
    world.run(scenario());
    hung = world.time.hung;
  }

  std::string sent;  // by the peer
  std::string back;  // to the peer
  std::string rest;  // that the handler did not take
  int rounds = 0;
  bool receiving = false;  // what the handler did when it was killed
  bool finished = false;
  bool hung = false;
};

}  // namespace

TEST_CASE("connection: an echo handler can be killed anywhere",
          "[connection]") {
  const MaybeShortIo io;
  KilledEcho whole;
  whole.run(1'000'000);
  REQUIRE(whole.finished);
  REQUIRE(whole.back == whole.sent);
  REQUIRE(whole.rounds > 10);
  const int step = std::max(1, whole.rounds / 1000);
  int receiving = 0;
  int sending = 0;
  for (int i = 0; i < whole.rounds; i += step) {
    const Footprint before;
    {
      KilledEcho killed;
      killed.run(i);
      INFO("killed after " << i << " rounds of " << whole.rounds);
      CHECK_FALSE(killed.hung);
      // In order, and nothing twice.
      CHECK((killed.sent.substr(0, killed.back.size()) == killed.back));
      const std::size_t known = killed.back.size() + killed.rest.size();
      CHECK(known <= killed.sent.size());
      if (known <= killed.sent.size()) {
        CHECK((killed.sent.substr(killed.sent.size() - killed.rest.size()) ==
               killed.rest));
      }
      // A handler that was about to receive had nothing in its hands.
      if (killed.receiving) CHECK(known == killed.sent.size());
      ++(killed.receiving ? receiving : sending);
    }
    CHECK(Footprint() == before);
  }
  CHECK(receiving > 0);
  CHECK(sending > 0);
}

#ifdef VIOLET_COUNTS_MALLOC
TEST_CASE("connection: a limit around an event takes no memory",
          "[connection]") {
  in_world([]() -> Task<> {
    Ends ends = co_await tcp_ends();
    spawn(echo, std::move(ends.second));
    char buffer[64];
    const auto exchange = [&](int times) -> Task<> {
      for (int i = 0; i < times; ++i) {
        const std::span<char> to(buffer);
        const auto sent = co_await within(1s, ends.first.sendall("hello"));
        const auto got = co_await within(1s, ends.first.recv(to));
        if (!sent || !got) FAIL("a limit has passed");
        const auto more =
            co_await within(1ms, any(ends.first.recv(to), stopping()));
        if (more) FAIL("something came");
      }
    };
    co_await exchange(1);  // warm up
    const std::size_t frames = frame_pool.live();
    const long before = mallocs;
    co_await exchange(100);
    CHECK(mallocs - before == 0);
    CHECK(frame_pool.live() == frames);
  });
}
#endif

TEST_CASE("connection: once closed an adopted one wakes none of its loops",
          "[connection]") {
  auto [near, far] = socket_pair(SOCK_STREAM);
  const Fd duplicate(::dup(near.get()));
  const auto use = [](const Connection& conn) -> Task<> {
    co_await within(1ms, conn.recv());
  };
  const auto run_in = [&](Loop& loop, const Connection& conn) {
    loop.spawn(use, std::ref(conn));
    while (loop.run_once(1ms)) continue;
  };
  Loop first;
  Connection conn(std::move(near));
  run_in(first, conn);
  {
    Loop second;
    run_in(second, conn);
  }
  conn.close();
  REQUIRE(::write(far.get(), "x", 1) == 1);
  pollfd news{first.fd(), POLLIN, 0};
  CHECK(::poll(&news, 1, 0) == 0);
}
