// greet.cpp - a TCP server that greets each client after a second.
//
// New here: a handler may take its time. A hundred clients at once are
// answered after one second, not a hundred. Two side jobs run beside the
// server; all() waits for the three, and fails as soon as one of them does.
// SPDX-License-Identifier: MIT
#include <array>
#include <string>

#include "../net/net.hpp"
#include "server_args.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

/// What a client sent, so that it cannot spoil a terminal or forge a line.
std::string quoted(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string quoted = "'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    } else {
      quoted += c;
    }
  }
  return quoted + '\'';
}

/// One client: one message, one answer.
Task<> greet(Connection conn, Duration delay, bool quiet) {
  std::array<char, 1024> buffer;
  const std::size_t count = co_await conn.recv(buffer);
  if (count == 0) co_return;
  const std::string message(buffer.data(), count);
  if (!quiet) {
    complain(
        concat({"Received ", quoted(message), " from ", conn.peer().text()}));
  }
  co_await violet::sleep(delay);
  co_await conn.sendall("Hello, " + message);
}

/// Runs beside the server, until that is asked to stop.
Task<> work_beside(const char* name, bool verbose) {
  for (;;) {
    const bool stopped = co_await within(1s, stopping());
    if (stopped) co_return;
    if (verbose) complain(concat({name, " goes on"}));
  }
}

Task<> greet_all(ServerArgs args, Duration delay) {
  auto handler = [quiet = args.quiet(), delay](Connection conn) {
    return greet(std::move(conn), delay, quiet);
  };
  co_await all(server(args.host(), args.port(), handler, args.options()),
               work_beside("some other job", args.verbose()),
               work_beside("another job", args.verbose()));
}

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(8888);
  Duration delay = 1s;
  Args args("greet", "greets each TCP client after a second");
  server.add_where(args, "port, 0 for any free one (8888)");
  args.time("--delay", "how long a greeting takes (1s)", delay);
  server.add_manners(args, "let the side jobs speak, too");
  args.parse(argc, argv);
  server.address(args);
  return run_program(greet_all(server, delay));
}
