// server.hpp - one job for each client, isolated from the others.
//
// The idea: a server is a loop that accepts, and a group of handlers. One
// that throws is logged with its peer and line, and the next client is
// served. A server that is asked to stop takes what the backlog still holds,
// ends the handlers that merely await a next request, gives the others a
// while, and kills what is left.
//
// A handler awaits its next request while it receives, if it has sent
// something since it last received, or has received nothing yet. That is
// asked of its own job, and of a task under within(): what it leaves to other
// jobs, with all(), any() or a group, does not count.
//
// Limits of time cost nothing for each message. Whatever moves bytes leaves a
// mark in the slot (kActive), and eight times in each limit the server looks
// at all its clients and takes the marks away: who is found without for so
// long is idle. One timer does for all of them.
//
// Refused: a timer for each client, which would be moved with each message or
// take 40 bytes more, for the sake of an eighth.
//
// Built on: admission; runtime/events, within, program.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "../runtime/events.hpp"
#include "../runtime/owned.hpp"
#include "../runtime/program.hpp"
#include "../runtime/within.hpp"
#include "admission.hpp"

namespace violet {

/// What a server says on stderr.
enum class Log : std::uint8_t {
  kErrors,   // what goes wrong in a handler, or in what is done when full
  kNormal,   // also what an operator wants to know
  kVerbose,  // also handlers that end with a reset or a broken pipe
};

namespace internal {
/// A peer that resets or vanishes is its own business; after a reset there is
/// nothing to shut down.
inline bool is_the_peers_doing(const std::error_code& code) noexcept {
  return code == std::errc::connection_reset ||
         code == std::errc::broken_pipe || code == std::errc::not_connected;
}

/// Hears that a server begins to stop.
class StopHook {
 public:
  virtual void stopping() noexcept = 0;

 protected:
  ~StopHook() = default;
};
}  // namespace internal

/// How a server is to behave. Trivially destructible.
struct ServerOptions {
  ServerOptions() noexcept {}

  /// How long handlers may go on after a stop.
  Duration grace = std::chrono::seconds(5);

  /// Clients served at a time. 0: no limit.
  std::size_t max_connections = 0;

  /// A limit that other servers share; null: this server's own.
  /// Lifetime: outlives the server.
  ConnectionLimit* shared_limit = nullptr;

  /// How many of them may have the same IP address; null: any number.
  /// Lifetime: outlives the server.
  PeerLimit* per_peer = nullptr;

  /// What becomes of clients when that many are served: wait_in_line,
  /// turn_away, or null: they wait in the backlog.
  WhenFull when_full = nullptr;

  /// Clients that when_full deals with at a time; others wait in the backlog.
  std::size_t max_waiting = 1024;

  /// How long a client may wait in line. 0: without end.
  Duration max_wait = Duration::zero();

  /// What is said to those that are refused; null: nothing.
  Refusal refused = nullptr;

  /// How long that may take, and the client to go.
  Duration refusal_time = std::chrono::seconds(1);

  /// Ends the handler of a client of which no byte has come, and which has
  /// taken none, for so long; it may take an eighth more. A handler that has
  /// closed its connection is not concerned. 0: never.
  Duration idle_timeout = Duration::zero();

  /// Ends the handler of a client that has been accepted so long ago; here,
  /// too, it may take an eighth more. 0: never.
  Duration total_timeout = Duration::zero();

  Log log = Log::kNormal;

  /// Of the library; see LoopsServer.
  internal::StopHook* stop_hook = nullptr;
};

/// What a server has done when it has stopped.
struct ServerSummary {
  ServerSummary() noexcept {}

  std::uint64_t served = 0;     ///< clients that got a place
  std::uint64_t cut = 0;        ///< handlers killed when the grace was over
  std::uint64_t refused = 0;    ///< clients that got none
  std::uint64_t timed_out = 0;  ///< handlers ended by a timeout

  /// Who was cut, and where, a line for each of the first ten of each loop:
  /// "127.0.0.1:50412 after 12.3 s, at server.cpp:41: recv\n".
  std::string told;

  /// "stopped: 12 served, 1 cut", and how many were refused and timed out if
  /// any were. In one line, without `told`.
  std::string text() const;

  ServerSummary& operator+=(const ServerSummary& other);
};

namespace internal {
class Handlers;
struct VisitorsBody;
}  // namespace internal

/// A client that has been accepted. Lies among the arguments of its job,
/// where a WhenFull finds it.
class Visitor {
 public:
  /// Has a place already if `placed`.
  Visitor(internal::Handlers& handlers, Connection&& connection,
          bool placed) noexcept;
  Visitor(Visitor&& other) noexcept;
  Visitor& operator=(Visitor&&) = delete;
  ~Visitor();

  /// Empty once the handler has it.
  Connection& connection() noexcept { return connection_; }

  /// Whose it is, until its descriptor is used for another; known also when
  /// the connection has been moved out or closed.
  Address peer() const noexcept;

  const ServerOptions& options() const noexcept;

  /// Waits for a place; who came first gets one first.
  /// Kill: the place goes to the next in line.
  class PlaceEvent;
  PlaceEvent place() noexcept;

  /// True if the connection is broken: nobody would hear an answer.
  bool gone() const noexcept;

  /// Calls the handler. Throws: Misuse without a place.
  Task<> serve();

  /// Says what ServerOptions::refused says. Then ends the stream, and waits for
  /// the client to do the same: closing with bytes unread would reset the
  /// connection, and what was said could be lost. All of that takes
  /// ServerOptions::refusal_time at most.
  Task<> refuse();

 private:
  friend class internal::Handlers;
  friend struct internal::VisitorsBody;

  Task<> start();
  const Slot* slot() const noexcept;

  Connection connection_;
  internal::Handlers* handlers_;  // null: moved from

  // Packed, since there is one for each connection. A slot's index fits: no
  // process has 8 million descriptors.
  std::uint32_t index_ : 23;
  std::uint32_t placed_ : 1;     // holds a place
  std::uint32_t served_ : 1;     // its handler has been called
  std::uint32_t counted_ : 1;    // by the PeerLimit
  std::uint32_t timed_out_ : 1;  // its kill is under way
  std::uint32_t odd_round_ : 1;  // of looks, in which it was looked at last
  std::uint32_t quiet_ : 4;      // looks in a row that found it quiet
  std::uint32_t generation_;
};

class Visitor::PlaceEvent final : public Event {
 public:
  explicit PlaceEvent(Visitor& client) noexcept : client_(client) {}
  PlaceEvent(PlaceEvent&& other) noexcept
      : Event(std::move(other)), client_(other.client_) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override { out.text = "a place"; }
  void result() const noexcept {}

 private:
  Visitor& client_;
  Waiter in_line_;
};

namespace internal {

/// The function of a client's job.
struct VisitorsBody {
  Task<> operator()(Visitor&& client) const;
};
using VisitorsJob = SpawnedJob<void, VisitorsBody, Visitor>;

/// The handlers of one server, and who else has been accepted.
class Handlers final : public Group {
 public:
  using Call = Task<> (*)(void* handler, Connection&& client);

  Handlers(std::vector<Listener>&& listeners, void* handler, Call call,
           const ServerOptions& options, std::source_location where);
  ~Handlers();

  /// Accepts clients until the loop is asked to stop, and lets them finish.
  Task<> run();

  const ServerSummary& summary() const noexcept { return summary_; }

 private:
  friend class violet::Visitor;
  friend class violet::Visitor::PlaceEvent;
  class NextEvent;
  class DrainedEvent;

  /// A listener, and who accepts there.
  struct Door {
    Listener listener;
    AcceptEvent accept{nullptr};
    std::size_t left = 0;  // clients to accept, of those at the stop
  };

  // Places.
  bool take_room() noexcept;
  void give_room_back() noexcept;
  void wake_first() noexcept;
  bool is_first(const Waiter& in_line) const noexcept;
  void stand_in_line(Waiter& in_line, Stack& job) noexcept;
  bool takes_visitors() const noexcept;
  void moved_on(const Visitor& client) noexcept;
  void admit(Connection&& connection);
  void tell(const Visitor& client, const char* what) const noexcept;

  // Time.
  void look_after(Stack& job) noexcept;
  bool look_at_some() noexcept;
  void look_at(JobBlock& job, Visitor& client) noexcept;
  void time_out(JobBlock& job, Visitor& client, const char* why) noexcept;

  // The end.
  bool stopping() const noexcept { return stopped_at_ != kNever; }
  void begin_to_stop() noexcept;
  bool closed() const noexcept;
  bool somebody_waits() const noexcept;
  Duration time_left() const noexcept;
  Task<> drain();
  void tell_who_is_left();

  void failed(JobBlock& child) noexcept override;
  void left(JobBlock&) noexcept override;

  std::span<Door> doors() const noexcept;

  static Visitor& client_of(JobBlock& job) noexcept {
    return std::get<0>(static_cast<VisitorsJob&>(job).arguments());
  }

  ServerOptions options_;
  void* handler_;  // beside this, in the server's frame
  Call call_;
  std::source_location where_;
  StopHearer hears_;
  std::size_t door_count_;
  OwnedArray<Door> doors_;
  std::size_t next_door_ = 0;  // whose turn it is

  // Who waits for a place, in order: the clients in line; behind them, if
  // nobody can come without one, who accepts. The first is woken whenever
  // there may be a place.
  std::shared_ptr<WaitQueue> room_;
  Waiter last_in_line_;                    // who accepts
  Owned<ConnectionLimit::Member> shared_;  // only with a shared limit
  std::size_t placed_ = 0;                 // clients with a place
  std::size_t visitors_ = 0;               // clients without
  Stack* accepting_ = nullptr;  // who waits for the next client, if it does
  bool place_taken_ = false;    // for the client that has just been accepted

  // The one without a place whose job has not begun: nobody is accepted before
  // it stands in line, if it is going to.
  const Visitor* newcomer_ = nullptr;

  // Looking for idle clients, in rounds; a round may take several steps.
  Duration look_every_;
  Timer look_;
  JobBlock* look_on_at_ = nullptr;  // counted
  bool odd_round_ = false;

  TimePoint stopped_at_ = kNever;
  WaitQueue drained_;  // woken when the last job has left
  ServerSummary summary_;
};

template <class Handler>
inline constexpr bool takes_client =
    std::is_invocable_r_v<Task<>, std::decay_t<Handler>&, Connection>;

/// What a server's jobs refer to; lives in the server's frame.
template <class Handler>
struct Service {
  Service(std::vector<Listener>&& listeners, Handler&& h,
          const ServerOptions& options, std::source_location where)
      : handler(std::move(h)),
        handlers(std::move(listeners), &handler, call, options, where) {}

  static Task<> call(void* handler, Connection&& client) {
    if constexpr (takes_client<Handler>) {
      return (*static_cast<Handler*>(handler))(std::move(client));
    } else {
      __builtin_unreachable();  // refused below
    }
  }

  Handler handler;
  Handlers handlers;  // dies first, and its jobs with it
};

template <class Handler>
Task<ServerSummary> serve_with(std::vector<Listener> listeners, Handler handler,
                               ServerOptions options,
                               std::source_location where) {
  Service<Handler> service(std::move(listeners), std::move(handler), options,
                           where);
  co_await service.handlers.run();
  co_return service.handlers.summary();
}

/// The same. Throws: Misuse if there are none.
std::vector<Listener> at_least_one(std::vector<Listener>&& listeners);

/// A vector with one listener in it.
std::vector<Listener> only(Listener&& listener);

/// In a program (see run_program), says on stdout that clients may come.
void announce(const Address& address);

/// Says on stderr what has been done, unless errors alone are wanted.
void conclude(const ServerSummary& summary, Log log) noexcept;

template <class Handler>
Task<> announce_and_serve(std::string host, std::uint16_t port, Handler handler,
                          ServerOptions options, std::source_location where) {
  Listener listener(host, port);
  announce(listener.address());
  const ServerSummary summary = co_await serve_with<Handler>(
      only(std::move(listener)), std::move(handler), options, where);
  conclude(summary, options.log);
}

}  // namespace internal

/// Accepts clients and runs `handler(Connection)`, a function that returns
/// Task<>, as a job for each. Ends when the loop is asked to stop; see above.
/// A handler that throws is logged and concerns nobody else. Jobs that it
/// spawns belong to the server, too, and may outlive the client.
/// Of several listeners, say one for IPv4 and one for IPv6, none is preferred,
/// and the limits of the options hold for all of them together.
/// Suspends: until the server has stopped.
/// Lifetime: the handler is moved or copied into the server.
/// Returns: how many were served.
/// Throws: what accept() throws; Misuse for no listener at all.
/// Kill: the handlers die with it.
template <class Handler>
Task<ServerSummary> serve(
    std::vector<Listener> listeners, Handler&& handler,
    ServerOptions options = ServerOptions(),
    std::source_location where = std::source_location::current()) {
  static_assert(internal::survives_co_await<Handler&&>(),
                "violet: on this compiler a capturing lambda must have a name "
                "before it is given to serve: auto handler = [..](..) {..};");
  static_assert(internal::takes_client<Handler>,
                "violet: a handler takes its client by value and returns "
                "Task<>: Task<> serve_one(Connection conn)");
  return internal::serve_with<std::decay_t<Handler>>(
      internal::at_least_one(std::move(listeners)),
      std::forward<Handler>(handler), options, where);
}

/// The same for one listener.
template <class Handler>
Task<ServerSummary> serve(
    Listener listener, Handler&& handler,
    ServerOptions options = ServerOptions(),
    std::source_location where = std::source_location::current()) {
  return violet::serve(internal::only(std::move(listener)),
                       std::forward<Handler>(handler), options, where);
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
  static_assert(internal::takes_client<Handler>,
                "violet: a handler takes its client by value and returns "
                "Task<>: Task<> serve_one(Connection conn)");
  return internal::announce_and_serve<std::decay_t<Handler>>(
      std::string(host), port, std::forward<Handler>(handler), options, where);
}

}  // namespace violet
