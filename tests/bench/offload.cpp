// offload.cpp - what a hop to another thread and back costs, and posts.
//
// The bar is the same hop by hand: a thread, a mutex, a condition variable,
// an eventfd that epoll watches. Both are measured in turn on one processor,
// and what counts is the median of the ratios. With two processors the system
// may put the threads on one or on both, which makes a factor of ten and says
// nothing of either.
//
// SPDX-License-Identifier: MIT
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#endif

#include "../../runtime/events.hpp"
#include "../../runtime/offload.hpp"
#include "bench.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

using Nanoseconds = std::chrono::duration<double, std::nano>;

template <class F>
double nanoseconds_of(long count, F f) {
  const auto start = Clock::now();
  f(count);
  const Nanoseconds took = Clock::now() - start;
  return took.count() / static_cast<double>(count);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Task<> calls(OffloadPool& pool, long count) {
  for (long i = 0; i < count; ++i) co_await offload(pool, [] {});
}

#if defined(__linux__)

/// A thread to which one call at a time is handed.
class Bare {
 public:
  Bare() {
    epoll_event event{};
    event.events = EPOLLIN;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, back_, &event);
    thread_ = std::thread([this] { serve(); });
  }
  ~Bare() {
    hand_over(kEnd);
    thread_.join();
    ::close(back_);
    ::close(epoll_);
  }
  void calls(long count) {
    for (long i = 0; i < count; ++i) {
      hand_over(kCall);
      epoll_event event;
      std::uint64_t number;
      if (::epoll_wait(epoll_, &event, 1, -1) != 1) std::abort();
      if (::read(back_, &number, sizeof number) < 0) std::abort();
    }
  }

 private:
  enum What { kNothing, kCall, kEnd };

  void hand_over(What what) {
    {
      const std::lock_guard lock(mutex_);
      next_ = what;
    }
    comes_.notify_one();
  }
  void serve() {
    for (;;) {
      std::unique_lock lock(mutex_);
      while (next_ == kNothing) comes_.wait(lock);
      if (std::exchange(next_, kNothing) == kEnd) return;
      lock.unlock();
      const std::uint64_t one = 1;
      if (::write(back_, &one, sizeof one) < 0) std::abort();
    }
  }

  int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  int back_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::mutex mutex_;
  std::condition_variable comes_;
  What next_ = kNothing;
  std::thread thread_;
};

/// Keeps this thread, and those that it makes, on the processor where it is.
void stay_here() {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<unsigned>(::sched_getcpu()), &here);
  ::sched_setaffinity(0, sizeof here, &here);
}

void compare_hops() {
  constexpr int kRounds = 201;
  constexpr long kCalls = 200;
  cpu_set_t before;
  ::sched_getaffinity(0, sizeof before, &before);
  stay_here();
  OffloadPool pool(1);
  Loop loop;
  Bare bare;
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<double> ratios;
  for (int round = 0; round < kRounds; ++round) {
    const auto our = [&](long n) { loop.run(::calls(pool, n)); };
    const auto their = [&](long n) { bare.calls(n); };
    const bool first = round % 2 == 0;  // who begins must not matter
    if (first) ours.push_back(nanoseconds_of(kCalls, our));
    theirs.push_back(nanoseconds_of(kCalls, their));
    if (!first) ours.push_back(nanoseconds_of(kCalls, our));
    ratios.push_back(ours.back() / theirs.back());
  }
  std::printf("%-58s %8.0f ns\n", "a hop by hand, median", median(theirs));
  std::printf("%-58s %8.0f ns\n", "co_await offload([] {}), median",
              median(ours));
  std::printf("%-58s %8.2f (at most 1.10)\n", "their ratio, median",
              median(ratios));
  ::sched_setaffinity(0, sizeof before, &before);
}

#else

void compare_hops() {
  OffloadPool pool(1);
  Loop loop;
  bench("co_await offload([] {})", 5000,
        [&](long n) { loop.run(::calls(pool, n)); });
}

#endif

/// How long after the call of post() an idle loop runs what was posted.
void measure_posts() {
  constexpr int kPosts = 1000;
  std::vector<double> delays;
  bool done = false;
  Loop loop;
  std::thread poster([&, remote = loop.remote()] {
    for (int i = 0; i < kPosts; ++i) {
      std::this_thread::sleep_for(200us);  // so that the loop is idle
      const TimePoint posted = Clock::now();
      remote.post([&delays, posted] {
        delays.push_back(Nanoseconds(Clock::now() - posted).count());
      });
    }
    remote.post([&] {
      done = true;
      loop.stop();
    });
  });
  const auto body = [&]() -> Task<> { co_await stopping(); };
  loop.run(body());
  poster.join();
  std::sort(delays.begin(), delays.end());
  std::printf("%-58s %8.0f ns\n", "an idle loop wakes for a post, median",
              median(delays));
  std::printf("%-58s %8.0f ns (at most 5 ms)\n", "  the 99th of a hundred",
              delays[delays.size() * 99 / 100]);
}

}  // namespace

int main() {
  compare_hops();
  measure_posts();
}
