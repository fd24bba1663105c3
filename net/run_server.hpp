// run_server.hpp - one server on several loops, as a whole program.
//
// The idea: loops share nothing, so each has a listener of its own on the one
// port, and the kernel spreads the clients. What they do have in common is
// the limits, the stop and the summary; that is what this file adds to
// serve() and run_loops().
//
// Built on: server; runtime/program.
// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../runtime/program.hpp"
#include "server.hpp"

namespace violet {

/// One server on several loops. Lifetime: outlives the loops that run it.
class LoopsServer : private internal::StopHook {
 public:
  /// For `loops` loops. The limits of the options hold for all together;
  /// only ServerOptions::max_waiting counts in each.
  LoopsServer(int loops, const ServerOptions& options);

  /// Binds and listens, for all loops: from then on clients can connect. In a
  /// program it says on stdout where. Called once, before run(), on the thread
  /// of loop 0.
  /// Throws: std::system_error; Misuse for a unix socket and several loops.
  void listen(const Address& address, ListenOptions options = ListenOptions());

  /// Where it listens; a port of 0 has become a real one.
  const Address& address() const noexcept { return address_; }

  /// The server of loop `index`, which has the handler for itself. Ends when
  /// its loop is asked to stop; the others are asked then, too. In a program
  /// the last to end says on stderr what they have done.
  template <class Handler>
  Task<> run(int index, Handler handler,
             std::source_location where = std::source_location::current()) {
    internal::Service<Handler> service(take_listener(index), std::move(handler),
                                       options_, where);
    co_await service.handlers.run();
    note(service.handlers.summary());
  }

  /// What the loops have done that have ended.
  ServerSummary summary() const;

 private:
  std::vector<Listener> take_listener(int index);
  void stopping() noexcept override;
  void note(const ServerSummary& done);

  const int loops_;
  ServerOptions options_;
  ConnectionLimit limit_;  // of all loops, if they are several
  Address address_;
  Listener listener_;        // the one of a single loop
  std::vector<Fd> sockets_;  // those of several; each loop takes its own

  mutable std::mutex mutex_;                         // guards what follows
  std::vector<std::shared_ptr<Mailbox>> mailboxes_;  // of loops that have begun
  bool stopped_ = false;
  int ended_ = 0;  // loops
  ServerSummary summary_;
};

/// A server as a whole program, on `loops` threads with a loop each:
/// `return run_server("127.0.0.1", 4915, echoer, ServerOptions(), 4);` is all
/// of its main(). It says on stdout where it listens, and on stderr at the
/// end what it has done. Each loop has a copy of the handler, and the limits
/// of the options hold for all together. A stop of one loop stops all, and the
/// first failure ends all.
/// Returns: the exit code, see run_program.
template <class Handler>
int run_server(std::string_view host, std::uint16_t port,
               const Handler& handler,
               const ServerOptions& options = ServerOptions(), int loops = 1,
               std::source_location where = std::source_location::current()) {
  LoopsServer server(loops, options);
  return run_program(
      loops, [&] { server.listen(Address::parse(host, port)); },
      [&](int index) {
        return server.run<std::decay_t<Handler>>(index, handler, where);
      });
}

}  // namespace violet
