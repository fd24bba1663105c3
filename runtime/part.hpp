// part.hpp - a task that runs as a part of the job that awaits it.
//
// The idea: to end a task early, it needs frames of its own that can be
// destroyed while its caller lives on. So it becomes a job, in a group that
// nobody sees: what it spawns belongs to its caller's group, and what it
// locks, its caller owns. within() is made of this.
//
// Built on: scheduler.
// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "scheduler.hpp"

namespace violet {

/// The hidden group of one part.
class PartGroup final : public Group {
 public:
  explicit PartGroup(JobBlock& whole) noexcept
      : Group(whole.group()->loop(), &whole, Hears::kInTheEnd, true) {}
  ~PartGroup() { dissolve(); }

 private:
  void failed(JobBlock&) noexcept override {}  // the handle has not gone
  void left(JobBlock&) noexcept override { wake(*owner()); }
};

/// Waits for a task that runs as a part of the job. Its value or exception is
/// what this yields.
template <class T>
class PartEvent final : public Event {
 public:
  explicit PartEvent(Task<T>&& task) noexcept : task_(std::move(task)) {}
  PartEvent(PartEvent&& other) noexcept
      : Event(std::move(other)), task_(std::move(other.task_)) {}

  bool attempt() noexcept override {
    if (!part_) begin();
    return error_ != 0 || job_.ended();
  }

  /// Destroys the part's frames, shields or not.
  void undo() noexcept override { part_.reset(); }

  /// Ends the part early. Returns: false if a shield holds that; the part
  /// ends by itself then, or once the shield is over.
  bool give_up(std::string_view reason) noexcept {
    job_.kill(reason, job()->top->where());
    return job_.ended();
  }
  bool given_up() const noexcept { return job_.killed(); }

  const Stack* awaited() const noexcept override { return job_.block(); }

  bool idle() const noexcept override {
    const JobBlock* part = job_.block();
    return part != nullptr && part->step == Step::kWaiting &&
           part->event->idle();
  }

  void describe(Description& out) const override {
    out.text = concat({"its part #", job_.id()});
    out.job = job_.block();
  }

  T result() {
    if (error_ != 0) throw_out_of_memory();
    if (const std::exception_ptr error = job_.error()) {
      std::rethrow_exception(error);
    }
    return job_.block()->result.take();
  }

 private:
  void begin() noexcept {
    const bool begun = has_memory_for([this] {
      part_.emplace(static_cast<JobBlock&>(*job()));
      job_ = internal::spawn_in(*part_, job()->top->where(),
                                internal::TaskHolder<T>(std::move(task_)));
    });
    if (!begun) error_ = ENOMEM;
  }

  Task<T> task_;  // until it begins
  std::optional<PartGroup> part_;
  Job<T> job_;
};

namespace internal {
/// True for an event that is killed rather than undone, since a task is in it.
template <class E>
inline constexpr bool is_part = requires(E& event) { event.given_up(); };

/// True if to undo it would mean to wait, or to cut what a kill may not.
template <class E>
inline constexpr bool is_undone_late =
    is_part<E> && !requires { E::kCanBeUndone; };
}  // namespace internal

}  // namespace violet
