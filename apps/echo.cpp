// echo.cpp - a TCP server that sends back what it receives.
//
// New here: a server is one function for one client. The rest of this file
// is the command line.
// SPDX-License-Identifier: MIT
#include <atomic>
#include <optional>
#include <string>
#include <vector>

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

/// The same for a client that must neither be silent nor read nothing for too
/// long.
Task<> echo_with_timeout(Connection conn, Duration limit) {
  for (;;) {
    const auto data = co_await within(limit, conn.recv());
    if (!data || !*data) co_return;
    std::string_view rest = data->view();
    while (!rest.empty()) {
      const auto sent = co_await within(limit, conn.send(rest));
      if (!sent) co_return;
      rest.remove_prefix(*sent);
    }
  }
}

ServerOptions options_of(const Settings& settings) {
  ServerOptions options;
  options.grace = settings.grace;
  options.log = settings.quiet     ? Log::kErrors
                : settings.verbose ? Log::kVerbose
                                   : Log::kNormal;
  return options;
}

/// What the loops have in common.
class EchoServer {
 public:
  explicit EchoServer(const Settings& settings) : settings_(settings) {
    if (settings.max_connections > 0) limit_.emplace(settings.max_connections);
  }

  /// Binds for all loops.
  void open() {
    sockets_ = listen_sockets(Address::parse(settings_.host, settings_.port),
                              static_cast<std::size_t>(settings_.loops));
    print_line(concat({program_name(), ": listening on ",
                       local_address(sockets_[0].get()).text()}));
  }

  /// The server of one loop.
  Task<> run(int index) {
    Listener listener(std::move(sockets_[static_cast<std::size_t>(index)]));
    ServerOptions options = options_of(settings_);
    if (limit_) options.shared_limit = &*limit_;
    auto handler = [limit = settings_.idle_timeout](Connection conn) {
      return limit == Duration::zero()
                 ? echo(std::move(conn))
                 : echo_with_timeout(std::move(conn), limit);
    };
    const ServerSummary done =
        co_await serve(std::move(listener), handler, options);
    served_ += done.served;
    cut_ += done.cut;
    if (--running_ == 0) print_summary();
  }

 private:
  void print_summary() const {
    if (settings_.quiet) return;
    ServerSummary all;
    all.served = served_;
    all.cut = cut_;
    complain(all.text());
  }

  const Settings& settings_;
  std::optional<ConnectionLimit> limit_;
  std::vector<Fd> sockets_;                     // each loop takes its own
  std::atomic<int> running_ = settings_.loops;  // loops that still serve
  std::atomic<std::uint64_t> served_ = 0;
  std::atomic<std::uint64_t> cut_ = 0;
};

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

  EchoServer server(settings);
  return run_program(
      settings.loops, [&server] { server.open(); },
      [&server](int index) { return server.run(index); });
}
