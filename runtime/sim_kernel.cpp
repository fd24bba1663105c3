// sim_kernel.cpp - the calls on simulated sockets.
// SPDX-License-Identifier: MIT
#include "sim_kernel.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>

#include "error.hpp"

namespace violet::internal {

namespace {

using State = SimSocket::State;

// Real numbers are small: the kernel gives the least that is free. Each
// network has a range of its own, so that no number of one that is gone means
// anything to the next.
constexpr int kFirstNumber = 1 << 30;
constexpr int kNumbers = 1 << 20;
constexpr unsigned kRanges = 1 << 10;

int first_number() noexcept {
  static std::atomic<unsigned> networks{0};
  const unsigned range = networks.fetch_add(1) % kRanges;
  return kFirstNumber + static_cast<int>(range) * kNumbers;
}

// What Linux gives to sockets that ask for no port in particular.
constexpr std::uint16_t kFirstFreePort = 32768;
constexpr std::uint16_t kLastFreePort = 60999;

bool is_simulated(int domain, int type) noexcept {
#ifdef SOCK_NONBLOCK
  constexpr int kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
#else
  constexpr int kFlags = 0;
#endif
  return (type & ~kFlags) == SOCK_STREAM &&
         (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX);
}

/// Returns: 0, or the error of a name that is none for this socket.
int fault_in(const sockaddr* name, unsigned size,
             const SimSocket& socket) noexcept {
  const int family = socket.local.family();
  const std::size_t least = family == AF_INET ? sizeof(sockaddr_in)
                            : family == AF_INET6
                                ? sizeof(sockaddr_in6)
                                : offsetof(sockaddr, sa_data) + 1;
  if (size < least || size > sizeof(sockaddr_storage)) return EINVAL;
  return name->sa_family == family ? 0 : EAFNOSUPPORT;
}

}  // namespace

SimKernel::SimKernel()
    : SimWire(static_cast<Poller&>(*this)),
      first_number_(first_number()),
      port_holders_(1 << 16),
      next_port_(kFirstFreePort) {}

// -------------------------------------------------------------------- numbers

bool SimKernel::is_ours(int fd) const noexcept {
  return fd >= first_number_ && fd - first_number_ < kNumbers;
}

SimSocket* SimKernel::find(int fd) const noexcept {
  if (!is_ours(fd)) return nullptr;
  const auto index = static_cast<std::size_t>(fd - first_number_);
  return index < sockets_.size() ? sockets_[index].get() : nullptr;
}

/// The least number that is free, as the kernel does it: whoever uses a
/// descriptor after it is closed soon meets another one.
int SimKernel::give_number(std::unique_ptr<SimSocket> socket) {
  if (open_ == kNumbers) return -EMFILE;
  if (free_numbers_.empty()) {
    free_numbers_.push_back(first_number_ + static_cast<int>(sockets_.size()));
    sockets_.emplace_back();
  }
  std::pop_heap(free_numbers_.begin(), free_numbers_.end(), std::greater<>());
  const int number = free_numbers_.back();
  free_numbers_.pop_back();
  sockets_[static_cast<std::size_t>(number - first_number_)] =
      std::move(socket);
  ++open_;
  return number;
}

int SimKernel::socket(int domain, int type, int protocol) noexcept {
  if (!is_simulated(domain, type)) {
    return Layer::socket(domain, type, protocol);
  }
  return give_number(std::make_unique<SimSocket>(domain));
}

int SimKernel::close(int fd) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return is_ours(fd) ? -EBADF : Layer::close(fd);
  forget(*socket);
  give_up_address(*socket);
  if (socket->state == State::kListening) {
    turn_all_away(*socket);
  } else {
    leave(*socket);
  }
  sockets_[static_cast<std::size_t>(fd - first_number_)].reset();
  free_numbers_.push_back(fd);
  std::push_heap(free_numbers_.begin(), free_numbers_.end(), std::greater<>());
  --open_;
  return 0;
}

// ------------------------------------------------------------------ addresses

/// Returns: 0 if none is left.
std::uint16_t SimKernel::free_port() noexcept {
  for (int tries = kFirstFreePort; tries <= kLastFreePort; ++tries) {
    const std::uint16_t port = next_port_;
    next_port_ = port == kLastFreePort ? kFirstFreePort
                                       : static_cast<std::uint16_t>(port + 1);
    if (port_holders_[port] == 0) return port;
  }
  return 0;
}

bool SimKernel::is_taken(const SimName& name, bool shares) const noexcept {
  return std::any_of(bound_.begin(), bound_.end(), [&](const SimSocket* other) {
    const bool overlaps = other->local.hears(name) || name.hears(other->local);
    return overlaps && !(shares && other->shares_port);
  });
}

/// Makes the port of a local name the socket's own, and finds one first if it
/// has none. Returns: 0, or an error number when none is left.
int SimKernel::take_port(SimSocket& socket) noexcept {
  if (!socket.local.is_ip()) return 0;
  if (socket.local.port() == 0) {
    const std::uint16_t port = free_port();
    if (port == 0) return EADDRINUSE;
    socket.local.set_port(port);
  }
  ++port_holders_[socket.local.port()];
  socket.holds_port = true;
  return 0;
}

void SimKernel::give_up_address(SimSocket& socket) noexcept {
  std::erase(bound_, &socket);
  if (std::exchange(socket.holds_port, false)) {
    --port_holders_[socket.local.port()];
  }
}

int SimKernel::bind(int fd, const sockaddr* name, unsigned size) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::bind(fd, name, size);
  if (socket->bound || socket->state != State::kFresh) return -EINVAL;
  if (const int fault = fault_in(name, size, *socket)) return -fault;
  const SimName wanted(name, size);
  const bool named = !wanted.is_ip() || wanted.port() != 0;
  if (named && is_taken(wanted, socket->shares_port)) return -EADDRINUSE;
  socket->local = wanted;
  if (const int error = take_port(*socket)) return -error;
  socket->bound = true;
  bound_.push_back(socket);
  return 0;
}

int SimKernel::listen(int fd, int backlog) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::listen(fd, backlog);
  if (socket->state != State::kFresh && socket->state != State::kListening) {
    return -EINVAL;
  }
  if (!socket->bound) {
    if (!socket->local.is_ip()) return -EINVAL;
    if (const int error = take_port(*socket)) return -error;
    socket->bound = true;
    bound_.push_back(socket);
  }
  socket->state = State::kListening;
  socket->backlog = static_cast<std::size_t>(std::max(1, backlog));
  return 0;
}

/// The one with the fewest waiting, where several share the port.
SimSocket* SimKernel::listener_at(const SimName& name) const noexcept {
  SimSocket* best = nullptr;
  for (SimSocket* socket : bound_) {
    if (socket->state != State::kListening || !socket->local.hears(name)) {
      continue;
    }
    if (best == nullptr || socket->clients.size() < best->clients.size()) {
      best = socket;
    }
  }
  return best;
}

int SimKernel::unlink(const char* path) noexcept {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  ::strncpy(name.sun_path, path, sizeof name.sun_path - 1);
  const SimName wanted(reinterpret_cast<sockaddr*>(&name), sizeof name);
  const auto found = std::find_if(
      bound_.begin(), bound_.end(),
      [&](const SimSocket* socket) { return socket->local.hears(wanted); });
  if (found == bound_.end()) return Layer::unlink(path);
  bound_.erase(found);
  return 0;
}

int SimKernel::backlog(int fd) noexcept {
  const SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::backlog(fd);
  return static_cast<int>(socket->clients.size());
}

int SimKernel::getsockname(int fd, sockaddr* name, unsigned* size) noexcept {
  const SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::getsockname(fd, name, size);
  socket->local.tell(name, size);
  return 0;
}

int SimKernel::getpeername(int fd, sockaddr* name, unsigned* size) noexcept {
  const SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::getpeername(fd, name, size);
  if (socket->state != State::kConnected) return -ENOTCONN;
  socket->peer.tell(name, size);
  return 0;
}

// ---------------------------------------------------------------- connections

int SimKernel::connect(int fd, const sockaddr* name, unsigned size) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::connect(fd, name, size);
  if (socket->state == State::kConnecting) return -EALREADY;
  if (socket->state != State::kFresh) return -EISCONN;
  if (const int fault = fault_in(name, size, *socket)) return -fault;
  socket->peer = SimName(name, size);
  socket->peer.settle();
  if (socket->local.is_any()) {
    const std::uint16_t port = socket->local.port();
    socket->local = socket->peer;
    socket->local.set_port(port);
  }
  if (!socket->holds_port && take_port(*socket) != 0) return -EADDRNOTAVAIL;
  socket->error = 0;
  socket->state = State::kConnecting;
  socket->end = 0;
  socket->path = std::make_shared<SimPath>();
  socket->path->ends[0] = socket;
  socket->path->ports = {socket->local.port(), socket->peer.port()};
  tell_peer(*socket, Travels::kKnock);
  return -EINPROGRESS;
}

/// Something has come to an end of a path.
void SimKernel::arrived(Parcel& parcel) {
  if (parcel.what == Travels::kKnock) return knocked(parcel.path);
  const auto end = static_cast<std::size_t>(parcel.to);
  SimSocket* socket = parcel.path->ends[end];
  if (socket == nullptr) {
    // Nobody will read what comes to a closed socket: its peer learns that.
    if (parcel.what != Travels::kBytes) return;
    return dispatch({parcel.path, 1 - parcel.to, Travels::kReset});
  }
  if (socket->state == State::kBroken) return;
  switch (parcel.what) {
    case Travels::kBytes:
      socket->received.append(parcel.bytes);
      return edge(*socket, kReadable);
    case Travels::kEnd:
      socket->peer_ended = true;
      return edge(*socket, kReadable | kEnded);
    case Travels::kRoom:
      socket->unread -= parcel.room;
      if (!socket->wants_room || !socket->has_room(limit_)) return;
      socket->wants_room = false;
      return edge(*socket, kWritable);
    case Travels::kReset: return break_off(*socket, ECONNRESET);
    case Travels::kGone: return break_off(*socket, 0);
    case Travels::kKnock: return;
  }
}

void SimKernel::tell_peer(const SimSocket& socket, Travels what) {
  dispatch({socket.path, 1 - socket.end, what});
}

void SimKernel::knocked(const std::shared_ptr<SimPath>& path) {
  SimSocket* client = path->ends[0];
  if (client == nullptr) return;  // it has given up meanwhile
  SimSocket* listener = listener_at(client->peer);
  if (listener == nullptr) return break_off(*client, ECONNREFUSED);
  if (listener->clients.size() < listener->backlog) {
    admit(*listener, path);
  } else {
    listener->knocking.push_back(path);
  }
}

/// Connects who has knocked with a socket in the listener's backlog.
void SimKernel::admit(SimSocket& listener,
                      const std::shared_ptr<SimPath>& path) {
  SimSocket& client = *path->ends[0];
  auto server = std::make_unique<SimSocket>(client.local.family());
  server->local = client.peer;
  server->peer = client.local;
  server->state = client.state = State::kConnected;
  server->path = path;
  server->end = 1;
  path->ends[1] = server.get();
  listener.clients.push_back(std::move(server));
  edge(client, kWritable);
  edge(listener, kReadable);
}

int SimKernel::accept(int fd, sockaddr* peer, unsigned* size) noexcept {
  SimSocket* listener = find(fd);
  if (listener == nullptr) return Layer::accept(fd, peer, size);
  if (listener->state != State::kListening) return -EINVAL;
  if (listener->clients.empty()) return -EAGAIN;
  if (open_ == kNumbers) return -EMFILE;
  std::unique_ptr<SimSocket> client = std::move(listener->clients.front());
  listener->clients.pop_front();
  client->peer.tell(peer, size);
  while (!listener->knocking.empty() &&
         listener->clients.size() < listener->backlog) {
    const auto path = std::move(listener->knocking.front());
    listener->knocking.pop_front();
    if (path->ends[0] != nullptr) admit(*listener, path);
  }
  return give_number(std::move(client));
}

/// A listener closes: whoever waits there is refused or reset.
void SimKernel::turn_all_away(SimSocket& listener) noexcept {
  for (const auto& path : listener.knocking) {
    dispatch({path, 0, Travels::kReset});
  }
  for (const auto& client : listener.clients) {
    client->path->ends[1] = nullptr;
    if (client->state == State::kConnected) {
      tell_peer(*client, Travels::kReset);
    }
  }
}

/// A stream closes.
void SimKernel::leave(SimSocket& socket) noexcept {
  if (socket.path == nullptr) return;
  socket.path->ends[static_cast<std::size_t>(socket.end)] = nullptr;
  if (socket.state != State::kConnected) return;
  if (socket.resets_on_close || !socket.received.empty()) {
    tell_peer(socket, Travels::kReset);
  } else if (!socket.local.is_ip()) {
    tell_peer(socket, Travels::kGone);
  } else if (!socket.writes_ended) {
    tell_peer(socket, Travels::kEnd);
  }
}

/// A connection breaks, or does not come to be. What was received before can
/// still be read. After the end of the stream a reset is EPIPE, as on Linux.
void SimKernel::break_off(SimSocket& socket, int error) noexcept {
  if (socket.state == State::kConnecting) {
    socket.path->ends[0] = nullptr;
    socket.path.reset();
    socket.state = State::kFresh;
    socket.error = ECONNREFUSED;
  } else {
    socket.state = State::kBroken;
    socket.error = error != 0 && socket.peer_ended ? EPIPE : error;
  }
  edge(socket, kEverything);
}

void SimKernel::reset_path(SimPath& path) noexcept {
  for (SimSocket* socket : path.ends) {
    if (socket != nullptr && socket->state == State::kConnected) {
      break_off(*socket, ECONNRESET);
    }
  }
}

bool SimKernel::reset(int descriptor) noexcept {
  SimSocket* socket = find(descriptor);
  if (socket == nullptr || socket->state != State::kConnected) return false;
  reset_path(*socket->path);
  return true;
}

void SimKernel::reset_all() noexcept {
  for (const auto& socket : sockets_) {
    if (socket == nullptr) continue;
    if (socket->state == State::kConnected) reset_path(*socket->path);
    for (const auto& client : socket->clients) reset_path(*client->path);
  }
}

int SimKernel::shutdown(int fd, int how) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::shutdown(fd, how);
  if (socket->state != State::kConnected) return -ENOTCONN;
  if (how != SHUT_WR) socket->reads_end = true;
  if (how != SHUT_RD && !std::exchange(socket->writes_ended, true)) {
    tell_peer(*socket, Travels::kEnd);
  }
  edge(*socket, kEverything);
  return 0;
}

void SimKernel::join(SimSocket& near, SimSocket& far) {
  near.path = far.path = std::make_shared<SimPath>();
  near.path->ends = {&near, &far};
  near.path->ports = {near.local.port(), far.local.port()};
  near.peer = far.local;
  far.peer = near.local;
  far.end = 1;
  near.state = far.state = State::kConnected;
}

/// Returns: two numbers; the first is a negated error number if there are no
/// more.
std::array<int, 2> SimKernel::make_pair(int family) {
  std::array<int, 2> numbers = {-1, -1};
  if (open_ + 2 > kNumbers) return {-EMFILE, -EMFILE};
  for (int& number : numbers) {
    number = give_number(std::make_unique<SimSocket>(family));
    find(number)->local.settle();
    take_port(*find(number));
  }
  join(*find(numbers[0]), *find(numbers[1]));
  return numbers;
}

int SimKernel::socketpair(int domain, int type, int protocol,
                          int (&fds)[2]) noexcept {
  if (domain != AF_UNIX || !is_simulated(domain, type)) {
    return Layer::socketpair(domain, type, protocol, fds);
  }
  const auto numbers = make_pair(domain);
  if (numbers[0] < 0) return numbers[0];
  std::copy(numbers.begin(), numbers.end(), fds);
  return 0;
}

std::array<Fd, 2> SimKernel::pair() {
  const auto numbers = make_pair(AF_INET);
  if (numbers[0] < 0) throw_system(-numbers[0], "pair");
  return {Fd(numbers[0]), Fd(numbers[1])};
}

// -------------------------------------------------------------------- streams

ssize_t SimKernel::recv(int fd, void* data, std::size_t size,
                        int flags) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::recv(fd, data, size, flags);
  if ((flags & ~(MSG_PEEK | MSG_DONTWAIT | MSG_NOSIGNAL)) != 0) {
    return -EOPNOTSUPP;
  }
  if (socket->state == State::kConnecting) return -EAGAIN;
  if (socket->path == nullptr) return -ENOTCONN;
  if (size == 0) return 0;
  if (socket->received.empty()) {
    if (socket->peer_ended) return 0;
    if (socket->error != 0) return -std::exchange(socket->error, 0);
    const bool over = socket->state == State::kBroken || socket->reads_end;
    return over ? 0 : -EAGAIN;
  }
  const std::size_t count = socket->received.copy(data, size);
  if ((flags & MSG_PEEK) == 0) {
    socket->received.drop(count);
    dispatch({socket->path, 1 - socket->end, Travels::kRoom, {}, count});
  }
  return static_cast<ssize_t>(count);
}

ssize_t SimKernel::send(int fd, const void* data, std::size_t size,
                        int flags) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::send(fd, data, size, flags);
  if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) != 0) return -EOPNOTSUPP;
  if (socket->error != 0) return -std::exchange(socket->error, 0);
  if (socket->state == State::kConnecting) return -EAGAIN;
  if (socket->state != State::kConnected || socket->writes_ended) {
    return -EPIPE;
  }
  const std::size_t free =
      limit_ > socket->unread ? limit_ - socket->unread : 0;
  const std::size_t count = std::min(size, free);
  if (count < size) socket->wants_room = true;
  if (count == 0) return size == 0 ? 0 : -EAGAIN;
  socket->unread += count;
  dispatch({socket->path, 1 - socket->end, Travels::kBytes,
            std::string(static_cast<const char*>(data), count)});
  return static_cast<ssize_t>(count);
}

ssize_t SimKernel::read(int fd, void* data, std::size_t size) noexcept {
  return find(fd) == nullptr ? Layer::read(fd, data, size)
                             : recv(fd, data, size, 0);
}

// Whoever hears that it cannot be done reads and sends.
ssize_t SimKernel::sendfile(int socket, int file, std::int64_t offset,
                            std::size_t size) noexcept {
  return find(socket) == nullptr ? Layer::sendfile(socket, file, offset, size)
                                 : -EINVAL;
}

ssize_t SimKernel::write(int fd, const void* data, std::size_t size) noexcept {
  return find(fd) == nullptr ? Layer::write(fd, data, size)
                             : send(fd, data, size, 0);
}

void SimKernel::limit_buffer(std::size_t bytes) noexcept {
  limit_ = bytes;
  for (const auto& socket : sockets_) {
    if (socket != nullptr && socket->wants_room && socket->has_room(limit_)) {
      socket->wants_room = false;
      edge(*socket, kWritable);
    }
  }
}

// -------------------------------------------------------------------- options

int SimKernel::getsockopt(int fd, int level, int name, void* value,
                          unsigned* size) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::getsockopt(fd, level, name, value, size);
  int answer = 0;
  for (const auto& option : socket->options) {
    if (option[0] == level && option[1] == name) answer = option[2];
  }
  if (level == SOL_SOCKET) {
    switch (name) {
      case SO_TYPE: answer = SOCK_STREAM; break;
#ifdef SO_DOMAIN
      case SO_DOMAIN: answer = socket->local.family(); break;
#endif
      case SO_ERROR: answer = std::exchange(socket->error, 0); break;
      case SO_ACCEPTCONN: answer = socket->state == State::kListening; break;
    }
  }
  *size = std::min<unsigned>(*size, sizeof answer);
  std::memcpy(value, &answer, *size);
  return 0;
}

int SimKernel::setsockopt(int fd, int level, int name, const void* value,
                          unsigned size) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::setsockopt(fd, level, name, value, size);
  std::array<int, 3> option = {level, name, 0};
  std::memcpy(&option[2], value, std::min<std::size_t>(size, sizeof(int)));
  if (level == SOL_SOCKET && name == SO_REUSEPORT) {
    socket->shares_port = option[2] != 0;
  }
  if (level == SOL_SOCKET && name == SO_LINGER) {
    linger how{};
    std::memcpy(&how, value, std::min<std::size_t>(size, sizeof how));
    socket->resets_on_close = how.l_onoff != 0 && how.l_linger == 0;
  }
  std::erase_if(socket->options, [&](const std::array<int, 3>& before) {
    return before[0] == level && before[1] == name;
  });
  socket->options.push_back(option);
  return 0;
}

int SimKernel::get_flags(int fd) noexcept {
  const SimSocket* socket = find(fd);
  return socket == nullptr ? Layer::get_flags(fd) : socket->flags;
}

int SimKernel::set_flags(int fd, int flags) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return Layer::set_flags(fd, flags);
  socket->flags = flags;
  return 0;
}

int SimKernel::file_type(int fd) noexcept {
  return find(fd) == nullptr ? Layer::file_type(fd) : S_IFSOCK;
}

// -------------------------------------------------------------------- polling

// With a simulated descriptor among them it only looks: virtual time belongs
// to the loop.
int SimKernel::poll(pollfd* descriptors, unsigned long count,
                    int timeout_ms) noexcept {
  const std::span<pollfd> all(descriptors, count);
  const auto simulated = [this](const pollfd& one) {
    return find(one.fd) != nullptr;
  };
  if (std::none_of(all.begin(), all.end(), simulated)) {
    return Layer::poll(descriptors, count, timeout_ms);
  }
  int ready = 0;
  for (pollfd& one : all) {
    if (SimSocket* socket = find(one.fd)) {
      constexpr int kAlways = POLLERR | POLLHUP;
      one.revents = static_cast<short>(socket->condition(limit_) &
                                       (one.events | kAlways));
    } else if (const int error = Layer::poll(&one, 1, 0); error < 0) {
      return error;
    }
    if (one.revents != 0) ++ready;
  }
  return ready;
}

}  // namespace violet::internal
