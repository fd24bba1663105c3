// sys.hpp - the system calls on descriptors pass here.
//
// The idea: one object answers for the kernel. At rest it is the kernel
// itself; a test puts another in its place and from then on decides what a
// call returns: one byte at a time, EINTR, EMFILE, a reset, no memory. So
// the code that is tested is the code that runs, and hardly another file needs
// to know that tests exist.
//
// Results are as the kernel itself gives them: a count or descriptor, or the
// negated error number; errno(3) is read here. The pollers and what happens
// once in a program's life call the system directly.
//
// Built on: nothing. See: syscalls(2), signal(7) on EINTR.
// SPDX-License-Identifier: MIT
#pragma once

#if __cplusplus <= 201703L
#error "violet needs C++20: say -std=c++20"
#endif

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct msghdr;
struct pollfd;

namespace violet::sys {

/// How a child has ended: si_code and si_status of sigaction(2).
struct ChildEnd {
  int code = 0;
  int status = 0;
};

/// What tells two files apart; see inode(7).
struct FileNumber {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileNumber&) const = default;
};

/// What stat(2) tells of a file.
struct FileStatus {
  FileNumber number;
  int type = 0;             ///< st_mode & S_IFMT
  std::uint64_t links = 0;  ///< how many names it has; none once removed
  std::int64_t size = 0;
  std::int64_t modified_ns = 0;  ///< its bytes, since the epoch
  std::int64_t changed_ns = 0;   ///< they, its names or its permissions
  bool operator==(const FileStatus&) const = default;
};

/// Answers what getaddrinfo(3) is asked, which may take seconds. Whoever asks
/// owns it, too: a thread that is left behind may still be in it when all
/// others have gone.
class Names {
 public:
  /// Looks up the addresses of a host, of a family or (0) of any, each once,
  /// in the order in which they should be tried. On any thread.
  /// Returns: 0, or an EAI_ number; errno tells more if that is EAI_SYSTEM.
  virtual int look_up(const char* host, int family,
                      std::vector<sockaddr_storage>& found) = 0;

  /// True if it never blocks: it is then asked on the thread of the loop.
  virtual bool at_once() const noexcept { return false; }

  virtual ~Names() = default;
};

/// Answers system calls. This class passes them to the kernel; a test
/// derives from it and overrides the calls that it wants to answer.
class Calls {
 public:
  virtual int socket(int domain, int type, int protocol) noexcept;
  virtual int socketpair(int domain, int type, int protocol,
                         int (&fds)[2]) noexcept;
  virtual int bind(int fd, const sockaddr* name, unsigned size) noexcept;
  virtual int listen(int fd, int backlog) noexcept;
  virtual int accept(int fd, sockaddr* peer, unsigned* size) noexcept;
  virtual int connect(int fd, const sockaddr* name, unsigned size) noexcept;
  virtual ssize_t recv(int fd, void* data, std::size_t size,
                       int flags) noexcept;
  virtual ssize_t send(int fd, const void* data, std::size_t size,
                       int flags) noexcept;
  virtual ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept;
  virtual ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept;
  virtual ssize_t read(int fd, void* data, std::size_t size) noexcept;
  virtual ssize_t write(int fd, const void* data, std::size_t size) noexcept;
  virtual int close(int fd) noexcept;
  virtual int shutdown(int fd, int how) noexcept;
  virtual int getsockopt(int fd, int level, int name, void* value,
                         unsigned* size) noexcept;
  virtual int setsockopt(int fd, int level, int name, const void* value,
                         unsigned size) noexcept;
  virtual int getsockname(int fd, sockaddr* name, unsigned* size) noexcept;
  virtual int getpeername(int fd, sockaddr* name, unsigned* size) noexcept;
  /// Who looks up names for jobs of this thread; null: the system itself, which
  /// net/resolve.cpp asks, so that other programs need not have it in them.
  virtual std::shared_ptr<Names> names() noexcept;
  virtual int get_flags(int fd) noexcept;             ///< fcntl F_GETFL
  virtual int set_flags(int fd, int flags) noexcept;  ///< fcntl F_SETFL
  virtual int file_type(int fd) noexcept;  ///< st_mode & S_IFMT of fstat(2)
  virtual int unlink(const char* path) noexcept;
  virtual int chmod(const char* path, unsigned mode) noexcept;
  /// lstat(2). Returns: st_mode & S_IFMT, and which file it is.
  virtual int file_at(const char* path, FileNumber& which) noexcept;
  /// Opens a folder and takes its flock(2), for as long as the descriptor is
  /// open. Does not wait for it: -EWOULDBLOCK.
  virtual int lock_folder(const char* path) noexcept;
  /// How many connections wait to be accepted; -EOPNOTSUPP where the system
  /// does not tell.
  virtual int backlog(int fd) noexcept;
  virtual int poll(pollfd* descriptors, unsigned long count,
                   int timeout_ms) noexcept;
  /// Memory for frames, jobs, timers and lent buffers, which free(3) takes
  /// back; null when there is none.
  virtual void* allocate(std::size_t size) noexcept;

  /// True if reads may be cut short by this object rather than by the
  /// kernel: a short read then does not mean that the descriptor is drained.
  virtual bool shortens() const noexcept { return false; }

  virtual ~Calls() = default;
};

/// The same for calls on files, and for threads and processes: a program that
/// has none does without all of it.
class FileCalls {
 public:
  virtual int duplicate(int fd) noexcept;  ///< close-on-exec
  /// Always close-on-exec.
  virtual int open(const char* path, int flags, unsigned mode) noexcept;
  /// Opens what lies below a folder and nowhere else: -EXDEV for a symbolic
  /// link that leads out of it, -ELOOP for any where the system cannot tell.
  /// With `cached_only` -EAGAIN if that would have to ask the disk, or if the
  /// system cannot tell.
  virtual int open_beneath(int folder, const char* path, int flags,
                           bool cached_only) noexcept;
  /// The names in an open folder but for "." and "..", in no order.
  /// Throws: std::bad_alloc.
  virtual int list(int folder, std::vector<std::string>& names);
  virtual ssize_t pread(int fd, void* data, std::size_t size,
                        std::int64_t offset) noexcept;
  virtual ssize_t pwrite(int fd, const void* data, std::size_t size,
                         std::int64_t offset) noexcept;
  /// What of a file lies in memory: preadv2(2) with RWF_NOWAIT. -EAGAIN if the
  /// disk would be asked, -EOPNOTSUPP if the system cannot tell. An offset of
  /// -1 stands for the descriptor's own, which then moves on.
  virtual ssize_t read_cached(int fd, void* data, std::size_t size,
                              std::int64_t offset) noexcept;
  /// The same for writing, at the descriptor's own offset.
  virtual ssize_t write_cached(int fd, const void* data,
                               std::size_t size) noexcept;
  /// True for a file that has no other place than memory (tmpfs): it never
  /// waits for a disk. Those file systems do not know RWF_NOWAIT.
  virtual bool in_memory(int fd) noexcept;
  /// From a file to a socket. -EINVAL or -ENOSYS if the system cannot do it.
  virtual ssize_t sendfile(int socket, int file, std::int64_t offset,
                           std::size_t size) noexcept;
  /// How many of the bytes that a socket was given its peer's system has not
  /// taken; -EOPNOTSUPP where the system does not tell.
  virtual std::int64_t unsent(int socket) noexcept;
  virtual std::int64_t seek(int fd, std::int64_t offset, int whence) noexcept;
  virtual std::int64_t file_size(int fd) noexcept;
  /// Has the disk keep what was written; `data_only` as fdatasync(2).
  virtual int sync(int fd, bool data_only) noexcept;
  virtual int truncate(int fd, std::int64_t size) noexcept;
  virtual int rename(const char* from, const char* to) noexcept;
  virtual int status(int fd, FileStatus& status) noexcept;  ///< fstat(2)
  /// lstat(2).
  virtual int status_at(const char* path, FileStatus& status) noexcept;
  /// Takes the flock(2) of an open file, for as long as it is open. Does not
  /// wait for it: -EWOULDBLOCK.
  virtual int lock(int fd) noexcept;
  /// The same for some bytes of it, against all who have opened it by
  /// themselves. Where the system has no such locks for them (F_OFD_SETLK),
  /// the whole file is locked.
  virtual int lock_range(int fd, std::int64_t begin,
                         std::int64_t size) noexcept;
  /// Starts a thread that runs by itself: detached, and with all signals
  /// blocked but those that tell of its own faults.
  /// Returns: 0 or a negated error number.
  virtual int start_thread(void* (*body)(void*) noexcept,
                           void* argument) noexcept;
  virtual int pipe(int (&fds)[2]) noexcept;  ///< [0] reads; close-on-exec
  /// Starts a process, as `start(plan)` does. Returns: its number.
  virtual int spawn(int (*start)(const void* plan) noexcept,
                    const void* plan) noexcept;
  /// waitid(2) for one child. Returns: 1 if it has ended, 0 if not.
  virtual int wait_child(int pid, int options, ChildEnd& end) noexcept;
  virtual int kill(int pid, int signal) noexcept;
  /// A descriptor that is readable once the process has ended.
  virtual int open_process(int pid) noexcept;

  virtual ~FileCalls() = default;
};

/// What open_beneath() does where the system has no such call: it opens folder
/// after folder, and follows no symbolic link.
int open_by_segments(int folder, const char* path, int flags) noexcept;

/// No SIGPIPE for this send. Where there is no such flag (macOS), each socket
/// is told so once.
#ifdef MSG_NOSIGNAL
inline constexpr int kNoSignal = MSG_NOSIGNAL;
#else
inline constexpr int kNoSignal = 0;
#endif

/// The kernel, as an object, and as another.
extern Calls kernel;
extern FileCalls file_kernel;

/// Who answers in this thread. Lifetime: whoever puts an object here takes
/// it out again before the object dies.
inline constinit thread_local Calls* calls = &kernel;
extern constinit thread_local FileCalls* file_calls;

/// From the C library's convention (-1 and errno) to the kernel's own.
template <class Result>
inline Result checked(Result result) noexcept {
  return result < 0 ? static_cast<Result>(-errno) : result;
}

// The two calls that every message makes: at rest they go straight to the
// kernel.
inline ssize_t recv(int fd, void* data, std::size_t size) noexcept {
  if (calls != &kernel) [[unlikely]]
    return calls->recv(fd, data, size, 0);
  return checked(::recv(fd, data, size, 0));
}
inline ssize_t send(int fd, const void* data, std::size_t size) noexcept {
  if (calls != &kernel) [[unlikely]]
    return calls->send(fd, data, size, 0);
  return checked(::send(fd, data, size, kNoSignal));
}

/// Makes a descriptor one that never blocks, if what it stands for knows such a
/// thing. Returns: 0, or a negated error number if there is no such descriptor.
int set_nonblocking(int fd) noexcept;

/// Repeats a call for as long as a signal interrupts it.
template <class Call>
inline auto uninterrupted(Call call) noexcept {
  auto result = call();
  while (result == -EINTR) result = call();
  return result;
}

/// Asks poll(2) about one descriptor, without waiting.
/// Returns: what of `events` is there, with POLLERR, POLLHUP and POLLNVAL; 0
/// for nothing, or a negated error number.
int poll_now(int fd, short events) noexcept;

}  // namespace violet::sys
