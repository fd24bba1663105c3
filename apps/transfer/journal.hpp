// journal.hpp - what a disk knows about an upload that comes in pieces.
//
// The idea: two hidden files beside the one that an upload will become. One
// takes its bytes, each at its place. The other, the journal, has a line for
// each range of bytes that is safe in the first, and is only ever appended to:
//
//     .NAME.TOKEN.part      the bytes
//     .NAME.upload          upload 1 SIZE TOKEN ID
//                           have BEGIN END
//                           done INODE MODIFIED
//
// When there are many more lines than ranges it is written anew, with one for
// each. A line ends in a checksum. What follows the last line that is whole
// counts as not written: a process may die at any moment, and a disk be full.
// The token is new for each upload, so that a journal never speaks of bytes in
// somebody else's file.
//
// Whoever changes anything holds the lock on the journal (flock). It is held
// for moments only, by functions that block and never wait for a client.
// Nothing about an upload is known to a process alone, so any number of them
// may serve one folder.
//
// Built on: byte_set. All of it blocks: store.hpp calls it off the loop.
// See: Pillai et al., "All File Systems Are Not Created Equal" (2014).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "../../net/net.hpp"
#include "byte_set.hpp"

namespace transfer {

/// The files of one name.
class Place {
 public:
  /// `name` is relative to `folder`, and may lie in a folder in that.
  Place(const std::string& folder, std::string_view name);

  const std::string& path() const noexcept { return path_; }
  const std::string& folder() const noexcept { return folder_; }
  std::string journal() const { return hidden(".upload"); }
  std::string part(std::string_view token) const {
    return hidden(violet::concat({".", token, ".part"}));
  }
  /// Where a whole body is until it is complete.
  std::string draft(std::string_view token) const {
    return hidden(violet::concat({".", token, ".new"}));
  }

  /// What of a name is left beside a token and an ending.
  static constexpr std::size_t kMostNameBytes = 230;

 private:
  std::string hidden(std::string_view ending) const;

  std::string path_;
  std::string folder_;  // that it lies in
  std::string base_;
};

/// Sixteen letters that hardly anybody else draws.
std::string random_token();

/// An upload, as its journal tells.
struct Upload {
  std::uint64_t size = 0;
  std::string token;  // empty: there is no upload
  std::string id;     // may be empty
  ByteSet received;

  // Of one that is published: which file it has become.
  bool done = false;
  std::uint64_t inode = 0;
  std::int64_t modified_ns = 0;

  bool exists() const noexcept { return !token.empty(); }
  bool is_whole() const { return exists() && received.has_all(size); }
};

/// The journal of a name, locked while this lives. One that is empty then, made
/// for its lock alone, goes with it.
class Journal {
 public:
  enum class Taken : std::uint8_t { kYes, kBusy, kNotThere };

  explicit Journal(const Place& place) : place_(place) {}
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  /// Opens, locks and reads it. kBusy: somebody else has the lock; kNotThere
  /// unless `create`. What is torn or empty has no upload().
  /// Throws: std::system_error.
  Taken take(bool create);

  const Upload& upload() const noexcept { return upload_; }

  /// True if there is nothing in it at all.
  bool empty() const noexcept { return size_ == 0; }

  /// Starts over, with a new file for the bytes.
  void begin(std::uint64_t size, std::string_view id);

  /// Notes that these bytes are in that file, which is so also after a power
  /// cut if it was synced before.
  /// Throws: std::system_error; the journal is as before.
  void add(ByteRange range);

  /// Gives the whole file its name, and forgets the upload; one with an id is
  /// remembered as done. Returns: true if the name was another file's before.
  bool publish();

  /// True if the upload is done, and its file is what it has become.
  bool still_published() const;

  /// True if the file for the bytes is there, and as long as it must be: had
  /// somebody cut it, what was noted would be read as zeros.
  bool has_part() const;

  /// Forgets the upload, and removes its bytes.
  void remove();

 private:
  static constexpr std::size_t kSpareLines = 1000;

  void read();
  bool read_line(std::string_view line);
  void append(std::string line);
  void compact() noexcept;

  Place place_;
  violet::Fd fd_;
  bool locked_ = false;  // and the file has its name
  Upload upload_;
  std::uint64_t size_ = 0;   // bytes of the file when it was read
  std::uint64_t valid_ = 0;  // bytes of whole lines
  std::size_t lines_ = 0;    // of these
};

}  // namespace transfer
