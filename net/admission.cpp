// admission.cpp - places for several servers, and the lines before them.
// SPDX-License-Identifier: MIT
#include "admission.hpp"

#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "server.hpp"

namespace violet {

// ------------------------------------------------------------ a shared limit

ConnectionLimit::Member::Member(ConnectionLimit& limit, Remote remote,
                                std::shared_ptr<WaitQueue> queue)
    : limit_(limit), remote_(std::move(remote)), queue_(std::move(queue)) {
  const std::lock_guard lock(limit_.mutex_);
  limit_.members_.push_back(this);
}

ConnectionLimit::Member::~Member() {
  const std::lock_guard lock(limit_.mutex_);
  std::erase(limit_.members_, this);
}

bool ConnectionLimit::Member::take() noexcept {
  const std::lock_guard lock(limit_.mutex_);
  waits_ = limit_.free_ == 0;
  if (!waits_) --limit_.free_;
  return !waits_;
}

// Without memory for the message, the next one that comes back brings it.
void ConnectionLimit::Member::give_back() noexcept {
  const std::lock_guard lock(limit_.mutex_);
  ++limit_.free_;
  for (Member* member : limit_.members_) {
    if (!member->waits_) continue;
    has_memory_for([member] {
      member->remote_.post([queue = member->queue_] {
        if (!queue->empty()) wake(*queue->front().job);
      });
      member->waits_ = false;
    });
  }
}

// ----------------------------------------------------------- a limit per peer

namespace {

bool has_host(const Address& peer) noexcept {
  return peer.family() == AF_INET || peer.family() == AF_INET6;
}

}  // namespace

class PeerLimit::Counts {
 public:
  /// An IPv4 address counts as the same one mapped into IPv6 (RFC 4291,
  /// 2.5.5.2), as a listener for both sees it.
  using Host = std::array<unsigned char, 16>;

  static Host host_of(const Address& peer) noexcept {
    Host host{};
    if (peer.family() == AF_INET6) {
      const auto* name = reinterpret_cast<const sockaddr_in6*>(peer.get());
      std::memcpy(host.data(), &name->sin6_addr, 16);
    } else {
      const auto* name = reinterpret_cast<const sockaddr_in*>(peer.get());
      host[10] = host[11] = 0xff;
      std::memcpy(host.data() + 12, &name->sin_addr, 4);
    }
    return host;
  }

  explicit Counts(std::size_t most) noexcept : most_(most) {}

  bool take(const Visitor& client, const Host& host) {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(host);
    const std::size_t held = found == places_.end() ? 0 : found->second;
    if (most_ != 0 && held >= most_) return false;
    clients_.emplace(&client, host);
    const bool noted = has_memory_for([&] { ++places_[host]; });
    if (!noted) clients_.erase(&client);
    return noted;
  }

  void give_back(const Visitor& client) noexcept {
    const std::lock_guard lock(mutex_);
    const auto counted = clients_.find(&client);
    if (counted == clients_.end()) return;  // had no address
    const auto place = places_.find(counted->second);
    if (--place->second == 0) places_.erase(place);
    clients_.erase(counted);
  }

 private:
  struct HashOfHost {
    std::size_t operator()(const Host& host) const noexcept {
      return std::hash<std::string_view>()(std::string_view(
          reinterpret_cast<const char*>(host.data()), host.size()));
    }
  };

  const std::size_t most_;
  std::mutex mutex_;  // guards what follows; taken twice for a connection

  // What a client was counted under: when it leaves, its connection may long
  // have been closed, and nobody knows the address any more.
  std::unordered_map<const Visitor*, Host> clients_;
  std::unordered_map<Host, std::size_t, HashOfHost> places_;
};

PeerLimit::PeerLimit(std::size_t most) : counts_(new Counts(most)) {}

PeerLimit::~PeerLimit() = default;

bool PeerLimit::take(const Visitor& client, const Address& peer) noexcept {
  if (!has_host(peer)) return true;
  bool taken = false;
  has_memory_for([&] { taken = counts_->take(client, Counts::host_of(peer)); });
  return taken;
}

void PeerLimit::give_back(const Visitor& client) noexcept {
  counts_->give_back(client);
}

// -------------------------------------------------------------------- waiting

bool Visitor::PlaceEvent::attempt() noexcept {
  internal::Handlers& handlers = *client_.handlers_;
  if (client_.placed_) return true;
  if (!handlers.is_first(in_line_) || !handlers.take_room()) {
    if (!in_line_.in_list()) handlers.stand_in_line(in_line_, *job());
    return false;
  }
  client_.placed_ = true;
  ++handlers.placed_;
  --handlers.visitors_;
  undo();
  handlers.moved_on(client_);
  return true;
}

void Visitor::PlaceEvent::undo() noexcept {
  leave(*client_.handlers_->room_, in_line_);
  client_.handlers_->wake_first();
}

Visitor::PlaceEvent Visitor::place() noexcept {
  return PlaceEvent(*this);
}

bool Visitor::gone() const noexcept {
  const int fd = connection_.fd();
  return fd < 0 || (sys::poll_now(fd, 0) & (POLLERR | POLLHUP)) != 0;
}

Task<> wait_in_line(Visitor& client) {
  const ServerOptions& options = client.options();
  bool placed = true;
  if (options.max_wait == Duration::zero()) {
    co_await client.place();
  } else {
    placed = co_await within(options.max_wait, client.place());
  }
  if (placed && !client.gone()) {
    co_await client.serve();
  } else if (!placed) {
    if (options.log != Log::kErrors) {
      complain_with([&] {
        return concat({client.peer().text(), ": no place came free in time"});
      });
    }
    co_await client.refuse();
  }
}

// ------------------------------------------------------------------- refusing

namespace {

Task<> say(Refusal words, Connection& client) {
  co_await words(client);
  co_await take_leave(client);
}

}  // namespace

Task<> Visitor::refuse() {
  if (options().refused == nullptr) co_return;
  co_await within(options().refusal_time, say(options().refused, connection_));
}

Task<> turn_away(Visitor& client) {
  co_await client.refuse();
}

}  // namespace violet
