// browser_test.cpp - the upload page in a real browser.
//
// browser.mjs does what a person would do, with Chromium by way of
// playwright-core; here stands what must be on the disk afterwards. Without
// node, chromium, or playwright-core below the build directory, all of it is
// skipped:
//
//     apt-get install chromium nodejs npm
//     npm install --prefix build/browser playwright-core@1.56.0
//
// (later ones may want a later node than Debian 12 has).
//
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "program.hpp"
#include "support.hpp"
#include "transfer_support.hpp"

using namespace programs;

namespace {

using Words = std::vector<std::string>;

constexpr std::size_t kPiece = 5u << 20;

std::string playwright() {
  const std::string modules = build_path("browser/node_modules/");
  return std::filesystem::absolute(modules + "playwright-core");
}

/// Says so where the machine has no browser to drive.
bool has_browser() {
  for (const char* tool : {"node", "chromium"}) {
    const std::string asks = std::string("command -v ") + tool;
    if (std::system((asks + " > /dev/null").c_str()) == 0) continue;
    WARN("skipped: there is no " << tool << " here");
    return false;
  }
  if (std::filesystem::exists(playwright())) return true;
  WARN("skipped: playwright-core is not at " << playwright());
  return false;
}

/// `transfer serve`, which may die and come back at the same port.
class Server {
 public:
  explicit Server(const Folder& folder, const std::string& shell = ":")
      : folder_(folder), shell_(shell) {
    start("0");
    port_ = port_in(program_->line());
  }

  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/";
  }

  void kill() { program_->stop(SIGKILL); }
  void start_again() {
    start(std::to_string(port_));
    program_->line();
  }

 private:
  void start(const std::string& port) {
    program_.emplace(Words{"/bin/sh", "-c", shell_ + "; exec \"$0\" \"$@\"",
                           build_path("transfer"), "serve", "--quiet", "--port",
                           port, "--dir", folder_.path()});
  }

  const Folder& folder_;
  const std::string shell_;
  std::uint16_t port_ = 0;
  std::optional<Program> program_;
};

/// A step of browser.mjs with these files.
struct Step : Program {
  Step(const char* name, const Server& server, const Words& paths)
      : Program(command(name, server, paths)) {}

  static Words command(const char* name, const Server& server,
                       const Words& paths) {
    Words words{"node", "tests/browser.mjs", playwright(), name, server.url()};
    words.insert(words.end(), paths.begin(), paths.end());
    return words;
  }

  void finish() {
    const End end = wait();
    CAPTURE(out(), err());
    CHECK(end.code == 0);
  }
};

/// Files to be uploaded.
class Files {
 public:
  void add(const std::string& name, const std::string& data) {
    paths_.push_back(folder_.file(name));
    std::ofstream(paths_.back(), std::ios::binary) << data;
  }
  void add_folder(const std::string& name) {
    paths_.push_back(folder_.file(name));
    REQUIRE(::mkdir(paths_.back().c_str(), 0777) == 0);
  }
  const Words& paths() const { return paths_; }

  void check_stored(const Folder& there) const {
    for (const std::string& name : folder_.names()) {
      CAPTURE(name);
      CHECK((contents(there.file(name)) == contents(folder_.file(name))));
      CHECK(std::filesystem::exists(there.file(name)));
    }
  }

 private:
  const Folder folder_;
  Words paths_;
};

/// Uploads the files by each of the ways that the page has.
void check_every_way(const Files& files) {
  for (const char* way : {"drop", "dropFromOutside", "choose", "plain"}) {
    CAPTURE(way);
    const Folder folder;
    Server server(folder);
    Step(way, server, files.paths()).finish();
    files.check_stored(folder);
  }
}

}  // namespace

TEST_CASE("browser: files of every size arrive, however they are given",
          "[browser]") {
  if (!has_browser()) return;
  Files files;
  std::uint32_t seed = 0;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, kPiece - 1, kPiece, kPiece + 1,
        (std::size_t{12} << 20) + 1}) {
    files.add("size-" + std::to_string(size), noise(size, ++seed));
  }
  check_every_way(files);
}

TEST_CASE("browser: names that need escaping come through as they are",
          "[browser]") {
  if (!has_browser()) return;
  Files files;
  for (const char* name :
       {"a b#c.txt", "100%", "%41?x=y&z", "q\"uo'te", "<b>x&amp;",
        "\xc3\xa4\xc3\xb6\xc3\xbc \xe6\x97\xa5 \xf0\x9f\x98\x80",
        "javascript:alert(1)", " lead trail "}) {
    files.add(name, name);
  }
  check_every_way(files);
}

TEST_CASE("browser: what is refused says why, and hinders nothing else",
          "[browser]") {
  if (!has_browser()) return;
  const Folder folder;
  REQUIRE(::mkdir(folder.file("folder").c_str(), 0777) == 0);
  Server server(folder);
  Files files;
  files.add(".hidden", "x");
  files.add("folder", "x");
  files.add_folder("dropped");
  files.add("good", "x");
  Step("refused", server, files.paths()).finish();
  CHECK(folder.names() == Names{".good.upload", "folder", "good"});
  Step("plainRefused", server, {files.paths()[0]}).finish();
  CHECK_FALSE(std::filesystem::exists(folder.file(".hidden")));
}

TEST_CASE(
    "browser: another upload of a name is in the way until it is told to "
    "go",
    "[browser]") {
  if (!has_browser()) return;
  const Folder folder;
  Server server(folder);
  Files files;
  files.add("film", noise((12u << 20) + 1));
  Step("conflict", server, files.paths()).finish();
  files.check_stored(folder);
}

TEST_CASE("browser: a file is known by its bytes, not by name, size and time",
          "[browser]") {
  if (!has_browser()) return;
  const Folder folder;
  const Server server(folder);
  Step("lookalike", server, {}).finish();
}

TEST_CASE("browser: a full disk is told", "[browser]") {
  if (!has_browser()) return;
  if (support::kSanitized) return;  // TSan's shadow is a file, and limited, too
  const Folder folder;
  Server server(folder, "ulimit -f 600; trap '' XFSZ");
  Files files;
  files.add("large", noise(kPiece));
  Step("full", server, files.paths()).finish();
  CHECK_FALSE(std::filesystem::exists(folder.file("large")));
}

TEST_CASE("browser: an upload outlives its server", "[browser]") {
  if (!has_browser()) return;
  Files files;
  files.add("film", noise(5 * kPiece - 1));
  for (const char* how : {"restart", "death"}) {
    CAPTURE(how);
    const Folder folder;
    Server server(folder);
    Step step(how, server, files.paths());
    REQUIRE(step.line() == "kill");
    server.kill();
    REQUIRE(step.line() == "start");
    server.start_again();
    step.finish();
    files.check_stored(folder);
  }
}
