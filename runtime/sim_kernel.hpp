// sim_kernel.hpp - simulated sockets, as their calls and their poller see them.
//
// It stands where the kernel does: between programs that make system calls
// and the wire. A descriptor that is not one of its own it leaves to whoever
// is below, and to the real poller.
//
// Built on: layer, poller_sim, sim_socket.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fd.hpp"
#include "layer.hpp"
#include "poller_sim.hpp"
#include "sim_socket.hpp"

namespace violet::internal {

/// What may be of interest to whoever waits.
inline constexpr std::uint8_t kEverything = kReadable | kWritable | kEnded;

/// The sockets of a network, the calls on them, and their poller.
class SimKernel final : public sys::Layer, public Poller, public SimWire {
 public:
  SimKernel();

  // What a SimNetwork does.
  std::array<Fd, 2> pair();
  std::size_t open_descriptors() const noexcept { return open_; }
  void advance(Duration duration) noexcept { time_.advance(duration); }
  std::span<const Ready> look(Duration patience) noexcept;
  void limit_buffer(std::size_t bytes) noexcept;
  bool reset(int descriptor) noexcept;
  void reset_all() noexcept;

  // The calls.
  int socket(int domain, int type, int protocol) noexcept override;
  int socketpair(int domain, int type, int protocol,
                 int (&fds)[2]) noexcept override;
  int bind(int fd, const sockaddr* name, unsigned size) noexcept override;
  int listen(int fd, int backlog) noexcept override;
  int accept(int fd, sockaddr* peer, unsigned* size) noexcept override;
  int connect(int fd, const sockaddr* name, unsigned size) noexcept override;
  ssize_t recv(int fd, void* data, std::size_t size,
               int flags) noexcept override;
  ssize_t send(int fd, const void* data, std::size_t size,
               int flags) noexcept override;
  ssize_t read(int fd, void* data, std::size_t size) noexcept override;
  ssize_t write(int fd, const void* data, std::size_t size) noexcept override;
  ssize_t sendfile(int socket, int file, std::int64_t offset,
                   std::size_t size) noexcept override;
  int close(int fd) noexcept override;
  int shutdown(int fd, int how) noexcept override;
  int getsockopt(int fd, int level, int name, void* value,
                 unsigned* size) noexcept override;
  int setsockopt(int fd, int level, int name, const void* value,
                 unsigned size) noexcept override;
  int getsockname(int fd, sockaddr* name, unsigned* size) noexcept override;
  int getpeername(int fd, sockaddr* name, unsigned* size) noexcept override;
  int get_flags(int fd) noexcept override;
  int set_flags(int fd, int flags) noexcept override;
  int file_type(int fd) noexcept override;
  int unlink(const char* path) noexcept override;
  int backlog(int fd) noexcept override;
  int poll(pollfd* descriptors, unsigned long count,
           int timeout_ms) noexcept override;

  // The poller.
  TimePoint now() noexcept override { return time_.now(); }
  int add(int fd, Token token, std::uint8_t bits) noexcept override;
  int change(int fd, Token token, std::uint8_t bits) noexcept override;
  void remove(int fd) noexcept override;
  void closing(int fd) noexcept override { time_.closing(fd); }
  std::span<const Ready> wait(TimePoint deadline,
                              bool wake_expected) noexcept override;
  TimePoint next_arrival() const noexcept;
  bool hopeless() const noexcept override;
  void wake() noexcept override { time_.wake(); }
  int fd() noexcept override { return time_.fd(); }

 private:
  // Numbers.
  bool is_ours(int fd) const noexcept;
  SimSocket* find(int fd) const noexcept;
  int give_number(std::unique_ptr<SimSocket> socket);

  // Addresses.
  std::uint16_t free_port() noexcept;
  bool is_taken(const SimName& name, bool shares) const noexcept;
  int take_port(SimSocket& socket) noexcept;
  void give_up_address(SimSocket& socket) noexcept;
  SimSocket* listener_at(const SimName& name) const noexcept;

  // Connections.
  std::array<int, 2> make_pair(int family);
  void join(SimSocket& near, SimSocket& far);
  void arrived(Parcel& parcel) override;
  void knocked(const std::shared_ptr<SimPath>& path);
  void admit(SimSocket& listener, const std::shared_ptr<SimPath>& path);
  void leave(SimSocket& socket) noexcept;
  void turn_all_away(SimSocket& listener) noexcept;
  void break_off(SimSocket& socket, int error) noexcept;
  void reset_path(SimPath& path) noexcept;
  void tell_peer(const SimSocket& socket, Travels what);

  // News for the poller.
  void edge(SimSocket& socket, std::uint8_t cause) noexcept;
  void forget(SimSocket& socket) noexcept;
  void gather() noexcept;

  const int first_number_;
  std::vector<std::unique_ptr<SimSocket>> sockets_;  // by number
  std::vector<int> free_numbers_;                    // a heap, least first
  std::size_t open_ = 0;

  std::vector<SimSocket*> bound_;
  std::vector<std::uint32_t> port_holders_;  // by port, how many
  std::uint16_t next_port_;

  std::size_t limit_ = 64 * 1024;

  SimPoller time_;  // the clock, and everything real
  List<SimSocket, SimSocket> edges_;
  std::vector<Ready> news_;
};

}  // namespace violet::internal
