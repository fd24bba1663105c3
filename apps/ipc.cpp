// ipc.cpp - two processes talk over a pair of sockets, each with its own loop.
//
// New here: messages. A stream has no edges, so each message goes behind its
// size, and read_exactly() puts together what came in pieces. The processes
// part before either of them has a loop: no loop is ever used by two.
// SPDX-License-Identifier: MIT
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <optional>
#include <string>

#include "../net/net.hpp"
#include "args.hpp"
#include "descriptors.hpp"
#include "plain.hpp"

using namespace violet;

namespace {

/// Whole messages over a stream.
class Messages {
 public:
  explicit Messages(Fd socket) : stream_(Connection(std::move(socket))) {}

  /// Returns: false if the other side is gone.
  Task<bool> send(std::string text) {
    std::error_code gone;
    const auto size = static_cast<std::uint32_t>(text.size());
    const char head[] = {static_cast<char>(size >> 24),
                         static_cast<char>(size >> 16),
                         static_cast<char>(size >> 8), static_cast<char>(size)};
    co_await stream_.write(std::string_view(head, sizeof head), gone);
    if (!gone) co_await stream_.sendall(text, gone);
    co_return !gone;
  }

  /// Says that no more will follow.
  Task<> finish() { co_await stream_.shutdown(); }

  /// Returns: nothing once the other side has finished, or is gone.
  /// Throws: EndOfStream if that is within a message.
  Task<std::optional<std::string>> receive() {
    std::error_code gone;
    const auto next = co_await stream_.peek(1, gone);
    if (!next) co_return std::nullopt;
    std::uint32_t size = 0;
    const auto head = co_await stream_.read_exactly(4);
    for (const char byte : head.view()) {
      size = size << 8 | static_cast<unsigned char>(byte);
    }
    if (size > kMostBytes) throw_system(EMSGSIZE, "receive a message");
    const auto text = co_await stream_.read_exactly(size);
    co_return std::string(text.view());
  }

 private:
  static constexpr std::uint32_t kMostBytes = 1 << 20;

  Stream stream_;
};

// -------------------------------------------------------------- the other side

int primes_below(int end) {
  int count = 0;
  for (int n = 2; n < end; ++n) {
    int divisor = 2;
    while (divisor * divisor <= n && n % divisor != 0) ++divisor;
    if (divisor * divisor > n) ++count;
  }
  return count;
}

Task<> answer(Fd socket) {
  Messages messages(std::move(socket));
  for (;;) {
    const auto question = co_await messages.receive();
    if (!question) co_return;
    int end = 0;
    std::from_chars(question->data(), question->data() + question->size(), end);
    const std::string text = concat({primes_below(end), " primes below ", end});
    const bool sent = co_await messages.send(text);
    if (!sent) co_return;
  }
}

// --------------------------------------------------------------- our own side

Task<> send_questions(Messages& messages, int count) {
  for (int i = 1; i <= count; ++i) {
    const std::string end = std::to_string(i * 1000);
    const bool sent = co_await messages.send(end);
    if (!sent) co_return;  // who waits for the answers will tell
  }
  co_await messages.finish();
}

Task<> print_answers(Messages& messages, int count, pid_t other) {
  for (int i = 0;; ++i) {
    const auto text = co_await messages.receive();
    if (!text && i == count) co_return;
    if (!text) throw_system(EPIPE, concat({"receive answer ", i + 1}));
    print_line(concat({"process ", other, " says: ", *text}));
  }
}

Task<> ask(Fd socket, int count, pid_t other) {
  Messages messages(std::move(socket));
  print_line(concat({"process ", ::getpid(), " asks process ", other}));
  co_await all(send_questions(messages, count),
               print_answers(messages, count, other));
}

// ---------------------------------------------------------------- the parting

/// One of the two processes: its end of the pair, and who the other is.
struct Side {
  Fd socket;
  pid_t other = 0;  // 0 in the process that was made
};

Side part() {
  need_descriptors(6);  // the pair, and what a loop has
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
    throw_system(errno, "socketpair");
  }
  Fd ours(pair[0]);
  Fd theirs(pair[1]);
  const pid_t other = ::fork();
  if (other < 0) throw_system(errno, "fork");
  return {std::move(other == 0 ? theirs : ours), other};
}

}  // namespace

int main(int argc, char** argv) {
  int count = 5;
  Args args("ipc", "two processes talk in messages");
  args.number("--questions", "how many (5)", count, 0, 1'000'000);
  args.parse(argc, argv);

  Side side;
  const int failed = run_plainly([&side] { side = part(); });
  if (failed != 0) return failed;
  if (side.other == 0) return run_program(answer(std::move(side.socket)));
  const int code = run_program(ask(std::move(side.socket), count, side.other));
  ::waitpid(side.other, nullptr, 0);  // it ends when our end is closed
  return code;
}
