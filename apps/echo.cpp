// echo.cpp - a TCP server that sends back what it receives.
//
// New here: a server is one function for one client. The rest of this file
// is the command line.
// SPDX-License-Identifier: MIT
#include <string>

#include "../net/net.hpp"
#include "args.hpp"

using namespace violet;

namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 4915;
  int loops = 1;
  std::size_t max_connections = 0;
  Duration idle_timeout = Duration::zero();
  Duration grace = std::chrono::seconds(5);
  bool quiet = false;
  bool verbose = false;
};

/// One client: a half-closed one still gets the rest, then the end.
Task<> echo(Connection conn) {
  while (auto data = co_await conn.recv()) co_await conn.sendall(data);
}

ServerOptions options_of(const Settings& settings) {
  ServerOptions options;
  options.grace = settings.grace;
  options.max_connections = settings.max_connections;
  options.idle_timeout = settings.idle_timeout;
  options.log = settings.quiet     ? Log::kErrors
                : settings.verbose ? Log::kVerbose
                                   : Log::kNormal;
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  Args args("echo", "sends back whatever a TCP client sends");
  args.text("--host", "ADDRESS", "where to listen (127.0.0.1)", settings.host);
  args.number("--port", "port, 0 for any free one (4915)", settings.port, 0,
              65535);
  args.number("--loops", "threads, one loop each (1)", settings.loops, 1, 256);
  args.number("--max-connections", "clients at a time, 0: no limit (0)",
              settings.max_connections, 0, 100'000'000);
  args.time("--idle-timeout", "close a client that stalls, 0: never (0)",
            settings.idle_timeout);
  args.time("--grace", "how long clients may finish at the end (5s)",
            settings.grace);
  args.flag("--quiet", "log errors only", settings.quiet);
  args.flag("--verbose", "log clients that vanish, too", settings.verbose);
  args.parse(argc, argv);
  if (settings.host.empty()) args.refuse({"--host needs an address"});
  if (settings.loops > 1 && settings.host.starts_with("unix:")) {
    args.refuse(
        {"--loops needs a TCP address: a unix socket cannot be shared"});
  }
  std::string refusal;
  Address::parse(settings.host, settings.port, refusal);
  if (!refusal.empty()) args.refuse({refusal, ": Invalid argument"});

  return run_server(settings.host, settings.port, echo, options_of(settings),
                    settings.loops);
}
