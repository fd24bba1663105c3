// channel_item.cpp - makes a channel of items whose move may fail.
// Says: the items of a channel move from job to job
// SPDX-License-Identifier: MIT
#include <violet.hpp>

struct Fragile {
  Fragile(Fragile&&) {}
};

violet::Task<> body() {
  violet::Channel<Fragile> channel(1);
  co_return;
}
