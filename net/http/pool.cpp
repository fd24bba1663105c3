// pool.cpp - lending, keeping, and watching what nobody has.
// SPDX-License-Identifier: MIT
#include "pool.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "../../runtime/within.hpp"

namespace violet::http {

/// A server. Shared by whoever has a connection to it, or waits for one.
struct Loan::Host {
  Host(const Url& url, std::size_t places) : where(url), line(places) {}
  Url where;
  Semaphore line;
};

struct Pool::Idle {
  Idle(std::shared_ptr<Host> whose, Stream&& what) noexcept
      : host(std::move(whose)), stream(std::move(what)) {}
  std::shared_ptr<Host> host;
  Stream stream;
  Job<> watcher;
};

namespace {

/// True if nothing has been received that answers nothing.
bool is_clean(const Stream& stream) noexcept {
  return stream && stream.buffered().empty() && !stream.ended();
}

/// True while the server has said nothing, not even that it is gone.
bool is_silent(const Stream& stream) noexcept {
  return is_clean(stream) && sys::poll_now(stream.fd(), POLLIN) == 0;
}

}  // namespace

void Loan::keep() noexcept {
  Loan loan(std::move(*this));
  if (!is_clean(loan.stream_)) return;
  has_memory_for([&] { loan.pool_->keep(loan); });
}

Pool::Pool(const PoolOptions& options) : options_(options) {
  if (options_.max_per_host == 0) {
    options_.max_per_host = std::numeric_limits<std::ptrdiff_t>::max();
  }
  // One that there was no memory to watch is looked at when it is lent.
  jobs_.on_failure([](const FailedJob&) {});
}

Pool::~Pool() {
  // Nor does anybody miss it now.
  for (const auto& one : idle_) (void)one->watcher.error();
}

std::shared_ptr<Pool::Host> Pool::host_of(const Url& url) {
  for (const auto& host : hosts_) {
    if (host->where.same_server(url)) return host;
  }
  std::erase_if(hosts_, [](const auto& host) { return host.use_count() == 1; });
  hosts_.push_back(std::make_shared<Host>(url, options_.max_per_host));
  return hosts_.back();
}

Task<Loan> Pool::lend(const Url& url) {
  Loan loan;
  loan.pool_ = this;
  loan.host_ = host_of(url);
  loan.place_ = co_await loan.host_->line.acquire();
  if (!take_idle(loan)) co_await renew(loan);
  co_return loan;
}

bool Pool::take_idle(Loan& loan) noexcept {
  for (std::size_t i = idle_.size(); i-- > 0;) {
    if (idle_[i]->host != loan.host_) continue;
    const std::unique_ptr<Idle> taken = std::move(idle_[i]);
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
    taken->watcher.kill("its connection is lent");
    if (!is_silent(taken->stream)) continue;
    loan.stream_ = std::move(taken->stream);
    loan.used_before_ = true;
    return true;
  }
  return false;
}

Task<> Pool::renew(Loan& loan) {
  loan.stream_ = Stream();
  loan.used_before_ = false;
  const Url& where = loan.host_->where;
  auto conn =
      co_await within(options_.connect_time,
                      connect(where.host(), where.port(), options_.connecting));
  if (!conn) {
    throw_system(ETIMEDOUT, concat({"connect ", where.authority(),
                                    limit_text(options_.connect_time)}));
  }
  ++made_;
  loan.stream_ = Stream(std::move(*conn));
}

void Pool::keep(Loan& loan) {
  const bool wanted =
      options_.max_idle > 0 && options_.idle_time > Duration::zero();
  if (!wanted) return;
  if (idle_.size() >= options_.max_idle) {
    idle_.front()->watcher.kill("there are too many");
    idle_.erase(idle_.begin());
  }
  idle_.reserve(idle_.size() + 1);
  auto idle = std::make_unique<Idle>(loan.host_, std::move(loan.stream_));
  idle->watcher =
      jobs_.spawn([this](Idle* one) { return watch(*one); }, idle.get());
  idle_.push_back(std::move(idle));
}

/// A byte that comes now answers nothing.
Task<> Pool::watch(Idle& idle) {
  std::error_code gone;
  co_await within(options_.idle_time, idle.stream.peek(1, gone));
  std::erase_if(idle_, [&](const auto& one) { return one.get() == &idle; });
}

}  // namespace violet::http
