// process_test.cpp - children: started, talked to, ended, reaped.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/group.hpp"
#include "../runtime/loops.hpp"
#include "../runtime/process.hpp"
#include "../runtime/shield.hpp"
#include "../runtime/testing.hpp"
#include "program.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

/// True if this process has no child, not even one that has ended.
bool childless() {
  return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD;
}

/// Looks at the end of a test whether it left anything behind.
class NothingLeft {
 public:
  NothingLeft() noexcept {}
  NothingLeft(const NothingLeft&) = delete;
  ~NothingLeft() {
    CHECK(childless());
    CHECK(open_descriptors() == before_);
  }

 private:
  int before_ = open_descriptors();
};

/// Has no pidfd_open(2), as an old kernel or a sandbox.
class NoDescriptors final : public sys::Layer {
 public:
  explicit NoDescriptors(int error) noexcept : error_(error) {}
  int open_process(int) noexcept override { return -error_; }

 private:
  int error_;
};

/// Runs a body twice: as the system tells the end of a child, and as SIGCHLD
/// does.
template <class Body>
void both_ways(Body body) {
  for (const bool by_signal : {false, true}) {
    UNSCOPED_INFO((by_signal ? "by SIGCHLD" : "by a descriptor"));
    const NothingLeft nothing_left;
    std::optional<NoDescriptors> none;
    if (by_signal) none.emplace(ENOSYS);
    run(body());
  }
}

ProcessOptions with(Stdio in, Stdio out, Stdio err = Stdio::inherit()) {
  ProcessOptions options;
  options.in = in;
  options.out = out;
  options.err = err;
  return options;
}
ProcessOptions piped() {
  return with(Stdio::pipe(), Stdio::pipe());
}

Command shell(const std::string& script) {
  return Command("sh", "-c", script);
}

/// Reads until there are so many bytes, or no more.
Task<std::string> read_some(Descriptor& from, std::size_t wanted) {
  std::string all;
  char buffer[512];
  while (all.size() < wanted) {
    const std::size_t count = co_await read(from, buffer);
    if (count == 0) break;
    all.append(buffer, count);
  }
  co_return all;
}
Task<std::string> read_all(Descriptor& from) {
  return read_some(from, ~std::size_t{0});
}

/// What a command writes to stdout and stderr.
std::string output_of(Command command,
                      ProcessOptions options = ProcessOptions()) {
  if (options.err.is_inherited()) options.err = Stdio::out();
  const ProcessOutput output =
      run(run_process(std::move(command), {}, std::move(options)));
  return output.out + output.err;
}

Task<ExitStatus> end_of(Process& child) {
  const ExitStatus status = co_await child.wait();
  co_return status;
}

std::string why(Command command, const ProcessOptions& options = {}) {
  try {
    const Process child(std::move(command), options);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "it was started";
}

bool exists(int pid) {
  return ::kill(pid, 0) == 0;
}

}  // namespace

// -------------------------------------------------------------------- talking

TEST_CASE("process: what is written to a child comes back through it",
          "[process]") {
  MaybeShortIo io;
  both_ways([]() -> Task<> {
    Process child({"cat"}, piped());
    co_await write(child.in(), "hello, child");
    const std::string first = co_await read_some(child.out(), 12);
    CHECK(first == "hello, child");
    child.in().close();
    const std::string rest = co_await read_all(child.out());
    CHECK(rest == "");
    const ExitStatus status = co_await child.wait();
    CHECK(status.ok());
    CHECK(status.text() == "exited with 0");
    CHECK_FALSE(child.err());
  });
}

TEST_CASE("process: its lines come as it writes them", "[process]") {
  MaybeShortIo io;
  both_ways([]() -> Task<> {
    Process child(shell("echo one; read x; echo $x; read y; echo $y"), piped());
    const std::string one = co_await read_some(child.out(), 4);
    CHECK(one == "one\n");
    co_await write(child.in(), "two\n");
    const std::string two = co_await read_some(child.out(), 4);
    CHECK(two == "two\n");
    co_await write(child.in(), "three\n");
    const std::string three = co_await read_all(child.out());
    CHECK(three == "three\n");
    co_await child.wait();
  });
}

TEST_CASE("process: it tells how it has ended", "[process]") {
  both_ways([]() -> Task<> {
    Process three(shell("exit 3"));
    const ExitStatus exited = co_await three.wait();
    CHECK(exited == ExitStatus::of_code(3));
    CHECK(exited.text() == "exited with 3");
    CHECK_FALSE(exited.ok());
    CHECK(exited.signal() == 0);
    Process killed(shell("kill -KILL $$"));
    const ExitStatus by_signal = co_await killed.wait();
    CHECK(by_signal == ExitStatus::of_signal(SIGKILL));
    CHECK(by_signal.text() == "killed by SIGKILL");
    CHECK(by_signal.code() == -1);
  });
}

TEST_CASE("process: arguments arrive as they are, without a shell",
          "[process]") {
  const NothingLeft nothing_left;
  CHECK(output_of({"printf", "[%s]", "a b", "*", "", "$HOME", "a\nb"}) ==
        "[a b][*][][$HOME][a\nb]");
  CHECK(output_of(Command(std::vector<std::string>{"printf", "%s", "x"})) ==
        "x");
}

TEST_CASE("process: what cannot be started is told with its name",
          "[process]") {
  const NothingLeft nothing_left;
  CHECK(why({"nosuch"}) == "spawn nosuch: No such file or directory");
  CHECK(why({"./nosuch", "x"}) == "spawn ./nosuch: No such file or directory");
  CHECK(why({"/etc/passwd"}) == "spawn /etc/passwd: Permission denied");
  CHECK(why({"/"}) == "spawn /: Permission denied");
  ProcessOptions nowhere;
  nowhere.directory = "/nosuch/folder";
  CHECK(why({"true"}, nowhere) ==
        "spawn true: chdir /nosuch/folder: No such file or directory");
  ProcessOptions closed;
  closed.out = Stdio::use(999);
  CHECK(why({"true"}, closed) == "spawn true: Bad file descriptor");
  closed.out = Stdio::use(-7);
  CHECK(why({"true"}, closed) == "spawn true: Bad file descriptor");
}

TEST_CASE("process: a file that is no program is not given to a shell",
          "[process]") {
  const NothingLeft nothing_left;
  programs::TemporaryFolder folder;
  const std::string& path = folder.file("script");
  {
    const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
    put(file.get(), "echo hello\n");
  }
  CHECK(contains(why({path}), "Exec format error"));
}

TEST_CASE(
    "process: with an error_code nothing is thrown, and there is no child",
    "[process]") {
  const NothingLeft nothing_left;
  const auto body = []() -> Task<> {
    std::error_code code;
    Process none({"nosuch"}, piped(), code);
    CHECK(code == std::errc::no_such_file_or_directory);
    CHECK(none.pid() == -1);
    const ExitStatus status = co_await none.wait();
    CHECK_FALSE(status.ok());
    CHECK_FALSE(none.signal(SIGTERM));
    Process some({"true"}, ProcessOptions(), code);
    CHECK_FALSE(code);
    const ExitStatus fine = co_await some.wait(code);
    CHECK(fine.ok());
    CHECK_FALSE(code);
  };
  run(body());
}

TEST_CASE("process: a command that nobody could start is a misuse",
          "[process]") {
  const NothingLeft nothing_left;
  CHECK(contains(why(Command(std::vector<std::string>())), "needs a program"));
  CHECK(contains(why({""}), "needs a program"));
  CHECK(contains(why({"true", std::string("a\0b", 3)}), "a NUL in it"));
  ProcessOptions options;
  options.environment = {"HOME"};
  CHECK(contains(why({"true"}, options), "NAME=value"));
  options.environment = {"=x"};
  CHECK(contains(why({"true"}, options), "NAME=value"));
  options = ProcessOptions();
  options.out = Stdio::out();
  CHECK(contains(why({"true"}, options), "Stdio::out()"));
}

// -------------------------------------------------------------------- streams

TEST_CASE("process: environment and working directory are as told",
          "[process]") {
  const NothingLeft nothing_left;
  ::setenv("VIOLET_A", "ours", 1);
  ::setenv("VIOLET_B", "ours", 1);
  const std::string script = "echo $VIOLET_A $VIOLET_B $VIOLET_C; pwd";
  ProcessOptions options;
  options.environment = {"VIOLET_B=theirs", "VIOLET_C=a=b"};
  options.directory = "/";
  CHECK(output_of(shell(script), options) == "ours theirs a=b\n/\n");
  options.clean_environment = true;
  CHECK(output_of({"/usr/bin/env"}, options) ==
        "VIOLET_B=theirs\nVIOLET_C=a=b\n");
  ::unsetenv("VIOLET_A");
  ::unsetenv("VIOLET_B");
}

TEST_CASE("process: a name with a slash counts from its working directory",
          "[process]") {
  const NothingLeft nothing_left;
  ProcessOptions options;
  options.directory = "/bin";
  CHECK(output_of({"./echo", "hello"}, options) == "hello\n");
}

TEST_CASE("process: PATH is searched, past what cannot be run", "[process]") {
  const NothingLeft nothing_left;
  programs::TemporaryFolder folder;
  const std::string& path = folder.file("echo");
  {
    const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  }
  const std::string denied = path.substr(0, path.rfind('/'));
  const std::string before = ::getenv("PATH");
  ::setenv("PATH", (denied + ":/nosuch::/etc/passwd:" + before).c_str(), 1);
  CHECK(output_of({"echo", "found"}) == "found\n");
  ::setenv("PATH", denied.c_str(), 1);
  CHECK(why({"echo"}) == "spawn echo: Permission denied");
  ::unsetenv("PATH");
  CHECK(output_of({"echo", "usual"}) == "usual\n");
  ::setenv("PATH", before.c_str(), 1);
}

TEST_CASE("process: streams may be nothing, descriptors, or each other",
          "[process]") {
  const NothingLeft nothing_left;
  const std::string script = "cat; echo out; echo err >&2";
  ProcessOptions options = with(Stdio::null(), Stdio::pipe(), Stdio::out());
  CHECK(output_of(shell(script), options) == "out\nerr\n");
  options.err = Stdio::null();
  CHECK(output_of(shell(script), options) == "out\n");
  const auto body = [&]() -> Task<> {
    Pair in = make_pipe(O_CLOEXEC);
    Pair out = make_pipe(O_CLOEXEC);
    Pair err = make_pipe(O_CLOEXEC);
    put(in[1].get(), "in ");
    in[1].reset();
    const ProcessOptions given =
        with(Stdio::use(in[0]), Stdio::use(out[1]), Stdio::use(err[1]));
    Process child(shell(script), given);
    const ExitStatus status = co_await child.wait();
    CHECK(status.ok());
    CHECK(get(out[0].get()) == "in out\n");
    CHECK(get(err[0].get()) == "err\n");
  };
  run(body());
}

TEST_CASE("process: streams may take each other's places", "[process]") {
  const ChildEnd end = in_child([] {
    Pair out = make_pipe(O_CLOEXEC);
    Pair err = make_pipe(O_CLOEXEC);
    ::dup2(out[1].get(), 1);
    ::dup2(err[1].get(), 2);
    const auto body = []() -> Task<> {
      Process child(shell("echo out; echo err >&2"),
                    with(Stdio::null(), Stdio::use(2), Stdio::use(1)));
      co_await child.wait();
    };
    run(body());
    if (get(out[0].get()) != "err\n") ::_exit(4);
    if (get(err[0].get()) != "out\n") ::_exit(5);
  });
  CHECK(end.status == 0);
}

TEST_CASE("process: where 0, 1 and 2 are closed, pipes work all the same",
          "[process]") {
  for (const int closed : {1, 2, 3, 4, 5, 6, 7}) {
    const ChildEnd end = in_child([&] {
      Pair result = make_pipe(O_CLOEXEC);
      for (int fd = 0; fd < 3; ++fd) {
        if ((closed >> fd & 1) != 0) ::close(fd);
      }
      std::string out;
      std::string err;
      const auto body = [&]() -> Task<> {
        Process child(shell("cat; echo out; echo err >&2"),
                      with(Stdio::pipe(), Stdio::pipe(), Stdio::pipe()));
        co_await write(child.in(), "in ");
        child.in().close();
        out = co_await read_all(child.out());
        err = co_await read_all(child.err());
        co_await child.wait();
      };
      run(body());
      if (out != "in out\n" || err != "err\n") ::_exit(4);
    });
    CHECK(end.status == 0);
  }
}

TEST_CASE("process: a child has no descriptors but its streams", "[process]") {
  const NothingLeft nothing_left;
  const Pair pipe = make_pipe(0);  // without close-on-exec
  const std::string number = std::to_string(pipe[0].get());
  const std::string high = "200";
  ::dup2(pipe[0].get(), 200);
  const std::string test =
      "for fd in 3 4 5 6 7 8 9; do "
      "if (: <&$fd) 2> /dev/null; then echo $fd; fi; "
      "done; ls /dev/fd/200 2> /dev/null; echo end";
  CHECK(output_of(shell(test)) == "end\n");
  ::close(200);
}

// -------------------------------------------------------------------- signals

#ifdef __linux__
TEST_CASE("process: a child begins with the usual signals", "[process]") {
  const NothingLeft nothing_left;
  const Signals mine({SIGHUP, SIGUSR1});
  struct sigaction ignored{};
  ignored.sa_handler = SIG_IGN;
  struct sigaction before{};
  ::sigaction(SIGQUIT, &ignored, &before);
  sigset_t blocked;
  sigset_t mask;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGWINCH);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &mask);
  // run() ignores SIGPIPE on top of that.
  const std::string text = output_of({"cat", "/proc/self/status"});
  // All but 32 and 33, which the C library keeps for itself.
  const auto set_of = [&](const std::string& name) {
    const std::string digits = text.substr(text.find(name) + name.size(), 16);
    return std::stoull(digits, nullptr, 16) & ~0x180000000ull;
  };
  CHECK(set_of("SigBlk:\t") == 0);
  CHECK(set_of("SigIgn:\t") == 0);
  CHECK(set_of("SigCgt:\t") == 0);
  // What was held back here still is.
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, &mask, &now);
  CHECK(::sigismember(&now, SIGWINCH) == 1);
  CHECK(::sigismember(&now, SIGTERM) == 0);
  ::sigaction(SIGQUIT, &before, nullptr);
}
#endif

TEST_CASE("process: a child dies of SIGPIPE, we do not", "[process]") {
  both_ways([]() -> Task<> {
    Process child({"yes"}, with(Stdio::null(), Stdio::pipe()));
    const std::string some = co_await read_some(child.out(), 100);
    CHECK(contains(some, "y\ny\n"));
    child.out().close();
    const ExitStatus status = co_await child.wait();
    CHECK(status == ExitStatus::of_signal(SIGPIPE));
  });
}

TEST_CASE("process: a child that does not read its input gives broken_pipe",
          "[process]") {
  MaybeShortIo io;
  both_ways([]() -> Task<> {
    Process child({"true"}, with(Stdio::pipe(), Stdio::null()));
    co_await child.wait();
    std::error_code code;
    co_await write(child.in(), "nobody reads this", code);
    CHECK(code == std::errc::broken_pipe);
  });
}

TEST_CASE("process: a signal reaches it, and nobody else once it has ended",
          "[process]") {
  both_ways([]() -> Task<> {
    Process child({"sleep", "1000"});
    CHECK(exists(child.pid()));
    CHECK(child.signal(SIGTERM));
    const ExitStatus status = co_await child.wait();
    CHECK(status.text() == "killed by SIGTERM");
    CHECK_FALSE(child.signal(SIGTERM));
    CHECK_FALSE(exists(child.pid()));
  });
}

TEST_CASE("process: a signal that does not exist is an error", "[process]") {
  const NothingLeft nothing_left;
  Process child({"sleep", "1000"});
  CHECK_THROWS_AS(child.signal(4000), std::system_error);
}

TEST_CASE("process: terminate asks first, and then kills", "[process]") {
  both_ways([]() -> Task<> {
    Process polite(shell("trap 'exit 7' TERM; echo; while :; do sleep 0.01; "
                         "done"),
                   piped());
    co_await read_some(polite.out(), 1);
    const ExitStatus asked = co_await polite.terminate(1min);
    CHECK(asked == ExitStatus::of_code(7));
    ProcessOptions options = piped();
    options.group = true;
    Process stubborn(shell("trap '' TERM; echo; while :; do sleep 0.01; done"),
                     options);
    co_await read_some(stubborn.out(), 1);
    const ExitStatus killed = co_await stubborn.terminate(20ms);
    CHECK(killed == ExitStatus::of_signal(SIGKILL));
    const ExitStatus again = co_await stubborn.terminate();
    CHECK(again == killed);
  });
}

TEST_CASE("process: after a kill, finally may terminate it gently",
          "[process]") {
  programs::TemporaryFolder folder;
  const std::string& path = folder.file("last word");
  const NothingLeft nothing_left;
  const auto body = [&]() -> Task<> {
    const auto use = [](std::shared_ptr<Process> child) -> Task<> {
      co_await child->wait();
    };
    const auto stop = [](std::shared_ptr<Process> child) -> Task<> {
      co_await child->terminate(1min);
    };
    auto child = std::make_shared<Process>(
        shell("trap 'echo bye > \"" + path +
              "\"; exit' TERM; echo; while :; do sleep 0.01; done"),
        piped());
    co_await read_some(child->out(), 1);
    const auto whole = [&]() -> Task<> {
      co_await finally(use(child), stop, child);
    };
    const Job<> job = spawn(whole);
    co_await yield_now();
    co_await kill(job);
  };
  run(body());
  CHECK(programs::contents(path) == "bye\n");
}

TEST_CASE("process: with a group, its own children end with it", "[process]") {
  both_ways([]() -> Task<> {
    // The pipe has an end when all who hold it have ended.
    Pair pipe = make_pipe(O_CLOEXEC);
    ProcessOptions options = with(Stdio::null(), Stdio::use(pipe[1]));
    options.group = true;
    {
      Process child(shell("sleep 1000 & echo $!; exit 5"), options);
      const ExitStatus status = co_await child.wait();
      CHECK(status == ExitStatus::of_code(5));
      pipe[1].reset();
      const Descriptor reads = adopt(std::move(pipe[0]));
      char buffer[32];
      const std::size_t count = co_await read(reads, buffer);
      const int grandchild = std::stoi(std::string(buffer, count));
      CHECK(exists(grandchild));
      // Its own number is still its own, so that this harms nobody else.
      CHECK(child.signal(SIGTERM));
      const std::size_t end = co_await read(reads, buffer);
      CHECK(end == 0);
    }
  });
}

TEST_CASE("process: the end of the scope ends the group, too", "[process]") {
  const NothingLeft nothing_left;
  const auto body = []() -> Task<> {
    Pair pipe = make_pipe(O_CLOEXEC);
    ProcessOptions options = with(Stdio::null(), Stdio::use(pipe[1]));
    options.group = true;
    {
      Process child(shell("sleep 1000 & sleep 1000 & wait"), options);
      pipe[1].reset();
    }
    const Descriptor reads = adopt(std::move(pipe[0]));
    char buffer[8];
    const std::size_t count = co_await read(reads, buffer);
    CHECK(count == 0);
  };
  run(body());
}

// -------------------------------------------------------------- ends and waits

TEST_CASE("process: leaving its scope kills and reaps it", "[process]") {
  both_ways([]() -> Task<> {
    int pid = 0;
    {
      const Process child({"sleep", "1000"});
      pid = child.pid();
      CHECK(exists(pid));
    }
    CHECK_FALSE(exists(pid));
    {
      const Process ended({"true"});  // a zombie, at some moment
      pid = ended.pid();
    }
    CHECK_FALSE(exists(pid));
    CHECK(childless());
    co_return;
  });
}

TEST_CASE("process: it may live without any loop", "[process]") {
  const NothingLeft nothing_left;
  Process child({"true"});
  CHECK(run(end_of(child)).ok());
  CHECK(run(end_of(child)).ok());  // another loop
}

TEST_CASE("process: any number of jobs may wait for it, then and later",
          "[process]") {
  both_ways([]() -> Task<> {
    Process child({"cat"}, piped());
    std::vector<Job<ExitStatus>> jobs;
    for (int i = 0; i < 5; ++i) jobs.push_back(spawn(end_of, std::ref(child)));
    co_await yield_now();
    jobs[0].kill();  // the one that hears
    jobs[2].kill();
    co_await yield_now();
    child.in().close();
    for (const int i : {1, 3, 4}) {
      const ExitStatus status =
          co_await join(jobs[static_cast<std::size_t>(i)]);
      CHECK(status.ok());
    }
    const ExitStatus later = co_await child.wait();
    CHECK(later.ok());
  });
}

TEST_CASE("process: a limit on the wait is no end of the child", "[process]") {
  both_ways([]() -> Task<> {
    Process child({"cat"}, piped());
    const auto none = co_await within(1ms, child.wait());
    CHECK_FALSE(none);
    CHECK(exists(child.pid()));
    child.in().close();
    const auto status = co_await within(1min, child.wait());
    REQUIRE(status);
    CHECK(status->ok());
  });
}

TEST_CASE("process: whoever waits when it is destroyed is told so",
          "[process]") {
  both_ways([]() -> Task<> {
    auto child = std::make_unique<Process>(Command("sleep", "1000"));
    const Job<ExitStatus> first = spawn(end_of, std::ref(*child));
    const Job<ExitStatus> second = spawn(end_of, std::ref(*child));
    co_await yield_now();
    child.reset();
    for (const auto* job : {&first, &second}) {
      std::string text;
      try {
        co_await join(*job);
      } catch (const Misuse& misuse) {
        text = misuse.what();
      }
      CHECK(contains(text, "the Process is gone"));
    }
  });
}

TEST_CASE("process: other children of this process are left alone",
          "[process]") {
  const pid_t other = ::fork();
  if (other == 0) ::_exit(9);
  const auto body = []() -> Task<> {
    for (int i = 0; i < 3; ++i) {
      Process child({"true"});
      co_await child.wait();
    }
  };
  run(body());
  {
    const NoDescriptors none(ENOSYS);
    run(body());
  }
  int status = 0;
  CHECK(::waitpid(other, &status, 0) == other);
  CHECK(WEXITSTATUS(status) == 9);
}

TEST_CASE("process: an exit status that somebody else took is told as such",
          "[process]") {
  const NothingLeft nothing_left;
  struct sigaction ignored{};
  ignored.sa_handler = SIG_IGN;
  struct sigaction before{};
  ::sigaction(SIGCHLD, &ignored, &before);  // the kernel reaps by itself
  const auto body = []() -> Task<> {
    Process child({"true"});
    const ExitStatus status = co_await child.wait();
    CHECK(contains(status.text(), "somebody else"));
    CHECK_FALSE(status.ok());
    CHECK_FALSE(child.signal(SIGTERM));
  };
  run(body());
  ::sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE("process: the end of one is not taken for that of another",
          "[process]") {
  both_ways([]() -> Task<> {
    Process first({"cat"}, piped());
    Process second({"cat"}, piped());
    const Job<ExitStatus> a = spawn(end_of, std::ref(first));
    const Job<ExitStatus> b = spawn(end_of, std::ref(second));
    co_await yield_now();
    second.in().close();
    co_await join(b);
    CHECK_FALSE(a.ended());
    first.in().close();
    co_await join(a);
  });
}

TEST_CASE("process: a hundred at once all end and leave nothing", "[process]") {
  both_ways([]() -> Task<> {
    std::vector<std::unique_ptr<Process>> all;
    TaskGroup group;
    int fine = 0;
    const auto count = [](Process& child, int& good) -> Task<> {
      const ExitStatus status = co_await child.wait();
      if (status.ok()) ++good;
    };
    for (int i = 0; i < 100; ++i) {
      all.push_back(std::make_unique<Process>(Command("true")));
      group.spawn(count, std::ref(*all.back()), std::ref(fine));
    }
    co_await group.join();
    CHECK(fine == 100);
  });
}

TEST_CASE("process: one that hangs in the kernel does not hold up its scope",
          "[process]") {
  /// Says for a while that no child has ended.
  class Slow final : public sys::Layer {
   public:
    int wait_child(int, int, sys::ChildEnd&) noexcept override { return 0; }
    int poll(pollfd*, unsigned long, int) noexcept override {
      ++polls;
      return 0;
    }
    int polls = 0;
  };
  const int before = open_descriptors();
  int pid = 0;
  {
    Slow slow;
    {
      const Process child({"sleep", "1000"});
      pid = child.pid();
    }
    CHECK(slow.polls == 100);
  }
  programs::eventually("a thread reaps it", [&] { return !exists(pid); });
  CHECK(childless());
  CHECK(open_descriptors() == before);
}

TEST_CASE("process: a dump says what is waited for", "[process]") {
  both_ways([]() -> Task<> {
    Process child({"cat"}, piped());
    const Job<ExitStatus> waits = spawn(end_of, std::ref(child));
    co_await yield_now();
    CHECK(contains(Loop::current().dump(),
                   "for process " + std::to_string(child.pid())));
    waits.kill();
  });
}

TEST_CASE("process: while one runs, virtual time is the world's",
          "[process][sim]") {
  const NothingLeft nothing_left;
  const auto body = []() -> Task<> {
    Process child({"sleep", "0.05"}, with(Stdio::null(), Stdio::pipe()));
    const auto status = co_await within(1h, child.wait());
    REQUIRE(status);
    CHECK(status->ok());
    const auto text = co_await within(1h, read_all(child.out()));
    CHECK(text);
    co_await violet::sleep(24h);  // at once, now that it has ended
  };
  testing::play(body);
}

// ------------------------------------------------------------- what goes wrong

TEST_CASE("process: whatever fails at the beginning leaves nothing behind",
          "[process]") {
  const NothingLeft nothing_left;
  const ProcessOptions all = with(Stdio::pipe(), Stdio::pipe(), Stdio::pipe());
  const auto starts = [&](Call call, int error, std::uint64_t nth) {
    FaultPlan plan;
    plan.fail(call, error, nth);
    const int before = open_descriptors();
    const std::string text = why({"true"}, all);
    CHECK(plan.failed(call) == 1);
    CHECK(open_descriptors() == before);
    CHECK(childless());
    return text;
  };
  for (std::uint64_t nth = 1; nth <= 4; ++nth) {
    CHECK(starts(Call::kPipe, EMFILE, nth) ==
          "spawn true: Too many open files");
  }
  CHECK(starts(Call::kSpawn, EAGAIN, 1) ==
        "spawn true: " + text_of_error(EAGAIN));
  CHECK(starts(Call::kRead, EIO, 1) == "spawn true: " + text_of_error(EIO));
  CHECK(starts(Call::kOpenProcess, EMFILE, 1) == "it was started");
  for (std::uint64_t nth = 1; nth <= 3; ++nth) {
    CHECK(contains(starts(Call::kGetFlags, EBADF, nth), "adopt"));
  }
}

TEST_CASE("process: with too few descriptors it begins or says so",
          "[process]") {
  const NothingLeft nothing_left;
  run([]() -> Task<> { co_return; }());  // whatever the first run opens
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const ProcessOptions all = with(Stdio::pipe(), Stdio::pipe(), Stdio::pipe());
  int started = 0;
  int refused = 0;
  const int open = open_descriptors();
  for (int more = 0; more < 64 && started < 3; ++more) {
    rlimit few = before;
    few.rlim_cur = static_cast<rlim_t>(open + more);
    ::setrlimit(RLIMIT_NOFILE, &few);
    const std::string text = why({"true"}, all);
    ::setrlimit(RLIMIT_NOFILE, &before);
    if (text == "it was started") {
      ++started;
    } else {
      CHECK(text == "spawn true: Too many open files");
      ++refused;
    }
    CHECK(open_descriptors() == open);
    CHECK(childless());
  }
  CHECK(started > 0);
  CHECK(refused > 5);
}

TEST_CASE("process: calls that signals interrupt are made again", "[process]") {
  const NothingLeft nothing_left;
  for (const std::uint64_t every : {2u, 3u}) {
    FaultPlan plan;
    plan.interrupt_every(every).one_byte();
    const auto body = []() -> Task<> {
      const ProcessOutput output =
          co_await run_process({"sh", "-c", "cat; exit 3"}, "hello");
      CHECK(output.out == "hello");
      CHECK(output.status.code() == 3);
    };
    run(body());
    CHECK(why({"nosuch"}) == "spawn nosuch: No such file or directory");
    CHECK(plan.interrupted() > 0);
  }
}

TEST_CASE("process: children start while signals rain on several threads",
          "[process][threads]") {
  const Signals keeps({SIGUSR2});
  std::atomic<bool> over = false;
  Thread rain([&] {
    while (!over) ::kill(::getpid(), SIGUSR2);
  });
  std::atomic<int> fine = 0;
  run_loops(3, [&](int) {
    const auto body = [](std::atomic<int>& good) -> Task<> {
      for (int i = 0; i < 20; ++i) {
        Process child({"true"});
        const ExitStatus status = co_await child.wait();
        if (status.ok()) ++good;
      }
    };
    return body(fine);
  });
  over = true;
  CHECK(fine == 60);
}

// --------------------------------------------------------------- run_process

TEST_CASE("run_process: it gives input and takes output", "[process]") {
  MaybeShortIo io;
  both_ways([]() -> Task<> {
    const ProcessOutput sorted =
        co_await run_process({"sort", "-n"}, "10\n9\n1\n");
    CHECK(sorted.out == "1\n9\n10\n");
    CHECK(sorted.err == "");
    CHECK(sorted.status.ok());
    CHECK_FALSE(sorted.cut);
    const ProcessOutput failed =
        co_await run_process({"sh", "-c", "echo o; echo e >&2; exit 2"});
    CHECK(failed.out == "o\n");
    CHECK(failed.err == "e\n");
    CHECK(failed.status.text() == "exited with 2");
  });
}

TEST_CASE("run_process: much input and much output do not wait for each other",
          "[process]") {
  MaybeShortIo io;
  const std::size_t size = MaybeShortIo::wanted() ? 200'000 : 8'000'000;
  const std::string much = programs::noise(size);
  both_ways([&]() -> Task<> {
    const ProcessOutput output =
        co_await run_process({"sh", "-c", "tee /dev/stderr"}, much);
    CHECK(output.out.size() == size);
    CHECK((output.out == much));
    CHECK((output.err == much));
  });
}

TEST_CASE("run_process: input that is not read is no error", "[process]") {
  const std::string much(1'000'000, 'x');
  both_ways([&]() -> Task<> {
    const ProcessOutput output = co_await run_process({"true"}, much);
    CHECK(output.status.ok());
  });
}

TEST_CASE("run_process: a child that writes too much is killed", "[process]") {
  MaybeShortIo io;
  both_ways([]() -> Task<> {
    ProcessOptions options;
    options.capture_limit = 1000;
    const ProcessOutput output = co_await run_process({"yes"}, {}, options);
    CHECK(output.cut);
    CHECK(output.out.size() == 1000);
    CHECK_FALSE(output.status.ok());
    const ProcessOutput both = co_await run_process(
        {"sh", "-c", "exec yes >&2"}, std::string(100'000, 'x'), options);
    CHECK(both.cut);
    CHECK(both.err.size() == 1000);
    options.capture_limit = 6;
    const ProcessOutput fits =
        co_await run_process({"echo", "hello"}, {}, options);
    CHECK_FALSE(fits.cut);
    CHECK(fits.out == "hello\n");
  });
}

TEST_CASE("run_process: what cannot be started is thrown, or told by a code",
          "[process]") {
  const NothingLeft nothing_left;
  const auto body = []() -> Task<> {
    std::string text;
    try {
      co_await run_process({"nosuch"}, "input");
    } catch (const std::system_error& error) {
      text = error.what();
    }
    CHECK(text == "spawn nosuch: No such file or directory");
    std::error_code code;
    const ProcessOutput none =
        co_await run_process({"nosuch"}, "input", ProcessOptions(), code);
    CHECK(code == std::errc::no_such_file_or_directory);
    CHECK(none.out == "");
    const ProcessOutput some =
        co_await run_process({"cat"}, "input", ProcessOptions(), code);
    CHECK_FALSE(code);
    CHECK(some.out == "input");
  };
  run(body());
}

TEST_CASE("run_process: a limit kills the child", "[process]") {
  both_ways([]() -> Task<> {
    const auto none = co_await within(20ms, run_process({"sleep", "1000"}));
    CHECK_FALSE(none);
    CHECK(childless());
  });
}

// ------------------------------------------------------------ kill everywhere

namespace {

testing::Options some_seeds() {
  testing::Options options;
  options.seeds = 60;
  return options;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace

TEST_CASE("process: a kill anywhere leaves no child and no descriptor",
          "[process][kill]") {
  struct Books {
    int before = open_descriptors();
  };
  const auto check = [](const Books& books) {
    require(childless(), "a child is left");
    require(open_descriptors() == books.before, "a descriptor is left");
  };
  const auto talk = [](Books&) -> Task<> {
    const auto ask = [](Process& child) -> Task<> { co_await child.wait(); };
    Process child({"cat"}, piped());
    TaskGroup group;
    group.spawn(ask, std::ref(child));
    group.spawn(ask, std::ref(child));
    co_await write(child.in(), "hello");
    const std::string back = co_await read_some(child.out(), 5);
    require(back == "hello", "it is another text");
    child.in().close();
    const ExitStatus status = co_await child.wait();
    require(status.ok(), "it failed");
    co_await group.join();
  };
  for (const bool by_signal : {false, true}) {
    std::optional<NoDescriptors> none;
    if (by_signal) none.emplace(ENOSYS);
    const auto counts =
        testing::kill_everywhere<Books>(talk, check, some_seeds());
    CHECK(counts.kills > 10);
  }
}

TEST_CASE("run_process: a kill anywhere leaves no child and no descriptor",
          "[process][kill]") {
  struct Books {
    int before = open_descriptors();
  };
  const auto check = [](const Books& books) {
    require(childless(), "a child is left");
    require(open_descriptors() == books.before, "a descriptor is left");
  };
  const auto body = [](Books&) -> Task<> {
    const ProcessOutput output = co_await run_process({"cat"}, "hello");
    require(output.out == "hello", "it is another text");
  };
  testing::Options options = some_seeds();
  options.victims = testing::Victims::kRoot;  // nobody knows the other jobs
  const auto counts = testing::kill_everywhere<Books>(body, check, options);
  CHECK(counts.kills > 10);
}

TEST_CASE("terminate: a kill anywhere leaves no child", "[process][kill]") {
  struct Books {
    int before = open_descriptors();
  };
  const auto check = [](const Books& books) {
    require(childless(), "a child is left");
    require(open_descriptors() == books.before, "a descriptor is left");
  };
  const auto body = [](Books&) -> Task<> {
    Process child({"sleep", "1000"});
    const ExitStatus status = co_await child.terminate(1min);
    require(status == ExitStatus::of_signal(SIGTERM), "it ended otherwise");
  };
  const auto counts =
      testing::kill_everywhere<Books>(body, check, some_seeds());
  CHECK(counts.kills > 2);
}

TEST_CASE("process: one that goes tells who has let others go first",
          "[process]") {
  LoopOptions options;
  options.budget = 0;
  Loop loop(options);
  std::string told;
  const auto body = [&]() -> Task<> {
    auto process = std::make_unique<Process>(Command{"sleep", "60"});
    const auto waits = [&]() -> Task<> {
      try {
        (void)co_await process->wait();
      } catch (const Misuse& e) {
        told = e.what();
      }
    };
    const auto destroys = [&]() -> Task<> {
      process.reset();
      co_return;
    };
    const Job<> one = spawn(waits);
    const Job<> other = spawn(destroys);
    co_await join(one);
    co_await join(other);
  };
  loop.run(body());
  CHECK(contains(told, "the Process is gone"));
}
