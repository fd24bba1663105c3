// readme_test.cpp - what the READMEs show compiles and runs as it is printed.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "program.hpp"

using namespace programs;

namespace {

/// Compiles and links. Returns: the path of the program.
std::string built(TemporaryFolder& folder, const std::string& name,
                  const std::string& text, bool is_program = true) {
  const std::string source = folder.file(name + ".cpp");
  std::ofstream(source) << text;
  const std::string target = folder.file(name);
  std::vector<std::string> rest{"-pthread", source, "-o", target};
  if (is_program) {
    for (const std::string& library : libraries()) rest.push_back(library);
  } else {
    rest.push_back("-c");
  }
  Program compiler(compile_command(compiler_command(), rest));
  const End end = compiler.wait();
  CAPTURE(text, compiler.err());
  REQUIRE(end.code == 0);
  CHECK(compiler.err() == "");
  return target;
}

}  // namespace

TEST_CASE("readme: the first example is a short one near the top", "[readme]") {
  const std::vector<Example> all = examples();
  REQUIRE(!all.empty());
  CHECK(all[0].lines <= 12);
  CHECK(all[0].first_line + all[0].lines <= 40);
  CHECK(all[0].is_server());
}

TEST_CASE("readme: every example compiles and does its work", "[readme]") {
  TemporaryFolder folder;
  std::vector<Example> all = examples();
  for (const char* path :
       {"net/README.md", "net/http/README.md", "runtime/README.md"}) {
    const std::vector<Example> more = examples(path);
    CHECK(!more.empty());
    all.insert(all.end(), more.begin(), more.end());
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Example& example = all[i];
    CAPTURE(example.text);
    const std::string name = "example" + std::to_string(i);
    const std::string path =
        built(folder, name, example.text, example.is_program());
    if (!example.is_program() || example.is_server()) continue;
    Program program({path});
    CHECK(program.wait().code == 0);
    CHECK(program.err() == "");
  }
}

TEST_CASE("readme: the three servers are those in apps", "[readme]") {
  const auto without_margins = [](const std::string& text) {
    std::istringstream lines(text);
    std::string out;
    for (std::string line; std::getline(lines, line);) {
      out += line.substr(std::min(line.find_first_not_of(' '), line.size()));
      out += '\n';
    }
    return out;
  };
  const std::string readme = contents("README.md");
  const std::size_t begin = readme.find("## Why coroutines\n");
  REQUIRE(begin != readme.npos);
  const std::string section = without_margins(
      readme.substr(begin, readme.find("\n## ", begin) - begin));
  for (const auto& [path, function] :
       {std::pair("apps/echo_blocking.cpp", "void echo(int client) {\n"),
        std::pair("apps/echo_callbacks.cpp", "bool on_ready() {\n"),
        std::pair("apps/echo.cpp", "Task<> echo(Connection conn) {\n")}) {
    CAPTURE(path);
    const std::string shown = section.substr(section.find(function));
    const std::string source = without_margins(contents(path));
    // The function ends before the empty line behind it.
    const std::string code = shown.substr(0, shown.find("\n\n") + 1);
    CHECK(source.find(code) != source.npos);
  }
}

TEST_CASE("readme: the echo server echoes", "[readme]") {
  TemporaryFolder folder;
  Program program(
      {built(folder, "echoer", examples().at(0).at_any_port().text)});
  const std::string line = program.line();
  const std::string begin = "echoer: listening on 127.0.0.1:";
  REQUIRE(line.rfind(begin, 0) == 0);
  const Client client(
      static_cast<std::uint16_t>(std::stoul(line.substr(begin.size()))));
  const std::string data = noise(100'000);
  CHECK((client.exchange(data) == data));
  CHECK(program.stop(SIGINT).code == 0);
  CHECK(program.err() == "echoer: stopped: 1 served, 0 cut\n");
  CHECK(client.ended());
}
