// program.hpp - the manners of a program on a command line.
//
// Failures are one line on stderr and exit code 1. Signals are heeded as
// signals.hpp tells. Output that nobody reads any more ends a program
// quietly; output that cannot be written is a failure.
//
// Built on: signals, loops.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "loops.hpp"
#include "scheduler.hpp"

namespace violet {

/// Runs a program: `return run_program(task());` is all of its main().
/// Returns: the exit code. 0 if the task returned; 1 if it failed, after one
/// line on stderr that begins with the program's name; 128 + number if a
/// signal unwound it.
int run_program(Task<> root) noexcept;

/// The same on `count` loops, each with the task that `function(index)`
/// makes, after `prepare()` has been called once. See run_loops.
template <class Prepare, class F>
int run_program(int count, Prepare&& prepare, F&& function) noexcept;

template <class F>
int run_program(int count, F&& function) noexcept {
  return run_program(count, [] {}, function);
}

/// Writes a line to stdout, at once, and blocks until it is taken. In a
/// program, a stdout that nobody reads any more ends it quietly.
/// Throws: std::system_error "write stdout: No space left on device".
void print_line(std::string_view line);

/// Opens /dev/null as whichever of the descriptors 0, 1 and 2 are closed, so
/// that none of ours becomes one of them: what is meant for the terminal would
/// go into it. run_program() does so.
void fill_standard_descriptors() noexcept;

/// True while run_program runs.
bool in_program() noexcept;

namespace internal {

/// Calls `run()`, which may throw, with the manners of a program.
class ProgramBody {
 public:
  virtual ~ProgramBody() = default;
  virtual void run(std::string& killed) = 0;  // as Loop::run_killable
};
int run_body(ProgramBody& body) noexcept;

}  // namespace internal

template <class Prepare, class F>
int run_program(int count, Prepare&& prepare, F&& function) noexcept {
  class Body final : public internal::ProgramBody {
   public:
    Body(int loops, Prepare& before, F& f) noexcept
        : loops_(loops), prepare_(before), function_(f) {}
    void run(std::string& killed) override {
      prepare_();
      run_loops_killable(loops_, function_, killed, true);
    }

   private:
    int loops_;
    Prepare& prepare_;
    F& function_;
  };
  Body body(count, prepare, function);
  return internal::run_body(body);
}

}  // namespace violet
