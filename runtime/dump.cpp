// dump.cpp - all jobs as text, and why none of them can go on.
//
// A debugger shows a suspended coroutine as a heap block. The scheduler knows
// better: each frame has recorded the line of its await and knows its caller,
// and each event can say what it waits for. No debug information is needed.
//
// Built on: scheduler.
// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include "scheduler.hpp"

namespace violet {

namespace {

const char* state_of(const JobBlock& job) noexcept {
  switch (job.step) {
    case Step::kUnstarted: return "not started";
    case Step::kReady: return "ready";
    case Step::kWaiting: return "waiting";
    case Step::kDying: return "dying";
    default: return "running";
  }
}

/// The function of the root frame: the outermost one.
std::string name_of(const JobBlock& job) {
  const Frame* frame = job.top;
  while (frame != nullptr && frame->caller != nullptr) frame = frame->caller;
  return frame == nullptr || frame->line == Line()
             ? std::string("job")
             : function_of(frame->where());
}

bool is_parked(const JobBlock& job) noexcept {
  return job.event != nullptr &&
         (job.step == Step::kWaiting || job.step == Step::kReady);
}

Description description_of(const JobBlock& job) {
  Description out;
  if (is_parked(job)) job.event->describe(out);
  return out;
}

/// Follows who waits for whom from `start`. Returns: the jobs of the cycle
/// that it leads into, empty if it leads into none.
[[gnu::cold]] std::vector<const Stack*> cycle_from(const JobBlock& start) {
  std::vector<const Stack*> path;
  const Stack* job = &start;
  while (job != nullptr) {
    for (std::size_t i = 0; i < path.size(); ++i) {
      if (path[i] == job)
        return {path.begin() + static_cast<long>(i), path.end()};
    }
    path.push_back(job);
    job = description_of(static_cast<const JobBlock&>(*job)).job;
  }
  return {};
}

std::string number(const Stack& job) {
  const auto& block = static_cast<const JobBlock&>(job);
  return concat({"#", block.id()});
}

}  // namespace

[[gnu::cold]] const JobBlock* Loop::find(std::uint32_t id) const noexcept {
  const JobBlock* found = nullptr;
  each_job([&](const JobBlock& job) {
    if (job.id() == id) found = &job;
  });
  return found;
}

[[gnu::cold]] std::string Loop::describe(const JobBlock& job) const {
  const auto seconds = [this](std::uint32_t since) {
    char text[32];
    const double ticks = this->ticks(poller_.now()) - since;
    std::snprintf(text, sizeof text, "%.1f s", ticks * double{1 << 24} / 1e9);
    return std::string(text);
  };
  std::string text =
      concat({number(job), " ", name_of(job), ": ", state_of(job)});
  const Description waits_for = description_of(job);
  if (!waits_for.text.empty()) {
    text += concat({" for ", waits_for.text, ", ", seconds(job.parked_ticks_)});
  }
  text += concat({"; age ", seconds(job.born_ticks_)});
  if (job.spawned_at().line() != 0) {
    text += concat({", spawned at ", text_of(job.spawned_at())});
  }
  text += '\n';
  for (const Frame* frame = job.top; frame != nullptr; frame = frame->caller) {
    if (frame->line == Line()) continue;
    text += concat({"    ", function_of(frame->where()), " at ",
                    text_of(frame->where()), "\n"});
  }
  return text;
}

[[gnu::cold]] std::string Loop::dump() const {
  std::string jobs;
  std::size_t count = 0;
  each_job([&](const JobBlock& job) {
    jobs += describe(job);
    ++count;
  });
  return concat({count, count == 1 ? " job\n" : " jobs\n", jobs});
}

[[gnu::cold]] std::string Loop::deadlock_text() const {
  std::string text = "deadlock: every job waits and nothing can wake one\n";
  std::vector<const Stack*> cycle;
  each_job([&](const JobBlock& job) {
    text += describe(job);
    if (cycle.empty()) cycle = cycle_from(job);
  });
  if (cycle.empty()) return text;
  text += "cycle: ";
  for (const Stack* job : cycle) {
    text += concat({number(*job), " waits for "});
  }
  return text + number(*cycle.front());
}

}  // namespace violet
