// produce.cpp - a producer and a consumer, first as a generator and its
// caller, then as jobs with a channel between them.
//
// New here: a Generator hands values back and forth with its caller, without a
// loop; the two simply alternate. A Channel stands between jobs: whoever is
// ahead waits for the other, so no queue grows. What computes for long yields
// now and then, or the loop never hears of Ctrl-C.
// SPDX-License-Identifier: MIT
#include <string>
#include <vector>

#include "../net/net.hpp"
#include "args.hpp"

using namespace violet;

namespace {

struct Settings {
  bool channel = false;
  int items = 5;
  int producers = 1;
  int consumers = 1;
  std::size_t capacity = 1;
};

// ----------------------------------------------------------------- a generator

/// Takes a number with each send(), and answers it.
Generator<std::string, int> consumer() {
  std::string answer;
  for (;;) {
    const int n = co_yield answer;
    print_line(concat({"[CONSUMER] Consuming ", n, "..."}));
    answer = "200 OK";
  }
}

Task<> produce(Generator<std::string, int> consumer, int items) {
  consumer.next();  // to the first co_yield
  for (int n = 1; n <= items; ++n) {
    print_line(concat({"[PRODUCER] Producing ", n, "..."}));
    const auto answer = consumer.send(n);
    print_line(concat({"[PRODUCER] Consumer return: ", *answer}));
    co_await yield_now();  // not for the generator: for signals, other jobs
  }
  consumer.close();
}

// ------------------------------------------------------------------- a channel

/// Makes every `step`-th number from `first` on.
Task<> produce_into(Sender<int> numbers, int first, int step, int items) {
  for (int n = first; n <= items; n += step) {
    print_line(concat({"[PRODUCER ", first, "] Producing ", n, "..."}));
    if (numbers.try_send(n)) continue;
    print_line(concat({"[PRODUCER ", first, "] waits for room for ", n}));
    co_await numbers.send(n);
  }
}

/// Returns: how many it has consumed.
Task<int> consume_from(Receiver<int> numbers, int name) {
  int count = 0;
  while (const auto n = co_await numbers.recv()) {
    print_line(concat({"[CONSUMER ", name, "] Consuming ", *n, "..."}));
    ++count;
    co_await yield_now();  // as if it were work
  }
  co_return count;
}

Task<> through_a_channel(Settings settings) {
  Channel<int> numbers(settings.capacity);
  TaskGroup group;
  std::vector<Job<int>> consumers;
  for (int i = 1; i <= settings.producers; ++i) {
    group.spawn(produce_into, numbers.sender(), i, settings.producers,
                settings.items);
  }
  for (int i = 1; i <= settings.consumers; ++i) {
    consumers.push_back(group.spawn(consume_from, numbers.receiver(), i));
  }
  co_await group.join();  // first: the one that failed, not whom it killed
  int total = 0;
  for (const Job<int>& job : consumers) total += co_await join(job);
  print_line(concat({total, " items produced and consumed"}));
}

Task<> run_one(Settings settings) {
  if (!settings.channel) {
    co_await produce(consumer(), settings.items);
    co_return;
  }
  co_await through_a_channel(settings);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  Args args("produce", "a producer and a consumer, as generator or as jobs");
  args.flag("--channel", "jobs and a channel instead of a generator",
            settings.channel);
  args.number("--items", "how many numbers (5)", settings.items, 0,
              1'000'000'000);
  args.number("--producers", "jobs that produce (1)", settings.producers, 1,
              10'000);
  args.number("--consumers", "jobs that consume (1)", settings.consumers, 1,
              10'000);
  args.number("--capacity", "items the channel holds (1)", settings.capacity, 0,
              1'000'000);
  args.parse(argc, argv);
  const Settings usual;
  if (!settings.channel && (settings.producers != usual.producers ||
                            settings.consumers != usual.consumers ||
                            settings.capacity != usual.capacity)) {
    args.refuse({"--producers, --consumers and --capacity need --channel"});
  }
  return run_program(run_one(settings));
}
