// group.cpp - what a group does when a child fails or leaves.
// SPDX-License-Identifier: MIT
#include "group.hpp"

namespace violet {

TaskGroup::TaskGroup(std::size_t limit)
    : Group(Loop::current(), &Loop::job_here("a TaskGroup"), Hears::kAtOnce),
      limit_(limit) {
  if (limit == 0) {
    throw_error(
        Misuse("violet: a TaskGroup with a limit of 0 would run nothing"));
  }
  open_again();
}

TaskGroup::~TaskGroup() {
  dissolve();
  WaitEvent::dismiss_all(joiners_);
  WaitEvent::dismiss_all(room_);
  while (!delayed_.empty()) delayed_.pop_front().drop();
}

void TaskGroup::open_again() noexcept {
  set_door(limit_ == kNoLimit ? Door::kOpen : Door::kLimited);
}

// A child that has just thrown is not counted out yet: left() goes on with it.
void TaskGroup::failed(JobBlock& child) noexcept {
  const Ending& ending = *child.ending();
  if (handler_ != nullptr) {
    return handler_->call(FailedJob{child.id(), ending.error, ending.where});
  }
  if (std::exchange(failing_, true)) return;
  if (door() != Door::kClosed) set_door(Door::kEnding);
  failed_at_ = ending.where;
  if (!child.ended()) return;
  kill_siblings();
  kill_all("a sibling failed", failed_at_);  // and whose kill was held so long
}

void TaskGroup::left(JobBlock& child) noexcept {
  if (limit_ != kNoLimit && child.marked()) --running_;
  if (failing_ && !killed_siblings_) kill_siblings();
  left_or_cleaned();
}

void TaskGroup::kill_siblings() noexcept {
  killed_siblings_ = true;
  kill_each("a sibling failed", failed_at_);
}

void TaskGroup::left_or_cleaned() noexcept {
  if (limit_ != kNoLimit) start_delayed();
  if (settled()) WaitEvent::wake_all(joiners_);
}

void TaskGroup::delay(JobBlock& child) noexcept {
  delayed_.push_back(child);
  start_delayed();
}

void TaskGroup::start_delayed() noexcept {
  while (running_ < limit_ && !delayed_.empty()) {
    JobBlock& job = delayed_.pop_front();
    if (job.ended()) {
      job.drop();
      continue;
    }
    job.mark();
    ++running_;
    loop().start(job);
  }
  tell_of_room();
}

/// One is enough: who leaves the line, with room or without, tells the next.
void TaskGroup::tell_of_room() noexcept {
  if (running_ < limit_ && !room_.empty()) wake(*room_.front().job());
}

std::vector<std::exception_ptr> TaskGroup::failures() {
  std::vector<std::exception_ptr> all;
  while (JobBlock* child = first_unseen()) {
    all.push_back(child->ending()->error);
    child->hold();
    child->see_error();
    child->drop();
  }
  return all;
}

/// True if `job` is a child of this group, or lives in the frames of one.
bool TaskGroup::holds(const JobBlock& job) const noexcept {
  const JobBlock* child = &job;
  while (child != nullptr && child->group() != this) {
    child = child->group()->owner();
  }
  return child != nullptr;
}

// --------------------------------------------------------------------- waits

void TaskGroup::WaitEvent::undo() noexcept {
  if (in_list()) list_.remove(*this);
}

bool TaskGroup::WaitEvent::complete(bool done) noexcept {
  if (done) {
    undo();
  } else if (!in_list()) {
    list_.push_back(*this);
  }
  return done;
}

void TaskGroup::WaitEvent::wake_all(List& list) noexcept {
  for (WaitEvent* one = list.first(); one != nullptr; one = list.next(*one)) {
    wake(*one->job());
  }
}

void TaskGroup::WaitEvent::dismiss_all(List& list) noexcept {
  while (!list.empty()) {
    WaitEvent& one = list.pop_front();
    one.group_ = nullptr;
    wake(*one.job());
  }
}

void TaskGroup::WaitEvent::throw_if_gone() const {
  if (group_ != nullptr) return;
  throw_error(Misuse(
      "violet: the group was destroyed while a job waited for it; let the job "
      "that owns a group join it, or one that ends before it"));
}

bool TaskGroup::JoinEvent::attempt() noexcept {
  if (group_ == nullptr) return true;
  if (group_->holds(static_cast<JobBlock&>(*job()))) {
    error_ = EDEADLK;
    return complete(true);
  }
  if (closes_ && !std::exchange(asked_, true)) {
    group_->set_door(Door::kEnding);
    group_->kill_all("its group is closed", where_);
  }
  return complete(group_->settled());
}

void TaskGroup::JoinEvent::describe(Description& out) const {
  if (group_ == nullptr) return;
  out.text = concat({closes_ ? "close" : "join", " of a group of ",
                     group_->size(), group_->size() == 1 ? " job" : " jobs"});
}

void TaskGroup::JoinEvent::result() {
  if (error_ != 0) {
    throw_error(Misuse(
        "violet: a job joins the group that it belongs to, which cannot end "
        "before it; join in the job that made the group"));
  }
  throw_if_gone();
  group_->failing_ = group_->killed_siblings_ = false;
  if (closes_) {
    group_->set_door(Door::kClosed);
  } else if (group_->door() == Door::kEnding) {
    group_->open_again();
  }
  JobBlock* first = group_->first_unseen();
  if (first == nullptr || group_->handler_ != nullptr) return;
  first->hold();
  const std::exception_ptr error = first->see_error();
  first->drop();
  std::rethrow_exception(error);
}

bool TaskGroup::RoomEvent::attempt() noexcept {
  if (group_ == nullptr) return true;
  return complete(group_->running_ < group_->limit_);
}

void TaskGroup::RoomEvent::undo() noexcept {
  if (!in_list()) return;
  WaitEvent::undo();
  group_->tell_of_room();
}

void TaskGroup::RoomEvent::describe(Description& out) const {
  if (group_ == nullptr) return;
  out.text = concat({"room in a group of ", group_->limit_});
}

bool StartEvent::attempt() noexcept {
  if (state_.ready) {
    undo();
    return true;
  }
  stand_in(state_.waiters, place_, *job());
  if (!attempt_end()) return false;
  leave(state_.waiters, place_);
  return true;
}

void StartEvent::undo() noexcept {
  leave(state_.waiters, place_);
  JobEndEvent::undo();
}

void StartEvent::describe(Description& out) const {
  describe_end("start of", out);
}

void StartEvent::result() const {
  if (state_.ready) return;
  throw_ending();
  throw_error(Misuse(
      "violet: a job that was started returned without saying that it is "
      "ready; call started.ready(), or spawn it"));
}

}  // namespace violet
