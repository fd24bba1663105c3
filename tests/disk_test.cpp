// disk_test.cpp - read() and write() of descriptors whose disk is slow, and of
// every kind that a program may be given.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "../runtime/combine.hpp"
#include "../runtime/events.hpp"
#include "../runtime/testing.hpp"
#include "../runtime/within.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

/// An empty file that has no name.
Fd temporary_file(std::string_view text = {}) {
  char name[] = "/tmp/violet_disk_test_XXXXXX";
  Fd file(::mkostemp(name, O_CLOEXEC));
  ::unlink(name);
  put(file.get(), text);
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

template <class D>
Task<std::string> read_to_end(const D& from) {
  std::string all;
  char buffer[7];
  while (const std::size_t count = co_await read(from, buffer)) {
    all.append(buffer, count);
  }
  co_return all;
}

/// Has nothing in memory, and takes its time to write.
class Disk : public sys::Calls, public sys::FileCalls {
 public:
  explicit Disk(int error = EAGAIN) noexcept : error_(error) {}
  bool in_memory(int) noexcept override { return false; }  // as on a disk
  ssize_t read_cached(int, void*, std::size_t, std::int64_t) noexcept override {
    ++asked;
    return -error_;
  }
  ssize_t write_cached(int, const void*, std::size_t) noexcept override {
    ++asked;
    return -error_;
  }
  ssize_t write(int fd, const void* data, std::size_t size) noexcept override {
    if (stuck && file_type(fd) == S_IFREG) {
      at_work = true;
      while (stuck) std::this_thread::yield();
      at_work = false;
    }
    ++writes;
    return Calls::write(fd, data, size);
  }
  std::atomic<int> asked = 0;
  std::atomic<int> writes = 0;
  std::atomic<bool> stuck = false;
  std::atomic<bool> at_work = false;

 private:
  int error_;
};

}  // namespace

TEST_CASE("disk: what is not in memory is read and written off the loop",
          "[disk][threads]") {
  const int error = GENERATE(EAGAIN, EOPNOTSUPP, ENOSYS);
  const bool owned = GENERATE(true, false);
  CAPTURE(error, owned);
  Disk disk(error);
  const ScopedCalls scope(disk);
  const auto use = [](const auto& file, int fd) -> Task<> {
    const std::size_t count = co_await write(file, "0123456789");
    CHECK(count == 10);
    ::lseek(fd, 0, SEEK_SET);
    const std::string got = co_await read_to_end(file);
    CHECK(got == "0123456789");
  };
  const auto body = [&]() -> Task<> {
    Fd file = temporary_file();
    const int fd = file.get();
    if (owned) {
      const Descriptor descriptor = adopt(std::move(file));
      co_await use(descriptor, fd);
    } else {
      co_await use(fd, fd);
    }
  };
  const int before = open_descriptors();
  run(body());
  CHECK(open_descriptors() == before);
  CHECK(disk.writes == 1);
  if (owned && error != EAGAIN) CHECK(disk.asked == 1);  // and never again
}

TEST_CASE("disk: a killed read has consumed nothing, and waits for nothing",
          "[disk][threads][kill]") {
  Disk disk;
  const ScopedCalls scope(disk);
  const auto body = [](int&) -> Task<> {
    const Fd file = temporary_file("0123456789");
    const auto read_some = [](int fd, std::string& got) -> Task<> {
      char buffer[4];
      const std::size_t count = co_await read(fd, buffer);
      got.assign(buffer, count);
    };
    std::string first;
    const auto in_part = [&]() -> Task<> {
      TaskGroup group;
      group.on_failure([](const FailedJob&) {});
      group.spawn(read_some, file.get(), std::ref(first));
      co_await group.join();
    };
    co_await in_part();
    const std::string rest = co_await read_to_end(file.get());
    if (first + rest != "0123456789") throw std::runtime_error("bytes lost");
  };
  testing::Options options;
  options.seeds = 50;
  const auto counts = testing::kill_everywhere<int>(body, [](int&) {}, options);
  CHECK(counts.kills >= 10);
}

TEST_CASE("disk: of several events a read that is late is undone at once",
          "[disk][threads]") {
  Disk disk;
  const ScopedCalls scope(disk);
  const auto body = [&]() -> Task<> {
    const Fd file = temporary_file("abc");
    char buffer[4];
    const auto first =
        co_await any(read(file.get(), buffer), violet::sleep(0s));
    if (first.index() == 1) {
      const std::string all = co_await read_to_end(file.get());
      CHECK(all == "abc");
    }
    ::lseek(file.get(), 0, SEEK_SET);
    const auto late = co_await within(0s, read(file.get(), buffer));
    const std::string rest = co_await read_to_end(file.get());
    CHECK(rest == (late ? "" : "abc"));
  };
  run(body());
}

TEST_CASE("disk: two readers of a file at once are a mistake",
          "[disk][threads]") {
  Disk disk;
  const ScopedCalls scope(disk);
  const auto read_some = [](int fd) -> Task<> {
    char buffer[4];
    (void)co_await read(fd, buffer);
  };
  const auto body = [&]() -> Task<> {
    const Fd file = temporary_file("abc");
    const Job<> first = spawn(read_some, file.get());
    co_await yield_now();
    std::string said;
    try {
      co_await read_some(file.get());
    } catch (const Misuse& e) {
      said = e.what();
    }
    CHECK(contains(said, "another job waits for the same"));
    co_await join(first);
  };
  run(body());
}

TEST_CASE("disk: closing while a piece is written waits for that piece",
          "[disk][threads]") {
  Disk disk;
  const ScopedCalls scope(disk);
  const Fd look = temporary_file();
  Fd other;
  const auto body = [&]() -> Task<> {
    Descriptor file = adopt(Fd(::dup(look.get())));
    const int number = file.fd();
    std::string text = "whole";
    std::error_code code;
    const auto write_it = [&]() -> Task<> {
      (void)co_await write(file, text, code);
      text = "gone!";
    };
    disk.stuck = true;
    const Job<> writes = spawn(write_it);
    co_await yield_now();
    while (!disk.at_work) std::this_thread::yield();
    file.close();
    other = temporary_file("other");  // may well get the number
    CHECK(other.get() >= number);
    for (int i = 0; i < 10; ++i) co_await yield_now();
    CHECK(text == "whole");
    disk.stuck = false;
    co_await join(writes);
    CHECK(code == std::errc::bad_file_descriptor);
  };
  run(body());
  char buffer[8] = {};
  CHECK(::pread(look.get(), buffer, sizeof buffer, 0) == 5);
  CHECK(std::string_view(buffer) == "whole");
  char second[8] = {};
  CHECK(::pread(other.get(), second, sizeof second, 0) == 5);
  CHECK(std::string_view(second) == "other");
}

TEST_CASE("disk: a limit that ends while a piece is written is no deadlock",
          "[disk][threads]") {
  Disk disk;
  const ScopedCalls scope(disk);
  LoopOptions options;
  options.budget = 0;  // it goes behind after each piece
  Loop loop(options);
  const std::string text(1 << 20, 'x');
  const auto let_go = [&]() -> Task<> {
    co_await violet::sleep(2ms);
    disk.stuck = false;
  };
  const auto body = [&]() -> Task<> {
    const Fd file = temporary_file();
    disk.stuck = true;
    const Job<> later = spawn(let_go);
    const auto written = co_await within(1ms, write(file.get(), text));
    CHECK_FALSE(written);
    CHECK(disk.writes >= 1);
    co_await join(later);
  };
  loop.run(body());
}

TEST_CASE("disk: a kill waits for the piece that is written",
          "[disk][threads]") {
  Disk disk;
  const ScopedCalls scope(disk);
  const Fd file = temporary_file();
  const std::string text(1u << 20, 'x');
  const auto write_it = [&]() -> Task<> {
    (void)co_await write(file.get(), text);
  };
  const auto body = [&]() -> Task<> {
    disk.stuck = true;
    const Job<> writes = spawn(write_it);
    co_await yield_now();
    while (!disk.at_work) std::this_thread::yield();
    CHECK_FALSE(writes.kill());
    disk.stuck = false;
    co_await wait(writes);
    CHECK(writes.killed());
  };
  run(body());
  CHECK(::lseek(file.get(), 0, SEEK_END) == 256 << 10);
}

TEST_CASE("disk: a slow one holds up no other job", "[disk][threads]") {
  Disk disk;
  const ScopedCalls scope(disk);
  const Fd file = temporary_file();
  const auto write_it = [&]() -> Task<> {
    (void)co_await write(file.get(), "slow");
  };
  const auto body = [&]() -> Task<> {
    disk.stuck = true;
    const Job<> writes = spawn(write_it);
    co_await yield_now();
    while (!disk.at_work) std::this_thread::yield();
    const Pair pipe = make_pipe();
    for (int i = 0; i < 100; ++i) {
      co_await write(pipe[1].get(), "x");
      char buffer[1];
      const std::size_t count = co_await read(pipe[0].get(), buffer);
      REQUIRE(count == 1);
    }
    CHECK(disk.at_work);
    disk.stuck = false;
    co_await join(writes);
  };
  run(body());
}

TEST_CASE("read: every kind of descriptor is read to its end by the same call",
          "[disk][threads]") {
  const MaybeShortIo io;
  const auto body = []() -> Task<> {
    const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::string nothing = co_await read_to_end(null.get());
    CHECK(nothing.empty());

    const Fd file = temporary_file("from a file");
    const std::string of_file = co_await read_to_end(file.get());
    CHECK(of_file == "from a file");

    Pair pipe = make_pipe(O_CLOEXEC);  // blocking, as a shell gives them
    put(pipe[1].get(), "from a pipe");
    pipe[1].reset();
    const std::string of_pipe = co_await read_to_end(pipe[0].get());
    CHECK(of_pipe == "from a pipe");
  };
  run(body());
}

TEST_CASE("read: a FIFO is read to the end of its writer", "[disk][threads]") {
  const MaybeShortIo io;
  char folder[] = "/tmp/violet_disk_test_XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string path = concat({folder, "/fifo"});
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  Fd in(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  Fd out(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  ::unlink(path.c_str());
  ::rmdir(folder);
  const auto speak = [&]() -> Task<> {
    co_await write(out.get(), "from ");
    co_await violet::sleep(1ms);
    co_await write(out.get(), "a FIFO");
    out.reset();
  };
  const auto body = [&]() -> Task<> {
    spawn(speak);
    const Descriptor fifo = adopt(std::move(in));
    const std::string text = co_await read_to_end(fifo);
    CHECK(text == "from a FIFO");
  };
  run(body());
}

TEST_CASE("read: a terminal is read to its end-of-file character",
          "[disk][threads]") {
  const Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(master);
  REQUIRE(::grantpt(master.get()) == 0);
  REQUIRE(::unlockpt(master.get()) == 0);
  const Fd terminal(
      ::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(terminal);
  const auto body = [&]() -> Task<> {
    put(master.get(), "typed\n\x04");  // ^D
    const std::string text = co_await read_to_end(terminal.get());
    CHECK(text == "typed\n");
  };
  run(body());
}

TEST_CASE("read: a directory is an error that says so, and a full disk, too",
          "[disk][threads]") {
  const auto body = []() -> Task<> {
    const Fd folder(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::error_code code;
    char buffer[8];
    (void)co_await read(folder.get(), buffer, code);
    CHECK(code == std::errc::is_a_directory);
    const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    if (full) {  // Linux and NetBSD have it
      (void)co_await write(full.get(), "x", code);
      CHECK(code == std::errc::no_space_on_device);
    }
    const Fd one_way = temporary_file("x");
    const Fd reads(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    (void)co_await write(reads.get(), "x", code);
    CHECK(code == std::errc::bad_file_descriptor);
  };
  run(body());
}
