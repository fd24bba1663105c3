// program.hpp - starts programs and talks to them as their users do.
//
// A Program is a child process, either another executable or a function of
// the test: its output comes through pipes, signals go to it, and it never
// outlives its object. A Client is a plain blocking socket that knows nothing
// of Violet. Every wait has a generous limit, after which it throws.
//
// SPDX-License-Identifier: MIT
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "../runtime/fd.hpp"

namespace programs {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// How long anything may take. Only a test that fails ever waits for it.
inline constexpr std::chrono::seconds kLimit = 60s;

[[noreturn]] inline void fail(const std::string& what) {
  throw std::runtime_error(what);
}
[[noreturn]] inline void fail_with_errno(const char* what) {
  throw std::system_error(errno, std::system_category(), what);
}

/// Asks until `condition()` is true. Throws: after kLimit.
template <class Condition>
void eventually(const char* what, Condition condition) {
  const auto limit = Clock::now() + kLimit;
  while (!condition()) {
    if (Clock::now() > limit) fail(std::string("never happened: ") + what);
    std::this_thread::sleep_for(1ms);
  }
}

/// Where the programs under test lie.
inline std::string build_path(const std::string& name) {
  const char* build = std::getenv("VIOLET_BUILD");
  return std::string(build == nullptr ? "build" : build) + '/' + name;
}

inline std::string contents(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos;
       at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

/// Some reproducible bytes of every value.
inline std::string noise(std::size_t size, std::uint32_t seed = 1) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

/// Lets this process have as many descriptors as it may, for a scope.
class ManyDescriptors {
 public:
  ManyDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit most = before_;
    most.rlim_cur = most.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &most);
  }
  ManyDescriptors(const ManyDescriptors&) = delete;
  ~ManyDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  bool at_least(rlim_t count) const { return before_.rlim_max >= count; }

 private:
  rlimit before_{};
};

/// A folder that goes away with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base == nullptr ? "/tmp" : base) + "/violet.XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) fail_with_errno("mkdtemp");
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    const auto remove = [](const char* path, const struct stat*, int, FTW*) {
      return ::remove(path);
    };
    ::nftw(path_.c_str(), remove, 16, FTW_DEPTH | FTW_PHYS);
  }

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + '/' + name; }

  /// What is in it, hidden or not, in order.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    DIR* const listing = ::opendir(path_.c_str());
    if (listing == nullptr) fail_with_errno("opendir");
    while (const dirent* entry = ::readdir(listing)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") found.push_back(name);
    }
    ::closedir(listing);
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

// ------------------------------------------------------------------ programs

/// How a program is started, where that is not the usual.
struct Setup {
  enum Out { kPipe, kClosed, kBrokenPipe, kFull };  // kFull is /dev/full
  Out out = kPipe;
  bool errors_unread = false;  // stderr is a pipe that nobody reads
  bool all_closed = false;     // 0, 1 and 2 are closed
  rlim_t descriptors = 0;      // RLIMIT_NOFILE, if not 0
};

/// How a program ended.
struct End {
  int code = -1;   // exit code, -1 if a signal ended it
  int signal = 0;  // that signal
};

class Program {
 public:
  explicit Program(const std::vector<std::string>& command,
                   Setup setup = Setup()) {
    std::vector<char*> words;
    for (const std::string& word : command) {
      words.push_back(const_cast<char*>(word.c_str()));
    }
    words.push_back(nullptr);
    start(setup, [&words] {
      ::execvp(words[0], words.data());
      return 127;
    });
  }

  /// A function instead of an executable: its result is the exit code.
  explicit Program(const std::function<int()>& body, Setup setup = Setup()) {
    start(setup, body);
  }

  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  ~Program() {
    if (child_ < 0) return;
    ::kill(child_, SIGKILL);
    ::kill(child_, SIGCONT);
    ::waitpid(child_, nullptr, 0);
  }

  pid_t pid() const { return child_; }
  const std::string& out() const { return texts_[0]; }
  const std::string& err() const { return texts_[1]; }

  /// The next line of stdout, without its end.
  std::string line() {
    pump_until("a line on stdout",
               [this] { return out().find('\n', read_) != out().npos; });
    const auto end = out().find('\n', read_);
    const std::string line = out().substr(read_, end - read_);
    read_ = end + 1;
    return line;
  }

  /// Waits until stderr has `part` at or after `from`.
  void wait_for_error(std::string_view part, std::size_t from = 0) {
    pump_until(("stderr: " + std::string(part)).c_str(),
               [&] { return err().find(part, from) != err().npos; });
  }

  /// Closes our end of its stdout: whatever it writes from now on fails.
  void stop_reading() { pipes_[0].reset(); }

  /// Takes what the program has written so far.
  void pump() {
    while (pump_once(0)) {
    }
  }

  void signal(int number) const {
    if (::kill(child_, number) != 0) fail_with_errno("kill");
  }

  /// Sends a signal and waits until it is not pending any more, so that the
  /// next one is counted for itself.
  void deliver(int number) const {
    signal(number);
    eventually("a delivered signal", [this] {
      const std::string pending = status("ShdPnd") + status("SigPnd");
      return pending.find_first_not_of("0") == pending.npos;
    });
  }

  /// Stops it as SIGSTOP does, and waits until it has stopped.
  void freeze() const {
    signal(SIGSTOP);
    int status = 0;
    if (::waitpid(child_, &status, WUNTRACED) != child_ ||
        !WIFSTOPPED(status)) {
      fail("the program did not stop");
    }
  }
  void thaw() const { signal(SIGCONT); }

  /// Asks for a dump of each of `loops` loops. Returns: all of it.
  std::string dump(std::size_t loops = 1) {
    pump();
    const std::size_t before = err().size();
    signal(SIGUSR1);
    pump_until("a dump", [&] {
      return count_of(std::string_view(err()).substr(before), "\n\n") >= loops;
    });
    return err().substr(before);
  }

  /// Waits until it has ended, taking its output.
  End wait() {
    pump_until("the end of the program",
               [this] { return !pipes_[0] && !pipes_[1]; });
    int status = 0;
    eventually("the end of the process",
               [&] { return ::waitpid(child_, &status, WNOHANG) == child_; });
    child_ = -1;
    End end;
    if (WIFEXITED(status)) end.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
    return end;
  }

  End stop(int number = SIGTERM) {
    signal(number);
    return wait();
  }

  /// Processor time so far.
  std::chrono::nanoseconds cpu_time() const {
    clockid_t clock;
    timespec time{};
    if (::clock_getcpuclockid(child_, &clock) != 0 ||
        ::clock_gettime(clock, &time) != 0) {
      fail("no processor time of the child");
    }
    return std::chrono::seconds(time.tv_sec) +
           std::chrono::nanoseconds(time.tv_nsec);
  }

  std::string proc(const std::string& name) const {
    return "/proc/" + std::to_string(child_) + '/' + name;
  }

  /// A line of /proc/PID/status.
  std::string status(const std::string& key) const {
    return value_of(contents(proc("status")), key);
  }

  /// What follows "KEY:" in such a file.
  static std::string value_of(const std::string& text, const std::string& key) {
    auto begin = text.find(key + ':');
    if (begin == text.npos) return "";
    begin = text.find_first_not_of(" \t", begin + key.size() + 1);
    return text.substr(begin, text.find('\n', begin) - begin);
  }

 private:
  void start(const Setup& setup, const std::function<int()>& body) {
    int out[2];
    int err[2];
    if (::pipe2(out, O_CLOEXEC) != 0) fail_with_errno("pipe2");
    pipes_[0].reset(out[0]);
    violet::Fd out_end(out[1]);
    if (::pipe2(err, O_CLOEXEC) != 0) fail_with_errno("pipe2");
    pipes_[1].reset(err[0]);
    violet::Fd err_end(err[1]);
    if (setup.out != Setup::kPipe) pipes_[0].reset();
    if (setup.errors_unread) pipes_[1].reset();
    if (setup.out == Setup::kFull) {
      out_end.reset(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    }
    const pid_t parent = ::getpid();
    std::cout.flush();  // or the child may write it, too
    std::fflush(stdout);
    child_ = ::fork();
    if (child_ < 0) fail_with_errno("fork");
    if (child_ > 0) return;
#ifdef __linux__
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(125);
#endif
    for (int number = 1; number < NSIG; ++number) {
      ::signal(number, SIG_DFL);  // Catch2's, and make's
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    if (setup.descriptors != 0) {
      const rlimit few{setup.descriptors, setup.descriptors};
      ::setrlimit(RLIMIT_NOFILE, &few);
    }
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(out_end.get(), 1);
    ::dup2(err_end.get(), 2);
    ::close(null);
    for (violet::Fd* fd : {&pipes_[0], &pipes_[1], &out_end, &err_end}) {
      fd->reset();
    }
    if (setup.out == Setup::kClosed) ::close(1);
    if (setup.all_closed) {
      for (const int fd : {0, 1, 2}) ::close(fd);
    }
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }

  /// Takes output that is there. Returns: false if none came in time.
  bool pump_once(int timeout_ms) {
    std::array<pollfd, 2> ends{};
    for (std::size_t i = 0; i < 2; ++i) ends[i] = {pipes_[i].get(), POLLIN, 0};
    if (::poll(ends.data(), 2, timeout_ms) <= 0) return false;
    for (std::size_t i = 0; i < 2; ++i) {
      if (ends[i].revents == 0) continue;
      char buffer[65536];
      const ssize_t count = ::read(ends[i].fd, buffer, sizeof buffer);
      if (count > 0) {
        texts_[i].append(buffer, static_cast<std::size_t>(count));
      } else {
        pipes_[i].reset();
      }
    }
    return true;
  }

  template <class Condition>
  void pump_until(const char* what, Condition condition) {
    const auto limit = Clock::now() + kLimit;
    while (!condition()) {
      const bool ended = !pipes_[0] && !pipes_[1];
      if (ended || Clock::now() > limit) {
        fail(std::string("never came: ") + what + "; stdout: " + out() +
             "; stderr: " + err());
      }
      pump_once(1000);
    }
  }

  pid_t child_ = -1;
  std::array<violet::Fd, 2> pipes_;  // their reading ends
  std::array<std::string, 2> texts_;
  std::size_t read_ = 0;  // how much of stdout line() has returned
};

// ----------------------------------------------------------------- compilers

/// How one of our programs is started.
inline std::vector<std::string> command_for(
    const std::string& name, const std::vector<std::string>& options) {
  std::vector<std::string> command{build_path(name)};
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

/// One that has ended, and all that it said.
struct FinishedRun {
  explicit FinishedRun(const std::string& name,
                       const std::vector<std::string>& options = {},
                       Setup setup = Setup()) {
    Program program(command_for(name, options), setup);
    end = program.wait();
    out = program.out();
    err = program.err();
  }
  End end;
  std::string out;
  std::string err;
};

/// The port at the end of "echo: listening on 127.0.0.1:4915".
inline std::uint16_t port_in(const std::string& line) {
  return static_cast<std::uint16_t>(
      std::strtoul(line.c_str() + line.rfind(':') + 1, nullptr, 10));
}

/// What this build was made with, word by word.
inline std::vector<std::string> compiler() {
  std::istringstream flags(contents(build_path("flags")));
  std::string used = "g++";
  flags >> used;
  const char* given = std::getenv("CXX");  // it may have words of its own
  std::istringstream words(given != nullptr && *given != '\0' ? given : used);
  std::vector<std::string> command;
  for (std::string word; words >> word;) command.push_back(word);
  return command;
}

/// The same as users write it.
inline std::string compiler_name() {
  std::string name;
  for (const std::string& word : compiler())
    name += (name.empty() ? "" : " ") + word;
  return name;
}

/// The compiler, with the sanitizers of this build.
inline std::vector<std::string> compiler_command() {
  std::vector<std::string> command = compiler();
  std::istringstream flags(contents(build_path("flags")));
  for (std::string word; flags >> word;) {
    if (word.rfind("-fsanitize=", 0) == 0) command.push_back(word);
  }
  return command;
}

/// What a program is linked with: the library, and what that stands on.
inline std::vector<std::string> libraries(
    const std::string& library = build_path("libviolet.a")) {
  std::vector<std::string> all{library};
  const char* below = std::getenv("KQUEUE_LIBS");  // see POLLER in the Makefile
  std::istringstream words(below == nullptr ? "" : below);
  for (std::string word; words >> word;) all.push_back(word);
  return all;
}

struct Compiler {
  std::string name;
  bool clang = false;
  int version = 0;
};

/// The compiler of this build, and those that the library is made for, as far
/// as they are here.
inline std::vector<Compiler> compilers() {
  std::vector<Compiler> all;
  for (const auto& name :
       {compiler_name(), std::string("g++"), std::string("clang++-19")}) {
    const auto is_known = [&name](const Compiler& c) { return c.name == name; };
    if (std::any_of(all.begin(), all.end(), is_known)) continue;
    Program asked({name, "--version"});
    if (asked.wait().code != 0) continue;
    Program version({name, "-dumpversion"});
    version.wait();
    all.push_back({name, asked.out().find("clang") != std::string::npos,
                   std::atoi(version.out().c_str())});
  }
  return all;
}

/// Compiles as users are told to. Options and files come last.
inline std::vector<std::string> compile_command(
    std::vector<std::string> compiler, const std::vector<std::string>& rest) {
  compiler.insert(compiler.end(), {"-std=c++20", "-Wall", "-Wextra", "-Werror",
                                   "-I" + build_path("include")});
  compiler.insert(compiler.end(), rest.begin(), rest.end());
  return compiler;
}

// -------------------------------------------------------------------- README

/// A ```cpp block of README.md.
struct Example {
  std::string text;
  std::size_t first_line = 0;
  std::size_t lines = 0;

  bool has(std::string_view part) const { return text.find(part) != text.npos; }
  bool is_program() const { return has("int main("); }
  /// One that runs until somebody stops it.
  bool is_server() const { return has("run_program(") || has("run_server("); }

  /// The same server at any free port.
  Example at_any_port() const {
    Example other = *this;
    const auto port = text.find("4915");
    if (port == text.npos) fail("no port 4915 in an example");
    other.text.replace(port, 4, "0");
    return other;
  }
};

inline std::vector<Example> examples(const std::string& path = "README.md") {
  std::vector<Example> found;
  std::istringstream readme(contents(path));
  bool inside = false;
  std::size_t number = 0;
  for (std::string line; std::getline(readme, line);) {
    ++number;
    if (line == "```cpp") {
      found.emplace_back();
      found.back().first_line = number + 1;
      inside = true;
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      found.back().text += line + '\n';
      ++found.back().lines;
    }
  }
  return found;
}

// ------------------------------------------------------------------- clients

class Client {
 public:
  /// Connects. A small `window` makes the peer's sends wait sooner.
  explicit Client(std::uint16_t port, int window = 0)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (!fd_) fail_with_errno("socket");
    if (window != 0) {
      ::setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    }
    const timeval limit{kLimit.count(), 0};
    ::setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
      fail_with_errno("connect");
    }
  }

  int fd() const { return fd_.get(); }

  /// The port of this end.
  std::uint16_t own_port() const {
    sockaddr_in name{};
    socklen_t size = sizeof name;
    ::getsockname(fd(), reinterpret_cast<sockaddr*>(&name), &size);
    return ntohs(name.sin_port);
  }

  void send(std::string_view data) const {
    while (!data.empty()) {
      const ssize_t count =
          ::send(fd(), data.data(), data.size(), MSG_NOSIGNAL);
      if (count < 0) fail_with_errno("send");
      data.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  /// Receives so many bytes; less only if the stream ends before.
  std::string receive(std::size_t size) const {
    std::string data(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const ssize_t count = ::recv(fd(), data.data() + got, size - got, 0);
      if (count < 0) fail_with_errno("recv");
      if (count == 0) break;
      got += static_cast<std::size_t>(count);
    }
    data.resize(got);
    return data;
  }

  /// Receives to the end of the stream, or to a reset if that is what comes.
  std::string receive_rest() const {
    std::string data;
    char buffer[65536];
    for (;;) {
      const ssize_t count = ::recv(fd(), buffer, sizeof buffer, 0);
      if (count < 0 && errno != ECONNRESET) fail_with_errno("recv");
      if (count <= 0) return data;
      data.append(buffer, static_cast<std::size_t>(count));
    }
  }

  /// Waits for the end. Returns: false if a byte came, or a reset.
  bool ended() const {
    char byte;
    const ssize_t count = ::recv(fd(), &byte, 1, 0);
    if (count < 0 && errno != ECONNRESET) fail_with_errno("recv");
    return count == 0;
  }

  /// True if something, or the end, is there within the time.
  bool readable(int timeout_ms = 0) const {
    pollfd one{fd(), POLLIN, 0};
    return ::poll(&one, 1, timeout_ms) == 1;
  }

  /// Sends all and receives as much meanwhile. Returns: what came.
  std::string exchange(std::string_view data) const {
    std::string got;
    got.reserve(data.size());
    std::size_t sent = 0;
    char buffer[65536];
    while (got.size() < data.size()) {
      const bool sends = sent < data.size();
      pollfd one{fd(), static_cast<short>(sends ? POLLIN | POLLOUT : POLLIN),
                 0};
      if (::poll(&one, 1, static_cast<int>(kLimit.count()) * 1000) != 1) {
        fail("no echo in time");
      }
      if ((one.revents & POLLOUT) != 0) {
        const ssize_t count =
            ::send(fd(), data.data() + sent,
                   std::min(data.size() - sent, sizeof buffer),
                   MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN) fail_with_errno("send");
        if (count > 0) sent += static_cast<std::size_t>(count);
      }
      if ((one.revents & ~POLLOUT) != 0) {
        const ssize_t count = ::recv(fd(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN) fail_with_errno("recv");
        if (count == 0) break;
        if (count > 0) got.append(buffer, static_cast<std::size_t>(count));
      }
    }
    return got;
  }

  /// Sends as much of it as is taken at once. Returns: how much that was.
  std::size_t fill(std::string_view data) const {
    const std::size_t size = data.size();
    ssize_t count;
    while (!data.empty() && (count = ::send(fd(), data.data(), data.size(),
                                            MSG_NOSIGNAL | MSG_DONTWAIT)) > 0) {
      data.remove_prefix(static_cast<std::size_t>(count));
    }
    return size - data.size();
  }

  void finish_sending() const { ::shutdown(fd(), SHUT_WR); }
  void close() { fd_.reset(); }
  void reset() {
    const linger now{1, 0};
    ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    fd_.reset();
  }

 private:
  violet::Fd fd_;
};

/// True if nobody listens on this port.
inline bool refused(std::uint16_t port) {
  try {
    const Client client(port);
    return false;
  } catch (const std::system_error& error) {
    return error.code() == std::errc::connection_refused;
  }
}

}  // namespace programs
