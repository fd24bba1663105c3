// sim_socket.cpp - what a simulated socket knows, and how long things travel.
// SPDX-License-Identifier: MIT
#include "sim_socket.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace violet::internal {

namespace {

#ifdef POLLRDHUP
constexpr int kPollReadEnd = POLLRDHUP;
#else
constexpr int kPollReadEnd = 0x2000;  // nobody can ask for it there
#endif

}  // namespace

// ------------------------------------------------------------------ addresses

SimName::SimName(const sockaddr* name, unsigned size) noexcept
    : size_(std::min<unsigned>(size, sizeof bytes_)) {
  std::memcpy(&bytes_, name, size_);
}

SimName SimName::any(int family) noexcept {
  SimName name;
  name.bytes_.ss_family = static_cast<sa_family_t>(family);
  name.size_ = family == AF_INET    ? sizeof(sockaddr_in)
               : family == AF_INET6 ? sizeof(sockaddr_in6)
                                    : offsetof(sockaddr, sa_data);
  return name;
}

// IPv4 and IPv6 keep it in the same place.
static_assert(offsetof(sockaddr_in, sin_port) ==
              offsetof(sockaddr_in6, sin6_port));

std::uint16_t SimName::port() const noexcept {
  if (!is_ip()) return 0;
  return ntohs(reinterpret_cast<const sockaddr_in*>(&bytes_)->sin_port);
}

void SimName::set_port(std::uint16_t port) noexcept {
  reinterpret_cast<sockaddr_in*>(&bytes_)->sin_port = htons(port);
}

// The rest of a unix name is zero, so that all of it can be compared.
std::string_view SimName::host() const noexcept {
  const char* base = reinterpret_cast<const char*>(&bytes_);
  if (family() == AF_INET) return {base + offsetof(sockaddr_in, sin_addr), 4};
  if (family() == AF_INET6) {
    return {base + offsetof(sockaddr_in6, sin6_addr), 16};
  }
  return {base + offsetof(sockaddr_un, sun_path),
          sizeof(sockaddr_un::sun_path)};
}

bool SimName::is_any() const noexcept {
  return is_ip() && host().find_first_not_of('\0') == std::string_view::npos;
}

void SimName::settle() noexcept {
  if (!is_any()) return;
  if (family() == AF_INET) {
    reinterpret_cast<sockaddr_in*>(&bytes_)->sin_addr.s_addr =
        htonl(INADDR_LOOPBACK);
  } else {
    reinterpret_cast<sockaddr_in6*>(&bytes_)->sin6_addr = in6addr_loopback;
  }
}

bool SimName::hears(const SimName& there) const noexcept {
  return family() == there.family() && port() == there.port() &&
         (is_any() || host() == there.host());
}

void SimName::tell(sockaddr* name, unsigned* size) const noexcept {
  if (name == nullptr || size == nullptr) return;
  std::memcpy(name, &bytes_, std::min(*size, size_));
  *size = size_;
}

// ---------------------------------------------------------------------- bytes

std::size_t SimBuffer::copy(void* to, std::size_t most) const noexcept {
  const std::size_t count = std::min(most, bytes_.size() - begin_);
  std::memcpy(to, bytes_.data() + begin_, count);
  return count;
}

// Moves the rest to the front once it is the smaller part.
void SimBuffer::drop(std::size_t count) noexcept {
  begin_ += count;
  if (begin_ < bytes_.size() - begin_) return;
  bytes_.erase(0, std::exchange(begin_, 0));
}

// ------------------------------------------------------------------- the wire

namespace {

// Of latency and of jitter, so that their sum is a duration.
constexpr Duration kLongest = std::chrono::hours(24 * 365 * 100);

}  // namespace

void SimWire::latency(Duration one_way) noexcept {
  latency_ = std::clamp(one_way, Duration::zero(), kLongest);
}

void SimWire::jitter(Duration most, std::uint64_t seed) noexcept {
  jitter_ = std::clamp(most, Duration::zero(), kLongest);
  random_ = Random(seed);
}

Duration SimWire::travel_time() noexcept {
  if (jitter_ == Duration::zero()) return latency_;
  const auto most = static_cast<std::uint64_t>(jitter_.count());
  const std::uint64_t drawn = random_.below(most + 1);
  return latency_ + Duration(static_cast<Duration::rep>(drawn));
}

namespace {

bool is_after(const Parcel& a, const Parcel& b) noexcept {
  return a.due != b.due ? a.due > b.due : a.sequence > b.sequence;
}

bool was_sent_before(const Parcel& a, const Parcel& b) noexcept {
  return a.sequence < b.sequence;
}

int& count_on_the_way(const Parcel& parcel) noexcept {
  return parcel.path->on_the_way[static_cast<std::size_t>(parcel.to)];
}

}  // namespace

void SimWire::dispatch(Parcel parcel) {
  parcel.sequence = dispatched_++;
  if (is_cut(*parcel.path)) return held_.push_back(std::move(parcel));
  set_off(parcel);
  const bool first = count_on_the_way(parcel) == 0;
  if (first && parcel.due <= clock_.now()) return arrived(parcel);
  ++count_on_the_way(parcel);
  on_the_way_.push_back(std::move(parcel));
  std::push_heap(on_the_way_.begin(), on_the_way_.end(), is_after);
}

/// Says when a parcel will arrive: not before those that went before it.
void SimWire::set_off(Parcel& parcel) {
  TimePoint& last = parcel.path->last_due[static_cast<std::size_t>(parcel.to)];
  last = parcel.due = std::max(after(clock_.now(), travel_time()), last);
}

void SimWire::deliver_due() {
  while (!on_the_way_.empty() && next_due() <= clock_.now()) {
    std::pop_heap(on_the_way_.begin(), on_the_way_.end(), is_after);
    Parcel parcel = std::move(on_the_way_.back());
    on_the_way_.pop_back();
    --count_on_the_way(parcel);
    arrived(parcel);
  }
}

bool SimWire::is_cut(const SimPath& path) const noexcept {
  const auto concerns = [&](std::uint16_t port) {
    return port == path.ports[0] || port == path.ports[1];
  };
  return cut_ || std::any_of(cut_ports_.begin(), cut_ports_.end(), concerns);
}

void SimWire::cut() {
  cut_ = true;
  hold_what_is_cut();
}

void SimWire::cut_port(std::uint16_t port) {
  cut_ports_.push_back(port);
  hold_what_is_cut();
}

void SimWire::hold_what_is_cut() {
  const auto end = on_the_way_.end();
  const auto first = std::partition(
      on_the_way_.begin(), end,
      [this](const Parcel& parcel) { return !is_cut(*parcel.path); });
  std::sort(first, end, was_sent_before);
  for (auto parcel = first; parcel != end; ++parcel) {
    --count_on_the_way(*parcel);
    held_.push_back(std::move(*parcel));
  }
  on_the_way_.erase(first, end);
  std::make_heap(on_the_way_.begin(), on_the_way_.end(), is_after);
}

// All of them set off before any arrives: what one causes is sent after those
// that have waited.
void SimWire::heal() {
  cut_ = false;
  cut_ports_.clear();
  for (Parcel& parcel : held_) {
    set_off(parcel);
    ++count_on_the_way(parcel);
    on_the_way_.push_back(std::move(parcel));
    std::push_heap(on_the_way_.begin(), on_the_way_.end(), is_after);
  }
  held_.clear();
}

// ---------------------------------------------------------------- the sockets

SimSocket::SimSocket(int family) noexcept
    : flags(O_RDWR | O_NONBLOCK), local(SimName::any(family)) {}

// As the kernel does it: there is room for poll(2) when a third is free, so
// that a slow reader does not wake the writer for every byte.
bool SimSocket::has_room(std::size_t limit) const noexcept {
  const std::size_t free = limit > unread ? limit - unread : 0;
  return free >= std::max<std::size_t>(1, limit / 3);
}

short SimSocket::condition(std::size_t limit) noexcept {
  const int failed = error != 0 ? POLLERR : 0;
  if (state == State::kListening) return clients.empty() ? 0 : POLLIN;
  if (state == State::kConnecting) return 0;
  if (state == State::kFresh) {
    return static_cast<short>(POLLOUT | POLLHUP | failed);
  }
  const bool broken = state == State::kBroken;
  const bool in_ended = broken || peer_ended || reads_end;
  const bool out_ended = broken || writes_ended;
  int mask = failed;
  if (!received.empty() || in_ended) mask |= POLLIN;
  if (in_ended) mask |= kPollReadEnd;
  if (in_ended && out_ended) mask |= POLLHUP;
  if (out_ended || has_room(limit)) {
    mask |= POLLOUT;
  } else {
    wants_room = true;
  }
  return static_cast<short>(mask);
}

std::uint8_t SimSocket::ready_bits(std::size_t limit) noexcept {
  const short mask = condition(limit);
  unsigned bits = 0;
  if ((mask & POLLIN) != 0) bits |= interest & kReadable;
  if ((mask & POLLOUT) != 0) bits |= interest & kWritable;
  if ((mask & (kPollReadEnd | POLLHUP | POLLERR)) != 0) {
    bits |= kEnded | kReadable;
  }
  if ((mask & (POLLHUP | POLLERR)) != 0) bits |= kWritable;
  return static_cast<std::uint8_t>(bits);
}

}  // namespace violet::internal
