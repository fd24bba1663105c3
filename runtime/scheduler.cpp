// scheduler.cpp - the loop, and the life and death of jobs.
// SPDX-License-Identifier: MIT
#include "scheduler.hpp"

#include <signal.h>

#include <algorithm>
#include <climits>
#include <mutex>
#include <optional>

namespace violet {

namespace {

using namespace std::chrono_literals;

// After so many steps the loop asks the poller again, however many jobs are
// ready: a crowd of busy jobs must not shut out the descriptors. A step that
// copies much counts for several; see Event::spend_on_copy().
constexpr int kStepsPerTurn = 128;

// What is copied in the time that an attempt, or a short step, takes.
constexpr std::size_t kBytesPerAttempt = 8 * 1024;

// A tick is 2^24 ns, about 17 ms: fine enough to tell ages, and 32 bits hold
// two years.
constexpr int kTickBits = 24;

// What a job's count of its groups cannot tell apart.
constexpr std::uint8_t kManyGroups = 255;

// How long cleanups may take once a failure ends the run.
constexpr Duration kCloseDownLimit = 5s;

constinit thread_local Loop* loop_here = nullptr;

struct IgnoredSignal {
  const int number;
  struct sigaction before = {};
  bool changed = false;
};

std::mutex write_signals_mutex;  // guards the rest
int write_signals_users = 0;
IgnoredSignal write_signals[] = {{SIGPIPE}, {SIGXFSZ}};

/// What is done with a signal now. Returns: true if that is `handler`.
bool handled_by(void (*handler)(int), int number,
                struct sigaction& now) noexcept {
  ::sigaction(number, nullptr, &now);
  return (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == handler;
}

void ignore(IgnoredSignal& signal) noexcept {
  signal.changed = handled_by(SIG_DFL, signal.number, signal.before);
  if (!signal.changed) return;
  struct sigaction ignored{};
  ignored.sa_handler = SIG_IGN;
  ::sigaction(signal.number, &ignored, nullptr);
}

/// Unless somebody has begun to handle it meanwhile.
void heed(const IgnoredSignal& signal) noexcept {
  struct sigaction now{};
  if (!signal.changed || !handled_by(SIG_IGN, signal.number, now)) return;
  ::sigaction(signal.number, &signal.before, nullptr);
}

}  // namespace

WriteSignalsIgnored::WriteSignalsIgnored() noexcept {
  const std::lock_guard lock(write_signals_mutex);
  if (write_signals_users++ > 0) return;
  for (IgnoredSignal& signal : write_signals) ignore(signal);
}

WriteSignalsIgnored::~WriteSignalsIgnored() {
  const std::lock_guard lock(write_signals_mutex);
  if (--write_signals_users > 0) return;
  for (const IgnoredSignal& signal : write_signals) heed(signal);
}

/// Makes a loop the current one of its thread for a while.
struct Loop::Entered {
  explicit Entered(Loop& loop) noexcept
      : loop_before(std::exchange(loop_here, &loop)),
        running_before(std::exchange(running, nullptr)),
        slots_before(
            std::exchange(slot_state, SlotState{loop.home_, &loop.waiting_})) {}
  Entered(const Entered&) = delete;
  ~Entered() {
    slot_state = slots_before;
    running = running_before;
    loop_here = loop_before;
  }

  Loop* loop_before;
  Stack* running_before;
  SlotState slots_before;
};

/// The same for its turns, of which there is one at a time.
struct Loop::Turning : Entered {
  explicit Turning(Loop& turns) noexcept : Entered(turns), loop(turns) {
    loop.turning_ = true;
  }
  ~Turning() { loop.turning_ = false; }

  Loop& loop;
};

[[gnu::cold]] Loop::Loop(LoopOptions options)
    : budget_(static_cast<std::int8_t>(
          std::min(options.budget, LoopOptions::kMostBudget))),
      director_(options.director),
      own_poller_(options.poller == nullptr ? make_poller().release()
                                            : nullptr),
      poller_(options.poller == nullptr ? *own_poller_ : *options.poller),
      mailbox_(std::make_shared<Mailbox>(poller_)),
      slots_(Slots::here()),
      home_(slots_.add_home(poller_)),  // the last that may fail
      started_(poller_.now()),
      own_(*this) {}

[[gnu::cold]] Loop::~Loop() {
  {
    const Entered entered(*this);
    own_.kill_all("the loop is gone", {}, true);
    if (!own_.empty()) fatal("a loop is destroyed from within its own job");
    while (!ready_.empty()) ready_.pop_front().drop();
    if (own_.failure) {
      complain_with([&] {
        return concat({"a job failed unseen: ", text_of(own_.failure)});
      });
    }
    while (Group* left = another_group()) left->dissolve();
  }
  mailbox_->close();
  slots_.remove_home(home_);
  if (nested_) slots_.take_back(poller_.fd());
}

/// A group on the heap may outlive even the loop, without any job.
Group* Loop::another_group() noexcept {
  Group* group = &groups_.front();
  return group != &own_ ? group : groups_.next(own_);
}

Loop& Loop::current() {
  if (loop_here != nullptr) return *loop_here;
  throw_error(
      Misuse("violet: no loop runs on this thread; call run(task), or "
             "loop.spawn from outside"));
}

Loop* Loop::here() noexcept {
  return loop_here;
}

JobBlock& Loop::job_here(const char* what) {
  if (JobBlock* job = current().current_job()) return *job;
  throw_error(
      Misuse(concat({"violet: ", what,
                     " is made outside any job; make it in the task that "
                     "uses it"})));
}

// ---------------------------------------------------------------- one turn

void wake(Stack& stack) noexcept {
  JobBlock& job = static_cast<JobBlock&>(stack);
  if (job.step != Step::kWaiting) return;
  Loop& loop = job.group_->loop();
  loop.make_ready(job);
  loop.touch();
}

void Event::spend_on_copy(std::size_t bytes) noexcept {
  const auto attempts = static_cast<int>(
      std::min<std::size_t>(bytes / kBytesPerAttempt, kStepsPerTurn));
  const int left = job_->budget;
  job_->budget = static_cast<std::int8_t>(std::max(left - attempts, 0));
  loop_of(*job_).steps_left_ -= attempts;
}

void Event::go_behind() noexcept {
  loop_of(*job_).make_ready(static_cast<JobBlock&>(*job_));
}

void Loop::turn(TimePoint deadline) noexcept {
  if (director_ != nullptr) [[unlikely]]
    return directed_turn(deadline);
  hear(deadline);
  steps_left_ = kStepsPerTurn;
  while (--steps_left_ >= 0 && !ready_.empty()) {
    JobBlock& job = ready_.pop_front();
    if (!ready_.empty()) fetch_soon(ready_.front().top);
    step(job);
  }
}

/// A turn of a single step, and who has it is up to the director.
[[gnu::cold]] void Loop::directed_turn(TimePoint deadline) noexcept {
  hear(deadline);
  JobBlock* job = director_->next(ready_);
  if (job == nullptr) return;
  if (job->ended()) return job->leave_queue();  // the choice was to kill it
  if (job->top == nullptr) {
    begin(*job);
  } else {
    go_on(*job);
  }
  director_->stepped(*job);
  on_processor_ = nullptr;
  after_step(*job);
}

/// Takes in what has happened; if no job is ready, waits for it.
inline void Loop::hear(TimePoint deadline) noexcept {
  if (!onlookers_.empty()) [[unlikely]]
    return look_once();
  poll(ready_.empty() ? std::min(deadline, timers_.next()) : TimePoint::min());
}

/// Without waiting: if that brings nothing, an onlooker has its turn. A post
/// may have killed the only one.
[[gnu::cold]] void Loop::look_once() noexcept {
  poll(TimePoint::min());
  if (!ready_.empty() || onlookers_.empty()) return;
  wake(*onlookers_.pop_front().job);
}

/// One stay on the processor: attempts what the job waits for, and runs it
/// until it waits again.
inline void Loop::step(JobBlock& job) noexcept {
  if (job.top == nullptr) [[unlikely]]
    return first_step(job);
  go_on(job);
  on_processor_ = nullptr;
  after_step(job);
}

/// The stay itself, up to where a director hears of its end.
[[gnu::always_inline]] inline void Loop::go_on(JobBlock& job) noexcept {
  on_processor_ = &job;
  running = &job;
  job.budget = budget_;
  job.step = Step::kRunning;
  if (job.event == nullptr || job.event->attempt()) {
    resume(job);
  } else {
    job.park(*job.event);
  }
}

/// Keeps what a job has thrown.
void Loop::note_failure(JobBlock& job, const std::exception_ptr& error,
                        std::source_location where) noexcept {
  job.ending_.reset(new (std::nothrow) Ending{error, {}, 0, where});
  if (job.ending_ == nullptr) {
    fatal("no memory is left to keep the failure of a job", where);
  }
}

/// Calls the function of a fresh job. Returns: false if that threw.
inline bool Loop::enter(JobBlock& job) noexcept {
  const auto error = caught([&] { job.top = job.enter(); });
  if (!error) [[likely]]
    return true;
  note_failure(job, error, job.spawned_at_);
  job.step = Step::kReturned;
  return false;
}

/// The same for a job without frames: one that has not run yet, or has ended.
void Loop::first_step(JobBlock& job) noexcept {
  if (job.step == Step::kEnded) return job.leave_queue();
  begin(job);
  on_processor_ = nullptr;
  after_step(job);
}

/// As go_on.
[[gnu::always_inline]] inline void Loop::begin(JobBlock& job) noexcept {
  fresh_ = false;
  on_processor_ = &job;
  running = &job;
  job.budget = budget_;
  job.step = Step::kRunning;
  if (enter(job)) resume(job);
}

// The trampoline: calls and returns change the top and come back here.
inline void Loop::resume(JobBlock& job) noexcept {
  job.top->handle().resume();
  while (job.step == Step::kSwitched) {
    job.step = Step::kRunning;
    job.top->handle().resume();
  }
}

inline void Loop::after_step(JobBlock& job) noexcept {
  if (job.step < Step::kReady) [[unlikely]]
    return returned(job);
  job.parked_ticks_ = turn_ticks_;
  if (job.ends_when_idle_ && job.step == Step::kWaiting && job.event->idle())
      [[unlikely]] {
    return become_idle(job);
  }
  if (held_kills_ != 0) [[unlikely]]
    carry_out_held_kills(&job);
}

/// A part asks whether the whole job is to end.
void Loop::become_idle(JobBlock& job) noexcept {
  JobBlock& whole = job.whole();
  if (whole.ends_when_idle_ && !whole.kill_held_) {
    kill(whole, "stopping", {});
  } else if (held_kills_ != 0) {
    carry_out_held_kills(&job);
  }
}

void Loop::returned(JobBlock& job) noexcept {
  if (job.step == Step::kRunning) {
    const Frame* known = job.top;  // a dropped body has no line of its own
    while (known->caller != nullptr && !known->line) known = known->caller;
    fatal(
        "a coroutine gave the processor back without waiting for anything. "
        "Either g++ 12 dropped its body (PR 106188: co_await in a condition "
        "and no local variable in the whole body; name the result), or it "
        "awaits something that is not ours",
        known->line ? known->where() : job.spawned_at_);
  }
  end(job);
}

/// Asks what became ready and what time it is. While jobs are ready and
/// nobody outside can have any news, the question is spared.
void Loop::poll(TimePoint deadline) noexcept {
  // A signal may come at any time, or never: a simulated clock does not stand
  // still for that.
  const bool expects_post = mailbox_->in_use() || !errands_.empty();
  const bool listens = !hearers_.empty();
  if (ready_.empty() || expects_post || listens || waiting_ != 0 || told_) {
    const bool wake_expected = expects_post || (listens && deadline == kNever);
    for (const Ready& news : poller_.wait(deadline, wake_expected)) {
      slots_.announce(news);
    }
  }
  const TimePoint now = timers_.empty() ? poller_.rough_now() : poller_.now();
  turn_ticks_ = ticks(now);
  timers_.fire(now);
  if (poller_.woken()) deliver_posts();
}

[[gnu::cold]] void Loop::tell_host() noexcept {
  if (nested_ && !std::exchange(told_, true)) poller_.wake();
}

void Loop::deliver_posts() noexcept {
  told_ = false;
  for (WakeHearer* hearer = hearers_.first(); hearer != nullptr;
       hearer = hearers_.next(*hearer)) {
    hearer->woken(*hearer);
  }
  Post* post = mailbox_->take_all();
  while (post != nullptr) {
    const std::unique_ptr<Post> current(std::exchange(post, post->next));
    const auto error = caught([&] { current->run(); });
    if (error) own_.note("a post", error);
  }
}

std::uint32_t Loop::ticks(TimePoint moment) const noexcept {
  return static_cast<std::uint32_t>((moment - started_).count() >> kTickBits);
}

Duration Loop::age(const JobBlock& job) const noexcept {
  const std::uint32_t elapsed = ticks(poller_.now()) - job.born_ticks_;
  return Duration(std::int64_t{elapsed} << kTickBits);
}

// -------------------------------------------------------------- a whole run

void Loop::refuse_nesting() {
  if (loop_here == nullptr) return;
  throw_error(
      Misuse("violet: run() inside run(): a loop already runs on this "
             "thread; co_await the task, or spawn its function"));
}

/// Slots and much else belong to a thread.
[[gnu::cold]] void Loop::refuse_strangers() const {
  if (&slots_ == &Slots::here()) return;
  throw_error(
      Misuse("violet: a loop runs on the thread that made it; other threads "
             "reach it through loop.remote()"));
}

[[gnu::cold]] void Loop::run_to_end(JobBlock& root, std::string& killed) {
  const Turning turning(*this);
  admit(root, own_, {});
  own_.root = &root;
  tell_end(root, drive(root), killed);
}

/// All jobs have ended; `deadlock` says if that was why. Throws what a run
/// does, except that `killed` says how the root was killed.
[[gnu::cold]] void Loop::tell_end(JobBlock& root, const std::string& deadlock,
                                  std::string& killed) {
  own_.root = nullptr;
  forced_ = false;
  const char* cancelled = std::exchange(cancelled_, nullptr);
  if (const std::exception_ptr error = root.see_error()) own_.note(root, error);
  const std::exception_ptr failure = std::exchange(own_.failure, nullptr);
  if (!deadlock.empty()) {
    if (failure) {
      complain_with(
          [&] { return concat({"a job failed, too: ", text_of(failure)}); });
    }
    throw_error(Deadlock(deadlock));
  }
  if (failure) std::rethrow_exception(failure);
  killed.clear();
  if (cancelled != nullptr) {
    killed = concat({"the run was cancelled: ", cancelled});
  } else if (root.killed()) {
    const Ending* ending = root.ending();
    killed = concat(
        {"the root job was ", ending == nullptr ? "killed" : ending->text()});
  }
}

/// Turns until every job has ended, or has to end.
/// Returns: why nothing can go on, if that is so.
std::string Loop::drive(const JobBlock& root) {
  while (!own_.empty()) {
    const bool root_failed = root.ending() != nullptr && root.ending()->error;
    const bool failed = root_failed || own_.failure || cancelled_;
    if (failed || stuck()) {
      std::string deadlock;
      if (!failed && !has_memory_for([&] { deadlock = deadlock_text(); })) {
        deadlock = "deadlock";  // short enough to need none
      }
      close_down();
      return deadlock;
    }
    turn(kNever);
  }
  return {};
}

/// Kills every job; waits a while for shields and cleanups.
void Loop::close_down() noexcept {
  const TimePoint limit = after(now(), kCloseDownLimit);
  const char* reason = cancelled_ != nullptr ? cancelled_ : "the run ends";
  while (!own_.kill_all(reason, {}, forced_ || now() >= limit)) turn(limit);
}

bool Loop::run_once(Duration timeout) {
  if (loop_here == this || turning_) {
    throw_error(Misuse(
        "violet: run_once() of a loop from within one of its own jobs; a job "
        "waits with co_await"));
  }
  refuse_strangers();
  const Turning turning(*this);
  turn(timeout <= Duration::zero() ? TimePoint::min() : after(now(), timeout));
  if (own_.failure) {
    std::rethrow_exception(std::exchange(own_.failure, nullptr));
  }
  return !own_.empty();
}

TimePoint Loop::next_deadline() const noexcept {
  return ready_.empty() && onlookers_.empty() ? timers_.next()
                                              : TimePoint::min();
}

int Loop::timeout_ms() noexcept {
  const TimePoint next = next_deadline();
  if (next == kNever) return -1;
  if (next == TimePoint::min()) return 0;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(time_left(next, now()));
  return static_cast<int>(std::min<long long>(left.count(), INT_MAX));
}

/// True if nothing can ever wake a job. A signal may only if somebody hears it.
bool Loop::stuck() const noexcept {
  return ready_.empty() && onlookers_.empty() && timers_.empty() &&
         errands_.empty() && !mailbox_->in_use() &&
         (waiting_ == 0 || poller_.hopeless()) && !signal_awaited();
}

bool Loop::signal_awaited() const noexcept {
  WakeHearer* hearer = hearers_.first();
  while (hearer != nullptr && !hearer->may_wake(*hearer)) {
    hearer = hearers_.next(*hearer);
  }
  return hearer != nullptr;
}

void Loop::stop() noexcept {
  stop_requested_ = true;
  wake_all(stop_waiters_);
}

void Loop::cancel(const char* reason, bool force) noexcept {
  forced_ = forced_ || force;
  if (cancelled_ == nullptr) cancelled_ = reason;
}

// --------------------------------------------------------- the life of a job

void internal::refuse_spawn() {
  throw_error(Misuse(
      "violet: spawn into a group that is closed; spawn before close(), or "
      "into a group that lives longer"));
}

void Loop::admit_specially(JobBlock& job, Group& group) noexcept {
  if (group.door_ == Door::kLimited) return group.delay(job);
  ready_.push_back(job);
  kill(job, "its group ends", job.spawned_at_);
}

/// Takes the result out of the root frame.
inline void Loop::settle(JobBlock& job) noexcept {
  if (job.top != nullptr) {
    const auto error = caught([&] { job.settle(*job.top); });
    if (!error) [[likely]]
      return;
    // A body that threw before its first await has no line of its own.
    const std::source_location where =
        job.top->line ? job.top->where() : job.spawned_at_;
    note_failure(job, error, where);
  }
  failed(job);
}

/// An exception that no handle could still see goes to the group at once,
/// while the job's frames and arguments can tell what it was about. So does
/// any that nobody is waiting for, if the group wants that.
void Loop::failed(JobBlock& job) noexcept {
  const bool at_once = job.group_->hears_ == Hears::kAtOnce;
  job.unseen_ = job.references_ > 1;
  if (!job.unseen_ || (at_once && !job.is_joined())) job.group_->hear(job);
}

/// One who waited has gone without having seen the exception. If that was the
/// last one, a group that wants to hear at once is to hear: in a turn of its
/// own, for it may kill whoever is in the middle of something here.
void JobBlock::lost_joiner() noexcept {
  if (to_be_told_ || !ended() || !concerns_group()) return;
  to_be_told_ = true;
  hold();
  group_->loop().start(*this);
}

/// Ends a job that has returned, thrown or been killed. Its frames and
/// arguments die first; then those who wait for its end are woken.
void Loop::end(JobBlock& job) noexcept {
  Group& group = *job.group_;
  {
    const Dying dying(dying_, job);
    if (job.step == Step::kReturned) settle(job);
    job.step = Step::kDying;
    while (Frame* top = job.top) {
      job.top = top->caller;
      top->handle().destroy();
    }
    if (job.groups_ != 0) [[unlikely]]
      orphan_groups_of(job);
    job.forget_arguments();
  }
  if (job.kill_held_) [[unlikely]]
    forget_kill(job);
  job.step = Step::kEnded;
  group.remove(job);
  if (!job.joiners_.empty() && job.shields_ == 0) job.wake_joiners();
  JobBlock* owner = group.owner();
  const JobBlock* before = std::exchange(leaving_, &job);
  group.child_left(job);
  leaving_ = before;
  if (held_kills_ != 0) [[unlikely]]
    carry_out_held_kills(owner);
  job.drop();  // its result may hold anything, even the owner of its group
}

/// A job with a held kill has ended: by that kill, or before it could be
/// carried out.
void Loop::forget_kill(JobBlock& job) noexcept {
  job.kill_held_ = false;
  --held_kills_;
  const bool failed = job.ending_ != nullptr && job.ending_->error;
  if (!job.killed_ && !failed) job.ending_.reset();
}

bool Loop::kill(JobBlock& job, std::string_view reason,
                std::source_location where, bool force) noexcept {
  if (job.ended()) return job.over();
  if (job.step == Step::kDying) return false;
  const bool held = held_back(job, force);
  if (held && job.kill_held_) return false;
  if (!job.kill_held_ && (held || job.references_ > 1)) {
    note_kill(job, reason, where);
  }
  if (held) {
    hold_kill(job);
    return false;
  }
  job.hold();
  destroy(job);
  const bool over = job.over();
  job.drop();
  return over;
}

/// Leaves a kill to carry_out_held_kills. The job that runs shall come to its
/// next wait soon.
void Loop::hold_kill(JobBlock& job) noexcept {
  job.kill_held_ = true;
  ++held_kills_;
  if (on_processor_ != nullptr) on_processor_->budget = 0;
}

void Loop::destroy(JobBlock& job) noexcept {
  const bool queued = job.step == Step::kReady || job.step == Step::kUnstarted;
  if (queued) job.hold();
  job.killed_ = true;
  end(job);
}

/// A group can outlive the job that made it only on the heap, where frames of
/// others may refer to it. Its jobs do not.
void Loop::orphan_groups_of(JobBlock& job) noexcept {
  Group* group = groups_.first();
  while (group != nullptr) {
    if (group->owner_ == &job) {
      group->orphan();
      group = groups_.first();  // anything may have gone with its jobs
    } else {
      group = groups_.next(*group);
    }
  }
}

void Dying::mark() noexcept {
  if (marked_) return;
  if (outer != nullptr) outer->mark();
  marked_ = true;
  end_ = &job;
  for (; end_ != nullptr && !end_->busy_below_; end_ = end_->group()->owner()) {
    end_->busy_below_ = true;
  }
}

void Dying::unmark() noexcept {
  for (JobBlock* j = &job; j != end_; j = j->group()->owner()) {
    j->busy_below_ = false;
  }
}

/// True while the job, or one that lives in its frames, is busy or shielded.
bool Loop::held_back(const JobBlock& job, bool force) noexcept {
  if (dying_ != nullptr) dying_->mark();
  if (job.busy_below_) return true;
  if (on_processor_ != nullptr && on_processor_->is_below(job)) return true;
  return job.shields_ != 0 && !force && !withdraw_errands(job);
}

/// A kill may take errands that have not begun, if nothing else holds it.
/// Returns: true if all that counts as a shield below `job` was such, and none
/// of it will begin any more.
[[gnu::cold]] bool Loop::withdraw_errands(const JobBlock& job) noexcept {
  // Groups kill the newest first: its errand is soon found.
  std::uint32_t found = 0;
  Errand* oldest = nullptr;
  Errand* errand = errands_.last();
  for (; errand != nullptr && found < job.shields_;
       errand = errands_.previous(*errand)) {
    if (!errand->for_whom().is_below(job)) continue;
    oldest = errand;
    ++found;
  }
  if (found < job.shields_) return false;
  // The oldest is the most likely to have begun.
  for (errand = oldest; errand != nullptr; errand = errands_.next(*errand)) {
    if (!errand->for_whom().is_below(job) || errand->withdraw()) continue;
    for (Errand* e = oldest; e != errand; e = errands_.next(*e)) {
      if (e->for_whom().is_below(job)) e->send_again();
    }
    return false;
  }
  return true;
}

void Errand::begin(JobBlock& job) noexcept {
  for_ = &job;
  loop_of(job).errands_.push_back(*this);
  for (JobBlock* j = for_; j != nullptr; j = j->group_->owner()) ++j->shields_;
}

// If a kill waits for this, the next wait is to be a real one.
void Errand::end() noexcept {
  Loop& loop = loop_of(*for_);
  if (loop.held_kills_ != 0) for_->budget = 0;
  for (JobBlock* j = for_; j != nullptr; j = j->group_->owner()) --j->shields_;
  loop.errands_.remove(*this);
}

/// `job` or what lived in its frames is no longer busy: carries out the kills
/// that waited for that, on it and on those that hold it.
void Loop::carry_out_held_kills(JobBlock* job) noexcept {
  while (job != nullptr) {
    JobBlock* owner = job->group_->owner();
    if (job->kill_held_ && job->step != Step::kDying &&
        !held_back(*job, false)) {
      return destroy(*job);  // whose end goes on with its owner
    }
    job = owner;
  }
}

const JobBlock* Loop::acting_job() const noexcept {
  const Dying* dying = dying_;
  while (dying != nullptr && !dying->dies) dying = dying->outer;
  if (dying != nullptr) return &dying->job;
  return on_processor_ != nullptr ? on_processor_ : leaving_;
}

[[gnu::cold]] void Loop::note_kill(JobBlock& job, std::string_view reason,
                                   std::source_location where) noexcept {
  const JobBlock* killer = acting_job();
  // Without memory for it: the kill matters more than its description.
  has_memory_for([&] {
    job.ending_.reset(new Ending{nullptr, std::string(reason),
                                 killer == nullptr ? 0 : killer->id(), where});
  });
}

bool kill_job(JobBlock& job, std::string_view reason,
              std::source_location where) noexcept {
  if (job.ended()) return job.over();
  Loop& loop = job.group()->loop();
  if (loop_here == &loop) return loop.kill(job, reason, where);
  bool over = false;
  {
    const Loop::Entered entered(loop);
    over = loop.kill(job, reason, where);
  }
  loop.touch();
  return over;
}

// -------------------------------------------------------------------- groups

Group::Group(Loop& loop, JobBlock* owner, Hears hears, bool hidden) noexcept
    : loop_(loop),
      owner_(owner),
      ends_idle_(hidden),  // it asks the whole then
      hidden_(hidden),
      hears_(hears) {
  loop.groups_.push_back(*this);
  if (owner != nullptr && owner->groups_ != kManyGroups) ++owner->groups_;
}

/// A child has failed. A group that hears at once keeps it until somebody has
/// seen the error.
void Group::hear(JobBlock& child) noexcept {
  if (being_destroyed_) return child.complain_of_failure();
  Loop& loop = loop_;
  std::optional<Loop::Entered> entered;
  if (loop_here != &loop) entered.emplace(loop);
  if (hears_ == Hears::kAtOnce) {
    child.hold();
    child.told_ = child.unseen_ = true;
    if (child.ended()) unseen_.push_back(child);  // else it will be; see remove
  }
  failed(child);
  entered.reset();
  loop.touch();
}

void Group::dissolve() noexcept {
  if (std::exchange(being_destroyed_, true)) return;
  if (!kill_all("its group is gone", {}, true)) {
    fatal(
        "a group is destroyed from within one of its own jobs: leave the "
        "scope of the group from the job that owns it");
  }
  forget_unseen();
  while (!cleanups_.empty()) cleanups_.pop_front();
  if (owner_ != nullptr && owner_->groups_ != kManyGroups) --owner_->groups_;
  loop_.groups_.remove(*this);
}

/// The owner has ended, the group has not.
void Group::orphan() noexcept {
  door_ = Door::kEnding;
  kill_each("the job that made its group has ended", {}, true);
  door_ = Door::kClosed;
  owner_ = nullptr;
}

bool Group::kill_all(std::string_view reason, std::source_location where,
                     bool force) noexcept {
  JobBlock* owner = owner_;
  Loop& loop = loop_;
  std::optional<Loop::Entered> entered;
  if (loop_here != &loop_) entered.emplace(loop_);
  const bool none_left = kill_each(reason, where, force);
  if (loop.held_kills_ != 0) loop.carry_out_held_kills(owner);
  entered.reset();
  loop.touch();
  return none_left;
}

// The owner counts as dying meanwhile: a child's destructor may kill it, and
// the group must not die while its children are being counted out. A dying
// child may also kill its siblings, spawn another one, or have held the kill
// of one that was passed over: so this goes on until a whole round ends none.
bool Group::kill_each(std::string_view reason, std::source_location where,
                      bool force) noexcept {
  std::optional<Dying> counting;
  if (owner_ != nullptr) {
    counting.emplace(loop_.dying_, *owner_);
    counting->dies = false;
  }
  while (kill_round(reason, where, force) && !children_.empty()) continue;
  return children_.empty();
}

/// Kills each child once, newest first. Returns: true if any has ended.
bool Group::kill_round(std::string_view reason, std::source_location where,
                       bool force) noexcept {
  bool ended = false;
  JobBlock* child = children_.last();
  if (child != nullptr) child->hold();
  while (child != nullptr) {
    JobBlock* next = children_.previous(*child);
    if (next != nullptr) next->hold();
    loop_.kill(*child, reason, where, force);
    ended = ended || child->ended();
    child->drop();
    child = next;
    if (next == nullptr || !next->ended()) continue;
    child = children_.last();  // the place is lost with it
    if (child != nullptr) child->hold();
    next->drop();
  }
  return ended;
}

// As above, a dying child may kill its siblings: who comes next is held, and
// if it is gone the search begins anew.
[[gnu::cold]] void Group::end_idle() noexcept {
  ends_idle_ = true;
  std::optional<Dying> counting;
  if (owner_ != nullptr) {
    counting.emplace(loop_.dying_, *owner_);
    counting->dies = false;
  }
  JobBlock* child = children_.first();
  while (child != nullptr) {
    JobBlock* next = children_.next(*child);
    if (next != nullptr) next->hold();
    child->ends_when_idle_ = true;
    if (child->step == Step::kWaiting && child->event->idle()) {
      loop_.kill(*child, "stopping", {});
    }
    child = next != nullptr && next->ended() ? children_.first() : next;
    if (next != nullptr) next->drop();
  }
  counting.reset();
  if (loop_.held_kills_ != 0) loop_.carry_out_held_kills(owner_);
}

// The root's failure waits for run() to see it. If that came first, it is
// noted before any other.
void OwnGroup::failed(JobBlock& child) noexcept {
  if (root != nullptr && root->ended()) {
    if (const std::exception_ptr error = root->see_error()) note(*root, error);
  }
  note(child, child.ending()->error);
}

/// Keeps the first failure for run(); the others go to stderr.
[[gnu::cold]] void OwnGroup::note(const char* whose,
                                  std::exception_ptr error) noexcept {
  if (failure == nullptr) {
    failure = error;
  } else if (failure != error) {
    complain_of(error, [&] {
      return concat({whose, " failed too: ", text_of(error)});
    });
  }
}

[[gnu::cold]] void OwnGroup::note(const JobBlock& job,
                                  std::exception_ptr error) noexcept {
  if (failure == nullptr) {
    failure = error;
  } else if (failure != error) {
    complain_of(error, [&] {
      return concat({"job #", job.id(), " at ", text_of(job.ending()->where),
                     " failed too: ", text_of(error)});
    });
  }
}

}  // namespace violet
