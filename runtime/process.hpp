// process.hpp - other programs, as children of this one.
//
//     Process child({"sort", "-n"}, options);
//     co_await write(child.in(), numbers);
//     child.in().close();
//     const ExitStatus status = co_await child.wait();
//
// The idea: a child is a local variable. It has ended, and been reaped, when
// its scope is left: there is no zombie, and no process that nobody knows.
// The ends of its pipes are descriptors like any other, and its own end is
// one, too: pidfd_open(2) on Linux, a queue with EVFILT_PROC on BSD and macOS.
// Where neither is to be had, SIGCHLD tells. No other child of this process
// is ever waited for.
//
// A child is not us: it begins with the default action for every signal, with
// none held back, and with no descriptor but 0, 1 and 2.
//
// Refused: a shell between us and the program. Who wants one starts one:
// Process({"sh", "-c", "sort | uniq"}).
//
// Built on: events, combine, signal_events. See: execve(2), waitid(2).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "events.hpp"
#include "owned.hpp"
#include "signal_events.hpp"

namespace violet {

// ------------------------------------------------------------ what is started

/// A program and its arguments: Command("sort", "-n"), or {"sort", "-n"}.
class Command {
 public:
  template <class... More>
    requires(std::is_convertible_v<const More&, std::string> && ...)
  Command(std::string program, const More&... more)
      : arguments_{std::move(program), more...} {}
  explicit Command(std::vector<std::string> arguments) noexcept
      : arguments_(std::move(arguments)) {}

  /// The program is the first of them.
  const std::vector<std::string>& arguments() const noexcept {
    return arguments_;
  }

 private:
  std::vector<std::string> arguments_;
};

/// Where a standard stream of a child comes from, or goes to.
class Stdio {
 public:
  Stdio() noexcept {}

  /// Where ours comes from or goes to.
  static Stdio inherit() noexcept { return Stdio(kInherit); }
  /// /dev/null
  static Stdio null() noexcept { return Stdio(kNull); }
  /// This program, through a Descriptor: see Process::in().
  static Stdio pipe() noexcept { return Stdio(kPipe); }
  /// For err: where out goes.
  static Stdio out() noexcept { return Stdio(kOut); }
  /// A descriptor. Lifetime: it is borrowed until the process has started.
  static Stdio use(int fd) noexcept { return Stdio(fd < 0 ? kNone : fd); }
  static Stdio use(const Fd& fd) noexcept { return use(fd.get()); }

  bool is_inherited() const noexcept { return what_ == kInherit; }
  bool is_pipe() const noexcept { return what_ == kPipe; }
  bool is_out() const noexcept { return what_ == kOut; }

  // What it is, if it is no descriptor.
  static constexpr int kInherit = -1;
  static constexpr int kNull = -2;
  static constexpr int kOut = -3;
  static constexpr int kPipe = -4;
  static constexpr int kNone = -5;

 private:
  friend class Process;
  explicit Stdio(int what) noexcept : what_(what) {}

  int what_ = kInherit;
};

/// How a process is to begin.
struct ProcessOptions {
  ProcessOptions() noexcept {}

  Stdio in;
  Stdio out;
  Stdio err;

  /// "NAME=value". These come to what this process has in its environment, or
  /// in place of it, or are all there is.
  std::vector<std::string> environment;
  bool clean_environment = false;

  /// Its working directory; empty: ours. A program that is named with a slash
  /// is looked for from there.
  std::string directory;

  /// It leads a process group of its own, with all that it starts: signals
  /// and the end of the scope then reach its children, too. Until then its
  /// number stays taken.
  bool group = false;

  /// For run_process: how many bytes of output are kept.
  std::size_t capture_limit = std::size_t{16} << 20;
};

/// How a process has ended.
class ExitStatus {
 public:
  ExitStatus() noexcept {}
  static ExitStatus of_code(int code) noexcept { return {code, 0}; }
  static ExitStatus of_signal(int number) noexcept { return {-1, number}; }

  /// True if it exited with 0.
  bool ok() const noexcept { return code_ == 0; }

  /// What it exited with; -1 if it did not.
  int code() const noexcept { return code_; }

  /// The signal that killed it; 0 if none did.
  int signal() const noexcept { return signal_; }

  /// "exited with 3", "killed by SIGKILL"; "ended, and somebody else took its
  /// exit status" if code() is -1 and signal() is 0, as where this process
  /// ignores SIGCHLD.
  std::string text() const;

  bool operator==(const ExitStatus&) const noexcept = default;

 private:
  ExitStatus(int code, int number) noexcept : code_(code), signal_(number) {}

  int code_ = -1;
  int signal_ = 0;
};

// -------------------------------------------------------------------- process

class Process;

/// A child, by its number. Kills and reaps it at the end.
class Child {
 public:
  Child() noexcept {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Cost: blocks the thread until the kernel has ended the process, which
  /// takes some 100 us. After 100 ms a thread is left behind to wait.
  ~Child();

  void begin(int pid, bool group) noexcept;
  int pid() const noexcept { return pid_; }
  bool ended() const noexcept { return ended_; }
  ExitStatus status() const noexcept { return status_; }

  /// Asks the system whether it has ended.
  bool look() noexcept;

  /// It never became a program: reaps it, and forgets it.
  void abandon() noexcept;

  /// Returns: 0, or an error number; ESRCH if it has ended.
  int signal(int number) noexcept;

 private:
  bool reap(int options) noexcept;
  void reap_elsewhere() noexcept;

  int pid_ = -1;        // -1: none was started
  bool group_ = false;  // it leads one
  bool ended_ = true;   // and status_ says how
  bool reaped_ = true;  // its number may be somebody else's
  ExitStatus status_;
};

class [[nodiscard]] ProcessEndEvent : public SlotEvent,
                                      public Link<ProcessEndEvent> {
 public:
  explicit ProcessEndEvent(Process& process) noexcept;
  ProcessEndEvent(ProcessEndEvent&& other) noexcept
      : SlotEvent(std::move(other)), process_(other.process_) {}

  bool attempt() noexcept override;
  void stand_by() noexcept;
  void undo() noexcept override;
  void describe(Description& out) const override;
  int error() const noexcept { return error_; }
  ExitStatus value() const noexcept { return status_; }
  ExitStatus result() const;

 private:
  friend class Process;

  bool hears_descriptor() noexcept;
  bool hears_signal() noexcept;
  bool complete() noexcept;
  void leave() noexcept;

  Process* process_;  // null once it is gone
  std::optional<SignalEvent> news_;
  ExitStatus status_;
};

/// A program that runs, as a child of this one. Belongs to one thread, in
/// which any loop may wait for it, one after the other.
///
/// When it is destroyed the child is killed (SIGKILL) and reaped.
class Process {
 public:
  /// Starts a program. Without a slash in its name it is looked for in PATH.
  /// Throws: std::system_error "spawn nosuch: No such file or directory";
  /// Misuse for a command that nobody could start.
  /// Cost: blocks the thread until the program has begun: about 1 ms. The
  /// memory of this process is not copied on Linux.
  explicit Process(Command command,
                   const ProcessOptions& options = ProcessOptions());

  /// The same; `code` is set instead. If it is, there is no child: pid() is -1
  /// and wait() completes at once.
  Process(Command command, const ProcessOptions& options,
          std::error_code& code);

  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Kills and reaps. A job that waits is woken and throws Misuse.
  ~Process();

  int pid() const noexcept { return child_.pid(); }

  // Our ends of its pipes, for read() and write(); empty where there is none.
  // A child that does not read its input any more gives broken_pipe.
  Descriptor& in() noexcept { return streams_[0]; }
  Descriptor& out() noexcept { return streams_[1]; }
  Descriptor& err() noexcept { return streams_[2]; }

  /// Waits until it has ended. Any number of jobs may, also afterwards.
  /// Suspends: unless it has.
  /// Throws: Misuse if this is destroyed meanwhile.
  /// Kill: harmless, also for others that wait.
  ProcessEndEvent wait() noexcept { return ProcessEndEvent(*this); }
  Coded<ProcessEndEvent> wait(std::error_code& code) noexcept {
    return Coded<ProcessEndEvent>(ProcessEndEvent(*this), code);
  }

  /// Sends it a signal; with options.group, to its whole group.
  /// Returns: false if it has ended.
  /// Throws: std::system_error.
  bool signal(int number);

  /// Asks it to end, with SIGTERM, and kills it if it has not by `grace`.
  /// Suspends: until it has ended.
  Task<ExitStatus> terminate(Duration grace = std::chrono::seconds(5));

 private:
  friend class ProcessEndEvent;

  struct Beginning;

  void begin(Beginning& how, const ProcessOptions& options);
  bool connect(Beginning& how, const Stdio (&streams)[3]);
  void hear_of_end();
  bool look() noexcept;

  // In this order: the child ends before what tells of it goes.
  std::optional<Remote> outside_;  // while it runs: time is the world's
  Owned<Signals> signals_;         // of SIGCHLD, where there is no end_
  Descriptor end_;                 // readable once it has ended
  Descriptor streams_[3];
  Child child_;

  // The first of these hears of the end, and tells the others.
  List<ProcessEndEvent, ProcessEndEvent> waiting_;
};

// ------------------------------------------------------------------- run it

/// What a process has left.
struct ProcessOutput {
  ProcessOutput() noexcept {}
  ExitStatus status;
  std::string out;
  std::string err;
  bool cut = false;  // there was more than the limit; it was killed
};

/// Runs a command to its end: gives it `input` on stdin and takes what it
/// writes to stdout, and to stderr unless options.err says otherwise. All of
/// them are served at once, so it does not matter how much of each there is.
///
///     const ProcessOutput log = co_await run_process({"git", "log"});
///
/// Of the options, in and out do not count. A child that does not read all of
/// its input is no error.
/// Suspends: until it has ended and nobody holds its pipes any more.
/// Throws: as Process.
/// Kill: the child is killed.
Task<ProcessOutput> run_process(Command command, std::string input = {},
                                ProcessOptions options = ProcessOptions());

/// The same; `code` tells if the program could not be started.
/// Lifetime: of `code`, until this has ended.
Task<ProcessOutput> run_process(Command command, std::string input,
                                ProcessOptions options, std::error_code& code);

}  // namespace violet
