// upload_test.cpp - the upload server, as its clients and its disk see it.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "program.hpp"
#include "support.hpp"

using namespace programs;
using support::contains;

namespace {

using Words = std::vector<std::string>;

using Store = TemporaryFolder;

/// An upload server on a port of its own, ready for clients.
struct Upload : Program {
  explicit Upload(const Store& store, const Words& options = {},
                  const std::string& shell = "")
      : Program(command_of(store, options, shell)) {
    port = port_in(line());
  }

  static Words command_of(const Store& store, const Words& options,
                          const std::string& shell) {
    Words command{build_path("upload"), "--port", "0", "--dir", store.path()};
    command.insert(command.end(), options.begin(), options.end());
    if (shell.empty()) return command;
    Words whole{"/bin/sh", "-c", shell + "; exec \"$0\" \"$@\""};
    whole.insert(whole.end(), command.begin(), command.end());
    return whole;
  }

  /// Sends all of it. Returns: the answer.
  std::string store(std::string_view data) const {
    const Client client(port);
    client.send(data);
    client.finish_sending();
    return client.receive_rest();
  }

  std::uint16_t port = 0;
};

/// Makes a server process 1 of a namespace of its own, as in a container, where
/// that may be done.
const char* const kAsProcessOne =
    "for how in -pf -rpf; do unshare $how --kill-child true 2>/dev/null && "
    "exec unshare $how --kill-child \"$0\" \"$@\"; done";

#ifdef __linux__
/// A program whose link(2) has done its work and does not return, or whose
/// flock(2) does not begin, for as long as it is held.
class SlowCall {
 public:
  explicit SlowCall(const std::string& name) {
    std::ofstream(source_) << R"(
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static void wait() {
          while (access(getenv("VIOLET_TEST_HOLD"), F_OK) == 0) usleep(1000);
        }
        extern "C" int slow_link(const char* from, const char* to) noexcept {
          const long result =
              syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
          wait();
          return static_cast<int>(result);
        }
        extern "C" int slow_flock(int fd, int how) noexcept {
          wait();
          return static_cast<int>(syscall(SYS_flock, fd, how));
        })";
    Words command = compiler();
    command.insert(command.end(), {"-Dslow_" + name + "=" + name, "-shared",
                                   "-fPIC", "-o", library_, source_});
    Program made(command);
    if (made.wait().code != 0) fail("no library: " + made.err());
  }

  std::string shell() const {
    return "ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0 "
           "VIOLET_TEST_HOLD=" +
           held_ + " LD_PRELOAD=" + library_ +
           "; export ASAN_OPTIONS VIOLET_TEST_HOLD LD_PRELOAD";
  }
  void hold() const { const std::ofstream made(held_); }
  void let_go() const { ::unlink(held_.c_str()); }

 private:
  TemporaryFolder folder_;
  const std::string source_ = folder_.file("slow.cpp");
  const std::string library_ = folder_.file("slow.so");
  const std::string held_ = folder_.file("held");
};
#endif

std::string stored(int number, std::size_t size) {
  return "stored upload-" + std::to_string(number) + " " +
         std::to_string(size) + "\n";
}

}  // namespace

TEST_CASE("upload: what a client sends becomes a file, byte for byte",
          "[upload]") {
  const Store store;
  Upload upload(store);
  int number = 0;
  for (const std::size_t size : {0u, 1u, 65535u, 65536u, 65537u, 3000000u}) {
    CAPTURE(size);
    const std::string data = noise(size);
    CHECK(upload.store(data) == stored(++number, size));
    const std::string path = store.file("upload-" + std::to_string(number));
    CHECK((contents(path) == data));
  }
  CHECK(store.names().size() == 6);
  CHECK(upload.stop(SIGINT).code == 0);
  CHECK(upload.err() == "upload: stopped: 6 served, 0 cut\n");
}

TEST_CASE("upload: a file that is there is never touched", "[upload]") {
  const Store store;
  std::ofstream(store.file("upload-1")) << "mine";
  std::ofstream(store.file("upload-3")) << "mine, too";
  const Upload upload(store);
  CHECK(upload.store("a") == stored(2, 1));
  CHECK(upload.store("b") == stored(4, 1));
  CHECK(contents(store.file("upload-1")) == "mine");
  CHECK(contents(store.file("upload-3")) == "mine, too");
}

TEST_CASE("upload: a file is not seen before all of it is there", "[upload]") {
  const Store store;
  Upload upload(store);
  Client client(upload.port);
  client.send("half of");
  eventually("a part file", [&] { return store.names().size() == 1; });
  CHECK(contains(store.names()[0], ".upload-"));
  client.send(" it");
  client.finish_sending();
  CHECK(client.receive_rest() == stored(1, 10));
  CHECK(store.names() == Words{"upload-1"});
}

TEST_CASE("upload: a reset leaves nothing", "[upload][libkqueue:so_error]") {
  const Store store;
  Upload upload(store);
  for (int i = 0; i < 20; ++i) {
    Client client(upload.port);
    client.send(noise(static_cast<std::size_t>(i) * 10'000));
    client.reset();
  }
  CHECK(upload.store("after all") == stored(1, 9));
  eventually("a folder without parts",
             [&] { return store.names() == Words{"upload-1"}; });
}

TEST_CASE("upload: only so many store at a time, the others wait in line",
          "[upload]") {
  const Store store;
  Upload upload(store, {"--max-transfers", "2"});
  std::list<Client> clients;
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back(upload.port).send("x");
    const auto lines = static_cast<std::size_t>(std::max(0, i - 1));
    const std::size_t storing = std::min<std::size_t>(2, clients.size());
    eventually("a client in its place", [&] {
      const std::string dump = upload.dump();
      return count_of(dump, "waiting for recv fd") == storing &&
             count_of(dump, "semaphore") >= lines;
    });
  }
  CHECK(store.names().size() == 2);
  // Who came first is served first, whoever has finished first.
  for (Client& client : clients) client.finish_sending();
  int number = 0;
  for (Client& client : clients) {
    CAPTURE(++number);
    CHECK(contains(client.receive_rest(), "stored upload-"));
  }
  CHECK(store.names().size() == 5);
}

TEST_CASE("upload: a disk that is full is told, and nothing stays",
          "[upload]") {
  const Store store;
  Upload upload(store, {}, "ulimit -f 100; trap '' XFSZ");
  const std::string answer = upload.store(noise(1 << 20));
  CHECK(contains(answer, "failed: write " + store.path() + "/.upload-"));
  CHECK(contains(answer, ".part: File too large\n"));
  CHECK(store.names().empty());
  upload.wait_for_error("File too large");
  CHECK(upload.store("little") == stored(1, 6));
}

TEST_CASE("upload: who sends too much is told so, even while it sends",
          "[upload]") {
  const Store store;
  Upload upload(store, {"--max-size", "100KiB"});
  CHECK(upload.store(noise(100 * 1024)) == stored(1, 100 * 1024));
  CHECK(upload.store(noise(4 << 20)) ==
        "failed: store more than 102400 bytes: File too large\n");
  CHECK(store.names() == Words{"upload-1"});
}

TEST_CASE("upload: who stalls is given up", "[upload]") {
  const Store store;
  Upload upload(store, {"--idle-timeout", "20ms", "--max-transfers", "1"});
  Client client(upload.port);
  client.send("and then");
  CHECK(client.receive_rest() == "failed: receive: Connection timed out\n");
  client.close();
  CHECK(upload.store("x") == stored(1, 1));
  CHECK(store.names() == Words{"upload-1"});
}

TEST_CASE(
    "upload: a stop gives clients their time, and leaves nothing of who "
    "is cut",
    "[upload]") {
  const Store store;
  Upload upload(store, {"--grace", "100ms"});
  const Client client(upload.port);
  client.send("never ended");
  eventually("a part file", [&] { return store.names().size() == 1; });
  CHECK(upload.stop(SIGTERM).code == 0);
  CHECK(contains(upload.err(), "upload: stopped: 1 served, 1 cut\n"));
  CHECK(store.names().empty());
}

TEST_CASE("upload: what a killed process has left goes at the next start",
          "[upload]") {
  const Store store;
  {
    Upload killed(store);
    const Client client(killed.port);
    client.send("never ended");
    eventually("a part file", [&] { return store.names().size() == 1; });
    killed.signal(SIGKILL);
    killed.wait();
  }
  const std::string of_others = store.file(".upload-7.part");
  std::ofstream(of_others) << "still alive";
  const violet::Fd lock(::open(of_others.c_str(), O_WRONLY | O_CLOEXEC));
  REQUIRE(::flock(lock.get(), LOCK_EX) == 0);
  CHECK(store.names().size() == 2);
  const Upload upload(store);
  CHECK(store.names() == Words{".upload-7.part"});
  CHECK(contents(of_others) == "still alive");
}

TEST_CASE("upload: a part of another server is neither taken nor removed",
          "[upload]") {
  const Store store;
  Upload upload(store);
  const Words others{".upload-2.part", ".upload-3.part", ".upload-4.part"};
  for (const std::string& name : others) std::ofstream(store.file(name)) << "x";
  CHECK(upload.store("mine") == stored(1, 4));
  CHECK(contents(store.file("upload-1")) == "mine");
  {
    Client client(upload.port);
    client.send("never ended");
    eventually("a part file", [&] { return store.names().size() == 5; });
    client.reset();
  }
  eventually("its end", [&] { return store.names().size() == 4; });
  for (const std::string& name : others) {
    CHECK(contents(store.file(name)) == "x");
  }
}

TEST_CASE("upload: two containers that share a folder spare each other's parts",
          "[upload]") {
  const Store store;
  const Upload one(store, {}, kAsProcessOne);
  const Client first(one.port);
  first.send("first");
  eventually("a part file", [&] { return store.names().size() == 1; });
  const Upload other(store, {}, kAsProcessOne);
  const Client second(other.port);
  second.send("second");
  eventually("two part files", [&] { return store.names().size() == 2; });
  first.finish_sending();
  CHECK(first.receive_rest() == stored(1, 5));
  second.finish_sending();
  CHECK(second.receive_rest() == stored(2, 6));
  CHECK(contents(store.file("upload-1")) == "first");
  CHECK(contents(store.file("upload-2")) == "second");
  CHECK(store.names() == Words{"upload-1", "upload-2"});
}

TEST_CASE(
    "upload: a container that was killed starts again with a clean folder",
    "[upload]") {
  const Store store;
  {
    Upload killed(store, {}, kAsProcessOne);
    const Client client(killed.port);
    client.send("never ended");
    eventually("a part file", [&] { return store.names().size() == 1; });
    killed.signal(SIGKILL);
    killed.wait();
  }
  CHECK(store.names().size() == 1);
  const Upload upload(store, {}, kAsProcessOne);
  CHECK(store.names().empty());
  CHECK(upload.store("x") == stored(1, 1));
}

TEST_CASE("upload: servers that start take no part from one that is at work",
          "[upload]") {
  const Store store;
  const Upload upload(store);
  std::atomic<bool> over = false;
  std::atomic<int> failed = 0;
  std::atomic<int> done = 0;
  std::thread clients([&] {
    while (!over) {
      const std::string answer = upload.store("x");
      if (answer.rfind("stored ", 0) != 0) ++failed;
      ++done;
    }
  });
  try {
    for (int i = 0; i < 10; ++i) const Upload other(store);
    eventually("an upload", [&] { return done > 0; });
  } catch (...) {
    ++failed;
  }
  over = true;
  clients.join();
  CHECK(failed == 0);
  CHECK(store.names().size() == static_cast<std::size_t>(done));
}

#ifdef __linux__
TEST_CASE("upload: a part that goes before it is locked is made anew",
          "[upload]") {
  const Store store;
  const SlowCall slow("flock");
  const Upload upload(store, {}, slow.shell());
  slow.hold();
  const Client client(upload.port);
  client.send("fo");
  eventually("a part file", [&] { return store.names().size() == 1; });
  const std::string first = store.names()[0];
  const Upload takes_it(store);
  CHECK(store.names().empty());
  slow.let_go();
  eventually("another", [&] { return store.names().size() == 1; });
  CHECK(store.names()[0] != first);
  client.send("ur");
  client.finish_sending();
  CHECK(client.receive_rest() == stored(1, 4));
  CHECK(contents(store.file("upload-1")) == "four");
}

TEST_CASE("upload: a kill while a file gets its name: told, or no file",
          "[upload]") {
  const bool twice = GENERATE(false, true);
  CAPTURE(twice);
  const Store store;
  const SlowCall slow("link");
  slow.hold();
  Upload upload(store, {"--grace", twice ? "1m" : "0"}, slow.shell());
  const Client client(upload.port);
  client.send("four");
  client.finish_sending();
  eventually("a name", [&] { return store.names().size() == 2; });
  upload.deliver(SIGTERM);
  if (twice) upload.deliver(SIGTERM);
  std::this_thread::sleep_for(50ms);  // for the kill to be there first
  slow.let_go();
  const std::string answer = client.receive_rest();
  upload.wait();
  CHECK((answer == "" || answer == stored(1, 4)));
  CHECK(store.names() == (answer.empty() ? Words{} : Words{"upload-1"}));
}

TEST_CASE("upload: who resets before it is told leaves no file", "[upload]") {
  const Store store;
  const SlowCall slow("link");
  slow.hold();
  const Upload upload(store, {}, slow.shell());
  Client client(upload.port);
  client.send("four");
  client.finish_sending();
  eventually("a name", [&] { return store.names().size() == 2; });
  client.reset();
  slow.let_go();
  eventually("an empty folder", [&] { return store.names().empty(); });
}
#endif

TEST_CASE("upload: who resets after the end of its stream leaves no file",
          "[upload][libkqueue:so_error]") {
  const Store store;
  Upload upload(store);
  Client client(upload.port);
  client.send("four");
  eventually("a part file", [&] { return store.names().size() == 1; });
  upload.freeze();
  client.finish_sending();
  client.reset();
  upload.thaw();
  eventually("an empty folder", [&] { return store.names().empty(); });
  CHECK(upload.store("x") == stored(1, 1));  // it has had no name
}

TEST_CASE("upload: who is refused and stays keeps nobody from storing",
          "[upload]") {
  const Store store;
  Upload upload(store, {"--max-transfers", "1", "--max-size", "1"});
  int number = 0;
  eventually("an upload while a refused client stays", [&] {
    const Client refused(upload.port);
    refused.send("too much");
    if (upload.store("x") != stored(++number, 1)) fail("not stored");
    return count_of(upload.dump(), "waiting for recv fd") == 1;
  });
}

TEST_CASE("upload: a size that is none is refused without a bound of -1",
          "[upload]") {
  Program upload({build_path("upload"), "--max-size", "5mb"});
  CHECK(upload.wait().code == 2);
  CHECK(upload.err() ==
        "upload: option '--max-size' takes a size such as 512 or 5MiB, not "
        "'5mb'; try --help\n");
}

TEST_CASE("upload: a folder without a name is refused", "[upload]") {
  Program upload({build_path("upload"), "--port", "0", "--dir", ""});
  CHECK(upload.wait().code == 2);
  CHECK(upload.err() ==
        "upload: option '--dir' needs a value, FOLDER; try --help\n");
}

TEST_CASE("upload: what is no folder, or cannot be written, is told at once",
          "[upload]") {
  const Store store;
  const std::string file = store.file("file");
  std::ofstream(file) << "x";
  Program upload({build_path("upload"), "--port", "0", "--dir", file});
  CHECK(upload.wait().code == 1);
  CHECK(upload.err() == "upload: open " + file + ": Not a directory\n");
  CHECK(upload.out() == "");
#ifdef __linux__
  Program sealed({build_path("upload"), "--port", "0", "--dir", "/proc"});
  CHECK(sealed.wait().code == 1);
  CHECK(contains(sealed.err(), "upload: open /proc/.upload-1.part: "));
  CHECK(count_of(sealed.err(), "\n") == 1);
  CHECK(sealed.out() == "");
#endif
}

TEST_CASE("upload: a folder that is not there is told in one line",
          "[upload]") {
  Program upload(
      {build_path("upload"), "--port", "0", "--dir", "/nowhere/at/all"});
  CHECK(upload.wait().code == 1);
  CHECK(upload.err() ==
        "upload: open /nowhere/at/all: No such file or directory\n");
  CHECK(upload.out() == "");
}

TEST_CASE("upload: a thousand clients at once, half of which reset",
          "[upload][libkqueue:so_error]") {
  const ManyDescriptors many;
  REQUIRE(many.at_least(1100));
  const Store store;
  Upload upload(store);
  std::list<std::pair<Client, std::string>> stay;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    std::string data = noise(i * 37 % 20'000, i);
    if (i % 2 == 0) {
      auto& [client, sent] = stay.emplace_back(upload.port, std::move(data));
      client.send(sent);
    } else {
      Client client(upload.port);
      client.send(data);
      client.reset();
    }
  }
  for (const auto& [client, sent] : stay) client.finish_sending();
  for (const auto& [client, sent] : stay) {
    const std::string answer = client.receive_rest();
    char name[32] = "";
    std::size_t size = 0;
    REQUIRE(std::sscanf(answer.c_str(), "stored %31s %zu", name, &size) == 2);
    CHECK(size == sent.size());
    CHECK((contents(store.file(name)) == sent));
  }
  eventually("a folder without parts",
             [&] { return store.names().size() == 500; });
  CHECK(upload.stop(SIGINT).code == 0);
}
