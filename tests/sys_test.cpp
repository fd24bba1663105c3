// sys_test.cpp - the seam: who answers system calls, and what the kernel says.
// SPDX-License-Identifier: MIT
#include "../runtime/sys.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;

namespace {

bool is_nonblocking(int fd) {
  return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}
bool is_cloexec(int fd) {
  return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

/// A listener on a free port of the loopback, made through the seam.
struct Listening {
  Fd fd{sys::calls->socket(AF_INET, SOCK_STREAM, 0)};
  sockaddr_in name{};

  Listening() {
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(sys::calls->bind(fd.get(), address(), sizeof name) == 0);
    REQUIRE(sys::calls->listen(fd.get(), 8) == 0);
    unsigned size = sizeof name;
    REQUIRE(sys::calls->getsockname(fd.get(), address(), &size) == 0);
  }
  sockaddr* address() { return reinterpret_cast<sockaddr*>(&name); }
};

/// Answers reads from a script, in its order; then with the end of file.
class Scripted : public sys::Calls {
 public:
  explicit Scripted(std::vector<ssize_t> answers)
      : answers_(std::move(answers)) {}
  ssize_t read(int, void*, std::size_t) noexcept override {
    ++reads;
    if (next_ == answers_.size()) return 0;
    return answers_[next_++];
  }
  int reads = 0;

 private:
  std::vector<ssize_t> answers_;
  std::size_t next_ = 0;
};

}  // namespace

TEST_CASE("sys: at rest the kernel answers", "[sys]") {
  if (MaybeShortIo::wanted()) return;
  CHECK(sys::calls == &sys::kernel);
  CHECK_FALSE(sys::calls->shortens());
}

TEST_CASE("sys: failures are negated error numbers, whatever errno says",
          "[sys]") {
  char byte = 0;
  errno = 0;
  CHECK(sys::calls->read(-1, &byte, 1) == -EBADF);
  CHECK(sys::calls->write(-1, &byte, 1) == -EBADF);
  CHECK(sys::calls->recv(-1, &byte, 1, 0) == -EBADF);
  CHECK(sys::calls->send(-1, &byte, 1, 0) == -EBADF);
  CHECK(sys::calls->close(-1) == -EBADF);
  CHECK(sys::calls->get_flags(-1) == -EBADF);
  CHECK(sys::calls->set_flags(-1, 0) == -EBADF);
  CHECK(sys::calls->file_type(-1) == -EBADF);
  CHECK(sys::calls->socket(-1, SOCK_STREAM, 0) == -EAFNOSUPPORT);
  int fds[2];
  CHECK(sys::calls->socketpair(-1, SOCK_STREAM, 0, fds) == -EAFNOSUPPORT);
  CHECK(sys::calls->accept(-1, nullptr, nullptr) == -EBADF);
  CHECK(sys::calls->listen(-1, 1) == -EBADF);
  CHECK(sys::calls->shutdown(-1, SHUT_RD) == -EBADF);
  CHECK(sys::calls->unlink("/nonexistent/violet") == -ENOENT);
}

TEST_CASE("sys: a transfer gives its count, and EAGAIN when it would block",
          "[sys]") {
  Pair pipe = make_pipe();
  char buffer[8];
  CHECK(sys::calls->read(pipe[0].get(), buffer, sizeof buffer) == -EAGAIN);
  CHECK(sys::calls->write(pipe[1].get(), "abc", 3) == 3);
  CHECK(sys::calls->read(pipe[0].get(), buffer, sizeof buffer) == 3);
  CHECK(std::string_view(buffer, 3) == "abc");
}

TEST_CASE("sys: sockets are non-blocking and close-on-exec from birth",
          "[sys]") {
  Listening listening;
  CHECK(is_nonblocking(listening.fd.get()));
  CHECK(is_cloexec(listening.fd.get()));
  int fds[2];
  REQUIRE(sys::calls->socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  for (const Fd& end : pair_of(fds)) {
    CHECK(is_nonblocking(end.get()));
    CHECK(is_cloexec(end.get()));
  }

  CHECK(sys::calls->accept(listening.fd.get(), nullptr, nullptr) == -EAGAIN);
  const Fd client(sys::calls->socket(AF_INET, SOCK_STREAM, 0));
  const int connected = sys::calls->connect(client.get(), listening.address(),
                                            sizeof listening.name);
  CHECK((connected == 0 || connected == -EINPROGRESS));
  pollfd arrived{listening.fd.get(), POLLIN, 0};
  REQUIRE(sys::calls->poll(&arrived, 1, 5000) == 1);
  const Fd server(sys::calls->accept(listening.fd.get(), nullptr, nullptr));
  REQUIRE(server);
  CHECK(is_nonblocking(server.get()));
  CHECK(is_cloexec(server.get()));

  sockaddr_in peer{};
  unsigned size = sizeof peer;
  CHECK(sys::calls->getpeername(
            client.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0);
  CHECK(peer.sin_port == listening.name.sin_port);
}

TEST_CASE("sys: send to a peer that has gone is an error, not a signal",
          "[sys]") {
  Pair pair = make_socketpair();
  pair[1].reset();
  const ChildEnd end = in_child([&] {
    ::signal(SIGPIPE, SIG_DFL);
    const ssize_t sent = sys::calls->send(pair[0].get(), "x", 1, 0);
    ::_exit(sent == -EPIPE ? 7 : 8);
  });
  CHECK(end.signal == 0);
  CHECK(end.status == 7);
}

TEST_CASE("sys: file_type tells pipes, sockets, files and others apart",
          "[sys]") {
  Pair pipe = make_pipe();
  Pair pair = make_socketpair();
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK(sys::calls->file_type(pipe[0].get()) == S_IFIFO);
  CHECK(sys::calls->file_type(pair[0].get()) == S_IFSOCK);
  CHECK(sys::calls->file_type(file.get()) == S_IFREG);
  CHECK(sys::calls->file_type(null.get()) == S_IFCHR);
}

TEST_CASE("sys: file_at tells one file from another", "[sys]") {
  sys::FileNumber root, null, again;
  CHECK(sys::calls->file_at("/", root) == S_IFDIR);
  CHECK(sys::calls->file_at("/dev/null", null) == S_IFCHR);
  CHECK(sys::calls->file_at("/dev/null", again) == S_IFCHR);
  CHECK(null == again);
  CHECK_FALSE(null == root);
}

TEST_CASE("sys: only one has the lock of a folder", "[sys]") {
  char folder[] = "/tmp/violet_test_XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const int first = sys::calls->lock_folder(folder);
  CHECK(first >= 0);
  CHECK(sys::calls->lock_folder(folder) == -EWOULDBLOCK);
  sys::calls->close(first);
  const int second = sys::calls->lock_folder(folder);
  CHECK(second >= 0);
  sys::calls->close(second);
  CHECK(::rmdir(folder) == 0);
  CHECK(sys::calls->lock_folder("/dev/null") == -ENOTDIR);
}

TEST_CASE("sys: status_at tells what a file is, its size and its age",
          "[sys]") {
  char path[] = "/tmp/violet_test_XXXXXX";
  const int file = ::mkostemp(path, O_CLOEXEC);
  CHECK(sys::file_calls->pwrite(file, "12345", 5, 0) == 5);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  sys::FileStatus status;
  CHECK(sys::file_calls->status_at(path, status) == 0);
  CHECK(status.type == S_IFREG);
  sys::FileStatus of_open;
  CHECK(sys::file_calls->status(file, of_open) == 0);
  CHECK(of_open.number == status.number);
  CHECK(of_open.modified_ns == status.modified_ns);
  CHECK(status.size == 5);
  CHECK(status.modified_ns / 1'000'000'000 >= now.tv_sec - 60);
  CHECK(status.modified_ns / 1'000'000'000 <= now.tv_sec + 60);
  sys::FileNumber which;
  CHECK(sys::calls->file_at(path, which) == S_IFREG);
  CHECK(status.number == which);
  CHECK(::unlink(path) == 0);
  CHECK(sys::file_calls->status_at(path, status) == -ENOENT);
  sys::calls->close(file);
}

TEST_CASE("sys: who has opened a file has its lock, or that of some bytes",
          "[sys]") {
  char path[] = "/tmp/violet_test_XXXXXX";
  const int first = ::mkostemp(path, O_CLOEXEC);
  const int second = ::open(path, O_RDWR | O_CLOEXEC);
  auto& files = *sys::file_calls;
  CHECK(files.lock(first) == 0);
  CHECK(files.lock(second) == -EWOULDBLOCK);
  sys::calls->close(first);
  CHECK(files.lock(second) == 0);
  sys::calls->close(second);

  const int one = ::open(path, O_RDWR | O_CLOEXEC);
  const int other = ::open(path, O_RDWR | O_CLOEXEC);
  CHECK(files.lock_range(one, 10, 10) == 0);
  CHECK(files.lock_range(other, 19, 2) == -EWOULDBLOCK);
#ifdef F_OFD_SETLK
  CHECK(files.lock_range(other, 20, 2) == 0);
  CHECK(files.lock_range(one, 0, 21) == -EWOULDBLOCK);
#endif
  sys::calls->close(one);
  CHECK(files.lock_range(other, 19, 2) == 0);
  sys::calls->close(other);
  CHECK(::unlink(path) == 0);
}

TEST_CASE("sys: backlog counts who waits to be accepted", "[sys]") {
  const int listener = sys::calls->socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  unsigned size = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  CHECK(sys::calls->bind(listener, address, size) == 0);
  CHECK(sys::calls->listen(listener, 10) == 0);
  CHECK(sys::calls->getsockname(listener, address, &size) == 0);
  int clients[3];
  for (int i = 0; i < 3; ++i) {
    CHECK(sys::calls->backlog(listener) == i);
    clients[i] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(::connect(clients[i], address, size) == 0);
  }
  CHECK(sys::calls->backlog(listener) == 3);
  for (const int client : clients) ::close(client);
  sys::calls->close(listener);
#ifdef __linux__
  const int unix_one = sys::calls->socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(sys::calls->backlog(unix_one) < 0);
  sys::calls->close(unix_one);
#endif
}

TEST_CASE("sys: whoever is installed answers, until its scope ends", "[sys]") {
  char byte = 0;
  Scripted scripted({5});
  {
    const ScopedCalls guard(scripted);
    CHECK(sys::calls->read(-1, &byte, 1) == 5);
  }
  CHECK(sys::calls->read(-1, &byte, 1) == -EBADF);
  CHECK(scripted.reads == 1);
}

TEST_CASE("sys: what is installed answers in its own thread only",
          "[sys][threads]") {
  Scripted scripted({5, 6});
  const ScopedCalls guard(scripted);
  ssize_t elsewhere = 0;
  Thread([&] {
    char byte = 0;
    elsewhere = sys::calls->read(-1, &byte, 1);
  }).join();
  CHECK(elsewhere == -EBADF);
  CHECK(scripted.reads == 0);
}

TEST_CASE("sys: uninterrupted repeats a call only for EINTR", "[sys]") {
  const auto call = [] { return sys::calls->read(-1, nullptr, 0); };
  Scripted scripted({-EINTR, -EINTR, 4, -EINTR, -EAGAIN});
  const ScopedCalls guard(scripted);
  CHECK(sys::uninterrupted(call) == 4);
  CHECK(scripted.reads == 3);
  CHECK(sys::uninterrupted(call) == -EAGAIN);
  CHECK(scripted.reads == 5);
  CHECK(sys::uninterrupted(call) == 0);
}

TEST_CASE("sys: ShortCalls cuts streams, spares datagrams, and interrupts",
          "[sys]") {
  ShortCalls calls;
  const ScopedCalls guard(calls);
  CHECK(sys::calls->shortens());

  Pair pipe = make_pipe();
  CHECK(sys::calls->write(pipe[1].get(), "abc", 3) == 1);
  CHECK(sys::calls->write(pipe[1].get(), "bc", 2) == -EINTR);
  CHECK(sys::calls->write(pipe[1].get(), "bc", 2) == 1);
  char buffer[8];
  CHECK(sys::calls->read(pipe[0].get(), buffer, sizeof buffer) == -EINTR);
  CHECK(sys::calls->read(pipe[0].get(), buffer, sizeof buffer) == 1);

  Pair pair = make_socketpair(SOCK_DGRAM);
  CHECK(sys::calls->send(pair[0].get(), "abc", 3, 0) == -EINTR);
  CHECK(sys::calls->send(pair[0].get(), "abc", 3, 0) == 3);
  CHECK(sys::calls->recv(pair[1].get(), buffer, sizeof buffer, 0) == -EINTR);
  CHECK(sys::calls->recv(pair[1].get(), buffer, sizeof buffer, 0) == 3);
}

TEST_CASE("sys: a read goes on through short counts and interruptions",
          "[sys]") {
  ShortCalls calls;
  const ScopedCalls guard(calls);
  Pair pipe = make_pipe();
  const Descriptor reader = adopt(std::move(pipe[0]));
  const Descriptor writer = adopt(std::move(pipe[1]));
  std::string got;
  const auto body = [&]() -> Task<> {
    const std::size_t written = co_await write(writer, "Hello, world");
    CHECK(written == 12);
    char buffer[64];
    while (got.size() < 12) {
      const std::size_t count = co_await read(reader, buffer);
      CHECK(count == 1);
      got.append(buffer, count);
    }
  };
  in_virtual_time(body);
  CHECK(got == "Hello, world");
}
