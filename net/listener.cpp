// listener.cpp - accepting, and what to do when it cannot be done.
// SPDX-License-Identifier: MIT
#include "listener.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>

namespace violet {

namespace {

using namespace std::chrono_literals;

constexpr Duration kRetryAfter = 100ms;

/// Errors of a connection that was in the backlog, not of the listener: the
/// list in accept(2), "Error handling", and what firewalls cause.
bool concerns_one_client(int error) noexcept {
  switch (error) {
    case ECONNABORTED:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
#ifdef ENONET
    case ENONET:
#endif
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM: return true;
    default: return false;
  }
}

void complain_of(int error) noexcept {
  complain_with([=] {
    return concat({"accept: ", std::system_category().message(error),
                   "; clients wait until some connections are closed"});
  });
}

bool may_pass(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOBUFS ||
         error == ENOMEM;
}

}  // namespace

bool AcceptEvent::attempt() noexcept {
  end_pause();
  const bool done = drive<Direction::kRead>([this](int fd) -> ssize_t {
    const ssize_t result = accept_on(fd);
    if (!may_pass(static_cast<int>(-result))) return result;
    return pause(static_cast<int>(-result)) ? -EAGAIN : result;
  });
  if (done) end_pause();
  return done;
}

ssize_t AcceptEvent::accept_on(int fd) noexcept {
  if (!Slots::here().prepare()) return -ENOMEM;
  sockaddr_storage name{};
  auto* peer = reinterpret_cast<sockaddr*>(&name);
  unsigned size = 0;
  const auto accept_once = [&] {
    size = sizeof name;
    return sys::calls->accept(fd, peer, &size);
  };
  int number = sys::uninterrupted(accept_once);
  while (number < 0 && concerns_one_client(-number)) {
    number = sys::uninterrupted(accept_once);
  }
  if (number < 0) return number;
  Slot& slot = internal::open_connection(
      Fd(number), Address::from(peer, std::max<unsigned>(
                                          size, offsetof(sockaddr, sa_data))));
  slot.traits |= kServed;
  set_no_delay(number, name.ss_family);
  accepted_ = Descriptor(slot);
  return 0;
}

/// Has the job woken when a descriptor is freed, or after a while; the client
/// is still in the backlog then, so the listener counts as ready again.
/// Returns: false if there is no memory for that.
bool AcceptEvent::pause(int error) noexcept {
  Loop& loop = loop_of(*job());
  if (!loop.timers().start(retry_, after(loop.now(), kRetryAfter), *job())) {
    return false;
  }
  paused_ = true;
  descriptor_freed_.job = job();
  Slots::here().starved().push_back(descriptor_freed_);
  if ((slot_->traits & kComplained) == 0) complain_of(error);
  slot_->traits |= kComplained;
  return true;
}

void AcceptEvent::end_pause() noexcept {
  if (!std::exchange(paused_, false)) return;
  loop_of(*job()).timers().stop(retry_);
  leave(Slots::here().starved(), descriptor_freed_);
  slot_->ready |= kReadable;
}

void AcceptEvent::undo() noexcept {
  end_pause();
  undo_claim(Direction::kRead);
}

void AcceptEvent::describe(Description& out) const {
  const int fd = slot_ == nullptr ? -1 : slot_->fd;
  out.text = concat({"accept fd ", fd});
}

Connection AcceptEvent::result() {
  const int fd = slot_ == nullptr ? -1 : slot_->fd;
  if (error_ != 0) raise("accept", concat({"fd ", fd}));
  return Connection(std::move(accepted_));
}

Listener::Listener(Fd socket) : address_(local_address(socket.get())) {
  descriptor_ = Descriptor(Slots::here().open(std::move(socket), 0, kReadable));
}

// Of a listening socket, Linux tells the length of the queue where it tells of
// others what has not been acknowledged.
std::size_t Listener::backlog() const noexcept {
#ifdef __linux__
  tcp_info info{};
  unsigned size = sizeof info;
  constexpr std::size_t kEnd =
      offsetof(tcp_info, tcpi_unacked) + sizeof info.tcpi_unacked;
  const int failed = sys::calls->getsockopt(descriptor_.fd(), IPPROTO_TCP,
                                            TCP_INFO, &info, &size);
  if (failed == 0 && size >= kEnd) return info.tcpi_unacked;
#endif
  return SOMAXCONN;
}

}  // namespace violet
