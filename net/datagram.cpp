// datagram.cpp - the attempts on a datagram socket.
// SPDX-License-Identifier: MIT
#include "datagram.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>

namespace violet {

namespace {

bool is_ip(int family) noexcept {
  return family == AF_INET || family == AF_INET6;
}

/// A slot for a datagram socket. Unlike a stream it may have been sent
/// something before anyone knew it: reading is tried first.
Descriptor open_datagrams(Fd socket, std::uint8_t traits) {
  Slot& slot =
      Slots::here().open(std::move(socket), traits, kReadable | kWritable);
  return Descriptor(slot);
}

Fd make_socket(int family, const DatagramOptions& options) {
  const int number = sys::calls->socket(family, SOCK_DGRAM, 0);
  if (number < 0) throw_system(-number, "socket for datagrams");
  Fd fd(number);
  if (options.broadcast) {
    set_option(number, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
  }
  if (options.reuse_port) {
    set_option(number, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  }
  return fd;
}

void bind_to(const Fd& socket, const Address& local) {
  const int result = sys::calls->bind(socket.get(), local.get(), local.size());
  if (result < 0) throw_system(-result, concat({"bind ", local.text()}));
}

}  // namespace

// ------------------------------------------------------------------- receiving

// Linux tells sockets that are not connected of no refusal, others may.
bool DatagramEvent::is_stray(ssize_t negated_error) const noexcept {
  return negated_error == -ECONNREFUSED &&
         internal::noted_peer(*slot_).family() == 0;
}

ssize_t DatagramEvent::receive(int fd, std::span<char> buffer,
                               Received& out) noexcept {
  sockaddr_storage name;
  iovec place{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  message.msg_name = &name;
  for (;;) {
    message.msg_namelen = sizeof name;
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->recvmsg(fd, &message, 0); });
    if (is_stray(count)) {
      if (!spend()) return kGoBehind;
      continue;
    }
    if (count < 0) return count;
    out.size = static_cast<std::size_t>(count);
    out.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    out.sender = Address::from(reinterpret_cast<const sockaddr*>(&name),
                               message.msg_namelen);
    return count;
  }
}

bool RecvFromEvent::attempt() noexcept {
  return drive<Direction::kRead>(
      [this](int fd) { return receive(fd, buffer_, received_); });
}

bool RecvDatagramEvent::attempt() noexcept {
  return drive<Direction::kRead>([this](int fd) { return receive_lent(fd); });
}

ssize_t RecvDatagramEvent::receive_lent(int fd) noexcept {
  auto& pool = internal::buffer_pool;
  char* buffer = pool.take();
  if (buffer == nullptr) return -ENOMEM;
  const ssize_t count = receive(fd, {buffer, pool.kBytes}, received_);
  if (count < 0) {
    pool.give_back(buffer);
  } else {
    pool.filled = buffer;
  }
  return count;
}

Datagram RecvDatagramEvent::value() const noexcept {
  char* buffer = std::exchange(internal::buffer_pool.filled, nullptr);
  if (buffer == nullptr) return Datagram();
  return Datagram(Chunk(buffer, received_.size), received_);
}

// --------------------------------------------------------------------- sending

bool SendDatagramEvent::attempt() noexcept {
  if (retry_.pauses()) {
    if (slot_->generation == word_) return false;
    retry_.stop(*job());  // the socket is closed
  }
  if (!may_try<Direction::kWrite>()) return wait_for_edge<Direction::kWrite>();
  const ssize_t done = send_on(slot_->fd);
  return is_behind(done) ? wait_a_while() : conclude<Direction::kWrite>(done);
}

ssize_t SendDatagramEvent::send_on(int fd) noexcept {
  iovec place{const_cast<char*>(data_.data()), data_.size()};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  if (to_.family() != 0) {
    message.msg_name = const_cast<sockaddr*>(to_.get());
    message.msg_namelen = to_.size();
  }
  for (;;) {
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->sendmsg(fd, &message, 0); });
    if (is_ip(to_.family()) && is_stray(count)) {
      if (!spend()) return kGoBehind;
      continue;
    }
    if (count >= 0) slot_->sent(static_cast<std::size_t>(count));
    return count;
  }
}

// A unix receiver that is behind: Linux says EAGAIN, others ENOBUFS, and our
// own socket is writable all the while.
bool SendDatagramEvent::is_behind(ssize_t negated_error) const noexcept {
  return to_.family() == AF_UNIX &&
         (negated_error == -EAGAIN || negated_error == -ENOBUFS);
}

// Nobody tells when it has room, and on Linux each failed attempt raises an
// edge of its own: only the clock is of use.
bool SendDatagramEvent::wait_a_while() noexcept {
  if (!retry_.pause(*job())) return conclude<Direction::kWrite>(-ENOMEM);
  return wait_for_another<Direction::kWrite>();
}

void SendDatagramEvent::undo() noexcept {
  retry_.stop(*job());
  undo_claim(Direction::kWrite);
}

std::string SendDatagramEvent::target() const {
  return to_.family() != 0 ? to_.text() : object();
}

void SendDatagramEvent::result() const {
  if (error_ == 0) return;
  const std::string bytes =
      error_ == EMSGSIZE ? concat({" (", data_.size(), " bytes)"}) : "";
  raise("send", target() + bytes);
}

// ------------------------------------------------------------------ the socket

std::string DatagramEvent::object() const {
  if (slot_ == nullptr) return "fd -1";
  const Address peer = internal::noted_peer(*slot_);
  if (is_ip(peer.family())) return peer.text();
  using internal::NameOf;
  Address name;
  const int unknown = internal::ask_name(
      slot_->fd, peer.family() != 0 ? NameOf::kPeer : NameOf::kItself, name);
  if (unknown < 0) return concat({"fd ", slot_->fd});
  return name.text();
}

DatagramSocket::DatagramSocket(Fd socket) {
  int type = 0;
  unsigned size = sizeof type;
  const int failed =
      sys::calls->getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size);
  if (failed < 0) throw_system(-failed, "getsockopt SO_TYPE");
  if (type != SOCK_DGRAM) {
    throw_error(Misuse(
        "violet: a DatagramSocket of another kind of socket: a stream becomes "
        "a Connection or a Listener"));
  }
  sys::set_nonblocking(socket.get());
  descriptor_ = open_datagrams(std::move(socket), kAdopted);
  internal::note_peer(*descriptor_.slot(), peer());
}

DatagramSocket::DatagramSocket(const Address& local, DatagramOptions options) {
  Fd socket = make_socket(local.family(), options);
  if (local.path().empty()) {
    bind_to(socket, local);
  } else {
    const FolderLock lock(local.path());
    SocketPath::make_way(local, lock);
    bind_to(socket, local);
    path_ = SocketPath(local.path());
  }
  descriptor_ = open_datagrams(std::move(socket), 0);
}

DatagramSocket DatagramSocket::unbound(int family, DatagramOptions options) {
  return DatagramSocket(open_datagrams(make_socket(family, options), 0));
}

void DatagramSocket::connect(const Address& peer) {
  const int result = sys::uninterrupted(
      [&] { return sys::calls->connect(fd(), peer.get(), peer.size()); });
  if (result < 0) throw_system(-result, concat({"connect ", peer.text()}));
  internal::note_peer(*descriptor_.slot(), peer);
}

Address DatagramSocket::local() const {
  return local_address(fd());
}

Address DatagramSocket::peer() const {
  Address name;
  const int result = internal::ask_name(fd(), internal::NameOf::kPeer, name);
  if (result < 0 && result != -ENOTCONN) throw_system(-result, "getpeername");
  return name;
}

std::pair<DatagramSocket, DatagramSocket> connected_datagram_pair() {
  auto [first, second] = socket_pair(SOCK_DGRAM);
  return {DatagramSocket(std::move(first)), DatagramSocket(std::move(second))};
}

}  // namespace violet
