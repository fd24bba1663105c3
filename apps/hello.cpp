// hello.cpp - two jobs greet, wait a second, and greet again.
//
// New here: a Task is a function that can wait. While one sleeps the other
// runs, on the same thread, so both are done after one second and not two.
// SPDX-License-Identifier: MIT
#include <sstream>
#include <string>
#include <thread>

#include "../net/net.hpp"
#include "args.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

void say(const std::string& words) {
  std::ostringstream line;
  line << words << " (thread " << std::this_thread::get_id() << ")";
  print_line(line.str());
}

Task<> hello() {
  say("Hello World!");
  co_await violet::sleep(1s);
  say("Hello Again!");
}

Task<> both() {
  co_await all(hello(), hello());
}

}  // namespace

int main(int argc, char** argv) {
  Args("hello", "two jobs say hello on one thread").parse(argc, argv);
  return run_program(both());
}
