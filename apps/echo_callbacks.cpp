// echo_callbacks.cpp - the echo server as callbacks on the poller.
//
// New here: what the loop does for the other programs, by hand. One thread
// serves all clients, since nothing ever waits but the poller. The price: what
// was a local variable and a line of code in echo_blocking.cpp is a member and
// a state here, and the order of events is spread over functions that somebody
// else calls.
//
// The poller is edge-triggered: it tells once that a descriptor has become
// ready, so each callback goes on until the system says EAGAIN.
//
// A client that sends and reads as fast as it is answered keeps its callback
// going, and the others wait meanwhile, at times for most of a second. To be
// fair the callback would have to give up after some rounds, and note that it
// is to be called again, since no edge will tell: one more state. The loop
// under echo.cpp does that for every job.
// SPDX-License-Identifier: MIT
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <unordered_map>

#include "../net/net.hpp"
#include "plain.hpp"
#include "server_args.hpp"

using namespace violet;

namespace {

/// What an operation that could not be completed at once says.
bool would_block(ssize_t result) {
  return result == -EAGAIN || result == -EWOULDBLOCK;
}

/// One client. Where echo_blocking stands between two lines, this is in a
/// state: `unsent_` is empty while it waits for bytes, and not while it waits
/// for room.
class Client {
 public:
  explicit Client(Fd socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }

  /// Something may be possible now. Returns: false when the client is done.
  bool on_ready() {
    for (;;) {
      while (!unsent_.empty()) {
        const ssize_t sent = sys::uninterrupted(
            [this] { return sys::send(fd(), unsent_.data(), unsent_.size()); });
        if (sent < 0) return would_block(sent);
        unsent_.erase(0, static_cast<std::size_t>(sent));
      }
      char buffer[16 * 1024];
      const ssize_t count = sys::uninterrupted(
          [&] { return sys::recv(fd(), buffer, sizeof buffer); });
      if (count <= 0) return would_block(count);
      unsent_.assign(buffer, static_cast<std::size_t>(count));
    }
  }

 private:
  Fd socket_;
  std::string unsent_;
};

class Server {
 public:
  explicit Server(const Address& address)
      : poller_(make_poller()), listener_(listen_socket(address)) {
    watch(listener_.get(), kListener);
    print_line(concat({program_name(), ": listening on ",
                       local_address(listener_.get()).text()}));
  }

  void run() {
    for (;;) {
      for (const Ready& ready : poller_->wait(kNever, false)) {
        if (ready.token.index == kListener) {
          on_clients();
        } else {
          on_client(ready.token.index);
        }
      }
    }
  }

 private:
  static constexpr std::uint32_t kListener = 0;

  void watch(int fd, std::uint32_t name) {
    const int error = poller_->add(fd, Token{name, 0}, kReadable | kWritable);
    if (error != 0) throw_system(error, "watch a socket");
  }

  /// Clients may be waiting in the backlog.
  void on_clients() {
    for (;;) {
      const int number = sys::calls->accept(listener_.get(), nullptr, nullptr);
      short_of_descriptors_ = number == -EMFILE || number == -ENFILE;
      if (would_block(number) || short_of_descriptors_) return;
      if (number == -EINTR || number == -ECONNABORTED) continue;
      if (number < 0) throw_system(-number, "accept");
      auto client = std::make_unique<Client>(Fd(number));
      watch(number, ++last_name_);
      clients_.emplace(last_name_, std::move(client));
    }
  }

  void on_client(std::uint32_t name) {
    const auto found = clients_.find(name);
    if (found == clients_.end()) return;  // closed earlier in this round
    if (found->second->on_ready()) return;
    poller_->closing(found->second->fd());
    clients_.erase(found);
    if (short_of_descriptors_) on_clients();  // no edge will tell again
  }

  std::unique_ptr<Poller> poller_;
  Fd listener_;
  std::unordered_map<std::uint32_t, std::unique_ptr<Client>> clients_;
  std::uint32_t last_name_ = kListener;  // names are never used twice
  bool short_of_descriptors_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(4915);
  Args args("echo_callbacks", "sends back what TCP clients send, by callbacks");
  server.add_where(args, "port, 0 for any free one (4915)");
  args.parse(argc, argv);
  const Address address = server.address(args);
  return run_plainly([&] { Server(address).run(); });
}
