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
#include "args.hpp"
#include "plain.hpp"

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
  std::string host = "127.0.0.1";
  std::uint16_t port = 4915;
  Args args("echo_blocking",
            "sends back what one TCP client after another sends");
  args.text("--host", "ADDRESS", "where to listen (127.0.0.1)", host);
  args.number("--port", "port, 0 for any free one (4915)", port, 0, 65535);
  args.parse(argc, argv);
  std::string refusal;
  const Address address = Address::parse(host, port, refusal);
  if (!refusal.empty()) args.refuse({refusal, ": Invalid argument"});
  return run_plainly(argv[0], [&] { serve(address); });
}
