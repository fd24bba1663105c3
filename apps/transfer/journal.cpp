// journal.cpp - lines with checksums, and the order in which files change.
// SPDX-License-Identifier: MIT
#include "journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <cstdio>
#include <random>
#include <vector>

#include "../file_lock.hpp"

namespace transfer {

using violet::concat;
using violet::throw_system;
using violet::http::parse_number;
namespace sys = violet::sys;

namespace {

constexpr std::string_view kVersion = "1";
constexpr std::string_view kNoId = "-";

/// FNV-1a, as eight hexadecimal digits: it is to find what was torn, not who
/// forges.
std::string checksum_of(std::string_view text) {
  std::uint32_t sum = 2166136261u;
  for (const char c : text) {
    sum = (sum ^ static_cast<unsigned char>(c)) * 16777619u;
  }
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(sum));
  return digits;
}

std::string with_checksum(std::string_view line) {
  return concat({line, " ", checksum_of(line), "\n"});
}

std::string header(const Upload& upload) {
  return concat({"upload ", kVersion, " ", upload.size, " ", upload.token, " ",
                 upload.id.empty() ? kNoId : std::string_view(upload.id)});
}

/// The words of a line without its checksum; none if that is not right.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  const auto last = line.rfind(' ');
  if (last == line.npos) return words;
  if (line.substr(last + 1) != checksum_of(line.substr(0, last))) return words;
  violet::http::Pieces pieces(line.substr(0, last), ' ');
  std::string_view word;
  while (pieces.next(word)) words.push_back(word);
  return words;
}

/// What a journal may come to: some thousand ranges, noted a few times over.
/// One that is longer is none of ours.
constexpr std::int64_t kMostBytes = std::int64_t{4} << 20;

/// All of an open file, or as much as a journal has.
std::string text_of_file(int fd, const std::string& path) {
  const std::int64_t size = sys::file_calls->file_size(fd);
  if (size < 0) throw_system(static_cast<int>(-size), concat({"size ", path}));
  std::string text(static_cast<std::size_t>(std::min(size, kMostBytes)), '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    const ssize_t count = sys::uninterrupted([&] {
      return sys::file_calls->pread(fd, text.data() + got, text.size() - got,
                                    static_cast<std::int64_t>(got));
    });
    if (count < 0)
      throw_system(static_cast<int>(-count), concat({"read ", path}));
    if (count == 0) break;
    got += static_cast<std::size_t>(count);
  }
  text.resize(got);
  return text;
}

int truncate_file(int fd, std::uint64_t size) noexcept {
  return sys::uninterrupted([&] {
    return sys::file_calls->truncate(fd, static_cast<std::int64_t>(size));
  });
}

/// Returns: 0 or a negated error number.
int write_all(int fd, std::string_view text, std::uint64_t offset) noexcept {
  while (!text.empty()) {
    const ssize_t count = sys::uninterrupted([&] {
      return sys::file_calls->pwrite(fd, text.data(), text.size(),
                                     static_cast<std::int64_t>(offset));
    });
    if (count < 0) return static_cast<int>(count);
    if (count == 0) return -EIO;
    text.remove_prefix(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return 0;
}

void check(int result, std::string_view call, const std::string& path) {
  if (result < 0) throw_system(-result, concat({call, " ", path}));
}

/// The same for what may be gone already.
void check_removed(int result, const std::string& path) {
  if (result != -ENOENT) check(result, "remove", path);
}

}  // namespace

// --------------------------------------------------------------- where it lies

Place::Place(const std::string& folder, std::string_view name) {
  path_ = concat({folder, "/", name});
  const auto slash = path_.rfind('/');
  folder_ = path_.substr(0, slash);
  base_ = path_.substr(slash + 1);
}

std::string Place::hidden(std::string_view ending) const {
  return concat({folder_, "/.", base_, ending});
}

std::string random_token() {
  static thread_local std::random_device device;
  std::string token;
  for (int i = 0; i < 16; ++i) token += "0123456789abcdef"[device() % 16];
  return token;
}

// --------------------------------------------------------------------- reading

Journal::~Journal() {
  if (!locked_ || size_ != 0 || valid_ != 0) return;
  sys::calls->unlink(place_.journal().c_str());
}

Journal::Taken Journal::take(bool create) {
  const std::string path = place_.journal();
  locked_ = false;
  // Who had the lock before may have removed the file meanwhile: then there is
  // another one under its name, or none.
  for (;;) {
    const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | (create ? O_CREAT : 0);
    const int fd = sys::uninterrupted(
        [&] { return sys::file_calls->open(path.c_str(), flags, 0666); });
    if (fd == -ENOENT && !create) return Taken::kNotThere;
    check(fd, "open", path);
    fd_.reset(fd);
    const int locked = lock_named(fd, path.c_str());
    if (locked == 0) break;
    if (locked == -EWOULDBLOCK) return Taken::kBusy;
    if (locked != -ESTALE) check(locked, "lock", path);
  }
  read();
  locked_ = true;
  return Taken::kYes;
}

void Journal::read() {
  upload_ = Upload();
  valid_ = 0;
  lines_ = 0;
  const std::string text = text_of_file(fd_.get(), place_.journal());
  size_ = text.size();
  std::string_view rest = text;
  for (;;) {
    const auto end = rest.find('\n');
    if (end == rest.npos || !read_line(rest.substr(0, end))) return;
    rest.remove_prefix(end + 1);
    valid_ += end + 1;
    ++lines_;
  }
}

/// Returns: false if it makes no sense; then nothing after it counts.
bool Journal::read_line(std::string_view line) {
  const auto words = words_of(line);
  if (words.size() == 5 && words[0] == "upload" && words[1] == kVersion) {
    const auto size = parse_number(words[2]);
    if (!size || upload_.exists()) return false;
    upload_.size = *size;
    upload_.token = words[3];
    if (words[4] != kNoId) upload_.id = words[4];
    return true;
  }
  if (words.size() != 3 || !upload_.exists()) return false;
  const auto first = parse_number(words[1]);
  const auto second = parse_number(words[2]);
  if (!first || !second || upload_.done) return false;
  if (words[0] == "have") {
    if (*first >= *second || *second > upload_.size) return false;
    upload_.received.add({*first, *second});
    return true;
  }
  if (words[0] != "done") return false;
  upload_.done = true;
  upload_.inode = *first;
  upload_.modified_ns = static_cast<std::int64_t>(*second);
  return true;
}

bool Journal::has_part() const {
  sys::FileStatus status;
  const std::string path = place_.part(upload_.token);
  const int found = sys::file_calls->status_at(path.c_str(), status);
  if (found == -ENOENT) return false;
  check(found, "look at", path);
  const auto& ranges = upload_.received.ranges();
  const std::uint64_t least = ranges.empty() ? 0 : ranges.back().end;
  const auto size = static_cast<std::uint64_t>(status.size);
  return status.type == S_IFREG && least <= size && size <= upload_.size;
}

bool Journal::still_published() const {
  if (!upload_.done) return false;
  sys::FileStatus status;
  const std::string& path = place_.path();
  const int found = sys::file_calls->status_at(path.c_str(), status);
  if (found == -ENOENT) return false;
  check(found, "look at", path);
  return status.type == S_IFREG && status.number.inode == upload_.inode &&
         status.modified_ns == upload_.modified_ns &&
         status.size == static_cast<std::int64_t>(upload_.size);
}

// --------------------------------------------------------------------- writing

void Journal::append(std::string line) {
  line = with_checksum(line);
  const std::string path = place_.journal();
  check(truncate_file(fd_.get(), valid_), "truncate", path);
  const int result = write_all(fd_.get(), line, valid_);
  if (result < 0) {
    truncate_file(fd_.get(), valid_);  // else it is torn, and so not written
    check(result, "write", path);
  }
  valid_ += line.size();
  ++lines_;
}

// Another file takes its place, so whoever waits for the lock on this one will
// find that it has no name. If that fails, the long one is as good.
void Journal::compact() noexcept {
  const std::string path = place_.journal();
  const std::string fresh = place_.draft(random_token());
  std::string text = with_checksum(header(upload_));
  for (const ByteRange& range : upload_.received.ranges()) {
    text += with_checksum(concat({"have ", range.begin, " ", range.end}));
  }
  violet::Fd fd(sys::uninterrupted([&] {
    return sys::file_calls->open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL,
                                 0666);
  }));
  if (!fd) return;
  if (sys::file_calls->lock(fd.get()) < 0 || write_all(fd.get(), text, 0) < 0 ||
      sys::file_calls->sync(fd.get(), true) < 0 ||
      sys::file_calls->rename(fresh.c_str(), path.c_str()) < 0) {
    sys::calls->unlink(fresh.c_str());
    return;
  }
  fd_ = std::move(fd);
  valid_ = text.size();
  lines_ = 1 + upload_.received.ranges().size();
}

void Journal::begin(std::uint64_t size, std::string_view id) {
  if (upload_.exists()) {
    const std::string old = place_.part(upload_.token);
    check_removed(sys::calls->unlink(old.c_str()), old);
  }
  upload_ = Upload();
  valid_ = 0;
  lines_ = 0;
  Upload upload;
  upload.size = size;
  upload.token = random_token();
  upload.id = id;
  append(header(upload));
  const std::string part = place_.part(upload.token);
  const violet::Fd made(sys::uninterrupted([&] {
    return sys::file_calls->open(part.c_str(), O_RDWR | O_CREAT | O_EXCL, 0666);
  }));
  check(made.get(), "open", part);
  upload_ = upload;
}

void Journal::add(ByteRange range) {
  append(concat({"have ", range.begin, " ", range.end}));
  upload_.received.add(range);
  if (lines_ > 2 * upload_.received.ranges().size() + kSpareLines) compact();
}

// The note comes before the name: a process that dies in between leaves a
// whole upload, which the next one to look at it publishes.
bool Journal::publish() {
  const std::string part = place_.part(upload_.token);
  const std::string& path = place_.path();
  sys::FileStatus status;
  check(sys::file_calls->status_at(part.c_str(), status), "look at", part);
  if (!upload_.id.empty() && !upload_.done) {
    append(concat({"done ", status.number.inode, " ", status.modified_ns}));
    upload_.done = true;
    upload_.inode = status.number.inode;
    upload_.modified_ns = status.modified_ns;
  }
  sys::FileNumber before;
  const int type = sys::calls->file_at(path.c_str(), before);
  if (type != -ENOENT) check(type, "look at", path);
  check(sys::file_calls->rename(part.c_str(), path.c_str()), "rename",
        concat({part, " to ", path}));
  if (upload_.id.empty()) {
    const std::string journal = place_.journal();
    check_removed(sys::calls->unlink(journal.c_str()), journal);
    locked_ = false;
  }
  return type != -ENOENT;
}

void Journal::remove() {
  if (upload_.exists()) {
    const std::string part = place_.part(upload_.token);
    check_removed(sys::calls->unlink(part.c_str()), part);
  }
  const std::string journal = place_.journal();
  check_removed(sys::calls->unlink(journal.c_str()), journal);
  locked_ = false;
  upload_ = Upload();
}

}  // namespace transfer
