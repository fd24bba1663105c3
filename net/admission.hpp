// admission.hpp - how many clients there may be, and what becomes of the rest.
//
// The idea: a client that is served holds a place, from when it is accepted
// until its handler's job has ended, however that comes about. Places are
// counted by the server itself, or by a ConnectionLimit that several servers
// share; a PeerLimit also counts them for each peer by itself.
//
// Who finds no place waits in the backlog of the listener, where it costs
// nothing. Or the server accepts it and starts a job for it all the same,
// with a WhenFull in place of its handler: wait_in_line and turn_away are
// such functions, and so may yours be.
//
// Built on: listener; runtime/scheduler.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "../runtime/owned.hpp"
#include "../runtime/scheduler.hpp"
#include "listener.hpp"

namespace violet {

class Visitor;

/// Deals with a client that has come while the server is full. The client is
/// disconnected when the task ends, unless it was served meanwhile.
using WhenFull = Task<> (*)(Visitor& client);

/// Waits for a place, first come, first served, and runs the handler then;
/// for ServerOptions::max_wait at most, after which the client is logged and
/// refused. A client that has reset its connection meanwhile takes no place.
Task<> wait_in_line(Visitor& client);

/// Refuses: see Visitor::refuse.
Task<> turn_away(Visitor& client);

/// Says a few words to a client that is refused.
using Refusal = Task<> (*)(Connection& client);

/// A number of connections that several loops share.
class ConnectionLimit {
 public:
  /// 0: no limit.
  explicit ConnectionLimit(std::size_t most) noexcept
      : free_(most != 0 ? most : std::numeric_limits<std::size_t>::max()) {}
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

    /// Takes one. Returns: false if none is left; the first job in the queue
    /// is then woken when one comes back.
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

/// How many places clients with the same IP address may hold, of all servers
/// that it is given to. One more is disconnected at once, whatever WhenFull
/// says: it must not keep others from a place in line, either. Clients of
/// unix sockets have no address and are not counted.
class PeerLimit {
 public:
  /// 0: no limit.
  explicit PeerLimit(std::size_t most);
  PeerLimit(const PeerLimit&) = delete;
  PeerLimit& operator=(const PeerLimit&) = delete;
  virtual ~PeerLimit();

  /// Counts a client. Returns: false if it is one too many, or there is no
  /// memory to count it. Lifetime: the client stays where it is, and gives its
  /// count back.
  virtual bool take(const Visitor& client, const Address& peer) noexcept;
  virtual void give_back(const Visitor& client) noexcept;

 private:
  class Counts;
  Owned<Counts> counts_;
};

}  // namespace violet
