// program.cpp - exit codes and last words.
// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>

#include "signals.hpp"

namespace violet {

namespace {

std::atomic<bool> program_runs = false;

/// What main() was called as, without its folders.
const char* own_name() noexcept {
#ifdef __linux__  // musl has no getprogname(3)
  return program_invocation_short_name;
#else
  return ::getprogname();
#endif
}

/// Runs the body. A kill is no news if it was a signal that unwinds.
int code_of(internal::ProgramBody& body) noexcept {
  std::string killed;
  const auto error = caught([&] { body.run(killed); });
  if (!error && killed.empty()) return 0;
  if (error && exception_as<OutputClosed>(error)) return 0;
  const bool by_kill = !error || exception_as<Killed>(error);
  if (by_kill && unwinding_signal() != 0) return 1;
  complain_with([&] { return error ? text_of(error) : killed; });
  return 1;
}

}  // namespace

void fill_standard_descriptors() noexcept {
  int fd = ::open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= 2) fd = ::open("/dev/null", O_RDWR);
  if (fd > 2) ::close(fd);
}

bool in_program() noexcept {
  return program_runs;
}

void print_line(std::string_view line) {
  std::string text(line);
  text.push_back('\n');
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->write(1, rest.data(), rest.size()); });
    if (count == -EAGAIN) {  // somebody else made it so; see fd.hpp
      pollfd room{1, POLLOUT, 0};
      sys::calls->poll(&room, 1, -1);
      continue;
    }
    if (count == -EPIPE && in_program()) throw_error(OutputClosed());
    if (count < 0) throw_system(static_cast<int>(-count), "write stdout");
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
}

int internal::run_body(ProgramBody& body) noexcept {
  fill_standard_descriptors();
  const WriteSignalsIgnored no_signals;  // for last words, too
  const SignalHandlers handlers;         // until the last destructor has run
  name_program(own_name());
  const bool inside_another = program_runs.exchange(true);
  const int code = code_of(body);
  program_runs = inside_another;
  return unwinding_signal() != 0 ? 128 + unwinding_signal() : code;
}

int run_program(Task<> root) noexcept {
  class Body final : public internal::ProgramBody {
   public:
    explicit Body(Task<> task) noexcept : root_(std::move(task)) {}
    void run(std::string& killed) override {
      Loop loop;
      const SignalListener listener(loop);
      loop.run_killable(std::move(root_), killed);
    }

   private:
    Task<> root_;
  };
  Body body(std::move(root));
  return internal::run_body(body);
}

}  // namespace violet
