// channel.cpp - what an item costs on its way from one job to another.
//
// ns per item, best of seven: one send and one receive. Compare with bare
// C++20 coroutines in the same run: single figures drift with the machine.
// SPDX-License-Identifier: MIT
#include "../../runtime/channel.hpp"

#include <cstdio>
#include <cstdlib>

#include "../../runtime/events.hpp"
#include "bench.hpp"

using namespace violet;

namespace {

Task<> producer(Channel<long>& channel, long count) {
  for (long i = 0; i < count; ++i) co_await channel.send(i);
  channel.close();
}

Task<> consumer(Channel<long>& channel, long& sum) {
  while (auto item = co_await channel.recv()) sum += *item;
}

Task<> pass(std::size_t capacity, long count) {
  Channel<long> channel(capacity);
  long sum = 0;
  auto sending = spawn(producer, std::ref(channel), count);
  auto receiving = spawn(consumer, std::ref(channel), std::ref(sum));
  co_await join(sending);
  co_await join(receiving);
  if (sum != count * (count - 1) / 2) std::abort();
}

}  // namespace

int main() {
  for (const std::size_t capacity : {0u, 1u, 64u, 1024u}) {
    char name[80];
    std::snprintf(name, sizeof name,
                  "channel of %zu: item from producer to consumer", capacity);
    bench(name, 5'000'000, [&](long n) { run(pass(capacity, n)); });
  }
}
