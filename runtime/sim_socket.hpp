// sim_socket.hpp - what a simulated network is made of.
//
// The idea: a connection is a Path between two sockets, and whatever one end
// does that the other can notice travels there as a Parcel: bytes, the end of
// the stream, a reset, and the news that bytes were read, which makes room
// for more. The Wire knows how long each takes and holds back what is cut.
//
// Built on: list, poller. See: tcp(7); RFC 9293, 3.3.2 for the states.
// SPDX-License-Identifier: MIT
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "list.hpp"
#include "poller.hpp"
#include "random.hpp"

namespace violet::internal {

/// An address as the kernel keeps it.
class SimName {
 public:
  SimName() noexcept {}
  SimName(const sockaddr* name, unsigned size) noexcept;

  /// Every host of a family; what an unbound socket is bound to.
  static SimName any(int family) noexcept;

  int family() const noexcept { return bytes_.ss_family; }
  bool is_ip() const noexcept { return family() != AF_UNIX; }
  std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;
  bool is_any() const noexcept;

  /// Makes every host this one, as connect(2) does.
  void settle() noexcept;

  /// True if who listens here hears what is sent there.
  bool hears(const SimName& there) const noexcept;

  /// As accept(2) and getsockname(2) tell it.
  void tell(sockaddr* name, unsigned* size) const noexcept;

 private:
  std::string_view host() const noexcept;

  sockaddr_storage bytes_ = {};
  unsigned size_ = 0;
};

/// Bytes in the order in which they came.
class SimBuffer {
 public:
  bool empty() const noexcept { return begin_ == bytes_.size(); }
  void append(const std::string& more) { bytes_ += more; }
  std::size_t copy(void* to, std::size_t most) const noexcept;
  void drop(std::size_t count) noexcept;

 private:
  std::string bytes_;
  std::size_t begin_ = 0;  // those before it have been taken
};

class SimSocket;

/// A connection. Its arrays are indexed by its ends; 0 has connected. Both
/// ends and what is on its way share it.
struct SimPath {
  std::array<SimSocket*, 2> ends = {};  // null: closed, or not there yet
  std::array<std::uint16_t, 2> ports = {};

  // Of what travels to that end.
  std::array<TimePoint, 2> last_due = {};
  std::array<int, 2> on_the_way = {};
};

/// What travels.
enum class Travels : std::uint8_t {
  kKnock,  // a connection is wanted
  kBytes,
  kEnd,    // no more bytes will follow
  kReset,  // the connection is broken
  kGone,   // a unix peer has closed: both directions have ended
  kRoom,   // this many bytes were read
};

struct Parcel {
  std::shared_ptr<SimPath> path;
  int to;  // an end of the path
  Travels what;
  std::string bytes = {};
  std::size_t room = 0;

  // Those with the earliest due, and of these the first sent, arrive first.
  TimePoint due = {};
  std::uint64_t sequence = 0;
};

/// What is on its way, and when it arrives.
class SimWire {
 public:
  explicit SimWire(Poller& clock) noexcept : clock_(clock) {}
  SimWire(const SimWire&) = delete;

  void latency(Duration one_way) noexcept;
  void jitter(Duration most, std::uint64_t seed) noexcept;
  void cut();
  void cut_port(std::uint16_t port);
  void heal();

  /// Sets off a parcel. One that takes no time arrives at once.
  void dispatch(Parcel parcel);

  /// Has everything arrive that is due.
  void deliver_due();

  /// When the next one is due; kNever if nothing is on its way.
  TimePoint next_due() const noexcept {
    return on_the_way_.empty() ? kNever : on_the_way_.front().due;
  }

 protected:
  ~SimWire() = default;

 private:
  virtual void arrived(Parcel& parcel) = 0;

  bool is_cut(const SimPath& path) const noexcept;
  void hold_what_is_cut();
  void set_off(Parcel& parcel);
  Duration travel_time() noexcept;

  Poller& clock_;
  Duration latency_{};
  Duration jitter_{};
  Random random_{1};

  // A heap, and those that a cut holds back, in the order of sending. Of each
  // path either all are held or none.
  std::vector<Parcel> on_the_way_;
  std::vector<Parcel> held_;
  std::uint64_t dispatched_ = 0;
  bool cut_ = false;
  std::vector<std::uint16_t> cut_ports_;
};

/// One stream socket.
class SimSocket : public Link<SimSocket> {
 public:
  enum class State : std::uint8_t {
    kFresh,
    kListening,
    kConnecting,
    kConnected,
    kBroken,  // reset, or the unix peer is gone
  };

  explicit SimSocket(int family) noexcept;

  /// What poll(2) would say. Who is told that there is no room wants to know
  /// when there is.
  short condition(std::size_t limit) noexcept;

  /// The same for the poller, as far as it was asked.
  std::uint8_t ready_bits(std::size_t limit) noexcept;

  bool has_room(std::size_t limit) const noexcept;

  // Who it is.
  int flags;
  State state = State::kFresh;
  SimName local;
  SimName peer;
  bool bound = false;       // by bind(2) or listen(2)
  bool holds_port = false;  // local.port() is its own
  bool shares_port = false;
  bool resets_on_close = false;
  std::vector<std::array<int, 3>> options;  // level, name, value: no effect

  // A listener: who may be accepted, and whose knock finds the backlog full.
  std::size_t backlog = 0;
  std::deque<std::unique_ptr<SimSocket>> clients;
  std::deque<std::shared_ptr<SimPath>> knocking;

  // A stream.
  std::shared_ptr<SimPath> path;
  int end = 0;  // which of the path's ends
  SimBuffer received;
  std::size_t unread = 0;     // sent, and not known to be read
  bool wants_room = false;    // it met a full buffer
  bool peer_ended = false;    // nothing will follow what was received
  bool reads_end = false;     // shut down
  bool writes_ended = false;  // shut down
  int error = 0;              // told once, as SO_ERROR is

  // As the poller knows it.
  bool watched = false;
  std::uint8_t interest = 0;
  Token token = {};
};

}  // namespace violet::internal
