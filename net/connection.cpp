// connection.cpp - the attempts on a stream socket.
// SPDX-License-Identifier: MIT
#include "connection.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "socket.hpp"

namespace violet {

// ---------------------------------------------------------------- lent buffers

namespace internal {

namespace {

/// Frees the kept buffers when their thread ends.
struct PoolKeeper {
  ~PoolKeeper() { buffer_pool.clear(); }
  void arm() const noexcept {}
};
thread_local PoolKeeper keeper;

}  // namespace

char* BufferPool::take_more() noexcept {
  if (kept_count_ > 0) return kept_[--kept_count_];
  keeper.arm();
  return static_cast<char*>(sys::calls->allocate(kBytes));
}

void BufferPool::keep(char* buffer) noexcept {
  if (kept_count_ == kMostKept) return std::free(buffer);
  kept_[kept_count_++] = buffer;
}

void BufferPool::clear() noexcept {
  std::free(std::exchange(at_hand_, nullptr));
  while (kept_count_ > 0) std::free(kept_[--kept_count_]);
}

// ------------------------------------------------------------ the noted peer

namespace {

/// An address in the 24 bytes of a slot's note. Unix peers have no name that
/// would be worth keeping.
struct PeerNote {
  std::uint16_t family;
  std::uint16_t port;  // network order, as all that follows
  std::uint32_t scope;
  unsigned char host[16];
};
static_assert(sizeof(PeerNote) == sizeof(Slot::note));

}  // namespace

Slot& open_connection(Fd socket, const Address& peer) {
  const int family = peer.family();
  const bool tcp = family == AF_INET || family == AF_INET6;
  // It can surely be written. Whether it can be read is left to the first
  // edge: asking would mostly cost a call that fails.
  const std::uint8_t traits = tcp ? kStream : 0;
  Slot& slot = Slots::here().open(std::move(socket), traits, kWritable);
  note_peer(slot, peer);
  return slot;
}

void note_peer(Slot& slot, const Address& peer) noexcept {
  const int family = peer.family();
  PeerNote note{};
  note.family = static_cast<std::uint16_t>(family);
  if (family == AF_INET) {
    const auto* name = reinterpret_cast<const sockaddr_in*>(peer.get());
    note.port = name->sin_port;
    std::memcpy(note.host, &name->sin_addr, sizeof name->sin_addr);
  } else if (family == AF_INET6) {
    const auto* name = reinterpret_cast<const sockaddr_in6*>(peer.get());
    note.port = name->sin6_port;
    note.scope = name->sin6_scope_id;
    std::memcpy(note.host, &name->sin6_addr, sizeof name->sin6_addr);
  }
  std::memcpy(slot.note, &note, sizeof note);
}

Address noted_peer(const Slot& slot) noexcept {
  PeerNote note;
  std::memcpy(&note, slot.note, sizeof note);
  sockaddr_storage storage{};
  unsigned size = 0;
  if (note.family == AF_INET) {
    auto* name = reinterpret_cast<sockaddr_in*>(&storage);
    name->sin_port = note.port;
    std::memcpy(&name->sin_addr, note.host, sizeof name->sin_addr);
    size = sizeof *name;
  } else if (note.family == AF_INET6) {
    auto* name = reinterpret_cast<sockaddr_in6*>(&storage);
    name->sin6_port = note.port;
    name->sin6_scope_id = note.scope;
    std::memcpy(&name->sin6_addr, note.host, sizeof name->sin6_addr);
    size = sizeof *name;
  } else if (note.family != 0) {
    size = offsetof(sockaddr, sa_data);
  }
  storage.ss_family = static_cast<sa_family_t>(note.family);
  return Address::from(reinterpret_cast<sockaddr*>(&storage), size);
}

bool Retry::pause(Stack& job) noexcept {
  constexpr Duration kLongest = std::chrono::milliseconds(64);
  Loop& loop = loop_of(job);
  if (!loop.timers().start(timer_, after(loop.now(), next_), job)) return false;
  next_ = std::min(2 * next_, kLongest);
  return true;
}

void Retry::stop(Stack& job) noexcept {
  loop_of(job).timers().stop(timer_);
}

}  // namespace internal

// ------------------------------------------------------------------- receiving

bool SocketEvent::awaits_request() const noexcept {
  if (slot_ == nullptr || (slot_->traits & kServed) == 0) return false;
  if ((slot_->ready & kOwesReply) != 0) return false;
  return sys::poll_now(slot_->fd, POLLIN) == 0;
}

bool RecvEvent::attempt() noexcept {
  if (buffer_.empty()) return true;
  return drive<Direction::kRead>([this](int fd) {
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::recv(fd, buffer_.data(), buffer_.size()); });
    if (count > 0) {
      got_ = static_cast<std::size_t>(count);
      slot_->received(got_, buffer_.size());
    }
    return count;
  });
}

// The usual outcome of receiving and of sending goes straight down, and
// whatever else there may be to do is put off to a second function: this is
// where a server spends its time.
bool RecvChunkEvent::receive_chunk() noexcept {
  auto& pool = internal::buffer_pool;
  char* buffer = pool.take();
  const ssize_t count =
      buffer == nullptr ? -ENOMEM : sys::recv(slot_->fd, buffer, pool.kBytes);
  if (count <= 0) [[unlikely]]
    return received_none(buffer, count);
  slot_->received(static_cast<std::size_t>(count), pool.kBytes);
  pool.filled = buffer;
  word_ = static_cast<std::uint32_t>(count);
  return conclude<Direction::kRead>(count);
}

bool RecvChunkEvent::received_none(char* buffer, ssize_t count) noexcept {
  if (buffer != nullptr) internal::buffer_pool.give_back(buffer);
  if (count == -EINTR) return receive_chunk();
  return conclude<Direction::kRead>(count);
}

// --------------------------------------------------------------------- sending

template <bool kAll>
bool BasicSendEvent<kAll>::send_now() noexcept {
  const std::size_t rest = data_.size() - sent_;
  const ssize_t count = sys::send(slot_->fd, data_.data() + sent_, rest);
  if (count != static_cast<ssize_t>(rest)) [[unlikely]]
    return conclude<Direction::kWrite>(send_on(slot_->fd, count));
  slot_->sent(rest);
  sent_ += rest;
  return conclude<Direction::kWrite>(0);
}

/// Goes on after a call that has taken `count` bytes, or failed. A short send
/// is probed until EAGAIN: the next edge comes only after that.
template <bool kAll>
ssize_t BasicSendEvent<kAll>::send_on(int fd, ssize_t count) noexcept {
  for (;;) {
    if (count < 0 && count != -EINTR) return count;
    if (count > 0) {
      slot_->sent(static_cast<std::size_t>(count));
      sent_ += static_cast<std::size_t>(count);
      if (!kAll || sent_ == data_.size()) return 0;
      if (!spend()) return kGoBehind;
    }
    count = sys::send(fd, data_.data() + sent_, data_.size() - sent_);
  }
}

template <bool kAll>
[[gnu::cold]] void BasicSendEvent<kAll>::describe(Description& out) const {
  describe_as(kAll ? "sendall" : "send", out);
  out.text += concat({" ", sent_, "/", data_.size()});
}

template class BasicSendEvent<false>;
template class BasicSendEvent<true>;

// ------------------------------------------------------------------ connecting

bool ConnectEvent::attempt() noexcept {
  if (retry_.pauses()) return false;
  if (slot_ == nullptr && begin_connecting()) return true;
  if (slot_ == nullptr) return false;
  return drive<Direction::kWrite>([](int fd) -> ssize_t {
    const int ready = sys::poll_now(fd, POLLOUT);
    if (ready <= 0) return ready == 0 ? -EAGAIN : ready;
    int error = 0;
    unsigned size = sizeof error;
    const int refused =
        sys::calls->getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return refused < 0 ? refused : -error;
  });
}

void ConnectEvent::undo() noexcept {
  retry_.stop(*job());
  undo_claim(Direction::kWrite);
}

/// Returns: true if the outcome is known at once. No slot: it is to be tried
/// again.
bool ConnectEvent::begin_connecting() noexcept {
  const int number = sys::calls->socket(address_.family(), SOCK_STREAM, 0);
  error_ = std::max(0, -number);
  if (error_ != 0) return true;
  Fd socket(number);
  set_no_delay(number, address_.family());
  const int result = sys::uninterrupted([&] {
    return sys::calls->connect(number, address_.get(), address_.size());
  });
  if (result == -EAGAIN && address_.family() == AF_UNIX) {
    if (!retry_.pause(*job())) error_ = ENOMEM;
    return error_ != 0;
  }
  const bool pending = result == -EINPROGRESS || result == -EALREADY;
  if (result < 0 && !pending) {
    error_ = -result;
    return true;
  }
  if (!Slots::here().prepare()) {
    error_ = ENOMEM;
    return true;
  }
  use(&internal::open_connection(std::move(socket), address_));
  descriptor_ = Descriptor(*slot_);
  if (pending) slot_->ready = 0;
  return !pending;
}

Connection ConnectEvent::value() noexcept {
  if (error_ != 0) return Connection();
  return Connection(std::move(descriptor_));
}

Connection ConnectEvent::result() {
  if (error_ != 0) throw_system(error_, concat({"connect ", address_.text()}));
  return Connection(std::move(descriptor_));
}

// ------------------------------------------------------------------ the rest

void SocketEvent::throw_error(const char* call) const {
  if (slot_ == nullptr) {
    throw_system(EBADF, concat({call, " on a Connection that was moved from"}));
  }
  raise(call, internal::noted_peer(*slot_).text());
}

[[gnu::cold]] void SocketEvent::describe_as(const char* call,
                                            Description& out) const {
  out.text = call;
  if (slot_ == nullptr) return;
  out.text +=
      concat({" fd ", slot_->fd, " ", internal::noted_peer(*slot_).text()});
}

Connection::Connection(Fd socket) {
  const Address peer = peer_address(socket.get());
  sys::set_nonblocking(socket.get());
  Slot& slot = internal::open_connection(std::move(socket), peer);
  slot.traits |= kAdopted;
  descriptor_ = Descriptor(slot);
}

void Connection::shutdown(Half half) const {
  std::error_code code;
  shutdown(half, code);
  if (code) throw_system(code.value(), concat({"shutdown ", peer().text()}));
}

void Connection::shutdown(Half half, std::error_code& code) const noexcept {
  const int how = half == Half::kReceiving ? SHUT_RD
                  : half == Half::kSending ? SHUT_WR
                                           : SHUT_RDWR;
  const int result = sys::calls->shutdown(fd(), how);
  code.assign(-std::min(result, 0), std::system_category());
}

Task<> take_leave(const Connection& conn) {
  conn.shutdown(Half::kSending);
  for (;;) {
    const Chunk dropped = co_await conn.recv();
    if (!dropped) co_return;
  }
}

Address Connection::peer() const {
  const Slot* slot = descriptor_.slot();
  return slot == nullptr ? Address() : internal::noted_peer(*slot);
}

Address Connection::local() const {
  return local_address(fd());
}

std::pair<Connection, Connection> connected_pair() {
  auto [first, second] = socket_pair(SOCK_STREAM);
  return {Connection(std::move(first)), Connection(std::move(second))};
}

}  // namespace violet
