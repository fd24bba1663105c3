// listener.cpp - accepting, and what to do when it cannot be done.
// SPDX-License-Identifier: MIT
#include "listener.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>

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

namespace {

/// Throws what is wrong with a socket that should listen.
void expect_to_listen(int fd) {
  int listens = 0;
  unsigned size = sizeof listens;
  const int refused =
      sys::calls->getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
  const int error = refused < 0 ? -refused : EINVAL;
  if (listens == 0) throw_system(error, concat({"listener fd ", fd}));
}

}  // namespace

void Listener::open(Fd socket, std::uint8_t traits) {
  address_ = local_address(socket.get());
  descriptor_ =
      Descriptor(Slots::here().open(std::move(socket), traits, kReadable));
}

// When several processes share it, another one may take the client that woke
// us; so it must not block.
Listener::Listener(Fd socket) {
  const int fd = socket.get();
  expect_to_listen(fd);
  sys::set_nonblocking(fd);
  open(std::move(socket), kAdopted);
}

Listener::Listener(const Address& address, ListenOptions options) {
  open(listen_socket(address, options, path_), 0);
}

void AcceptEvent::move_to(const Listener& listener) noexcept {
  use(listener.descriptor().slot());
}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this != &other) {
    path_ = std::move(other.path_);  // the old one goes before its socket
    descriptor_ = std::move(other.descriptor_);
    address_ = other.address_;
  }
  return *this;
}

std::size_t Listener::backlog() const noexcept {
  const int count = sys::calls->backlog(descriptor_.fd());
  return count < 0 ? SOMAXCONN : static_cast<std::size_t>(count);
}

std::vector<Fd> inherited_sockets() {
  std::vector<Fd> sockets;
  const char* const process = std::getenv("LISTEN_PID");
  const char* const count = std::getenv("LISTEN_FDS");
  if (process == nullptr || count == nullptr) return sockets;
  if (std::atol(process) != ::getpid()) return sockets;
  const int end = 3 + std::atoi(count);
  for (int fd = 3; fd < end; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) sockets.push_back(Fd(fd));
  }
  ::unsetenv("LISTEN_PID");  // no child shall take them for its own
  ::unsetenv("LISTEN_FDS");
  return sockets;
}

}  // namespace violet
