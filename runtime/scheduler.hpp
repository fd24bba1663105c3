// scheduler.hpp - the loop that runs the jobs.
//
// The idea: the scheduler moves jobs between ready, waiting and done, and is
// the only one who resumes anything. One turn asks the poller what became
// ready, wakes whoever that concerns, and gives each ready job one step,
// first in, first out. A step attempts what the job waits for; if that
// completes, the job runs until it has to wait again.
//
// Killing is destruction: undo the one event that the job waits for, destroy
// its frames from the top down, and tell those who wait for its end. No
// exception is made, and `catch (...)` cannot stop it. A job cannot be
// destroyed under its own feet, and neither can one whose frames hold the
// job that runs, a shield, or what another thread works on: such a kill is
// held until that job next waits.
//
// Built on: job, director, slots, remote.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "director.hpp"
#include "job.hpp"
#include "owned.hpp"
#include "poller.hpp"
#include "remote.hpp"
#include "slots.hpp"
#include "task.hpp"
#include "timers.hpp"

namespace violet {

/// How a loop is to behave.
struct LoopOptions {
  LoopOptions() noexcept {}

  /// Where readiness and time come from; null: the system's own poller.
  /// Lifetime: outlives the loop.
  Poller* poller = nullptr;

  /// Attempts that a job may make in a row before others get their turn; more
  /// than kMostBudget is as good as that. With 0 every event is a wait, which
  /// tests use.
  std::uint8_t budget = 32;
  static constexpr std::uint8_t kMostBudget = 127;

  /// Who orders the steps; null: first in, first out.
  /// Lifetime: outlives the loop.
  Director* director = nullptr;
};

/// Ignores what a write may raise beside its error while one of these lives,
/// if nobody else handles it: SIGPIPE, of which send(2) can be told but not
/// write(2) and sendfile(2), and SIGXFSZ at the limit of a file's size
/// (setrlimit(2)). What was there before comes back with the last one.
class WriteSignalsIgnored {
 public:
  WriteSignalsIgnored() noexcept;
  WriteSignalsIgnored(const WriteSignalsIgnored&) = delete;
  ~WriteSignalsIgnored();
};

/// A job whose frames are being destroyed, or counted out of their group.
/// These form a chain on the native stack, innermost first: a destructor may
/// kill another job. Nothing that holds one of them may die meanwhile.
struct Dying {
  Dying(Dying*& top, JobBlock& which) noexcept
      : job(which), outer(std::exchange(top, this)), top_(top) {}
  Dying(const Dying&) = delete;
  ~Dying() {
    top_ = outer;
    if (marked_) [[unlikely]]
      unmark();
  }

  /// Marks this job and all that hold it, so that a kill sees at once that it
  /// must wait. Only done when somebody kills meanwhile.
  void mark() noexcept;

  JobBlock& job;
  Dying* outer;
  bool dies = true;  // false: it only is busy, while its group kills

 private:
  void unmark() noexcept;

  Dying*& top_;

  // If one is marked, those further out are, too. From its job up to end_ it
  // has set the marks itself.
  bool marked_ = false;
  JobBlock* end_ = nullptr;
};

/// What another thread does for a job that waits for it. Once begun it cannot
/// be taken back, and uses what lies in frames: it holds kills as a shield
/// does, and is counted as one. What has not begun holds nothing, for a kill
/// withdraws it. See offload.hpp.
class Errand : public Link<Errand> {
 public:
  const JobBlock& for_whom() const noexcept { return *for_; }

  /// It shall not begin any more. Returns: false if it has.
  virtual bool withdraw() noexcept = 0;

  /// It may begin after all.
  virtual void send_again() noexcept = 0;

 protected:
  Errand() noexcept {}
  ~Errand() = default;

  /// From begin() to end() it counts.
  void begin(JobBlock& job) noexcept;
  void end() noexcept;

 private:
  JobBlock* for_ = nullptr;  // this lies in its frames
};

/// A loop's own group: the root, what it spawned, and what was spawned from
/// outside any job. Its first failure ends the run.
class OwnGroup final : public Group {
 public:
  explicit OwnGroup(Loop& loop) noexcept : Group(loop, nullptr) {}

  std::exception_ptr failure;  // the first; the others went to stderr
  JobBlock* root = nullptr;    // of the run that is under way

  void note(const JobBlock& job, std::exception_ptr error) noexcept;
  void note(const char* whose, std::exception_ptr error) noexcept;

 private:
  void failed(JobBlock& child) noexcept override;
  void left(JobBlock&) noexcept override {}
};

/// Who wants to know when a loop was woken from outside; how signals get in.
class WakeHearer : public Link<WakeHearer> {
 public:
  /// `woken` is called on the loop's thread after each wake-up; it takes
  /// nobody out of the loop's list of hearers. `may_wake` tells whether that
  /// may make a job ready: the loop is then not deadlocked. Both are plain
  /// functions, since virtual ones would cost every program 400 bytes.
  WakeHearer(void (*hear)(WakeHearer&) noexcept,
             bool (*tell)(WakeHearer&) noexcept) noexcept
      : woken(hear), may_wake(tell) {}

  void (*const woken)(WakeHearer& self) noexcept;
  bool (*const may_wake)(WakeHearer& self) noexcept;
};

/// A scheduler. Belongs to the thread that made it. While one lives, SIGPIPE
/// and SIGXFSZ are ignored unless somebody handles them.
class Loop {
 public:
  explicit Loop(LoopOptions options = LoopOptions());
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Kills all jobs at once.
  ~Loop();

  /// The loop that runs on this thread. Throws: Misuse if none does.
  static Loop& current();

  /// The same, null if none does.
  static Loop* here() noexcept;

  /// Runs until `root` and every job spawned meanwhile have ended.
  /// Returns: what the root returns.
  /// Throws: what the root throws, or the first failure that reached the
  /// loop's own group (the rest is then killed; other failures go to
  /// stderr); Deadlock; Killed if the root was killed; Misuse inside a run.
  template <class T>
  T run(Task<T> root) {
    std::string killed;
    const Job<T> job = run_killable(std::move(root), killed);
    if (!killed.empty()) throw_error(Killed(killed));
    return job.block()->result.take();
  }

  /// The same for who reckons with a kill of the root: here that is an end
  /// like any other, and `killed` says how it came to it, or is empty.
  /// Returns: the job that has ended.
  template <class T>
  Job<T> run_killable(Task<T> root, std::string& killed) {
    refuse_nesting();
    const Job<T> job(*new internal::SpawnedJob<T, internal::TaskHolder<T>>(
        internal::TaskHolder<T>(std::move(root))));
    run_to_end(*job.block(), killed);
    return job;
  }

  /// Makes one turn: waits at most `timeout` for something to happen, then
  /// gives what is ready its step. For use inside a foreign loop.
  /// Returns: true while there are jobs.
  /// Throws: the first failure that reached the loop's own group; Misuse from
  /// within a turn of this loop, and on another thread.
  bool run_once(Duration timeout = Duration::zero());

  /// A descriptor that is readable when a turn has something to do. Use it
  /// together with next_deadline(). Once this was asked for, it also tells
  /// when the host itself has made work between two turns.
  /// Lifetime: the loop's. See: poll(2).
  int fd() noexcept {
    nested_ = true;
    return poller_.fd();
  }

  /// When the next turn must come even if fd() stays silent: a moment in the
  /// past if something is ready now, kNever if there is no timer.
  TimePoint next_deadline() const noexcept;

  /// The same in milliseconds from now, as poll(2) and its like take it:
  /// rounded up, 0 if something is ready, -1 if there is no timer.
  int timeout_ms() noexcept;

  /// Something has changed what the next turn has to do. If that was not in a
  /// turn of this loop, the loop in which it is nested must hear of it.
  void touch() noexcept {
    if (slot_state.home != home_) [[unlikely]]
      tell_host();
  }

  /// Starts a job in the loop's own group, from outside any job. See spawn.
  template <class F, class... Args>
  auto spawn(F&& function, Args&&... arguments);

  /// A loop as other threads may hold it.
  Remote remote() const { return Remote(mailbox_); }

  /// What remotes are made of; does not count as one.
  const std::shared_ptr<Mailbox>& mailbox() const noexcept { return mailbox_; }

  /// Completes every stopping(), now and for the rest of the loop's life. On
  /// the loop's thread, and not in a signal handler.
  void stop() noexcept;
  bool stop_requested() const noexcept { return stop_requested_; }

  /// True if someone would notice stop().
  /// A loop that has not run anything yet gets the benefit of the doubt.
  bool stop_is_heard() const noexcept { return stop_hearers_ > 0 || fresh_; }
  bool stop_is_awaited() const noexcept { return stop_hearers_ > 0; }

  /// Has the present or next run() kill every job and throw Killed with this
  /// reason. `force`: also those with a shield, and at once.
  /// Lifetime: `reason` is a literal.
  void cancel(const char* reason, bool force = false) noexcept;

  /// Every job with its state, its stack of awaits and what it waits for.
  std::string dump() const;

  /// The job with this number; null once it has ended.
  /// Cost: looks at every job.
  const JobBlock* find(std::uint32_t id) const noexcept;

  /// How long ago a job was spawned, in steps of 17 ms.
  Duration age(const JobBlock& job) const noexcept;

  /// Calls visit(job) for every job that has not ended.
  template <class Visit>
  void each_job(Visit visit) const;

  /// The time, read afresh.
  TimePoint now() noexcept { return poller_.now(); }

  // What events are made of.
  Timers& timers() noexcept { return timers_; }
  Poller& poller() noexcept { return poller_; }
  WaitQueue& stop_waiters() noexcept { return stop_waiters_; }

  /// Jobs that wait until no other job can go on. The first of them is woken
  /// then, before time passes.
  WaitQueue& onlookers() noexcept { return onlookers_; }

  /// Descriptors that jobs wait for, each direction by itself.
  int waiting() const noexcept { return waiting_; }

  /// The job that runs or, in a destructor, the one that is destroyed; null
  /// outside both.
  JobBlock* current_job() const noexcept {
    return dying_ == nullptr ? on_processor_ : &dying_->job;
  }

  /// The same without those that are only held up.
  const JobBlock* acting_job() const noexcept;

  /// The same where there must be one. `what`: begins the sentence of the
  /// Misuse that is thrown if there is none.
  static JobBlock& job_here(const char* what);

  /// The group of a job that is spawned now.
  Group& current_group() noexcept {
    JobBlock* job = current_job();
    return job == nullptr ? own_ : *job->whole().group();
  }
  Group& own_group() noexcept { return own_; }

  /// Puts a fresh job into a group. The loop takes the caller's reference.
  void admit(JobBlock& job, Group& group, std::source_location where) noexcept {
    job.id_ = ++last_id_;
    job.spawned_at_ = where;
    job.born_ticks_ = job.parked_ticks_ = turn_ticks_;
    group.add(job);
    if (group.door_ != Door::kOpen) [[unlikely]]
      return admit_specially(job, group);
    start(job);
  }

  /// Lets a fresh job run.
  void start(JobBlock& job) noexcept {
    ready_.push_back(job);
    touch();
  }

  /// Puts the job that runs behind all others that are ready. It goes on in
  /// its turn without another attempt.
  void yield(Stack& job) noexcept {
    job.event = nullptr;
    make_ready(static_cast<JobBlock&>(job));
  }

  /// See Job::kill. `force`: shields do not count.
  bool kill(JobBlock& job, std::string_view reason, std::source_location where,
            bool force = false) noexcept;

  /// Has `hearer` hear of each wake-up, until it is removed.
  /// Lifetime: it is removed before it dies.
  void add_hearer(WakeHearer& hearer) noexcept { hearers_.push_back(hearer); }
  void remove_hearer(WakeHearer& hearer) noexcept { hearers_.remove(hearer); }

 private:
  friend class Group;
  friend class StopHearer;
  friend class Event;
  friend class Shielded;
  friend class Cleanup;
  friend class Errand;
  friend void wake(Stack& job) noexcept;
  friend bool kill_job(JobBlock& job, std::string_view reason,
                       std::source_location where) noexcept;
  struct Entered;
  struct Turning;

  void make_ready(JobBlock& job) noexcept {
    job.step = Step::kReady;
    ready_.push_back(job);
  }

  // One turn.
  void turn(TimePoint deadline) noexcept;
  void directed_turn(TimePoint deadline) noexcept;
  void hear(TimePoint deadline) noexcept;
  void look_once() noexcept;
  void poll(TimePoint deadline) noexcept;
  void deliver_posts() noexcept;
  void step(JobBlock& job) noexcept;
  void first_step(JobBlock& job) noexcept;
  void go_on(JobBlock& job) noexcept;
  void begin(JobBlock& job) noexcept;
  bool enter(JobBlock& job) noexcept;
  static void note_failure(JobBlock& job, const std::exception_ptr& error,
                           std::source_location where) noexcept;
  void resume(JobBlock& job) noexcept;
  void after_step(JobBlock& job) noexcept;
  void become_idle(JobBlock& job) noexcept;
  void returned(JobBlock& job) noexcept;

  // A whole run.
  static void refuse_nesting();
  void refuse_strangers() const;
  void tell_host() noexcept;
  void run_to_end(JobBlock& root, std::string& killed);
  void tell_end(JobBlock& root, const std::string& deadlock,
                std::string& killed);
  std::string drive(const JobBlock& root);
  void close_down() noexcept;
  bool stuck() const noexcept;
  bool signal_awaited() const noexcept;
  std::string deadlock_text() const;
  std::string describe(const JobBlock& job) const;

  void admit_specially(JobBlock& job, Group& group) noexcept;

  // The end of a job.
  void settle(JobBlock& job) noexcept;
  void failed(JobBlock& job) noexcept;
  void forget_kill(JobBlock& job) noexcept;
  void end(JobBlock& job) noexcept;
  void destroy(JobBlock& job) noexcept;
  void hold_kill(JobBlock& job) noexcept;
  void orphan_groups_of(JobBlock& job) noexcept;
  Group* another_group() noexcept;
  bool held_back(const JobBlock& job, bool force) noexcept;
  bool withdraw_errands(const JobBlock& job) noexcept;
  void carry_out_held_kills(JobBlock* job) noexcept;
  void note_kill(JobBlock& job, std::string_view reason,
                 std::source_location where) noexcept;

  std::uint32_t ticks(TimePoint moment) const noexcept;

  WriteSignalsIgnored no_write_signals_;

  // Who may go on. A job stands in ready_ while its step is kReady or
  // kUnstarted; one that is killed there leaves its block behind, ended, with
  // a reference that its turn gives back. So does one whose failure its group
  // is to hear of then.
  Queue<JobBlock> ready_;
  int steps_left_ = 0;  // of this turn
  std::int8_t budget_;
  Director* director_;  // null at rest

  // What may wake the others.
  Timers timers_;
  Owned<Poller> own_poller_;
  Poller& poller_;
  std::shared_ptr<Mailbox> mailbox_;
  Slots& slots_;
  std::uint8_t home_;  // this loop's number among the thread's slots
  int waiting_ = 0;    // descriptors that jobs wait for, both directions
  List<WakeHearer, WakeHearer> hearers_;
  TimePoint started_;
  std::uint32_t turn_ticks_ = 0;  // when this turn began; see ticks()

  // Who must not be destroyed now, and how many kills are held for that.
  JobBlock* on_processor_ = nullptr;
  Dying* dying_ = nullptr;
  const JobBlock* leaving_ = nullptr;  // whose end its group is told of
  std::uint32_t held_kills_ = 0;
  List<Errand, Errand> errands_;  // of all jobs, oldest first

  // Whom it all belongs to: every group, oldest first, and the loop's own.
  List<Group, Group> groups_;
  OwnGroup own_;
  std::uint32_t last_id_ = 0;
  const char* cancelled_ = nullptr;  // why everything is to end; null: not
  bool forced_ = false;              // even what has a shield

  // The outside.
  bool stop_requested_ = false;
  int stop_hearers_ = 0;
  bool fresh_ = true;  // no job has had a step
  bool turning_ = false;
  bool nested_ = false;  // somebody polls fd()
  bool told_ = false;    // and it is readable, since the host has made work
  WaitQueue stop_waiters_;
  WaitQueue onlookers_;
};

template <class Visit>
void Loop::each_job(Visit visit) const {
  for (Group* group = groups_.first(); group != nullptr;
       group = groups_.next(*group)) {
    const auto& children = group->children();
    for (JobBlock* job = children.first(); job != nullptr;
         job = children.next(*job)) {
      visit(*job);
    }
  }
}

/// While one of these lives, its loop has someone who heeds stop(), and a
/// first signal asks instead of unwinding everything.
class StopHearer {
 public:
  explicit StopHearer(Loop& loop) noexcept : loop_(loop) {
    ++loop_.stop_hearers_;
  }
  StopHearer(const StopHearer&) = delete;
  ~StopHearer() { --loop_.stop_hearers_; }
  Loop& loop() const noexcept { return loop_; }

 private:
  Loop& loop_;  // outlives its jobs and their events
};

/// The loop that a job belongs to.
inline Loop& loop_of(Stack& job) noexcept {
  return static_cast<JobBlock&>(job).group()->loop();
}

namespace internal {

template <class F, class... Args>
using SpawnResult = std::invoke_result_t<F&, Args...>;  // as enter() calls

/// The line in which the task that runs was called.
inline std::source_location line_of_call() noexcept {
  const Frame* caller = running->top->caller;
  return caller == nullptr ? std::source_location() : caller->where();
}

/// Throws: Misuse, which says that the group takes no more jobs.
[[noreturn]] void refuse_spawn();

/// Starts a job in `group`; all forms of spawn end here.
template <class F, class... Args>
auto spawn_in(Group& group, std::source_location where, F&& function,
              Args&&... arguments) {
  using Function = std::decay_t<F>;
  if constexpr (is_task<Function>) {
    static_assert(is_never<F>,
                  "violet: spawn takes the function and its arguments, and "
                  "calls it: write spawn(f, a, b), not spawn(f(a, b))");
  } else if constexpr ((is_view<std::decay_t<Args>> || ...)) {
    static_assert(is_never<F>,
                  "violet: a view may outlive what it refers to: pass the "
                  "owner (a std::string, a std::vector), or borrow(view) if "
                  "its owner outlives the job");
  } else if constexpr (!std::is_invocable_v<Function&, std::decay_t<Args>...>) {
    static_assert(is_never<F>,
                  "violet: spawn(f, a, b) keeps copies of a and b and moves "
                  "them into f(a, b), and this function does not take these "
                  "arguments: take them by value or const&, or pass "
                  "std::ref(x) if x outlives the job");
  } else if constexpr (!is_task<SpawnResult<Function, std::decay_t<Args>...>>) {
    static_assert(is_never<F>,
                  "violet: the function that is spawned must return a Task");
  } else {
    using Value = typename SpawnResult<Function, std::decay_t<Args>...>::Value;
    if (group.door() == Door::kClosed) [[unlikely]]
      refuse_spawn();
    auto* block = new SpawnedJob<Value, Function, std::decay_t<Args>...>(
        std::forward<F>(function), std::forward<Args>(arguments)...);
    Job<Value> handle(*block);
    group.loop().admit(*block, group, where);
    return handle;
  }
}

}  // namespace internal

template <class F, class... Args>
auto Loop::spawn(F&& function, Args&&... arguments) {
  return internal::spawn_in(own_, {}, std::forward<F>(function),
                            std::forward<Args>(arguments)...);
}

/// Starts `function(arguments...)` as a job of its own, in the group of the
/// job that calls this. It first runs after the present step.
///
/// Function and arguments are kept in the job until its frames are gone:
/// parameters taken by value are moved from there, references refer there.
/// Dropping the handle is fine; see Job.
///
/// Returns: a Job<T>, for a function that returns Task<T>.
/// Throws: Misuse outside a loop; std::bad_alloc.
template <class F>
auto spawn(F&& function,
           std::source_location where = std::source_location::current()) {
  return internal::spawn_in(Loop::current().current_group(), where,
                            std::forward<F>(function));
}

// A pack cannot be followed by a default argument, so the line of the call
// needs one overload for each number of arguments. Beyond three it is lost.
template <class F, class A>
auto spawn(F&& function, A&& a,
           std::source_location where = std::source_location::current()) {
  return internal::spawn_in(Loop::current().current_group(), where,
                            std::forward<F>(function), std::forward<A>(a));
}

template <class F, class A, class B>
auto spawn(F&& function, A&& a, B&& b,
           std::source_location where = std::source_location::current()) {
  return internal::spawn_in(Loop::current().current_group(), where,
                            std::forward<F>(function), std::forward<A>(a),
                            std::forward<B>(b));
}

template <class F, class A, class B, class C>
auto spawn(F&& function, A&& a, B&& b, C&& c,
           std::source_location where = std::source_location::current()) {
  return internal::spawn_in(Loop::current().current_group(), where,
                            std::forward<F>(function), std::forward<A>(a),
                            std::forward<B>(b), std::forward<C>(c));
}

template <class F, class A, class B, class C, class D, class... Rest>
auto spawn(F&& function, A&& a, B&& b, C&& c, D&& d, Rest&&... rest) {
  return internal::spawn_in(Loop::current().current_group(), {},
                            std::forward<F>(function), std::forward<A>(a),
                            std::forward<B>(b), std::forward<C>(c),
                            std::forward<D>(d), std::forward<Rest>(rest)...);
}

/// Runs `root` and everything that it spawns in a loop of their own, which
/// is gone afterwards. See Loop::run.
template <class T>
T run(Task<T> root) {
  Loop loop;
  return loop.run(std::move(root));
}

}  // namespace violet
