// job.cpp - what a job knows about itself.
// SPDX-License-Identifier: MIT
#include "job.hpp"

namespace violet {

std::string Ending::text() const {
  if (error) return concat({"at ", text_of(where), ": ", text_of(error)});
  const bool placed = where.line() != 0;
  const std::string by = killer == 0 ? "" : concat({" by #", killer});
  return concat({"killed", by, placed ? " at " : "",
                 placed ? text_of(where) : "", reason.empty() ? "" : ": ",
                 reason});
}

namespace {

void complain_of(const JobBlock& job) noexcept {
  complain_with([&] {
    return concat(
        {"job #", job.id(), " failed, nobody asked, ", job.ending()->text()});
  });
}

}  // namespace

JobEndEvent::JobEndEvent(JobBlock* target) noexcept : target_(target) {
  if (target_ != nullptr) target_->hold();
}

JobEndEvent::JobEndEvent(JobEndEvent&& other) noexcept
    : Event(std::move(other)), target_(std::exchange(other.target_, nullptr)) {}

JobEndEvent::~JobEndEvent() {
  if (target_ != nullptr) target_->drop();
}

bool JobEndEvent::attempt_end() noexcept {
  if (target_ == nullptr || target_->ended()) return true;
  if (!in_list()) target_->joiners_.push_back(*this);
  return false;
}

void JobEndEvent::undo() noexcept {
  if (in_list()) target_->joiners_.remove(*this);
}

void JobEndEvent::describe_end(const char* verb, Description& out) const {
  const std::uint32_t number = target_ == nullptr ? 0 : target_->id();
  out.text = concat({verb, " #", number});
  out.job = target_;
}

void JobEndEvent::throw_ending() const {
  if (target_ == nullptr) {
    throw Misuse("violet: join of an empty Job; it must come from spawn");
  }
  if (const std::exception_ptr error = target_->see_error()) {
    std::rethrow_exception(error);
  }
  if (!target_->killed()) return;
  const Ending* ending = target_->ending();
  throw Killed(concat({"job #", target_->id(), " was ",
                       ending == nullptr ? "killed" : ending->text()}));
}

bool JobBlock::is_below(const JobBlock& ancestor) const noexcept {
  const JobBlock* job = this;
  while (job != nullptr && job != &ancestor) job = job->group_->owner();
  return job != nullptr;
}

std::exception_ptr JobBlock::see_error() noexcept {
  if (ending_ == nullptr || !ended()) return nullptr;
  if (unseen_) {
    unseen_ = false;
    if (group_ != nullptr) group_->unseen_.remove(*this);
    group_ = nullptr;
  }
  return ending_->error;
}

/// The last handle is gone: an exception that nobody has seen becomes a
/// failure of the group, or goes to stderr if that is gone as well.
void JobBlock::report_unseen() noexcept {
  unseen_ = false;
  if (group_ == nullptr) return complain_of(*this);
  group_->unseen_.remove(*this);
  group_->child_failed(*this);
}

void Group::child_failed(JobBlock& child) noexcept {
  if (being_destroyed_) return complain_of(child);
  failed(child);
}

}  // namespace violet
