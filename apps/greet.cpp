// greet.cpp - a TCP server that greets each client after a second.
//
// New here: a handler may take its time. A hundred clients at once are
// answered after one second, not a hundred. Two side jobs run beside the
// server; all() waits for the three, and fails as soon as one of them does.
// SPDX-License-Identifier: MIT
#include <array>
#include <string>

#include "../net/net.hpp"
#include "args.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8888;
  Duration delay = 1s;
  Duration grace = 5s;
  bool quiet = false;
  bool verbose = false;
};

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

Task<> greet_all(Settings settings) {
  ServerOptions options;
  options.grace = settings.grace;
  options.log = settings.quiet     ? Log::kErrors
                : settings.verbose ? Log::kVerbose
                                   : Log::kNormal;
  auto handler = [=](Connection conn) {
    return greet(std::move(conn), settings.delay, settings.quiet);
  };
  co_await all(server(settings.host, settings.port, handler, options),
               work_beside("some other job", settings.verbose),
               work_beside("another job", settings.verbose));
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  Args args("greet", "greets each TCP client after a second");
  args.text("--host", "ADDRESS", "where to listen (127.0.0.1)", settings.host);
  args.number("--port", "port, 0 for any free one (8888)", settings.port, 0,
              65535);
  args.time("--delay", "how long a greeting takes (1s)", settings.delay);
  args.time("--grace", "how long clients may finish at the end (5s)",
            settings.grace);
  args.flag("--quiet", "log errors only", settings.quiet);
  args.flag("--verbose", "let the side jobs speak, too", settings.verbose);
  args.parse(argc, argv);
  std::string refusal;
  Address::parse(settings.host, settings.port, refusal);
  if (!refusal.empty()) args.refuse({refusal, ": Invalid argument"});
  return run_program(greet_all(settings));
}
