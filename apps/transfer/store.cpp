// store.cpp - pieces and whole bodies on their way to a disk.
// SPDX-License-Identifier: MIT
#include "store.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>

namespace transfer {

using violet::concat;
using violet::Task;
using violet::throw_system;
namespace sys = violet::sys;

namespace {

constexpr std::size_t kWasteBytes = std::size_t{64} << 10;
constexpr std::size_t kMostIdBytes = 200;

// ----------------------------------------------------------------------- names

bool is_utf8(std::string_view text) noexcept {
  std::size_t more = 0;  // bytes that belong to the character before
  std::uint32_t code = 0;
  std::uint32_t least = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (more > 0) {
      if ((byte & 0xc0) != 0x80) return false;
      code = code << 6 | (byte & 0x3f);
      if (--more > 0) continue;
      const bool surrogate = code >= 0xd800 && code < 0xe000;
      if (code < least || code > 0x10ffff || surrogate) return false;
    } else if (byte >= 0x80) {
      if (byte < 0xc2 || byte > 0xf4) return false;
      more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
      code = byte & (0x3fu >> more);
      least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
    }
  }
  return more == 0;
}

void check_segment(std::string_view segment) {
  const std::string name = violet::printable(segment);
  const auto refuse = [&](Why why, std::string_view what) {
    throw Refused(why, concat({"the name '", name, "' ", what}));
  };
  if (segment.empty()) refuse(Why::kBadName, "is empty");
  if (segment == "." || segment == "..") {
    refuse(Why::kBadName, "leads elsewhere");
  }
  if (segment.front() == '.') refuse(Why::kHidden, "is hidden");
  if (segment.size() > Place::kMostNameBytes) {
    refuse(Why::kBadName, "is too long");
  }
  if (!is_utf8(segment)) refuse(Why::kBadName, "is not UTF-8");
  if (name != segment) refuse(Why::kBadName, "has a control character");
}

/// Blocks. Returns: the type of what is there, 0 if nothing is.
int type_at(const std::string& path) {
  sys::FileNumber which;
  const int type = sys::calls->file_at(path.c_str(), which);
  if (type == -ENOENT || type == -ENOTDIR) return 0;
  if (type < 0) throw_system(-type, concat({"look at ", path}));
  return type;
}

void check_piece(const Fragment& piece) {
  const ByteRange& range = piece.range;
  if (range.begin >= range.end || range.end > piece.size ||
      piece.size > violet::http::kMostBytes) {
    throw Refused(Why::kBadPiece,
                  concat({"bytes ", range.begin, " to ", range.end, " of ",
                          piece.size, " make no sense"}));
  }
  const bool word = piece.id.size() <= kMostIdBytes &&
                    std::all_of(piece.id.begin(), piece.id.end(),
                                [](char c) { return c > ' ' && c < 0x7f; });
  if (!word || piece.id == "-") {
    throw Refused(Why::kBadPiece,
                  concat({"an Upload-Id is a word of at most ", kMostIdBytes,
                          " ASCII characters, and not '-'"}));
  }
}

// --------------------------------------------------------------------- uploads

/// Blocks. Returns: the type of what has that name, 0 if nothing has.
/// Throws: Refused for a name that no file may have.
int type_of(const std::string& root, std::string_view name) {
  std::string path = root;
  int type = S_IFDIR;
  violet::http::Pieces pieces(name, '/');
  for (std::string_view segment; pieces.next(segment);) {
    check_segment(segment);
    if (type == 0) throw Refused(Why::kNoFolder, "there is no such folder");
    if (type != S_IFDIR) {
      throw Refused(Why::kNoFile,
                    concat({"'", segment, "' is in no plain folder"}));
    }
    path = concat({path, "/", segment});
    type = type_at(path);
  }
  return type;
}

/// Blocks. Throws: Refused unless a plain file may have that name.
void check_name(const std::string& root, std::string_view name) {
  const int type = type_of(root, name);
  if (type == 0 || type == S_IFREG) return;
  throw Refused(Why::kNoFile, concat({"'", name, "' is no plain file"}));
}

[[noreturn]] void throw_conflict(std::string_view name, const Upload& other) {
  throw Refused(Why::kConflict,
                concat({"another upload of '", name, "' is in progress, of ",
                        other.size, " bytes"}));
}

/// Finishes what a process has left that died while it published.
/// Returns: true if there was something to finish.
bool recover(Journal& journal) {
  if (!journal.upload().is_whole() || !journal.has_part()) return false;
  journal.publish();
  return true;
}

/// Takes the journal of a name for which nothing is left to be finished.
/// Returns: false if somebody else has it.
bool take_settled(Journal& journal) {
  do {
    if (journal.take(true) != Journal::Taken::kYes) return false;
  } while (recover(journal));
  return true;
}

/// Blocks. What has a name; nothing if nothing has.
std::optional<sys::FileStatus> status_of(const std::string& path) {
  sys::FileStatus status;
  const int found = sys::file_calls->status_at(path.c_str(), status);
  if (found == -ENOENT) return std::nullopt;
  if (found < 0) throw_system(-found, concat({"look at ", path}));
  return status;
}

Progress progress_of(const std::string& name, const Upload& upload) {
  Progress progress;
  progress.name = name;
  progress.size = upload.size;
  progress.id = upload.id;
  progress.received = upload.received.ranges();
  progress.complete = upload.is_whole();
  return progress;
}

// -------------------------------------------------------------------- cleaning

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// Blocks. When a file was last changed; the beginning of time if it is gone.
std::int64_t modified_ns(const std::string& path) {
  sys::FileStatus status;
  const int found = sys::file_calls->status_at(path.c_str(), status);
  return found < 0 ? 0 : status.modified_ns;
}

/// One look through a folder. Blocks.
class Cleaning {
 public:
  explicit Cleaning(violet::Duration age)
      : before_(age > violet::Duration::zero() ? now_ns() - age.count() : 0) {}

  std::size_t look_through(const std::string& folder) {
    namespace fs = std::filesystem;
    std::error_code code;
    fs::recursive_directory_iterator entry(
        folder, fs::directory_options::skip_permission_denied, code);
    if (code) throw std::system_error(code, concat({"open ", folder}));
    for (; !code && entry != fs::recursive_directory_iterator();
         entry.increment(code)) {
      try {
        look_at(entry->path().parent_path().string(),
                entry->path().filename().string());
      } catch (const std::system_error& e) {  // not ours; the rest may be
        violet::complain(e.what());
      }
    }
    return removed_;
  }

 private:
  static constexpr std::size_t kTokenBytes = 16;

  void look_at(const std::string& folder, std::string_view hidden) {
    if (hidden.front() != '.') return;
    hidden.remove_prefix(1);
    const auto dot = hidden.rfind('.');
    if (dot == hidden.npos) return;
    const std::string_view ending = hidden.substr(dot);
    std::string_view name = hidden.substr(0, dot);
    if (ending == ".upload") return upload(Place(folder, name));
    if (ending != ".part" && ending != ".new") return;
    if (name.size() < kTokenBytes + 2) return;
    const std::string_view token = name.substr(name.size() - kTokenBytes);
    if (token.find_first_not_of("0123456789abcdef") != token.npos) return;
    name.remove_suffix(kTokenBytes + 1);
    const Place place(folder, name);
    if (ending == ".new") return draft(place.draft(token));
    stray(place, token);
  }

  void upload(const Place& place) {
    Journal journal(place);
    if (journal.take(false) != Journal::Taken::kYes) return;
    if (!journal.upload().exists() && !journal.empty()) {
      return;  // perhaps somebody else's
    }
    const std::string part = place.part(journal.upload().token);
    const auto last = std::max(modified_ns(place.journal()), modified_ns(part));
    if (last >= before_) return;
    journal.remove();
    ++removed_;
  }

  /// The bytes of an upload that was begun anew.
  void stray(const Place& place, std::string_view token) {
    Journal journal(place);
    if (journal.take(false) == Journal::Taken::kBusy) return;
    if (journal.upload().token != token) remove(place.part(token));
  }

  /// A whole body is locked for as long as it comes. One that is so new may be
  /// about to be locked.
  void draft(const std::string& path) {
    constexpr std::int64_t kMinuteNs = 60'000'000'000;
    const violet::Fd fd(sys::uninterrupted([&] {
      return sys::file_calls->open(path.c_str(), O_RDWR | O_NOFOLLOW, 0);
    }));
    if (!fd || sys::file_calls->lock(fd.get()) < 0) return;
    if (modified_ns(path) < now_ns() - kMinuteNs) remove(path);
  }

  void remove(const std::string& path) {
    if (sys::calls->unlink(path.c_str()) == 0) ++removed_;
  }

  const std::int64_t before_;
  std::size_t removed_ = 0;
};

}  // namespace

// ------------------------------------------------------------------- the store

std::string Progress::json() const {
  std::string text = "{\"name\": \"";
  for (const char c : name) {  // UTF-8 without control characters
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  text += concat({"\", \"size\": ", size, ", \"received\": ["});
  const char* comma = "";
  for (const ByteRange& range : received) {
    text += concat({comma, "[", range.begin, ", ", range.end, "]"});
    comma = ", ";
  }
  text += concat({"], \"complete\": ", complete ? "true" : "false", "}\n"});
  return text;
}

template <class Attempt>
Task<> Store::until_free(Attempt& attempt, const std::string& name) {
  using std::chrono::milliseconds;
  constexpr violet::Duration kLongest = milliseconds(50);
  violet::Duration pause = milliseconds(1);
  for (violet::Duration left = options_.patience;; left -= pause) {
    const bool done = co_await violet::offload(attempt);
    if (done) co_return;
    if (left <= violet::Duration::zero()) break;
    co_await violet::sleep(pause);
    pause = std::min(2 * pause, kLongest);
  }
  throw Refused(Why::kBusy, concat({"somebody else sends these bytes of '",
                                    name, "' now"}));
}

/// What is left of the memory for all blocks, shared with seven more who may
/// come, each with two blocks.
std::size_t Store::choose_block() const noexcept {
  const std::size_t left = kMostBuffered - std::min(kMostBuffered, buffered_);
  return std::clamp(left / 8 / kLeastBlockBytes * kLeastBlockBytes,
                    kLeastBlockBytes, kMostBlockBytes);
}

Task<std::optional<Progress>> Store::progress(std::string name) {
  const Place place(folder_, name);
  std::optional<Progress> found;
  bool published = false;
  auto look = [&] {
    check_name(folder_, name);
    Journal journal(place);
    const Journal::Taken taken = journal.take(false);
    if (taken == Journal::Taken::kBusy) return false;
    const Upload& upload = journal.upload();
    if (taken == Journal::Taken::kNotThere || !upload.exists()) return true;
    published = recover(journal);
    const bool valid = upload.done || published
                           ? journal.still_published() || published
                           : journal.has_part();
    if (valid) found = progress_of(name, upload);
    return true;
  };
  co_await until_free(look, name);
  if (published) co_await violet::sync_folder(place.folder());
  co_return found;
}

Task<bool> Store::give_up(std::string name, std::string id) {
  const Place place(folder_, name);
  bool found = false;
  auto remove = [&] {
    check_name(folder_, name);
    Journal journal(place);
    const Journal::Taken taken = journal.take(false);
    if (taken == Journal::Taken::kBusy) return false;
    if (taken == Journal::Taken::kNotThere) return true;
    const Upload& upload = journal.upload();
    found = upload.exists() && !upload.done;
    if (!id.empty() && upload.exists() && upload.id != id) {
      if (found) throw_conflict(name, upload);
      return true;
    }
    journal.remove();
    return true;
  };
  co_await until_free(remove, name);
  co_return found;
}

Task<std::size_t> Store::clean(violet::Duration age) {
  auto look = [&] { return Cleaning(age).look_through(folder_); };
  const std::size_t removed = co_await violet::offload(look);
  co_return removed;
}

// ------------------------------------------------------------ what bytes go to

Sink::Sink(Store& store, std::string name, Condition condition)
    : store_(store),
      name_(std::move(name)),
      place_(store.folder_, name_),
      condition_(std::move(condition)) {}

Sink::~Sink() {
  store_.buffered_ -= buffered_;
}

/// Blocks.
void Sink::check_condition() const {
  if (!condition_) return;
  const std::optional<sys::FileStatus> there = status_of(place_.path());
  if (condition_(there ? &*there : nullptr)) return;
  throw Refused(Why::kOtherVersion,
                concat({"'", name_, "' is not what the request is for"}));
}

violet::FileWriter& Sink::open_writer(violet::File file,
                                      std::uint64_t most_bytes) {
  std::size_t block = store_.choose_block();
  if (most_bytes < block) block = static_cast<std::size_t>(most_bytes);
  writer_.emplace(std::move(file), block);
  store_.buffered_ += buffered_ = writer_->memory_bytes();
  return *writer_;
}

// ------------------------------------------------------------------- one piece

PieceSink::PieceSink(Store& store, std::string name, Fragment piece,
                     Condition condition)
    : Sink(store, std::move(name), std::move(condition)),
      piece_(std::move(piece)),
      at_(piece_.range.begin) {}

Task<> PieceSink::begin() {
  check_piece(piece_);
  auto attempt = [this] {
    check_name(store_.folder_, name_);
    return join();
  };
  co_await store_.until_free(attempt, name_);
  if (gaps_.empty()) co_return;
  violet::FileOptions options;
  options.write = true;
  violet::File file;
  try {
    file = co_await violet::open_file(place_.part(token_), options);
  } catch (const std::system_error& e) {
    if (e.code() == std::errc::no_such_file_or_directory) given_up();
    throw;
  }
  open_writer(std::move(file), gaps_.back().end - gaps_.front().begin);
  enter_gap();
}

/// Blocks. Returns: false if somebody else is in the way.
bool PieceSink::join() {
  Journal journal(place_);
  return take_settled(journal) && join(journal);
}

bool PieceSink::join(Journal& journal) {
  gaps_.clear();
  const Upload& upload = journal.upload();
  const bool same = upload.size == piece_.size && upload.id == piece_.id;
  if (same && journal.still_published()) {
    progress_ = progress_of(name_, upload);
    progress_.replaced = noted_ = true;
    return true;  // whatever the condition: it is what has been asked for
  }
  check_condition();
  if (!upload.exists() || upload.done || !journal.has_part()) {
    journal.begin(piece_.size, piece_.id);
  } else if (!same) {
    throw_conflict(name_, upload);
  }
  gaps_ = upload.received.missing(piece_.range);
  token_ = upload.token;
  progress_ = progress_of(name_, upload);
  if (gaps_.empty()) return true;
  ByteSet after = upload.received;
  after.add(piece_.range);
  if (after.ranges().size() > Store::kMostRanges) {
    throw Refused(Why::kManyGaps,
                  concat({"'", name_, "' has come in ", Store::kMostRanges,
                          " separate ranges: send what lies between"}));
  }
  return claim();
}

/// Blocks. Locks the range. Returns: false if somebody else has some of it.
bool PieceSink::claim() {
  const std::string part = place_.part(token_);
  const int fd = sys::uninterrupted([&] {
    return sys::file_calls->open(part.c_str(), O_RDWR | O_NOFOLLOW, 0);
  });
  if (fd < 0) throw_system(-fd, concat({"open ", part}));
  held_.reset(fd);
  const int locked = sys::file_calls->lock_range(
      fd, static_cast<std::int64_t>(piece_.range.begin),
      static_cast<std::int64_t>(piece_.range.size()));
  if (locked == -EWOULDBLOCK) return false;
  if (locked < 0) throw_system(-locked, concat({"lock ", part}));
  return true;
}

void PieceSink::given_up() const {
  throw Refused(Why::kGivenUp,
                concat({"the upload of '", name_, "' was given up"}));
}

void PieceSink::enter_gap() {
  if (gaps_.empty()) return;
  const std::uint64_t begin = gaps_.front().begin;
  pending_ = {begin, begin};
  writer_->file().seek(begin);
}

Task<std::span<char>> PieceSink::room() {
  if (in_gap()) {
    const std::span<char> space = co_await writer_->room();
    co_return space.first(static_cast<std::size_t>(
        std::min<std::uint64_t>(space.size(), gaps_.front().end - at_)));
  }
  // What is there already is received all the same; and a byte too many.
  if (!waste_) waste_.reset(new char[kWasteBytes]);
  const std::uint64_t until =
      gaps_.empty() ? piece_.range.end : gaps_.front().begin;
  co_return std::span<char>(waste_.get(),
                            static_cast<std::size_t>(std::clamp<std::uint64_t>(
                                until - at_, 1, kWasteBytes)));
}

Task<> PieceSink::commit(std::size_t count) {
  if (count > left()) {
    throw Refused(Why::kBadPiece, "more bytes came than the range has");
  }
  const bool wanted = in_gap();
  at_ += count;
  if (!wanted) co_return;
  writer_->commit(count);
  pending_.end = at_;
  const bool full = at_ == gaps_.front().end;
  const bool last = full && gaps_.size() == 1;  // finish() has it noted
  if (!last && (full || pending_.size() >= store_.options_.note_bytes)) {
    co_await settle();
  }
  if (!full) co_return;
  gaps_.erase(gaps_.begin());
  enter_gap();
}

/// Has the disk keep what is pending, and notes it.
Task<> PieceSink::settle() {
  co_await writer_->flush();
  co_await note_pending();
}

Task<> PieceSink::note_pending() {
  if (pending_.size() == 0 || distrusted_) co_return;
  distrusted_ = true;  // after a sync that failed, another would not tell
  co_await writer_->file().sync_data();
  distrusted_ = false;
  auto attempt = [this] { return note(); };
  co_await store_.until_free(attempt, name_);
  pending_.begin = pending_.end;
  noted_ = true;
  if (progress_.complete) co_await violet::sync_folder(place_.folder());
}

/// Blocks. Returns: false if somebody else has the journal.
bool PieceSink::note() {
  Journal journal(place_);
  const Journal::Taken taken = journal.take(false);
  if (taken == Journal::Taken::kBusy) return false;
  const bool cut = !journal.upload().done && !journal.has_part();
  if (journal.upload().token != token_ || cut) given_up();
  ByteSet after = journal.upload().received;
  after.add(pending_);
  const bool whole = after.has_all(piece_.size);
  const ByteRange added = std::exchange(pending_, {at_, at_});
  if (whole) check_condition();  // what is noted as whole will be published
  pending_ = added;
  journal.add(pending_);
  const bool replaced = whole && journal.publish();
  progress_ = progress_of(name_, journal.upload());
  progress_.replaced = replaced;
  if (whole) progress_.stored = status_of(place_.path());
  return true;
}

Task<Progress> PieceSink::finish() {
  if (left() != 0) {
    throw Refused(Why::kBadPiece,
                  concat({left(), " bytes of the range have not come"}));
  }
  if (pending_.size() > 0) co_await settle();
  if (noted_) co_return progress_;
  // All of it was there before; how far the rest is may have changed since.
  const std::optional<Progress> now = co_await store_.progress(name_);
  if (now) co_return *now;
  progress_.complete = progress_.replaced = true;  // by somebody else
  progress_.received = {{0, piece_.size}};
  co_return progress_;
}

Task<> PieceSink::keep() {
  if (!writer_ || pending_.size() == 0) co_return;
  bool failed = false;
  try {
    co_await writer_->flush();
  } catch (const std::system_error&) {  // full: but what is there is there
    failed = true;
  }
  // What was refused completes no file: its last byte has to come again.
  if (gaps_.empty()) --pending_.end;
  if (failed) pending_.end = std::min(pending_.end, writer_->file().position());
  co_await note_pending();
}

// ---------------------------------------------------------------- whole bodies

WholeSink::WholeSink(Store& store, std::string name, Condition condition)
    : Sink(store, std::move(name), std::move(condition)) {}

// It blocks, but a name that was just made is at hand.
WholeSink::~WholeSink() {
  if (!draft_.empty()) sys::calls->unlink(draft_.c_str());
}

Task<> WholeSink::begin() {
  auto check = [this] {
    check_name(store_.folder_, name_);
    check_condition();  // before the body comes; what counts is in publish()
  };
  co_await violet::offload(check);
  draft_ = place_.draft(random_token());
  violet::FileOptions options = violet::for_writing();
  options.exclusive = true;
  violet::File file = co_await violet::open_file(draft_, options);
  auto lock = [&] { return sys::file_calls->lock(file.fd()); };
  const int locked = co_await violet::offload(lock);
  if (locked < 0) throw_system(-locked, concat({"lock ", draft_}));
  open_writer(std::move(file), violet::http::kMostBytes);
}

Task<std::span<char>> WholeSink::room() {
  return writer_->room();
}

Task<> WholeSink::commit(std::size_t count) {
  writer_->commit(count);
  size_ += count;
  co_return;
}

Task<Progress> WholeSink::finish() {
  co_await writer_->sync();
  Progress progress;
  progress.name = name_;
  progress.size = size_;
  if (size_ != 0) progress.received = {{0, size_}};
  progress.complete = true;
  auto attempt = [&] { return publish(progress); };
  co_await store_.until_free(attempt, name_);
  draft_.clear();
  co_await violet::sync_folder(place_.folder());
  co_return progress;
}

/// Blocks. Returns: false if somebody else has the name locked.
bool WholeSink::publish(Progress& progress) {
  check_name(store_.folder_, name_);
  Journal journal(place_);
  if (!take_settled(journal)) return false;
  check_condition();
  const std::string& path = place_.path();
  progress.replaced = type_at(path) != 0;
  const int renamed = sys::file_calls->rename(draft_.c_str(), path.c_str());
  if (renamed < 0) {
    throw_system(-renamed, concat({"rename ", draft_, " to ", path}));
  }
  progress.stored = status_of(path);
  return true;
}

}  // namespace transfer
