// sendfile_test.cpp - from a file to a connection.
// SPDX-License-Identifier: MIT
#include "../net/sendfile.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>

#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

namespace {

using namespace sockets;

/// A file with a name, which is gone at the end.
class Named {
 public:
  explicit Named(std::string_view text) {
    const Fd fd(::mkostemp(path_, O_CLOEXEC));
    if (!support::put(fd.get(), text)) throw_system(errno, path_);
  }
  Named(const Named&) = delete;
  ~Named() { ::unlink(path_); }
  std::string path() const { return path_; }

 private:
  char path_[48] = "/tmp/violet_sendfile_test_XXXXXX";
};

/// Refuses, or has nothing in memory.
class Special : public sys::Calls, public sys::FileCalls {
 public:
  ssize_t read_cached(int fd, void* data, std::size_t size,
                      std::int64_t offset) noexcept override {
    return cold ? -EAGAIN : FileCalls::read_cached(fd, data, size, offset);
  }
  ssize_t pread(int fd, void* data, std::size_t size,
                std::int64_t offset) noexcept override {
    ++preads;
    return FileCalls::pread(fd, data, size, offset);
  }
  ssize_t sendfile(int socket, int file, std::int64_t offset,
                   std::size_t size) noexcept override {
    ++sendfiles;
    return refuse != 0 ? -refuse
                       : FileCalls::sendfile(socket, file, offset, size);
  }
  bool in_memory(int) noexcept override { return false; }  // as on a disk
  bool cold = false;
  int refuse = 0;
  int sendfiles = 0;
  std::atomic<int> preads = 0;
};

Task<> send_all(Connection to, std::string path, std::uint64_t offset,
                std::uint64_t count, FileSent& sent) {
  const File file = co_await open_file(path);
  sent = co_await violet::sendfile(to, file, offset, count);
}

/// Sends it through a real connection. Returns: what arrived.
Task<std::string> through(std::string path, std::uint64_t offset,
                          std::uint64_t count, FileSent& sent) {
  Ends ends = co_await tcp_ends();
  spawn(send_all, std::move(ends.first), path, offset, count, std::ref(sent));
  std::string text = co_await receive_all(ends.second);
  co_return text;
}

}  // namespace

TEST_CASE("sendfile: a range of a file arrives", "[sendfile][threads]") {
  const MaybeShortIo io;
  const std::string text =
      random_bytes(MaybeShortIo::wanted() ? 3000 : 3'000'000);
  const Named file(text);
  const auto count = text.size() / 2;
  FileSent sent;
  const std::string got = run(through(file.path(), 17, count, sent));
  CHECK(got == text.substr(17, count));
  CHECK(sent.bytes == count);
  CHECK_FALSE(sent.ended);
  const std::string none = run(through(file.path(), 5, 0, sent));
  CHECK(none.empty());
  CHECK_FALSE(sent.ended);
}

TEST_CASE("sendfile: an offset beyond all files is refused",
          "[sendfile][threads]") {
  const Named file("abc");
  FileSent sent;
  const auto body = [&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    co_await send_all(std::move(ends.first), file.path(), ~std::uint64_t{0}, 10,
                      sent);
  };
  CHECK_THROWS_WITH(run(body()),
                    "sendfile " + file.path() + ": Invalid argument");
  CHECK(sent.bytes == 0);
}

TEST_CASE("sendfile: a file that ends early is told from one that does not",
          "[sendfile][threads]") {
  const MaybeShortIo io;
  const Named file("0123456789");
  FileSent sent;
  const std::string got = run(through(file.path(), 4, 100, sent));
  CHECK(got == "456789");
  CHECK(sent.bytes == 6);
  CHECK(sent.ended);
  const std::string beyond = run(through(file.path(), 50, 1, sent));
  CHECK(beyond.empty());
  CHECK(sent.ended);
}

TEST_CASE("sendfile: what does not lie in memory is fetched off the loop",
          "[sendfile][threads]") {
  const std::string text = random_bytes(1'000'000);
  const Named file(text);
  Special calls;
  calls.cold = true;
  const support::ScopedCalls scope(calls);
  FileSent sent;
  const std::string got = run(through(file.path(), 0, text.size(), sent));
  CHECK(got == text);
  CHECK(calls.preads >= 4);
}

TEST_CASE("sendfile: where the system refuses, it is read and sent",
          "[sendfile][threads]") {
  const int error = GENERATE(EINVAL, ENOSYS, EOPNOTSUPP);
  const std::string text = random_bytes(1'000'000);
  const Named file(text);
  Special calls;
  calls.refuse = error;
  const support::ScopedCalls scope(calls);
  FileSent sent;
  const std::string got = run(through(file.path(), 1, text.size(), sent));
  CHECK(got == text.substr(1));
  CHECK(sent.bytes == text.size() - 1);
  CHECK(sent.ended);
  CHECK(calls.sendfiles == 1);
}

TEST_CASE("sendfile: a peer that resets is an error that names it",
          "[sendfile][threads]") {
  const Named file(random_bytes(8'000'000));
  const auto body = [&]() -> Task<std::string> {
    Ends ends = co_await tcp_ends();
    FileSent sent;
    const Job<> sends = spawn(send_all, std::move(ends.first), file.path(), 0u,
                              8'000'000u, std::ref(sent));
    while (!is_waiting(sends)) co_await yield_now();
    co_await violet::sleep(1ms);
    reset(ends.second);
    const std::string said = co_await error_of(
        [](Job<> job) -> Task<> { co_await join(job); }(sends));
    co_return said;
  };
  const std::string said = run(body());
  CHECK(support::contains(said, "sendfile 127.0.0.1:"));
}

TEST_CASE("sendfile: a peer that does not read holds up its sender alone",
          "[sendfile][threads]") {
  const Named file(random_bytes(8'000'000));
  const auto body = [&]() -> Task<> {
    Ends ends = co_await tcp_ends();
    FileSent sent;
    const std::uint64_t all = 8'000'000;
    const auto send = [&]() -> Task<> {
      const File from = co_await open_file(file.path());
      sent = co_await violet::sendfile(ends.first, from, 0, all);
    };
    const Job<> sends = spawn(send);
    std::uint64_t before = 1;
    while (before != ends.first.sent_bytes() || before == 0) {
      before = ends.first.sent_bytes();
      co_await violet::sleep(20ms);
    }
    co_await kill(sends);  // which waits, should a piece be fetched just now
    const std::uint64_t out = ends.first.sent_bytes();
    CHECK(out < all);
    ends.first.close();
    const std::string got = co_await receive_all(ends.second);
    CHECK(got.size() == out);
  };
  run(body());
}

TEST_CASE("sendfile: through a simulated network, with a kill at every wait",
          "[sendfile][threads][kill]") {
  const Named file("0123456789");
  const auto body = [&](std::string& got) -> Task<> {
    Listener listener("127.0.0.1", 0);
    Connection near = co_await connect(listener.address());
    const Connection far = co_await listener.accept();
    FileSent sent;
    const auto send = [&](Connection to) -> Task<> {
      const File from = co_await open_file(file.path());
      sent = co_await violet::sendfile(to, from, 2, 6);
    };
    TaskGroup group;  // it writes to `sent`
    group.spawn(send, std::move(near));
    got = co_await receive_all(far);
    co_await group.join();
  };
  testing::Options options;
  options.network = true;
  options.seeds = 30;
  const auto counts = testing::kill_everywhere<std::string>(
      body,
      [](std::string& got) {
        if (std::string_view("234567").substr(0, got.size()) != got) {
          throw std::runtime_error("wrong bytes arrived");
        }
      },
      options);
  CHECK(counts.waits >= 5);
}
