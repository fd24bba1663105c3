// run_server.cpp - binding once, stopping together, one summary.
// SPDX-License-Identifier: MIT
#include "run_server.hpp"

#include <sys/socket.h>

namespace violet {

LoopsServer::LoopsServer(int loops, const ServerOptions& options)
    : loops_(loops), options_(options), limit_(options.max_connections) {
  options_.stop_hook = this;
  if (loops > 1 && options.max_connections != 0 &&
      options.shared_limit == nullptr) {
    options_.shared_limit = &limit_;
    options_.max_connections = 0;
  }
}

void LoopsServer::listen(const Address& address, ListenOptions options) {
  if (loops_ > 1 && address.family() == AF_UNIX) {
    throw_error(
        Misuse("violet: several loops cannot share a unix socket; serve it on "
               "one loop, or listen on a TCP address"));
  }
  if (loops_ > 1) {
    sockets_ =
        listen_sockets(address, static_cast<std::size_t>(loops_), options);
    address_ = local_address(sockets_[0].get());
  } else {
    listener_ = Listener(address, options);
    address_ = listener_.address();
  }
  internal::announce(address_);
}

std::vector<Listener> LoopsServer::take_listener(int index) {
  {
    const std::lock_guard lock(mutex_);
    mailboxes_.push_back(Loop::current().mailbox());
    if (stopped_) Loop::current().stop();
  }
  if (sockets_.empty()) return internal::only(std::move(listener_));
  Fd& own = sockets_[static_cast<std::size_t>(index)];
  return internal::only(Listener(std::move(own)));
}

/// One loop begins to stop: the others are to do the same.
void LoopsServer::stopping() noexcept {
  const std::lock_guard lock(mutex_);
  if (std::exchange(stopped_, true)) return;
  for (const auto& mailbox : mailboxes_) {
    has_memory_for(
        [&] { Remote(mailbox).post([] { Loop::current().stop(); }); });
  }
}

void LoopsServer::note(const ServerSummary& done) {
  const std::lock_guard lock(mutex_);
  summary_ += done;
  if (++ended_ == loops_ && in_program()) {
    internal::conclude(summary_, options_.log);
  }
}

ServerSummary LoopsServer::summary() const {
  const std::lock_guard lock(mutex_);
  return summary_;
}

}  // namespace violet
