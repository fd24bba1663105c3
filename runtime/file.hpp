// file.hpp - files, without blocking the loop.
//
// The idea: to a poller a file on a disk is always ready, and in truth a read
// of it may take as long as the disk likes. So whatever might ask the disk is
// offloaded (offload.hpp). Only a read of what lies in memory already is made
// at once, where the system can tell: Linux can, for most file systems, and a
// file whose system cannot is asked no more. A file that has no other place
// than memory (tmpfs) is also written at once: that is a copy and no wait.
//
// A File is for files on disks. What comes through pipes, terminals and the
// descriptors that a program is given is read with read(fd) of events.hpp.
//
// Built on: offload, group. See: preadv2(2) on RWF_NOWAIT, fsync(2), and
// Pillai et al., "All File Systems Are Not Created Equal" (2014).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "events.hpp"
#include "fd.hpp"
#include "group.hpp"
#include "offload.hpp"
#include "owned.hpp"

namespace violet {

/// How a file is opened. As it is, for reading only.
struct FileOptions {
  FileOptions() noexcept {}

  bool read = true;
  bool write = false;
  bool create = false;     ///< make it if it is not there
  bool exclusive = false;  ///< fail if it is there; with create
  bool truncate = false;   ///< forget what is in it
  bool append = false;     ///< each write goes to the end, whatever its offset
  unsigned permissions = 0666;  ///< of a file that is made, less the umask
};

/// For writing: a new file, or one that is there emptied.
FileOptions for_writing() noexcept;
/// For writing at the end: of a new file, or of one that is there.
FileOptions for_appending() noexcept;
/// For reading and writing what is in a file, which is made if need be.
FileOptions for_updating() noexcept;

namespace internal {

/// What a File shares with the operations on it that are under way: a
/// descriptor is closed, and its number free for others, after the last.
struct FileState {
  explicit FileState(std::string name) noexcept : path(std::move(name)) {}

  /// Blocks. Returns: 0 or an error number.
  int open(const FileOptions& options) noexcept;

  Fd fd;
  std::string path;
  std::int64_t position = 0;  // of the next read() or write()
  bool positioned = false;    // one of those is under way
  bool tells_cached = true;   // until the system says that it cannot
  bool in_memory = false;     // it never has to ask a disk
};

}  // namespace internal

/// One read or write of a file: piece by piece until it is done.
class FileEvent : public OffloadWait {
 public:
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  int error() const noexcept { return error_; }
  std::size_t value() const noexcept { return done_; }
  std::size_t result() const;

 protected:
  enum class Does : std::uint8_t { kRead, kWrite };
  using Offset = std::optional<std::uint64_t>;  // none: where the last ended

  FileEvent(std::shared_ptr<internal::FileState> state, Does does, char* data,
            std::size_t size, Offset offset) noexcept;
  FileEvent(FileEvent&& other) noexcept;
  ~FileEvent() = default;

 private:
  void work() noexcept override;
  void do_piece(std::size_t most) noexcept;
  bool start() noexcept;
  bool finish() noexcept;
  bool settled() noexcept;
  bool go_on() noexcept;
  bool copy_here() noexcept;

  std::shared_ptr<internal::FileState> state_;  // null: the file is closed
  char* data_;                                  // the caller's
  std::size_t size_;
  std::int64_t offset_;
  std::size_t done_ = 0;
  Does does_;
  bool sequential_;
  bool started_ = false;
  bool away_ = false;  // a piece is offloaded

  // What the last piece has brought: of the thread that works on it.
  bool ended_ = false;  // there is nothing after it
  int failed_ = 0;
  std::size_t came_ = 0;
};

class [[nodiscard]] FileReadEvent : public FileEvent {
 public:
  FileReadEvent(std::shared_ptr<internal::FileState> state,
                std::span<char> buffer, Offset offset = {}) noexcept
      : FileEvent(std::move(state), Does::kRead, buffer.data(), buffer.size(),
                  offset) {}
};

class [[nodiscard]] FileWriteEvent : public FileEvent {
 public:
  FileWriteEvent(std::shared_ptr<internal::FileState> state,
                 std::string_view data, Offset offset = {}) noexcept
      : FileEvent(std::move(state), Does::kWrite,
                  const_cast<char*>(data.data()), data.size(), offset) {}
};

/// An open file. Move-only; closes with its last owner, and after the last
/// operation on it. Belongs to one thread at a time.
///
/// Any number of jobs may read and write at offsets at the same time; read()
/// and write() without one go on where the last of them ended, and are for one
/// job at a time.
///
/// The error_code form of each sets the code instead of throwing.
class File {
 public:
  /// A file that is closed.
  File() noexcept {}
  explicit File(std::shared_ptr<internal::FileState> state) noexcept
      : state_(std::move(state)) {}

  /// Reads from `offset` until the buffer is full or the file ends.
  /// Suspends: unless all of it lies in memory, and the system can tell; there,
  /// too, of much of it, so that others have their turn.
  /// Returns: the number of bytes, fewer than asked for only at the end.
  /// Throws: std::system_error "read notes.txt: Input/output error".
  /// Kill: waits for a piece that is being read, of 1 MiB at most.
  /// Lifetime: the buffer outlives the wait.
  FileReadEvent read_at(std::span<char> buffer,
                        std::uint64_t offset) const noexcept {
    return FileReadEvent(state_, buffer, offset);
  }
  Coded<FileReadEvent> read_at(std::span<char> buffer, std::uint64_t offset,
                               std::error_code& code) const noexcept {
    return Coded<FileReadEvent>(read_at(buffer, offset), code);
  }

  /// The same from where the last read() or write() has ended.
  /// Throws: also Misuse if another job does that now.
  /// Kill: also, the next one begins at the same place.
  FileReadEvent read(std::span<char> buffer) const noexcept {
    return FileReadEvent(state_, buffer);
  }
  Coded<FileReadEvent> read(std::span<char> buffer,
                            std::error_code& code) const noexcept {
    return Coded<FileReadEvent>(read(buffer), code);
  }

  /// Writes all of `data` at `offset`; a file that was shorter becomes longer.
  /// Suspends: since a write may have to wait for the disk; if the file is
  /// in_memory(), only as read_at() does.
  /// Returns: the number of bytes: all, unless the error_code form reports an
  /// error.
  /// Throws: std::system_error "write notes.txt: No space left on device".
  /// Kill: waits for a piece that is being written, of 1 MiB at most. Some of
  /// it may have been written.
  FileWriteEvent write_at(std::string_view data,
                          std::uint64_t offset) const noexcept {
    return FileWriteEvent(state_, data, offset);
  }
  Coded<FileWriteEvent> write_at(std::string_view data, std::uint64_t offset,
                                 std::error_code& code) const noexcept {
    return Coded<FileWriteEvent>(write_at(data, offset), code);
  }

  /// The same where the last read() or write() has ended.
  /// Throws: also Misuse if another job does that now.
  /// Kill: position() tells how much was written.
  FileWriteEvent write(std::string_view data) const noexcept {
    return FileWriteEvent(state_, data);
  }
  Coded<FileWriteEvent> write(std::string_view data,
                              std::error_code& code) const noexcept {
    return Coded<FileWriteEvent>(write(data), code);
  }

  /// Where the next read() or write() begins.
  std::uint64_t position() const noexcept {
    return state_ ? static_cast<std::uint64_t>(state_->position) : 0;
  }
  void seek(std::uint64_t position) const noexcept {
    if (state_) state_->position = static_cast<std::int64_t>(position);
  }

  /// Its size in bytes. Throws: std::system_error.
  Task<std::uint64_t> size() const;

  /// Waits until the disk keeps what has been written, as far as the system
  /// can tell (on macOS by F_FULLFSYNC). `sync_data` leaves out what is not
  /// needed to read it again, such as the time of the last change.
  /// Throws: std::system_error; after that, what of it is on the disk is not
  /// known, and another sync() would not say.
  Task<> sync() const;
  Task<> sync_data() const;

  /// Makes it `size` bytes long. Throws: std::system_error.
  Task<> truncate(std::uint64_t size) const;

  /// Closes it, and hears what only that tells (a full disk on NFS). The
  /// destructor closes as well, but tells nobody and blocks meanwhile.
  /// Throws: std::system_error; Misuse while a job reads or writes it.
  Task<> close();

  /// True until close(), and false once moved from.
  explicit operator bool() const noexcept { return fd() >= 0; }

  /// The descriptor, still owned by the file; -1 if it is closed.
  int fd() const noexcept { return state_ ? state_->fd.get() : -1; }

  /// True if it never waits for a disk; see FileCalls::in_memory.
  bool in_memory() const noexcept { return state_ && state_->in_memory; }

  /// As it was opened.
  std::string path() const { return state_ ? state_->path : std::string(); }

 private:
  internal::FileState& state(const char* call) const;

  std::shared_ptr<internal::FileState> state_;
};

/// Opens a file.
/// Returns: a File. Throws: std::system_error "open notes.txt: No such file or
/// directory"; also for a directory, and for a pipe, which is no File.
/// Kill: waits for open(2).
Task<File> open_file(std::string path, FileOptions options = FileOptions());

/// Gives a file another name, in place of whatever had that.
/// Throws: std::system_error "rename a to b: Permission denied".
Task<> rename_file(std::string from, std::string to);

/// Removes a name of a file. Throws: std::system_error.
Task<> remove_file(std::string path);

/// The folder in which a path names something: "." if it has no slash.
inline std::string folder_of(std::string_view path) {
  const auto slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

/// Waits until the disk keeps the names in a folder: what was made, renamed and
/// removed there. Where the file system knows no such thing, it does nothing.
/// Throws: std::system_error "sync uploads: Input/output error".
Task<> sync_folder(std::string path);

/// What read_file takes unless it is told otherwise.
inline constexpr std::size_t kMostFileBytes = std::size_t{1} << 30;

/// All that is in a file.
/// Throws: std::system_error, file_too_large if it is more than `most_bytes`.
Task<std::string> read_file(std::string path,
                            std::size_t most_bytes = kMostFileBytes);

/// Makes `data` all that is in a file. Who reads it meanwhile may see a part,
/// and so does who finds it after a crash: see replace_file.
/// Throws: std::system_error.
Task<> write_file(std::string path, std::string data);

/// The same, but whoever opens the file sees all that was in it before or all
/// of `data`, also after a crash of the machine: a new file beside it is
/// written, synced and renamed, and the folder is synced. The new file has the
/// permissions given, and the old one's other names keep what was there. Of a
/// symbolic link it is the link that is replaced.
/// Throws: std::system_error; the old file is untouched then, and the new one
/// removed, unless only the folder could not be synced.
/// Kill: the same, until it is renamed.
Task<> replace_file(std::string path, std::string data,
                    unsigned permissions = 0666);

/// Writes a file behind its caller: while one block is written, the next is
/// filled. It holds two blocks, and whoever writes faster than the disk waits.
/// A file that is in_memory() is written from one block, which so stays in the
/// processor's cache.
///
///     FileWriter out(co_await open_file("log", for_appending()));
///     co_await out.write("hello\n");
///     co_await out.close();
///
/// An error of a block is thrown by the next write(), flush(), sync() or
/// close(), and by every one after it; one that nobody hears of is a line on
/// stderr. A local variable of the job that makes it. Its destructor drops
/// what nobody has begun to write, and blocks while a block is written: end
/// with close().
class FileWriter {
 public:
  static constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

  /// Begins at file.position(). Throws: Misuse outside a job, std::bad_alloc.
  explicit FileWriter(File file, std::size_t block_bytes = kBlockBytes);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter();

  /// Takes `data`, whatever its size. Suspends: while its blocks are in use.
  /// Kill: a part of it may have been taken.
  Task<> write(std::string_view data);

  /// Room to put bytes in, without a copy; at least one byte, at most a block.
  /// commit() takes the first `bytes` of it. Lifetime: until anything else is
  /// called.
  Task<std::span<char>> room();
  void commit(std::size_t bytes);

  /// Waits until all has been given to the system; sync() also until the disk
  /// keeps it.
  Task<> flush();
  Task<> sync();

  /// flush(), and closes the file.
  Task<> close();

  const File& file() const noexcept { return file_; }

  /// Bytes of the blocks that it holds.
  std::size_t memory_bytes() const noexcept {
    return other_ == nullptr ? block_bytes_ : 2 * block_bytes_;
  }

 private:
  Task<> settle();
  Task<> hand_over();
  Task<> write_block(const char* data, std::size_t size);
  void check();

  File file_;
  const std::size_t block_bytes_;
  OwnedArray<char> filling_;
  OwnedArray<char> other_;  // being written, or free; null: in_memory()
  std::size_t filled_ = 0;
  std::error_code failed_;
  bool told_ = false;  // somebody has heard of it
  Job<> writes_;       // of the last block that was handed over
  TaskGroup group_;    // of that job; goes first
};

}  // namespace violet
