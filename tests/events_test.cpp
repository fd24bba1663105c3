// events_test.cpp - sleeping, and reading and writing plain descriptors.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/within.hpp"
#include "script.hpp"

namespace {

using namespace script;

/// An empty file that has no name.
Fd temporary_file() {
  char name[] = "/tmp/violet_events_test_XXXXXX";
  Fd file(::mkostemp(name, O_CLOEXEC));
  ::unlink(name);
  return file;
}

int flags_of(int fd) {
  return ::fcntl(fd, F_GETFL);
}

/// Reads until `size` bytes are there or the end comes.
template <class D>
Task<std::string> read_fully(const D& from, std::size_t size) {
  std::string all;
  char buffer[4096];
  while (all.size() < size) {
    const std::size_t count = co_await read(from, buffer);
    if (count == 0) break;
    all.append(buffer, count);
  }
  co_return all;
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    text[i] = static_cast<char>('a' + i * 7 % 26);
  }
  return text;
}

}  // namespace

// --------------------------------------------------------------------- sleep

TEST_CASE("sleep: equal deadlines wake in the order of their creation",
          "[events]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&](char name) -> Task<> {
      co_await violet::sleep(1s);
      log += name;
    };
    for (char name = 'a'; name <= 'j'; ++name) spawn(body, name);
    co_return;
  });
  CHECK(log == "abcdefghij");
}

TEST_CASE("sleep: earlier deadlines wake first", "[events]") {
  std::string log;
  play([&]() -> Task<> {
    const auto body = [&](int n) -> Task<> {
      co_await violet::sleep(1s * n);
      log += std::to_string(n);
    };
    for (const int n : {5, 1, 4, 2, 3}) spawn(body, n);
    co_return;
  });
  CHECK(log == "12345");
}

TEST_CASE("sleep: zero and negative durations only yield", "[events]") {
  std::string log;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&]() -> Task<> {
      for (int i = 0; i < 3; ++i) {
        log += "b";
        co_await yield_now();
      }
    };
    spawn(body);
    log += "a";
    co_await violet::sleep(0s);
    log += "a";
    co_await violet::sleep(-1h);
    log += "a";
    co_await violet::sleep(Duration::min());
  });
  CHECK(log == "ababab");
  CHECK(elapsed == 0s);
}

TEST_CASE("sleep: a hundred years do not overflow", "[events]") {
  const Duration century = 24h * 36525;
  const Duration elapsed = play([&]() -> Task<> {
    const auto longest = []() -> Task<> {
      co_await violet::sleep(Duration::max());
    };
    const Job<> job = spawn(longest);
    co_await violet::sleep(century);
    CHECK_FALSE(job.ended());
    CHECK(job.kill());
  });
  CHECK(elapsed == century);
}

TEST_CASE("sleep: it never ends early, also after a long computation",
          "[events]") {
  World world;
  const auto root = [&]() -> Task<> {
    world.time.advance(10s);  // within this step
    const TimePoint begin = world.loop.now();
    co_await violet::sleep(1s);
    CHECK(world.loop.now() - begin == 1s);
    const auto busy = [&]() -> Task<> {
      world.time.advance(3s);
      co_return;
    };
    spawn(busy);
    const TimePoint again = world.loop.now();
    co_await violet::sleep(1s);
    CHECK(world.loop.now() - again >= 1s);
    CHECK(world.loop.now() - again == 3s);
  };
  world.run(root());
}

TEST_CASE("sleep: the real clock does not end it early either", "[events]") {
  const auto root = []() -> Task<> {
    for (int i = 0; i < 20; ++i) {
      const TimePoint begin = Clock::now();
      co_await violet::sleep(50us);
      CHECK(Clock::now() - begin >= 50us);
    }
  };
  run(root());
}

TEST_CASE("sleep: 10 000 timers are cancelled and started anew", "[events]") {
  int woken = 0;
  const Duration elapsed = play([&]() -> Task<> {
    const auto body = [&](int n) -> Task<> {
      co_await violet::sleep(1h + 1ms * n);
      ++woken;
    };
    std::vector<Job<>> jobs;
    for (int round = 0; round < 3; ++round) {
      for (int n = 0; n < 10'000; ++n) jobs.push_back(spawn(body, n));
      co_await violet::sleep(1s);
      CHECK(Loop::current().timers().size() == 10'000);
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        jobs[i * 7919 % jobs.size()].kill();
      }
      CHECK(Loop::current().timers().empty());
      jobs.clear();
    }
    for (int n = 0; n < 10'000; ++n) spawn(body, n);
  });
  CHECK(woken == 10'000);
  CHECK(elapsed == 3s + 1h + 9999ms);
}

// ----------------------------------------------------------- read and write

TEST_CASE("read: what is there comes at once, up to the buffer's size",
          "[events]") {
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    support::put(pipe[1].get(), "hello");
    char buffer[3];
    std::size_t count = co_await read(pipe[0].get(), buffer);
    CHECK(std::string(buffer, count) == "hel");
    count = co_await read(pipe[0].get(), buffer);
    CHECK(std::string(buffer, count) == "lo");
  });
}

TEST_CASE("read: it waits until something is there", "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    const auto writer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      support::put(pipe[1].get(), "x");
    };
    spawn(writer);
    char buffer[8];
    const std::size_t count = co_await read(pipe[0].get(), buffer);
    CHECK(count == 1);
  });
}

TEST_CASE("read: the end of the stream is 0 bytes, again and again",
          "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    support::put(pipe[1].get(), "x");
    pipe[1].reset();
    const Descriptor in = adopt(std::move(pipe[0]));
    char buffer[8];
    const std::size_t one = co_await read(in, buffer);
    CHECK(one == 1);
    for (int i = 0; i < 3; ++i) {
      const std::size_t none = co_await read(in, buffer);
      CHECK(none == 0);
    }
  });
}

TEST_CASE("read: the end comes to one who waits for more", "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    const Descriptor in = adopt(std::move(pipe[0]));
    const auto writer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      support::put(pipe[1].get(), "bytes and the end");
      pipe[1].reset();
    };
    spawn(writer);
    const std::string all = co_await read_fully(in, 1000);
    CHECK(all == "bytes and the end");
  });
}

TEST_CASE("read: an empty buffer reads nothing", "[events]") {
  play([]() -> Task<> {
    const std::size_t none = co_await read(-1, std::span<char>());
    CHECK(none == 0);
    const std::size_t written = co_await write(-1, "");
    CHECK(written == 0);
  });
}

TEST_CASE("read: 100 000 bytes pass through a pipe between two jobs",
          "[events]") {
  const MaybeShortIo io;
  const bool owned = GENERATE(true, false);
  CAPTURE(owned);
  const std::string text = pattern(100'000);
  play([&]() -> Task<> {
    Pair pipe = make_pipe();
    Descriptor in;
    Descriptor out;
    const int in_fd = pipe[0].get();
    const int out_fd = pipe[1].get();
    if (owned) {
      in = adopt(std::move(pipe[0]));
      out = adopt(std::move(pipe[1]));
    }
    const auto writer = [&]() -> Task<> {
      std::size_t count = 0;
      if (owned) {
        count = co_await write(out, text);
        CHECK(out.slot()->sent_bytes == text.size());
      } else {
        count = co_await write(out_fd, text);
      }
      CHECK(count == text.size());
    };
    spawn(writer);
    std::string got;
    if (owned) {
      got = co_await read_fully(in, text.size());
    } else {
      got = co_await read_fully(in_fd, text.size());
    }
    CHECK(got == text);
  });
}

TEST_CASE("read: 100 000 bytes pass through a socketpair, both ways at once",
          "[events]") {
  const MaybeShortIo io;
  const std::string text = pattern(100'000);
  play([&]() -> Task<> {
    Pair pair = support::make_socketpair();
    const Descriptor a = adopt(std::move(pair[0]));
    const Descriptor b = adopt(std::move(pair[1]));
    const auto writer = [&](const Descriptor& to) -> Task<> {
      const std::size_t count = co_await write(to, text);
      CHECK(count == text.size());
    };
    const auto reader = [&](const Descriptor& from) -> Task<> {
      const std::string got = co_await read_fully(from, text.size());
      CHECK(got == text);
    };
    spawn(writer, std::ref(a));
    spawn(writer, std::ref(b));
    const Job<> first = spawn(reader, std::ref(a));
    const Job<> second = spawn(reader, std::ref(b));
    co_await join(first);
    co_await join(second);
  });
}

TEST_CASE("read: with a budget of 0 the same bytes arrive", "[events]") {
  const std::string text = pattern(100'000);
  play(
      [&]() -> Task<> {
        Pair pipe = make_pipe();
        const Descriptor in = adopt(std::move(pipe[0]));
        const Descriptor out = adopt(std::move(pipe[1]));
        const auto writer = [&]() -> Task<> {
          const std::size_t count = co_await write(out, text);
          CHECK(count == text.size());
        };
        spawn(writer);
        const std::string got = co_await read_fully(in, text.size());
        CHECK(got == text);
      },
      0);
}

TEST_CASE("read: a regular file is always ready", "[events]") {
  const MaybeShortIo io;
  const bool owned = GENERATE(true, false);
  play([&]() -> Task<> {
    const std::string text = pattern(10'000);
    Fd file = temporary_file();
    const int fd = file.get();
    Descriptor descriptor;
    if (owned) descriptor = adopt(std::move(file));
    std::size_t count = 0;
    if (owned) {
      count = co_await write(descriptor, text);
    } else {
      count = co_await write(fd, text);
    }
    CHECK(count == text.size());
    ::lseek(fd, 0, SEEK_SET);
    std::string got;
    if (owned) {
      got = co_await read_fully(descriptor, 20'000);
    } else {
      got = co_await read_fully(fd, 20'000);
    }
    CHECK(got == text);
    co_await readable(fd);
    co_await writable(fd);
  });
}

TEST_CASE("read: /dev/null ends at once and takes everything", "[events]") {
  play([]() -> Task<> {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    char buffer[8];
    const std::size_t none = co_await read(null.get(), buffer);
    CHECK(none == 0);
    const std::size_t all = co_await write(null.get(), "hello");
    CHECK(all == 5);
    co_await readable(null.get());
    co_await writable(null.get());
  });
}

TEST_CASE("read: a borrowed descriptor keeps its flags", "[events]") {
  const MaybeShortIo io;
  const std::string text = pattern(100'000);
  play([&]() -> Task<> {
    const Pair pipe = make_pipe(O_CLOEXEC);  // both ends block
    const int in_flags = flags_of(pipe[0].get());
    const int out_flags = flags_of(pipe[1].get());
    CHECK((in_flags & O_NONBLOCK) == 0);
    const auto writer = [&]() -> Task<> {
      const std::size_t count = co_await write(pipe[1].get(), text);
      CHECK(count == text.size());
    };
    spawn(writer);
    const std::string got = co_await read_fully(pipe[0].get(), text.size());
    CHECK(got == text);
    CHECK(flags_of(pipe[0].get()) == in_flags);
    CHECK(flags_of(pipe[1].get()) == out_flags);
  });
}

TEST_CASE("read: a terminal is waited for, and keeps its flags", "[events]") {
  const Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(master);
  REQUIRE(::grantpt(master.get()) == 0);
  REQUIRE(::unlockpt(master.get()) == 0);
  const Fd terminal(
      ::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(terminal);
  play([&]() -> Task<> {
    const int flags = flags_of(terminal.get());
    const auto typist = [&]() -> Task<> {
      co_await violet::sleep(1s);
      const std::size_t count = co_await write(master.get(), "typed\n");
      CHECK(count == 6);
    };
    spawn(typist);
    char buffer[32];
    const std::size_t count = co_await read(terminal.get(), buffer);
    CHECK(std::string(buffer, count) == "typed\n");
    CHECK(flags_of(terminal.get()) == flags);
  });
}

TEST_CASE("read: an adopted descriptor is closed by its owner", "[events]") {
  play([]() -> Task<> {
    Pair pipe = make_pipe(O_CLOEXEC);
    const int fd = pipe[0].get();
    {
      const Descriptor in = adopt(std::move(pipe[0]));
      CHECK((flags_of(fd) & O_NONBLOCK) != 0);
      CHECK(in.fd() == fd);
    }
    CHECK_FALSE(support::is_open(fd));
    co_return;
  });
}

TEST_CASE("read: a killed one has consumed no byte", "[events]") {
  const MaybeShortIo io;
  const bool in_time = GENERATE(true, false);
  CAPTURE(in_time);
  play([&]() -> Task<> {
    Pair pipe = make_pipe();
    const Descriptor in = adopt(std::move(pipe[0]));
    const auto reader = [&]() -> Task<> {
      char buffer[8];
      const std::size_t count = co_await read(in, buffer);
      CHECK(count == 0);
    };
    const Job<> job = spawn(reader);
    co_await yield_now();
    if (in_time) {
      support::put(pipe[1].get(), "kept");
      co_await violet::sleep(0s);
      CHECK(job.kill());
    } else {
      co_await yield_now();
      CHECK(job.kill());
      support::put(pipe[1].get(), "kept");
    }
    const std::string got = co_await read_fully(in, 4);
    CHECK(got == "kept");
  });
}

TEST_CASE("read: a killed one that was ready has consumed no byte",
          "[events]") {
  const MaybeShortIo io;
  World world;
  Pair pipe = make_pipe();
  const Descriptor in = adopt(std::move(pipe[0]));
  const auto reader = [&]() -> Task<> {
    char buffer[8];
    const std::size_t count = co_await read(in, buffer);
    CHECK(count == 0);
  };
  const Job<> job = world.loop.spawn(reader);
  CHECK(world.loop.run_once());
  // The killer is ready before the news of the bytes is: it goes first.
  const auto killer = [&]() -> Task<> {
    CHECK(job.block()->step == Step::kReady);
    CHECK(job.kill());
    co_return;
  };
  world.loop.spawn(killer);
  support::put(pipe[1].get(), "kept");
  world.loop.run_once();
  CHECK(job.killed());
  CHECK(support::get(in.fd()) == "kept");
}

TEST_CASE("read: a second reader is refused with a sentence", "[events]") {
  const MaybeShortIo io;
  const bool owned = GENERATE(true, false);
  CAPTURE(owned);
  play([&]() -> Task<> {
    Pair pipe = make_pipe();
    const int fd = pipe[0].get();
    Descriptor in;
    if (owned) in = adopt(std::move(pipe[0]));
    const auto reader = [&]() -> Task<> {
      char buffer[8];
      std::size_t count = 0;
      if (owned) {
        count = co_await read(in, buffer);
      } else {
        count = co_await read(fd, buffer);
      }
      CHECK(count == 1);
    };
    const Job<> first = spawn(reader);
    co_await yield_now();
    const Job<> second = spawn(reader);
    co_await wait(second);
    REQUIRE(second.error());
    const std::string text = text_of(second.error());
    CHECK(contains(text, "read fd " + std::to_string(fd)));
    CHECK(contains(text, "let one job do all the reading"));
    CHECK_THROWS_AS(std::rethrow_exception(second.error()), Misuse);
    CHECK_FALSE(first.ended());
    support::put(pipe[1].get(), "x");
    co_await join(first);
  });
}

TEST_CASE("read: one reader and one writer share a descriptor", "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pair = support::make_socketpair();
    support::fill(pair[0].get());
    const auto reader = [&]() -> Task<> { co_await readable(pair[0].get()); };
    const auto writer = [&]() -> Task<> { co_await writable(pair[0].get()); };
    const Job<> reads = spawn(reader);
    const Job<> writes = spawn(writer);
    co_await yield_now();
    CHECK(Slots::here().waiting() == 2);
    while (!support::get(pair[1].get()).empty()) {
    }
    co_await join(writes);
    support::put(pair[1].get(), "x");
    co_await join(reads);
  });
}

TEST_CASE("read: a borrowed number does not disturb its owner's waits",
          "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    const Descriptor in = adopt(std::move(pipe[0]));
    const auto reader = [&]() -> Task<> {
      char buffer[8];
      const std::size_t count = co_await read(in, buffer);
      CHECK(count == 1);
    };
    const Job<> job = spawn(reader);
    co_await yield_now();
    // Whether this is refused or waits: the first reader must go on.
    try {
      const bool ready = co_await within(1s, readable(in.fd()));
      CHECK_FALSE(ready);
    } catch (const Misuse&) {
    }
    support::put(pipe[1].get(), "x");
    const bool joined = co_await within(1s, wait(job));
    CHECK(joined);
  });
}

TEST_CASE("read: closing gives the one who waits bad_file_descriptor",
          "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    Descriptor in = adopt(std::move(pipe[0]));
    const auto reader = [&]() -> Task<> {
      char buffer[8];
      std::error_code code;
      const std::size_t count = co_await read(in, buffer, code);
      CHECK(count == 0);
      CHECK(code == std::errc::bad_file_descriptor);
    };
    const Job<> job = spawn(reader);
    co_await yield_now();
    in.close();
    co_await join(job);
  });
}

TEST_CASE("read: destroying the descriptor does the same", "[events]") {
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    std::optional<Descriptor> in = adopt(std::move(pipe[0]));
    const auto reader = [&]() -> Task<> { co_await readable(*in); };
    const Job<> job = spawn(reader);
    co_await yield_now();
    in.reset();
    co_await wait(job);
    REQUIRE(job.error());
    CHECK(contains(text_of(job.error()), "Bad file descriptor"));
  });
}

TEST_CASE("read: a bad descriptor is reported by every operation", "[events]") {
  const int bad = GENERATE(-1, 1'000'000);
  CAPTURE(bad);
  play([&]() -> Task<> {
    const auto reads = [&]() -> Task<> {
      char buffer[8];
      const std::size_t count = co_await read(bad, buffer);
      CHECK(count == 99);
    };
    const auto writes = [&]() -> Task<> {
      const std::size_t count = co_await write(bad, "x");
      CHECK(count == 99);
    };
    const auto becomes_readable = [&]() -> Task<> { co_await readable(bad); };
    const auto becomes_writable = [&]() -> Task<> { co_await writable(bad); };
    const Job<> jobs[] = {spawn(reads), spawn(writes), spawn(becomes_readable),
                          spawn(becomes_writable)};
    const char* calls[] = {"read", "write", "readable", "writable"};
    for (int i = 0; i < 4; ++i) {
      co_await wait(jobs[i]);
      CAPTURE(calls[i]);
      const std::string text =
          jobs[i].error() ? text_of(jobs[i].error()) : "no error";
      CHECK(text == std::string(calls[i]) + " fd " + std::to_string(bad) +
                        ": Bad file descriptor");
    }
  });
}

TEST_CASE("read: the error_code form clears or sets the code", "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    support::put(pipe[1].get(), "x");
    char buffer[8];
    std::error_code code = std::make_error_code(std::errc::io_error);
    const std::size_t one = co_await read(pipe[0].get(), buffer, code);
    CHECK(one == 1);
    CHECK_FALSE(code);
    const std::size_t none = co_await read(-1, buffer, code);
    CHECK(none == 0);
    CHECK(code == std::errc::bad_file_descriptor);
    const std::size_t five = co_await write(pipe[1].get(), "hello", code);
    CHECK(five == 5);
    CHECK_FALSE(code);
  });
}

TEST_CASE("read: a kill leaves the error_code untouched", "[events]") {
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    const std::error_code before = std::make_error_code(std::errc::io_error);
    std::error_code code = before;
    const auto reader = [&]() -> Task<> {
      char buffer[8];
      const std::size_t count = co_await read(pipe[0].get(), buffer, code);
      CHECK(count == 99);
    };
    const Job<> job = spawn(reader);
    co_await yield_now();
    CHECK(job.kill());
    CHECK(code == before);
  });
}

TEST_CASE("write: a closed reader is an error, not a signal", "[events]") {
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    pipe[0].reset();
    std::error_code code;
    const std::size_t none = co_await write(pipe[1].get(), "x", code);
    CHECK(none == 0);
    CHECK(code == std::errc::broken_pipe);
    std::string text;
    try {
      const std::size_t count = co_await write(pipe[1].get(), "x");
      CHECK(count == 99);
    } catch (const std::system_error& e) {
      text = e.what();
    }
    CHECK(text ==
          "write fd " + std::to_string(pipe[1].get()) + ": Broken pipe");
  });
}

TEST_CASE("write: a reader that goes away ends a write that waits",
          "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    support::fill(pipe[1].get());
    const auto closer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      pipe[0].reset();
    };
    spawn(closer);
    std::error_code code;
    const std::size_t count = co_await write(pipe[1].get(), "more", code);
    CHECK(count == 0);
    CHECK(code == std::errc::broken_pipe);
  });
}

TEST_CASE("write: an error tells how much was written before", "[events]") {
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    const Descriptor out = adopt(std::move(pipe[1]));
    const auto closer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      pipe[0].reset();
    };
    spawn(closer);
    const std::string text = pattern(1'000'000);
    std::error_code code;
    const std::size_t count = co_await write(out, text, code);
    CHECK(code == std::errc::broken_pipe);
    CHECK(count > 0);
    CHECK(count < text.size());
    CHECK(out.slot()->sent_bytes == count);
  });
}

TEST_CASE("write: a second writer is refused with a sentence", "[events]") {
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    support::fill(pipe[1].get());
    const auto writer = [&]() -> Task<> {
      const std::size_t count = co_await write(pipe[1].get(), "x");
      CHECK(count == 1);
    };
    const Job<> first = spawn(writer);
    const Job<> second = spawn(writer);
    co_await wait(second);
    REQUIRE(second.error());
    CHECK(contains(text_of(second.error()), "one all the writing"));
    CHECK(first.kill());
  });
}

TEST_CASE("write: a waiting descriptor is registered once in its life",
          "[events]") {
  support::CountedLoop counted;
  Pair pipe = make_pipe();
  const Descriptor in = adopt(std::move(pipe[0]));
  const auto writer = [&]() -> Task<> {
    for (int i = 0; i < 100; ++i) {
      co_await violet::sleep(1s);
      support::put(pipe[1].get(), "x");
    }
  };
  const auto root = [&]() -> Task<> {
    spawn(writer);
    char buffer[8];
    const std::size_t blocks = frame_pool.live();
    for (int i = 0; i < 100; ++i) {
      const std::size_t count = co_await read(in, buffer);
      CHECK(count == 1);
    }
    CHECK(frame_pool.live() <= blocks + 1);
  };
  counted.loop.run(root());
  CHECK(counted.poller.adds == 1);
  CHECK(counted.poller.changes == 0);
}

TEST_CASE("readable: the error_code form clears or sets the code", "[events]") {
  play([]() -> Task<> {
    Pair pipe = make_pipe();
    auto code = std::make_error_code(std::errc::io_error);
    co_await writable(pipe[1].get(), code);
    CHECK(!code);
    co_await readable(-1, code);
    CHECK(code == std::errc::bad_file_descriptor);
    const Descriptor out = adopt(std::move(pipe[1]));
    co_await writable(out, code);
    CHECK(!code);
    Descriptor in = adopt(std::move(pipe[0]));
    in.close();
    co_await readable(in, code);
    CHECK(code == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("readable: it consumes nothing and can be awaited again",
          "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    support::put(pipe[1].get(), "x");
    for (int i = 0; i < 3; ++i) co_await readable(pipe[0].get());
    char buffer[8];
    const std::size_t count = co_await read(pipe[0].get(), buffer);
    CHECK(count == 1);
    const bool more = co_await within(1s, readable(pipe[0].get()));
    CHECK_FALSE(more);
  });
}

TEST_CASE("readable: the end of a stream is readable", "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    Pair pair = support::make_socketpair();
    const auto closer = [&]() -> Task<> {
      co_await violet::sleep(1s);
      pair[1].reset();
    };
    spawn(closer);
    co_await readable(pair[0].get());
    char buffer[8];
    const std::size_t count = co_await read(pair[0].get(), buffer);
    CHECK(count == 0);
  });
}

TEST_CASE("writable: it waits until there is room", "[events]") {
  const MaybeShortIo io;
  play([]() -> Task<> {
    const Pair pipe = make_pipe();
    support::fill(pipe[1].get());
    const bool full = co_await within(1s, writable(pipe[1].get()));
    CHECK_FALSE(full);
    const auto drain = [&]() -> Task<> {
      co_await violet::sleep(1s);
      while (!support::get(pipe[0].get()).empty()) {
      }
    };
    spawn(drain);
    co_await writable(pipe[1].get());
  });
}

TEST_CASE("read: a descriptor works in the next run", "[events]") {
  const Footprint before;
  {
    Pair pipe = make_pipe();
    const Descriptor in = adopt(std::move(pipe[0]));
    const auto root = [&]() -> Task<> {
      const auto writer = [&]() -> Task<> {
        co_await violet::sleep(1s);
        support::put(pipe[1].get(), "x");
      };
      spawn(writer);
      char buffer[8];
      const std::size_t count = co_await read(in, buffer);
      CHECK(count == 1);
    };
    for (int i = 0; i < 3; ++i) {
      World world;
      world.run(root());
      CHECK_FALSE(world.time.hung);
    }
  }
  CHECK(Footprint() == before);
}
