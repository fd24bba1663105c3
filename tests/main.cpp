// main.cpp - runs the tests, watches over them, and counts descriptors before
// and after.
//
// A test that hangs is named and ends the run: the limit is far beyond what
// any test takes, so it decides nothing else.
//
// A descriptor that some test forgot to close would be found by nobody else:
// the sanitizers see memory only.
//
// SPDX-License-Identifier: MIT
#define CATCH_CONFIG_RUNNER  // version 2: the runner is compiled here

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "catch.hpp"

namespace {

/// One more than the highest descriptor to ask for. Taken once, for a test
/// may change the limit.
int descriptor_end() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

/// How many descriptors are open. Asks for each, since listing /proc/self/fd
/// would need one more, and not every system has it.
int open_descriptors(int end) {
  int count = 0;
  for (int fd = 0; fd < end; ++fd)
    if (fcntl(fd, F_GETFD) != -1) ++count;
  return count;
}

constexpr unsigned kLimitSeconds = 300;
std::string running_test;  // with a newline, for the handler

void on_alarm(int) {
  constexpr char kSays[] = "This test hangs: ";
  [[maybe_unused]] ssize_t n = ::write(2, kSays, sizeof kSays - 1);
  n = ::write(2, running_test.data(), running_test.size());
  ::_exit(1);
}

#if defined(CATCH_VERSION_MAJOR) && CATCH_VERSION_MAJOR == 2
using Listener = Catch::TestEventListenerBase;
#else
using Listener = Catch::EventListenerBase;
#endif

class Watchdog final : public Listener {
 public:
  using Listener::Listener;

  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    running_test = test.name + '\n';
    ::signal(SIGALRM, on_alarm);
    ::alarm(kLimitSeconds);
  }

  void testCaseEnded(const Catch::TestCaseStats&) override { ::alarm(0); }
};

}  // namespace

CATCH_REGISTER_LISTENER(Watchdog)

int main(int argc, char** argv) {
  const int end = descriptor_end();
  const int before = open_descriptors(end);
  const int failed = Catch::Session().run(argc, argv);
#if defined(__linux__) && defined(VIOLET_KQUEUE)
  return failed;  // libkqueue closes its own behind our back
#endif
  const int after = open_descriptors(end);
  if (after == before) return failed;
  std::fprintf(stderr,
               "Some test leaks descriptors: %d were open at the start and %d "
               "are at the end.\n",
               before, after);
  return failed != 0 ? failed : 1;
}
