// faults.hpp - what can go wrong with a system call, at will.
//
// The idea: a program that has never seen a full disk does not handle one.
// A FaultPlan answers system calls in the kernel's place and makes them fail
// as told: the third accept() finds no descriptor left, each read gives one
// byte, there is no memory for the tenth frame. What it does not refuse goes
// on to whoever answered before it: the kernel, or a SimNetwork.
//
// Include <violet/testing.hpp>.
//
//     FaultPlan plan;
//     plan.one_byte().interrupt_every(3);
//     plan.fail(Call::kAccept, EMFILE, 2);
//     run(my_program());
//     CHECK(plan.failed(Call::kAccept) == 1);  // it did happen
//
// A plan tells nothing that a kernel could not tell. Datagrams are never cut
// short, for the rest would be lost; and whoever is told to wait is told
// when to try again. What is written to stderr passes unharmed.
//
// Built on: layer, frames, slots.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "layer.hpp"

namespace violet {

/// The calls that pass the seam; see sys::Calls.
enum class Call : std::uint8_t {
  kSocket,
  kSocketpair,
  kBind,
  kListen,
  kAccept,
  kConnect,
  kRecv,
  kSend,
  kRecvmsg,
  kSendmsg,
  kRead,
  kWrite,
  kClose,  // fails as on Linux: the descriptor is gone all the same
  kShutdown,
  kGetsockopt,
  kSetsockopt,
  kGetsockname,
  kGetpeername,
  kDuplicate,
  kLookUp,  // of a name; it fails with EAI_SYSTEM and the error
  kGetFlags,
  kSetFlags,
  kFileType,
  kUnlink,
  kOpen,
  kOpenBeneath,
  kList,
  kPread,  // also what lies in memory already
  kPwrite,
  kSendfile,
  kUnsent,
  kSeek,
  kFileSize,
  kSync,
  kTruncate,
  kRename,
  kStatus,
  kStatusAt,
  kLock,
  kLockRange,
  kChmod,
  kFileAt,
  kLockFolder,
  kBacklog,
  kPoll,
  kStartThread,
  kPipe,
  kSpawn,
  kWaitChild,
  kKill,
  kOpenProcess,
  kAllocate,  // memory; its failure has no number
};
inline constexpr std::size_t kCallCount = 52;

/// Makes system calls of this thread, and of what it offloads, fail while it
/// lives. Rules may be added
/// at any time and count from then on. The earliest that strikes decides.
/// Lifetime: as sys::Layer.
class FaultPlan final : public sys::Layer {
 public:
  static constexpr std::uint64_t kForEver = ~std::uint64_t{0};

  FaultPlan() noexcept {}
  ~FaultPlan() override;

  /// The nth such call from now fails, and so do those after it, `times` in
  /// all. Only `error` happens: nothing is sent, accepted or bound.
  /// Throws: Misuse for EAGAIN and EINPROGRESS, after which nothing would
  /// tell when to go on (except of kStartThread); for EINTR more than a
  /// thousand times in a row; for kAllocate without fail_allocation().
  FaultPlan& fail(Call call, int error, std::uint64_t nth = 1,
                  std::uint64_t times = 1);

  /// The nth piece of memory from now is refused, and those after it, `times`
  /// in all: for each frame and job, timers that become more, lent buffers.
  /// Throws: Misuse while frames or jobs are alive: those have come from a
  /// pool, where most need no memory of the system and cannot be refused.
  FaultPlan& fail_allocation(std::uint64_t nth = 1, std::uint64_t times = 1);

  /// Reads and writes on streams, pipes and files move one byte at a time.
  FaultPlan& one_byte() noexcept;

  /// Every nth call that a signal may interrupt says EINTR: accept, recv,
  /// send, recvmsg, sendmsg, read, write, poll, wait_child. Throws: Misuse
  /// below 2, which would never end.
  FaultPlan& interrupt_every(std::uint64_t n);

  /// Every nth of these calls, but poll, on a non-blocking descriptor says
  /// EAGAIN, as if what is there had come a moment later. The
  /// loop's poller then tells anew what is ready, and the same call on the
  /// same descriptor is not refused twice in a row: n may be 1.
  /// Throws: Misuse for 0.
  FaultPlan& would_block_every(std::uint64_t n);

  /// Takes back all rules. The counts stay.
  void relent() noexcept;

  /// Calls of this kind so far, those that failed among them.
  std::uint64_t count(Call call) const noexcept {
    const Lock lock(mutex_);
    return at(call).made;
  }

  // How often the rules have struck.
  std::uint64_t failed(Call call) const noexcept {
    const Lock lock(mutex_);
    return at(call).failed;
  }
  std::uint64_t shortened() const noexcept {
    const Lock lock(mutex_);
    return shortened_;
  }
  std::uint64_t interrupted() const noexcept {
    const Lock lock(mutex_);
    return interrupted_;
  }
  std::uint64_t told_to_wait() const noexcept {
    const Lock lock(mutex_);
    return told_to_wait_;
  }

  /// One line for each kind of call that was made: "recv 12, 1 failed".
  std::string log() const;

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
  ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept override;
  ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept override;
  ssize_t read(int fd, void* data, std::size_t size) noexcept override;
  ssize_t write(int fd, const void* data, std::size_t size) noexcept override;
  int close(int fd) noexcept override;
  int shutdown(int fd, int how) noexcept override;
  int getsockopt(int fd, int level, int name, void* value,
                 unsigned* size) noexcept override;
  int setsockopt(int fd, int level, int name, const void* value,
                 unsigned size) noexcept override;
  int getsockname(int fd, sockaddr* name, unsigned* size) noexcept override;
  int getpeername(int fd, sockaddr* name, unsigned* size) noexcept override;
  int duplicate(int fd) noexcept override;
  std::shared_ptr<sys::Names> names() noexcept override;
  int get_flags(int fd) noexcept override;
  int set_flags(int fd, int flags) noexcept override;
  int file_type(int fd) noexcept override;
  int unlink(const char* path) noexcept override;
  int open(const char* path, int flags, unsigned mode) noexcept override;
  int open_beneath(int folder, const char* path, int flags,
                   bool cached_only) noexcept override;
  int list(int folder, std::vector<std::string>& names) override;
  ssize_t pread(int fd, void* data, std::size_t size,
                std::int64_t offset) noexcept override;
  ssize_t pwrite(int fd, const void* data, std::size_t size,
                 std::int64_t offset) noexcept override;
  ssize_t read_cached(int fd, void* data, std::size_t size,
                      std::int64_t offset) noexcept override;
  ssize_t write_cached(int fd, const void* data,
                       std::size_t size) noexcept override;
  ssize_t sendfile(int socket, int file, std::int64_t offset,
                   std::size_t size) noexcept override;
  std::int64_t unsent(int socket) noexcept override;
  std::int64_t seek(int fd, std::int64_t offset, int whence) noexcept override;
  std::int64_t file_size(int fd) noexcept override;
  int sync(int fd, bool data_only) noexcept override;
  int truncate(int fd, std::int64_t size) noexcept override;
  int rename(const char* from, const char* to) noexcept override;
  int status(int fd, sys::FileStatus& status) noexcept override;
  int status_at(const char* path, sys::FileStatus& status) noexcept override;
  int lock(int fd) noexcept override;
  int lock_range(int fd, std::int64_t begin,
                 std::int64_t size) noexcept override;
  int chmod(const char* path, unsigned mode) noexcept override;
  int file_at(const char* path, sys::FileNumber& which) noexcept override;
  int lock_folder(const char* path) noexcept override;
  int backlog(int fd) noexcept override;
  int poll(pollfd* descriptors, unsigned long count,
           int timeout_ms) noexcept override;
  int start_thread(void* (*body)(void*) noexcept,
                   void* argument) noexcept override;
  int pipe(int (&fds)[2]) noexcept override;
  int spawn(int (*start)(const void*) noexcept,
            const void* plan) noexcept override;
  int wait_child(int pid, int options, sys::ChildEnd& end) noexcept override;
  int kill(int pid, int signal) noexcept override;
  int open_process(int pid) noexcept override;
  void* allocate(std::size_t size) noexcept override;
  bool shortens() const noexcept override;

 private:
  struct Tally {
    std::uint64_t made = 0;
    std::uint64_t failed = 0;
  };
  struct Rule {
    Call call;
    int error;
    std::uint64_t first;  // in calls of this kind
    std::uint64_t last;
  };
  struct Refused {
    Call call;
    int fd;
  };

  using Lock = std::lock_guard<std::recursive_mutex>;

  const Tally& at(Call call) const noexcept {
    return tallies_[static_cast<std::size_t>(call)];
  }
  int strike(Call call) noexcept;
  int strike_interruptible(Call call) noexcept;
  int strike_descriptor(Call call, int fd) noexcept;
  bool tells_to_wait(Call call, int fd) noexcept;
  bool may_wait(int fd) noexcept;
  std::size_t shorter(int fd, std::size_t size) noexcept;

  // Guards all that follows: what is offloaded asks on other threads.
  mutable std::recursive_mutex mutex_;
  std::array<Tally, kCallCount> tallies_;
  std::vector<Rule> rules_;
  bool one_byte_ = false;
  bool stopped_pooling_ = false;

  // 0 is never. The others count the calls that the rule may concern.
  std::uint64_t interrupt_every_ = 0;
  std::uint64_t interruptible_ = 0;
  std::uint64_t wait_every_ = 0;
  std::uint64_t waitable_ = 0;
  std::vector<Refused> refused_;  // told to wait, and not called again since

  std::uint64_t shortened_ = 0;
  std::uint64_t interrupted_ = 0;
  std::uint64_t told_to_wait_ = 0;
};

}  // namespace violet
