// delegation.cpp - values and errors pass through calls, and a kill through
// all.
//
// New here: `co_await f()` calls another task, as deep as one likes. What it
// returns or throws arrives at the co_await. A kill takes a job's calls away,
// the innermost first, and their destructors run; no catch sees it.
// SPDX-License-Identifier: MIT
#include <cstdio>
#include <stdexcept>
#include <string>

#include "../net/net.hpp"
#include "args.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

/// Says when it is destroyed. Not by print_line, which may throw.
class Tidy {
 public:
  explicit Tidy(const char* whose) : whose_(whose) {}
  Tidy(const Tidy&) = delete;
  ~Tidy() {
    std::printf("  %s tidies up\n", whose_);
    std::fflush(stdout);
  }

 private:
  const char* whose_;
};

// ---------------------------------------------------------------------- values

Task<int> square(int n) {
  co_await yield_now();  // lets every other job go first
  co_return n* n;
}

Task<int> sum_of_squares(int a, int b) {
  const int first = co_await square(a);
  co_return first + co_await square(b);
}

// ---------------------------------------------------------------------- errors

Task<> parse(std::string word) {
  const Tidy tidy("parse");
  co_await yield_now();
  throw std::invalid_argument("'" + word + "' is no number");
}

Task<> read_settings() {
  const Tidy tidy("read_settings");
  co_await parse("twelve");
}

// ------------------------------------------------------------------------ kill

Task<> wait_for_ever() {
  const Tidy tidy("wait_for_ever");
  co_await violet::sleep(24h);
}

Task<> serve_nobody() {
  const Tidy tidy("serve_nobody");
  try {
    co_await wait_for_ever();
  } catch (...) {
    print_line("  never printed: a kill is no exception");
  }
}

Task<> delegation() {
  const int sum = co_await sum_of_squares(3, 4);
  print_line(concat({"a value: 3 * 3 + 4 * 4 is ", sum}));

  print_line("an error, thrown two calls deeper:");
  try {
    co_await read_settings();
  } catch (const std::invalid_argument& error) {
    print_line(concat({"  caught: ", error.what()}));
  }

  print_line("a kill, two calls deep:");
  Job<> job = spawn(serve_nobody);
  co_await yield_now();  // now it waits
  co_await kill(job, "no longer needed");
  try {
    co_await join(job);
  } catch (const Killed& news) {
    print_line(concat({"  joined: ", news.what()}));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Args("delegation", "calls that wait: values, errors, a kill")
      .parse(argc, argv);
  return run_program(delegation());
}
