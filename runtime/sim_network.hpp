// sim_network.hpp - a network in memory and in virtual time.
//
// The idea: it answers the system calls on sockets, with descriptor numbers
// of its own, and is the poller that tells when they are ready. So servers
// and clients are the code that they always are, a thousand of them meet in
// one thread without a port of the machine, a timeout of an hour passes at
// once, and a run is the same every time:
//
//     SimNetwork network;
//     network.latency(20ms);
//     LoopOptions options;
//     options.poller = &network.poller();
//     Loop loop(options);
//     loop.run(my_test());  // Listener, connect(), server() as ever
//
// Include <violet/testing.hpp>. With options.network = true each run of
// testing::play and its like has a network of its own.
//
// Stream sockets of IPv4, IPv6 and unix are simulated; every address can be
// bound, and two of one number are the same place. Everything else is real
// and works beside them: pipes, files, datagrams. While something real is
// watched, time only jumps when that is silent; see poller_sim.hpp.
//
// It behaves like TCP on Linux as far as a program can see that: connecting
// is in progress first, buffers are bounded, data and the end of a stream
// may come in one edge, a socket closed with bytes unread resets its peer.
// Memory for all that it takes past the seam, so that a FaultPlan over it
// strikes the program alone.
//
// Refused: packet loss below the stream, urgent bytes, IPv4 clients at an
// IPv6 listener. A unix name makes no file.
//
// When nothing is on its way, nothing real is watched and no timer runs, a
// run in which all jobs wait for the network ends with Deadlock.
//
// Built on: poller_sim, layer, fd.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "fd.hpp"
#include "poller.hpp"

namespace violet {

namespace internal {
class SimKernel;
}

/// Answers the socket calls of this thread while it lives; see above.
/// Lifetime: as sys::Layer; outlives the loops that use its poller. A socket
/// that is still open when it dies is EBADF from then on.
class SimNetwork {
 public:
  SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;
  ~SimNetwork();

  /// For LoopOptions::poller.
  Poller& poller() noexcept;

  /// Virtual time. What is to arrive while it passes arrives at the loop's
  /// next turn.
  TimePoint now() noexcept;
  void advance(Duration duration) noexcept;

  /// As SimPoller::look(), for the real descriptors beside the simulated ones.
  std::span<const Ready> look(Duration patience) noexcept;

  /// Two sockets that are connected to each other.
  /// Throws: std::system_error when there are no more numbers.
  std::array<Fd, 2> pair();

  /// When the next thing arrives that is on its way; kNever if none is.
  TimePoint next_arrival() const noexcept;

  /// Simulated descriptors that are open.
  std::size_t open_descriptors() const noexcept;

  // ------------------------------------------------------------- the weather

  /// How long everything takes that is sent from now on, one way. Connecting
  /// takes it once. What is sent on one connection never overtakes.
  void latency(Duration one_way) noexcept;

  /// Up to this much more, differing, the same for every run with this seed.
  void jitter(Duration most, std::uint64_t seed = 1) noexcept;

  /// How many bytes one direction of a connection takes before the peer has
  /// read some of them. 64 KiB at first. Throws: Misuse for 0.
  void limit_buffer(std::size_t bytes);

  /// From now on nothing arrives; or nothing from or to a port, of whatever
  /// host. Nothing is lost: what is sent waits, also for connecting.
  void cut();
  void cut_port(std::uint16_t port);

  /// Ends every cut: what waited sets off now.
  void heal();

  /// Resets a connection, at both ends and at once; either end names it.
  /// Returns: false if that is no connected socket of this network.
  bool reset(int descriptor) noexcept;

  /// Resets every connection, those in a backlog, too.
  void reset_all() noexcept;

 private:
  std::unique_ptr<internal::SimKernel> network_;
};

}  // namespace violet
