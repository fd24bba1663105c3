// server.hpp - one job for each client, isolated from the others.
//
// The idea: a server is a loop that accepts, and a group of handlers. One
// that throws is logged with its peer and line, and the next client is
// served. A server that is asked to stop takes what the backlog still holds,
// ends the handlers that merely await a next request, gives the others a
// while, and kills what is left.
//
// A handler awaits its next request while it receives, if it has sent
// something since it last received, or has received nothing yet.
//
// Built on: listener; runtime/events, within, program.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/program.hpp"
#include "../runtime/within.hpp"
#include "listener.hpp"

namespace violet {

/// A number of connections that several loops share.
class ConnectionLimit {
 public:
  explicit ConnectionLimit(std::size_t most) noexcept : free_(most) {}
  ConnectionLimit(const ConnectionLimit&) = delete;
  ConnectionLimit& operator=(const ConnectionLimit&) = delete;

  /// One that takes part: `queue` belongs to the loop behind `remote`.
  class Member {
   public:
    Member(ConnectionLimit& limit, Remote remote,
           std::shared_ptr<WaitQueue> queue);
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    ~Member();

    /// Takes one. Returns: false if none is left; the jobs in the queue are
    /// then woken when one comes back.
    bool take() noexcept;

    /// Gives one back.
    void give_back() noexcept;

   private:
    friend class ConnectionLimit;

    ConnectionLimit& limit_;
    Remote remote_;
    std::shared_ptr<WaitQueue> queue_;
    bool waits_ = false;
  };

 private:
  std::mutex mutex_;  // guards what follows; taken once for a connection
  std::size_t free_;
  std::vector<Member*> members_;
};

/// What a server says on stderr.
enum class Log : std::uint8_t {
  kErrors,   // what goes wrong in a handler
  kNormal,   // also what an operator wants to know
  kVerbose,  // also handlers that end with a reset or a broken pipe
};

/// How a server is to behave. Trivially destructible.
struct ServerOptions {
  ServerOptions() noexcept {}

  /// How long handlers may go on after a stop.
  Duration grace = std::chrono::seconds(5);

  /// Clients served at a time; others wait in the backlog. 0: no limit.
  std::size_t max_connections = 0;

  /// A limit that other servers share; null: this server's own.
  /// Lifetime: outlives the server.
  ConnectionLimit* shared_limit = nullptr;

  Log log = Log::kNormal;
};

/// What a server has done when it has stopped.
struct ServerSummary {
  std::uint64_t served = 0;  ///< clients accepted
  std::uint64_t cut = 0;     ///< handlers killed when the grace was over

  /// "stopped: 12 served, 1 cut"
  std::string text() const;
};

namespace internal {

/// A connection among the arguments of its handler's job. A handler that
/// takes it by value moves it out; whose it was is still known then.
class Handoff {
 public:
  explicit Handoff(Connection&& connection) noexcept;

  Connection& connection() noexcept { return connection_; }

  /// The peer, until the slot is used by another connection.
  Address peer() const noexcept;

 private:
  Connection connection_;
  std::uint32_t index_;
  std::uint32_t generation_;
};

/// The handlers of one server.
class Handlers final : public Group {
 public:
  using PeerOf = Address (*)(const JobBlock& job);

  Handlers(const Listener& listener, const ServerOptions& options,
           PeerOf peer_of);
  ~Handlers() { dissolve(); }

  /// Waits for the next client.
  /// Returns: none once the loop is asked to stop and the backlog is empty, or
  /// the grace over: until then who waits there gets the room that others
  /// leave.
  class NextEvent;
  NextEvent next() noexcept;

  /// A client's job has ended, or never began: its place is free again.
  void give_room_back() noexcept;

  /// There was no memory for a client's job.
  void turned_away() noexcept;

  /// Waits at most the rest of the grace for the handlers, kills them.
  Task<> drain();

  const ServerSummary& summary() const noexcept { return summary_; }

 private:
  class DrainedEvent;

  bool stopping() const noexcept { return stopped_at_ != kNever; }
  void begin_to_stop() noexcept;
  bool closed() const noexcept;
  Duration time_left() const noexcept;
  void failed(JobBlock& child) noexcept override;
  void left(JobBlock&) noexcept override;
  bool take_room() noexcept;
  bool somebody_waits() const noexcept;

  const Listener& listener_;  // in the same frame; outlives this
  ServerOptions options_;
  PeerOf peer_of_;
  StopHearer hears_;
  std::shared_ptr<WaitQueue> room_;  // woken when there may be room again
  std::optional<ConnectionLimit::Member> shared_;  // only with a shared limit
  std::size_t clients_ = 0;  // places taken; handlers may spawn more jobs
  TimePoint stopped_at_ = kNever;
  std::size_t backlog_ = 0;  // clients still to accept, of those at the stop
  WaitQueue drained_;        // woken when the last job has left
  ServerSummary summary_;
};

class Handlers::NextEvent final : public Event {
 public:
  explicit NextEvent(Handlers& handlers) noexcept
      : handlers_(handlers), accept_(handlers.listener_.accept()) {}
  NextEvent(NextEvent&& other) noexcept
      : Event(std::move(other)),
        handlers_(other.handlers_),
        accept_(std::move(other.accept_)) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  std::optional<Connection> result();

 private:
  bool attempt_to_stop() noexcept;
  void leave_queues() noexcept;

  Handlers& handlers_;
  AcceptEvent accept_;
  Waiter stop_place_;
  Waiter room_place_;
  Timer grace_;  // wakes who still waits for room after a stop
  bool stopped_ = false;
};

inline Handlers::NextEvent Handlers::next() noexcept {
  return NextEvent(*this);
}

/// What a server's jobs refer to; lives in the server's frame.
template <class Handler>
struct Service {
  Service(const Listener& listener, Handler&& h, const ServerOptions& options)
      : handler(std::move(h)), handlers(listener, options, peer_of) {}

  static Address peer_of(const JobBlock& job);

  Handler handler;
  Handlers handlers;  // dies first, and its jobs with it
};

/// The function of a client's job: calls the handler, and holds the client's
/// place until the job has ended.
template <class Handler>
class Serving {
 public:
  explicit Serving(Service<Handler>& service) noexcept : service_(&service) {}
  Serving(Serving&& other) noexcept
      : service_(std::exchange(other.service_, nullptr)) {}
  Serving& operator=(Serving&&) = delete;
  ~Serving() {
    if (service_ != nullptr) service_->handlers.give_room_back();
  }
  auto operator()(Handoff&& client) const {
    return service_->handler(std::move(client.connection()));
  }

 private:
  Service<Handler>* service_;
};

template <class Handler>
Address Service<Handler>::peer_of(const JobBlock& job) {
  using ClientsJob = SpawnedJob<void, Serving<Handler>, Handoff>;
  return std::get<0>(static_cast<const ClientsJob&>(job).arguments()).peer();
}

template <class Handler>
void start(Service<Handler>& service, Connection&& client,
           std::source_location where) {
  Serving<Handler> serving(service);
  const bool begun = has_memory_for([&] {
    spawn_in(service.handlers, where, std::move(serving),
             Handoff(std::move(client)))
        .block()
        ->mark();
  });
  if (!begun) service.handlers.turned_away();
}

template <class Handler>
Task<ServerSummary> serve_with(Listener listener, Handler handler,
                               ServerOptions options,
                               std::source_location where) {
  Service<Handler> service(listener, std::move(handler), options);
  while (auto client = co_await service.handlers.next()) {
    start(service, std::move(*client), where);
  }
  listener.close();
  co_await service.handlers.drain();
  co_return service.handlers.summary();
}

/// In a program (see run_program), says on stdout that clients may come.
void announce(const Address& address);

template <class Handler>
Task<> announce_and_serve(std::string host, std::uint16_t port, Handler handler,
                          ServerOptions options, std::source_location where) {
  Listener listener(host, port);
  announce(listener.address());
  const ServerSummary summary = co_await serve_with<Handler>(
      std::move(listener), std::move(handler), options, where);
  if (options.log != Log::kErrors) complain(summary.text());
}

}  // namespace internal

/// Accepts clients and runs `handler(Connection)`, a function that returns
/// Task<>, as a job for each. Ends when the loop is asked to stop; see above.
/// A handler that throws is logged and concerns nobody else. Jobs that it
/// spawns belong to the server, too, and may outlive the client.
/// Suspends: until the server has stopped.
/// Lifetime: the handler is moved or copied into the server.
/// Returns: how many were served.
/// Throws: what accept() throws.
/// Kill: the handlers die with it.
template <class Handler>
Task<ServerSummary> serve(
    Listener listener, Handler&& handler,
    ServerOptions options = ServerOptions(),
    std::source_location where = std::source_location::current()) {
  static_assert(internal::survives_co_await<Handler&&>(),
                "violet: on this compiler a capturing lambda must have a name "
                "before it is given to serve: auto handler = [..](..) {..};");
  return internal::serve_with<std::decay_t<Handler>>(
      std::move(listener), std::forward<Handler>(handler), options, where);
}

/// Listens on host and port and serves: the whole of a simple program, as in
/// `return run_program(server("127.0.0.1", 4915, echoer));`. The host is a
/// number as in Address::parse. In a program it says on stdout where it
/// listens, and on stderr at the end how many were served.
/// Suspends, Lifetime, Kill: as serve().
/// Throws: std::system_error "bind 127.0.0.1:4915: Address already in use".
template <class Handler>
Task<> server(std::string_view host, std::uint16_t port, Handler&& handler,
              ServerOptions options = ServerOptions(),
              std::source_location where = std::source_location::current()) {
  static_assert(internal::survives_co_await<Handler&&>(),
                "violet: on this compiler a capturing lambda must have a name "
                "before it is given to server: auto handler = [..](..) {..};");
  return internal::announce_and_serve<std::decay_t<Handler>>(
      std::string(host), port, std::forward<Handler>(handler), options, where);
}

}  // namespace violet
