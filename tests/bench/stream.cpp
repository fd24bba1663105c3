// stream.cpp - what a line costs: readline() against getline(3).
//
// 80 bytes and a "\n" each, 16 MiB of them, in two places: in memory, where
// the call that reads is a memcpy(3) of what is asked for (a pipe whose read(2)
// is answered at the seam; fmemopen(3)), and in a file that lies in the page
// cache, which is read with read(2). getline(3) reads with the buffer that it
// has by itself, and with one as large as the stream's. All of them take
// turns, and each sums up the lengths of the lines; the best of 25 counts.
// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../net/stream.hpp"

using namespace violet;

namespace {

constexpr std::size_t kLine = 81;
constexpr std::size_t kLines = (16 << 20) / kLine;
constexpr std::size_t kBuffer = 64 * 1024;

/// Answers read(2) from memory.
class MemoryCalls final : public sys::Calls {
 public:
  explicit MemoryCalls(const std::string& text) noexcept : rest_(text) {}
  ssize_t read(int, void* data, std::size_t size) noexcept override {
    const std::size_t count = std::min(size, rest_.size());
    std::memcpy(data, rest_.data(), count);
    rest_.remove_prefix(count);
    return static_cast<ssize_t>(count);
  }

 private:
  std::string_view rest_;
};

Task<std::size_t> sum_lines(Stream in) {
  std::size_t sum = 0;
  while (auto line = co_await in.readline()) sum += line.size();
  co_return sum;
}

std::size_t sum_lines(std::FILE* in, std::size_t buffer) {
  if (buffer != 0) std::setvbuf(in, nullptr, _IOFBF, buffer);
  std::size_t sum = 0;
  char* line = nullptr;
  std::size_t size = 0;
  for (ssize_t got; (got = ::getline(&line, &size, in)) > 0;) {
    sum += static_cast<std::size_t>(got) - 1;
  }
  std::free(line);
  std::fclose(in);
  return sum;
}

std::size_t stream_in_memory(const std::string& text) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  Fd(ends[1]).reset();  // the end follows what is in memory
  MemoryCalls calls(text);
  sys::calls = &calls;
  const std::size_t sum = run(sum_lines(Stream(adopt(Fd(ends[0])))));
  sys::calls = &sys::kernel;
  return sum;
}

std::size_t getline_in_memory(const std::string& text, std::size_t buffer) {
  char* data = const_cast<char*>(text.data());  // it only reads
  return sum_lines(::fmemopen(data, text.size(), "r"), buffer);
}

Fd rewound(int file) {
  ::lseek(file, 0, SEEK_SET);
  return Fd(::dup(file));
}

struct Contestant {
  const char* name;
  std::size_t (*run)(const std::string& text, int file);
  double best_seconds = 1e9;
};

void race(const char* where, std::vector<Contestant> all,
          const std::string& text, int file) {
  for (int round = 0; round < 25; ++round) {
    for (Contestant& one : all) {
      const auto start = std::chrono::steady_clock::now();
      const std::size_t sum = one.run(text, file);
      const std::chrono::duration<double> took =
          std::chrono::steady_clock::now() - start;
      if (sum != kLines * (kLine - 1)) std::abort();
      one.best_seconds = std::min(one.best_seconds, took.count());
    }
  }
  for (const Contestant& one : all) {
    const double gb = static_cast<double>(text.size()) / 1e9;
    std::printf(
        "%-10s %-24s %6.2f GB/s %6.1f ns a line   %4.2f times as fast\n", where,
        one.name, gb / one.best_seconds,
        one.best_seconds * 1e9 / static_cast<double>(kLines),
        all.back().best_seconds / one.best_seconds);
  }
}

}  // namespace

int main() {
  std::string text;
  for (std::size_t i = 0; i < kLines; ++i) {
    text.append(kLine - 1, static_cast<char>('a' + i % 26)).push_back('\n');
  }
  race("memory",
       {{"readline",
         [](const std::string& t, int) { return stream_in_memory(t); }},
        {"getline, buffer 64 KiB",
         [](const std::string& t, int) {
           return getline_in_memory(t, kBuffer);
         }},
        {"getline",
         [](const std::string& t, int) { return getline_in_memory(t, 0); }}},
       text, -1);

  std::FILE* file = std::tmpfile();
  if (file == nullptr) std::abort();
  if (std::fwrite(text.data(), 1, text.size(), file) != text.size() ||
      std::fflush(file) != 0) {
    std::abort();
  }
  race("file",
       {{"readline",
         [](const std::string&, int f) {
           return run(sum_lines(Stream(adopt(rewound(f)))));
         }},
        {"getline, buffer 64 KiB",
         [](const std::string&, int f) {
           return sum_lines(::fdopen(rewound(f).release(), "r"), kBuffer);
         }},
        {"getline",
         [](const std::string&, int f) {
           return sum_lines(::fdopen(rewound(f).release(), "r"), 0);
         }}},
       text, ::fileno(file));
  std::fclose(file);
}
