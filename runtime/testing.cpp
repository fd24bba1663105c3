// testing.cpp - one run in a world of its own, and how many of them differ.
// SPDX-License-Identifier: MIT
#include "testing.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "random.hpp"
#include "slots.hpp"
#include "sys.hpp"

namespace violet::testing {

// -------------------------------------------------------------------- traces

namespace {

bool same_place(const std::source_location& a,
                const std::source_location& b) noexcept {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::source_location place_of(Line line) noexcept {
  return line ? location_of(line) : std::source_location();
}

/// Where a job stands. One that has not run, or whose function threw, has no
/// frame.
TraceStep position_of(const JobBlock& job) noexcept {
  TraceStep position;
  position.job = job.id();
  position.part_of = job.whole().id();
  position.how = job.step;
  if (job.top != nullptr) position.line = job.top->line;
  position.spawned_at = job.spawned_at();
  return position;
}

const char* verb_of(Step how) noexcept {
  switch (how) {
    case Step::kWaiting: return " waits at ";
    case Step::kReady: return " goes behind the others at ";
    default: return " ends after ";
  }
}

/// "#2 consumer waits at main.cpp:12", with `verb` where it is known.
std::string tell(const TraceStep& step, std::string_view verb) {
  std::string text = concat({"#", step.job});
  if (step.line) {
    const std::source_location place = location_of(step.line);
    return text + concat({" ", function_of(place), verb, text_of(place)});
  }
  text += verb.substr(0, verb.rfind(' ', verb.size() - 2));
  if (step.spawned_at.line() == 0) return text;
  return text + concat({", spawned at ", text_of(step.spawned_at)});
}

}  // namespace

bool TraceStep::operator==(const TraceStep& other) const noexcept {
  return job == other.job && part_of == other.part_of && how == other.how &&
         ahead_of == other.ahead_of &&
         same_place(place_of(line), place_of(other.line)) &&
         same_place(spawned_at, other.spawned_at);
}

std::string TraceStep::text() const {
  std::string text = tell(*this, verb_of(how));
  if (ahead_of > 0) text += concat({" (ahead of ", ahead_of, ")"});
  return text;
}

std::string Trace::text() const {
  std::string text;
  std::size_t number = 0;
  for (const TraceStep& step : steps) {
    const std::string counted = concat({++number});
    text.append(counted.size() < 4 ? 4 - counted.size() : 0, ' ');
    text += concat({counted, ". ", step.text(), "\n"});
  }
  return text;
}

// ----------------------------------------------------------- what can happen

namespace internal {

/// Why a run was given up, if it was.
struct Verdict {
  std::string text;

  void give_up(Part why) noexcept {
    if (!text.empty()) return;
    Loop& loop = Loop::current();
    text = concat({"hang: "});
    why.append_to(text);
    text += concat({"\n", loop.dump()});
    loop.cancel("this would hang", true);
  }
};

}  // namespace internal

namespace {

using internal::Verdict;
using violet::internal::Random;

using Candidates = std::span<JobBlock* const>;

constexpr std::uint32_t kRootId = 1;

/// From which step on somebody is to be killed, and who.
struct KillPoint {
  enum class When : std::uint8_t { kNever, kBefore, kAfter, kAfterAnyone };
  When when = When::kNever;
  std::size_t step = 0;   // counted from 1
  std::uint64_t lot = 0;  // draws one of all, for kAfterAnyone
  Victims victims = Victims::kAll;

  bool may_hit(std::uint32_t job) const noexcept {
    return victims == Victims::kAll ||
           (victims == Victims::kRoot) == (job == kRootId);
  }
};

/// Takes note of each step; gives up after too many; kills if it has to.
class Recorder : public Director {
 public:
  explicit Recorder(std::size_t limit) noexcept : limit_(limit) {}

  std::size_t choose(Candidates ready) noexcept final {
    const std::size_t index = pick(ready);
    ahead_of_ = static_cast<std::uint32_t>(index);
    if (is_time(KillPoint::When::kBefore, trace.steps.size() + 1)) {
      strike(*ready[index]);
    }
    return index;
  }

  void stepped(JobBlock& job) noexcept final {
    trace.steps.push_back(position_of(job));
    trace.steps.back().ahead_of = ahead_of_;
    const std::size_t count = trace.steps.size();
    const bool parked = job.step >= Step::kReady;
    if (parked && is_time(KillPoint::When::kAfter, count)) strike(job);
    if (is_time(KillPoint::When::kAfterAnyone, count)) strike_anyone();
    if (count == limit_) over_limit();
  }

  Trace trace;
  KillPoint kill;
  std::optional<TraceStep> victim;
  Verdict* verdict = nullptr;  // of the run that is under way

 protected:
  /// There have been as many steps as are allowed.
  virtual void over_limit() noexcept {
    verdict->give_up(concat({"no end after ", limit_, " steps"}));
  }

 private:
  virtual std::size_t pick(Candidates ready) noexcept = 0;

  bool is_time(KillPoint::When when, std::size_t step) const noexcept {
    return kill.when == when && kill.step <= step && !victim;
  }

  // A part cannot be killed alone: nobody has a handle to it.
  void strike(JobBlock& chosen) noexcept {
    JobBlock& job = chosen.whole();
    if (!kill.may_hit(job.id())) return;
    victim = position_of(job);
    kill.step = trace.steps.size();
    kill_job(job, "kill_everywhere", {});
  }

  /// Whoever is unstarted, ready or waiting; the draw decides.
  void strike_anyone() noexcept {
    std::vector<JobBlock*> all;
    Loop::current().each_job([&](JobBlock& job) {
      if (job.step >= Step::kUnstarted && kill.may_hit(job.id())) {
        all.push_back(&job);
      }
    });
    if (!all.empty()) strike(*all[kill.lot % all.size()]);
  }

  std::size_t limit_;
  std::uint32_t ahead_of_ = 0;
};

/// Jobs have priorities, which are dealt anew every so often: at each step,
/// which draws evenly, or only after some, so that a job may be kept waiting
/// for long while another one runs on.
class Shuffled final : public Recorder {
 public:
  Shuffled(std::uint64_t seed, std::size_t limit) noexcept
      : Recorder(limit), fifo_(seed == 0), random_(seed) {
    deal_ = std::uint64_t{1} << random_.below(5);
  }

 private:
  std::size_t pick(Candidates ready) noexcept override {
    if (fifo_) return 0;
    if (random_.below(deal_) == 0) salt_ = random_.next();
    const auto lower = [&](const JobBlock* a, const JobBlock* b) {
      return priority(*a) < priority(*b);
    };
    const auto first = std::max_element(ready.begin(), ready.end(), lower);
    return static_cast<std::size_t>(first - ready.begin());
  }

  std::uint64_t priority(const JobBlock& job) const noexcept {
    return Random::mixed(salt_ + job.id() * 0x9e3779b97f4a7c15);
  }

  bool fifo_;
  Random random_;
  std::uint64_t deal_ = 1;
  std::uint64_t salt_ = 0;
};

/// One point at which several jobs were ready.
struct Choice {
  std::size_t taken;
  std::size_t count;
};

/// Takes a path of choices, and goes on first in, first out where it ends.
class Guided final : public Recorder {
 public:
  Guided(std::vector<Choice>& path, std::size_t limit, bool cut) noexcept
      : Recorder(limit), path_(path), cut_(cut) {}

  bool was_cut = false;   // it took longer than is of interest
  bool exceeded = false;  // it took more steps than are allowed

  /// True if the program is not what it was.
  bool differed() const noexcept {
    return differed_ || (next_ < path_.size() && !was_cut && !exceeded);
  }

 private:
  std::size_t pick(Candidates ready) noexcept override {
    if (ready.size() == 1 || was_cut) return 0;
    if (next_ == path_.size()) path_.push_back({0, ready.size()});
    if (path_[next_].count != ready.size()) {
      differed_ = true;
      return 0;
    }
    return path_[next_++].taken;
  }

  void over_limit() noexcept override {
    exceeded = !cut_;
    if (exceeded) return Recorder::over_limit();
    was_cut = true;
    Loop::current().cancel("this order is longer than another one that fails",
                           true);
  }

  std::vector<Choice>& path_;
  std::size_t next_ = 0;
  bool differed_ = false;
  bool cut_;
};

// --------------------------------------------------------------- one run

/// What must be as before once a run is over.
struct Footprint {
  explicit Footprint(std::size_t known = 0) noexcept {
    frame_pool.release();  // or free blocks would have to be counted each time
    frames = frame_pool.live() - known;
    slots = Slots::here().in_use();
  }
  std::size_t frames;
  std::size_t slots;
};

void add_count(std::string& list, std::size_t count, const char* what) {
  if (count == 0) return;
  list += concat({list.empty() ? "" : ", ", what, ": ", count});
}

void add_change(std::string& list, std::size_t before, std::size_t after,
                const char* what) {
  add_count(list, after > before ? after - before : 0, what);
}

/// What is registered with a loop in which no job is left.
std::string left_in(Loop& loop) {
  std::string left;
  add_count(left, loop.timers().size(), "timers");
  add_count(left, static_cast<std::size_t>(loop.waiting()),
            "waits for descriptors");
  add_count(left, loop.stop_waiters().empty() ? 0 : 1, "waits for stop()");
  add_count(left, loop.onlookers().empty() ? 0 : 1,
            "waits for all to be blocked");
  return left;
}

/// How a run has ended.
struct RunEnd {
  std::exception_ptr error;  // what it threw, or what is wrong
  std::string killed;        // how its root was killed

  bool by_kill() const noexcept {
    return error ? exception_as<Killed>(error) != nullptr : !killed.empty();
  }
  /// What is wrong; null if nothing is.
  std::exception_ptr failure() const {
    return killed.empty() ? error : unthrown(Killed(killed));
  }
};

}  // namespace

namespace {

constinit thread_local SimNetwork* network_here = nullptr;

}  // namespace

SimNetwork& network() {
  if (network_here != nullptr) return *network_here;
  throw_error(
      Misuse("violet: testing::network() outside a run, or without "
             "options.network = true"));
}

/// Virtual time that gives up where nothing could happen any more.
class internal::Time final : public Poller {
 public:
  explicit Time(const Options& options)
      : patience_(options.patience),
        jumps_left_(options.steps),
        inner_(options.network ? network_.emplace().poller()
                               : static_cast<Poller&>(sim_.emplace())) {}

  TimePoint now() noexcept override { return inner_.now(); }
  int add(int fd, Token token, std::uint8_t bits) noexcept override {
    return inner_.add(fd, token, bits);
  }
  int change(int fd, Token token, std::uint8_t bits) noexcept override {
    return inner_.change(fd, token, bits);
  }
  void remove(int fd) noexcept override { inner_.remove(fd); }
  void wake() noexcept override { inner_.wake(); }
  void closing(int fd) noexcept override { inner_.closing(fd); }
  int fd() noexcept override { return inner_.fd(); }
  bool hopeless() const noexcept override { return inner_.hopeless(); }

  std::span<const Ready> wait(TimePoint deadline,
                              bool wake_expected) noexcept override {
    if (deadline == kNever && !arrives()) return last_look(wake_expected);
    const TimePoint before = now();
    const auto news = ask(deadline, wake_expected);
    if (now() != before && jumps_left_-- == 0) {
      verdict->give_up("time jumps on and on, and there is no end");
    }
    return news;
  }

  void advance(Duration duration) noexcept {
    network_ ? network_->advance(duration) : sim_->advance(duration);
  }
  Duration elapsed() noexcept { return now() - began_; }
  SimNetwork* network() noexcept { return network_ ? &*network_ : nullptr; }

  Verdict* verdict = nullptr;  // of the run that is under way

 private:
  bool arrives() noexcept {
    return network_ && network_->next_arrival() != kNever;
  }

  std::span<const Ready> ask(TimePoint deadline, bool wake_expected) noexcept {
    const auto news = inner_.wait(deadline, wake_expected);
    woken_ = inner_.woken() || woken_;
    return news;
  }

  /// There is no deadline, so what does not come from the system or another
  /// thread soon never comes.
  std::span<const Ready> last_look(bool wake_expected) noexcept {
    if (!wake_expected && hopeless()) return ask(TimePoint::min(), false);
    const auto news =
        network_ ? network_->look(patience_) : sim_->look(patience_);
    woken_ = inner_.woken() || woken_;
    if (news.empty() && !woken_) {
      verdict->give_up(
          wake_expected ? "there is a Remote or an offload, and nothing comes "
                          "of it, or a signal is awaited, and none comes"
                        : "no news comes for the descriptors that are "
                          "waited for");
    }
    return news;
  }

  Duration patience_;
  std::size_t jumps_left_;
  std::optional<SimPoller> sim_;  // one of the two is there, and is the clock
  std::optional<SimNetwork> network_;
  Poller& inner_;
  TimePoint began_ = now();
};

namespace {

using internal::Program;
using internal::Time;

/// One run from beginning to end.
RunEnd run_in(Time& time, Program& program, const Options& options,
              Recorder* recorder) {
  const Footprint before(program.frames());
  RunEnd end;
  std::string left;
  Verdict verdict;
  time.verdict = &verdict;
  SimNetwork* const network_before =
      std::exchange(network_here, time.network());
  if (recorder != nullptr) recorder->verdict = &verdict;
  {
    LoopOptions loop_options;
    loop_options.poller = &time;
    loop_options.budget = options.budget;
    loop_options.director = recorder;
    Loop loop(loop_options);
    end.error = caught([&] { end.killed = program.run(loop); });
    left = left_in(loop);
  }
  network_here = network_before;
  if (!verdict.text.empty()) return {unthrown(Hang(verdict.text)), {}};
  const Footprint after;
  add_change(left, before.frames, after.frames, "frames and jobs");
  add_change(left, before.slots, after.slots, "descriptors");
  if (time.network() != nullptr) {
    add_count(left, time.network()->open_descriptors(), "simulated sockets");
  }
  if (left.empty() || (end.error && !end.by_kill())) return end;
  return {unthrown(Leak(concat({"left behind: ", left}))), {}};
}

RunEnd run_in_new_world(Program& program, const Options& options,
                        Recorder& recorder) {
  Time time(options);
  return run_in(time, program, options, &recorder);
}

}  // namespace

void World::advance(Duration duration) noexcept {
  if (time_ != nullptr) time_->advance(duration);
}

void World::perform(internal::Program& program) {
  Time time(options_);
  Shuffled recorder(seed_.value, options_.steps);
  time_ = &time;
  const std::exception_ptr error =
      run_in(time, program, options_, directed_ ? &recorder : nullptr)
          .failure();
  time_ = nullptr;
  elapsed_ = time.elapsed();
  trace_ = std::move(recorder.trace);
  if (error) std::rethrow_exception(error);
}

// ----------------------------------------------------------------- many runs

void internal::for_seeds(std::uint64_t count, Program& program,
                         const Options& options) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t seed = options.first_seed + i;
    Shuffled recorder(seed, options.steps);
    const auto error = run_in_new_world(program, options, recorder).failure();
    if (!error) continue;
    throw_error(Failure(concat({"seed ", seed, ": ", text_of(error),
                                "\nAgain: play(body, Seed(", seed,
                                "), options), with a fresh body"}),
                        error, std::move(recorder.trace)));
  }
}

namespace {

/// The first path after `path`, depth first. Returns: false after the last.
bool next_path(std::vector<Choice>& path) {
  while (!path.empty() && path.back().taken + 1 == path.back().count) {
    path.pop_back();
  }
  if (path.empty()) return false;
  ++path.back().taken;
  return true;
}

/// An order that fails, and what makes it worse than another one.
struct FailingOrder {
  Trace trace;
  std::size_t deviations = 0;  // choices other than first in, first out
  std::exception_ptr error;

  bool is_better_than(const FailingOrder& other) const noexcept {
    if (!other.error) return true;
    if (trace.steps.size() != other.trace.steps.size()) {
      return trace.steps.size() < other.trace.steps.size();
    }
    return deviations < other.deviations;
  }
};

std::size_t deviations_of(const std::vector<Choice>& path) {
  return static_cast<std::size_t>(std::count_if(
      path.begin(), path.end(), [](const Choice& c) { return c.taken != 0; }));
}

[[noreturn]] void throw_shortest(const FailingOrder& best,
                                 const Explored& done) {
  const std::string text = concat({"explore: of ", done.runs,
                                   done.complete ? " orders" : " orders so far",
                                   ", this is the shortest that fails:\n",
                                   best.trace.text(), text_of(best.error)});
  throw_error(Failure(text, best.error, best.trace));
}

}  // namespace

// More would not be a small program.
constexpr std::size_t kMostExploredSteps = 10'000;

// Once an order is known to fail, longer ones are cut where they exceed it:
// so the worse the program, the sooner this ends.
Explored internal::explore(Program& program, const Options& options) {
  Explored done;
  FailingOrder best;
  std::vector<Choice> path;
  const std::size_t most = std::min(options.steps, kMostExploredSteps);
  while (!done.complete && done.runs < options.runs) {
    const std::size_t known = best.trace.steps.size();
    Guided recorder(path, best.error ? known + 1 : most, best.error != nullptr);
    const auto error = run_in_new_world(program, options, recorder).failure();
    ++done.runs;
    if (recorder.differed()) {
      throw_error(Misuse(
          "violet: explore: the body is not the same each time: it must begin "
          "afresh, and depend on nothing but the order of its jobs"));
    }
    if (error && !recorder.was_cut) {
      FailingOrder found{std::move(recorder.trace), deviations_of(path), error};
      if (found.is_better_than(best)) best = std::move(found);
    }
    if (recorder.exceeded) break;  // there is no end to the others either
    done.complete = !next_path(path);
  }
  if (best.error) throw_shortest(best, done);
  if (done.complete || options.partial) return done;
  throw_error(Failure(
      concat({"explore: there are more than ", options.runs,
              " orders: make the program smaller or options.runs larger, or "
              "set options.partial; none of those that were tried fails"}),
      nullptr, {}));
}

namespace {

/// The runs of kill_everywhere.
class Killing {
 public:
  Killing(Program& program, const Options& options) noexcept
      : program_(program), options_(options) {}

  /// Returns: the steps without any kill.
  Trace whole() {
    Shuffled recorder(0, options_.steps);
    const auto error = run_in_new_world(program_, options_, recorder).failure();
    ++counts.runs;
    if (!error) return std::move(recorder.trace);
    throw_error(
        Failure(concat({"kill_everywhere: without any kill: ", text_of(error)}),
                error, std::move(recorder.trace)));
  }

  void at(std::uint64_t seed, KillPoint point) {
    Shuffled recorder(seed, options_.steps);
    recorder.kill = point;
    recorder.kill.victims = options_.victims;
    const RunEnd end = run_in_new_world(program_, options_, recorder);
    ++counts.runs;
    if (recorder.victim) ++counts.kills;
    if (recorder.victim && end.by_kill()) return;
    const auto error = end.failure();
    if (!error) return;
    throw_error(
        Failure(text(seed, recorder, error), error, std::move(recorder.trace)));
  }

  KillCounts counts;

 private:
  static std::string text(std::uint64_t seed, const Recorder& recorder,
                          const std::exception_ptr& error) {
    std::string text = "kill_everywhere: ";
    if (seed != 0) text += concat({"seed ", seed, ": "});
    if (recorder.victim) {
      const std::string moment =
          concat({", killed after step ", recorder.kill.step, " at "});
      text += concat({tell(*recorder.victim, moment), ": "});
    }
    text += text_of(error);
    if (seed != 0) {
      text +=
          concat({"\nAgain: options.seeds = 1, options.first_seed = ", seed});
    }
    return text;
  }

  Program& program_;
  const Options& options_;
};

/// A point somewhere in a run of about `steps` steps.
KillPoint point_of(std::uint64_t seed, std::size_t steps) noexcept {
  using enum KillPoint::When;
  Random random(~seed);
  KillPoint point;
  point.when = std::array{kBefore, kAfter, kAfterAnyone}[random.below(3)];
  point.step = 1 + random.below(steps);
  point.lot = random.next();
  return point;
}

}  // namespace

KillCounts internal::kill_everywhere(Program& program, Options options) {
  options.budget = 0;
  Killing killing(program, options);
  const Trace whole = killing.whole();
  KillPoint point;
  point.victims = options.victims;
  for (const TraceStep& step : whole.steps) {
    ++point.step;
    if (!point.may_hit(step.part_of)) continue;
    point.when = KillPoint::When::kBefore;
    killing.at(0, point);
    if (step.how < Step::kReady) continue;  // it has ended
    ++killing.counts.waits;
    point.when = KillPoint::When::kAfter;
    killing.at(0, point);
  }
  for (std::uint64_t i = 0; i < options.seeds; ++i) {
    const std::uint64_t seed = options.first_seed + i;
    killing.at(seed, point_of(seed, whole.steps.size()));
  }
  return killing.counts;
}

// ----------------------------------------------------------------- in a body

bool AllBlockedEvent::attempt() noexcept {
  if (std::exchange(asked_, true)) return !place_.in_list();
  stand_in(loop_of(*job()).onlookers(), place_, *job());
  return false;
}

void AllBlockedEvent::undo() noexcept {
  if (asked_) leave(loop_of(*job()).onlookers(), place_);
}

}  // namespace violet::testing
