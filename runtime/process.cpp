// process.cpp - from here to another program, and what is left of it.
// SPDX-License-Identifier: MIT
#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <array>
#include <cstdlib>
#include <thread>

#include "combine.hpp"
#include "within.hpp"

extern "C" char** environ;

namespace violet {

using namespace std::chrono_literals;

// -------------------------------------------------------------------- a child

namespace {

constexpr int kReapPatienceMs = 100;

/// Waits for a child that takes its time to die.
void wait_in_thread(int pid) noexcept {
  sys::ChildEnd end;
  sys::uninterrupted([&] { return sys::file_calls->wait_child(pid, 0, end); });
}

ExitStatus status_of(const sys::ChildEnd& end) noexcept {
  return end.code == CLD_EXITED ? ExitStatus::of_code(end.status)
                                : ExitStatus::of_signal(end.status);
}

}  // namespace

std::string ExitStatus::text() const {
  if (code_ >= 0) return concat({"exited with ", code_});
  if (signal_ > 0) return concat({"killed by ", signal_name(signal_)});
  return "ended, and somebody else took its exit status";
}

void Child::begin(int pid, bool group) noexcept {
  pid_ = pid;
  group_ = group;
  ended_ = reaped_ = false;
}

/// The end of a leader is only looked at: while it is not reaped, no other
/// group can get its number.
bool Child::look() noexcept {
  return ended_ || reap(group_ ? WNOHANG | WNOWAIT : WNOHANG);
}

/// Returns: true if it has ended.
bool Child::reap(int options) noexcept {
  sys::ChildEnd end;
  const int ended = sys::uninterrupted(
      [&] { return sys::file_calls->wait_child(pid_, options, end); });
  if (ended == 0) return false;
  const bool known = ended_;  // a leader's end is seen twice
  ended_ = true;
  reaped_ = ended < 0 || (options & WNOWAIT) == 0;
  if (ended > 0 && !known) status_ = status_of(end);
  return true;
}

int Child::signal(int number) noexcept {
  if (reaped_ || (!group_ && look())) return ESRCH;
  return -sys::file_calls->kill(group_ ? -pid_ : pid_, number);
}

Child::~Child() {
  if (reaped_) return;
  signal(SIGKILL);
  if (reaped_) return;
  for (int ms = 0; ms < kReapPatienceMs; ++ms) {
    if (reap(WNOHANG)) return;
    sys::calls->poll(nullptr, 0, 1);
  }
  reap_elsewhere();
}

/// It has not become a program, and is about to exit.
void Child::abandon() noexcept {
  reap(0);
  pid_ = -1;
}

/// It hangs in the kernel: on a disk that does not answer, say.
void Child::reap_elsewhere() noexcept {
  const auto error =
      caught([this] { std::thread(wait_in_thread, pid_).detach(); });
  if (error) wait_in_thread(pid_);
}

// ------------------------------------------------ between fork(2) and exec(2)

namespace internal {

/// How far a beginning has come that failed.
enum class LaunchStage : int { kProcess, kStreams, kDirectory, kProgram };

struct LaunchReport {
  LaunchStage stage;
  int error;
};

/// All that a child needs before it is another program. It may only make
/// calls that are safe in a signal handler, since any thread of ours may have
/// held any lock, and on Linux its memory is ours.
struct LaunchPlan {
  const char* const* paths = nullptr;  // to be tried in turn; ends with null
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  const char* directory = nullptr;
  int streams[3] = {-1, -1, -1};  // as in Stdio
  bool group = false;
  int report = -1;          // the end of a pipe to which a failure is written
  int descriptors_end = 0;  // no descriptor is higher
};

}  // namespace internal

namespace {

using Stage = internal::LaunchStage;
using Report = internal::LaunchReport;
using Plan = internal::LaunchPlan;

constexpr int kReportPlace = 3;  // the first after the standard streams

[[noreturn]] void give_up(int report, Stage stage) noexcept {
  const Report failed{stage, errno};
  [[maybe_unused]] const auto count = ::write(report, &failed, sizeof failed);
  ::_exit(127);
}

// A signal that is ignored would stay so across exec(2). With our memory, no
// handler of ours may run any more.
void reset_signals() noexcept {
  struct sigaction usual{};
  usual.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) {
    ::sigaction(number, &usual, nullptr);
  }
}

void hold_no_signal_back() noexcept {
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

/// Brings a stream out of the way of the standard ones. Returns: what is to be
/// put in place, -1 if that is not to be had.
int out_of_the_way(int stream) noexcept {
  if (stream == Stdio::kInherit || stream == Stdio::kOut) return stream;
  if (stream == Stdio::kNull) stream = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  return ::fcntl(stream, F_DUPFD_CLOEXEC, kReportPlace);
}

bool put_in_place(const Plan& plan) noexcept {
  int from[3];
  for (int i = 0; i < 3; ++i) {
    from[i] = out_of_the_way(plan.streams[i]);
    if (from[i] == -1 && plan.streams[i] != Stdio::kInherit) return false;
  }
  for (int i = 0; i < 3; ++i) {
    const int source = from[i] == Stdio::kOut ? 1 : from[i];
    if (source >= 0 && ::dup2(source, i) < 0) return false;
  }
  return true;
}

void close_from(int first, [[maybe_unused]] int end) noexcept {
#if defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
  ::closefrom(first);
#else
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, first, ~0u, 0) == 0) return;
#endif
  for (int fd = first; fd < end; ++fd) ::close(fd);
#endif
}

/// Leaves the report at its place and nothing behind it. Returns: its number.
int close_the_rest(const Plan& plan, int report) noexcept {
  if (report != kReportPlace && ::dup2(report, kReportPlace) < 0) return report;
  ::fcntl(kReportPlace, F_SETFD, FD_CLOEXEC);
  close_from(kReportPlace + 1, plan.descriptors_end);
  return kReportPlace;
}

/// As execvp(3), but never a shell. Returns: only if none can be started.
void execute(const Plan& plan) noexcept {
  int denied = 0;
  for (const char* const* path = plan.paths; *path != nullptr; ++path) {
    ::execve(*path, plan.arguments, plan.environment);
    if (errno == EACCES) denied = EACCES;
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) return;
  }
  if (denied != 0) errno = denied;
}

[[noreturn]] void become(const Plan& plan) noexcept {
  reset_signals();
  int report = ::fcntl(plan.report, F_DUPFD_CLOEXEC, kReportPlace);
  if (report < 0) give_up(plan.report, Stage::kStreams);
  if (plan.group) ::setpgid(0, 0);
  if (!put_in_place(plan)) give_up(report, Stage::kStreams);
  report = close_the_rest(plan, report);
  if (plan.directory != nullptr && ::chdir(plan.directory) != 0) {
    give_up(report, Stage::kDirectory);
  }
  hold_no_signal_back();
  execute(plan);
  give_up(report, Stage::kProgram);
}

// On Linux the child borrows our memory until it is another program: copying
// the page tables of a large server would take longer than all the rest.
[[gnu::noinline]] int fork_and_become(const Plan& plan) noexcept {
#ifdef __linux__
  const pid_t pid = ::vfork();
#else
  const pid_t pid = ::fork();
#endif
  if (pid == 0) become(plan);
  return pid < 0 ? -errno : pid;
}

/// See sys::Calls::spawn. No signal may be handled in the child.
int launch(const void* plan) noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const int pid = fork_and_become(*static_cast<const Plan*>(plan));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return pid;
}

// ---------------------------------------------------------- what comes before

using Strings = std::vector<std::string>;

/// Every program that a name may mean.
Strings candidates(const std::string& name) {
  if (name.find('/') != name.npos) return {name};
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/bin:/bin" : path;
  Strings all;
  for (;;) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    const std::string_view folder = rest.substr(0, colon);
    all.push_back(concat({folder, folder.empty() ? "" : "/", name}));
    if (colon == rest.size()) return all;
    rest.remove_prefix(colon + 1);
  }
}

bool same_name(std::string_view a, std::string_view b) noexcept {
  return a.substr(0, a.find('=')) == b.substr(0, b.find('='));
}

Strings environment_of(const ProcessOptions& options) {
  Strings all;
  if (!options.clean_environment && environ != nullptr) {
    for (char** one = environ; *one != nullptr; ++one) {
      const bool replaced = std::any_of(
          options.environment.begin(), options.environment.end(),
          [&](const std::string& ours) { return same_name(ours, *one); });
      if (!replaced) all.emplace_back(*one);
    }
  }
  all.insert(all.end(), options.environment.begin(), options.environment.end());
  return all;
}

/// As the system wants them. Lifetime: the strings'.
std::vector<char*> pointers(Strings& strings) {
  std::vector<char*> all;
  for (std::string& one : strings) all.push_back(one.data());
  all.push_back(nullptr);
  return all;
}

bool has_nul(const Strings& strings) noexcept {
  return std::any_of(
      strings.begin(), strings.end(),
      [](const std::string& one) { return one.find('\0') != one.npos; });
}

[[gnu::cold]] void refuse(const char* why) {
  throw_error(Misuse(concat({"violet: a process ", why})));
}

void check(const Command& command, const ProcessOptions& options) {
  if (command.arguments().empty() || command.arguments().front().empty()) {
    refuse("needs a program: Process({\"sort\", \"-n\"})");
  }
  if (options.in.is_out() || options.out.is_out()) {
    refuse("can have err go where out goes, and nothing else: Stdio::out()");
  }
  if (has_nul(command.arguments()) || has_nul(options.environment) ||
      has_nul({options.directory})) {
    refuse("cannot be given a text with a NUL in it: the system would cut it");
  }
  for (const std::string& one : options.environment) {
    if (one.find('=') == one.npos || one.front() == '=') {
      refuse("has an environment of NAME=value");
    }
  }
}

int descriptors_end() noexcept {
  constexpr rlim_t kMost = 65536;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kMost));
}

/// Opens a pipe. Returns: 0 or an error number.
int open_pipe(Fd& reads, Fd& writes) noexcept {
  int ends[2];
  const int result = sys::file_calls->pipe(ends);
  if (result < 0) return -result;
  reads.reset(ends[0]);
  writes.reset(ends[1]);
  return 0;
}

/// What a child says of its beginning: nothing if it has become the program.
Report hear_report(int fd) noexcept {
  Report report{Stage::kProcess, 0};
  char bytes[sizeof report];
  std::size_t got = 0;
  while (got < sizeof bytes) {
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->read(fd, bytes + got, sizeof bytes - got); });
    if (count < 0) return {Stage::kProcess, static_cast<int>(-count)};
    if (count == 0) return {Stage::kProcess, got == 0 ? 0 : EIO};
    got += static_cast<std::size_t>(count);
  }
  std::copy_n(bytes, sizeof bytes, reinterpret_cast<char*>(&report));
  return report;
}

}  // namespace

// -------------------------------------------------------------------- process

/// A plan with all that it refers to, and our hold on what the child is given.
struct Process::Beginning {
  Beginning(const Command& command, const ProcessOptions& options);

  /// Takes note of how a step went. Returns: true if it went well.
  bool went(int error) noexcept {
    failed.error = error;
    return error == 0;
  }

  /// "spawn sort: chdir /nosuch"
  std::string text() const;

  Strings arguments;
  Strings paths;
  Strings environment;
  std::vector<char*> argument_pointers;
  std::vector<char*> path_pointers;
  std::vector<char*> environment_pointers;
  Plan plan;
  Fd theirs[3];
  Report failed{Stage::kProcess, 0};
};

Process::Beginning::Beginning(const Command& command,
                              const ProcessOptions& options)
    : arguments(command.arguments()) {
  check(command, options);
  paths = candidates(arguments.front());
  environment = environment_of(options);
  argument_pointers = pointers(arguments);
  path_pointers = pointers(paths);
  environment_pointers = pointers(environment);
  plan.arguments = argument_pointers.data();
  plan.paths = path_pointers.data();
  plan.environment = environment_pointers.data();
  if (!options.directory.empty()) plan.directory = options.directory.c_str();
  plan.group = options.group;
  plan.descriptors_end = descriptors_end();
}

std::string Process::Beginning::text() const {
  std::string text = concat({"spawn ", arguments.front()});
  if (failed.stage == Stage::kDirectory) {
    text += concat({": chdir ", plan.directory});
  }
  return text;
}

Process::Process(Command command, const ProcessOptions& options) {
  Beginning how(command, options);
  begin(how, options);
  if (how.failed.error != 0) throw_system(how.failed.error, how.text());
}

Process::Process(Command command, const ProcessOptions& options,
                 std::error_code& code) {
  Beginning how(command, options);
  begin(how, options);
  code.assign(how.failed.error, std::system_category());
}

Process::~Process() {
  while (!waiting_.empty()) {
    ProcessEndEvent& event = waiting_.pop_front();
    event.process_ = nullptr;
    wake(*event.job());
  }
}

void Process::begin(Beginning& how, const ProcessOptions& options) {
  if (!connect(how, {options.in, options.out, options.err})) return;
  Fd hears;
  Fd tells;
  if (!how.went(open_pipe(hears, tells))) return;
  how.plan.report = tells.get();
  const int pid = sys::file_calls->spawn(launch, &how.plan);
  if (!how.went(pid < 0 ? -pid : 0)) return;
  child_.begin(pid, how.plan.group);
  for (Fd& stream : how.theirs) stream.reset();
  tells.reset();
  how.failed = hear_report(hears.get());
  if (how.failed.error != 0) return child_.abandon();
  hear_of_end();
  if (Loop* loop = Loop::here()) outside_.emplace(loop->mailbox());
}

/// Opens the pipes. Returns: false if one is not to be had.
bool Process::connect(Beginning& how, const Stdio (&streams)[3]) {
  for (std::size_t i = 0; i < 3; ++i) {
    how.plan.streams[i] = streams[i].what_;
    if (!streams[i].is_pipe()) continue;
    Fd ours;
    Fd& theirs = how.theirs[i];
    const int error =
        i == 0 ? open_pipe(theirs, ours) : open_pipe(ours, theirs);
    if (!how.went(error)) return false;
    streams_[i] = adopt(std::move(ours));
    how.plan.streams[i] = theirs.get();
  }
  return true;
}

/// Without a descriptor for that, as on an old Linux, in a sandbox or if none
/// is left, SIGCHLD tells.
void Process::hear_of_end() {
  const int fd = sys::file_calls->open_process(child_.pid());
  if (fd >= 0) {
    end_ = Descriptor(Slots::here().open(Fd(fd), 0, kReadable));
  } else {
    signals_.reset(new Signals({SIGCHLD}));
  }
}

bool Process::look() noexcept {
  if (!child_.look()) return false;
  outside_.reset();
  return true;
}

bool Process::signal(int number) {
  const int error = child_.signal(number);
  if (error == 0) return true;
  if (error == ESRCH || look()) return false;
  throw_system(error, concat({"kill ", child_.pid()}));
}

Task<ExitStatus> Process::terminate(Duration grace) {
  signal(SIGTERM);
  const auto in_time = co_await within(grace, wait());
  if (in_time) co_return *in_time;
  signal(SIGKILL);
  const ExitStatus status = co_await wait();
  co_return status;
}

// -------------------------------------------------------------- its end

ProcessEndEvent::ProcessEndEvent(Process& process) noexcept
    : SlotEvent(process.end_.slot()), process_(&process) {}

// One of those who wait hears of the end, and tells the others. If it leaves,
// the next takes its place.
bool ProcessEndEvent::attempt() noexcept {
  if (process_ == nullptr) {
    undo_claim(Direction::kRead);
    return true;
  }
  if (process_->child_.ended()) return complete();
  stand_by();
  if (&process_->waiting_.front() != this) return false;
  const bool ended = slot_ != nullptr ? hears_descriptor() : hears_signal();
  return ended && complete();
}

void ProcessEndEvent::stand_by() noexcept {
  if (process_ != nullptr && !in_list()) process_->waiting_.push_back(*this);
}

bool ProcessEndEvent::hears_descriptor() noexcept {
  return drive<Direction::kRead>(
      [this](int) { return process_->look() ? 0 : -EAGAIN; });
}

/// A signal may be of another child, and then the next is waited for.
bool ProcessEndEvent::hears_signal() noexcept {
  for (;;) {
    if (process_->look()) return true;
    if (!news_) news_.emplace(*process_->signals_);
    if (!attempt_part(*news_)) return false;
    error_ = news_->error();
    if (error_ != 0) return true;
  }
}

bool ProcessEndEvent::complete() noexcept {
  status_ = process_->child_.status();
  leave();
  return true;
}

void ProcessEndEvent::leave() noexcept {
  undo_claim(Direction::kRead);
  if (news_) undo_part(*news_);
  if (!in_list()) return;
  auto& waiting = process_->waiting_;
  waiting.remove(*this);
  if (!waiting.empty()) wake(*waiting.front().job());
}

void ProcessEndEvent::undo() noexcept {
  leave();
}

void ProcessEndEvent::describe(Description& out) const {
  out.text = "the end of a process, gone";
  if (process_ != nullptr) out.text = concat({"process ", process_->pid()});
}

ExitStatus ProcessEndEvent::result() const {
  if (process_ == nullptr) {
    throw_error(
        Misuse("violet: the Process is gone: it was destroyed while this job "
               "waited; let it outlive the jobs that use it"));
  }
  if (error_ != 0) throw_system(error_, concat({"wait ", process_->pid()}));
  return status_;
}

// --------------------------------------------------------------------- run it

namespace {

constexpr std::size_t kBlock = 16384;

/// What is shared by those who serve the pipes of one process.
struct Serving {
  Serving(Process& process, ProcessOutput& result, std::size_t limit) noexcept
      : child(process), output(result), left(limit) {}

  /// Returns: false once there is too much.
  bool keep(std::string_view some, std::string& all) {
    all += some.substr(0, left);
    output.cut = output.cut || some.size() > left;
    left -= std::min(left, some.size());
    return !output.cut;
  }

  Process& child;
  ProcessOutput& output;
  std::size_t left;
};

/// It may not want all of it, or end before.
Task<> feed(Process& child, std::string_view input) {
  std::error_code refused;
  co_await write(child.in(), input, refused);
  child.in().close();
  if (refused && refused != std::errc::broken_pipe) {
    throw_system(refused.value(), concat({"write to process ", child.pid()}));
  }
}

Task<> drain(Serving& serving, Descriptor& from, std::string& into) {
  std::string block(kBlock, '\0');
  while (from) {
    std::error_code failed;
    const std::size_t count = co_await read(from, std::span(block), failed);
    if (serving.output.cut) co_return;
    if (failed) throw_system(failed.value(), "read from a process");
    if (count == 0) co_return;
    if (serving.keep(std::string_view(block).substr(0, count), into)) continue;
    serving.child.signal(SIGKILL);
    serving.child.out().close();
    serving.child.err().close();
  }
}

/// All streams at once, since neither side may wait for the other.
Task<ProcessOutput> serve(Process& child, const std::string& input,
                          std::size_t limit) {
  ProcessOutput output;
  Serving serving(child, output, limit);
  Task<> out = drain(serving, child.out(), output.out);
  Task<> err = drain(serving, child.err(), output.err);
  if (child.in()) {
    co_await all(feed(child, input), std::move(out), std::move(err));
  } else {
    co_await all(std::move(out), std::move(err));
  }
  output.status = co_await child.wait();
  co_return output;
}

const ProcessOptions& with_pipes(ProcessOptions& options,
                                 const std::string& input) {
  options.in = input.empty() ? Stdio::null() : Stdio::pipe();
  options.out = Stdio::pipe();
  if (options.err.is_inherited()) options.err = Stdio::pipe();
  return options;
}

}  // namespace

Task<ProcessOutput> run_process(Command command, std::string input,
                                ProcessOptions options) {
  Process child(std::move(command), with_pipes(options, input));
  ProcessOutput output = co_await serve(child, input, options.capture_limit);
  co_return output;
}

Task<ProcessOutput> run_process(Command command, std::string input,
                                ProcessOptions options, std::error_code& code) {
  Process child(std::move(command), with_pipes(options, input), code);
  ProcessOutput output;
  if (!code) output = co_await serve(child, input, options.capture_limit);
  co_return output;
}

}  // namespace violet
