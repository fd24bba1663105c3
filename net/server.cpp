// server.cpp - accepting, logging, draining.
// SPDX-License-Identifier: MIT
#include "server.hpp"

#include <poll.h>

#include <algorithm>
#include <cstring>

namespace violet {

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
      member->remote_.post([queue = member->queue_] { wake_all(*queue); });
      member->waits_ = false;
    });
  }
}

std::string ServerSummary::text() const {
  return concat({"stopped: ", served, " served, ", cut, " cut"});
}

namespace internal {

namespace {

/// Without a grace, too, who is in the backlog is taken.
constexpr Duration kBacklogTime = std::chrono::milliseconds(100);

/// A peer that resets or vanishes is its own business.
bool is_the_peers_doing(const std::exception_ptr& error) noexcept {
  const auto* refusal = exception_as<std::system_error>(error);
  return refusal != nullptr &&
         (refusal->code() == std::errc::connection_reset ||
          refusal->code() == std::errc::broken_pipe);
}

}  // namespace

Handoff::Handoff(Connection&& connection) noexcept
    : connection_(std::move(connection)),
      index_(connection_.descriptor().slot()->index),
      generation_(connection_.descriptor().slot()->generation) {}

// Closing has made the slot one generation older; its note stays until it is
// used again, which would show in an open descriptor or a later generation.
Address Handoff::peer() const noexcept {
  const Slot& slot = Slots::here().at(index_);
  const bool open = slot.fd >= 0 && slot.generation == generation_;
  const bool closed = slot.fd < 0 && slot.generation == generation_ + 1;
  return open || closed ? noted_peer(slot) : Address();
}

Handlers::Handlers(const Listener& listener, const ServerOptions& options,
                   PeerOf peer_of)
    : Group(Loop::current(), Loop::current().current_job()),
      listener_(listener),
      options_(options),
      peer_of_(peer_of),
      hears_(loop()),
      room_(std::make_shared<WaitQueue>()) {
  if (options_.shared_limit != nullptr) {
    shared_.emplace(*options_.shared_limit, loop().remote(), room_);
  }
}

void Handlers::failed(JobBlock& child) noexcept {
  const Ending& ending = *child.ending();
  if (options_.log != Log::kVerbose && is_the_peers_doing(ending.error)) {
    return;
  }
  complain_with([&] {
    // Handlers may spawn jobs that have no client of their own.
    const std::string who =
        child.marked() ? peer_of_(child).text() : concat({"job #", child.id()});
    return concat({who, ": handler failed ", ending.text()});
  });
}

void Handlers::left(JobBlock&) noexcept {
  if (empty()) wake_all(drained_);
}

void Handlers::give_room_back() noexcept {
  --clients_;
  if (shared_) shared_->give_back();
  wake_all(*room_);
}

void Handlers::turned_away() noexcept {
  complain("out of memory: a client was turned away");
}

/// Takes a place for one more client. Returns: false if there is none; room_
/// is then woken when there may be.
bool Handlers::take_room() noexcept {
  const std::size_t most = options_.max_connections;
  if (most != 0 && clients_ >= most) return false;
  const bool taken = !shared_ || shared_->take();
  if (taken) ++clients_;
  return taken;
}

/// True if there is a client in the backlog.
bool Handlers::somebody_waits() const noexcept {
  return sys::poll_now(listener_.descriptor().fd(), POLLIN) > 0;
}

/// Ends what is idle, now and from now on.
void Handlers::begin_to_stop() noexcept {
  if (stopping()) return;
  stopped_at_ = loop().now();
  backlog_ = listener_.backlog();
  // Who came since the last turn has not been announced yet.
  if (Slot* slot = listener_.descriptor().slot()) slot->ready |= kReadable;
  end_idle();
}

/// True once all who stood in the backlog at the stop are accepted: a crowd
/// that keeps coming must not keep a server from stopping. If that takes too
/// long, the rest is left alone.
bool Handlers::closed() const noexcept {
  if (!stopping()) return false;
  if (backlog_ == 0) return true;
  return loop().now() - stopped_at_ > std::max(options_.grace, kBacklogTime);
}

/// What is left of the grace; negative when it is over.
Duration Handlers::time_left() const noexcept {
  return after(stopped_at_, options_.grace) - loop().now();
}

// A place in a shared limit is held only once there is a client for it: an
// idle server must not keep it from a busy one.
bool Handlers::NextEvent::attempt() noexcept {
  leave_queues();
  Loop& loop = handlers_.loop();
  if (loop.stop_requested()) handlers_.begin_to_stop();
  if (handlers_.closed()) {
    undo();
    return stopped_ = true;
  }
  if (handlers_.take_room()) {
    const bool done = attempt_part(accept_);
    if (!done || accept_.error() != 0) handlers_.give_room_back();
    if (done) {
      loop.timers().stop(grace_);
      if (handlers_.stopping()) --handlers_.backlog_;
      return true;
    }
  } else {
    undo_part(accept_);
    stand_in(*handlers_.room_, room_place_, *job());
  }
  if (handlers_.stopping()) return attempt_to_stop();
  stand_in(loop.stop_waiters(), stop_place_, *job());
  return false;
}

/// Returns: false if somebody in the backlog may still get room.
bool Handlers::NextEvent::attempt_to_stop() noexcept {
  Loop& loop = handlers_.loop();
  const TimePoint end = after(loop.now(), handlers_.time_left());
  const bool lacks_something = room_place_.in_list() || accept_.paused();
  if (lacks_something && handlers_.time_left() > Duration::zero() &&
      handlers_.somebody_waits() &&
      (grace_.active() || loop.timers().start(grace_, end, *job()))) {
    return false;
  }
  undo();
  return stopped_ = true;
}

void Handlers::NextEvent::undo() noexcept {
  leave_queues();
  undo_part(accept_);
  handlers_.loop().timers().stop(grace_);
}

void Handlers::NextEvent::leave_queues() noexcept {
  leave(*handlers_.room_, room_place_);
  leave(handlers_.loop().stop_waiters(), stop_place_);
}

void Handlers::NextEvent::describe(Description& out) const {
  if (room_place_.in_list()) {
    out.text = "room for one more connection";
  } else {
    accept_.describe(out);
  }
}

std::optional<Connection> Handlers::NextEvent::result() {
  if (stopped_) return std::nullopt;
  Connection client = accept_.result();
  ++handlers_.summary_.served;
  return client;
}

/// Waits until the last handler has left.
class Handlers::DrainedEvent final : public Event {
 public:
  explicit DrainedEvent(Handlers& handlers) noexcept : handlers_(handlers) {}
  DrainedEvent(DrainedEvent&& other) noexcept
      : Event(std::move(other)), handlers_(other.handlers_) {}
  bool attempt() noexcept override {
    if (handlers_.empty()) return true;
    stand_in(handlers_.drained_, place_, *job());
    return false;
  }
  void undo() noexcept override { leave(handlers_.drained_, place_); }
  void describe(Description& out) const override {
    out.text = concat({"end of ", handlers_.size(), " jobs"});
  }
  void result() const noexcept {}

 private:
  Handlers& handlers_;
  Waiter place_;
};

Task<> Handlers::drain() {
  const bool drained = co_await within(time_left(), DrainedEvent(*this));
  if (drained) co_return;
  summary_.cut = clients_;
  kill_all("the grace is over");
}

void announce(const Address& address) {
  if (!in_program()) return;
  print_line(concat({program_name(), ": listening on ", address.text()}));
}

}  // namespace internal

}  // namespace violet
