// socket_path_test.cpp - whose file it is, and when it goes.
// SPDX-License-Identifier: MIT
#include "../net/socket_path.hpp"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;
using support::is_of_libkqueue;
using support::text_of_error;

namespace {

bool exists(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0;
}

unsigned mode_of(const std::string& path) {
  struct stat status{};
  ::lstat(path.c_str(), &status);
  return status.st_mode & 0777u;
}

/// Leaves a socket behind on which nobody listens.
void leave_stale(const Address& address) {
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(fd.get(), address.get(), address.size()) == 0);
  REQUIRE(::listen(fd.get(), 1) == 0);
}

/// True if somebody listens there.
bool answers(const Address& address) {
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), address.get(), address.size()) == 0;
}

std::string refusal_of(const Address& address) {
  return thrown<std::system_error>([&] { const Listener listener(address); });
}

}  // namespace

TEST_CASE("socket path: it goes with its listener", "[socket_path]") {
  const Directory directory;
  const int how = GENERATE(0, 1, 2, 3);
  {
    Listener listener(directory.address());
    CHECK(exists(directory.file()));
    CHECK(answers(directory.address()));
    CHECK(listener.address() == directory.address());
    if (how == 1) listener.close();
    if (how == 2) listener = Listener();
    if (how == 3) listener.remove_path();
    CHECK(exists(directory.file()) == (how == 0));
    CHECK(bool(listener) == (how == 0 || how == 3));
  }
  CHECK_FALSE(exists(directory.file()));
}

TEST_CASE("socket path: a relative one goes when the process has moved, too",
          "[socket_path]") {
  const Directory directory;
  const Fd before(::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string name = directory.file();
  const std::size_t slash = name.rfind('/');
  REQUIRE(::chdir(name.substr(0, slash).c_str()) == 0);
  {
    const Listener listener(
        Address::parse("unix:" + name.substr(slash + 1), 0));
    CHECK(exists(name));
    REQUIRE(::fchdir(before.get()) == 0);
  }
  CHECK_FALSE(exists(name));
}

TEST_CASE("socket path: it goes with the last owner of its listener",
          "[socket_path]") {
  const Directory directory;
  std::optional<Listener> last;
  {
    Listener first(directory.address());
    Listener second(std::move(first));
    Listener third;
    third = std::move(second);
    last.emplace(std::move(third));
  }
  CHECK(answers(directory.address()));
  last.reset();
  CHECK_FALSE(exists(directory.file()));
}

TEST_CASE("socket path: one on which nobody listens is replaced",
          "[socket_path]") {
  const Directory directory;
  leave_stale(directory.address());
  REQUIRE(exists(directory.file()));
  {
    const Listener listener(directory.address());
    CHECK(answers(directory.address()));
  }
  CHECK_FALSE(exists(directory.file()));
}

TEST_CASE("socket path: one on which somebody listens is in use",
          "[socket_path]") {
  const Directory directory;
  const Listener listener(directory.address());
  const std::string text =
      "bind " + directory.address().text() + ": " + text_of_error(EADDRINUSE);
  CHECK(refusal_of(directory.address()) == text);
  CHECK(answers(directory.address()));
  // Also when its backlog is full, or it is of another kind.
  const Directory other;
  const Fd datagrams(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const Address there = other.address();
  REQUIRE(::bind(datagrams.get(), there.get(), there.size()) == 0);
  CHECK(contains(refusal_of(there), text_of_error(EADDRINUSE)));
  CHECK(exists(other.file()));
}

TEST_CASE("socket path: one whose backlog is full is in use", "[socket_path]") {
  const Directory directory;
  ListenOptions options;
  options.backlog = 1;
  const Listener listener(directory.address(), options);
  std::vector<Fd> clients;
  for (int result = 0; result == 0 && clients.size() < 100;) {
    clients.emplace_back(
        ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const Address there = directory.address();
    result = ::connect(clients.back().get(), there.get(), there.size());
  }
  CHECK(contains(refusal_of(directory.address()), text_of_error(EADDRINUSE)));
  CHECK(exists(directory.file()));
}

TEST_CASE("socket path: another file is never deleted", "[socket_path]") {
  const Directory directory;
  const std::string path = directory.file();
  const std::string text =
      "bind unix:" + path +
      " (there is a file that is no socket): " + text_of_error(EEXIST);
  SECTION("a regular one") {
    std::ofstream(path) << "precious";
    CHECK(refusal_of(directory.address()) == text);
    std::string content;
    std::ifstream(path) >> content;
    CHECK(content == "precious");
  }
  SECTION("a link, even to a socket on which nobody listens") {
    const Directory other;
    leave_stale(other.address());
    REQUIRE(::symlink(other.file().c_str(), path.c_str()) == 0);
    CHECK(refusal_of(directory.address()) == text);
    CHECK(exists(path));
    CHECK(exists(other.file()));
  }
  SECTION("a folder") {
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    CHECK(refusal_of(directory.address()) == text);
    CHECK(::rmdir(path.c_str()) == 0);
  }
}

TEST_CASE("socket path: one that is another's by now is left alone",
          "[socket_path]") {
  const Directory directory;
  const std::string path = directory.file();
  Listener listener(directory.address());
  ::unlink(path.c_str());
  SECTION("another server's") {
    const Listener other(directory.address());
    listener.close();
    CHECK(answers(directory.address()));
  }
  SECTION("a file's") {
    std::ofstream(path) << "precious";
    listener.close();
    CHECK(exists(path));
  }
  SECTION("nobody's") {
    listener.close();
    CHECK_FALSE(exists(path));
  }
}

TEST_CASE("socket path: a child that ends leaves its parent's alone",
          "[socket_path]") {
  const Directory directory;
  auto listener = std::make_unique<Listener>(directory.address());
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    listener.reset();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(answers(directory.address()));
  listener.reset();
  CHECK_FALSE(exists(directory.file()));
}

TEST_CASE("socket path: its mode is as asked", "[socket_path]") {
  const Directory directory;
  const mode_t before = ::umask(022);
  {
    const Listener plain(directory.address());
    CHECK(mode_of(directory.file()) == 0755);
  }
  ListenOptions options;
  options.mode = 0660;
  {
    const Listener open(directory.address(), options);
    CHECK(mode_of(directory.file()) == 0660);
  }
  ::umask(before);
}

TEST_CASE("socket path: what fails half-way leaves no file", "[socket_path]") {
  const Directory directory;
  const Call call = GENERATE(Call::kChmod, Call::kListen, Call::kGetsockname);
  ListenOptions options;
  options.mode = 0600;
  FaultPlan faults;
  faults.fail(call, EACCES);
  const std::string text = thrown<std::system_error>(
      [&] { const Listener listener(directory.address(), options); });
  CHECK(contains(text, text_of_error(EACCES)));
  CHECK_FALSE(exists(directory.file()));
}

TEST_CASE("socket path: without the lock nothing is replaced",
          "[socket_path]") {
  const Directory directory;
  leave_stale(directory.address());
  {
    FaultPlan faults;
    faults.fail(Call::kLockFolder, EACCES, 1, FaultPlan::kForEver);
    const std::string text = refusal_of(directory.address());
    CHECK(contains(text, text_of_error(EADDRINUSE)));
    CHECK(contains(text,
                   "nobody listens there, but its folder cannot be locked"));
    CHECK(exists(directory.file()));
    ::unlink(directory.file().c_str());
    // What needs no replacing works, and is removed.
    {
      const Listener listener(directory.address());
    }
    CHECK_FALSE(exists(directory.file()));
  }
}

TEST_CASE("socket path: a lock that somebody keeps is waited for",
          "[socket_path]") {
  class Kept final : public sys::Layer {
   public:
    int lock_folder(const char* path) noexcept override {
      return refusals-- > 0 ? -EWOULDBLOCK : Layer::lock_folder(path);
    }
    int poll(pollfd* some, unsigned long count, int timeout) noexcept override {
      if (count != 0) return Layer::poll(some, count, timeout);
      waited_ms += timeout;
      return 0;
    }
    int refusals = 0;
    int waited_ms = 0;
  };
  const Directory directory;
  leave_stale(directory.address());
  Kept calls;
  calls.refusals = 5;
  {
    const Listener listener(directory.address());
    CHECK(calls.waited_ms == 50);
    calls.refusals = 1'000'000;
  }
  // It was kept for too long: the file stays, and harms nobody.
  CHECK(calls.waited_ms == 1050);
  CHECK(exists(directory.file()));
  CHECK(contains(refusal_of(directory.address()),
                 "nobody listens there, but its folder cannot be locked"));
  calls.refusals = 0;
  {
    const Listener again(directory.address());
  }
  CHECK_FALSE(exists(directory.file()));
}

TEST_CASE("socket path: its lock keeps others out, and goes with its scope",
          "[socket_path]") {
  const Directory directory;
  const std::string file = directory.file();
  const std::string folder = file.substr(0, file.rfind('/'));
  const Fd other(::open(folder.c_str(), O_RDONLY | O_CLOEXEC));
  {
    const FolderLock lock(file);
    CHECK(lock.held());
    CHECK(::flock(other.get(), LOCK_EX | LOCK_NB) != 0);
  }
  CHECK(::flock(other.get(), LOCK_EX | LOCK_NB) == 0);
  CHECK(FolderLock("/no/such/folder/socket").held() == false);
}

TEST_CASE("socket path: of servers that start at once, one has it",
          "[socket_path]") {
  // Between the question whether somebody listens and the answer to it there
  // is time for others to ask the same.
  class Slow final : public sys::Layer {
   public:
    int unlink(const char* path) noexcept override {
      ::usleep(5000);
      return Layer::unlink(path);
    }
  };
  constexpr int kServers = 8;
  const Directory directory;
  for (int round = 0; round < 5; ++round) {
    leave_stale(directory.address());
    const Pair start = make_pipe(O_CLOEXEC);
    const Pair told = make_pipe(O_CLOEXEC);
    const Pair stop = make_pipe(O_CLOEXEC);
    std::vector<pid_t> children;
    for (int i = 0; i < kServers; ++i) {
      children.push_back(::fork());
      REQUIRE(children.back() >= 0);
      if (children.back() != 0) continue;
      ::close(start[1].get());
      ::close(stop[1].get());
      char byte = 0;
      if (::read(start[0].get(), &byte, 1) != 0) ::_exit(1);
      const Slow calls;
      std::optional<Listener> own;
      try {
        own.emplace(directory.address());
        byte = 'y';
      } catch (const std::system_error&) {
        byte = 'n';
      }
      if (::write(told[1].get(), &byte, 1) != 1) ::_exit(1);
      if (::read(stop[0].get(), &byte, 1) != 0) ::_exit(1);
      own.reset();
      ::_exit(0);
    }
    ::close(start[1].get());  // all go at once
    std::string words;
    while (words.size() < kServers) {
      char byte = 0;
      if (::read(told[0].get(), &byte, 1) == 1) words += byte;
    }
    CHECK(std::count(words.begin(), words.end(), 'y') == 1);
    CHECK(answers(directory.address()));
    ::close(stop[1].get());
    for (const pid_t child : children) {
      int status = 0;
      ::waitpid(child, &status, 0);
      CHECK(status == 0);
    }
    CHECK_FALSE(exists(directory.file()));
  }
}

TEST_CASE("socket path: a bare socket leaves its file", "[socket_path]") {
  const Directory directory;
  leave_stale(directory.address());
  {
    const Fd fd = listen_socket(directory.address());
  }
  CHECK(exists(directory.file()));
  CHECK_FALSE(answers(directory.address()));
}

#ifdef __linux__
TEST_CASE("socket path: an abstract name has none", "[socket_path]") {
  const std::string name =
      "unix:@violet-test-" + std::to_string(::getpid()) + "/x";
  const Address address = Address::parse(name);
  {
    const Listener listener(address);
    CHECK(listener.address().text() == name);
    CHECK(answers(address));
    CHECK(contains(refusal_of(address), text_of_error(EADDRINUSE)));
  }
  CHECK_FALSE(answers(address));
}
#endif

TEST_CASE("socket path: a server removes it as soon as it stops",
          "[socket_path]") {
  const MaybeShortIo io;
  const Directory directory;
  World world;
  auto whole = [&]() -> Task<> {
    const auto slow = [](Connection conn) -> Task<> {
      const Chunk request = co_await conn.recv();
      co_await sleep(1s);
      co_await conn.sendall(request);
    };
    const auto body = [&](Listener own) -> Task<> {
      co_await serve(std::move(own), slow);
    };
    const Job<> server = spawn(body, Listener(directory.address()));
    const Connection client = co_await connect(directory.address());
    co_await client.sendall("x");
    co_await settle();
    const Fd waits = dial(directory.address());
    CHECK(support::put(waits.get(), "y"));
    Loop::current().stop();
    co_await settle();
    CHECK_FALSE(exists(directory.file()));
    CHECK_FALSE(server.ended());
    // The next one can start while this one still works.
    const Listener next(directory.address());
    co_await wait(server);
    CHECK(answers(directory.address()));
    const std::string answer = co_await receive_all(client);
    CHECK(answer == "x");
    CHECK(support::get(waits.get()) == "y");
  };
  world.run(whole());
  CHECK_FALSE(world.time.hung);
}
