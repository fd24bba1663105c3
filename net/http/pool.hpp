// pool.hpp - connections to servers, lent to one exchange at a time.
//
// The idea: who wants to speak with a server borrows a connection. One that
// the last borrower has given back is lent again, the latest first; else a new
// one is made. There are only so many to each server, and who comes when all
// are lent stands in line. A connection that nobody has is watched: when its
// server ends it, or says something that nobody has asked for, or after a
// while, it is closed.
//
// A loan that ends in any way but keep() closes its connection, so a borrower
// that fails or is killed leaves nothing in a state that the next would have
// to fear.
//
// Built on: url; stream, connect; runtime/group, sync, within.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../runtime/group.hpp"
#include "../../runtime/sync.hpp"
#include "../connect.hpp"
#include "../stream.hpp"
#include "url.hpp"

namespace violet::http {

/// How connections are made and kept. Trivially destructible.
struct PoolOptions {
  PoolOptions() noexcept {}

  /// Connections to one server at a time; who wants one more waits. 0: any
  /// number.
  std::size_t max_per_host = 16;

  /// Connections that are kept while nobody has them, to all servers together.
  std::size_t max_idle = 64;

  /// How long. 0: not at all.
  Duration idle_time = std::chrono::seconds(15);

  /// How long looking up a name and connecting may take together.
  Duration connect_time = std::chrono::seconds(30);

  /// How the addresses of a name are tried.
  ConnectOptions connecting;
};

class Pool;

/// A connection that somebody has. Move-only.
/// Lifetime: the pool outlives it.
class Loan {
 public:
  /// None.
  Loan() noexcept {}

  const Stream& stream() const noexcept { return stream_; }

  /// True if it has been lent before: its server may end it just now.
  bool used_before() const noexcept { return used_before_; }

  /// Gives it back to be lent again: nothing is under way on it. It is closed
  /// if something has come that nobody has read, and without memory.
  void keep() noexcept;

 private:
  friend class Pool;
  struct Host;

  // The place in line is given back after the connection is closed or kept.
  std::shared_ptr<Host> host_;
  Permit place_;
  Stream stream_;
  Pool* pool_ = nullptr;
  bool used_before_ = false;
};

/// The connections of one client. A local variable of the job that makes it,
/// or in an object of that job; other jobs of the loop may use it, too.
class Pool {
 public:
  /// Throws: Misuse outside a job.
  explicit Pool(const PoolOptions& options);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  /// Lends a connection to the server of a URL.
  /// Suspends: while as many as there may be are lent, first come, first
  /// served; and to connect.
  /// Throws: what connect() throws; std::errc::timed_out.
  /// Lifetime: the URL outlives the task.
  Task<Loan> lend(const Url& url);

  /// Makes a new connection in the place of a loan's.
  Task<> renew(Loan& loan);

  /// For what goes on beside those who wait: it ends with the pool.
  TaskGroup& jobs() noexcept { return jobs_; }

  /// Connections that nobody has.
  std::size_t idle() const noexcept { return idle_.size(); }

  /// Connections that were made, ever.
  std::uint64_t made() const noexcept { return made_; }

 private:
  friend class Loan;
  using Host = Loan::Host;
  struct Idle;

  std::shared_ptr<Host> host_of(const Url& url);
  bool take_idle(Loan& loan) noexcept;
  void keep(Loan& loan);
  Task<> watch(Idle& idle);

  PoolOptions options_;
  std::uint64_t made_ = 0;

  // Those that have connections, lent or not, or somebody in line; and
  // others, until the next one is added.
  std::vector<std::shared_ptr<Host>> hosts_;

  // Oldest first. Each has a job of the group that watches it.
  std::vector<std::unique_ptr<Idle>> idle_;
  TaskGroup jobs_;  // goes first
};

}  // namespace violet::http
