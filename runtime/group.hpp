// group.hpp - TaskGroup: jobs that do not outlive a scope.
//
// The idea: a group is a local variable. What is spawned into it is gone when
// its scope is left, whichever way that happens, so a function that uses jobs
// can be called like any other: it leaves nothing behind.
//
//     TaskGroup group;
//     for (const auto& url : urls) group.spawn(fetch, url);
//     co_await group.join();  // all have ended; throws what one has thrown
//
// The first child that fails takes its siblings with it, and join() throws
// its exception. A handler for failures changes that: then each child is on
// its own. A limit makes newcomers wait for their start.
//
// Refused: throwing a child's failure into the owner's other waits. Then every
// co_await of the owner could throw; as it is, only join() does.
//
// Built on: scheduler. See: N. J. Smith, "Notes on structured concurrency"
// (2018), and Trio's nursery.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <exception>
#include <limits>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "owned.hpp"
#include "scheduler.hpp"

namespace violet {

/// A child that failed, as a handler sees it. Lifetime: the call.
struct FailedJob {
  std::uint32_t job;           ///< its number
  std::exception_ptr error;    ///< what it threw
  std::source_location where;  ///< the await that threw
};

namespace internal {
struct StartState {
  bool ready = false;
  WaitQueue waiters;
};
}  // namespace internal

/// What TaskGroup::start gives to its child, which calls ready() when it is.
class Started {
 public:
  explicit Started(std::shared_ptr<internal::StartState> state) noexcept
      : state_(std::move(state)) {}

  /// Lets start() return. Once is enough; without effect if it is gone.
  void ready() const noexcept {
    state_->ready = true;
    wake_all(state_->waiters);
  }

 private:
  std::shared_ptr<internal::StartState> state_;
};

/// Jobs that end before this does. A local variable of the job that makes it,
/// or in an object of that job; neither copied nor moved. When that job ends,
/// the group is closed.
class TaskGroup final : public Group {
 public:
  static constexpr std::size_t kNoLimit =
      std::numeric_limits<std::size_t>::max();

  /// At most `limit` children run at a time; others start as room comes, in
  /// the order in which they were spawned. See room().
  /// Throws: Misuse outside a job, and for a limit of 0.
  explicit TaskGroup(std::size_t limit = kNoLimit);

  /// Kills what is left, at once and newest first, shields or not. Failures
  /// that nobody has seen go to stderr. Jobs that still wait in join() or
  /// room() get Misuse. From within one of its own jobs it ends the process
  /// with a sentence.
  ~TaskGroup();

  /// From now on a child that fails concerns nobody but `handler`, which is
  /// called with a FailedJob once nobody else can see the error. It must not
  /// throw, nor set another in its place.
  template <class Handler>
  void on_failure(Handler handler) {
    handler_.reset(new Handling<Handler>(std::move(handler)));
    set_hears(Hears::kInTheEnd);
  }

  /// Starts `function(arguments...)` as a job of this group; see
  /// violet::spawn. What its children spawn belongs to this group as well.
  /// From the failure of a child to the next join(), newcomers are killed
  /// before they run.
  /// Throws: Misuse after close(), or once the job that made the group ended.
  template <class F>
  auto spawn(F&& function,
             std::source_location where = std::source_location::current()) {
    return internal::spawn_in(*this, where, std::forward<F>(function));
  }
  template <class F, class A>
  auto spawn(F&& function, A&& a,
             std::source_location where = std::source_location::current()) {
    return internal::spawn_in(*this, where, std::forward<F>(function),
                              std::forward<A>(a));
  }
  template <class F, class A, class B>
  auto spawn(F&& function, A&& a, B&& b,
             std::source_location where = std::source_location::current()) {
    return internal::spawn_in(*this, where, std::forward<F>(function),
                              std::forward<A>(a), std::forward<B>(b));
  }
  template <class F, class A, class B, class C>
  auto spawn(F&& function, A&& a, B&& b, C&& c,
             std::source_location where = std::source_location::current()) {
    return internal::spawn_in(*this, where, std::forward<F>(function),
                              std::forward<A>(a), std::forward<B>(b),
                              std::forward<C>(c));
  }
  template <class F, class A, class B, class C, class D, class... Rest>
  auto spawn(F&& function, A&& a, B&& b, C&& c, D&& d, Rest&&... rest) {
    return internal::spawn_in(*this, {}, std::forward<F>(function),
                              std::forward<A>(a), std::forward<B>(b),
                              std::forward<C>(c), std::forward<D>(d),
                              std::forward<Rest>(rest)...);
  }

  /// Starts `function(started, arguments...)` and waits until it has called
  /// `started.ready()`: a server that listens, a cache that is filled.
  /// Returns: its Job, which goes on.
  /// Throws: what the child throws before it is ready, which then concerns
  /// nobody else; Killed if it was killed; Misuse if it returns first.
  /// Kill: takes the child with it, unless that is ready.
  template <class F, class... Args>
  auto start(F function, Args... arguments)
      -> Task<Job<typename internal::SpawnResult<F, Started, Args...>::Value>>;

  class WaitEvent;
  class JoinEvent;
  class RoomEvent;

  /// Waits until every child has ended, also those that are spawned
  /// meanwhile, and what cleans up after them. Afterwards the group may be
  /// used again.
  /// Suspends: until then.
  /// Throws: the first failure, which killed the other children, in one of
  /// those who join; failures() has the others. Misuse in a job of this very
  /// group.
  JoinEvent join() noexcept;

  /// Kills every child and waits until all have ended, shields and cleanups
  /// included; then the group takes no more jobs. Newcomers are killed from the
  /// call on; if that is cut short, until the next join().
  /// Throws: as join().
  JoinEvent close(
      std::source_location where = std::source_location::current()) noexcept;

  /// Waits until a job that is spawned would run at once.
  /// Suspends: while the limit is reached.
  RoomEvent room() noexcept;

  /// Failures that nobody has seen yet, oldest first. They count as seen now.
  std::vector<std::exception_ptr> failures();

  std::size_t limit() const noexcept { return limit_; }

  /// Children that run, as opposed to those that wait for their start.
  std::size_t running() const noexcept { return running_; }

 private:
  class Handles {
   public:
    virtual ~Handles() = default;
    virtual void call(const FailedJob& failure) = 0;
  };
  template <class Handler>
  class Handling final : public Handles {
   public:
    explicit Handling(Handler&& handler) : handler_(std::move(handler)) {}
    void call(const FailedJob& failure) override { handler_(failure); }

   private:
    Handler handler_;
  };

  void failed(JobBlock& child) noexcept override;
  void left(JobBlock& child) noexcept override;
  void delay(JobBlock& child) noexcept override;
  void cleaned() noexcept override { left_or_cleaned(); }
  void left_or_cleaned() noexcept;
  void start_delayed() noexcept;
  void tell_of_room() noexcept;
  void kill_siblings() noexcept;
  bool settled() const noexcept { return empty() && !cleaning(); }
  bool holds(const JobBlock& job) const noexcept;
  void open_again() noexcept;

  const std::size_t limit_;
  std::size_t running_ = 0;
  // Not started, oldest first. One that is killed there leaves its block
  // behind, ended, with a reference that start_delayed() gives back.
  Queue<JobBlock> delayed_;
  Owned<Handles> handler_;        // null: a failure kills the siblings
  bool failing_ = false;          // a child has failed, none has joined
  bool killed_siblings_ = false;  // for that
  std::source_location failed_at_;
  List<WaitEvent, WaitEvent> joiners_;
  List<WaitEvent, WaitEvent> room_;
};

/// A wait for a group to be so or so. It stands in a list of the group until
/// it completes, also while it is woken: the group may be gone by its step.
class TaskGroup::WaitEvent : public Event, public Link<WaitEvent> {
 public:
  void undo() noexcept override;
  void stand_by() noexcept { complete(false); }

 protected:
  using List = violet::List<WaitEvent, WaitEvent>;

  WaitEvent(TaskGroup& group, List& list) noexcept
      : group_(&group), list_(list) {}
  WaitEvent(WaitEvent&& other) noexcept
      : Event(std::move(other)), group_(other.group_), list_(other.list_) {}
  ~WaitEvent() = default;

  /// Completes if `done`; else stands in the list.
  bool complete(bool done) noexcept;
  void throw_if_gone() const;

  TaskGroup* group_;  // null once it is gone

 private:
  friend class TaskGroup;
  static void wake_all(List& list) noexcept;
  static void dismiss_all(List& list) noexcept;

  List& list_;  // of the group; of meaning while that lives
};

/// See TaskGroup::join and close.
class [[nodiscard]] TaskGroup::JoinEvent final : public WaitEvent {
 public:
  JoinEvent(TaskGroup& group, bool closes, std::source_location where) noexcept
      : WaitEvent(group, group.joiners_), where_(where), closes_(closes) {}
  JoinEvent(JoinEvent&& other) noexcept
      : WaitEvent(std::move(other)),
        where_(other.where_),
        closes_(other.closes_) {}
  bool attempt() noexcept override;
  void describe(Description& out) const override;
  void result();

 private:
  std::source_location where_;
  bool closes_;
  bool asked_ = false;  // the children have been killed
};

/// See TaskGroup::room.
class TaskGroup::RoomEvent final : public WaitEvent {
 public:
  explicit RoomEvent(TaskGroup& group) noexcept
      : WaitEvent(group, group.room_) {}
  RoomEvent(RoomEvent&& other) noexcept : WaitEvent(std::move(other)) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  void result() const { throw_if_gone(); }
};

/// Waits until a child is ready, or has ended. It counts as joined meanwhile.
class [[nodiscard]] StartEvent final : public JobEndEvent {
 public:
  StartEvent(JobBlock* child, internal::StartState& state) noexcept
      : JobEndEvent(child), state_(state) {}
  StartEvent(StartEvent&& other) noexcept
      : JobEndEvent(std::move(other)), state_(other.state_) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  bool sees() const noexcept override { return !state_.ready; }
  // Anyone may say ready(), so this closes no cycle.
  const Stack* awaited() const noexcept override { return nullptr; }
  void describe(Description& out) const override;
  void result() const;

 private:
  internal::StartState& state_;  // of the frame that waits
  Waiter place_;
};

template <class F, class... Args>
auto TaskGroup::start(F function, Args... arguments)
    -> Task<Job<typename internal::SpawnResult<F, Started, Args...>::Value>> {
  using Value = typename internal::SpawnResult<F, Started, Args...>::Value;
  class Unready {
   public:
    Unready(Job<Value> job, const internal::StartState& state) noexcept
        : job_(std::move(job)), state_(state) {}
    Unready(const Unready&) = delete;
    ~Unready() {
      if (!state_.ready) job_.kill("whoever started it is gone");
    }
    const Job<Value>& job() const noexcept { return job_; }

   private:
    Job<Value> job_;
    const internal::StartState& state_;
  };
  const auto state = std::make_shared<internal::StartState>();
  const Unready child(
      internal::spawn_in(*this, internal::line_of_call(), std::move(function),
                         Started(state), std::move(arguments)...),
      *state);
  co_await StartEvent(child.job().block(), *state);
  co_return child.job();
}

inline TaskGroup::JoinEvent TaskGroup::join() noexcept {
  return JoinEvent(*this, false, {});
}

inline TaskGroup::JoinEvent TaskGroup::close(
    std::source_location where) noexcept {
  return JoinEvent(*this, true, where);
}

inline TaskGroup::RoomEvent TaskGroup::room() noexcept {
  return RoomEvent(*this);
}

}  // namespace violet
