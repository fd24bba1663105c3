// combine.hpp - several tasks at once: all, any, map_limited, Completed.
//
// The idea: each is a short function around a group. The tasks become its
// jobs, and whatever happens, none of them is left when the function returns,
// throws or is killed.
//
//     auto [page, picture] = co_await all(fetch(a), fetch(b));
//     auto first = co_await any(ask(mirror), ask(origin));
//     auto sizes = co_await map_limited(8, names, size_of);
//
// any() of events needs no jobs: they are tried in order, and only the first
// that completes is carried out.
//
// Built on: group, part, events.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "events.hpp"
#include "group.hpp"
#include "part.hpp"

namespace violet {

namespace internal {

/// What stands for a value of T where something must: nothing stands for void.
template <class T>
using Kept = std::conditional_t<std::is_void_v<T>, std::monostate,
                                std::remove_cvref_t<T>>;

/// The value of a job that has ended without an error.
/// Throws: Killed if a kill ended it.
template <class T>
Kept<T> taken(const Job<T>& job) {
  if (job.killed()) throw_error(Killed("one of several tasks was killed"));
  if constexpr (std::is_void_v<T>) {
    return {};
  } else {
    return job.block()->result.take();
  }
}

/// The values of several.
template <class T>
std::vector<Kept<T>> all_taken(const std::vector<Job<T>>& jobs) {
  std::vector<Kept<T>> values;
  values.reserve(jobs.size());
  for (const Job<T>& job : jobs) values.push_back(taken(job));
  return values;
}

/// The same, or the exception, of one that has ended.
template <class T>
Kept<T> outcome(const Job<T>& job) {
  if (const std::exception_ptr error = job.error()) {
    std::rethrow_exception(error);
  }
  return taken(job);
}

/// A variant that holds `value_of(element)` for one element of a tuple.
template <class Variant, std::size_t I = 0, class Tuple, class ValueOf>
Variant pick(std::size_t index, Tuple& tuple, ValueOf value_of) {
  if (I == index) {
    auto& element = std::get<I>(tuple);
    if constexpr (std::is_void_v<decltype(value_of(element))>) {
      value_of(element);
      return Variant(std::in_place_index<I>);
    } else {
      return Variant(std::in_place_index<I>, value_of(element));
    }
  }
  if constexpr (I + 1 < std::tuple_size_v<std::remove_const_t<Tuple>>) {
    return pick<Variant, I + 1>(index, tuple, value_of);
  } else {
    fatal("a variant is asked for an alternative that it does not have");
  }
}

template <class T>
Job<T> spawn_task(Group& group, std::source_location where, Task<T>&& task) {
  return spawn_in(group, where, TaskHolder<T>(std::move(task)));
}

}  // namespace internal

/// The group behind any() and Completed: notes in which order its tasks end.
class Finishers final : public Group {
 public:
  enum class Rest : std::uint8_t { kGoesOn, kIsKilled };
  class NextEvent;

  /// For `count` tasks. `rest`: what becomes of the others after the first.
  /// Throws: Misuse outside a job; std::bad_alloc.
  Finishers(std::size_t count, Rest rest);
  ~Finishers();

  template <class T>
  Job<T> add(Task<T>&& task, std::source_location where = {}) {
    Job<T> job = internal::spawn_task(*this, where, std::move(task));
    job.block()->mark();  // unlike what it may spawn itself
    if (first_id_ == 0) first_id_ = job.id();
    return job;
  }

  /// Waits for the next task to end.
  /// Returns: its index; empty after the last.
  /// Throws: the failure of a job that a task has spawned and nobody joined.
  NextEvent next() noexcept;

  /// Tasks that have ended and not been told, or not ended.
  std::size_t left_over() const noexcept { return count_ - told_; }

 private:
  void failed(JobBlock& child) noexcept override;
  void left(JobBlock& child) noexcept override;
  void cleaned() noexcept override { wake_all(waiters_); }
  bool decided() const noexcept;
  static void complain_of(const std::exception_ptr& error) noexcept;

  const std::size_t count_;
  const Rest rest_;
  std::uint32_t first_id_ = 0;      // the others follow it
  std::vector<std::size_t> ended_;  // by index, in order; has room for all
  std::size_t told_ = 0;            // of ended_
  std::exception_ptr stray_;        // see next()
  WaitQueue waiters_;
};

class [[nodiscard]] Finishers::NextEvent final : public Event {
 public:
  explicit NextEvent(Finishers& all) noexcept : all_(all) {}
  NextEvent(NextEvent&& other) noexcept
      : Event(std::move(other)), all_(other.all_) {}
  bool attempt() noexcept override;
  void undo() noexcept override { leave(all_.waiters_, place_); }
  void describe(Description& out) const override;
  std::optional<std::size_t> result();

 private:
  Finishers& all_;
  Waiter place_;
};

inline Finishers::NextEvent Finishers::next() noexcept {
  return NextEvent(*this);
}

// ------------------------------------------------------------------------ all

/// Runs tasks at the same time.
/// Returns: a tuple of what they return, in the order in which they stand;
/// std::monostate for one that returns nothing.
/// Throws: the first failure; the other tasks are killed then. Further
/// failures go to stderr, one line each. Killed if somebody killed one of them.
template <class... T>
Task<std::tuple<internal::Kept<T>...>> all(Task<T>... tasks) {
  [[maybe_unused]] const std::source_location where = internal::line_of_call();
  TaskGroup group;
  const std::tuple<Job<T>...> jobs{
      internal::spawn_task(group, where, std::move(tasks))...};
  co_await group.join();
  co_return std::apply(
      [](const auto&... job) {
        return std::tuple<internal::Kept<T>...>(internal::taken(job)...);
      },
      jobs);
}

/// The same for any number of them. Returns: a vector, in the same order.
template <class T>
Task<std::vector<internal::Kept<T>>> all(std::vector<Task<T>> tasks) {
  const std::source_location where = internal::line_of_call();
  TaskGroup group;
  std::vector<Job<T>> jobs;
  jobs.reserve(tasks.size());
  for (Task<T>& task : tasks) {
    jobs.push_back(internal::spawn_task(group, where, std::move(task)));
  }
  tasks.clear();
  co_await group.join();
  co_return internal::all_taken(jobs);
}

// ------------------------------------------------------------------------ any

/// Which of several it was, and its value.
template <class T>
struct Indexed {
  std::size_t index;
  internal::Kept<T> value;
};

/// Runs tasks at the same time, until the first of them ends. The others are
/// killed before any other job runs; their shields and cleanups are waited
/// for.
/// Returns: a variant of what it returns; index() tells which it was.
/// Throws: what it throws.
template <class... T>
  requires(sizeof...(T) > 0)
Task<std::variant<internal::Kept<T>...>> any(Task<T>... tasks) {
  using Result = std::variant<internal::Kept<T>...>;
  Finishers race(sizeof...(T), Finishers::Rest::kIsKilled);
  const std::source_location where = internal::line_of_call();
  const std::tuple<Job<T>...> jobs{race.add(std::move(tasks), where)...};
  const auto first = co_await race.next();
  co_return internal::pick<Result>(
      *first, jobs, [](const auto& job) { return internal::outcome(job); });
}

/// The same for any number of them.
/// Throws: also Misuse if there are none, since then no one could be first.
template <class T>
Task<Indexed<T>> any(std::vector<Task<T>> tasks) {
  if (tasks.empty())
    throw_error(Misuse("violet: any() of no tasks never ends"));
  Finishers race(tasks.size(), Finishers::Rest::kIsKilled);
  std::vector<Job<T>> jobs;
  jobs.reserve(tasks.size());
  const std::source_location where = internal::line_of_call();
  for (Task<T>& task : tasks) {
    jobs.push_back(race.add(std::move(task), where));
  }
  const auto first = co_await race.next();
  co_return Indexed<T>{*first, internal::outcome(jobs[*first])};
}

/// Waits for the first of several events to complete; the others are left as
/// if they had never been awaited.
template <class... E>
class [[nodiscard]] AnyEvent final : public Event {
  static_assert((!internal::is_undone_late<E> && ...),
                "violet: any() of events undoes all but the first, and a task "
                "with a limit, or an offloaded call, cannot be undone at once: "
                "make all of them tasks");

 public:
  using Result =
      std::variant<internal::Kept<decltype(std::declval<E&>().result())>...>;

  explicit AnyEvent(E&&... events) noexcept : events_(std::move(events)...) {}
  AnyEvent(AnyEvent&& other) noexcept
      : Event(std::move(other)), events_(std::move(other.events_)) {}

  // One may be served by another that is asked after it, while this job runs
  // and cannot be woken: so all are asked twice.
  bool attempt() noexcept override {
    if (decided_) return true;
    return try_all() || (may_try() && try_all());
  }

  // An item that was taken from a waiting send is sent: nothing else may be
  // carried out any more.
  bool decide(const Event& part) noexcept override {
    std::size_t index = 0;
    decided_ = std::apply(
        [&](E&... event) {
          return ((event.decide(part) || (++index, false)) || ...);
        },
        events_);
    if (decided_) undo_but(done_ = index);
    return decided_;
  }

  void undo() noexcept override { undo_but(sizeof...(E)); }

  /// As a part of another: undoes all that offers nothing; see result().
  void undo_but_offers() noexcept { undo_but_offers(sizeof...(E)); }

  void stand_by() noexcept { stand_by_from(0); }

  void describe(Description& out) const override {
    std::string text = "any of";
    const char* separator = " ";
    std::apply(
        [&](const E&... event) {
          ((event.describe(out), text += separator, text += out.text,
            separator = ", "),
           ...);
        },
        events_);
    out.text = text;
    out.job = nullptr;
  }

  // The others are undone before the first is carried out, or it could carry
  // out one of them: a receive lets the next send in. Only what it may take
  // from one of them is undone afterwards.
  Result result() {
    const Undone others(*this);
    undo_but_offers(done_);
    return internal::pick<Result>(done_, events_,
                                  [](auto& event) { return event.result(); });
  }

 private:
  struct Undone {
    explicit Undone(AnyEvent& all) noexcept : all_(all) {}
    Undone(const Undone&) = delete;
    ~Undone() { all_.undo_but(all_.done_); }
    AnyEvent& all_;
  };

  // One that lets others go first has put the job into the ready queue: the
  // rest waits for that step.
  bool may_try() noexcept { return job()->step != Step::kReady; }

  bool try_all() noexcept {
    done_ = 0;
    const bool stopped = std::apply(
        [this](E&... event) { return (try_one(event) || ...); }, events_);
    if (!stopped || !may_try()) stand_by_from(done_ + 1);
    return stopped && may_try();
  }

  // Those that were not reached, since one has let others go first.
  void stand_by_from(std::size_t first) noexcept {
    if (std::exchange(all_are_known_, true)) return;
    std::size_t index = 0;
    std::apply(
        [&](E&... event) {
          ((index++ < first ? void() : stand_by_part(event)), ...);
        },
        events_);
  }

  template <class One>
  bool try_one(One& event) noexcept {
    if (attempt_part(event) || !may_try()) return true;
    ++done_;
    return false;
  }

  void undo_but(std::size_t kept) noexcept {
    std::size_t index = 0;
    std::apply(
        [&](E&... event) {
          ((index++ == kept ? void() : undo_part(event)), ...);
        },
        events_);
  }

  void undo_but_offers(std::size_t kept) noexcept {
    std::size_t index = 0;
    std::apply(
        [&](E&... event) {
          ((index++ == kept ? void() : undo_unless_offering(event)), ...);
        },
        events_);
  }

  template <class One>
  static void undo_unless_offering(One& event) noexcept {
    if constexpr (requires { event.undo_but_offers(); }) {
      event.undo_but_offers();
    } else {
      if (!internal::offers(event)) undo_part(event);
    }
  }

  std::tuple<E...> events_;
  std::size_t done_ = 0;        // which one has completed
  bool decided_ = false;        // somebody else has completed it
  bool all_are_known_ = false;  // where they wait: tried, or standing by
};

/// Waits until one of several events completes. They are tried in order, and
/// only the first that can complete is carried out: of two listeners, the one
/// that is not taken keeps its client. Beside a send to the same channel a
/// receive may come out of its turn; without a buffer the two may serve each
/// other, and the first is told.
/// Returns: a variant of what they yield; index() tells which it was.
/// Throws: what that one throws.
/// Kill: as of the events.
/// Cost: no allocation.
template <class... E>
  requires(sizeof...(E) > 0 && (std::derived_from<E, Event> && ...))
AnyEvent<E...> any(E&&... events) noexcept {
  return AnyEvent<E...>(std::move(events)...);
}

// A usual mistake, and its sentence.
template <class... Mixed>
  requires((internal::is_task<Mixed> || ...) &&
           (std::derived_from<Mixed, Event> || ...))
YieldEvent any(Mixed&&...) noexcept {
  static_assert(internal::is_never<Mixed...>,
                "violet: any() takes tasks or events, not both: write a task "
                "that awaits the event, and give it that");
  return {};
}

// ---------------------------------------------------------------- map_limited

namespace internal {

/// True if what such an iterator refers to stays as it is when that goes on.
/// Those of <regex> keep the match in themselves, and only newer libraries have
/// them say so (LWG 3698).
template <class I>
inline constexpr bool refers_elsewhere =
    std::forward_iterator<I> &&
    std::is_lvalue_reference_v<std::iter_reference_t<I>> &&
    !requires { typename I::regex_type; };

/// An item of a range as a job keeps it: where it is, or, if the range makes
/// its items as it goes (`kStays` is false), itself. What a generator or a
/// stream refers to is another item after its next step.
template <class Item, bool kStays>
class KeptItem {
  using Value = std::remove_cvref_t<Item>;
  using Kept =
      std::conditional_t<kStays, std::remove_reference_t<Item>*, Value>;

 public:
  template <class T>
  explicit KeptItem(T&& item) : kept_(keep(item)) {}
  Item&& get() noexcept {
    if constexpr (kStays) {
      return *kept_;
    } else {
      return static_cast<Item&&>(kept_);
    }
  }

 private:
  template <class T>
  static Kept keep(T& item) {
    constexpr bool kCopies =
        std::is_lvalue_reference_v<Item> && std::copy_constructible<Value>;
    if constexpr (kStays) {
      return &item;
    } else if constexpr (kCopies) {
      return item;
    } else {
      return std::move(item);
    }
  }

  Kept kept_;
};

/// Calls a function that lives elsewhere, with an item that lives in the job.
template <class F, class Item>
class CallOne {
 public:
  explicit CallOne(F& function) noexcept : function_(&function) {}
  auto operator()(Item&& item) const { return (*function_)(item.get()); }

 private:
  F* function_;
};

}  // namespace internal

/// Runs `function(item)`, which returns a task, for each item of a range, at
/// most `limit` at a time; a job that one of them spawns counts, too.
/// Returns: a vector of the results, in the order of the items.
/// Throws: the first failure; the others are killed, the rest never begin.
/// Lifetime: the items and the function are kept until the end.
template <class Range, class F>
auto map_limited(std::size_t limit, Range range, F function)
    -> Task<std::vector<internal::Kept<typename std::invoke_result_t<
        F&, decltype(*std::begin(range))>::Value>>> {
  using Item = decltype(*std::begin(range));
  using Value = typename std::invoke_result_t<F&, Item>::Value;
  const std::source_location where = internal::line_of_call();
  using KeptItem = internal::KeptItem<
      Item, internal::refers_elsewhere<decltype(std::begin(range))>>;
  const internal::CallOne<F, KeptItem> call(function);
  TaskGroup group(limit);
  std::vector<Job<Value>> jobs;
  for (auto&& item : range) {
    co_await group.room();
    if (group.door() == Door::kEnding) break;  // one has failed
    jobs.push_back(internal::spawn_in(group, where, call, KeptItem(item)));
  }
  co_await group.join();
  co_return internal::all_taken(jobs);
}

// ------------------------------------------------------------------ Completed

/// Tasks that run at the same time, and their results in the order in which
/// they end:
///
///     Completed<int> results(std::move(tasks));
///     while (auto result = co_await results.next()) use(result->value);
///
/// A local variable of a task. What is left when its scope ends is killed.
template <class T>
class Completed {
 public:
  /// Throws: Misuse outside a job; std::bad_alloc.
  explicit Completed(
      std::vector<Task<T>> tasks,
      std::source_location where = std::source_location::current())
      : group_(tasks.size(), Finishers::Rest::kGoesOn) {
    jobs_.reserve(tasks.size());
    for (Task<T>& task : tasks) {
      jobs_.push_back(group_.add(std::move(task), where));
    }
  }

  /// Waits for the next one to end.
  /// Returns: its index among the tasks, and its value; empty after the last.
  /// Throws: what it has thrown; the others go on.
  Task<std::optional<Indexed<T>>> next() {
    const auto index = co_await group_.next();
    if (!index) co_return std::nullopt;
    co_return Indexed<T>{*index, internal::outcome(jobs_[*index])};
  }

 private:
  std::vector<Job<T>> jobs_;
  Finishers group_;  // dies first
};

}  // namespace violet
