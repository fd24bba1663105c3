// single_test.cpp - the library as one header, as its users compile it.
//
// With every compiler that is here, with and without run-time type
// information: no warning, in any source file of a program, wherever the
// implementation stands. With sanitizers one such program is enough.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <fstream>
#include <list>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

const std::string kHeader = "single/violet.hpp";
const std::string kKit = "single/violet/testing.hpp";
const std::string kHttp = "single/violet/http.hpp";

// Two source files of one program. The second knows names that the
// implementation has for itself, too.
const char* const kMain = R"(#include "violet.hpp"

violet::Task<int> twice(int n);

violet::Task<int> run_in_run() {
  co_return violet::run(twice(1));
}

violet::Task<int> sum() {
  violet::Job<int> job = violet::spawn(twice, 20);
  const int forty = co_await violet::join(job);
  const int two = co_await twice(1);
  co_return forty + two;
}

int main() {
  try {
    violet::run(run_in_run());
    return 1;
  } catch (const violet::Misuse&) {
  }
  return violet::run(sum()) == 42 ? 0 : 2;
}
)";

const char* const kPart = R"(#include "violet.hpp"
using namespace violet;

int requests = 0;
int dumps = 0;
struct Keeper {};
void install_handlers() noexcept {}

Task<int> twice(int n) {
  co_await yield_now();
  requests += n;
  install_handlers();
  co_return 2 * n;
}

#define VIOLET_IMPLEMENTATION
#include "violet.hpp"
#include "violet.hpp"
)";

const char* const kTested = R"(#define VIOLET_IMPLEMENTATION
#define VIOLET_TESTING_IMPLEMENTATION
#include "violet/testing.hpp"

violet::Task<> wait_long() {
  co_await violet::sleep(std::chrono::hours(1));
}

int main() {
  violet::testing::play(wait_long);
  return violet::testing::explore(wait_long).runs == 1 ? 0 : 1;
}
)";

/// The words of a command that compiles with the header, and each warning is
/// an error. Files come last.
std::vector<std::string> command(std::vector<std::string> compiler) {
  compiler.insert(
      compiler.end(),
      {"-std=c++20", "-O0", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
       "-Wshadow", "-Werror", "-pthread", "-I", build_path("single")});
  return compiler;
}

/// Each way to call a compiler that is tested.
std::vector<std::vector<std::string>> ways() {
  if (support::kSanitized) return {command(compiler_command())};
  std::vector<std::vector<std::string>> all;
  for (const Compiler& compiler : compilers()) {
    for (const char* rtti : {"-frtti", "-fno-rtti"}) {
      all.push_back(command({compiler.name, rtti}));
    }
  }
  return all;
}

/// Programs that are being built, two at a time, and then run.
class Builds {
 public:
  /// Builds one from these words and source files.
  void add(std::vector<std::string> words,
           const std::vector<std::string>& sources) {
    if (running_.size() == 2) finish_first();
    Build build;
    build.target = folder_.file("program" + std::to_string(++count_));
    for (const auto& word : words) build.what += word + ' ';
    words.insert(words.end(), {"-o", build.target});
    for (const std::string& source : sources) {
      const std::string path = folder_.file(
          std::to_string(count_) + '_' + std::to_string(words.size()) + ".cpp");
      std::ofstream(path) << source;
      words.push_back(path);
    }
    build.compiler = std::make_unique<Program>(words);
    running_.push_back(std::move(build));
  }

  void finish() {
    while (!running_.empty()) finish_first();
  }

 private:
  struct Build {
    std::string what;
    std::string target;
    std::unique_ptr<Program> compiler;
  };

  void finish_first() {
    const Build& build = running_.front();
    const End end = build.compiler->wait();
    CAPTURE(build.what, build.compiler->err());
    REQUIRE(end.code == 0);
    CHECK(build.compiler->err() == "");
    Program program({build.target});
    CHECK(program.wait().code == 0);
    CHECK(program.err() == "");
    running_.pop_front();
  }

  TemporaryFolder folder_;
  std::list<Build> running_;
  int count_ = 0;
};

/// The files that an ORDER lists.
std::vector<std::string> listed(const std::string& folder) {
  std::vector<std::string> files;
  std::istringstream order(contents(folder + "/ORDER"));
  for (std::string line; std::getline(order, line);) {
    if (line.empty() || line[0] == '#') continue;
    files.push_back(folder + '/' + line.substr(0, line.find(' ')));
  }
  return files;
}

std::string line_of(const std::string& text, std::string_view begin) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(begin, 0) == 0) return line;
  }
  return "";
}

}  // namespace

TEST_CASE("single: every file is in one of the headers, once", "[single]") {
  const std::string header = contents(build_path(kHeader));
  const std::string kit = contents(build_path(kKit));
  const std::string http = contents(build_path(kHttp));
  std::vector<std::string> files = listed("runtime");
  for (const std::string& file : listed("net")) files.push_back(file);
  REQUIRE(files.size() > 50);
  for (const std::string& file : files) {
    CAPTURE(file);
    const std::string mark = "\n// ---- " + file + "\n";
    CHECK(count_of(header, mark) + count_of(kit, mark) + count_of(http, mark) ==
          1);
    CHECK(contains(http, mark) == contains(file, "net/http/"));
  }
  CHECK(contains(kit, "// ---- runtime/testing.hpp\n"));
}

TEST_CASE("single: what they need is one header, and they say their licence",
          "[single]") {
  const std::string header = contents(build_path(kHeader));
  const std::string kit = contents(build_path(kKit));
  CHECK(line_of(header, "#include \"") == "");
  for (const std::string& beside : {kKit, kHttp}) {
    const std::string text = contents(build_path(beside));
    CHECK(count_of(text, "#include \"../violet.hpp\"\n") == 1);
    CHECK(count_of(text, "\n#include \"") == 1);
  }
  std::istringstream licence(contents("LICENSE"));
  for (std::string line; std::getline(licence, line);) {
    CAPTURE(line);
    CHECK(contains(header, "\n//" + (line.empty() ? "" : ' ' + line) + '\n'));
    CHECK(contains(kit, "\n//" + (line.empty() ? "" : ' ' + line) + '\n'));
  }
}

TEST_CASE("single: what one system alone has is included on that one only",
          "[single]") {
  const std::string header = contents(build_path(kHeader));
  const auto file = header.find("\n// ---- runtime/poller_epoll.cpp\n");
  const auto include = header.find("#include <sys/epoll.h>\n");
  REQUIRE(file != header.npos);
  REQUIRE(include != header.npos);
  CHECK(file < include);  // others have moved to the top
}

TEST_CASE("single: two source files that include it link, without a warning",
          "[single]") {
  Builds builds;
  for (const auto& way : ways()) builds.add(way, {kMain, kPart});
  builds.finish();
}

TEST_CASE("single: so does the test kit, with the macros at the top",
          "[single]") {
  Builds builds;
  for (const auto& way : ways()) {
    // What differs without RTTI is in the library itself.
    if (way[1] != "-fno-rtti") builds.add(way, {kTested});
  }
  builds.finish();
}

TEST_CASE("single: the README's program needs 12 lines and one command",
          "[single]") {
  std::vector<Example> found;
  for (const Example& example : examples()) {
    if (example.has("VIOLET_IMPLEMENTATION")) found.push_back(example);
  }
  REQUIRE(found.size() == 1);
  CHECK(found[0].lines <= 12);
  if (support::kSanitized) return;  // that with -O2 takes half a minute

  // As it is done: the header lies beside the program.
  TemporaryFolder folder;
  std::ofstream(folder.file("violet.hpp")) << contents(build_path(kHeader));
  std::ofstream(folder.file("echo.cpp")) << found[0].at_any_port().text;
  const std::string target = folder.file("echo");
  const std::string printed =
      line_of(contents("README.md"), "    g++ -std=c++20 -O2 ");
  REQUIRE(contains(printed, " echo.cpp "));
  std::string build;
  for (const auto& word : compiler_command()) build += word + ' ';
  build += printed.substr(std::string("    g++ ").size());
  Program compiler({"sh", "-c", "cd \"$1\" && " + build, "sh",
                    target.substr(0, target.rfind('/'))});
  const End end = compiler.wait();
  CAPTURE(build, compiler.err());
  REQUIRE(end.code == 0);
  CHECK(compiler.err() == "");

  Program program({target});
  const std::string line = program.line();
  const Client client(port_in(line));
  const std::string data = noise(100'000);
  CHECK((client.exchange(data) == data));
  CHECK(program.stop(SIGINT).code == 0);
}
