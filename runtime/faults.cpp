// faults.cpp - when a call fails.
// SPDX-License-Identifier: MIT
#include "faults.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "error.hpp"
#include "frames.hpp"
#include "slots.hpp"

namespace violet {

namespace {

constexpr const char* kNames[] = {
    "socket",       "socketpair",  "bind",        "listen",     "accept",
    "connect",      "recv",        "send",        "recvmsg",    "sendmsg",
    "read",         "write",       "close",       "shutdown",   "getsockopt",
    "setsockopt",   "getsockname", "getpeername", "duplicate",  "look_up",
    "get_flags",    "set_flags",   "file_type",   "unlink",     "open",
    "open_beneath", "list",        "pread",       "pwrite",     "sendfile",
    "unsent",       "seek",        "file_size",   "sync",       "truncate",
    "rename",       "status",      "status_at",   "lock",       "lock_range",
    "chmod",        "file_at",     "lock_folder", "backlog",    "poll",
    "start_thread", "pipe",        "spawn",       "wait_child", "kill",
    "open_process", "allocate",
};
static_assert(std::size(kNames) == kCallCount);
static_assert(std::size_t(Call::kAllocate) + 1 == kCallCount);

/// Answers a look-up that is to fail.
class FailingNames final : public sys::Names {
 public:
  explicit FailingNames(int error) noexcept : error_(error) {}
  int look_up(const char*, int, std::vector<sockaddr_storage>&) override {
    errno = error_;
    return EAI_SYSTEM;
  }

 private:
  int error_;
};

constexpr int kStderr = 2;

constexpr std::uint64_t kMostInterrupts = 1000;  // in a row

}  // namespace

// ----------------------------------------------------------------- the rules

FaultPlan::~FaultPlan() {
  if (stopped_pooling_) frame_pool.resume_pooling();
}

FaultPlan& FaultPlan::fail(Call call, int error, std::uint64_t nth,
                           std::uint64_t times) {
  const bool waits =
      error == EAGAIN || error == EWOULDBLOCK || error == EINPROGRESS;
  const bool starts = call == Call::kStartThread || call == Call::kSpawn;
  if (waits && !starts) {  // to which it means "no more"
    throw_error(Misuse(
        "violet: a plan cannot fail() a call with an error that means \"wait\""
        ": nothing would end the wait; use would_block_every()"));
  }
  if (error == EINTR && times > kMostInterrupts) {
    throw_error(Misuse(
        "violet: a call that is always interrupted is repeated for ever; use "
        "interrupt_every()"));
  }
  if (call == Call::kAllocate && frame_pool.pooling()) {
    throw_error(Misuse(
        "violet: most memory for frames comes from a pool, where no plan sees "
        "it; use fail_allocation()"));
  }
  if (error <= 0 || nth == 0 || times == 0) {
    throw_error(
        Misuse("violet: fail() takes a positive error number, and counts calls "
               "from 1"));
  }
  const std::uint64_t first = count(call) + nth;
  const std::uint64_t left = kForEver - first;
  rules_.push_back({call, error, first, first + std::min(left, times - 1)});
  return *this;
}

FaultPlan& FaultPlan::fail_allocation(std::uint64_t nth, std::uint64_t times) {
  if (frame_pool.pooling()) {
    if (!frame_pool.stop_pooling()) {
      throw_error(Misuse(
          "violet: fail_allocation() while frames or jobs are alive: make the "
          "plan before the first task, and keep no Job<T> of an earlier run"));
    }
    stopped_pooling_ = true;
  }
  return fail(Call::kAllocate, ENOMEM, nth, times);
}

FaultPlan& FaultPlan::one_byte() noexcept {
  one_byte_ = true;
  Slots::here().distrust_short_reads();
  return *this;
}

FaultPlan& FaultPlan::interrupt_every(std::uint64_t n) {
  if (n < 2) {
    throw_error(Misuse(
        "violet: interrupt_every() takes 2 or more: a call that is always "
        "interrupted is repeated for ever"));
  }
  interrupt_every_ = n;
  interruptible_ = 0;
  return *this;
}

FaultPlan& FaultPlan::would_block_every(std::uint64_t n) {
  if (n == 0) throw_error(Misuse("violet: would_block_every() counts from 1"));
  wait_every_ = n;
  waitable_ = 0;
  return *this;
}

void FaultPlan::relent() noexcept {
  rules_.clear();
  one_byte_ = false;
  interrupt_every_ = wait_every_ = 0;
  refused_.clear();
}

std::string FaultPlan::log() const {
  std::string text;
  for (std::size_t i = 0; i < kCallCount; ++i) {
    if (tallies_[i].made == 0) continue;
    text += concat({kNames[i], " ", tallies_[i].made});
    if (tallies_[i].failed != 0) {
      text += concat({", ", tallies_[i].failed, " failed"});
    }
    text += '\n';
  }
  return text;
}

// --------------------------------------------------------------- their stroke

/// Counts a call. Returns: the negated error that a fail() rule has for it,
/// or 0.
int FaultPlan::strike(Call call) noexcept {
  const Lock lock(mutex_);
  Tally& tally = tallies_[static_cast<std::size_t>(call)];
  ++tally.made;
  for (const Rule& rule : rules_) {
    if (rule.call != call) continue;
    if (tally.made < rule.first || tally.made > rule.last) continue;
    ++tally.failed;
    return -rule.error;
  }
  return 0;
}

int FaultPlan::strike_interruptible(Call call) noexcept {
  const Lock lock(mutex_);
  if (const int error = strike(call)) return error;
  if (interrupt_every_ == 0 || ++interruptible_ % interrupt_every_ != 0) {
    return 0;
  }
  ++interrupted_;
  return -EINTR;
}

int FaultPlan::strike_descriptor(Call call, int fd) noexcept {
  const Lock lock(mutex_);
  if (const int error = strike_interruptible(call)) return error;
  if (wait_every_ == 0 || !tells_to_wait(call, fd)) return 0;
  ++told_to_wait_;
  // Who waits for an edge would wait for ever: what it was refused is there
  // already.
  Slots::here().announce_anew(fd);
  return -EAGAIN;
}

bool FaultPlan::tells_to_wait(Call call, int fd) noexcept {
  const auto again = std::erase_if(refused_, [=](const Refused& last) {
    return last.call == call && last.fd == fd;
  });
  if (again != 0 || !may_wait(fd) || ++waitable_ % wait_every_ != 0) {
    return false;
  }
  refused_.push_back({call, fd});
  return true;
}

/// True for descriptors that the kernel itself could make somebody wait for.
bool FaultPlan::may_wait(int fd) noexcept {
  const int flags = Layer::get_flags(fd);
  return flags >= 0 && (flags & O_NONBLOCK) != 0 &&
         Layer::file_type(fd) != S_IFREG;
}

// A datagram cut short would be lost, and an eventfd takes eight bytes.
std::size_t FaultPlan::shorter(int fd, std::size_t size) noexcept {
  if (!one_byte_ || size <= 1) return size;
  const int type = Layer::file_type(fd);
  if (type == S_IFSOCK) {
    int kind = 0;
    unsigned bytes = sizeof kind;
    Layer::getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &bytes);
    if (kind != SOCK_STREAM) return size;
  } else if (type != S_IFIFO && type != S_IFREG) {
    return size;
  }
  const Lock lock(mutex_);
  ++shortened_;
  return 1;
}

bool FaultPlan::shortens() const noexcept {
  return one_byte_ || Layer::shortens();
}

// ----------------------------------------------------------------- the calls

ssize_t FaultPlan::recv(int fd, void* data, std::size_t size,
                        int flags) noexcept {
  if (const int error = strike_descriptor(Call::kRecv, fd)) return error;
  return Layer::recv(fd, data, shorter(fd, size), flags);
}

ssize_t FaultPlan::send(int fd, const void* data, std::size_t size,
                        int flags) noexcept {
  if (const int error = strike_descriptor(Call::kSend, fd)) return error;
  return Layer::send(fd, data, shorter(fd, size), flags);
}

// Datagrams, which are never cut short.
ssize_t FaultPlan::recvmsg(int fd, msghdr* message, int flags) noexcept {
  if (const int error = strike_descriptor(Call::kRecvmsg, fd)) return error;
  return Layer::recvmsg(fd, message, flags);
}

ssize_t FaultPlan::sendmsg(int fd, const msghdr* message, int flags) noexcept {
  if (const int error = strike_descriptor(Call::kSendmsg, fd)) return error;
  return Layer::sendmsg(fd, message, flags);
}

ssize_t FaultPlan::read(int fd, void* data, std::size_t size) noexcept {
  if (const int error = strike_descriptor(Call::kRead, fd)) return error;
  return Layer::read(fd, data, shorter(fd, size));
}

ssize_t FaultPlan::write(int fd, const void* data, std::size_t size) noexcept {
  if (fd == kStderr) return Layer::write(fd, data, size);
  if (const int error = strike_descriptor(Call::kWrite, fd)) return error;
  return Layer::write(fd, data, shorter(fd, size));
}

int FaultPlan::accept(int fd, sockaddr* peer, unsigned* size) noexcept {
  if (const int error = strike_descriptor(Call::kAccept, fd)) return error;
  return Layer::accept(fd, peer, size);
}

int FaultPlan::poll(pollfd* descriptors, unsigned long count,
                    int timeout_ms) noexcept {
  if (const int error = strike_interruptible(Call::kPoll)) return error;
  return Layer::poll(descriptors, count, timeout_ms);
}

int FaultPlan::close(int fd) noexcept {
  const int error = strike(Call::kClose);
  const int result = Layer::close(fd);
  return error != 0 ? error : result;
}

int FaultPlan::socket(int domain, int type, int protocol) noexcept {
  if (const int error = strike(Call::kSocket)) return error;
  return Layer::socket(domain, type, protocol);
}

int FaultPlan::socketpair(int domain, int type, int protocol,
                          int (&fds)[2]) noexcept {
  if (const int error = strike(Call::kSocketpair)) return error;
  return Layer::socketpair(domain, type, protocol, fds);
}

int FaultPlan::bind(int fd, const sockaddr* name, unsigned size) noexcept {
  if (const int error = strike(Call::kBind)) return error;
  return Layer::bind(fd, name, size);
}

int FaultPlan::listen(int fd, int backlog) noexcept {
  if (const int error = strike(Call::kListen)) return error;
  return Layer::listen(fd, backlog);
}

int FaultPlan::connect(int fd, const sockaddr* name, unsigned size) noexcept {
  if (const int error = strike(Call::kConnect)) return error;
  return Layer::connect(fd, name, size);
}

int FaultPlan::shutdown(int fd, int how) noexcept {
  if (const int error = strike(Call::kShutdown)) return error;
  return Layer::shutdown(fd, how);
}

int FaultPlan::getsockopt(int fd, int level, int name, void* value,
                          unsigned* size) noexcept {
  if (const int error = strike(Call::kGetsockopt)) return error;
  return Layer::getsockopt(fd, level, name, value, size);
}

int FaultPlan::setsockopt(int fd, int level, int name, const void* value,
                          unsigned size) noexcept {
  if (const int error = strike(Call::kSetsockopt)) return error;
  return Layer::setsockopt(fd, level, name, value, size);
}

int FaultPlan::getsockname(int fd, sockaddr* name, unsigned* size) noexcept {
  if (const int error = strike(Call::kGetsockname)) return error;
  return Layer::getsockname(fd, name, size);
}

int FaultPlan::getpeername(int fd, sockaddr* name, unsigned* size) noexcept {
  if (const int error = strike(Call::kGetpeername)) return error;
  return Layer::getpeername(fd, name, size);
}

int FaultPlan::duplicate(int fd) noexcept {
  if (const int error = strike(Call::kDuplicate)) return error;
  return Layer::duplicate(fd);
}

std::shared_ptr<sys::Names> FaultPlan::names() noexcept {
  const int error = strike(Call::kLookUp);
  if (error == 0) return Layer::names();
  return std::make_shared<FailingNames>(-error);
}

int FaultPlan::get_flags(int fd) noexcept {
  if (const int error = strike(Call::kGetFlags)) return error;
  return Layer::get_flags(fd);
}

int FaultPlan::set_flags(int fd, int flags) noexcept {
  if (const int error = strike(Call::kSetFlags)) return error;
  return Layer::set_flags(fd, flags);
}

int FaultPlan::file_type(int fd) noexcept {
  if (const int error = strike(Call::kFileType)) return error;
  return Layer::file_type(fd);
}

int FaultPlan::unlink(const char* path) noexcept {
  if (const int error = strike(Call::kUnlink)) return error;
  return Layer::unlink(path);
}

int FaultPlan::open(const char* path, int flags, unsigned mode) noexcept {
  if (const int error = strike_interruptible(Call::kOpen)) return error;
  return Layer::open(path, flags, mode);
}

int FaultPlan::open_beneath(int folder, const char* path, int flags,
                            bool cached_only) noexcept {
  if (const int error = strike_interruptible(Call::kOpenBeneath)) return error;
  return Layer::open_beneath(folder, path, flags, cached_only);
}

int FaultPlan::list(int folder, std::vector<std::string>& names) {
  if (const int error = strike(Call::kList)) return error;
  return Layer::list(folder, names);
}

ssize_t FaultPlan::pread(int fd, void* data, std::size_t size,
                         std::int64_t offset) noexcept {
  if (const int error = strike_interruptible(Call::kPread)) return error;
  return Layer::pread(fd, data, shorter(fd, size), offset);
}

ssize_t FaultPlan::pwrite(int fd, const void* data, std::size_t size,
                          std::int64_t offset) noexcept {
  if (const int error = strike_interruptible(Call::kPwrite)) return error;
  return Layer::pwrite(fd, data, shorter(fd, size), offset);
}

ssize_t FaultPlan::read_cached(int fd, void* data, std::size_t size,
                               std::int64_t offset) noexcept {
  const Call call = offset < 0 ? Call::kRead : Call::kPread;
  if (const int error = strike_interruptible(call)) return error;
  return Layer::read_cached(fd, data, shorter(fd, size), offset);
}

ssize_t FaultPlan::write_cached(int fd, const void* data,
                                std::size_t size) noexcept {
  if (const int error = strike_interruptible(Call::kWrite)) return error;
  return Layer::write_cached(fd, data, shorter(fd, size));
}

ssize_t FaultPlan::sendfile(int socket, int file, std::int64_t offset,
                            std::size_t size) noexcept {
  if (const int error = strike_descriptor(Call::kSendfile, socket))
    return error;
  return Layer::sendfile(socket, file, offset, shorter(socket, size));
}

std::int64_t FaultPlan::unsent(int socket) noexcept {
  if (const int error = strike(Call::kUnsent)) return error;
  return Layer::unsent(socket);
}

std::int64_t FaultPlan::seek(int fd, std::int64_t offset, int whence) noexcept {
  if (const int error = strike(Call::kSeek)) return error;
  return Layer::seek(fd, offset, whence);
}

std::int64_t FaultPlan::file_size(int fd) noexcept {
  if (const int error = strike(Call::kFileSize)) return error;
  return Layer::file_size(fd);
}

int FaultPlan::sync(int fd, bool data_only) noexcept {
  if (const int error = strike_interruptible(Call::kSync)) return error;
  return Layer::sync(fd, data_only);
}

int FaultPlan::truncate(int fd, std::int64_t size) noexcept {
  if (const int error = strike_interruptible(Call::kTruncate)) return error;
  return Layer::truncate(fd, size);
}

int FaultPlan::rename(const char* from, const char* to) noexcept {
  if (const int error = strike(Call::kRename)) return error;
  return Layer::rename(from, to);
}

int FaultPlan::status(int fd, sys::FileStatus& status) noexcept {
  if (const int error = strike(Call::kStatus)) return error;
  return Layer::status(fd, status);
}

int FaultPlan::status_at(const char* path, sys::FileStatus& status) noexcept {
  if (const int error = strike(Call::kStatusAt)) return error;
  return Layer::status_at(path, status);
}

int FaultPlan::lock(int fd) noexcept {
  if (const int error = strike(Call::kLock)) return error;
  return Layer::lock(fd);
}

int FaultPlan::lock_range(int fd, std::int64_t begin,
                          std::int64_t size) noexcept {
  if (const int error = strike(Call::kLockRange)) return error;
  return Layer::lock_range(fd, begin, size);
}

int FaultPlan::start_thread(void* (*body)(void*) noexcept,
                            void* argument) noexcept {
  if (const int error = strike(Call::kStartThread)) return error;
  return Layer::start_thread(body, argument);
}

int FaultPlan::pipe(int (&fds)[2]) noexcept {
  if (const int error = strike(Call::kPipe)) return error;
  return Layer::pipe(fds);
}

int FaultPlan::spawn(int (*start)(const void*) noexcept,
                     const void* plan) noexcept {
  if (const int error = strike(Call::kSpawn)) return error;
  return Layer::spawn(start, plan);
}

int FaultPlan::wait_child(int pid, int options, sys::ChildEnd& end) noexcept {
  if (const int error = strike_interruptible(Call::kWaitChild)) return error;
  return Layer::wait_child(pid, options, end);
}

int FaultPlan::kill(int pid, int signal) noexcept {
  if (const int error = strike(Call::kKill)) return error;
  return Layer::kill(pid, signal);
}

int FaultPlan::open_process(int pid) noexcept {
  if (const int error = strike(Call::kOpenProcess)) return error;
  return Layer::open_process(pid);
}

int FaultPlan::chmod(const char* path, unsigned mode) noexcept {
  if (const int error = strike(Call::kChmod)) return error;
  return Layer::chmod(path, mode);
}

int FaultPlan::file_at(const char* path, sys::FileNumber& which) noexcept {
  if (const int error = strike(Call::kFileAt)) return error;
  return Layer::file_at(path, which);
}

int FaultPlan::lock_folder(const char* path) noexcept {
  if (const int error = strike(Call::kLockFolder)) return error;
  return Layer::lock_folder(path);
}

int FaultPlan::backlog(int fd) noexcept {
  if (const int error = strike(Call::kBacklog)) return error;
  return Layer::backlog(fd);
}

void* FaultPlan::allocate(std::size_t size) noexcept {
  if (strike(Call::kAllocate) != 0) return nullptr;
  return Layer::allocate(size);
}

}  // namespace violet
