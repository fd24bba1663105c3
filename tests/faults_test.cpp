// faults_test.cpp - calls that fail at will.
// SPDX-License-Identifier: MIT
#include "../runtime/faults.hpp"

#include <netdb.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../net/net.hpp"
#include "../runtime/sim_network.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace violet;
using namespace sockets;
using support::make_socketpair;
using namespace std::chrono_literals;

namespace {

using support::contains;
using support::get;
using support::put;

/// A pipe as jobs see it.
struct Pipe {
  Pipe() : Pipe(make_pipe()) {}
  explicit Pipe(Pair ends)
      : in(adopt(std::move(ends[0]))), out(adopt(std::move(ends[1]))) {}
  Descriptor in;
  Descriptor out;
};

/// Writes `text` into a pipe and reads it at the other end.
/// Returns: what was read.
Task<std::string> through_a_pipe(std::string text) {
  Pipe pipe;
  const auto send_it = [&]() -> Task<> { co_await write(pipe.out, text); };
  const Job<> writing = spawn(send_it);
  std::string got;
  char buffer[64];
  while (got.size() < text.size()) {
    const std::size_t count = co_await read(pipe.in, buffer);
    got.append(buffer, count);
  }
  co_await join(writing);
  co_return got;
}

/// A client. Counts itself if it was answered.
Task<> ask_once(Address server, std::string text, int& answered) {
  const Connection conn = co_await connect(server);
  const std::string answer = co_await ask(conn, text);
  if (answer == text) ++answered;
}

/// Serves echoes to `clients`, and counts those that were answered. What it
/// spawns refers to nothing in its frame: without memory it may end first.
Task<> serve_echo_to(int clients, int& answered) {
  Listener listener("127.0.0.1", 0);
  const Address address = listener.address();
  const auto serve_all = [](Listener taken) {
    ServerOptions options;
    options.log = Log::kErrors;
    return serve(std::move(taken), echo, options);
  };
  const Job<ServerSummary> serving = spawn(serve_all, std::move(listener));
  std::vector<Job<>> jobs;
  for (int i = 0; i < clients; ++i) {
    jobs.push_back(
        spawn(ask_once, address, std::to_string(i), std::ref(answered)));
  }
  for (const Job<>& job : jobs) co_await join(job);
  Loop::current().stop();
  co_await join(serving);
}

/// Sends `text` from one end and receives it at the other.
Task<std::string> ask_back(const Ends& both, std::string text) {
  co_await both.first.sendall(text);
  std::string got = co_await receive(both.second, text.size());
  co_return got;
}

/// A job that calls a function, which calls another one.
Task<int> leaf() {
  co_await yield_now();
  co_return 1;
}

}  // namespace

// --------------------------------------------------------------------- layers

TEST_CASE("faults: a plan without rules changes nothing", "[faults]") {
  MaybeShortIo io;
  sys::Calls* before = sys::calls;
  {
    FaultPlan plan;
    CHECK(sys::calls == &plan);
    CHECK(plan.shortens() == before->shortens());
    const auto body = []() -> Task<> {
      const std::string got = co_await through_a_pipe("unharmed");
      CHECK(got == "unharmed");
    };
    play(body);
    CHECK(plan.count(Call::kRead) >= 1);
    CHECK(plan.count(Call::kWrite) >= 1);
    CHECK(plan.count(Call::kClose) >= 2);
    CHECK(plan.failed(Call::kRead) == 0);
  }
  CHECK(sys::calls == before);
}

TEST_CASE("faults: every call goes through a plan and is counted", "[faults]") {
  FaultPlan plan;
  sys::Calls& calls = *sys::calls;
  sys::FileCalls& files = *sys::file_calls;
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&name);
  unsigned size = sizeof name;
  int value = 0;
  unsigned value_size = sizeof value;
  char byte = 'x';

  const Fd listener(calls.socket(AF_INET, SOCK_STREAM, 0));
  CHECK(calls.bind(listener.get(), address, size) == 0);
  CHECK(calls.listen(listener.get(), 1) == 0);
  CHECK(calls.getsockname(listener.get(), address, &size) == 0);
  const Fd client(calls.socket(AF_INET, SOCK_STREAM, 0));
  calls.connect(client.get(), address, size);
  CHECK(support::arrives(listener.get(), POLLIN));
  const Fd server(calls.accept(listener.get(), nullptr, nullptr));
  CHECK(calls.getpeername(server.get(), address, &size) == 0);
  CHECK(calls.setsockopt(server.get(), SOL_SOCKET, SO_KEEPALIVE, &value,
                         value_size) == 0);
  CHECK(calls.getsockopt(server.get(), SOL_SOCKET, SO_TYPE, &value,
                         &value_size) == 0);
  CHECK(calls.send(server.get(), &byte, 1, 0) == 1);
  CHECK(support::arrives(client.get(), POLLIN));
  CHECK(calls.recv(client.get(), &byte, 1, 0) == 1);
  CHECK(calls.shutdown(server.get(), SHUT_WR) == 0);
  iovec place{&byte, 1};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  int fds[2];
  CHECK(calls.socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  CHECK(calls.write(fds[0], &byte, 1) == 1);
  CHECK(calls.read(fds[1], &byte, 1) == 1);
  CHECK(calls.sendmsg(fds[0], &message, 0) == 1);
  CHECK(calls.recvmsg(fds[1], &message, 0) == 1);
  CHECK((calls.get_flags(fds[0]) & O_NONBLOCK) != 0);
  CHECK(calls.set_flags(fds[0], O_NONBLOCK) == 0);
  CHECK(calls.file_type(fds[0]) == S_IFSOCK);
  CHECK(sys::poll_now(fds[0], POLLOUT) == POLLOUT);
  CHECK(calls.unlink("/nonexistent/violet") == -ENOENT);
  CHECK(calls.names() == nullptr);
  const auto ends_at_once = [](void*) noexcept -> void* { return nullptr; };
  sys::FileNumber which;
  CHECK(calls.chmod("/nonexistent/violet", 0600) == -ENOENT);
  CHECK(calls.file_at("/nonexistent/violet", which) == -ENOENT);
  CHECK(calls.lock_folder("/nonexistent/violet") == -ENOENT);
  CHECK(calls.backlog(listener.get()) == 0);
  CHECK(files.rename("/nonexistent/violet", "/nonexistent/other") == -ENOENT);
  CHECK(files.open("/nonexistent/violet", O_RDONLY, 0) == -ENOENT);
  CHECK(files.open_beneath(-1, "violet", O_RDONLY, false) == -EBADF);
  std::vector<std::string> entries;
  CHECK(files.list(-1, entries) == -EBADF);
  char path[] = "/tmp/violet_faults_test_XXXXXX";
  const Fd file(::mkostemp(path, O_CLOEXEC));
  ::unlink(path);
  CHECK(files.pwrite(file.get(), "0123", 4, 0) == 4);
  CHECK(files.pread(file.get(), &byte, 1, 2) == 1);
  CHECK(byte == '2');
  CHECK(files.seek(file.get(), 3, SEEK_SET) == 3);
  CHECK(files.file_size(file.get()) == 4);
  CHECK(files.truncate(file.get(), 2) == 0);
  sys::FileStatus status;
  CHECK(files.status(file.get(), status) == 0);
  CHECK(status.size == 2);
  CHECK(files.status_at("/nonexistent/violet", status) == -ENOENT);
  CHECK(files.lock(file.get()) == 0);
  CHECK(files.lock_range(file.get(), 0, 1) == 0);
  CHECK(files.sync(file.get(), false) == 0);
  const ssize_t sent = files.sendfile(fds[0], file.get(), 0, 1);
  const std::int64_t unsent = files.unsent(fds[0]);
  CHECK((unsent >= 0 || unsent == -EOPNOTSUPP));
  CHECK((sent == 1 || sent == -EINVAL || sent == -ENOSYS ||
         sent == -EOPNOTSUPP || sent == -ENOTSOCK));
  {
    const Fd twin(files.duplicate(file.get()));
    CHECK(twin);
  }
  CHECK(files.start_thread(ends_at_once, nullptr) == 0);
  std::free(calls.allocate(16));
  for (const int fd : fds) CHECK(calls.close(fd) == 0);
  CHECK(files.pipe(fds) == 0);
  for (const int fd : fds) CHECK(calls.close(fd) == 0);
  const auto start = [](const void*) noexcept -> int {
    const int pid = ::fork();
    if (pid == 0) ::_exit(3);
    return pid;
  };
  const int child = files.spawn(start, nullptr);
  REQUIRE(child > 1);
  CHECK(files.kill(child, 0) == 0);
  const Fd ends(files.open_process(child));
  sys::ChildEnd end;
  CHECK(files.wait_child(child, 0, end) == 1);
  CHECK(end.status == 3);

  for (std::size_t i = 0; i < kCallCount; ++i) {
    const Call call = static_cast<Call>(i);
    CAPTURE(i);
    CHECK(plan.count(call) >= 1);
    CHECK(plan.failed(call) == 0);
    if (call != Call::kAllocate) plan.fail(call, EIO);
  }
  plan.fail_allocation();

  CHECK(calls.socket(AF_INET, SOCK_STREAM, 0) == -EIO);
  CHECK(calls.socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == -EIO);
  CHECK(calls.bind(-1, address, size) == -EIO);
  CHECK(calls.listen(-1, 1) == -EIO);
  CHECK(calls.accept(-1, nullptr, nullptr) == -EIO);
  CHECK(calls.connect(-1, address, size) == -EIO);
  CHECK(calls.recv(-1, &byte, 1, 0) == -EIO);
  CHECK(calls.sendmsg(-1, &message, 0) == -EIO);
  CHECK(calls.recvmsg(-1, &message, 0) == -EIO);
  CHECK(calls.send(-1, &byte, 1, 0) == -EIO);
  CHECK(calls.read(-1, &byte, 1) == -EIO);
  CHECK(calls.write(-1, &byte, 1) == -EIO);
  CHECK(calls.close(-1) == -EIO);
  CHECK(calls.shutdown(-1, SHUT_WR) == -EIO);
  CHECK(calls.getsockopt(-1, 0, 0, &value, &value_size) == -EIO);
  CHECK(calls.setsockopt(-1, 0, 0, &value, value_size) == -EIO);
  CHECK(calls.getsockname(-1, address, &size) == -EIO);
  CHECK(calls.getpeername(-1, address, &size) == -EIO);
  CHECK(calls.get_flags(-1) == -EIO);
  CHECK(calls.set_flags(-1, 0) == -EIO);
  CHECK(calls.file_type(-1) == -EIO);
  CHECK(calls.unlink("/nonexistent/violet") == -EIO);
  CHECK(calls.chmod("/nonexistent/violet", 0600) == -EIO);
  CHECK(calls.file_at("/nonexistent/violet", which) == -EIO);
  CHECK(calls.lock_folder("/nonexistent/violet") == -EIO);
  CHECK(calls.backlog(-1) == -EIO);
  CHECK(files.rename("/", "/") == -EIO);
  CHECK(files.open("/", O_RDONLY, 0) == -EIO);
  CHECK(files.open_beneath(-1, "violet", O_RDONLY, false) == -EIO);
  CHECK(files.list(-1, entries) == -EIO);
  CHECK(files.pwrite(-1, "0123", 4, 0) == -EIO);
  CHECK(files.pread(-1, &byte, 1, 0) == -EIO);
  CHECK(files.seek(-1, 0, SEEK_SET) == -EIO);
  CHECK(files.file_size(-1) == -EIO);
  CHECK(files.truncate(-1, 0) == -EIO);
  CHECK(files.status(-1, status) == -EIO);
  CHECK(files.status_at("/", status) == -EIO);
  CHECK(files.lock(-1) == -EIO);
  CHECK(files.lock_range(-1, 0, 1) == -EIO);
  CHECK(files.sync(-1, false) == -EIO);
  CHECK(files.sendfile(-1, -1, 0, 1) == -EIO);
  CHECK(files.unsent(-1) == -EIO);
  CHECK(files.duplicate(-1) == -EIO);
  CHECK(sys::poll_now(-1, POLLIN) == -EIO);
  CHECK(files.pipe(fds) == -EIO);
  CHECK(files.spawn(start, nullptr) == -EIO);
  CHECK(files.wait_child(-1, 0, end) == -EIO);
  CHECK(files.kill(child, 0) == -EIO);
  CHECK(files.open_process(-1) == -EIO);
  std::vector<sockaddr_storage> found;
  const auto names = calls.names();
  REQUIRE(names != nullptr);
  CHECK(names->look_up("localhost", 0, found) == EAI_SYSTEM);
  CHECK(errno == EIO);
  CHECK(files.start_thread(ends_at_once, nullptr) == -EIO);
  CHECK(calls.allocate(16) == nullptr);
  for (std::size_t i = 0; i < kCallCount; ++i) {
    CAPTURE(i);
    CHECK(plan.failed(static_cast<Call>(i)) == 1);
  }
}

TEST_CASE("faults: plans stand over each other", "[faults]") {
  Pair pipe = make_pipe();
  char byte = 0;
  FaultPlan below;
  below.fail(Call::kRead, EIO);
  {
    FaultPlan above;
    above.fail(Call::kRead, EBADF);
    CHECK(sys::calls->read(pipe[0].get(), &byte, 1) == -EBADF);
    CHECK(sys::calls->read(pipe[0].get(), &byte, 1) == -EIO);
    CHECK(above.count(Call::kRead) == 2);
  }
  CHECK(below.count(Call::kRead) == 1);
}

// ------------------------------------------------------------ chosen failures

TEST_CASE("faults: the nth call fails, as often as asked", "[faults]") {
  FaultPlan plan;
  Pair pipe = make_pipe();
  const auto write_one = [&] {
    return sys::calls->write(pipe[1].get(), "x", 1);
  };
  plan.fail(Call::kWrite, ENOSPC, 2).fail(Call::kWrite, EIO, 4, 2);
  const std::vector<ssize_t> expected = {1, -ENOSPC, 1, -EIO, -EIO, 1};
  for (const ssize_t result : expected) CHECK(write_one() == result);
  plan.fail(Call::kWrite, EDQUOT, 2, FaultPlan::kForEver);
  CHECK(write_one() == 1);
  for (int i = 0; i < 100; ++i) CHECK(write_one() == -EDQUOT);
  CHECK(plan.count(Call::kWrite) == 107);
  CHECK(plan.failed(Call::kWrite) == 103);
  plan.relent();
  CHECK(write_one() == 1);
  CHECK(plan.log() == "write 108, 103 failed\n");
}

TEST_CASE("faults: a job sees the failure as the system's own", "[faults]") {
  MaybeShortIo io;
  FaultPlan plan;
  const auto body = [&]() -> Task<> {
    const int which = GENERATE(0, 1, 2);
    Pair pair = make_socketpair();
    const Connection near(std::move(pair[0]));
    const Connection far(std::move(pair[1]));
    std::error_code code;
    char buffer[8];
    if (which == 0) {
      plan.fail(Call::kRecv, ECONNRESET);
      co_await near.send("x");
      co_await far.recv(buffer, code);
      CHECK(code == std::errc::connection_reset);
    } else if (which == 1) {
      plan.fail(Call::kSend, EPIPE);
      co_await near.send("x", code);
      CHECK(code == std::errc::broken_pipe);
    } else {
      plan.fail(Call::kSocket, EMFILE);
      const auto dial = []() -> Task<> {
        const Connection conn = co_await connect("127.0.0.1", 9);
      };
      const std::string text = co_await error_of(dial());
      CHECK(text == "connect 127.0.0.1:9: " + support::text_of_error(EMFILE));
    }
  };
  play(body);
}

TEST_CASE("faults: a full disk is told to who writes", "[faults]") {
  FaultPlan plan;
  plan.fail(Call::kWrite, ENOSPC);
  const auto body = []() -> Task<> {
    Pipe pipe;
    const auto put_it = [&]() -> Task<> { co_await write(pipe.out, "x"); };
    const std::string text = co_await error_of(put_it());
    CHECK(contains(text, "No space left on device"));
  };
  play(body);
}

TEST_CASE("faults: a close that fails closes all the same", "[faults]") {
  FaultPlan plan;
  Pair pipe = make_pipe();
  plan.fail(Call::kClose, EIO);
  const int number = pipe[0].release();
  CHECK(sys::calls->close(number) == -EIO);
  CHECK_FALSE(support::is_open(number));
}

TEST_CASE("faults: a connecting that cannot be asked about fails", "[faults]") {
  const bool polling = GENERATE(true, false);
  SimNetwork network;
  FaultPlan plan;
  plan.fail(polling ? Call::kPoll : Call::kGetsockopt, ENOMEM);
  const auto body = []() -> Task<> {
    Listener listener("127.0.0.1", 0);
    std::error_code code;
    const Connection conn = co_await connect(listener.address(), code);
    CHECK(code == std::errc::not_enough_memory);
  };
  LoopOptions options;
  options.poller = &network.poller();
  Loop(options).run(body());
}

TEST_CASE("faults: what is written to stderr passes unharmed", "[faults]") {
  FaultPlan plan;
  plan.fail(Call::kWrite, EIO, 1, FaultPlan::kForEver).one_byte();
  const std::string said = errors_of([] { complain("audible"); });
  CHECK(said == "violet: audible\n");
  CHECK(plan.count(Call::kWrite) == 0);
}

// ---------------------------------------------------------------- the weather

TEST_CASE("faults: bytes come one by one, and all of them", "[faults]") {
  FaultPlan plan;
  plan.one_byte();
  CHECK(plan.shortens());
  const auto body = []() -> Task<> {
    const std::string got = co_await through_a_pipe("a few words");
    CHECK(got == "a few words");
  };
  play(body);
  CHECK(plan.count(Call::kRead) >= 11);
  CHECK(plan.count(Call::kWrite) == 11);
  CHECK(plan.shortened() > 11);
}

TEST_CASE("faults: a plan that begins in the middle harms no old connection",
          "[faults]") {
  MaybeShortIo io;
  const auto body = []() -> Task<> {
    const Ends both = co_await tcp_ends();
    // Watched by now, and taken for drained after a short read.
    const std::string before = co_await ask_back(both, "before");
    CHECK(before == "before");
    FaultPlan plan;
    plan.one_byte();
    const std::string after = co_await ask_back(both, "and after");
    CHECK(after == "and after");
    CHECK(plan.shortened() > 0);
  };
  play(body);
}

TEST_CASE("faults: datagrams and eventfds are never cut short", "[faults]") {
  FaultPlan plan;
  plan.one_byte();
  Pair pair = make_socketpair(SOCK_DGRAM);
  CHECK(sys::calls->send(pair[0].get(), "whole", 5, 0) == 5);
  char buffer[8];
  CHECK(sys::calls->recv(pair[1].get(), buffer, sizeof buffer, 0) == 5);
  const Fd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  CHECK(sys::calls->read(event.get(), buffer, sizeof buffer) == 8);
  CHECK(plan.shortened() == 0);
}

TEST_CASE("faults: a server answers everybody in any weather", "[faults]") {
  const int kind = GENERATE(0, 1, 2, 3, 4, 5, 6);
  FaultPlan plan;
  if (kind == 0 || kind == 6) plan.one_byte();
  if (kind == 1 || kind == 6) plan.interrupt_every(2);
  if (kind == 2 || kind == 6) plan.would_block_every(1);
  if (kind == 3) plan.would_block_every(2);
  if (kind == 4) plan.would_block_every(7).interrupt_every(3);
  if (kind == 5) plan.fail(Call::kAccept, EMFILE, 3, 4);
  const auto body = []() -> Task<> {
    int answered = 0;
    co_await serve_echo_to(20, answered);
    CHECK(answered == 20);
  };
  errors_of([&] { play(body); });  // EMFILE is complained of
  INFO(plan.log());
  CHECK((plan.shortened() > 0) == (kind == 0 || kind == 6));
  CHECK((plan.interrupted() > 0) == (kind == 1 || kind == 4 || kind == 6));
  CHECK((plan.told_to_wait() > 0) == (kind >= 2 && kind != 5));
  CHECK(plan.failed(Call::kAccept) == (kind == 5 ? 4 : 0));
}

TEST_CASE("faults: who is told to wait hears of what is there already",
          "[faults]") {
  const int before = GENERATE(0, 1);  // whether it is watched already
  const auto body = [&]() -> Task<> {
    const Ends both = co_await tcp_ends();
    for (int i = 0; i < before; ++i) {
      const std::string got = co_await ask_back(both, "x");
      CHECK(got == "x");
    }
    FaultPlan plan;
    plan.would_block_every(1);
    co_await both.first.send("there already");
    char buffer[64];
    const std::size_t count = co_await both.second.recv(buffer);
    CHECK(count == 13);
    CHECK(plan.told_to_wait() == 2);
    CHECK(plan.count(Call::kRecv) == 2);
  };
  play(body);
}

TEST_CASE("faults: blocking descriptors and files are never told to wait",
          "[faults]") {
  FaultPlan plan;
  plan.would_block_every(1);
  Pair pipe = make_pipe(O_CLOEXEC);
  put(pipe[1].get(), "x");
  char byte = 0;
  CHECK(sys::calls->read(pipe[0].get(), &byte, 1) == 1);
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  CHECK(sys::calls->read(file.get(), &byte, 1) == 1);
  CHECK(plan.told_to_wait() == 0);
}

// --------------------------------------------------------------------- memory

TEST_CASE("faults: the nth frame or job finds no memory", "[faults]") {
  // The root's frame and job, then the child's job and frame, then the leaf.
  const auto child = []() -> Task<int> {
    int result = 0;
    result = co_await leaf();
    co_return result;
  };
  const auto body = [&]() -> Task<int> {
    const Job<int> job = spawn(child);
    const int result = co_await join(job);
    co_return result;
  };
  int failures = 0;
  int result = 0;
  for (std::uint64_t nth = 1; result == 0; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 50);
    FaultPlan plan;
    plan.fail_allocation(nth);
    Loop loop;
    try {
      result = loop.run(body());
    } catch (const std::bad_alloc&) {
      ++failures;
    }
    CHECK(plan.failed(Call::kAllocate) == (result == 0 ? 1 : 0));
  }
  CHECK(result == 1);
  // clang may put the leaf's frame into its caller's.
  CHECK(failures >= 4);
  CHECK(failures <= 5);
  CHECK(frame_pool.pooling());
}

TEST_CASE("faults: memory comes from a pool again once a plan is gone",
          "[faults]") {
  const auto root = []() -> Task<int> { co_return 3; };
  Job<int> kept;
  {
    FaultPlan plan;
    plan.fail_allocation(1000);
    CHECK_FALSE(frame_pool.pooling());
    Loop loop;
    kept = loop.spawn(root);
    while (loop.run_once()) continue;
    CHECK(plan.count(Call::kAllocate) >= 2);
  }
  // What the plan's time has left goes back to where it came from.
  CHECK(frame_pool.live() == 1);
  kept = Job<int>();
  CHECK(frame_pool.live() == 0);
  FaultPlan counting;
  run(root());
  run(root());
  CHECK(counting.count(Call::kAllocate) <= (kPooled ? 1 : 4));
}

TEST_CASE("faults: each lack of memory is an error and leaves nothing behind",
          "[faults]") {
  for (std::uint64_t nth = 1, failed = 1; failed != 0; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 200);
    const Footprint before;
    int answered = 0;
    const auto with_a_lack = [&] {
      SimNetwork network;
      FaultPlan plan;
      plan.fail_allocation(nth);
      LoopOptions options;
      options.poller = &network.poller();
      Loop loop(options);
      try {
        loop.run(serve_echo_to(2, answered));
      } catch (const std::bad_alloc&) {
      } catch (const std::system_error&) {
        // A client that was turned away, or came before the server could.
      }
      CHECK(network.open_descriptors() == 0);
      failed = plan.failed(Call::kAllocate);
    };
    errors_of(with_a_lack);  // clients are turned away, handlers fail
    CHECK(failed <= 1);
    CHECK(Footprint() == before);
    if (failed == 0) CHECK(answered == 2);
  }
}

// --------------------------------------------------------------------- misuse

TEST_CASE("faults: a plan that could never end is refused", "[faults]") {
  FaultPlan plan;
  const auto refused = [](auto make) { return thrown<Misuse>(make); };
  for (const int error : {EAGAIN, EWOULDBLOCK, EINPROGRESS}) {
    CHECK(refused([&] { plan.fail(Call::kRecv, error); }) ==
          "violet: a plan cannot fail() a call with an error that means "
          "\"wait\": nothing would end the wait; use would_block_every()");
  }
  const char* counts =
      "violet: fail() takes a positive error number, and counts calls from 1";
  CHECK(refused([&] { plan.fail(Call::kRecv, -EIO); }) == counts);
  CHECK(refused([&] { plan.fail(Call::kRecv, EIO, 0); }) == counts);
  CHECK(refused([&] { plan.fail(Call::kRecv, EIO, 1, 0); }) == counts);
  CHECK(refused([&] { plan.interrupt_every(1); }) ==
        "violet: interrupt_every() takes 2 or more: a call that is always "
        "interrupted is repeated for ever");
  CHECK(refused([&] { plan.would_block_every(0); }) ==
        "violet: would_block_every() counts from 1");
  CHECK(plan.log().empty());
}

TEST_CASE("faults: memory cannot be refused while frames are alive",
          "[faults]") {
  const auto body = []() -> Task<> {
    FaultPlan plan;
    CHECK(thrown<Misuse>([&] { plan.fail_allocation(); }) ==
          "violet: fail_allocation() while frames or jobs are alive: make the "
          "plan before the first task, and keep no Job<T> of an earlier run");
    co_return;
  };
  play(body);
  CHECK(frame_pool.pooling());
}

TEST_CASE("faults: what would never end is refused", "[faults]") {
  FaultPlan plan;
  const auto for_ever = [&] {
    plan.fail(Call::kAccept, EINTR, 1, FaultPlan::kForEver);
  };
  CHECK(contains(thrown<Misuse>(for_ever), "use interrupt_every()"));
  const auto pooled = [&] { plan.fail(Call::kAllocate, ENOMEM); };
  if (frame_pool.pooling()) {
    CHECK(contains(thrown<Misuse>(pooled), "use fail_allocation()"));
  }
}
