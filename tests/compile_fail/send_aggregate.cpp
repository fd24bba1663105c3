// send_aggregate.cpp - sends an aggregate that has no name.
// Only: g++ 12, which would destroy it twice
// Says: on this compiler an aggregate must have a name
// SPDX-License-Identifier: MIT
#include <violet.hpp>

struct Order {
  std::string what;
  int count;
};

violet::Task<> body(violet::Channel<Order>& channel) {
  co_await channel.send(Order{"tea", 1});
}
