// job.hpp - jobs, and the groups that own them.
//
// The idea: a job is a task that runs by itself: a stack of frames with the
// function and arguments that they refer to, a result, and a place in a
// group. Job<T> is only a handle; the group is what keeps a job alive and
// what must be told when it fails. So no job is forgotten and no error is
// lost: one that nobody has joined when the last handle goes is a failure of
// the job's group.
//
// Built on: task, event, timers.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "event.hpp"
#include "list.hpp"
#include "owned.hpp"
#include "task.hpp"
#include "timers.hpp"

namespace violet {

class Cleanup;
class Director;
struct Dying;
class Errand;
class Group;
class JobBlock;
class Loop;

/// How a job ended if it did not return. Made only then.
struct Ending {
  std::exception_ptr error;    // what its body threw; null if it was killed
  std::string reason;          // why it was killed
  std::uint32_t killer = 0;    // the job that killed it; 0: none did
  std::source_location where;  // of the kill, or of the await that threw

  /// "killed by #2 at server.cpp:41: idle timeout"
  std::string text() const;
};

/// An event that waits for the end of a job: it stands in that job's list,
/// and holds a reference so that the job's result stays.
class JobEndEvent : public Event, public Link<JobEndEvent> {
 public:
  void undo() noexcept override;

  /// See Event::stand_by: a failure is to find who is about to join.
  void stand_by() noexcept;

  /// Another event, or a limit, may end this wait.
  void become_part() noexcept { word_ |= kIsPart; }

  /// True if the job's exception will be thrown here.
  virtual bool sees() const noexcept { return false; }

 protected:
  /// `target` may be null, which counts as ended.
  explicit JobEndEvent(JobBlock* target) noexcept;
  JobEndEvent(JobEndEvent&& other) noexcept;
  ~JobEndEvent();

  /// Returns: true if the job has ended; otherwise stands in its list.
  bool attempt_end() noexcept;
  void describe_end(const char* verb, Description& out) const;

  /// The same for one whose end matters to the job: says no if it could
  /// never come, since it waits for that job.
  bool attempt_join() noexcept;

  /// Throws: what the job threw, which counts as seen; Killed if it was
  /// killed; Misuse if there is no job, or it could never end.
  void throw_ending() const;

  const Stack* awaited() const noexcept override;

  // Bits of word_.
  static constexpr std::uint32_t kHasBegun = 1;
  static constexpr std::uint32_t kIsPart = 2;

  JobBlock* target_;  // counted
};

/// See Job::kill.
bool kill_job(JobBlock& job, std::string_view reason,
              std::source_location where) noexcept;

/// Everything the scheduler knows about a job except its result.
///
/// Ownership: counted. The loop holds one reference until the job has ended;
/// each handle, and each event that awaits its end, one more.
class JobBlock : public QueueLink<JobBlock>,
                 public Link<JobBlock>,
                 public Stack {
 public:
  virtual ~JobBlock() = default;

  std::uint32_t id() const noexcept { return id_; }
  bool ended() const noexcept { return step == Step::kEnded; }
  bool killed() const noexcept { return killed_; }
  const Ending* ending() const noexcept { return ending_.get(); }
  Group* group() const noexcept { return group_; }
  std::source_location spawned_at() const noexcept { return spawned_at_; }

  /// True once, after its end, no cleanup of it runs any more.
  bool over() const noexcept { return ended() && shields_ == 0; }

  /// The job that this one is a part of, as a task with a limit is a part of
  /// the job that awaits it; itself if of none.
  const JobBlock& whole() const noexcept;
  JobBlock& whole() noexcept {
    return const_cast<JobBlock&>(std::as_const(*this).whole());
  }

  /// A mark that a group may set on those of its children that it knows.
  void mark() noexcept { marked_ = true; }
  bool marked() const noexcept { return marked_; }

  /// True if `ancestor` is this job or holds it, at whatever depth.
  bool is_below(const JobBlock& ancestor) const noexcept;

  /// Returns: what the job threw, or null. Whoever asks has seen it.
  std::exception_ptr see_error() noexcept;

  void hold() noexcept { ++references_; }
  void drop() noexcept {
    if (--references_ > 0) return;
    if (unseen_) [[unlikely]]
      return report_unseen();
    delete this;
  }

  static void* operator new(std::size_t bytes) {
    return frame_pool.take(bytes);
  }
  static void operator delete(void* memory, std::size_t bytes) noexcept {
    frame_pool.give_back(memory, bytes);
  }

 protected:
  JobBlock() noexcept {}

 private:
  friend class Group;
  friend class JobEndEvent;
  friend class Loop;
  friend class Shielded;
  friend class Cleanup;
  friend class Director;
  friend class Errand;
  friend struct Dying;
  friend void wake(Stack& job) noexcept;

  // What depends on the job's own type.
  virtual Frame* enter() = 0;  // calls the function; returns the root frame
  virtual void settle(Frame& root) = 0;  // takes the result, or throws
  virtual void forget_arguments() noexcept = 0;

  void report_unseen() noexcept;
  void complain_of_failure() const noexcept;
  void wake_joiners() noexcept;
  bool is_joined() const noexcept;
  void lost_joiner() noexcept;
  bool concerns_group() const noexcept;
  void leave_queue() noexcept;

  // Flags share a word with the stack's own, and all that a step touches lies
  // together.
  bool unseen_ : 1 = false;          // it failed, and no handle has seen it
  bool killed_ : 1 = false;          // a kill ended it
  bool kill_held_ : 1 = false;       // ending_ says why; see Loop::kill
  bool ends_when_idle_ : 1 = false;  // a stop ends it at its next idle wait
  bool marked_ : 1 = false;          // for its group's own use
  bool told_ : 1 = false;            // its group has heard, and holds it
  bool busy_below_ : 1 = false;      // marked by a Dying, as below is one
  bool to_be_told_ : 1 = false;      // it stands in the ready queue for that
  std::uint8_t groups_ = 0;          // alive in its frames; 255: many
  std::uint32_t parked_ticks_ = 0;   // when it last began to wait

  // Whom it belongs to. Null once it has ended, unless its exception is
  // still unseen: then the group keeps it in its list of those.
  Group* group_ = nullptr;

  List<JobEndEvent, JobEndEvent> joiners_;
  Owned<Ending> ending_;

  // For the dump. Moments are counted as Loop::ticks() does.
  std::source_location spawned_at_;
  std::uint32_t id_ = 0;
  std::uint32_t born_ticks_ = 0;

  std::uint32_t references_ = 1;

  // While it lives: shields and errands in it and in what lives in its frames,
  // each of which holds its kill; see Loop::held_back. Afterwards: cleanups
  // that still run for it, each of which holds the news of its end.
  std::uint32_t shields_ = 0;
};

namespace internal {

template <class T>
struct Result {
  std::optional<T> value;
  void fetch(Promise<T>& promise) { value.emplace(promise.take()); }
  const T& get() const noexcept { return *value; }
  T take() { return std::move(*value); }
};

template <class T>
struct Result<T&> {
  T* value = nullptr;
  void fetch(Promise<T&>& promise) { value = &promise.take(); }
  T& get() const noexcept { return *value; }
  T& take() noexcept { return *value; }
};

template <>
struct Result<void> {
  void fetch(Promise<void>& promise) { promise.take(); }
  void get() const noexcept {}
  void take() const noexcept {}
};

/// A job with a place for its result.
template <class T>
class TypedJob : public JobBlock {
 public:
  [[no_unique_address]] Result<T> result;

 private:
  void settle(Frame& root) final {
    result.fetch(static_cast<Promise<T>&>(root));
  }
};

/// A job that keeps its function and arguments until its frames are gone.
/// Parameters taken by value are moved from here; references refer here.
template <class T, class F, class... Args>
class SpawnedJob final : public TypedJob<T> {
 public:
  template <class G, class... As>
  explicit SpawnedJob(G&& function, As&&... arguments)
      : kept_(std::forward<G>(function), std::forward<As>(arguments)...) {}
  ~SpawnedJob() override {}

  /// The arguments, as the call has left them; gone once the job has ended.
  const std::tuple<Args...>& arguments() const noexcept {
    return kept_.arguments;
  }
  std::tuple<Args...>& arguments() noexcept { return kept_.arguments; }

 private:
  struct Kept {
    template <class G, class... As>
    explicit Kept(G&& f, As&&... as)
        : function(std::forward<G>(f)), arguments(std::forward<As>(as)...) {}
    [[no_unique_address]] F function;
    [[no_unique_address]] std::tuple<Args...> arguments;
  };

  Frame* enter() override {
    return &std::apply(kept_.function, std::move(kept_.arguments))
                .release()
                .promise();
  }
  void forget_arguments() noexcept override { std::destroy_at(&kept_); }

  // Destroyed by forget_arguments, once, when the job ends.
  union {
    Kept kept_;
  };
};

/// The function of a job that already is a task.
template <class T>
class TaskHolder {
 public:
  explicit TaskHolder(Task<T>&& task) noexcept : task_(std::move(task)) {}
  Task<T> operator()() noexcept { return std::move(task_); }

 private:
  Task<T> task_;
};

template <class T>
inline constexpr bool is_view = false;
template <class C, class Traits>
inline constexpr bool is_view<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;

}  // namespace internal

/// A view whose owner is known to outlive the job that gets it.
template <class View>
class Borrowed {
 public:
  explicit Borrowed(View view) noexcept : view_(view) {}
  operator View() const noexcept { return view_; }

 private:
  View view_;
};

/// Passes a view to spawn, on your word that what it refers to outlives the
/// job: spawn(f, borrow(text)).
template <class View>
Borrowed<View> borrow(View view) noexcept {
  return Borrowed<View>(view);
}

/// A handle to a job. Copies refer to the same job. Dropping the last handle
/// does not end the job, which belongs to its group.
template <class T = void>
class Job {
 public:
  using Value = T;

  Job() noexcept {}
  explicit Job(internal::TypedJob<T>& block) noexcept : block_(&block) {
    block_->hold();
  }
  Job(const Job& other) noexcept : block_(other.block_) {
    if (block_ != nullptr) block_->hold();
  }
  Job(Job&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Job& operator=(Job other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Job() {
    if (block_ != nullptr) block_->drop();
  }

  /// The job's number, counted from 1 in its loop; 0 for an empty handle.
  std::uint32_t id() const noexcept { return block_ ? block_->id() : 0; }

  /// True once no frame and no argument of the job is left.
  bool ended() const noexcept { return block_ == nullptr || block_->ended(); }

  /// True if a kill ended it.
  bool killed() const noexcept { return block_ != nullptr && block_->killed(); }

  /// Returns: what a failed job threw, else null. Asking counts as having
  /// seen it.
  std::exception_ptr error() const noexcept {
    return block_ == nullptr ? nullptr : block_->see_error();
  }

  /// Returns: how it ended if it did not return; else null, and also for a
  /// kill that there was no memory to describe.
  const Ending* ending() const noexcept {
    return block_ != nullptr && block_->ended() ? block_->ending() : nullptr;
  }

  /// Destroys the job's frames now, from the top down. What it waited for is
  /// left untouched: no byte is consumed, no connection lost.
  /// Returns: true if the job is gone; false if the kill is held, because
  /// the job, or one that lives in its frames, is on the processor or being
  /// destroyed, or shielded. It is carried out when that one next waits or
  /// ends.
  /// Cost: some 50 ns for each frame.
  bool kill(std::string_view reason = {},
            std::source_location where =
                std::source_location::current()) const noexcept {
    return block_ == nullptr || kill_job(*block_, reason, where);
  }

  /// For events: the job itself.
  internal::TypedJob<T>* block() const noexcept { return block_; }

 private:
  internal::TypedJob<T>* block_ = nullptr;
};

/// When a group hears that a child has failed.
enum class Hears : std::uint8_t {
  kInTheEnd,  ///< when no handle to the child is left: somebody may still ask
  kAtOnce,    ///< as the child ends, unless somebody joins it just then
};

/// What becomes of a job that is spawned into a group.
enum class Door : std::uint8_t {
  kOpen,     ///< it runs in its turn
  kLimited,  ///< the group says when; see Group::delay
  kEnding,   ///< it is killed before it runs, as all the others were
  kClosed,   ///< spawn throws Misuse
};

/// A set of jobs, none of which outlives it. It lives in a frame of the job
/// that made it, and dies with that frame; a loop has one of its own.
class Group : public Link<Group> {
 public:
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  /// The job in whose frames this group lives; null for a loop's own, and
  /// once that job has ended.
  JobBlock* owner() const noexcept { return owner_; }
  Loop& loop() const noexcept { return loop_; }

  /// True for a group of which nobody is to know: its one job counts as a
  /// part of the owner, and what that spawns belongs to the owner's group.
  bool hidden() const noexcept { return hidden_; }
  Door door() const noexcept { return door_; }

  /// Jobs that have not ended.
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  /// Kills all children, newest first. `force`: even those with a shield.
  /// Returns: true if none is left; false if a kill is held.
  bool kill_all(std::string_view reason,
                std::source_location where = std::source_location::current(),
                bool force = false) noexcept;

  /// Ends the children that await a peer's next request: those who do so now
  /// at once, the others and whoever is still added when they come to it.
  void end_idle() noexcept;

  const List<JobBlock, JobBlock>& children() const noexcept {
    return children_;
  }

 protected:
  Group(Loop& loop, JobBlock* owner, Hears hears = Hears::kInTheEnd,
        bool hidden = false) noexcept;

  /// As kill_all(), for left() and the like: the owner is not killed before
  /// the caller has returned.
  bool kill_each(std::string_view reason, std::source_location where,
                 bool force = false) noexcept;
  bool kill_round(std::string_view reason, std::source_location where,
                  bool force) noexcept;

  /// See dissolve().
  ~Group() { dissolve(); }

  /// Kills what is left, shields or not. What derives from a group calls this
  /// while it is still whole. Ends the process with a sentence if one of the
  /// group's own jobs is on the processor.
  void dissolve() noexcept;

  void set_door(Door door) noexcept { door_ = door; }
  void set_hears(Hears hears) noexcept { hears_ = hears; }

  /// The oldest child that has failed unseen; null if none has.
  JobBlock* first_unseen() const noexcept { return unseen_.first(); }

  /// True while cleanups of killed children run.
  bool cleaning() const noexcept { return !cleanups_.empty(); }

 private:
  friend class JobBlock;
  friend class Loop;
  friend class Cleanup;

  // While the group is destroyed, what derives from it is gone already.
  void hear(JobBlock& child) noexcept;
  void child_left(JobBlock& child) noexcept {
    if (!being_destroyed_) left(child);
  }
  void orphan() noexcept;
  void forget_unseen() noexcept;

  /// A child threw and nobody has joined it. Called as it ends, while its
  /// frames still live, or later, when its last handle goes.
  virtual void failed(JobBlock& child) noexcept = 0;

  /// A child has ended, in whatever way; its frames are gone.
  virtual void left(JobBlock& child) noexcept = 0;

  /// Takes a fresh child that comes while the door is kLimited: it starts
  /// when Loop::start is called for it.
  virtual void delay(JobBlock&) noexcept {}

  /// The last cleanup of a killed child is over.
  virtual void cleaned() noexcept {}

  void add(JobBlock& child) noexcept {
    child.group_ = this;
    child.ends_when_idle_ = ends_idle_;
    children_.push_back(child);
    ++size_;
  }

  /// Counts out a child that has ended; one that failed unseen stays known.
  void remove(JobBlock& child) noexcept {
    children_.remove(child);
    --size_;
    if (child.unseen_) [[unlikely]] {
      unseen_.push_back(child);
    } else {
      child.group_ = nullptr;
    }
  }

  Loop& loop_;       // outlives its groups
  JobBlock* owner_;  // outlives this, if it lies in its frames

  List<JobBlock, JobBlock> children_;  // not ended, oldest first
  // Failed, oldest first; handles may still see it. One that was heard of at
  // once is held by a reference of the group.
  List<JobBlock, JobBlock> unseen_;
  List<Cleanup, Cleanup> cleanups_;  // of killed children
  bool being_destroyed_ = false;
  bool ends_idle_;
  const bool hidden_;
  Hears hears_;
  Door door_ = Door::kOpen;
  std::size_t size_ = 0;  // of children_
};

inline const JobBlock& JobBlock::whole() const noexcept {
  const JobBlock* job = this;
  while (job->group_->hidden()) job = job->group_->owner();
  return *job;
}

/// Ties a job that cleans up after a kill to those that were killed: they are
/// over only when it has ended. See finally() in shield.hpp.
class Cleanup : public Link<Cleanup> {
 public:
  /// For `job`, should it be killed. Throws: std::bad_alloc.
  explicit Cleanup(JobBlock& job);
  Cleanup(Cleanup&& other) noexcept;
  ~Cleanup();

  /// The frames of the job are being destroyed: `runs` cleans up. Its kill is
  /// held from now on.
  void begin(JobBlock& runs) noexcept;

 private:
  JobBlock& outermost_dying() const noexcept;

  JobBlock* job_;                    // that may be killed
  JobBlock* runs_ = nullptr;         // this lies in its arguments
  Group* group_ = nullptr;           // of meaning while this is in its list
  std::vector<JobBlock*> finishes_;  // counted; has room for all from the start
};

}  // namespace violet
