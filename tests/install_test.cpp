// install_test.cpp - what `make install` puts there is all that a user needs.
//
// The library of this build is installed into folders that go away again.
// From there, programs are made in each way that README.md tells, with the
// commands and the CMakeLists.txt that it prints.
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <violet.hpp>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

/// A folder that goes away with all that has come into it.
class Folder {
 public:
  Folder() {
    path_ = (fs::temp_directory_path() / "violet.XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) fail_with_errno("mkdtemp");
  }
  Folder(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const {
    return path_ + '/' + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// How a command ended, and all that it said.
struct Run {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs it without what `make test` has put into the environment.
Run run(Words command, const Words& environment = {}) {
  Words clean{"env"};
  for (const char* name : {"MAKEFLAGS",
                           "MAKEOVERRIDES",
                           "MFLAGS",
                           "MAKELEVEL",
                           "BUILD",
                           "CXX",
                           "OPT",
                           "SAN",
                           "WERROR",
                           "CATCH",
                           "CXXFLAGS",
                           "CPPFLAGS",
                           "LDFLAGS",
                           "PREFIX",
                           "BINDIR",
                           "LIBDIR",
                           "INCLUDEDIR",
                           "MANDIR",
                           "DOCDIR",
                           "DESTDIR",
                           "V",
                           "PKG_CONFIG_PATH",
                           "CMAKE_PREFIX_PATH"}) {
    clean.insert(clean.end(), {"-u", name});
  }
  clean.insert(clean.end(), environment.begin(), environment.end());
  clean.insert(clean.end(), command.begin(), command.end());
  Program program(clean);
  const End end = program.wait();
  return {end.code, program.out(), program.err()};
}

bool there_is(const std::string& tool) {
  return run({"sh", "-c", "command -v " + tool}).code == 0;
}

/// `make TARGET` on the build under test.
Run make(const std::string& target, const Words& settings,
         const Words& environment = {}) {
  Words command{"make", target};
  if (const char* build = std::getenv("VIOLET_BUILD")) {
    command.push_back(std::string("BUILD=") + build);
  }
  command.insert(command.end(), settings.begin(), settings.end());
  return run(command, environment);
}

/// The same where it has to succeed, and to compile nothing.
void make_well(const std::string& target, const Words& settings) {
  const Run made = make(target, settings);
  CAPTURE(target, made.out, made.err);
  REQUIRE(made.code == 0);
  CHECK(made.err == "");
  CHECK(count_of(made.out, "\n") <= 2);
  CHECK(!contains(made.out, "compile"));
}

/// All files below a folder, and their permissions.
std::map<std::string, unsigned> files_in(const std::string& folder) {
  std::map<std::string, unsigned> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto mode =
        static_cast<unsigned>(entry.status().permissions()) & 0777;
    if (!entry.is_directory()) {
      found[fs::relative(entry.path(), folder).string()] = mode;
    } else {
      CAPTURE(entry.path());
      CHECK(mode == 0755);
    }
  }
  return found;
}

/// The names, without their endings, of what is in a folder.
Words names_in(const std::string& folder, const std::string& ending) {
  Words names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ending) {
      names.push_back(entry.path().stem().string());
    }
  }
  return names;
}

/// What an installation consists of.
std::map<std::string, unsigned> everything() {
  std::map<std::string, unsigned> all{
      {"include/violet.hpp", 0644},
      {"include/violet/http.hpp", 0644},
      {"include/violet/testing.hpp", 0644},
      {"lib/libviolet.a", 0644},
      {"lib/pkgconfig/violet.pc", 0644},
      {"lib/cmake/violet/violet-config.cmake", 0644},
      {"lib/cmake/violet/violet-config-version.cmake", 0644},
      {"share/doc/violet/LICENSE", 0644},
  };
  for (const std::string folder : {"runtime", "net", "net/http"}) {
    for (const std::string& name : names_in(folder, ".hpp")) {
      all["include/violet/" + folder + '/' + name + ".hpp"] = 0644;
    }
  }
  for (const std::string& name : names_in("apps", ".cpp")) {
    all["bin/violet-" + name] = 0755;
    all["share/man/man1/violet-" + name + ".1"] = 0644;
  }
  return all;
}

std::string version() {
  return violet::concat({VIOLET_VERSION_MAJOR, ".", VIOLET_VERSION_MINOR, ".",
                         VIOLET_VERSION_PATCH});
}

// -------------------------------------------------------------- what it says

/// A block ```KIND of README.md that contains a text.
std::string block(const std::string& kind, const std::string& part) {
  const std::string readme = contents("README.md");
  const std::string begin = "\n```" + kind + '\n';
  auto at = readme.find(begin);
  while (at != readme.npos) {
    at += begin.size();
    const std::string text = readme.substr(at, readme.find("```", at) - at);
    if (contains(text, part)) return text;
    at = readme.find(begin, at);
  }
  fail("README.md has no block " + kind + " with " + part);
}

/// The commands of a section of README.md, one a line.
Words commands(const std::string& section) {
  const std::string readme = contents("README.md");
  const auto begin = readme.find("\n## " + section + '\n');
  std::istringstream text(
      readme.substr(begin, readme.find("\n## ", begin + 1) - begin));
  Words found;
  for (std::string line; std::getline(text, line);) {
    if (line.rfind("    ", 0) == 0) found.push_back(line.substr(4));
  }
  return found;
}

/// Those that begin with a word and contain another.
std::string command(const std::string& tool, const std::string& part) {
  std::string all;
  for (const std::string& line : commands("Installing")) {
    if (line.rfind("export ", 0) == 0) all += line + '\n';
    if (line.rfind(tool, 0) == 0 && contains(line, part)) return all + line;
  }
  fail("README.md has no command " + tool + " .. " + part);
}

std::string joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += word + ' ';
  return text;
}

/// A user's project, which README's commands are typed in.
class Project {
 public:
  Project(const Folder& folder, const std::string& name,
          const std::string& source)
      : path_(folder / name) {
    fs::create_directory(path_);
    std::ofstream(path_ + "/hello.cpp") << source;
    std::ofstream(path_ + "/CMakeLists.txt") << block("cmake", "find_package");
  }

  /// Builds with a command, and runs what has become of it.
  void build(std::string typed, const std::string& prefix,
             const std::string& program, const std::string& says) const {
    Words compiler = compiler_command();
    if (const auto at = typed.find("g++"); at != typed.npos) {
      typed.replace(at, 3, joined(compiler));
    }
    const auto compiler_words = std::ssize(programs::compiler());
    if (typed.ends_with("-lviolet")) typed += " $KQUEUE_LIBS";
    compiler.erase(compiler.begin(), compiler.begin() + compiler_words);
    const Run built = run({"sh", "-c", "set -e; cd " + path_ + '\n' + typed},
                          {"prefix=" + prefix, "CXX=" + compiler_name(),
                           "CXXFLAGS=" + joined(compiler)});
    CAPTURE(typed, built.out, built.err);
    REQUIRE(built.code == 0);
    CHECK(built.err == "");
    const Run ran = run({path_ + '/' + program});
    CHECK(ran.code == 0);
    CHECK(contains(ran.out, says));
    CHECK(ran.err == "");
  }

 private:
  std::string path_;
};

}  // namespace

// ------------------------------------------------------------------ the files

TEST_CASE("install: everything is there, whoever reads it", "[install]") {
  const Folder folder;
  const mode_t before = ::umask(077);
  make_well("install", {"DESTDIR=" + folder.path(), "PREFIX=/opt/violet"});
  ::umask(before);
  const std::string prefix = folder / "opt/violet/";
  const auto installed = files_in(folder / "opt");
  const auto all = everything();
  CHECK(all.size() == installed.size());
  for (const auto& [name, mode] : all) {
    CAPTURE(name);
    const auto found = installed.find("violet/" + name);
    REQUIRE(found != installed.end());
    CHECK(found->second == mode);
  }
  for (const std::string name :
       {"runtime/scheduler.hpp", "net/server.hpp", "runtime/testing.hpp"}) {
    CHECK(contents(prefix + "include/violet/" + name) == contents(name));
  }
  CHECK((contents(prefix + "bin/violet-echo") == contents(build_path("echo"))));
  for (const std::string name :
       {"lib/pkgconfig/violet.pc", "lib/cmake/violet/violet-config.cmake"}) {
    CHECK(!contains(contents(prefix + name), folder.path()));
  }
}

TEST_CASE("install: uninstall removes what it has brought, and nothing else",
          "[install]") {
  const Folder folder;
  const Words place{"PREFIX=" + folder / "prefix"};
  make_well("install", place);
  make_well("install", place);  // over what is there
  CHECK(files_in(folder / "prefix").size() == everything().size());
  const std::string foreign[] = {"prefix/include/violet/net/mine.hpp",
                                 "prefix/lib/libother.a"};
  for (const std::string& name : foreign) std::ofstream(folder / name) << "x";
  make_well("uninstall", place);
  CHECK(files_in(folder.path()).size() == 2);
  for (const std::string& name : foreign) {
    CHECK(contents(folder / name) == "x");
    fs::remove(folder / name);
  }
  CHECK(!fs::exists(folder / "prefix/lib/cmake/violet"));
  CHECK(!fs::exists(folder / "prefix/share/doc/violet"));
  make_well("uninstall", place);  // of what is not there
  CHECK(!fs::exists(folder / "prefix/include/violet"));
}

TEST_CASE("install: what is built is installed as it is", "[install]") {
  const Folder folder;
  const std::string place = "PREFIX=" + folder / "prefix";
  const Words others{"CXX=/no/compiler", "OPT=-O7"};
  const Run kept = make("install", {place}, others);
  CAPTURE(kept.out, kept.err);
  CHECK(kept.code == 0);
  CHECK(contains(kept.out, "not with those of now"));
  CHECK(files_in(folder / "prefix").size() == everything().size());

  const Run newer =
      make("install", {place, "-n", "-W", "runtime/sys.hpp"}, others);
  CHECK(newer.code == 2);
  CHECK(contains(newer.err, "out of date"));
  CHECK(contains(newer.err, "run make with the ones you want"));

  const Run asked = make("install", {place, "-n", others[0], others[1]});
  CHECK(asked.code == 0);
  CHECK(contains(asked.out, "compile"));
}

TEST_CASE("install: settings are known again, however long they are",
          "[install]") {
  const Folder folder;
  const std::string flags = folder / "b/flags";
  for (std::size_t size = 10; size < 200; size += 10) {
    const std::string build = "BUILD=" + folder / "b";
    const std::string more = "CXXFLAGS=-D" + std::string(size, 'x');
    const Run written = make(flags, {build, more});
    CAPTURE(size, written.err);
    CHECK(written.code == 0);
    CHECK(make(flags, {build, more, "-q"}).code == 0);  // nothing to be done
  }
}

TEST_CASE("install: a folder that cannot be is named", "[install]") {
  const Folder folder;
  const std::string stage = "DESTDIR=" + folder / "a stage";
  for (const char* prefix : {"", "relative", "~/home", "/with space", "/it's",
                             "/a\"b", "/a%b", "/a#b", "/a;b", "/a\\b"}) {
    for (const char* target : {"install", "uninstall"}) {
      const Run refused =
          make(target, {stage, std::string("PREFIX=") + prefix});
      CAPTURE(prefix, refused.err);
      CHECK(refused.code == 2);
      CHECK(contains(refused.err, std::string("PREFIX is '") + prefix + "'"));
      CHECK(contains(refused.err, "absolute path"));
    }
  }
  const Run odd = make("install", {stage, "LIBDIR=lib"});
  CHECK(contains(odd.err, "LIBDIR is 'lib'"));
  CHECK(contains(make("install", {stage + "'"}).err, "DESTDIR is"));
  CHECK(!fs::exists(folder / "a stage"));

  const Run closed = make("install", {"PREFIX=/dev/null/below"});
  CHECK(closed.code == 2);
  CHECK(contains(closed.err, "cannot write into /dev/null/below/"));
  CHECK(contains(closed.err, "try sudo make install, or make install PREFIX="));

  make_well("install", {stage});  // but this can be
  CHECK(files_in(folder / "a stage/usr/local").size() == everything().size());
  make_well("uninstall", {stage});
  CHECK(files_in(folder / "a stage").empty());
}

// ------------------------------------------------------------------ its users

TEST_CASE("install: programs are made as the README tells", "[install]") {
  const Folder folder;
  const std::string prefix = folder / "prefix";
  make_well("install", {"PREFIX=" + prefix});

  // This one includes all that there is.
  const Project tested(folder, "tested", block("cpp", "violet/testing.hpp"));
  tested.build(command("g++", "-lviolet"), prefix, "a.out", "right in ");

  const Project hello(folder, "hello", block("cpp", "sum_of_squares"));
  if (there_is("pkg-config")) {
    hello.build(command("g++", "pkg-config"), prefix, "a.out", "25\n");
  } else {
    WARN("skipped: there is no pkg-config here");
  }
  if (there_is("cmake")) {
    hello.build(command("cmake", "-B"), prefix, "build/hello", "25\n");
  } else {
    WARN("skipped: there is no cmake here");
  }
}

TEST_CASE("install: what is installed can be moved", "[install]") {
  const Folder folder;
  const std::string prefix = folder / "first";
  make_well("install", {"PREFIX=" + prefix, "LIBDIR=" + prefix + "/lib/here",
                        "INCLUDEDIR=" + prefix + "/include/there"});
  fs::create_directories(folder / "quite/another");
  fs::rename(prefix, folder / "quite/another/place");
  fs::create_directory_symlink("here", folder / "quite/another/place/lib/link");

  const std::string moved = folder / "quite/another/place";
  const Project hello(folder, "hello", block("cpp", "sum_of_squares"));
  if (there_is("pkg-config")) {
    const std::string typed = command("g++", "pkg-config");
    const auto at = typed.find("lib/pkgconfig");
    REQUIRE(at != typed.npos);
    hello.build(std::string(typed).replace(at, 3, "lib/link"), moved, "a.out",
                "25\n");
  }
  if (there_is("cmake")) {
    hello.build(
        "cmake -B build -Dviolet_DIR=$prefix/lib/link/cmake/violet && "
        "cmake --build build",
        moved, "build/hello", "25\n");
  }
}

TEST_CASE("install: folders elsewhere are told as they are", "[install]") {
  const Folder folder;
  make_well("install", {"DESTDIR=" + folder.path(), "PREFIX=/opt/violet",
                        "LIBDIR=/usr/lib64", "INCLUDEDIR=/usr/include"});
  const std::string pc = contents(folder / "usr/lib64/pkgconfig/violet.pc");
  CHECK(contains(pc, "prefix=/opt/violet\n"));
  CHECK(contains(pc, "libdir=/usr/lib64\n"));
  CHECK(contains(pc, "includedir=/usr/include\n"));
  const std::string config =
      contents(folder / "usr/lib64/cmake/violet/violet-config.cmake");
  CHECK(contains(config, "\"/usr/lib64/libviolet.a\""));
  CHECK(contains(config, "\"/usr/include\""));
}

TEST_CASE("install: the headers warn of nothing in anybody's code",
          "[install]") {
  const Folder folder;
  make_well("install", {"PREFIX=" + folder / "prefix"});
  const std::string source = folder / "all.cpp";
  std::ofstream(source) << "#include <violet.hpp>\n"
                           "#include <violet/testing.hpp>\n";
  Words compile = compiler_command();
  for (const char* word :
       {"-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
        "-Wsign-conversion", "-Wshadow", "-Wold-style-cast", "-Wundef",
        "-Werror", "-c", "-I"}) {
    compile.push_back(word);
  }
  compile.push_back(folder / "prefix/include");
  compile.insert(compile.end(), {source, "-o", folder / "all.o"});
  const Run compiled = run(compile);
  CAPTURE(compiled.err);
  CHECK(compiled.code == 0);
  CHECK(compiled.err == "");
}

// Some 20 s, so not in each run: make test TESTS='[headers]'.
TEST_CASE("install: each header can be included alone",
          "[.][install][headers]") {
  const Folder folder;
  make_well("install", {"PREFIX=" + folder / "prefix"});
  for (const auto& [name, mode] : files_in(folder / "prefix/include")) {
    CAPTURE(name, mode);
    const std::string source = folder / "one.cpp";
    std::ofstream(source) << "#include <" + name + ">\n";
    Words compile = compiler_command();
    compile.insert(compile.end(),
                   {"-std=c++20", "-Wall", "-Wextra", "-Werror",
                    "-fsyntax-only", "-I" + folder / "prefix/include", source});
    const Run compiled = run(compile);
    CAPTURE(compiled.err);
    CHECK(compiled.code == 0);
  }
}

// ---------------------------------------------------------------- the version

TEST_CASE("install: one version is told in all places", "[install]") {
  const Folder folder;
  make_well("install", {"PREFIX=" + folder / "prefix"});
  CHECK(contains(contents(folder / "prefix/lib/pkgconfig/violet.pc"),
                 "\nVersion: " + version() + '\n'));
  CHECK(contains(contents(folder / ("prefix/lib/cmake/violet/"
                                    "violet-config-version.cmake")),
                 "set(PACKAGE_VERSION " + version() + ")\n"));
}

TEST_CASE("install: CMake accepts what is compatible", "[install]") {
  if (!there_is("cmake")) {
    WARN("skipped: there is no cmake here");
    return;
  }
  const Folder folder;
  make_well("install", {"PREFIX=" + folder / "prefix"});
  const std::string file =
      folder / "prefix/lib/cmake/violet/violet-config-version.cmake";
  const int major = VIOLET_VERSION_MAJOR;
  const int minor = VIOLET_VERSION_MINOR;
  const int patch = VIOLET_VERSION_PATCH;
  const std::string series = violet::concat({major, ".", minor});
  const std::string next = violet::concat({major, ".", minor + 1});
  struct Request {
    std::string wanted;  // or the least
    std::string most;    // of a range, if it is one
    bool included;
    bool good;
  };
  const Request requests[] = {
      {series, "", false, true},
      {version(), "", false, true},
      {violet::concat({series, ".", patch + 1}), "", false, false},
      {next, "", false, false},
      {violet::concat({major + 1}), "", false, false},
      {violet::concat({series, "1"}), "", false, false},
      {"0.0", next, false, true},
      {"0.0", version(), true, true},
      {"0.0", version(), false, false},
      {next, "99", true, false},
  };
  for (const Request& one : requests) {
    CAPTURE(one.wanted, one.most, one.included);
    const std::string script = folder / "ask.cmake";
    std::ofstream ask(script);
    ask << "set(PACKAGE_FIND_VERSION " << one.wanted << ")\n";
    if (!one.most.empty()) {
      ask << "set(PACKAGE_FIND_VERSION_RANGE " << one.wanted << "...)\n"
          << "set(PACKAGE_FIND_VERSION_MIN " << one.wanted << ")\n"
          << "set(PACKAGE_FIND_VERSION_MAX " << one.most << ")\n"
          << "set(PACKAGE_FIND_VERSION_RANGE_MAX "
          << (one.included ? "INCLUDE" : "EXCLUDE") << ")\n";
    }
    ask << "include(" << file << ")\n"
        << "message(\"${PACKAGE_VERSION_COMPATIBLE}\")\n";
    ask.close();
    const Run answer = run({"cmake", "-P", script});
    CHECK(answer.code == 0);
    CHECK(answer.err == (one.good ? "TRUE\n" : "FALSE\n"));
  }
}

// --------------------------------------------- the programs and their manuals

TEST_CASE("install: a program knows its name", "[install]") {
  const Folder folder;
  make_well("install", {"PREFIX=" + folder / "prefix"});
  const std::string bin = folder / "prefix/bin/";
  CHECK(!fs::exists(bin + "echo"));
  for (const std::string& app : names_in("apps", ".cpp")) {
    const std::string name = "violet-" + app;
    CAPTURE(name);
    const Run help = run({bin + name, "--help"});
    CHECK(help.code == 0);
    CHECK(help.out.rfind(name + " - ", 0) == 0);
    CHECK(contains(help.out, "usage: " + name + ' '));
    const Run bad = run({bin + name, "--no-such-thing"});
    CHECK(bad.code == 2);
    CHECK(bad.err.rfind(name + ": ", 0) == 0);
  }
  Program server({bin + "violet-echo", "--port", "0"});
  CHECK(server.line().rfind("violet-echo: listening on ", 0) == 0);
  CHECK(server.stop().code == 0);
  CHECK(server.err() == "violet-echo: stopped: 0 served, 0 cut\n");
}

namespace {

/// An option, as a usage text or a manual tells of it.
struct Option {
  std::string word;  // of its value
  std::string text;
};
using Options = std::map<std::string, Option>;

/// Whether it is what stands for a value: N, TIME.
bool is_placeholder(const std::string& word) {
  return word.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == word.npos;
}

/// "  --port N   port, 0 for any free one (4915)"
Options options_of_help(const std::string& help) {
  Options options;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string flag;
    std::string next;
    if (!(words >> flag >> next) || flag.rfind("--", 0) != 0) continue;
    options[flag] = {is_placeholder(next) ? next : "", line};
  }
  return options;
}

/// ".It Fl -port Ar N" and what follows it; for the synopsis, ".Op Fl ..".
Options options_of_manual(const std::string& page, const std::string& macro) {
  Options options;
  std::istringstream lines(page);
  Option* last = nullptr;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first;
    std::string fl;
    std::string flag;
    std::string ar;
    std::string word;
    words >> first >> fl >> flag >> ar >> word;
    if (first == macro && fl == "Fl") {
      last = &options['-' + flag];
      if (ar == "Ar") last->word = word;
    } else if (first == ".It" || first == ".El") {
      last = nullptr;
    } else if (last != nullptr) {
      last->text += line + '\n';
    }
  }
  return options;
}

std::string listed(const Options& options) {
  std::string text;
  for (const auto& [flag, option] : options) {
    text += flag + ' ' + option.word + '\n';
  }
  return text;
}

}  // namespace

TEST_CASE("install: manuals and --help tell of the same options", "[install]") {
  for (const std::string& app : names_in("apps", ".cpp")) {
    CAPTURE(app);
    // What is told of an option that several commands have is told of one.
    Options helped = options_of_help(run({build_path(app), "--help"}).out);
    for (const char* command : {"serve", "put", "get"}) {
      if (app != "transfer") break;
      helped.merge(
          options_of_help(run({build_path(app), command, "--help"}).out));
    }
    CHECK(helped.count("--help") == 1);
    const std::string page = contents("apps/" + app + ".1");
    CHECK(contains(page, "\n.Nm violet-" + app + '\n'));
    const Options items = options_of_manual(page, ".It");
    CHECK(listed(items) == listed(helped));
    const std::string head = page.substr(0, page.find(".Sh DESCRIPTION"));
    Options synopsis = options_of_manual(head, ".Op");
    synopsis["--help"];
    CHECK(listed(synopsis) == listed(helped));
    for (const auto& [flag, option] : helped) {
      CAPTURE(flag);
      const auto open = option.text.rfind('(');
      if (open == option.text.npos || items.count(flag) == 0) continue;
      std::string value = option.text.substr(open + 1);
      value.resize(value.find(')'));
      const std::string& text = items.at(flag).text;
      const bool told = contains(text, "default is " + value) ||
                        contains(text, value + ", the default");
      CHECK(told);
    }
  }
}

TEST_CASE("install: manuals render without a warning", "[install]") {
  Words tool{"mandoc", "-T", "lint", "-W", "warning"};
  if (!there_is(tool[0])) tool = {"groff", "-mdoc", "-Tutf8", "-ww", "-z"};
  if (!there_is(tool[0])) {
    WARN("skipped: there is neither mandoc nor groff here");
    return;
  }
  for (const std::string& name : names_in("apps", ".1")) {
    Words command = tool;
    command.push_back("apps/" + name + ".1");
    const Run rendered = run(command);
    CAPTURE(name, rendered.err);
    CHECK(rendered.code == 0);
    CHECK(rendered.out == "");
    CHECK(rendered.err == "");
  }
}
