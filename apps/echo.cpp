// echo.cpp - a TCP server that sends back what it receives.
//
// New here: a server is one function for one client. The rest of this file
// is the command line.
// SPDX-License-Identifier: MIT
#include <string>

#include "../net/net.hpp"
#include "server_args.hpp"

using namespace violet;

namespace {

/// One client: a half-closed one still gets the rest, then the end.
Task<> echo(Connection conn) {
  while (auto data = co_await conn.recv()) co_await conn.sendall(data);
}

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(4915);
  int loops = 1;
  std::size_t max_connections = 0;
  Duration idle_timeout = Duration::zero();
  Args args("echo", "sends back whatever a TCP client sends");
  server.add_where(args, "port, 0 for any free one (4915)");
  args.number("--loops", "threads, one loop each (1)", loops, 1, 256);
  args.number("--max-connections", "clients at a time, 0: no limit (0)",
              max_connections, 0, 100'000'000);
  args.time("--idle-timeout", "close a client that stalls, 0: never (0)",
            idle_timeout);
  server.add_manners(args);
  args.parse(argc, argv);
  if (loops > 1 && server.host().starts_with("unix:")) {
    args.refuse(
        {"--loops needs a TCP address: a unix socket cannot be shared"});
  }
  server.address(args);

  ServerOptions options = server.options();
  options.max_connections = max_connections;
  options.idle_timeout = idle_timeout;
  return run_server(server.host(), server.port(), echo, options, loops);
}
