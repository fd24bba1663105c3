// combine.cpp - who ends first.
// SPDX-License-Identifier: MIT
#include "combine.hpp"

namespace violet {

Finishers::Finishers(std::size_t count, Rest rest)
    : Group(Loop::current(), &Loop::job_here("a race of tasks")),
      count_(count),
      rest_(rest) {
  ended_.reserve(count);
}

Finishers::~Finishers() {
  dissolve();
  if (stray_) complain_of(stray_);
}

/// A failure that nobody can be told any more.
void Finishers::complain_of(const std::exception_ptr& error) noexcept {
  violet::complain_of(error, [&] {
    return concat({"one of several tasks failed too: ", text_of(error)});
  });
}

// The tasks' own failures are told by their handles; that of a loser, once
// the race is decided, by nobody.
void Finishers::failed(JobBlock& child) noexcept {
  if (child.marked() || stray_) return complain_of(child.ending()->error);
  stray_ = child.ending()->error;
  wake_all(waiters_);
}

void Finishers::left(JobBlock& child) noexcept {
  const bool over = rest_ == Rest::kIsKilled && !ended_.empty();
  if (child.marked() && !over) {
    ended_.push_back(child.id() - first_id_);
    if (rest_ == Rest::kIsKilled) kill_each("another was first", {});
  }
  wake_all(waiters_);
}

/// True if the next one can be told. Whoever is killed is gone by then.
bool Finishers::decided() const noexcept {
  if (stray_ || told_ == count_) return true;
  if (told_ == ended_.size()) return false;
  return rest_ == Rest::kGoesOn || (empty() && !cleaning());
}

bool Finishers::NextEvent::attempt() noexcept {
  undo();
  if (all_.decided()) return true;
  stand_in(all_.waiters_, place_, *job());
  return false;
}

void Finishers::NextEvent::describe(Description& out) const {
  out.text = concat({"the next of ", all_.left_over(), " tasks"});
}

std::optional<std::size_t> Finishers::NextEvent::result() {
  if (all_.stray_) {
    std::rethrow_exception(std::exchange(all_.stray_, nullptr));
  }
  if (all_.told_ == all_.count_) return std::nullopt;
  return all_.ended_[all_.told_++];
}

}  // namespace violet
