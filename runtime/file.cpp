// file.cpp - the pieces of a read or write, and what is made of them.
// SPDX-License-Identifier: MIT
#include "file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace violet {

namespace {

// What is read or written between two looks at kills and limits: long enough
// that handing it over costs next to nothing.
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

// What is copied at a time on the loop, where all others wait.
constexpr std::size_t kCopiedBytes = std::size_t{256} << 10;

/// Throws what a call that was made elsewhere has returned, if it has failed.
void check(std::int64_t result, const char* call, const std::string& path) {
  if (result < 0) {
    throw_system(static_cast<int>(-result), concat({call, " ", path}));
  }
}

/// The system would cut the path there, and take another file.
void refuse_nul(const char* call, std::string path) {
  if (path.find('\0') == path.npos) return;
  std::replace(path.begin(), path.end(), '\0', '?');
  throw_system(EINVAL, concat({call, " ", path, ", a path with a NUL"}));
}

}  // namespace

FileOptions for_writing() noexcept {
  FileOptions options;
  options.read = false;
  options.write = options.create = options.truncate = true;
  return options;
}

FileOptions for_appending() noexcept {
  FileOptions options;
  options.read = false;
  options.write = options.create = options.append = true;
  return options;
}

FileOptions for_updating() noexcept {
  FileOptions options;
  options.write = options.create = true;
  return options;
}

// O_NONBLOCK, for else the opening of a pipe waits for its other end, and
// holds a thread of the pool for as long. To a file on a disk it means
// nothing.
int internal::FileState::open(const FileOptions& options) noexcept {
  int flags = O_NONBLOCK | O_NOCTTY;
  flags |= options.write ? (options.read ? O_RDWR : O_WRONLY) : O_RDONLY;
  if (options.create) flags |= O_CREAT;
  if (options.exclusive) flags |= O_EXCL;
  if (options.truncate) flags |= O_TRUNC;
  if (options.append) flags |= O_APPEND;
  const int number = sys::uninterrupted([&] {
    return sys::file_calls->open(path.c_str(), flags, options.permissions);
  });
  if (number < 0) return -number;
  fd.reset(number);
  const int type = sys::calls->file_type(number);
  if (type < 0) return -type;
  if (type == S_IFDIR) return EISDIR;
  if (type == S_IFIFO || type == S_IFSOCK) return ESPIPE;
  if (type == S_IFCHR) {
    const int now = sys::calls->get_flags(number);
    if (now >= 0) sys::calls->set_flags(number, now & ~O_NONBLOCK);
  }
  // A device is elsewhere, whatever holds its name.
  in_memory = type == S_IFREG && sys::file_calls->in_memory(number);
  return 0;
}

// --------------------------------------------------------- reading and writing

FileEvent::FileEvent(std::shared_ptr<internal::FileState> state, Does does,
                     char* data, std::size_t size, Offset offset) noexcept
    : OffloadWait(OffloadPool::standard()),
      state_(std::move(state)),
      data_(data),
      size_(size),
      offset_(static_cast<std::int64_t>(offset.value_or(0))),
      does_(does),
      sequential_(!offset) {}

FileEvent::FileEvent(FileEvent&& other) noexcept
    : OffloadWait(std::move(other)),
      state_(std::move(other.state_)),
      data_(other.data_),
      size_(other.size_),
      offset_(other.offset_),
      does_(other.does_),
      sequential_(other.sequential_) {}

bool FileEvent::attempt() noexcept {
  if (!started_ && !start()) return true;
  if (away_) {
    if (!OffloadWait::attempt()) return false;
    if (finish()) return settled();
    if (!spend()) {  // a kill that has waited for the piece takes it here
      go_behind();
      return false;
    }
  }
  return go_on();
}

/// Returns: false, with error_ set, if there is nothing to begin with.
bool FileEvent::start() noexcept {
  if (state_ == nullptr || !state_->fd) {
    error_ = EBADF;
  } else if (sequential_ && state_->positioned) {
    error_ = EBUSY;
  } else {
    if (sequential_) offset_ = state_->position;
    if (offset_ < 0) error_ = EINVAL;  // to read_cached() it means something
  }
  if (error_ != 0) return false;
  if (sequential_) state_->positioned = true;
  return started_ = true;
}

/// Does here what asks no disk, and sends for the rest.
bool FileEvent::go_on() noexcept {
  if (done_ == size_) return settled();
  while (copy_here()) {
    spend_on_copy(came_);
    if (finish()) return settled();
    if (spend()) continue;
    go_behind();
    return false;
  }
  away_ = true;
  return OffloadWait::attempt() && settled();
}

/// A piece, if it only has to be copied. Returns: false if the disk has to be
/// asked.
bool FileEvent::copy_here() noexcept {
  if (state_->in_memory) {
    do_piece(kCopiedBytes);
    return true;
  }
  if (does_ == Does::kWrite || !state_->tells_cached) return false;
  const ssize_t count = sys::uninterrupted([this] {
    return sys::file_calls->read_cached(
        state_->fd.get(), data_ + done_, std::min(size_ - done_, kCopiedBytes),
        offset_ + static_cast<std::int64_t>(done_));
  });
  if (count < 0) {
    // What it cannot tell of one place it may tell of the next; what it does
    // not know at all (ENOSYS), or not for this file, it need not be asked
    // again.
    if (count != -EAGAIN) state_->tells_cached = false;
    return false;
  }
  ended_ = count == 0;
  came_ = static_cast<std::size_t>(count);
  return true;
}

void FileEvent::work() noexcept {
  do_piece(kPieceBytes);
}

/// The next piece, of at most so many bytes.
void FileEvent::do_piece(std::size_t most) noexcept {
  const int fd = state_->fd.get();
  most = std::min(size_ - done_, most);
  char* const data = data_ + done_;
  const std::int64_t offset = offset_ + static_cast<std::int64_t>(done_);
  failed_ = 0;
  came_ = 0;
  while (came_ < most) {
    const ssize_t count = sys::uninterrupted([&] {
      const std::int64_t there = offset + static_cast<std::int64_t>(came_);
      return does_ == Does::kRead
                 ? sys::file_calls->pread(fd, data + came_, most - came_, there)
                 : sys::file_calls->pwrite(fd, data + came_, most - came_,
                                           there);
    });
    if (count < 0) failed_ = static_cast<int>(-count);
    ended_ = count == 0;
    if (count <= 0) break;
    came_ += static_cast<std::size_t>(count);
  }
}

/// A piece is back. Returns: true if it was the last.
bool FileEvent::finish() noexcept {
  away_ = false;
  done_ += std::exchange(came_, 0);
  error_ = failed_;
  if (refused()) error_ = ECANCELED;
  // A write of nothing that says nothing would be repeated for ever.
  if (ended_ && does_ == Does::kWrite && error_ == 0) error_ = EIO;
  return error_ != 0 || ended_ || done_ == size_;
}

/// It is over, well or not.
bool FileEvent::settled() noexcept {
  if (sequential_) {
    state_->position = offset_ + static_cast<std::int64_t>(done_);
    state_->positioned = false;
  }
  started_ = false;
  return true;
}

// What was read is as if it had not been. What was written is there.
void FileEvent::undo() noexcept {
  OffloadWait::undo();
  if (!std::exchange(started_, false) || !sequential_) return;
  if (does_ == Does::kWrite) {
    done_ += came_;
    state_->position = offset_ + static_cast<std::int64_t>(done_);
  }
  state_->positioned = false;
}

void FileEvent::describe(Description& out) const {
  out.text = concat({does_ == Does::kRead ? "read " : "write ",
                     state_ ? state_->path : "a closed file", " ", done_, "/",
                     size_, ", ", text_of_state()});
}

std::size_t FileEvent::result() const {
  if (error_ == 0) return done_;
  const char* call = does_ == Does::kRead ? "read" : "write";
  const std::string what =
      concat({call, " ", state_ ? state_->path : "a closed file"});
  if (error_ != EBUSY) throw_system(error_, what);
  throw_error(
      Misuse(concat({what,
                     ": another job reads or writes at its position now; give "
                     "each an offset: read_at(), write_at()"})));
}

// ----------------------------------------------------------------- other calls

internal::FileState& File::state(const char* call) const {
  if (*this) return *state_;
  throw_system(EBADF, concat({call, " a closed file"}));
}

Task<std::uint64_t> File::size() const {
  const auto held = state_;
  const int fd = state("size").fd.get();
  const std::int64_t size =
      co_await offload([&] { return sys::file_calls->file_size(fd); });
  check(size, "size", held->path);
  co_return static_cast<std::uint64_t>(size);
}

namespace {

Task<> sync_file(std::shared_ptr<internal::FileState> state, bool data_only) {
  const int result = co_await offload([&] {
    return sys::uninterrupted(
        [&] { return sys::file_calls->sync(state->fd.get(), data_only); });
  });
  check(result, "sync", state->path);
}

}  // namespace

Task<> File::sync() const {
  static_cast<void>(state("sync"));
  return sync_file(state_, false);
}

Task<> File::sync_data() const {
  static_cast<void>(state("sync"));
  return sync_file(state_, true);
}

Task<> File::truncate(std::uint64_t size) const {
  const auto held = state_;
  const int fd = state("truncate").fd.get();
  const int result = co_await offload([&] {
    return sys::uninterrupted([&] {
      return sys::file_calls->truncate(fd, static_cast<std::int64_t>(size));
    });
  });
  check(result, "truncate", held->path);
}

Task<> File::close() {
  static_cast<void>(state("close"));
  if (state_.use_count() > 1) {
    throw_error(
        Misuse(concat({"violet: close of ", path(),
                       " while a job reads or writes it; wait for that first, "
                       "or let the file go: it is closed after the last"})));
  }
  const std::string path = state_->path;
  Fd fd = std::move(state_->fd);
  state_.reset();
  const int result = co_await offload([&] {  // once; see sys::Calls::close
    return sys::calls->close(fd.release());
  });
  check(result == -EINTR ? 0 : result, "close", path);
}

Task<File> open_file(std::string path, FileOptions options) {
  refuse_nul("open", path);
  auto state = std::make_shared<internal::FileState>(std::move(path));
  const int error = co_await offload([&] { return state->open(options); });
  if (error == ESPIPE) {
    throw_system(error, concat({"open ", state->path,
                                ", a pipe or socket and no file: adopt() takes "
                                "its descriptor"}));
  }
  if (error != 0) throw_system(error, concat({"open ", state->path}));
  co_return File(std::move(state));
}

Task<> rename_file(std::string from, std::string to) {
  refuse_nul("rename", from);
  refuse_nul("rename to", to);
  const int result = co_await offload(
      [&] { return sys::file_calls->rename(from.c_str(), to.c_str()); });
  check(result, "rename", concat({from, " to ", to}));
}

Task<> remove_file(std::string path) {
  refuse_nul("remove", path);
  const int result =
      co_await offload([&] { return sys::calls->unlink(path.c_str()); });
  check(result, "remove", path);
}

namespace {

/// Blocks. Some file systems cannot sync a folder, and say so: then there is
/// nothing to be done.
int sync_names(const char* folder) noexcept {
  const int number = sys::uninterrupted(
      [&] { return sys::file_calls->open(folder, O_RDONLY | O_DIRECTORY, 0); });
  if (number < 0) return number;
  const Fd fd(number);
  const int result = sys::uninterrupted(
      [&] { return sys::file_calls->sync(fd.get(), false); });
  return result == -EINVAL || result == -ENOTSUP ? 0 : result;
}

}  // namespace

Task<> sync_folder(std::string path) {
  refuse_nul("sync", path);
  const int result = co_await offload([&] { return sync_names(path.c_str()); });
  check(result, "sync", path);
}

// ----------------------------------------------------------------- whole files

namespace {

[[noreturn]] void throw_too_large(const std::string& path, std::size_t most) {
  throw_system(EFBIG, concat({"read ", path, ", more than ", most, " bytes"}));
}

}  // namespace

// What the system says of the size is a guess: a file in /proc has none, and
// one that grows has another by now. So the last read is one that finds
// nothing.
Task<std::string> read_file(std::string path, std::size_t most_bytes) {
  constexpr std::size_t kLeast = 4096;
  const File file = co_await open_file(std::move(path));
  const std::uint64_t guess = co_await file.size();
  std::string text;
  most_bytes = std::min(most_bytes, text.max_size() - 1);
  if (guess > most_bytes) throw_too_large(file.path(), most_bytes);
  text.reserve(static_cast<std::size_t>(guess) + 1);
  for (;;) {
    const std::size_t got = text.size();
    const std::size_t wanted = got <= guess
                                   ? static_cast<std::size_t>(guess) + 1 - got
                                   : std::max(got, kLeast);
    // Not all at once: the string fills with zeros what it is made longer by.
    const std::size_t room =
        std::min({wanted, kPieceBytes, most_bytes + 1 - got});
    text.resize(got + room);
    const std::span<char> rest(text.data() + got, room);
    const std::size_t count = co_await file.read(rest);
    text.resize(got + count);
    if (text.size() > most_bytes) throw_too_large(file.path(), most_bytes);
    if (count < room) co_return text;
  }
}

Task<> write_file(std::string path, std::string data) {
  File file = co_await open_file(std::move(path), for_writing());
  co_await file.write(data);
  co_await file.close();
}

namespace {

/// A new file beside another, which is removed unless it is kept. In a
/// destructor that can only block; but a name that was just made is at hand.
class Temporary {
 public:
  explicit Temporary(const std::string& beside)
      : beside_(beside.substr(0, beside.rfind('/') + 1 + kMostOfName)) {}
  Temporary(const Temporary&) = delete;
  ~Temporary() {
    if (made_) sys::calls->unlink(path_.c_str());
  }

  const std::string& path() const noexcept { return path_; }

  /// Another name, which hardly any file has.
  void name_anew() {
    path_ = concat({beside_, ".", ::getpid(), "-", count.fetch_add(1), ".new"});
  }

  /// Blocks, and makes it.
  int open(internal::FileState& state, const FileOptions& options) noexcept {
    const int error = state.open(options);
    made_ = bool(state.fd);  // even if it is not to be used
    return error;
  }

  void kept() noexcept { made_ = false; }

 private:
  static constexpr std::size_t kMostOfName = 200;  // bytes; names have 255

  static inline std::atomic<unsigned> count = 0;
  std::string beside_;  // perhaps not all of its name
  std::string path_;
  bool made_ = false;
};

/// The new file, whole and on the disk.
Task<> write_new(Temporary& temporary, std::string_view data,
                 unsigned permissions) {
  FileOptions options = for_writing();
  options.exclusive = true;
  options.permissions = permissions;
  std::shared_ptr<internal::FileState> state;
  int error = EEXIST;
  while (error == EEXIST) {
    temporary.name_anew();
    state = std::make_shared<internal::FileState>(temporary.path());
    error = co_await offload([&] { return temporary.open(*state, options); });
  }
  if (error != 0) throw_system(error, concat({"open ", temporary.path()}));
  File file(std::move(state));
  co_await file.write(data);
  co_await file.sync();
  co_await file.close();
}

}  // namespace

Task<> replace_file(std::string path, std::string data, unsigned permissions) {
  refuse_nul("replace", path);
  Temporary temporary(path);
  co_await write_new(temporary, data, permissions);
  const std::string folder = folder_of(path);
  int synced = 0;
  const int renamed = co_await offload([&] {
    const int result =
        sys::file_calls->rename(temporary.path().c_str(), path.c_str());
    if (result < 0) return result;
    temporary.kept();
    synced = sync_names(folder.c_str());
    return 0;
  });
  check(renamed, "rename", concat({temporary.path(), " to ", path}));
  check(synced, "sync", folder);
}

// ---------------------------------------------------------------- write-behind

FileWriter::FileWriter(File file, std::size_t block_bytes)
    : file_(std::move(file)),
      block_bytes_(std::max<std::size_t>(block_bytes, 1)),
      filling_(new char[block_bytes_]),
      other_(file_.in_memory() ? nullptr : new char[block_bytes_]) {}

FileWriter::~FileWriter() {
  if (!failed_ || told_) return;
  complain_with([&] {
    return concat({"nobody asked whether ", file_.path(),
                   " was written: ", failed_.message()});
  });
}

void FileWriter::check() {
  if (!failed_) return;
  told_ = true;
  throw_system(failed_.value(), concat({"write ", file_.path()}));
}

Task<std::span<char>> FileWriter::room() {
  check();
  if (filled_ == block_bytes_) co_await hand_over();
  // Of one block nothing is free while it is written.
  if (other_ == nullptr && !writes_.ended()) co_await settle();
  co_return std::span<char>(filling_.get() + filled_, block_bytes_ - filled_);
}

void FileWriter::commit(std::size_t bytes) {
  if (bytes <= block_bytes_ - filled_) {
    filled_ += bytes;
    return;
  }
  throw_error(
      Misuse("violet: commit() of more bytes than room() has given; ask for "
             "room() again"));
}

Task<> FileWriter::write(std::string_view data) {
  while (!data.empty()) {
    const std::span<char> space = co_await room();
    const std::size_t count = std::min(space.size(), data.size());
    std::memcpy(space.data(), data.data(), count);
    commit(count);
    data.remove_prefix(count);
  }
  if (filled_ == block_bytes_) co_await hand_over();
}

/// Waits until the last block that was handed over is written.
Task<> FileWriter::settle() {
  co_await wait(writes_);
  if (writes_.killed() && !failed_) {
    failed_ = std::make_error_code(std::errc::operation_canceled);
  }
  check();
}

/// Has what is filled written.
Task<> FileWriter::hand_over() {
  co_await settle();
  writes_ = group_.spawn(
      [](FileWriter& self, const char* data, std::size_t size) {
        return self.write_block(data, size);
      },
      std::ref(*this), filling_.get(), filled_);
  if (other_ != nullptr) std::swap(filling_, other_);
  filled_ = 0;
}

Task<> FileWriter::write_block(const char* data, std::size_t size) {
  std::error_code code;
  co_await file_.write(std::string_view(data, size), code);
  if (code && !failed_) failed_ = code;
}

Task<> FileWriter::flush() {
  check();
  if (filled_ != 0) co_await hand_over();
  co_await settle();
}

Task<> FileWriter::sync() {
  co_await flush();
  co_await file_.sync();
}

Task<> FileWriter::close() {
  co_await flush();
  co_await file_.close();
}

}  // namespace violet
