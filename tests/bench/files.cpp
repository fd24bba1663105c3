// files.cpp - files beside the same loop with calls that block.
//
// Reading: a file that lies in memory, 256 KiB at a time. Writing: blocks of
// 1 MiB that are filled and written, behind the caller or not. The two ways
// take turns in one run, and what counts is the median of the ratios of their
// speeds. Last, what an echo takes while the disk and a FIFO are slow.
//
// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../net/connection.hpp"
#include "../../runtime/file.hpp"
#include "bench.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kFileBytes = std::size_t{64} << 20;
constexpr std::size_t kReadBytes = std::size_t{256} << 10;
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr int kRounds = 15;

void must(bool holds, const char* what) {
  if (holds) return;
  std::perror(what);
  std::exit(1);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Bytes in a second.
template <class F>
double speed_of(F f) {
  const auto start = Clock::now();
  f();
  const std::chrono::duration<double> took = Clock::now() - start;
  return static_cast<double>(kFileBytes) / took.count();
}

template <class Ours, class Theirs>
void compare(const char* what, Ours ours, Theirs theirs) {
  std::vector<double> our;
  std::vector<double> their;
  std::vector<double> ratios;
  for (int round = 0; round < kRounds; ++round) {
    if (round % 2 == 0) our.push_back(speed_of(ours));
    their.push_back(speed_of(theirs));
    if (round % 2 != 0) our.push_back(speed_of(ours));
    ratios.push_back(our.back() / their.back());
  }
  std::printf("%-34s %7.0f MB/s, blocking %7.0f, ratio %5.2f (at least 0.95)\n",
              what, median(our) / 1e6, median(their) / 1e6, median(ratios));
}

void compare_reading(const std::string& path) {
  std::vector<char> buffer(kReadBytes);
  const auto ours = [&] {
    const auto body = [&]() -> Task<> {
      const File file = co_await open_file(path);
      while (const std::size_t count = co_await file.read(buffer)) {
        if (count < buffer.size()) break;
      }
    };
    run(body());
  };
  const auto theirs = [&] {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    while (::read(fd.get(), buffer.data(), buffer.size()) > 0) {
    }
  };
  compare("read, 256 KiB, in memory", ours, theirs);
}

/// What a program does to have something to write.
void fill(char* block, int round) {
  std::memset(block, 'a' + round % 26, kBlockBytes);
}

void compare_writing(const std::string& path) {
  constexpr int kBlocks = static_cast<int>(kFileBytes / kBlockBytes);
  std::vector<char> block(kBlockBytes);
  const auto ours = [&] {
    const auto body = [&]() -> Task<> {
      File file = co_await open_file(path, for_writing());
      FileWriter out(std::move(file), kBlockBytes);
      for (int i = 0; i < kBlocks; ++i) {
        const std::span<char> room = co_await out.room();
        fill(room.data(), i);
        out.commit(kBlockBytes);
      }
      co_await out.close();
    };
    run(body());
  };
  const auto theirs = [&] {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < kBlocks; ++i) {
      fill(block.data(), i);
      must(::write(fd, block.data(), block.size()) > 0, "write");
    }
    must(::close(fd) == 0, "close");
  };
  compare("write behind, 1 MiB, room()", ours, theirs);
  const auto copied = [&] {
    const auto body = [&]() -> Task<> {
      File file = co_await open_file(path, for_writing());
      FileWriter out(std::move(file), kBlockBytes);
      for (int i = 0; i < kBlocks; ++i) {
        fill(block.data(), i);
        co_await out.write({block.data(), block.size()});
      }
      co_await out.close();
    };
    run(body());
  };
  compare("write behind, 1 MiB, write()", copied, theirs);
}

Task<> echo(Connection conn) {
  while (auto data = co_await conn.recv()) co_await conn.sendall(data);
}

/// What one echo takes after the other, in milliseconds.
Task<> ask(const Connection& conn, int count, std::vector<double>& took) {
  for (int i = 0; i < count; ++i) {
    const TimePoint before = Clock::now();
    co_await conn.sendall("ping");
    char buffer[4];
    (void)co_await conn.recv(buffer);
    const std::chrono::duration<double, std::milli> each =
        Clock::now() - before;
    took.push_back(each.count());
    co_await violet::sleep(100us);
  }
}

Task<> read_fifo(int fd) {
  char buffer[64];
  while (co_await read(fd, buffer) != 0) continue;
}

/// Writes and syncs without end, as four uploads would, and waits for calls
/// that take long.
Task<> keep_disk_busy(std::string path, bool& done) {
  const std::string block(kBlockBytes, 'x');
  while (!done) {
    const File file = co_await open_file(path, for_writing());
    for (int i = 0; i < 8; ++i) co_await file.write(block);
    co_await file.sync();
    co_await offload([] { ::usleep(20'000); });
  }
}

std::string part_of(const std::string& path, int i) {
  return concat({path, ".", i});
}

void measure_echo(const std::string& path) {
  const std::string fifo = path + ".fifo";
  must(::mkfifo(fifo.c_str(), 0600) == 0, "mkfifo");
  std::vector<double> took;
  const auto body = [&]() -> Task<> {
    auto ends = connected_pair();
    bool done = false;
    TaskGroup group;
    group.spawn(echo, std::move(ends.second));
    const Fd slow(::open(fifo.c_str(), O_RDWR | O_CLOEXEC));  // never ends
    const Job<> waits = group.spawn(read_fifo, slow.get());
    for (int i = 0; i < 4; ++i) {
      group.spawn(keep_disk_busy, part_of(path, i), std::ref(done));
    }
    co_await ask(ends.first, 3000, took);
    done = true;
    co_await kill(waits);
    ends.first.close();
    co_await group.join();
    for (int i = 0; i < 4; ++i) co_await remove_file(part_of(path, i));
  };
  run(body());
  ::unlink(fifo.c_str());
  std::sort(took.begin(), took.end());
  std::printf(
      "echo beside slow disk and FIFO: median %.3f ms, 99 of 100 %.3f "
      "ms, worst %.3f ms (median at most 5 ms)\n",
      took[took.size() / 2], took[took.size() * 99 / 100], took.back());
}

}  // namespace

int main() {
  char folder[] = "/tmp/violet_bench_XXXXXX";
  must(::mkdtemp(folder) != nullptr, "mkdtemp");
  const std::string path = std::string(folder) + "/file";
  run(write_file(path, std::string(kFileBytes, 'v')));
  compare_reading(path);
  compare_writing(path);
  measure_echo(path);
  ::unlink(path.c_str());
  ::rmdir(folder);
}
