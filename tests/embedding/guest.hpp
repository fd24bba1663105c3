// guest.hpp - a loop that is a guest in another one, and what it is to do.
//
// Each program beside this one is a host. First there is work of every kind:
// timers, posts from another thread, sockets, a signal, and work that the host
// makes between two turns. Then there is nothing but a timer that is an hour
// away, and the turns are counted that the host gives all the same. At last
// the host kills the last job, and must find out that the loop has no work.
//
// A host calls turn() when fd() is readable or the time has come, and tick()
// every millisecond by a timer of its own, for as long as that returns true.
//
// SPDX-License-Identifier: MIT
#pragma once

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <violet.hpp>

#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace violet;
using namespace std::chrono_literals;

class Guest {
 public:
  Guest() {
    loop.spawn([](Guest* self) -> Task<> { return self->work(); }, this);
  }
  Guest(const Guest&) = delete;
  ~Guest() {
    if (poster_.joinable()) poster_.join();
  }

  /// One turn. Returns: true while there are jobs.
  bool turn() {
    ++turns_;
    return loop.run_once();
  }

  /// The host's own timer. Returns: true while the host is to have one.
  bool tick() {
    ++ticks_;
    if (ticks_ == 3) ::kill(::getpid(), SIGUSR2);
    if (ticks_ == 5) loop.spawn(open, this);
    if (idle_since_ != 0 && ticks_ == idle_since_ + 20) turns_at_rest_ = turns_;
    if (idle_since_ != 0 && ticks_ == idle_since_ + 120) {
      std::printf("turns while idle: %d\n", turns_ - turns_at_rest_);
      last_.kill();
      return false;
    }
    return true;
  }

  Loop loop;

 private:
  Task<> work() {
    Signals news({SIGUSR2});
    {
      TaskGroup group;
      group.spawn(timers, this);
      group.spawn(posts, this);
      group.spawn(sockets, this);
      const int which = co_await news.next();
      if (which == SIGUSR2) std::puts("signal");
      co_await opened_.wait();
      std::puts("work of the host");
      co_await group.join();
    }
    std::printf("timers %d, posts %d, bytes %d\n", timers_, posts_, bytes_);
    last_ = loop.spawn(rest);
    idle_since_ = ticks_;
  }

  static Task<> rest() { co_await violet::sleep(1h); }

  static Task<> open(Guest* self) {
    co_await yield_now();
    self->opened_.set();
  }

  static Task<> timers(Guest* self) {
    for (; self->timers_ < 10; ++self->timers_) co_await violet::sleep(2ms);
  }

  static Task<> posts(Guest* self) {
    Oneshot<> last;
    auto setter = last.remote_setter();
    self->poster_ = std::thread([self, setter, remote = self->loop.remote()] {
      for (int i = 0; i < 100; ++i) {
        remote.post([self] { ++self->posts_; });
        if (i % 10 == 0) std::this_thread::sleep_for(1ms);
      }
      remote.post([setter] { setter(); });
    });
    co_await last.get();
    self->poster_.join();
  }

  static Task<> echo(Descriptor far) {
    char buffer[16];
    for (;;) {
      const std::size_t count = co_await read(far, buffer);
      if (count == 0) co_return;
      co_await write(far, std::string_view(buffer, count));
    }
  }

  static Task<> sockets(Guest* self) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) std::abort();
    const Descriptor near = adopt(Fd(ends[0]));
    TaskGroup group;
    group.spawn(echo, adopt(Fd(ends[1])));
    char buffer[16];
    for (int i = 0; i < 100; ++i) {
      co_await write(near, "x");
      const std::size_t count = co_await read(near, buffer);
      self->bytes_ += static_cast<int>(count);
    }
  }

  int timers_ = 0;
  int posts_ = 0;
  int bytes_ = 0;
  int turns_ = 0;
  int turns_at_rest_ = 0;
  int ticks_ = 0;
  int idle_since_ = 0;  // in ticks; 0: there is work
  Flag opened_;
  Job<> last_;
  std::thread poster_;
};
