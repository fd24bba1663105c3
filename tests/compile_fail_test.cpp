// compile_fail_test.cpp - wrong programs do not compile, and hear why.
//
// Each file in compile_fail/ is one wrong program. It says itself what the
// compiler is to answer ("Says:", or one line for each compiler), and where
// only some compiler refuses it ("Only:"). The answer is one error and short,
// unless something else fails in its wake ("Then:"). right.cpp is the other
// side.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

const char* const kWrong[] = {
    "await_int",           "await_job",         "await_lvalue",
    "await_const",         "assign_task",       "await_event_twice",
    "copy_task",           "drop_task",         "drop_event",
    "spawn_view",          "spawn_span",        "spawn_task",
    "spawn_plain",         "server_closure",    "serve_closure",
    "spawn_arguments",     "generator_await",   "generator_reference",
    "generator_aggregate", "drop_generator",    "send_aggregate",
    "channel_item",        "offload_task",      "offload_arguments",
    "offload_closure",     "offload_view",      "handler_mutable",
    "handler_result",      "handler_reference", "any_mixed",
};

/// How many lines the whole answer may have. Each `#include` on the way to
/// the sentence takes one, and so does the line of code below each note.
constexpr std::size_t kMostLines = 16;

std::string path_of(const std::string& name) {
  return "tests/compile_fail/" + name + ".cpp";
}

/// What follows "// KEY: " in a source.
std::string note(const std::string& source, const std::string& key) {
  return Program::value_of(source, "// " + key);
}

/// What the compiler is to say about a source; empty: it takes it.
std::string expected(const std::string& source, const Compiler& compiler) {
  const bool only_old_gcc = note(source, "Only").rfind("g++ 12", 0) == 0;
  if (only_old_gcc && (compiler.clang || compiler.version > 12)) return "";
  const std::string always = note(source, "Says");
  return always.empty() ? note(source, compiler.clang ? "clang" : "g++")
                        : always;
}

/// A compiler that has read violet.hpp, as a precompiled header: that is most
/// of what there is to read in such a program, and there are many.
class WellRead {
 public:
  explicit WellRead(const Compiler& compiler) {
    const std::string file = folder_.file("violet.hpp.gch");
    Program reader(compile_command(
        {compiler.name},
        {"-x", "c++-header", "-o", file, build_path("include/violet.hpp")}));
    const End end = reader.wait();
    CAPTURE(reader.err());
    REQUIRE(end.code == 0);
    command_ = {compiler.name, "-fsyntax-only"};
    if (compiler.clang) {
      command_.insert(command_.end(), {"-include-pch", file});
    } else {
      command_.insert(command_.end(), {"-Winvalid-pch", "-I" + folder_.path()});
    }
  }

  std::unique_ptr<Program> start(const std::string& name) const {
    return std::make_unique<Program>(
        compile_command(command_, {path_of(name)}));
  }

 private:
  TemporaryFolder folder_;
  std::vector<std::string> command_;
};

}  // namespace

TEST_CASE("compile_fail: wrong programs do not compile and hear why",
          "[compile_fail]") {
  struct Case {
    std::string what;
    std::string expected;
    bool alone = true;  // no other error follows
    std::unique_ptr<Program> running;
  };
  const auto finish = [](Case& one) {
    CAPTURE(one.what);
    const End end = one.running->wait();
    const std::string& said = one.running->err();
    CAPTURE(said.substr(0, 4000));
    if (one.expected.empty()) {
      CHECK(end.code == 0);
    } else {
      CHECK(end.code == 1);
      CHECK(contains(said, "error"));
      CHECK(contains(said, one.expected));
      if (!one.alone) return;
      CHECK(count_of(said, "error: ") == 1);
      CHECK(count_of(said, "\n") <= kMostLines);
    }
  };
  for (const Compiler& compiler : compilers()) {
    const WellRead well_read(compiler);
    std::list<Case> cases;  // two at a time
    for (const char* const name : kWrong) {
      const std::string source = contents(path_of(name));
      REQUIRE(!source.empty());
      cases.push_back({compiler.name + ' ' + name, expected(source, compiler),
                       note(source, "Then").empty(), well_read.start(name)});
      if (cases.size() > 2) {
        finish(cases.front());
        cases.pop_front();
      }
    }
    for (Case& one : cases) finish(one);
  }
}

TEST_CASE("compile_fail: the same done right compiles", "[compile_fail]") {
  for (const Compiler& compiler : compilers()) {
    CAPTURE(compiler.name);
    Program program(
        compile_command({compiler.name}, {"-fsyntax-only", path_of("right")}));
    CHECK(program.wait().code == 0);
    CHECK(program.err() == "");
  }
}
