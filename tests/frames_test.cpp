// frames_test.cpp - where frames get their memory, and how deep they stack.
// SPDX-License-Identifier: MIT
#include "../runtime/frames.hpp"

#include <cstdint>
#include <set>
#include <thread>

#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;

namespace {

/// Has `left` more blocks of memory to give.
class ScarceMemory : public sys::Calls {
 public:
  explicit ScarceMemory(int left) : left_(left) {}
  void* allocate(std::size_t size) noexcept override {
    if (left_ == 0) return nullptr;
    --left_;
    return Calls::allocate(size);
  }

 private:
  int left_;
};

Task<int> depth(int levels) {
  if (levels == 0) co_return 0;
  const int below = co_await depth(levels - 1);
  co_return below + 1;
}

Task<> wait_deep_down(int levels, Gate& gate, Order& order) {
  const Noted noted(order, std::to_string(levels));
  if (levels == 0) {
    co_await gate.pass();
  } else {
    co_await wait_deep_down(levels - 1, gate, order);
  }
}

Task<> wait_silently(int levels, Gate& gate) {
  const Tracked tracked;
  if (levels == 0) {
    co_await gate.pass();
  } else {
    co_await wait_silently(levels - 1, gate);
  }
}

Task<> throw_deep_down(int levels, Order& order) {
  const Noted noted(order, std::to_string(levels));
  if (levels == 0) throw std::runtime_error("from below");
  co_await throw_deep_down(levels - 1, order);
}

bool is_aligned(const void* memory) {
  return reinterpret_cast<std::uintptr_t>(memory) % 16 == 0;
}

}  // namespace

TEST_CASE("frames: memory of every size is aligned and apart", "[frames]") {
  FramePool pool;
  struct Block {
    unsigned char* memory;
    std::size_t bytes;
  };
  std::vector<Block> blocks;
  for (std::size_t bytes = 1; bytes <= 2300; bytes += 7) {
    auto* memory = static_cast<unsigned char*>(pool.take(bytes));
    REQUIRE(is_aligned(memory));
    std::memset(memory, static_cast<int>(bytes % 251), bytes);
    blocks.push_back({memory, bytes});
  }
  CHECK(pool.live() == blocks.size());
  bool intact = true;
  for (const Block& block : blocks) {
    for (std::size_t i = 0; i < block.bytes; ++i) {
      intact = intact && block.memory[i] == block.bytes % 251;
    }
    pool.give_back(block.memory, block.bytes);
  }
  CHECK(intact);
  CHECK(pool.live() == 0);
  pool.release();
}

TEST_CASE("frames: what was given back is used again for its size class",
          "[frames]") {
  if (!kPooled) return;
  FramePool pool;
  void* first = pool.take(100);
  void* other = pool.take(100);
  pool.give_back(first, 100);
  CHECK(pool.take(200) != first);
  CHECK(pool.take(97) == first);
  CHECK(pool.live() == 3);
  pool.give_back(first, 100);
  pool.give_back(other, 100);
  CHECK(pool.take(112) == other);
  CHECK(pool.take(112) == first);
}

TEST_CASE("frames: frames above two kibibytes come from malloc and go back",
          "[frames]") {
  FramePool pool;
  void* small = pool.take(2048);
  void* large = pool.take(2049);
  CHECK(pool.live() == 2);
  pool.give_back(large, 2049);
  CHECK(pool.live() == 1);
  pool.give_back(small, 2048);
  CHECK(pool.live() == 0);
  pool.release();
}

TEST_CASE("frames: a pool in use is not released", "[frames]") {
  FramePool pool;
  auto* memory = static_cast<unsigned char*>(pool.take(64));
  std::memset(memory, 1, 64);
  pool.release();
  CHECK(pool.live() == 1);
  std::memset(memory, 2, 64);
  pool.give_back(memory, 64);
  pool.release();
  CHECK(pool.live() == 0);
  pool.give_back(pool.take(64), 64);
  pool.release();
}

TEST_CASE("frames: without memory a call throws bad_alloc, and nothing leaks",
          "[frames]") {
  FramePool pool;
  ScarceMemory none(0);
  const ScopedCalls guard(none);
  CHECK_THROWS_AS(pool.take(64), std::bad_alloc);
  CHECK_THROWS_AS(pool.take(4096), std::bad_alloc);
  CHECK(pool.live() == 0);
}

TEST_CASE("frames: a pool can be told to ask for each block", "[frames]") {
  FramePool pool;
  void* block = pool.take(64);
  CHECK_FALSE(pool.stop_pooling());
  CHECK(pool.pooling());
  pool.give_back(block, 64);
  CHECK(pool.stop_pooling());
  CHECK_FALSE(pool.pooling());

  block = pool.take(64);
  CHECK(pool.live() == 1);
  {
    ScarceMemory none(0);
    const ScopedCalls guard(none);
    CHECK_THROWS_AS(pool.take(64), std::bad_alloc);
  }
  pool.release();
  CHECK_FALSE(pool.pooling());
  // What was taken by itself goes back by itself, whatever comes between.
  pool.resume_pooling();
  void* other = pool.take(64);
  pool.give_back(block, 64);
  pool.give_back(other, 64);
  CHECK(pool.live() == 0);
  pool.give_back(pool.take(64), 64);
  CHECK(pool.live() == 0);
  pool.release();
}

TEST_CASE("frames: a caller catches the bad_alloc of the call it makes",
          "[frames]") {
  const std::size_t before = frame_pool.live();
  // Bigger than any class, so that it asks for memory with a pool too.
  static char* volatile seen;
  const auto large = []() -> Task<int> {
    char block[8192];
    seen = block;  // or clang would not keep it
    co_await yield_now();
    co_return seen[100] = 1;
  };
  // Through a pointer, or clang would put its frame into the caller's.
  Task<int> (*volatile call)() = large;
  const auto caller = [&]() -> Task<bool> {
    ScarceMemory none(0);
    const ScopedCalls guard(none);
    try {
      co_await call();
    } catch (const std::bad_alloc&) {
      co_return true;
    }
    co_return false;
  };
  CHECK(in_virtual_time(caller));
  CHECK(frame_pool.live() == before);
}

TEST_CASE("frames: a call as deep as memory goes needs no native stack",
          "[frames]") {
  const int levels = kSanitized ? 50'000 : 500'000;
  CHECK(in_virtual_time(depth, levels) == levels);
}

TEST_CASE("frames: a kill unwinds from the top of the stack down", "[frames]") {
  Order order;
  Gate gate;
  const std::size_t before = frame_pool.live();
  const auto body = [&]() -> Task<> {
    const Job<> job = spawn([&] { return wait_deep_down(3, gate, order); });
    co_await yield_now();
    CHECK(order.empty());
    CHECK(job.kill());
    CHECK(order == Order{"0", "1", "2", "3"});
    CHECK(gate.deserted());
  };
  in_virtual_time(body);
  CHECK(frame_pool.live() == before);
}

TEST_CASE("frames: a kill of a very deep stack needs no native stack",
          "[frames]") {
  const int levels = kSanitized ? 50'000 : 500'000;
  Gate gate;
  const int before = Tracked::alive();
  const auto body = [&]() -> Task<> {
    const Job<> job = spawn([&] { return wait_silently(levels, gate); });
    co_await yield_now();
    CHECK(Tracked::alive() == before + levels + 1);
    CHECK(job.kill());
    CHECK(Tracked::alive() == before);
  };
  in_virtual_time(body);
}

TEST_CASE("frames: an exception unwinds in the same order", "[frames]") {
  Order order;
  const std::size_t before = frame_pool.live();
  CHECK_THROWS_WITH(in_virtual_time(throw_deep_down, 2, order), "from below");
  CHECK(order == Order{"0", "1", "2"});
  CHECK(frame_pool.live() == before);
}

TEST_CASE("frames: a task that nobody awaits is destroyed unrun", "[frames]") {
  const std::size_t before = frame_pool.live();
  Order order;
  // Through a pointer, as above.
  Task<> (*volatile make)(int, Order&) = throw_deep_down;
  {
    const Task<> unused = make(2, order);
    CHECK(frame_pool.live() == before + 1);
  }
  CHECK(frame_pool.live() == before);
  CHECK(order.empty());
}

TEST_CASE("frames: nothing is resumed from a destructor", "[frames]") {
  // A killed job opens a gate as its frame dies. Who waited there goes on
  // in a step of its own, after the whole kill.
  Gate first;
  Gate second;
  Order order;
  struct Opener {
    Gate& gate;
    Order& order;
    ~Opener() {
      gate.open();
      order.push_back("opened");
    }
  };
  const auto victim = [&]() -> Task<> {
    const Opener opener{second, order};
    co_await first.pass();
  };
  const auto waiter = [&]() -> Task<> {
    co_await second.pass();
    order.push_back("passed");
  };
  const auto body = [&]() -> Task<> {
    const Job<> a = spawn(victim);
    const Job<> b = spawn(waiter);
    co_await yield_now();
    CHECK(a.kill());
    order.push_back("killed");
    CHECK_FALSE(b.ended());
    co_await join(b);
  };
  in_virtual_time(body);
  CHECK(order == Order{"opened", "killed", "passed"});
}

TEST_CASE("frames: each thread has a pool of its own", "[frames][threads]") {
  const std::size_t before = frame_pool.live();
  std::size_t at_start = 1;
  std::size_t at_end = 1;
  int result = 0;
  Thread([&] {
    at_start = frame_pool.live();
    result = in_virtual_time(depth, 100);
    at_end = frame_pool.live();
  }).join();
  CHECK(at_start == 0);
  CHECK(result == 100);
  CHECK(at_end == 0);
  CHECK(frame_pool.live() == before);
}
