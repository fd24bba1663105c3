// slots_test.cpp - what a thread knows about its descriptors.
// SPDX-License-Identifier: MIT
#include "../runtime/slots.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <new>
#include <thread>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

// This file counts what the whole program asks operator new for. The
// sanitizers have their own, which find more than a count does.
namespace {
thread_local long allocations = 0;
}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define VIOLET_COUNTS_NEW
#elif !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define VIOLET_COUNTS_NEW
#endif
#endif

#ifdef VIOLET_COUNTS_NEW
// Not inlined: g++ would take malloc and delete for a mismatched pair.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
#endif

namespace {

/// Counts what goes through the seam.
class CountedCalls : public sys::Calls {
 public:
  ssize_t read(int fd, void* data, std::size_t size) noexcept override {
    ++reads;
    return Calls::read(fd, data, size);
  }
  void* allocate(std::size_t size) noexcept override {
    ++blocks;
    return Calls::allocate(size);
  }
  int reads = 0;
  int blocks = 0;
};

/// A slot of its own, as net makes them: TCP is a stream.
Descriptor open_stream(Fd fd) {
  return Descriptor(
      Slots::here().open(std::move(fd), kStream, kReadable | kWritable));
}

Task<std::string> read_some(const Descriptor& from) {
  char buffer[64];
  const std::size_t count = co_await read(from, buffer);
  co_return std::string(buffer, count);
}

Task<std::string> read_until_end(const Descriptor& from) {
  std::string text;
  char buffer[64];
  for (;;) {
    const std::size_t count = co_await read(from, buffer);
    if (count == 0) co_return text;
    text.append(buffer, count);
  }
}

/// Reads `count` bytes, however many reads that takes.
Task<std::string> read_exactly(const Descriptor& from, std::size_t count) {
  std::string text(count, '\0');
  std::size_t got = 0;
  while (got < count) {
    const std::span<char> rest(text.data() + got, count - got);
    const std::size_t some = co_await read(from, rest);
    if (some == 0) break;
    got += some;
  }
  text.resize(got);
  co_return text;
}

}  // namespace

// ------------------------------------------------------ one registration each

TEST_CASE("slots: a pipe is registered once, however often it waits",
          "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    Descriptor reader = adopt(std::move(pipe[0]));
    Descriptor writer = adopt(std::move(pipe[1]));
    for (int i = 0; i < 100; ++i) {
      const Job<std::string> job =
          spawn([&] { return read_exactly(reader, 4); });
      co_await yield_now();
      co_await write(writer, "ping");
      const std::string& text = co_await join(job);
      CHECK(text == "ping");
    }
    CHECK(counted.poller.adds == 1);
    CHECK(counted.poller.changes == 0);
    CHECK(counted.poller.removes == 0);
    reader.close();
    CHECK(counted.poller.removes == 1);
  };
  counted.loop.run(body());
  CHECK(counted.poller.adds == 1);
  CHECK(counted.poller.changes == 0);
}

TEST_CASE("slots: a stream is watched for both directions from the start",
          "[slots]") {
  CountedLoop counted;
  Pair pair = make_tcp_pair();
  const auto body = [&]() -> Task<> {
    const Descriptor stream = open_stream(std::move(pair[0]));
    const Job<std::string> job = spawn([&] { return read_some(stream); });
    co_await yield_now();
    CHECK(counted.poller.added_bits == (kReadable | kWritable));
    fill(stream.fd());
    const Job<> writer = spawn([&]() -> Task<> { co_await writable(stream); });
    co_await yield_now();
    put(pair[1].get(), "x");
    co_await join(job);
    CHECK(counted.poller.adds == 1);
    CHECK(counted.poller.changes == 0);
    writer.kill();
  };
  counted.loop.run(body());
  CHECK(counted.poller.removes == 0);  // closing is enough for our own
}

TEST_CASE("slots: a unix socket is watched for writing once a write waits",
          "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  Pair pair = make_socketpair();
  const auto body = [&]() -> Task<> {
    const Descriptor near = adopt(std::move(pair[0]));
    const Job<std::string> reader = spawn([&] { return read_some(near); });
    co_await yield_now();
    CHECK(counted.poller.added_bits == kReadable);
    co_await write(near, "goes at once");
    CHECK(counted.poller.changes == 0);

    fill(near.fd());
    const Job<> writer =
        spawn([&]() -> Task<> { co_await write(near, "waits"); });
    co_await yield_now();
    CHECK(counted.poller.changes == 1);
    while (!writer.ended()) {
      get(pair[1].get());
      co_await sleep(1ms);
    }
    put(pair[1].get(), "x");
    co_await join(reader);
    CHECK(counted.poller.adds == 1);
    CHECK(counted.poller.changes == 1);
  };
  counted.loop.run(body());
}

TEST_CASE("slots: an operation that need not wait registers nothing",
          "[slots]") {
  CountedLoop counted;
  Pair pipe = make_pipe();
  put(pipe[1].get(), "here");
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const std::string text = co_await read_some(reader);
    CHECK(text == "here");
  };
  counted.loop.run(body());
  CHECK(counted.poller.adds == 0);
  CHECK(counted.poller.removes == 0);
}

TEST_CASE("slots: a read, a write, a sleep and a limit allocate nothing",
          "[slots]") {
  CountedLoop counted;
  CountedCalls calls;
  Pair pipe = make_pipe();
  long new_before = 0;
  int blocks_before = 0;
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const Descriptor writer = adopt(std::move(pipe[1]));
    const auto echo = [&]() -> Task<> {
      char byte[1];
      std::size_t count = 1;
      while (count != 0) count = co_await read(reader, byte);
    };
    const Job<> job = spawn(echo);
    for (int i = 0; i < 200; ++i) {
      if (i == 100) {  // whatever grows has grown by now
        new_before = allocations;
        blocks_before = calls.blocks;
      }
      const std::size_t count = co_await write(writer, "x");
      static_cast<void>(count);
      co_await sleep(1ms);
      const bool in_time = co_await within(1ms, stopping());
      static_cast<void>(in_time);
      co_await yield_now();
    }
    CHECK(allocations == new_before);
    CHECK(calls.blocks == blocks_before);
    job.kill();
  };
  {
    const ScopedCalls guard(calls);
    counted.loop.run(body());
  }
  CHECK(calls.reads > 100);
}

// --------------------------------------------------------------- what is read

TEST_CASE("slots: after a short read of a stream no other read is tried",
          "[slots]") {
  CountedLoop counted;
  CountedCalls calls;
  const ScopedCalls guard(calls);
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const Job<std::string> job = spawn([&] { return read_until_end(reader); });
    co_await yield_now();
    CHECK(calls.reads == 1);  // EAGAIN
    for (int i = 0; i < 10; ++i) {
      put(pipe[1].get(), "some");
      co_await sleep(1s);  // a pipe delivers at once
    }
    CHECK(calls.reads == 11);
    pipe[1].reset();
    co_await join(job);
  };
  counted.loop.run(body());
}

TEST_CASE("slots: data and the end of the stream in one edge do not hang",
          "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  const auto body = [&](Descriptor reader, Fd far) -> Task<> {
    const Job<std::string> job = spawn([&] { return read_until_end(reader); });
    co_await yield_now();
    put(far.get(), "last words");
    far.reset();
    REQUIRE(arrives(reader.fd(), POLLRDHUP));
    const bool ended = co_await within(10s, wait(job));
    CHECK(ended);
    const std::string& text = co_await join(job);
    CHECK(text == "last words");
  };
  SECTION("a pipe") {
    Pair pipe = make_pipe();
    Descriptor reader = adopt(std::move(pipe[0]));
    counted.loop.run(body(std::move(reader), std::move(pipe[1])));
  }
  SECTION("a TCP connection") {
    Pair pair = make_tcp_pair();
    counted.loop.run(body(open_stream(std::move(pair[0])), std::move(pair[1])));
  }
  SECTION("a unix socket") {
    Pair pair = make_socketpair();
    Descriptor reader = adopt(std::move(pair[0]));
    counted.loop.run(body(std::move(reader), std::move(pair[1])));
  }
}

TEST_CASE("slots: bytes around an urgent one do not hang", "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  Pair pair = make_tcp_pair();
  const auto body = [&]() -> Task<> {
    const Descriptor near = open_stream(std::move(pair[0]));
    const Job<std::string> job = spawn([&] { return read_until_end(near); });
    co_await yield_now();
    put(pair[1].get(), "before");
    CHECK(::send(pair[1].get(), "!", 1, MSG_OOB) == 1);
    put(pair[1].get(), "after");
    pair[1].reset();
    REQUIRE(arrives(near.fd(), POLLRDHUP));
    const bool ended = co_await within(10s, wait(job));
    CHECK(ended);
    CHECK((near.slot()->ready & kEnded) != 0);
    const std::string& text = co_await join(job);
    CHECK(text == "beforeafter");
  };
  counted.loop.run(body());
}

TEST_CASE(
    "slots: only a stream's short read means drained, and only before "
    "the end was seen",
    "[slots]") {
  Slot slot;
  const auto may_read = [&] { return (slot.ready & kReadable) != 0; };
  slot.ready = kReadable | kWritable;
  slot.received(3, 10);
  CHECK(may_read());  // no stream
  slot.traits = kStream;
  slot.received(10, 10);
  CHECK(may_read());  // not short
  slot.received(3, 10);
  CHECK_FALSE(may_read());
  CHECK((slot.ready & kWritable) != 0);

  slot.ready = kReadable | kEnded;
  slot.received(3, 10);
  CHECK(may_read());
  CHECK((slot.ready & kEnded) != 0);
}

TEST_CASE("slots: bytes that go out are counted", "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor writer = adopt(std::move(pipe[1]));
    co_await write(writer, "12345");
    co_await write(writer, "678");
    CHECK(writer.slot()->sent_bytes == 8);
  };
  in_virtual_time(body);
}

TEST_CASE("slots: the end of a stream, once seen, is never forgotten",
          "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  Pair pair = make_tcp_pair();
  const auto body = [&]() -> Task<> {
    const Descriptor near = open_stream(std::move(pair[0]));
    const Job<std::string> first = spawn([&] { return read_some(near); });
    co_await yield_now();
    Slot& slot = *near.slot();
    counted.poller.news = {{{slot.index, slot.generation}, kReadable | kEnded}};
    co_await sleep(1ms);
    // It was tried, met EAGAIN, and waits again.
    CHECK_FALSE(first.ended());
    CHECK((slot.ready & kReadable) == 0);
    CHECK((slot.ready & kEnded) != 0);
    put(pair[1].get(), "x");
    co_await join(first);
    CHECK((slot.ready & (kReadable | kEnded)) == (kReadable | kEnded));
  };
  counted.loop.run(body());
}

TEST_CASE("slots: a spurious edge costs an attempt and nothing else",
          "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  Pair pair = make_socketpair();
  const auto body = [&]() -> Task<> {
    const Descriptor near = adopt(std::move(pair[0]));
    const Job<std::string> job = spawn([&] { return read_some(near); });
    co_await yield_now();
    Slot& slot = *near.slot();
    for (int i = 0; i < 3; ++i) {
      counted.poller.news = {{{slot.index, slot.generation}, kReadable}};
      co_await sleep(1ms);
      CHECK_FALSE(job.ended());
    }
    put(pair[1].get(), "x");
    const std::string& text = co_await join(job);
    CHECK(text == "x");
  };
  counted.loop.run(body());
}

// ----------------------------------------------------- closing and using again

TEST_CASE("slots: a stale event of an earlier life is dropped", "[slots]") {
  CountedLoop counted;
  CountedCalls calls;
  const ScopedCalls guard(calls);
  Pair first = make_pipe();
  Pair second = make_pipe();
  const auto body = [&]() -> Task<> {
    Descriptor reader = adopt(std::move(first[0]));
    const Job<std::string> early = spawn([&] { return read_some(reader); });
    co_await yield_now();
    const Token stale = counted.poller.last_token;
    early.kill();
    reader = Descriptor();

    reader = adopt(std::move(second[0]));
    CHECK(reader.slot()->index == stale.index);
    CHECK(reader.slot()->generation != stale.generation);
    const Job<std::string> late = spawn([&] { return read_some(reader); });
    co_await yield_now();
    const int reads = calls.reads;
    counted.poller.news = {{stale, kReadable | kWritable | kEnded}};
    co_await sleep(1s);
    CHECK(calls.reads == reads);
    CHECK((reader.slot()->ready & (kReadable | kEnded)) == 0);

    put(second[1].get(), "fresh");
    const std::string& text = co_await join(late);
    CHECK(text == "fresh");
  };
  counted.loop.run(body());
}

TEST_CASE("slots: close wakes the waiters with bad_file_descriptor",
          "[slots]") {
  MaybeShortIo io;
  Pair pair = make_socketpair();
  const auto body = [&]() -> Task<> {
    Descriptor near = adopt(std::move(pair[0]));
    fill(near.fd());
    const Job<std::string> reader = spawn([&] { return read_some(near); });
    const Job<> writer =
        spawn([&]() -> Task<> { co_await write(near, "more"); });
    co_await yield_now();
    CHECK(Slots::here().waiting() == 2);
    const int number = near.fd();
    near.close();
    near.close();
    CHECK_FALSE(is_open(number));
    CHECK_FALSE(near);
    CHECK(near.fd() == -1);
    CHECK_FALSE(reader.ended());  // woken, not resumed
    co_await wait(reader);
    co_await wait(writer);
    CHECK(Slots::here().waiting() == 0);
    try {
      co_await join(reader);
      FAIL("the reader went on");
    } catch (const std::system_error& e) {
      CHECK(e.code() == std::errc::bad_file_descriptor);
      CHECK(contains(e.what(), "read fd " + std::to_string(number)));
    }
    try {
      co_await join(writer);
      FAIL("the writer went on");
    } catch (const std::system_error& e) {
      CHECK(e.code() == std::errc::bad_file_descriptor);
    }
  };
  in_virtual_time(body);
}

TEST_CASE("slots: a slot is used again only after its last waiter is gone",
          "[slots]") {
  MaybeShortIo io;
  Pair first = make_socketpair();
  Pair second = make_socketpair();
  Pair third = make_socketpair();
  const std::size_t before = Slots::here().in_use();
  const auto body = [&]() -> Task<> {
    std::optional<Descriptor> near(adopt(std::move(first[0])));
    fill(near->fd());
    const std::uint32_t index = near->slot()->index;
    const Job<std::string> reader = spawn([&] { return read_some(*near); });
    const Job<> writer =
        spawn([&]() -> Task<> { co_await write(*near, "more"); });
    co_await yield_now();
    near.reset();  // closed and abandoned, while two wait
    CHECK(Slots::here().in_use() == before + 1);
    const Descriptor other = adopt(std::move(second[0]));
    CHECK(other.slot()->index != index);
    co_await wait(reader);
    co_await wait(writer);
    CHECK(reader.error() != nullptr);
    CHECK(writer.error() != nullptr);
    CHECK(Slots::here().in_use() == before + 1);
    const Descriptor again = adopt(std::move(third[0]));
    CHECK(again.slot()->index == index);
  };
  in_virtual_time(body);
  CHECK(Slots::here().in_use() == before);
}

TEST_CASE("slots: a wait that has not been attempted keeps its slot, too",
          "[slots][threads]") {
  in_a_thread([&] {
    // Without budget the wait begins behind all others. Meanwhile the slot
    // must not become that of another descriptor.
    MaybeShortIo io;
    CountedLoop counted(0);
    Pair first = make_socketpair();
    Pair second = make_socketpair();
    put(second[1].get(), "secret");
    const auto body = [&]() -> Task<> {
      std::optional<Descriptor> near(adopt(std::move(first[0])));
      const Job<std::string> reader = spawn([&] { return read_some(*near); });
      co_await yield_now();
      near.reset();
      const Descriptor other = adopt(std::move(second[0]));
      co_await wait(reader);
      CHECK(reader.error() != nullptr);
      CHECK(get(other.fd()) == "secret");
    };
    counted.loop.run(body());
  });
}

TEST_CASE("slots: a slot is given back once, though a wait had not begun",
          "[slots][threads]") {
  const bool killed = GENERATE(false, true);
  in_a_thread([&] {
    // As above, with nothing in between: the late attempt and the late undo
    // must not give the slot back a second time.
    MaybeShortIo io;
    CountedLoop counted(0);
    const std::size_t before = Slots::here().in_use();
    Pair pair = make_socketpair();
    const auto body = [&]() -> Task<> {
      std::optional<Descriptor> near(adopt(std::move(pair[0])));
      const Job<std::string> reader = spawn([&] { return read_some(*near); });
      co_await yield_now();
      near.reset();
      if (killed) {
        reader.kill();
      } else {
        co_await wait(reader);
        CHECK(reader.error() != nullptr);
      }
    };
    counted.loop.run(body());
    CHECK(Slots::here().in_use() == before);
    const Descriptor first(Slots::here().open(Fd(), 0, 0));
    const Descriptor second(Slots::here().open(Fd(), 0, 0));
    CHECK(first.slot() != second.slot());
  });
}

TEST_CASE("slots: a write that goes behind others stays the only writer",
          "[slots][threads]") {
  in_a_thread([&] {
    // One byte for each write(2): the budget ends in the middle of the data.
    ShortCalls calls;
    const ScopedCalls guard(calls);
    Pair pair = make_socketpair();
    const std::string much(100, 'm');
    const auto body = [&]() -> Task<> {
      const Descriptor near = adopt(std::move(pair[0]));
      const Job<> first =
          spawn([&]() -> Task<> { co_await write(near, much); });
      co_await yield_now();
      CHECK_FALSE(first.ended());
      const Job<> second =
          spawn([&]() -> Task<> { co_await write(near, "intruder"); });
      co_await join(first);
      co_await wait(second);
      CHECK(second.error() != nullptr);
      CHECK(get(pair[1].get()) == much);
    };
    in_virtual_time(body);
  });
}

TEST_CASE("slots: a borrowed slot lasts while a write goes behind others",
          "[slots][threads]") {
  in_a_thread([&] {
    ShortCalls calls;
    const ScopedCalls guard(calls);
    const std::size_t before = Slots::here().in_use();
    Pair pair = make_socketpair();
    const int fd = pair[0].get();
    // More than the budget; but a unix socket is writable only while three
    // quarters of its buffer are free, and one byte takes 768 of them.
    const std::string much(50, 'm');
    const auto body = [&]() -> Task<> {
      const Job<> writer = spawn([&]() -> Task<> { co_await write(fd, much); });
      co_await yield_now();
      CHECK_FALSE(writer.ended());
      put(pair[1].get(), "x");
      co_await readable(fd);  // done at once: its claim ends, not the slot
      CHECK_FALSE(writer.ended());
      CHECK(Slots::here().in_use() == before + 1);
      co_await join(writer);
      CHECK(get(pair[1].get()) == much);
    };
    in_virtual_time(body);
    CHECK(Slots::here().in_use() == before);
  });
}

TEST_CASE("slots: an event made after close() is not the next owner's",
          "[slots]") {
  Pair first = make_socketpair();
  Pair second = make_socketpair();
  CountedLoop counted(0);  // the reader goes behind before its first attempt
  const auto body = [&]() -> Task<> {
    std::optional<Descriptor> near(adopt(std::move(first[0])));
    near->close();
    const Job<std::string> reader = spawn([&] { return read_some(*near); });
    co_await yield_now();
    near.reset();
    const Descriptor next = adopt(std::move(second[0]));
    put(second[1].get(), "secret");
    co_await wait(reader);
    CHECK(reader.error() != nullptr);
  };
  counted.loop.run(body());
}

TEST_CASE("slots: a closed or empty descriptor fails at once", "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    Descriptor reader = adopt(std::move(pipe[0]));
    reader.close();
    const Descriptor empty;
    char buffer[8];
    std::error_code code;
    std::size_t count = co_await read(reader, buffer, code);
    CHECK(count == 0);
    CHECK(code == std::errc::bad_file_descriptor);
    code.clear();
    count = co_await read(empty, buffer, code);
    CHECK(count == 0);
    CHECK(code == std::errc::bad_file_descriptor);
    code.clear();
    count = co_await read(-1, buffer, code);
    CHECK(code == std::errc::bad_file_descriptor);
  };
  in_virtual_time(body);
}

TEST_CASE("slots: many slots never move", "[slots]") {
  const std::size_t before = Slots::here().in_use();
  std::vector<Descriptor> all;
  std::vector<Slot*> places;
  for (int i = 0; i < 300; ++i) {
    all.emplace_back(Slots::here().open(Fd(), kStream, 0));
    places.push_back(all.back().slot());
    REQUIRE(reinterpret_cast<std::uintptr_t>(places.back()) % 8 == 0);
  }
  CHECK(Slots::here().in_use() == before + 300);
  std::sort(places.begin(), places.end());
  CHECK(std::adjacent_find(places.begin(), places.end()) == places.end());
  all.clear();
  CHECK(Slots::here().in_use() == before);
  const Descriptor next(Slots::here().open(Fd(), kStream, 0));
  CHECK(std::binary_search(places.begin(), places.end(), next.slot()));
}

// --------------------------------------------------------- one of a kind each

TEST_CASE("slots: a second reader is told so, and the first is not disturbed",
          "[slots]") {
  MaybeShortIo io;
  Pair pair = make_socketpair();
  const auto body = [&]() -> Task<> {
    const Descriptor near = adopt(std::move(pair[0]));
    fill(near.fd());
    const Job<std::string> first = spawn([&] { return read_some(near); });
    const Job<> writer = spawn([&]() -> Task<> { co_await writable(near); });
    co_await yield_now();
    try {
      co_await read_some(near);
      FAIL("two readers");
    } catch (const Misuse& e) {
      CHECK(contains(e.what(), "another job"));
    }
    try {
      co_await readable(near);
      FAIL("two readers");
    } catch (const Misuse&) {
    }
    try {
      co_await write(near, "x");
      FAIL("two writers");
    } catch (const Misuse&) {
    }
    put(pair[1].get(), "x");
    const std::string& text = co_await join(first);
    CHECK(text == "x");
    CHECK_FALSE(writer.ended());
    writer.kill();
  };
  in_virtual_time(body);
}

TEST_CASE("slots: a killed reader has consumed nothing and leaves its place",
          "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const Job<std::string> first = spawn([&] { return read_some(reader); });
    co_await yield_now();
    CHECK(Slots::here().waiting() == 1);
    put(pipe[1].get(), "precious");
    CHECK(first.kill());
    CHECK(Slots::here().waiting() == 0);
    CHECK(reader.slot()->reader == nullptr);
    const std::string text = co_await read_exactly(reader, 8);
    CHECK(text == "precious");
  };
  in_virtual_time(body);
}

TEST_CASE("slots: a reader killed after its wake-up has consumed nothing",
          "[slots]") {
  MaybeShortIo io;
  CountedLoop counted;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    Job<std::string> victim;
    // The killer is woken by the same poll, and stands first in the queue.
    const Job<> killer = spawn([&]() -> Task<> {
      co_await sleep(1s);
      CHECK(victim.kill());
    });
    co_await yield_now();
    victim = spawn([&] { return read_some(reader); });
    co_await yield_now();
    Slot& slot = *reader.slot();
    counted.loop.timers().fire(counted.time.now() + 1s);
    Slots::here().announce({{slot.index, slot.generation}, kReadable});
    CHECK(victim.block()->step == Step::kReady);
    put(pipe[1].get(), "precious");
    co_await join(killer);
    CHECK(victim.killed());
    CHECK(Slots::here().waiting() == 0);
    const std::string text = co_await read_exactly(reader, 8);
    CHECK(text == "precious");
  };
  counted.loop.run(body());
}

TEST_CASE("slots: the error_code form clears or sets, and a kill does neither",
          "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const std::error_code before = std::make_error_code(std::errc::io_error);
    std::error_code code = before;
    char buffer[8];
    const Job<> job =
        spawn([&]() -> Task<> { co_await read(reader, buffer, code); });
    co_await yield_now();
    CHECK(job.kill());
    CHECK(code == before);
    put(pipe[1].get(), "x");
    const std::size_t count = co_await read(reader, buffer, code);
    CHECK(count == 1);
    CHECK_FALSE(code);
  };
  in_virtual_time(body);
}

// ------------------------------------------------- descriptors from elsewhere

TEST_CASE("slots: adopt makes it non-blocking, and closes it in the end",
          "[slots]") {
  Pair pipe = make_pipe(O_CLOEXEC);
  const int number = pipe[0].get();
  {
    const Descriptor owned = adopt(std::move(pipe[0]));
    CHECK(owned.fd() == number);
    CHECK((::fcntl(number, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(owned.slot()->stream());
  }
  CHECK_FALSE(is_open(number));
}

TEST_CASE("slots: adopt of what is no descriptor says so", "[slots]") {
  CHECK_THROWS_AS(adopt(Fd()), std::system_error);
  CHECK_THROWS_WITH(adopt(Fd()), "adopt -1: Bad file descriptor");
}

TEST_CASE("slots: a duplicate of an adopted descriptor raises no more events",
          "[slots]") {
  CountedLoop counted;
  Pair pipe = make_pipe();
  const Fd duplicate(::fcntl(pipe[0].get(), F_DUPFD_CLOEXEC, 0));
  const auto body = [&]() -> Task<> {
    Descriptor reader = adopt(std::move(pipe[0]));
    const Job<std::string> job = spawn([&] { return read_some(reader); });
    co_await yield_now();
    job.kill();
    reader.close();
    CHECK(counted.poller.removes == 1);
    put(pipe[1].get(), "x");
    CHECK(counted.time.wait(TimePoint::min(), false).empty());
    co_return;
  };
  counted.loop.run(body());
}

TEST_CASE("slots: a borrowed descriptor keeps its flags and stays open",
          "[slots]") {
  MaybeShortIo io;
  const int flags = GENERATE(0, O_NONBLOCK);
  const std::size_t slots = Slots::here().in_use();
  Pair pipe = make_pipe(O_CLOEXEC | flags);
  const int in = pipe[0].get();
  const int out = pipe[1].get();
  const int in_flags = ::fcntl(in, F_GETFL);
  const int out_flags = ::fcntl(out, F_GETFL);
  CountedLoop counted;
  const auto body = [&]() -> Task<> {
    const Job<std::string> job = spawn([&]() -> Task<std::string> {
      std::string text;
      char buffer[64];
      while (text.size() < 5) {
        const std::size_t count = co_await read(in, buffer);
        CHECK(::fcntl(in, F_GETFL) == in_flags);
        text.append(buffer, count);
      }
      co_return text;
    });
    co_await yield_now();
    CHECK(::fcntl(in, F_GETFL) == in_flags);
    co_await write(out, "hello");
    const std::string& text = co_await join(job);
    CHECK(text == "hello");
    // More than a pipe holds: the writer has to wait in between.
    const std::string much(300'000, 'm');
    const Job<> writer = spawn([&]() -> Task<> { co_await write(out, much); });
    std::size_t got = 0;
    std::vector<char> buffer(65536);
    while (got < much.size()) {
      const std::size_t count = co_await read(in, buffer);
      got += count;
    }
    CHECK(got == much.size());
    co_await join(writer);
  };
  counted.loop.run(body());
  CHECK(::fcntl(in, F_GETFL) == in_flags);
  CHECK(::fcntl(out, F_GETFL) == out_flags);
  CHECK(is_open(in));
  CHECK(is_open(out));
  CHECK(Slots::here().in_use() == slots);
  CHECK(counted.poller.removes == counted.poller.adds);
}

TEST_CASE("slots: one job reads and another writes the same borrowed socket",
          "[slots]") {
  MaybeShortIo io;
  const std::size_t slots = Slots::here().in_use();
  Pair pair = make_socketpair();
  const int fd = pair[0].get();
  const auto body = [&]() -> Task<> {
    fill(fd);
    const Job<> reader = spawn([&]() -> Task<> { co_await readable(fd); });
    const Job<> writer = spawn([&]() -> Task<> { co_await writable(fd); });
    co_await yield_now();
    CHECK(Slots::here().in_use() == slots + 1);
    put(pair[1].get(), "x");
    co_await join(reader);
    CHECK_FALSE(writer.ended());
    while (!writer.ended()) {
      get(pair[1].get());
      co_await sleep(1ms);
    }
  };
  in_virtual_time(body);
  CHECK(Slots::here().in_use() == slots);
  CHECK(is_open(fd));
}

TEST_CASE("slots: a killed borrower leaves nothing behind", "[slots]") {
  const std::size_t slots = Slots::here().in_use();
  CountedLoop counted;
  Pair pipe = make_pipe();
  const int in = pipe[0].get();
  const auto body = [&]() -> Task<> {
    const Job<> job = spawn([&]() -> Task<> { co_await readable(in); });
    co_await yield_now();
    CHECK(Slots::here().in_use() == slots + 1);
    CHECK(counted.poller.adds == 1);
    CHECK(job.kill());
    CHECK(Slots::here().in_use() == slots);
    CHECK(counted.poller.removes == 1);
  };
  counted.loop.run(body());
  CHECK(is_open(in));
}

TEST_CASE("slots: borrowing an owned descriptor by its number harms neither",
          "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    const Job<std::string> first = spawn([&] { return read_some(reader); });
    co_await yield_now();  // registered as an owned descriptor
    put(pipe[1].get(), "1");
    co_await join(first);
    const Job<> borrower =
        spawn([&]() -> Task<> { co_await readable(reader.fd()); });
    co_await yield_now();
    borrower.kill();
    const bool refused = borrower.error() != nullptr;  // or it would wait
    CHECK((refused || borrower.killed()));
    const Job<std::string> second = spawn([&] { return read_some(reader); });
    co_await yield_now();
    put(pipe[1].get(), "2");
    const bool ended = co_await within(10s, wait(second));
    CHECK(ended);
  };
  in_virtual_time(body);
}

TEST_CASE("slots: what the poller cannot watch is always ready", "[slots]") {
  MaybeShortIo io;
  const auto body = []() -> Task<> {
    const Descriptor file =
        adopt(Fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)));
    const Descriptor null = adopt(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)));
    char buffer[4];
    co_await readable(file);
    const std::size_t count = co_await read(file, buffer);
    CHECK(count > 0);
    CHECK(buffer[0] == '\177');
    co_await readable(null);
    const std::size_t end = co_await read(null, buffer);
    CHECK(end == 0);
    co_await writable(null);
    const std::size_t written = co_await write(null, "swallowed");
    CHECK(written == 9);
  };
  in_virtual_time(body);
}

TEST_CASE("slots: a poller that refuses is an error of the operation",
          "[slots]") {
  CountedLoop counted;
  Pair pipe = make_pipe();
  counted.poller.refuse = ENOSPC;
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pipe[0]));
    char buffer[8];
    std::error_code code;
    co_await read(reader, buffer, code);
    CHECK(code == std::errc::no_space_on_device);
    CHECK(Slots::here().waiting() == 0);
    counted.poller.refuse = EPERM;  // always ready, says the poller
    put(pipe[1].get(), "x");
    const std::size_t count = co_await read(reader, buffer, code);
    CHECK(count == 1);
  };
  counted.loop.run(body());
}

// ----------------------------------------------------------- threads and loops

TEST_CASE("slots: a descriptor of one run works in the next", "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const Descriptor reader = adopt(std::move(pipe[0]));
  for (int i = 0; i < 3; ++i) {
    CountedLoop counted;
    const auto body = [&]() -> Task<> {
      const Job<std::string> job = spawn([&] { return read_some(reader); });
      co_await yield_now();
      put(pipe[1].get(), "x");
      const std::string& text = co_await join(job);
      CHECK(text == "x");
    };
    counted.loop.run(body());
    CHECK(counted.poller.adds == 1);
  }
}

TEST_CASE("slots: two loops of one thread may take turns with a descriptor",
          "[slots]") {
  MaybeShortIo io;
  Pair pipe = make_pipe();
  const Descriptor reader = adopt(std::move(pipe[0]));
  CountedLoop first;
  CountedLoop second;
  for (int i = 0; i < 3; ++i) {
    for (CountedLoop* counted : {&first, &second}) {
      const auto body = [&]() -> Task<> {
        const Job<std::string> job = spawn([&] { return read_some(reader); });
        co_await yield_now();
        put(pipe[1].get(), "x");
        const std::string& text = co_await join(job);
        CHECK(text == "x");
      };
      counted->loop.run(body());
    }
  }
}

TEST_CASE("slots: the sixteenth loop of a thread is refused with a sentence",
          "[slots]") {
  std::vector<std::unique_ptr<CountedLoop>> loops;
  for (int i = 0; i < 15; ++i) {
    loops.push_back(std::make_unique<CountedLoop>());
  }
  CHECK_THROWS_AS(CountedLoop(), Misuse);
  loops.pop_back();
  CHECK_NOTHROW(CountedLoop());
}

TEST_CASE("slots: each thread has its own", "[slots][threads]") {
  Slots* here = &Slots::here();
  Slots* there = nullptr;
  Thread([&] {
    there = &Slots::here();
    Pair pipe = make_pipe();
    const Descriptor reader = adopt(std::move(pipe[0]));
  }).join();
  CHECK(there != here);
}

TEST_CASE("slots: no test of this file leaves a waiter", "[slots]") {
  CHECK(Slots::here().waiting() == 0);
}

TEST_CASE("slots: a wait that the system refuses late is told so", "[slots]") {
  CountedLoop counted;
  Pair pair = make_socketpair();
  const auto body = [&]() -> Task<> {
    const Descriptor reader = adopt(std::move(pair[0]));
    const auto job = spawn([&] { return read_until_end(reader); });
    co_await yield_now();
    co_await yield_now();
    REQUIRE(counted.poller.adds == 1);
    counted.poller.refuse = ENOMEM;
    counted.poller.news = {{counted.poller.last_token, kReadable | kRefused}};
    co_await wait(job);
    CHECK(counted.poller.adds == 2);
    CHECK_THROWS_AS(std::rethrow_exception(job.error()), std::bad_alloc);
  };
  counted.loop.run(body());
}

TEST_CASE("slots: two loops may watch one descriptor, whichever ends first",
          "[slots]") {
  const auto wait_for_news = [](Loop& loop, int fd, Direction direction) {
    auto job = loop.spawn(
        [](int number, bool reads) -> Task<> {
          if (reads) {
            co_await readable(number);
          } else {
            co_await writable(number);
          }
        },
        fd, direction == Direction::kRead);
    for (int i = 0; i < 3; ++i) loop.run_once();
    return job;
  };
  const auto ends = [](Loop& loop, const Job<>& job) {
    for (int i = 0; i < 50 && !job.ended(); ++i) loop.run_once(10ms);
    return job.ended() && !job.error();
  };
  Loop first;
  Pair pair = make_socketpair();
  const int fd = pair[0].get();
  support::fill(fd);
  {
    Loop second;
    const Job<> reads = wait_for_news(first, fd, Direction::kRead);
    const Job<> writes = wait_for_news(second, fd, Direction::kWrite);
    put(pair[1].get(), "x");
    while (!get(pair[1].get()).empty()) continue;
    CHECK(ends(first, reads));
    CHECK(ends(second, writes));
  }
  CHECK(get(fd) == "x");
  const Job<> again = wait_for_news(first, fd, Direction::kRead);
  CHECK_FALSE(again.ended());
  put(pair[1].get(), "y");
  CHECK(ends(first, again));
}

TEST_CASE("slots: a close is heard by the loop that watched it before another",
          "[slots]") {
  Loop first;
  Pair pair = make_socketpair();
  const int number = pair[0].get();
  Descriptor descriptor = adopt(std::move(pair[0]));
  const auto look = [&](Loop& loop) {
    loop.run([](const Descriptor& d) -> Task<> {
      char buffer[1];
      const auto got = co_await within(1ms, read(d, buffer));
      CHECK_FALSE(got);
    }(descriptor));
  };
  look(first);
  {
    Loop second;
    look(second);
  }
  descriptor.close();
  const Pair next = make_socketpair();
  const Fd again(::fcntl(next[0].get(), F_DUPFD_CLOEXEC, number));
  REQUIRE((next[0].get() == number || again.get() == number));
  put(next[1].get(), "x");
  first.run([](int fd) -> Task<> { co_await readable(fd); }(number));
}
