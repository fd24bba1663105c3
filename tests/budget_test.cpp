// budget_test.cpp - what Violet costs a compiler, and a program's size, beside
// the standard library and Asio.
//
// The figures are printed with every run of these tests. Seconds are that:
// printed, beside what the same compiler takes for the standard headers alone,
// in processor time, the least of several turns. Limits are on what can be
// counted: what a compiler reads, and the bytes of a program.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;

namespace {

using Words = std::vector<std::string>;

// An echo server as Asio's users write it. Unlike ours it hears no signal and
// says nothing.
#if __has_include(<asio.hpp>)
constexpr bool kAsioIsHere = true;
#else
constexpr bool kAsioIsHere = false;
#endif
const char* const kAsioEcho = R"(#include <asio.hpp>

using asio::ip::tcp;

asio::awaitable<void> echoer(tcp::socket conn) {
  try {
    char data[4096];
    for (;;) {
      const std::size_t size = co_await conn.async_read_some(
          asio::buffer(data), asio::use_awaitable);
      co_await asio::async_write(conn, asio::buffer(data, size),
                                 asio::use_awaitable);
    }
  } catch (const std::exception&) {
  }
}

asio::awaitable<void> serve(tcp::acceptor listener) {
  for (;;) {
    tcp::socket conn = co_await listener.async_accept(asio::use_awaitable);
    asio::co_spawn(listener.get_executor(), echoer(std::move(conn)),
                   asio::detached);
  }
}

int main() {
  asio::io_context loop;
  tcp::acceptor listener(loop, {asio::ip::make_address("127.0.0.1"), 4915});
  asio::co_spawn(loop, serve(std::move(listener)), asio::detached);
  loop.run();
}
)";

// Asio 1.22 does not know that clang has coroutines.
const Words kForAsio = {"-DASIO_HAS_CO_AWAIT", "-DASIO_HAS_STD_COROUTINE"};
const Words kForLibrary = {"-I" + build_path("include")};
const Words kForSingle = {"-I" + build_path("single")};

/// A source file in a folder, and what it takes.
class Source {
 public:
  Source(TemporaryFolder& folder, const std::string& name, const Words& options,
         const std::string& text)
      : path_(folder.file(name + ".cpp")),
        object_(folder.file(name + ".o")),
        program_(folder.file(name)),
        options_(options) {
    std::ofstream(path_) << text;
  }

  /// Starts the compiler of this build, without sanitizers and warnings.
  Program start(const Words& options) const {
    Words command = compiler();
    command.insert(command.end(), {"-std=c++20", "-w", path_});
    command.insert(command.end(), options_.begin(), options_.end());
    command.insert(command.end(), options.begin(), options.end());
    return Program(command);
  }

  static void finish(Program& compiler) {
    const End end = compiler.wait();
    CAPTURE(compiler.err());
    REQUIRE(end.code == 0);
  }

  /// Compiles it at -O0. Nothing else may be running.
  void measure() {
    const double before = seconds_of_children();
    Program compiler = start({"-O0", "-c", "-o", object_});
    finish(compiler);
    seconds_ = std::min(seconds_, seconds_of_children() - before);
  }

  /// The least that measure() has found.
  double seconds() const noexcept { return seconds_; }

  /// What is left of it, and of all that it includes, without comments.
  std::size_t bytes_read() const {
    Program compiler = start({"-E", "-P", "-o", object_});
    finish(compiler);
    return contents(object_).size();
  }

  /// Starts to build the smallest program of it. What is in `rest`, a library,
  /// comes last.
  Program start_small(const Words& rest = {}) const {
    Words options{"-O2",
                  "-ffunction-sections",
                  "-fdata-sections",
                  "-Wl,--gc-sections,-z,noseparate-code",
                  "-s",
                  "-pthread",
                  "-o",
                  program_};
    options.insert(options.end(), rest.begin(), rest.end());
    return start(options);
  }

  long long bytes() const {
    struct stat status{};
    REQUIRE(::stat(program_.c_str(), &status) == 0);
    return static_cast<long long>(status.st_size);
  }

 private:
  /// The processor time of all programs that have ended.
  static double seconds_of_children() {
    rusage usage{};
    ::getrusage(RUSAGE_CHILDREN, &usage);
    const auto seconds = [](const timeval& time) {
      return double(time.tv_sec) + double(time.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }

  std::string path_;
  std::string object_;
  std::string program_;
  Words options_;
  double seconds_ = 1e9;
};

/// The headers of the system that violet.hpp includes.
std::string headers_needed() {
  std::istringstream header(contents(build_path("single/violet.hpp")));
  std::string includes;
  for (std::string line; std::getline(header, line);) {
    if (line == "#endif  // VIOLET_HPP") return includes;
    if (line.rfind("#include <", 0) == 0) includes += line + '\n';
  }
  fail("single/violet.hpp has no end");
}

}  // namespace

TEST_CASE("budget: violet.hpp adds at most a seventh to its standard headers",
          "[size]") {
  if (support::kSanitized) {
    std::printf("budget: headers: not with sanitizers\n");
    return;
  }
  TemporaryFolder folder;
  const std::string whole = "#include <violet.hpp>\n";
  const Source needed(folder, "needed", {}, headers_needed());
  const Source single(folder, "single", kForSingle, whole);
  const Source separate(folder, "separate", kForLibrary, whole);
  const double standard = double(needed.bytes_read());
  const double one_file = double(single.bytes_read()) / standard;
  const double files = double(separate.bytes_read()) / standard;
  std::printf(
      "budget: of what its standard headers are, %s reads x%.3f for "
      "violet.hpp, x%.3f for the headers it is made of\n",
      compiler_name().c_str(), one_file, files);
  CHECK(one_file > 1);
  CHECK(one_file * 7 < 8);
  CHECK(files * 7 < 8);
}

TEST_CASE("budget: what violet.hpp costs is printed", "[size]") {
  if (support::kSanitized) {
    std::printf("budget: compile times: not with sanitizers\n");
    return;
  }
  if (compiler().size() > 1) {  // such as "zig c++", which keeps what it made
    std::printf("budget: compile times: not where there may be a cache\n");
    return;
  }
  ::setenv("CCACHE_DISABLE", "1", 1);
  TemporaryFolder folder;
  const std::string whole = "#include <violet.hpp>\n";
  const std::string example = examples().at(0).text;
  Source needed(folder, "needed", {}, headers_needed());
  Source single(folder, "single", kForSingle, whole);
  Source separate(folder, "separate", kForLibrary, whole);
  Source echo(folder, "echo", kForLibrary, example);
  const auto ratio = [&needed](const Source& source) {
    return source.seconds() / needed.seconds();
  };
  // In turns, so that all meet the same neighbours.
  for (int turn = 0; turn < 3; ++turn) {
    for (Source* source : {&needed, &single, &separate, &echo}) {
      source->measure();
    }
  }
  std::printf(
      "budget: %s -O0: the standard headers %.2f s, violet.hpp %.2f s "
      "(x%.2f), the headers it is made of %.2f s (x%.2f), the README's echo "
      "%.2f s (x%.2f)\n",
      compiler_name().c_str(), needed.seconds(), single.seconds(),
      ratio(single), separate.seconds(), ratio(separate), echo.seconds(),
      ratio(echo));

  if (!kAsioIsHere) {
    std::printf("budget: Asio is not here (Debian: libasio-dev)\n");
    return;
  }
  Source asio(folder, "asio", kForAsio, kAsioEcho);
  asio.measure();
  std::printf("budget: %s -O0: Asio's echo %.2f s (x%.2f)\n",
              compiler_name().c_str(), asio.seconds(), ratio(asio));
}

TEST_CASE("budget: a small server is as small from the single header",
          "[size]") {
  if (support::kSanitized ||
      !support::contains(contents(build_path("flags")), " -O2 ")) {
    std::printf("budget: sizes: only where the library is built with -O2\n");
    return;
  }
  TemporaryFolder folder;
  const std::string example = examples().at(0).text;
  const Source linked(folder, "linked", kForLibrary, example);
  const Source single(folder, "single", kForSingle,
                      "#define VIOLET_IMPLEMENTATION\n" + example);
  const Source asio(folder, "asio", kForAsio, kAsioEcho);
  Program linked_program = linked.start_small(libraries());
  Program single_program = single.start_small();
  Source::finish(linked_program);
  Source::finish(single_program);
  std::printf(
      "budget: the README's echo stripped: %lld bytes with the library, %lld "
      "from the single header\n",
      linked.bytes(), single.bytes());
  CHECK(linked.bytes() < 150'000);
  CHECK(single.bytes() * 10 < linked.bytes() * 13);  // it is all at -O2

  if (!kAsioIsHere) return;
  Program asio_program = asio.start_small();
  Source::finish(asio_program);
  std::printf("budget: Asio's echo stripped: %lld bytes (ours: x%.2f)\n",
              asio.bytes(), double(linked.bytes()) / double(asio.bytes()));
  CHECK(linked.bytes() * 10 < asio.bytes() * 13);
}
