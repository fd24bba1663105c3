// sim_network.cpp - what the poller tells, and the front.
// SPDX-License-Identifier: MIT
#include "sim_network.hpp"

#include <algorithm>
#include <cerrno>

#include "error.hpp"
#include "sim_kernel.hpp"

namespace violet::internal {

int SimKernel::add(int fd, Token token, std::uint8_t bits) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) {
    return is_ours(fd) ? EBADF : time_.add(fd, token, bits);
  }
  if (socket->watched) return EEXIST;
  socket->watched = true;
  return change(fd, token, bits);
}

int SimKernel::change(int fd, Token token, std::uint8_t bits) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) {
    return is_ours(fd) ? EBADF : time_.change(fd, token, bits);
  }
  if (!socket->watched) return ENOENT;
  socket->token = token;
  socket->interest = bits;
  edge(*socket, kEverything);
  return 0;
}

void SimKernel::remove(int fd) noexcept {
  SimSocket* socket = find(fd);
  if (socket == nullptr) return time_.remove(fd);
  forget(*socket);
}

void SimKernel::forget(SimSocket& socket) noexcept {
  socket.watched = false;
  if (socket.in_list()) edges_.remove(socket);
}

/// Something has happened to a socket. Whether it is ready is asked when the
/// poller tells it, as epoll(7) does: bytes that were read meanwhile are no
/// news.
void SimKernel::edge(SimSocket& socket, std::uint8_t cause) noexcept {
  if (!socket.watched || (cause & (socket.interest | kEnded)) == 0) return;
  if (!socket.in_list()) edges_.push_back(socket);
}

void SimKernel::gather() noexcept {
  deliver_due();
  while (!edges_.empty()) {
    SimSocket& socket = edges_.front();
    edges_.remove(socket);
    const std::uint8_t bits = socket.ready_bits(limit_);
    if (bits != 0) news_.push_back({socket.token, bits});
  }
}

TimePoint SimKernel::next_arrival() const noexcept {
  return edges_.empty() ? next_due() : TimePoint::min();
}

bool SimKernel::hopeless() const noexcept {
  return edges_.empty() && next_due() == kNever && time_.hopeless();
}

// What is due at the very moment of the deadline arrives before whoever waits
// for that deadline is told.
std::span<const Ready> SimKernel::wait(TimePoint deadline,
                                       bool wake_expected) noexcept {
  news_.clear();
  gather();
  do {
    const TimePoint next =
        news_.empty() ? std::min(deadline, next_due()) : TimePoint::min();
    if (next == kNever && !wake_expected && hopeless()) break;
    const auto real = time_.wait(next, wake_expected);
    news_.insert(news_.end(), real.begin(), real.end());
    woken_ = time_.woken() || woken_;
    gather();
  } while (news_.empty() && !woken_ && now() < deadline);
  return news_;
}

std::span<const Ready> SimKernel::look(Duration patience) noexcept {
  const auto real = time_.look(patience);
  woken_ = time_.woken() || woken_;
  return real;
}

}  // namespace violet::internal

namespace violet {

SimNetwork::SimNetwork() : network_(std::make_unique<internal::SimKernel>()) {}

SimNetwork::~SimNetwork() = default;

Poller& SimNetwork::poller() noexcept {
  return *network_;
}

TimePoint SimNetwork::now() noexcept {
  return network_->now();
}

void SimNetwork::advance(Duration duration) noexcept {
  network_->advance(duration);
}

std::span<const Ready> SimNetwork::look(Duration patience) noexcept {
  return network_->look(patience);
}

TimePoint SimNetwork::next_arrival() const noexcept {
  return network_->next_arrival();
}

std::array<Fd, 2> SimNetwork::pair() {
  return network_->pair();
}

std::size_t SimNetwork::open_descriptors() const noexcept {
  return network_->open_descriptors();
}

void SimNetwork::latency(Duration one_way) noexcept {
  network_->latency(one_way);
}

void SimNetwork::jitter(Duration most, std::uint64_t seed) noexcept {
  network_->jitter(most, seed);
}

void SimNetwork::limit_buffer(std::size_t bytes) {
  if (bytes == 0) {
    throw_error(
        Misuse("violet: a buffer of no bytes takes none: limit it to 1"));
  }
  network_->limit_buffer(bytes);
}

void SimNetwork::cut() {
  network_->cut();
}

void SimNetwork::cut_port(std::uint16_t port) {
  network_->cut_port(port);
}

void SimNetwork::heal() {
  network_->heal();
}

bool SimNetwork::reset(int descriptor) noexcept {
  return network_->reset(descriptor);
}

void SimNetwork::reset_all() noexcept {
  network_->reset_all();
}

}  // namespace violet
