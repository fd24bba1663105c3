// sleepy.cpp - four jobs sleep 0, 1, 3 and 5 seconds, all at once.
//
// New here: spawn() starts a job and goes on at once; join() waits for its end
// and hands over what it returns. The whole takes as long as the longest.
// SPDX-License-Identifier: MIT
#include <vector>

#include "../net/net.hpp"
#include "args.hpp"

using namespace violet;

namespace {

/// Returns: how many units it has slept.
Task<int> sleeper(int units, Duration unit) {
  print_line(concat({"sleeps for ", units}));
  co_await violet::sleep(units * unit);
  print_line(concat({"has slept for ", units}));
  co_return units;
}

Task<> sleepy(Duration unit) {
  std::vector<Job<int>> jobs;
  print_line("spawns four jobs");
  for (int units : {0, 1, 3, 5}) jobs.push_back(spawn(sleeper, units, unit));
  print_line("none of them has begun");

  int sum = 0;
  for (const Job<int>& job : jobs) sum += co_await join(job);
  print_line(concat({"together they slept for ", sum}));
}

}  // namespace

int main(int argc, char** argv) {
  Duration unit = std::chrono::seconds(1);
  Args args("sleepy", "four jobs sleep at the same time");
  args.time("--unit", "how long one unit of sleep takes (1s)", unit);
  args.parse(argc, argv);
  return run_program(sleepy(unit));
}
