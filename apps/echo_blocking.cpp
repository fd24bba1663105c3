// echo_blocking.cpp - the echo server without a loop: plain blocking calls.
//
// New here: nothing, and that is the point. It is the shortest of the three
// echo servers and reads from top to bottom. But while it waits in recv(2)
// for its first client, the second one waits, too, however long that takes.
//
// See: echo_callbacks.cpp, which serves all at once and is read by nobody;
// echo.cpp, which is read as this one and serves as that one.
// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "../net/net.hpp"
#include "plain.hpp"
#include "server_args.hpp"

using namespace violet;

namespace {

/// Returns: false if the client is gone.
bool send_all(int client, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(client, data.data(), data.size(), 0);
    if (sent < 0) return false;
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void echo(int client) {
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t count = ::recv(client, buffer, sizeof buffer, 0);
    if (count <= 0) return;
    if (!send_all(client, {buffer, static_cast<std::size_t>(count)})) return;
  }
}

void serve(const Address& address) {
  const Fd listener = listen_socket(address);
  ::fcntl(listener.get(), F_SETFL, 0);  // the library made it non-blocking
  print_line(concat({program_name(), ": listening on ",
                     local_address(listener.get()).text()}));
  for (;;) {
    const Fd client(::accept(listener.get(), nullptr, nullptr));
    if (client) {
      echo(client.get());
    } else if (errno != ECONNABORTED) {
      throw_system(errno, "accept");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(4915);
  Args args("echo_blocking",
            "sends back what one TCP client after another sends");
  server.add_where(args, "port, 0 for any free one (4915)");
  args.parse(argc, argv);
  const Address address = server.address(args);
  return run_plainly([&] { serve(address); });
}
