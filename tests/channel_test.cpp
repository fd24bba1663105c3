// channel_test.cpp - items that pass from job to job.
//
// The order of things is what matters here, so most tests write a log of what
// each job did, and the last ones kill jobs at every moment that there is.
//
// SPDX-License-Identifier: MIT
#include "../runtime/channel.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/group.hpp"
#include "../runtime/within.hpp"
#include "catch.hpp"
#include "script.hpp"

namespace {

using namespace script;
using support::Tracked;
using Numbers = std::vector<int>;

constexpr const char* kClosedText =
    "violet: the channel is closed, so the item was not accepted: close it "
    "when its senders have ended, or let their Sender handles do it";
constexpr const char* kDesertedText =
    "violet: nobody receives from the channel any more, so the item was not "
    "accepted: keep a Receiver until the senders have ended";
constexpr const char* kDestroyedText =
    "violet: the channel was destroyed while a job waited at it: let it live "
    "in a frame that outlives the jobs that use it";

/// Sends `count` numbers from `first` on.
Task<> send_all(Channel<int>& channel, int first, int count) {
  for (int i = 0; i < count; ++i) co_await channel.send(first + i);
}

Task<> send_one(Channel<int>& channel, int item) {
  co_await channel.send(item);
}

/// Notes what it receives until the channel ends.
Task<> receive_all(Channel<int>& channel, Numbers& got) {
  while (auto item = co_await channel.recv()) got.push_back(*item);
}

Task<> receive_one(Channel<int>& channel, Numbers& got) {
  const std::optional<int> item = co_await channel.recv();
  got.push_back(item.value_or(-1));
}

/// What the send of an item throws, or "accepted".
Task<std::string> outcome_of_send(Channel<int>& channel, int item) {
  try {
    co_await channel.send(item);
  } catch (const Closed& e) {
    co_return std::string("Closed ") + e.what();
  } catch (const Misuse& e) {
    co_return e.what();
  }
  co_return "accepted";
}

/// What a receive throws, or the item as text, or "end".
Task<std::string> outcome_of_recv(Channel<int>& channel) {
  try {
    const std::optional<int> item = co_await channel.recv();
    co_return item ? std::to_string(*item) : "end";
  } catch (const Misuse& e) {
    co_return e.what();
  }
}

/// Lets everybody go as far as they can.
Task<> settle() {
  for (int i = 0; i < 8; ++i) co_await yield_now();
}

/// Runs a body that takes nothing, with budgets that make an event wait
/// always, sometimes, and as usual.
template <class Body>
void play_all(Body body) {
  constexpr std::uint8_t kBudgets[] = {0, 1, 32};
  for (const std::uint8_t budget : kBudgets) {
    CAPTURE(int{budget});
    play(body, budget);
  }
}

/// What the only job that waits says of itself.
std::string waits_for(const Job<>& job) {
  Description out;
  job.block()->event->describe(out);
  return out.text;
}

}  // namespace

// ------------------------------------------------------------ order and ends

TEST_CASE("channel: a budget beyond the most there is counts as that",
          "[channel]") {
  const auto body = []() -> Task<> {
    Channel<int> channel(100);
    int turns = 0;
    const auto others = [&]() -> Task<> {
      for (;; ++turns) co_await yield_now();
    };
    const Job<> job = spawn(others);
    for (int i = 0; i < 100; ++i) co_await channel.send(i);
    CHECK(turns == 0);
    job.kill();
  };
  play(body, 255);
}

TEST_CASE("channel: items arrive in the order in which they were sent",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 2u, 3u, 100u}) {
    CAPTURE(capacity);
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      Numbers got;
      const auto sender = spawn(send_all, std::ref(channel), 0, 70);
      const auto receiver =
          spawn(receive_all, std::ref(channel), std::ref(got));
      co_await join(sender);
      channel.close();
      co_await join(receiver);
      Numbers expected(70);
      std::iota(expected.begin(), expected.end(), 0);
      CHECK(got == expected);
    });
  }
}

TEST_CASE("channel: the buffer takes as much as its capacity, and no more",
          "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(3);
    CHECK(channel.capacity() == 3);
    const auto sender = spawn(send_all, std::ref(channel), 0, 4);
    co_await settle();
    CHECK(channel.size() == 3);
    CHECK_FALSE(sender.ended());
    const std::optional<int> item = co_await channel.recv();
    CHECK(item == 0);
    CHECK(channel.size() == 3);  // the waiting item has moved up
    co_await settle();
    CHECK(sender.ended());
    CHECK(channel.drain() == Numbers{1, 2, 3});
  });
}

TEST_CASE("channel: with a capacity of 0 a sender waits for its receiver",
          "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(0);
    const auto sender = spawn(send_one, std::ref(channel), 7);
    co_await settle();
    CHECK_FALSE(sender.ended());
    CHECK(channel.size() == 0);
    const std::optional<int> item = co_await channel.recv();
    CHECK(item == 7);
    co_await settle();
    CHECK(sender.ended());
  });
}

TEST_CASE("channel: with a capacity of 0 a receiver waits for its sender",
          "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(0);
    Numbers got;
    const auto receiver = spawn(receive_one, std::ref(channel), std::ref(got));
    co_await settle();
    co_await channel.send(7);
    CHECK(got == Numbers{7});
    CHECK(receiver.ended());
  });
}

TEST_CASE("channel: who came first receives first", "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 3u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      std::vector<Numbers> got(3);
      std::vector<Job<>> receivers;
      for (Numbers& one : got) {
        receivers.push_back(
            spawn(receive_one, std::ref(channel), std::ref(one)));
      }
      co_await settle();
      for (int i = 0; i < 3; ++i) co_await channel.send(i);
      for (const Job<>& one : receivers) co_await join(one);
      CHECK(got == std::vector<Numbers>{{0}, {1}, {2}});
    });
  }
}

TEST_CASE("channel: who came first sends first", "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 3u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      for (int i = 0; i < 6; ++i) spawn(send_one, std::ref(channel), i);
      co_await settle();
      Numbers got;
      for (int i = 0; i < 6; ++i) {
        const std::optional<int> item = co_await channel.recv();
        got.push_back(item.value_or(-1));
      }
      CHECK(got == Numbers{0, 1, 2, 3, 4, 5});
    });
  }
}

TEST_CASE("channel: a newcomer does not overtake who waits to receive",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(2);
    Numbers waited, came_late;
    spawn(receive_one, std::ref(channel), std::ref(waited));
    co_await yield_now();
    co_await channel.send(1);  // granted to the first, which has not run yet
    CHECK(channel.try_recv() == std::nullopt);
    const auto late =
        spawn(receive_one, std::ref(channel), std::ref(came_late));
    co_await channel.send(2);
    CHECK(channel.try_recv() == 1);  // two are there, and one is granted
    co_await settle();
    CHECK(waited == Numbers{2});
    CHECK_FALSE(late.ended());
    co_await channel.send(3);
    co_await join(late);
    CHECK(came_late == Numbers{3});
  });
}

TEST_CASE("channel: a newcomer does not overtake who waits to send",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(1);
    co_await channel.send(1);
    spawn(send_one, std::ref(channel), 2);
    co_await yield_now();
    CHECK(channel.try_recv() == 1);
    CHECK_FALSE(channel.try_send(3));  // the room belongs to the other
    CHECK(channel.try_recv() == 2);
    CHECK(channel.try_send(3));
    CHECK(channel.drain() == Numbers{3});
  });
}

TEST_CASE("channel: many producers and consumers lose and double nothing",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 2u, 64u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      std::vector<Numbers> got(3);
      std::vector<Job<>> consumers;
      for (Numbers& one : got) {
        consumers.push_back(
            spawn(receive_all, std::ref(channel), std::ref(one)));
      }
      std::vector<Job<>> producers;
      for (int p = 0; p < 5; ++p) {
        producers.push_back(spawn(send_all, std::ref(channel), p * 1000, 100));
      }
      for (const Job<>& one : producers) co_await join(one);
      channel.close();
      for (const Job<>& one : consumers) co_await join(one);
      std::map<int, int> times;
      for (const Numbers& one : got) {
        std::map<int, int> last;
        for (const int item : one) {
          ++times[item];
          CHECK(last[item / 1000] <= item);
          last[item / 1000] = item;
        }
      }
      CHECK(times.size() == 500);
      for (const auto& [item, count] : times) CHECK(count == 1);
    });
  }
}

// ------------------------------------------------------------------- closing

TEST_CASE("channel: receivers drain a closed channel, then end", "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(4);
    co_await send_all(channel, 1, 3);
    CHECK_FALSE(channel.closed());
    channel.close();
    channel.close();  // once is enough
    CHECK(channel.closed());
    Numbers got;
    co_await receive_all(channel, got);
    CHECK(got == Numbers{1, 2, 3});
    const std::string again = co_await outcome_of_recv(channel);
    CHECK(again == "end");
  });
}

TEST_CASE("channel: close ends the receivers that wait", "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 2u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      const auto first = spawn(outcome_of_recv, std::ref(channel));
      const auto second = spawn(outcome_of_recv, std::ref(channel));
      co_await settle();
      channel.close();
      const std::string one = co_await join(first);
      const std::string two = co_await join(second);
      CHECK(one == "end");
      CHECK(two == "end");
    });
  }
}

TEST_CASE("channel: close refuses the items of the senders that wait",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 2u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      for (std::size_t i = 0; i < capacity; ++i) co_await channel.send(1);
      const auto first = spawn(outcome_of_send, std::ref(channel), 8);
      const auto second = spawn(outcome_of_send, std::ref(channel), 9);
      co_await settle();
      channel.close();
      const std::string one = co_await join(first);
      const std::string two = co_await join(second);
      CHECK(one == std::string("Closed ") + kClosedText);
      CHECK(two == one);
      CHECK(channel.drain() == Numbers(capacity, 1));
    });
  }
}

TEST_CASE("channel: nothing can be sent once it is closed", "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(1);
    channel.close();
    const std::string sent = co_await outcome_of_send(channel, 1);
    CHECK(sent == std::string("Closed ") + kClosedText);
    CHECK(thrown<Closed>([&] { channel.try_send(1); }) == kClosedText);
    CHECK(channel.size() == 0);
  });
}

TEST_CASE("channel: closed while an item is granted, the others end after it",
          "[channel]") {
  // The first has a grant and has not run. If it never takes its item, that
  // must go to the second, which therefore must not end before.
  for (const bool kills : {false, true}) {
    play([kills]() -> Task<> {
      Channel<int> channel(1);
      const auto first = spawn(outcome_of_recv, std::ref(channel));
      const auto second = spawn(outcome_of_recv, std::ref(channel));
      co_await yield_now();
      CHECK(channel.try_send(1));
      channel.close();
      if (kills) CHECK(first.kill());
      const std::string two = co_await join(second);
      CHECK(two == (kills ? "1" : "end"));
      if (kills) co_return;
      const std::string one = co_await join(first);
      CHECK(one == "1");
    });
  }
}

TEST_CASE("channel: closed while an item is granted, a newcomer waits for it",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(1);
    const auto first = spawn(outcome_of_recv, std::ref(channel));
    co_await yield_now();
    const auto newcomer = spawn(outcome_of_recv, std::ref(channel));
    const auto killer = [&]() -> Task<> {
      CHECK(first.kill());
      co_return;
    };
    spawn(killer);  // the newcomer comes, the first dies, both before it runs
    CHECK(channel.try_send(1));
    channel.close();
    const std::string got = co_await join(newcomer);
    CHECK(got == "1");
  });
}

TEST_CASE("channel: close takes a grant back whose sender is refused",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u}) {
    play([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      std::vector<Job<std::string>> receivers;
      for (int i = 0; i < 3; ++i) {
        receivers.push_back(spawn(outcome_of_recv, std::ref(channel)));
      }
      co_await yield_now();
      // Sender and closer run before the receivers that they wake.
      const auto sender = spawn(outcome_of_send, std::ref(channel), 2);
      const auto closer = [&]() -> Task<> {
        channel.close();
        co_return;
      };
      spawn(closer);
      if (capacity == 1) CHECK(channel.try_send(1));
      const std::string sent = co_await join(sender);
      CHECK(sent == std::string("Closed ") + kClosedText);
      const std::string first = co_await join(receivers[0]);
      const std::string second = co_await join(receivers[1]);
      const std::string third = co_await join(receivers[2]);
      CHECK(first == (capacity == 1 ? "1" : "end"));
      CHECK(second == "end");
      CHECK(third == "end");
    });
  }
}

// ------------------------------------------------------------- without a wait

TEST_CASE("channel: try_send and try_recv never wait", "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(2);
    const int two = 2;
    CHECK(channel.try_recv() == std::nullopt);
    CHECK(channel.try_send(1));
    CHECK(channel.try_send(two));
    CHECK_FALSE(channel.try_send(3));
    CHECK(channel.size() == 2);
    CHECK(channel.try_recv() == 1);
    CHECK(channel.try_recv() == 2);
    CHECK(channel.try_recv() == std::nullopt);
    co_return;
  });
}

TEST_CASE("channel: an item that try_send refuses is untouched", "[channel]") {
  play([]() -> Task<> {
    Channel<std::unique_ptr<int>> channel(1);
    auto item = std::make_unique<int>(1);
    CHECK(channel.try_send(std::move(item)));
    item = std::make_unique<int>(2);
    CHECK_FALSE(channel.try_send(std::move(item)));
    REQUIRE(item != nullptr);
    CHECK(*item == 2);
    channel.close();
    CHECK_THROWS_AS(channel.try_send(std::move(item)), Closed);
    CHECK(item != nullptr);
    co_return;
  });
}

TEST_CASE("channel: with a capacity of 0 only try_recv can succeed",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(0);
    Numbers got;
    const auto receiver = spawn(receive_one, std::ref(channel), std::ref(got));
    co_await settle();
    CHECK_FALSE(channel.try_send(1));  // it takes at its own step only
    CHECK(receiver.kill());
    const auto sender = spawn(send_one, std::ref(channel), 2);
    co_await settle();
    CHECK(channel.try_recv() == 2);
    CHECK(channel.try_recv() == std::nullopt);
    co_await settle();
    CHECK(sender.ended());
  });
}

TEST_CASE("channel: both work outside of all jobs", "[channel]") {
  Channel<int> channel(1);
  CHECK(channel.try_send(1));
  CHECK(channel.try_recv() == 1);
  CHECK(channel.try_send(2));
  CHECK(channel.drain() == Numbers{2});
}

TEST_CASE("channel: a post wakes a receiver with try_send", "[channel]") {
  World world;
  Channel<int> channel(1);
  Numbers got;
  const Remote remote = world.loop.remote();
  remote.post([&] { channel.try_send(5); });
  const auto root = [&]() -> Task<> { co_await receive_one(channel, got); };
  world.run(root());
  CHECK(got == Numbers{5});
}

TEST_CASE("channel: drain takes all there is and releases who waits to send",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 3u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      std::vector<Job<>> senders;
      for (int i = 0; i < 6; ++i) {
        senders.push_back(spawn(send_one, std::ref(channel), i));
      }
      co_await settle();
      CHECK(channel.drain() == Numbers{0, 1, 2, 3, 4, 5});
      CHECK(channel.size() == 0);
      CHECK(channel.drain().empty());
      for (const Job<>& one : senders) co_await join(one);
    });
  }
}

TEST_CASE("channel: drain takes back what was granted, and the line stands",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(3);
    std::vector<Numbers> got(3);
    for (Numbers& one : got) {
      spawn(receive_one, std::ref(channel), std::ref(one));
    }
    co_await yield_now();
    CHECK(channel.try_send(1));
    CHECK(channel.try_send(2));  // two are granted, one waits
    CHECK(channel.drain() == Numbers{1, 2});
    co_await settle();
    for (const Numbers& one : got) CHECK(one.empty());
    for (int i = 5; i < 8; ++i) co_await channel.send(i);
    co_await settle();
    CHECK(got == std::vector<Numbers>{{5}, {6}, {7}});
  });
}

TEST_CASE("channel: drain of a closed channel ends who waits for the rest",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(2);
    const auto first = spawn(outcome_of_recv, std::ref(channel));
    const auto second = spawn(outcome_of_recv, std::ref(channel));
    const auto third = spawn(outcome_of_recv, std::ref(channel));
    co_await yield_now();
    CHECK(channel.try_send(1));
    CHECK(channel.try_send(2));
    channel.close();
    CHECK(channel.drain() == Numbers{1, 2});
    for (const auto& one : {first, second, third}) {
      const std::string got = co_await join(one);
      CHECK(got == "end");
    }
  });
}

// --------------------------------------------------------------------- kills

TEST_CASE("channel: a receiver that is killed while it waits leaves the line",
          "[channel]") {
  for (const std::size_t victim : {0u, 1u, 2u}) {
    play_all([victim]() -> Task<> {
      Channel<int> channel(4);
      std::vector<Numbers> got(3);
      std::vector<Job<>> receivers;
      for (Numbers& one : got) {
        receivers.push_back(
            spawn(receive_one, std::ref(channel), std::ref(one)));
      }
      co_await settle();
      CHECK(receivers[victim].kill());
      co_await send_all(channel, 0, 2);
      co_await settle();
      got.erase(got.begin() + static_cast<long>(victim));
      CHECK(got == std::vector<Numbers>{{0}, {1}});
    });
  }
}

TEST_CASE("channel: a granted receiver that is killed passes its item on",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u}) {
    play([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      Numbers first_got, second_got;
      const auto first =
          spawn(receive_one, std::ref(channel), std::ref(first_got));
      const auto second =
          spawn(receive_one, std::ref(channel), std::ref(second_got));
      co_await yield_now();
      const auto killer = [&]() -> Task<> {
        CHECK(first.kill());
        co_return;
      };
      if (capacity == 0) {
        spawn(killer);  // runs when the send has granted, before the first
        co_await yield_now();
        Numbers third;
        co_await channel.send(1);
      } else {
        CHECK(channel.try_send(1));
        CHECK(first.kill());
      }
      co_await join(second);
      CHECK(first_got.empty());
      CHECK(second_got == Numbers{1});
    });
  }
}

TEST_CASE("channel: without a second receiver the item stays where it was",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(2);
    Numbers got;
    const auto receiver = spawn(receive_one, std::ref(channel), std::ref(got));
    co_await yield_now();
    CHECK(channel.try_send(1));
    CHECK(channel.try_send(2));
    CHECK(receiver.kill());
    CHECK(got.empty());
    CHECK(channel.drain() == Numbers{1, 2});
  });
}

TEST_CASE("channel: a sender that is killed while it waits has sent nothing",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      for (std::size_t i = 0; i < capacity; ++i) co_await channel.send(0);
      const auto first = spawn(send_one, std::ref(channel), 1);
      const auto second = spawn(send_one, std::ref(channel), 2);
      co_await settle();
      CHECK(first.kill());
      Numbers expected(capacity, 0);
      expected.push_back(2);
      CHECK(channel.drain() == expected);
      co_await join(second);
    });
  }
}

TEST_CASE("channel: a sender that is killed once its item is taken has sent it",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u}) {
    play([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      for (std::size_t i = 0; i < capacity; ++i) CHECK(channel.try_send(0));
      const auto sender = spawn(send_one, std::ref(channel), 1);
      co_await yield_now();
      if (capacity == 1) CHECK(channel.try_recv() == 0);  // its item moves up
      if (capacity == 0) CHECK(channel.try_recv() == 1);
      CHECK_FALSE(sender.ended());
      CHECK(sender.kill());
      CHECK(channel.drain() == Numbers(capacity, 1));
    });
  }
}

TEST_CASE("channel: a sender is killed after a receiver was granted its item",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(0);
    std::vector<Numbers> got(3);
    for (Numbers& one : got) {
      spawn(receive_one, std::ref(channel), std::ref(one));
    }
    co_await yield_now();
    const auto first = spawn(send_one, std::ref(channel), 1);
    const auto second = spawn(send_one, std::ref(channel), 2);
    const auto killer = [&]() -> Task<> {
      CHECK(first.kill());  // both receivers are awake and have not run
      co_return;
    };
    spawn(killer);
    co_await settle();
    CHECK(got == std::vector<Numbers>{{2}, {}, {}});
    co_await send_all(channel, 3, 2);
    CHECK(got == std::vector<Numbers>{{2}, {3}, {4}});
    CHECK(second.ended());
  });
}

TEST_CASE("channel: grants are taken back from the end of the line",
          "[channel]") {
  // All three senders die; then the line is as it was, in its old order.
  play([]() -> Task<> {
    Channel<int> channel(0);
    std::vector<Numbers> got(4);
    for (Numbers& one : got) {
      spawn(receive_one, std::ref(channel), std::ref(one));
    }
    co_await yield_now();
    std::vector<Job<>> senders;
    for (int i = 0; i < 3; ++i) {
      senders.push_back(spawn(send_one, std::ref(channel), i));
    }
    const auto killer = [&]() -> Task<> {
      for (const Job<>& one : senders) CHECK(one.kill());
      co_return;
    };
    spawn(killer);
    co_await settle();
    for (const Numbers& one : got) CHECK(one.empty());
    co_await send_all(channel, 5, 4);
    CHECK(got == std::vector<Numbers>{{5}, {6}, {7}, {8}});
  });
}

TEST_CASE("channel: a job that kills itself while it waits leaves no trace",
          "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(1);
    const auto receiver = [&]() -> Task<> {
      const auto item = co_await within(1s, channel.recv());
      CHECK_FALSE(item);
    };
    const auto job = spawn(receiver);
    co_await yield_now();
    CHECK(job.kill());
    co_await channel.send(1);
    CHECK(channel.try_recv() == 1);
  });
}

// -------------------------------------------------------------------- limits

TEST_CASE("channel: a limit ends a receive, and the next one gets the item",
          "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(1);
    const auto none = co_await within(1s, channel.recv());
    CHECK_FALSE(none.has_value());
    co_await channel.send(1);
    const auto one = co_await within(1s, channel.recv());
    REQUIRE(one.has_value());
    CHECK(*one == 1);
    channel.close();
    const auto end = co_await within(1s, channel.recv());
    REQUIRE(end.has_value());
    CHECK_FALSE(end->has_value());
  });
}

TEST_CASE("channel: a limit ends a send, and its item is not sent",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      for (std::size_t i = 0; i < capacity; ++i) co_await channel.send(0);
      const bool sent = co_await within(1s, channel.send(1));
      CHECK_FALSE(sent);
      CHECK(channel.drain() == Numbers(capacity, 0));
    });
  }
}

TEST_CASE("channel: at the very turn of the handover the item counts",
          "[channel]") {
  // The limit passes in the turn in which the sender sends, and in either
  // order; what is granted is taken.
  for (const bool sender_first : {false, true}) {
    play([sender_first]() -> Task<> {
      Channel<int> channel(1);
      const auto receiver = [&]() -> Task<bool> {
        const auto item = co_await within(1s, channel.recv());
        co_return item.has_value();
      };
      const auto sender = [&]() -> Task<> {
        co_await violet::sleep(1s);
        co_await channel.send(1);
      };
      Job<bool> receiving;
      if (sender_first) spawn(sender);
      receiving = spawn(receiver);
      if (!sender_first) spawn(sender);
      const bool got = co_await join(receiving);
      co_await settle();
      CHECK(channel.size() == (got ? 0u : 1u));
      CHECK(got == sender_first);
    });
  }
}

TEST_CASE("channel: at the very turn of the handover a sent item is sent",
          "[channel]") {
  for (const bool receiver_first : {false, true}) {
    play([receiver_first]() -> Task<> {
      Channel<int> channel(0);
      const auto sender = [&]() -> Task<bool> {
        const bool sent = co_await within(1s, channel.send(1));
        co_return sent;
      };
      const auto receiver = [&]() -> Task<bool> {
        co_await violet::sleep(1s);
        co_return channel.try_recv() == 1;
      };
      Job<bool> receiving;
      if (receiver_first) receiving = spawn(receiver);
      const auto sending = spawn(sender);
      if (!receiver_first) receiving = spawn(receiver);
      const bool sent = co_await join(sending);
      const bool got = co_await join(receiving);
      CHECK(sent == got);
      CHECK(sent == receiver_first);
    });
  }
}

TEST_CASE("channel: a granted receiver whose grant is taken back may expire",
          "[channel]") {
  const Duration elapsed = play([]() -> Task<> {
    Channel<int> channel(1);
    const auto receiver = [&]() -> Task<> {
      const auto item = co_await within(1s, channel.recv());
      CHECK_FALSE(item.has_value());
    };
    const auto job = spawn(receiver);
    co_await yield_now();
    CHECK(channel.try_send(1));
    CHECK(channel.drain() == Numbers{1});
    co_await join(job);
    CHECK(channel.try_send(2));
    CHECK(channel.try_recv() == 2);
  });
  CHECK(elapsed == 1s);
}

// ----------------------------------------------------------------- its death

TEST_CASE("channel: its destruction gives an error to all who wait",
          "[channel]") {
  play([]() -> Task<> {
    std::optional<Channel<int>> full(1);
    std::optional<Channel<int>> empty(1);
    co_await full->send(0);
    const auto sender = spawn(outcome_of_send, std::ref(*full), 1);
    const auto receiver = spawn(outcome_of_recv, std::ref(*empty));
    co_await yield_now();
    full.reset();
    empty.reset();
    const std::string sent = co_await join(sender);
    const std::string received = co_await join(receiver);
    CHECK(sent == kDestroyedText);
    CHECK(received == kDestroyedText);
  });
}

TEST_CASE("channel: its destruction also meets who was granted an item",
          "[channel]") {
  play([]() -> Task<> {
    std::optional<Channel<int>> channel(1);
    const auto granted = spawn(outcome_of_recv, std::ref(*channel));
    const auto waiting = spawn(outcome_of_recv, std::ref(*channel));
    co_await yield_now();
    CHECK(channel->try_send(1));
    channel.reset();
    CHECK(contains(Loop::current().dump(), "ready for channel receive,"));
    const std::string one = co_await join(granted);
    const std::string two = co_await join(waiting);
    CHECK(one == kDestroyedText);
    CHECK(two == kDestroyedText);
  });
}

TEST_CASE("channel: a send that is done stays done when the channel dies",
          "[channel]") {
  play([]() -> Task<> {
    std::optional<Channel<int>> channel(0);
    const auto sender = spawn(outcome_of_send, std::ref(*channel), 1);
    co_await yield_now();
    CHECK(channel->try_recv() == 1);
    channel.reset();
    CHECK(contains(Loop::current().dump(), "ready for channel send,"));
    const std::string sent = co_await join(sender);
    CHECK(sent == "accepted");
  });
}

TEST_CASE("channel: who waits may be killed after it is gone", "[channel]") {
  play([]() -> Task<> {
    std::optional<Channel<int>> channel(0);
    const auto receiver = spawn(outcome_of_recv, std::ref(*channel));
    const auto other = spawn(outcome_of_recv, std::ref(*channel));
    const auto sender = spawn(outcome_of_send, std::ref(*channel), 1);
    co_await yield_now();
    channel.reset();
    CHECK(receiver.kill());
    CHECK(other.kill());
    CHECK(sender.kill());
  });
}

TEST_CASE("channel: the items that it holds die with it", "[channel]") {
  const int before = Tracked::alive();
  play([]() -> Task<> {
    Channel<Tracked> channel(3);
    for (int i = 0; i < 3; ++i) co_await channel.send(Tracked(i));
    const auto first = co_await channel.recv();
    CHECK(first->value() == 0);
    co_await channel.send(Tracked(3));  // the ring has gone around
  });
  CHECK(Tracked::alive() == before);
}

// --------------------------------------------------------------------- items

namespace {

/// Cannot be copied, and cannot be made from nothing.
class Ticket {
 public:
  explicit Ticket(int value) : value_(new int(value)) {}
  Ticket(Ticket&& other) noexcept
      : value_(std::exchange(other.value_, nullptr)) {}
  ~Ticket() { delete value_; }
  int value() const noexcept { return value_ == nullptr ? -1 : *value_; }

 private:
  int* value_;
};

struct Named {
  std::string name;
  int number;
};

}  // namespace

TEST_CASE("channel: items may be move-only and without a default",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 2u}) {
    play_all([capacity]() -> Task<> {
      Channel<Ticket> channel(capacity);
      const auto sender = [&]() -> Task<> {
        for (int i = 0; i < 20; ++i) co_await channel.send(Ticket(i));
        channel.close();
      };
      spawn(sender);
      int expected = 0;
      while (auto ticket = co_await channel.recv()) {
        CHECK(ticket->value() == expected++);
      }
      CHECK(expected == 20);
    });
  }
}

TEST_CASE("channel: a named item is copied, a temporary is moved",
          "[channel]") {
  play([]() -> Task<> {
    Channel<Tracked> channel(2);
    const Tracked item(1);
    const int before = Tracked::copies();
    co_await channel.send(item);
    CHECK(Tracked::copies() == before + 1);
    co_await channel.send(Tracked(2));
    const auto one = co_await channel.recv();
    const auto two = co_await channel.recv();
    CHECK(Tracked::copies() == before + 1);
    CHECK(one->value() == 1);
    CHECK(two->value() == 2);
  });
}

TEST_CASE("channel: an aggregate that has a name can be sent", "[channel]") {
  play([]() -> Task<> {
    Channel<Named> channel(1);
    const Named item{"a name too long for the string itself", 1};
    co_await channel.send(item);
    const auto got = co_await channel.recv();
    CHECK(got->name == item.name);
  });
}

TEST_CASE("channel: an item may be a handle of its own channel", "[channel]") {
  play([]() -> Task<> {
    struct Box {
      explicit Box(std::shared_ptr<Channel<int>> c) : channel(std::move(c)) {}
      std::shared_ptr<Channel<int>> channel;
    };
    Channel<Box> outer(2);
    const auto inner = std::make_shared<Channel<int>>(1);
    co_await outer.send(Box(inner));
    const auto box = co_await outer.recv();
    CHECK(box->channel == inner);
  });
}

TEST_CASE("channel: neither an item nor a wait takes memory", "[channel]") {
  // The frames of the jobs come from the pool of frames, and nothing else may
  // take from it; what asks the system for memory passes the seam.
  class Counting final : public sys::Calls {
   public:
    void* allocate(std::size_t size) noexcept override {
      ++count;
      return Calls::allocate(size);
    }
    int count = 0;
  };
  play([]() -> Task<> {
    for (const std::size_t capacity : {0u, 1u, 64u}) {
      Channel<int> channel(capacity);
      Numbers got;
      got.reserve(2000);
      const auto sender = spawn(send_all, std::ref(channel), 0, 1000);
      const auto receiver =
          spawn(receive_all, std::ref(channel), std::ref(got));
      co_await yield_now();
      const std::size_t frames = frame_pool.live();
      Counting calls;
      {
        const support::ScopedCalls counted(calls);
        co_await join(sender);
      }
      CHECK(calls.count == 0);
      CHECK(frame_pool.live() <= frames);
      channel.close();
      co_await join(receiver);
      CHECK(got.size() == 1000);
    }
  });
  CHECK(sizeof(ChannelRecvEvent<int>) <= 48);
  CHECK(sizeof(ChannelSendEvent<int>) <= 56);
}

// ------------------------------------------------------------------- handles

TEST_CASE("channel: it is closed when the last sender goes", "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(2);
    const auto produce = [](Sender<int> sender, int item) -> Task<> {
      co_await sender.send(item);
      const Sender<int> copy = sender;
      co_await copy.send(item);
    };
    {
      const Sender<int> sender = channel.sender();
      for (int i = 1; i < 4; ++i) spawn(produce, sender, i);
    }
    CHECK_FALSE(channel.closed());
    Numbers got;
    co_await receive_all(channel, got);
    std::sort(got.begin(), got.end());
    CHECK(got == Numbers{1, 1, 2, 2, 3, 3});
    CHECK(channel.closed());
  });
}

TEST_CASE("channel: a sender that is killed counts as gone", "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(0);
    const auto produce = [](Sender<int> sender) -> Task<> {
      co_await sender.send(1);
    };
    const auto job = spawn(produce, channel.sender());
    const auto receiver = spawn(outcome_of_recv, std::ref(channel));
    CHECK(job.kill());
    const std::string got = co_await join(receiver);
    CHECK(got == "end");
  });
}

TEST_CASE("channel: senders are told when the last receiver goes",
          "[channel]") {
  play_all([]() -> Task<> {
    Channel<int> channel(1);
    std::optional<Receiver<int>> first(channel.receiver());
    std::optional<Receiver<int>> second(*first);
    co_await channel.send(1);
    const auto waiting = spawn(outcome_of_send, std::ref(channel), 2);
    co_await settle();
    first.reset();
    CHECK_FALSE(channel.closed());
    second.reset();
    CHECK(channel.closed());
    const std::string sent = co_await join(waiting);
    CHECK(sent == std::string("Closed ") + kDesertedText);
    const std::string later = co_await outcome_of_send(channel, 3);
    CHECK(later == sent);
    CHECK(thrown<Closed>([&] { channel.try_send(1); }) == kDesertedText);
    CHECK(channel.drain() == Numbers{1});  // what was accepted stays
    const std::string got = co_await outcome_of_recv(channel);
    CHECK(got == "end");
  });
}

TEST_CASE("channel: handles do all that the channel does", "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(2);
    const Sender<int> sender = channel.sender();
    const Receiver<int> receiver = channel.receiver();
    const int one = 1;
    co_await sender.send(one);
    CHECK(sender.try_send(one));
    CHECK_FALSE(sender.try_send(3));
    CHECK(sender.size() == 2);
    CHECK(receiver.size() == 2);
    CHECK(sender.capacity() == 2);
    CHECK(receiver.capacity() == 2);
    const auto item = co_await receiver.recv();
    CHECK(item == 1);
    CHECK(receiver.try_recv() == 1);
    co_await sender.send(4);
    CHECK(receiver.drain() == Numbers{4});
    sender.close();
    CHECK(sender.closed());
    CHECK(receiver.closed());
    receiver.close();
    const auto end = co_await receiver.recv();
    CHECK_FALSE(end);
  });
}

TEST_CASE("channel: a handle may be assigned, also to itself", "[channel]") {
  Channel<int> one(1);
  Channel<int> two(1);
  {
    Sender<int> sender = one.sender();
    const Sender<int>& same = sender;
    sender = same;
    CHECK_FALSE(one.closed());
    sender = two.sender();
    CHECK(one.closed());
    CHECK_FALSE(two.closed());
    Sender<int> moved = std::move(sender);
    sender = moved;
  }
  CHECK(two.closed());
}

TEST_CASE("channel: a handle that outlives it says so", "[channel]") {
  std::optional<Channel<int>> channel(1);
  const Sender<int> sender = channel->sender();
  const Receiver<int> receiver = channel->receiver();
  channel.reset();
  const Sender<int> copy = sender;
  const char* const text =
      "violet: the channel of this handle is gone: let it live in a frame "
      "that outlives its handles";
  CHECK(thrown<Misuse>([&] { copy.try_send(1); }) == text);
  CHECK(thrown<Misuse>([&] { receiver.try_recv(); }) == text);
  CHECK(thrown<Misuse>([&] { receiver.closed(); }) == text);
}

// ------------------------------------------------------------- what it shows

TEST_CASE("channel: a job says what it waits for", "[channel]") {
  play([]() -> Task<> {
    Channel<int> channel(16);
    Numbers got;
    const auto receiver = spawn(receive_one, std::ref(channel), std::ref(got));
    co_await yield_now();
    CHECK(waits_for(receiver) == "channel receive 0/16");
    CHECK(receiver.kill());
    const auto sender = spawn(send_all, std::ref(channel), 0, 17);
    co_await yield_now();
    CHECK(waits_for(sender) == "channel send 16/16");
    CHECK(sender.kill());
  });
}

TEST_CASE("channel: jobs that wait for each other are a deadlock",
          "[channel]") {
  World world;
  Channel<int> channel(0);
  std::string text;
  try {
    world.run(send_one(channel, 1));
  } catch (const Deadlock& e) {
    text = e.what();
  }
  CHECK(contains(text, "channel send 0/0"));
}

// ------------------------------------------------------ kills at every moment

namespace {

/// An item that knows who sent it, and tells when it was lost.
class Parcel {
 public:
  Parcel(int producer, int number, int& lost)
      : producer_(producer), number_(number), lost_(&lost) {}
  Parcel(Parcel&& other) noexcept
      : producer_(other.producer_),
        number_(other.number_),
        lost_(std::exchange(other.lost_, nullptr)) {}
  ~Parcel() {
    if (lost_ != nullptr) ++*lost_;
  }
  int producer() const noexcept { return producer_; }
  int number() const noexcept { return number_; }
  void sign_for() noexcept { lost_ = nullptr; }

 private:
  int producer_;
  int number_;
  int* lost_;
};

/// Producers and consumers at one channel, and a hand that kills them.
class Chaos {
 public:
  explicit Chaos(unsigned seed)
      : random_(seed), channel_(kCapacities[seed % 4]) {}

  Task<> run() {
    for (int i = 0; i < 3; ++i) start_producer();
    for (int i = 0; i < 3; ++i) start_consumer();
    for (int round = 0; round < 60; ++round) {
      co_await yield_now();
      meddle();
    }
    co_await finish();
    check();
  }

 private:
  static constexpr std::size_t kCapacities[] = {0, 1, 2, 5};

  std::size_t below(std::size_t n) { return random_() % n; }
  bool one_in(std::size_t n) { return below(n) == 0; }

  Task<> produce(int producer) {
    for (int number = 0; !stopping_; ++number) {
      ++made_;
      Parcel parcel(producer, number, lost_);
      if (one_in(4)) {
        const bool sent =
            co_await within(1ms, channel_.send(std::move(parcel)));
        accepted_ += sent ? 1 : 0;
      } else if (one_in(8)) {
        accepted_ += channel_.try_send(std::move(parcel)) ? 1 : 0;
      } else {
        co_await channel_.send(std::move(parcel));
        ++accepted_;
      }
      co_await pause();
    }
  }

  Task<> consume() {
    for (;;) {
      if (one_in(4)) {
        auto parcel = co_await within(1ms, channel_.recv());
        if (parcel && !*parcel) co_return;
        if (parcel) take(**parcel);
      } else if (one_in(8)) {
        auto parcel = channel_.try_recv();
        if (parcel) take(*parcel);
      } else {
        auto parcel = co_await channel_.recv();
        if (!parcel) co_return;
        take(*parcel);
      }
      co_await pause();
    }
  }

  // Now and then somebody is slow.
  Task<> pause() {
    const std::size_t kind = below(6);
    if (kind == 0) co_await violet::sleep(1ms);
    if (kind < 3) co_await yield_now();
  }

  void take(Parcel& parcel) {
    parcel.sign_for();
    ++received_;
    const auto [last, first] =
        last_of_.try_emplace(parcel.producer(), parcel.number());
    if (!first) {
      in_order_ = in_order_ && last->second < parcel.number();
      last->second = parcel.number();
    }
  }

  void start_producer() {
    const int name = ++producers_made_;
    const auto body = [this, name]() -> Task<> { return produce(name); };
    producers_.push_back(spawn(body));
  }
  void start_consumer() {
    const auto body = [this]() -> Task<> { return consume(); };
    consumers_.push_back(spawn(body));
  }

  void meddle() {
    if (one_in(3)) {
      kill_one(producers_);
      start_producer();
    }
    if (one_in(3)) {
      kill_one(consumers_);
      start_consumer();
    }
    if (one_in(20)) {
      for (Parcel& parcel : channel_.drain()) take(parcel);
    }
  }

  void kill_one(std::vector<Job<>>& jobs) {
    Job<>& victim = jobs[below(jobs.size())];
    CHECK(victim.kill());
    std::swap(victim, jobs.back());
    jobs.pop_back();
  }

  // In most cases nobody is killed any more, so everyone must end by itself.
  Task<> finish() {
    stopping_ = true;
    if (one_in(4)) {
      for (const Job<>& one : consumers_) CHECK(one.kill());
      for (const Job<>& one : producers_) CHECK(one.kill());
      co_return;
    }
    for (const Job<>& one : producers_) co_await join(one);
    channel_.close();
    for (const Job<>& one : consumers_) co_await join(one);
    CHECK(channel_.size() == 0);
  }

  void check() {
    for (Parcel& parcel : channel_.drain()) take(parcel);
    CHECK(in_order_);
    CHECK(received_ >= accepted_);  // a killed sender may have been done
    CHECK(received_ + lost_ == made_);
  }

  std::mt19937 random_;
  bool stopping_ = false;
  int made_ = 0;
  int accepted_ = 0;
  int received_ = 0;
  int lost_ = 0;  // parcels that died unsigned: never accepted
  bool in_order_ = true;
  std::map<int, int> last_of_;
  int producers_made_ = 0;
  Channel<Parcel> channel_;
  std::vector<Job<>> producers_;
  std::vector<Job<>> consumers_;
};

}  // namespace

TEST_CASE("channel: whoever is killed when, each item arrives once",
          "[channel]") {
  for (unsigned seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    const std::uint8_t budgets[] = {0, 1, 3, 32};
    play(
        [seed]() -> Task<> {
          Chaos chaos(seed);
          co_await chaos.run();
        },
        budgets[seed / 4 % 4]);
  }
}

TEST_CASE("channel: two producers end three consumers once all is received",
          "[channel]") {
  for (const std::size_t capacity : {0u, 1u, 8u}) {
    play_all([capacity]() -> Task<> {
      Channel<int> channel(capacity);
      const auto produce = [](Sender<int> sender, int first) -> Task<> {
        for (int i = 0; i < 50; ++i) co_await sender.send(first + i);
      };
      const auto consume = [](Receiver<int> receiver, Numbers& got) -> Task<> {
        while (auto item = co_await receiver.recv()) got.push_back(*item);
      };
      Numbers got;
      std::vector<Job<>> jobs;
      for (int i = 0; i < 3; ++i) {
        jobs.push_back(spawn(consume, channel.receiver(), std::ref(got)));
      }
      // All handles are made before the first can go.
      jobs.push_back(spawn(produce, channel.sender(), 0));
      jobs.push_back(spawn(produce, channel.sender(), 50));
      for (const Job<>& one : jobs) co_await join(one);
      Numbers all(100);
      std::iota(all.begin(), all.end(), 0);
      std::sort(got.begin(), got.end());
      CHECK(got == all);
      CHECK(channel.closed());
      CHECK(channel.size() == 0);
    });
  }
}

TEST_CASE("channel: one that goes before a wait has begun tells, too",
          "[channel]") {
  const auto body = []() -> Task<> {
    auto channel = std::make_unique<Channel<int>>(0);
    std::string received;
    std::string sent;
    const auto receives = [&]() -> Task<> {
      received = co_await outcome_of_recv(*channel);
    };
    const auto sends = [&]() -> Task<> {
      sent = co_await outcome_of_send(*channel, 1);
    };
    const auto destroys = [&]() -> Task<> {
      channel.reset();
      co_return;
    };
    TaskGroup group;
    group.spawn(receives);
    group.spawn(destroys);
    co_await group.join();
    channel = std::make_unique<Channel<int>>(0);
    group.spawn(sends);
    group.spawn(destroys);
    co_await group.join();
    CHECK(contains(received, "the channel was destroyed while a job waited"));
    CHECK(contains(sent, "the channel was destroyed while a job waited"));
  };
  play(body, 0);
  play(body);
}
