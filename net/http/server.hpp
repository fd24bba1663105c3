// server.hpp - requests on a connection, one after the other, to their routes.
//
//     Task<> hello(http::Exchange& x) {
//       co_await x.send(200, "text/plain", "Hello\n");
//     }
//
//     int main() {
//       http::Router router;
//       router.get("/", hello);
//       return http::run_server("127.0.0.1", 8080, router);
//     }
//
// The idea: a connection is a job, as with every server, and a conversation: a
// head is read, its route answers, and so on until one side has had enough. A
// pipelined request waits in the buffer for its turn. What is wrong with a
// message is answered with its status; then the connection is closed, for
// nobody knows where the next message begins, and what follows is never read
// as one. It is closed with manners: the client is given time to read the
// answer before what it has still sent resets the connection.
//
// What a handler throws concerns its client only. An Error has its status, and
// so has a Fault that reading the body has met; LimitExceeded of that is 413,
// anything else 500 and a line on stderr: what another server has done wrong
// that the handler has asked is not this client's fault.
// If the response has begun by then, the connection is closed in the middle of
// it, so that nobody takes a part for the whole. A handler that is told by a
// std::error_code that the body is broken, and returns, has the same answered.
//
// A stop ends at once who awaits a request, and the others after their
// response.
//
// Built on: router; net/run_server. See: RFC 9112, sections 9 and 11.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string_view>
#include <vector>

#include "../run_server.hpp"
#include "exchange.hpp"
#include "router.hpp"

namespace violet::http {

/// A router and options as a handler of connections, for violet::serve and
/// LoopsServer::run. Lifetime: the router outlives it.
class Application {
 public:
  explicit Application(const Router& router,
                       const Options& options = Options()) noexcept
      : router_(&router), options_(options) {}

  /// Serves one connection to its end. Lifetime: this outlives the task.
  Task<> operator()(Connection connection) const;

 private:
  const Router* router_;
  Options options_;
};

/// Serves HTTP; as violet::serve in all else.
/// Lifetime: the router outlives the task.
inline Task<ServerSummary> serve(Listener listener, const Router& router,
                                 const Options& options = Options()) {
  return violet::serve(std::move(listener), Application(router, options),
                       options);
}
inline Task<ServerSummary> serve(std::vector<Listener> listeners,
                                 const Router& router,
                                 const Options& options = Options()) {
  return violet::serve(std::move(listeners), Application(router, options),
                       options);
}

/// Listens and serves HTTP; as violet::server in all else.
/// Lifetime: the router outlives the task.
inline Task<> server(std::string_view host, std::uint16_t port,
                     const Router& router, const Options& options = Options()) {
  return violet::server(host, port, Application(router, options), options);
}

/// A whole program on several loops, which share the router: its handlers are
/// called on all of their threads. As violet::run_server in all else.
inline int run_server(std::string_view host, std::uint16_t port,
                      const Router& router, const Options& options = Options(),
                      int loops = 1) {
  return violet::run_server(host, port, Application(router, options), options,
                            loops);
}

/// What happens on one connection, from the first request to the last.
class Conversation {
 public:
  Conversation(Connection&& connection, const Router& router,
               const Options& options);
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;
  ~Conversation();

  Task<> run();

 private:
  enum class Found : std::uint8_t {
    kHead,
    kNothing,  // the client is gone, or did not come again
    kLate,     // a part of a head
    kFault,    // what is none
  };
  class NextHeadEvent;

  void rest() noexcept;
  void give_memory_back() noexcept;
  void complain_of_peer(const std::exception_ptr& error) noexcept;
  bool lingers() const noexcept;
  Task<> refuse_head(Found found);
  std::optional<Task<>> answer(std::exception_ptr& error);
  Task<> complete(std::exception_ptr error);
  Fault check();
  Task<> recover(const std::exception_ptr& error);
  Task<> recover(std::error_code error);
  Task<> drop_rest();
  Task<> leave();

  Exchange exchange_;
  const Router& router_;
  Loop& loop_;
  Timer timer_;           // of NextHeadEvent
  bool refused_ = false;  // what came was no request
};

}  // namespace violet::http
