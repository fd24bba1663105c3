// job.cpp - what a job knows about itself.
// SPDX-License-Identifier: MIT
#include "job.hpp"

namespace violet {

[[gnu::cold]] std::string Ending::text() const {
  if (error) return concat({"at ", text_of(where), ": ", text_of(error)});
  const bool placed = where.line() != 0;
  const std::string by = killer == 0 ? "" : concat({" by #", killer});
  return concat({"killed", by, placed ? " at " : "",
                 placed ? text_of(where) : "", reason.empty() ? "" : ": ",
                 reason});
}

JobEndEvent::JobEndEvent(JobBlock* target) noexcept : target_(target) {
  if (target_ != nullptr) target_->hold();
}

JobEndEvent::JobEndEvent(JobEndEvent&& other) noexcept
    : Event(std::move(other)), target_(std::exchange(other.target_, nullptr)) {}

JobEndEvent::~JobEndEvent() {
  if (target_ != nullptr) target_->drop();
}

// It stays in the list when it is woken: until its job goes on, the failure
// of the other one is still to be seen here.
bool JobEndEvent::attempt_end() noexcept {
  if (target_ == nullptr) return true;
  if (target_->over()) {
    if (in_list()) target_->joiners_.remove(*this);
    return true;
  }
  stand_by();
  return false;
}

void JobEndEvent::stand_by() noexcept {
  if (target_ == nullptr || in_list()) return;
  target_->joiners_.push_back(*this);
}

namespace {

// A longer cycle is found when nothing can go on any more: see Deadlock.
constexpr int kMostHops = 64;

/// True if `job` waits for the end of `self`, be it through others.
bool waits_for(const Stack* job, const JobBlock& self) noexcept {
  for (int hops = 0; hops < kMostHops && job != nullptr; ++hops) {
    if (job == &self) return true;
    const bool parked = job->event != nullptr && job->step == Step::kWaiting;
    job = parked ? job->event->awaited() : nullptr;
  }
  return false;
}

}  // namespace

const Stack* JobEndEvent::awaited() const noexcept {
  return target_;
}

// A cycle that is closed later is no business of this wait: it may be one with
// a limit, or one of several. If it is, it closes none itself.
bool JobEndEvent::attempt_join() noexcept {
  if (attempt_end()) return true;
  if ((word_ & kHasBegun) != 0) return false;
  word_ |= kHasBegun;
  JobBlock& self = static_cast<JobBlock&>(*job());
  if (target_->ended()) return false;  // only its cleanup is under way
  const bool cycle = (word_ & kIsPart) == 0 && waits_for(target_, self);
  if (!self.is_below(*target_) && !cycle) return false;
  error_ = EDEADLK;
  undo();
  return true;
}

void JobEndEvent::undo() noexcept {
  if (!in_list()) return;
  target_->joiners_.remove(*this);
  target_->lost_joiner();
}

void JobEndEvent::describe_end(const char* verb, Description& out) const {
  const std::uint32_t number = target_ == nullptr ? 0 : target_->id();
  out.text = concat({verb, " #", number});
  out.job = target_;
}

void JobEndEvent::throw_ending() const {
  if (target_ == nullptr) {
    throw_error(
        Misuse("violet: join of an empty Job; it must come from spawn"));
  }
  if (error_ == EDEADLK) {
    throw_error(Misuse(concat(
        {"violet: join of job #", target_->id(),
         " would never end: that is this job itself, or it holds this job, or "
         "waits for it; let a job that is not among them join both"})));
  }
  if (const std::exception_ptr error = target_->see_error()) {
    std::rethrow_exception(error);
  }
  if (!target_->killed()) return;
  const Ending* ending = target_->ending();
  throw_error(Killed(concat({"job #", target_->id(), " was ",
                             ending == nullptr ? "killed" : ending->text()})));
}

bool JobBlock::is_below(const JobBlock& ancestor) const noexcept {
  const JobBlock* job = this;
  while (job != nullptr && job != &ancestor) job = job->group_->owner();
  return job != nullptr;
}

// Whoever asks holds a reference, so giving back the group's is not the end.
std::exception_ptr JobBlock::see_error() noexcept {
  if (ending_ == nullptr || !ended()) return nullptr;
  if (unseen_ && group_ != nullptr) {
    group_->unseen_.remove(*this);
    if (told_) --references_;
    group_ = nullptr;
  }
  unseen_ = told_ = false;
  return ending_->error;
}

void JobBlock::wake_joiners() noexcept {
  for (JobEndEvent* joiner = joiners_.first(); joiner != nullptr;
       joiner = joiners_.next(*joiner)) {
    wake(*joiner->job());
  }
}

/// True if somebody waits who will see its exception.
bool JobBlock::is_joined() const noexcept {
  JobEndEvent* joiner = joiners_.first();
  while (joiner != nullptr && !joiner->sees()) joiner = joiners_.next(*joiner);
  return joiner != nullptr;
}

/// True if it has failed, and its group wants to hear of it at once.
bool JobBlock::concerns_group() const noexcept {
  return unseen_ && !told_ && group_ != nullptr &&
         group_->hears_ == Hears::kAtOnce && !is_joined();
}

/// Ended, it has come to the front of the ready queue: it was killed there, or
/// lost_joiner() has put it there.
void JobBlock::leave_queue() noexcept {
  const bool tells = to_be_told_ && concerns_group();
  to_be_told_ = false;
  if (tells) {
    group_->unseen_.remove(*this);
    group_->hear(*this);
  }
  drop();
}

void JobBlock::complain_of_failure() const noexcept {
  complain_of(ending()->error, [&] {
    return concat({"job #", id(), " failed, nobody asked, ", ending()->text()});
  });
}

/// The last handle is gone: an exception that nobody has seen becomes a
/// failure of the group, or goes to stderr if that is gone as well.
void JobBlock::report_unseen() noexcept {
  references_ = 1;  // ours, while we tell
  unseen_ = false;
  if (group_ == nullptr) {
    complain_of_failure();
  } else {
    group_->unseen_.remove(*this);
    group_->hear(*this);
  }
  drop();
}

/// The group is no more; what nobody ever sees goes to stderr.
void Group::forget_unseen() noexcept {
  while (!unseen_.empty()) {
    JobBlock& child = unseen_.pop_front();
    child.group_ = nullptr;
    const bool ours = child.told_;
    child.told_ = false;
    if (ours) child.drop();
  }
}

Cleanup::Cleanup(JobBlock& job) : job_(&job) {
  std::size_t most = 0;
  for (JobBlock* j = &job; j != nullptr; j = j->group_->owner()) ++most;
  finishes_.reserve(most);
}

Cleanup::Cleanup(Cleanup&& other) noexcept
    : job_(other.job_), finishes_(std::move(other.finishes_)) {}

/// A kill comes from above: of the jobs that it takes, the one that holds all
/// the others. Whoever joins its group waits for all that cleans up after it.
JobBlock& Cleanup::outermost_dying() const noexcept {
  JobBlock* outermost = job_;
  for (JobBlock* j = job_; j != nullptr; j = j->group_->owner()) {
    if (j->step == Step::kDying) outermost = j;
  }
  return *outermost;
}

void Cleanup::begin(JobBlock& runs) noexcept {
  runs_ = &runs;
  ++runs.shields_;
  group_ = outermost_dying().whole().group_;
  group_->cleanups_.push_back(*this);
  for (JobBlock* j = job_; j != nullptr; j = j->group_->owner()) {
    if (j->step != Step::kDying) continue;
    j->hold();
    ++j->shields_;
    finishes_.push_back(j);
  }
}

Cleanup::~Cleanup() {
  if (runs_ == nullptr) return;
  --runs_->shields_;
  for (JobBlock* job : finishes_) {
    if (--job->shields_ == 0) job->wake_joiners();
    job->drop();
  }
  if (!in_list()) return;
  group_->cleanups_.remove(*this);
  if (group_->cleanups_.empty()) group_->cleaned();
}

}  // namespace violet
