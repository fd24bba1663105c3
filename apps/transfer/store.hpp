// store.hpp - where uploads are kept: whole ones, and those that come in
// pieces, perhaps to several servers at once.
//
// A whole body is written to a hidden file and renamed when it is complete and
// on the disk, with the journal of its name locked, as whoever completes an
// upload has it. A piece is written to its place in the file of its upload, and
// noted in the upload's journal (journal.hpp) once the disk has it; with the
// piece that completes it, the upload gets its name. A reader sees all of a
// file or none of it.
//
// Three rules keep that true, whoever dies at whatever moment:
// - Who writes some bytes has them locked (lock_range), and writes only what
//   no journal has noted yet. What is noted never changes.
// - What is noted was synced before.
// - What is complete has nobody who writes to it: he would have a range locked
//   that is missing.
//
// Bytes are written off the loop, one block behind what is received. The more
// transfers there are, the smaller their blocks: memory is bounded.
//
//     PieceSink chunk(store, "film.mkv", piece);
//     co_await chunk.begin();
//     while (chunk.left() > 0) {
//       const auto room = co_await chunk.room();
//       co_await chunk.commit(co_await conn.recv(room));
//     }
//     const Progress progress = co_await chunk.finish();
//
// No HTTP in here.
//
// Built on: journal.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "journal.hpp"

namespace transfer {

/// Why something is not stored.
enum class Why : std::uint8_t {
  kBadName,       // it would leave the folder, or is too long
  kHidden,        // it, or a folder in it, begins with a dot
  kNoFolder,      // a folder in it is not there
  kNoFile,        // it is there, and no plain file; or a folder in it is none
  kBadPiece,      // a range or an id that makes no sense
  kConflict,      // another upload of that name is in progress
  kManyGaps,      // too many separate ranges
  kBusy,          // somebody else sends these bytes now
  kGivenUp,       // the upload was removed meanwhile
  kOtherVersion,  // its condition does not hold
};

class Refused : public std::runtime_error {
 public:
  Refused(Why why, const std::string& text)
      : std::runtime_error(text), why_(why) {}
  Why why() const noexcept { return why_; }

 private:
  Why why_;
};

/// How far an upload has come.
struct Progress {
  std::string name;
  std::uint64_t size = 0;
  std::string id;
  std::vector<ByteRange> received;
  bool complete = false;
  bool replaced = false;  // and there was a file of that name before
  std::optional<violet::sys::FileStatus> stored;  // by this very request

  /// {"name": "a", "size": 5, "received": [[0, 5]], "complete": true}
  std::string json() const;
};

/// What must be true of the file that has the name already (null: none has),
/// or nothing is stored. Called off the loop, with the name locked: no other
/// file gets the name between a yes and what it is said to.
using Condition = std::function<bool(const violet::sys::FileStatus* there)>;

/// Where some bytes belong.
struct Fragment {
  Fragment(ByteRange where, std::uint64_t of, std::string named)
      : range(where), size(of), id(std::move(named)) {}
  ByteRange range;
  std::uint64_t size;  // of the whole
  std::string id;      // of the upload; may be empty
};

struct StoreOptions {
  StoreOptions() noexcept {}

  /// How long a piece waits for others: for a lock, or for somebody who sends
  /// the same bytes.
  violet::Duration patience = std::chrono::seconds(10);

  /// How much of a piece may come before it is noted, and so survives.
  std::uint64_t note_bytes = std::uint64_t{16} << 20;
};

/// A folder that takes uploads. Belongs to one loop; any number of them, in
/// any number of processes, may share the folder.
class Store {
 public:
  static constexpr std::size_t kMostBlockBytes = std::size_t{1} << 20;
  static constexpr std::size_t kLeastBlockBytes = std::size_t{64} << 10;
  static constexpr std::size_t kMostRanges = 4096;  // of one upload

  explicit Store(std::string folder, StoreOptions options = StoreOptions())
      : folder_(std::move(folder)), options_(options) {}
  Store(const Store&) = delete;

  const std::string& folder() const noexcept { return folder_; }

  /// How far the upload of that name has come.
  /// Returns: nothing if none is in progress. One with an id is told as
  /// complete for as long as its file is what it has become.
  /// Throws: Refused; std::system_error.
  violet::Task<std::optional<Progress>> progress(std::string name);

  /// Forgets the upload of that name and removes what has come of it; with an
  /// id no other than that one.
  /// Returns: false if there is none. Throws: as above.
  violet::Task<bool> give_up(std::string name, std::string id = {});

  /// Removes what nobody will ask for again: uploads to which nothing was
  /// added for `age` (0: none of these), and whole bodies whose process is no
  /// more. Looks into folders, too. Returns: how many.
  violet::Task<std::size_t> clean(violet::Duration age);

 private:
  friend class Sink;
  friend class PieceSink;
  friend class WholeSink;

  static constexpr std::size_t kMostBuffered = std::size_t{24} << 20;

  /// Calls `attempt()` off the loop until it returns true.
  /// Throws: Refused (kBusy) when patience is at its end.
  template <class Attempt>
  violet::Task<> until_free(Attempt& attempt, const std::string& name);

  std::size_t choose_block() const noexcept;

  const std::string folder_;
  const StoreOptions options_;
  std::size_t buffered_ = 0;  // bytes of all blocks
};

/// What bytes go to. A local variable of the job that makes it.
class Sink {
 public:
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;

  /// Memory for the next bytes, at least for one. Suspends: while blocks are
  /// written. Throws: std::system_error.
  virtual violet::Task<std::span<char>> room() = 0;

  /// The first `count` bytes of room() are there.
  virtual violet::Task<> commit(std::size_t count) = 0;

 protected:
  /// Without a condition, all is well.
  Sink(Store& store, std::string name, Condition condition);
  virtual ~Sink();

  void check_condition() const;
  violet::FileWriter& open_writer(violet::File file, std::uint64_t most_bytes);

  Store& store_;
  const std::string name_;
  const Place place_;
  const Condition condition_;

  // Holds a lock for as long as anything is written: outlives the writer.
  violet::Fd held_;
  std::optional<violet::FileWriter> writer_;

 private:
  std::size_t buffered_ = 0;  // bytes of the writer's blocks
};

/// One piece of an upload.
class PieceSink final : public Sink {
 public:
  PieceSink(Store& store, std::string name, Fragment piece,
            Condition condition = {});

  /// Finds or begins the upload, and waits until nobody else sends any of
  /// these bytes. Throws: Refused; std::system_error.
  violet::Task<> begin();

  violet::Task<std::span<char>> room() override;
  violet::Task<> commit(std::size_t count) override;

  /// Bytes that are still to come.
  std::uint64_t left() const noexcept { return piece_.range.end - at_; }

  /// All has come, and nothing was wrong with it. Returns: the state of the
  /// upload, with these bytes.
  /// Throws: std::system_error; Refused: kGivenUp; kOtherVersion if these are
  /// the last and the condition holds no more.
  violet::Task<Progress> finish();

  /// No more will come: notes what has, but for the last byte of a range, so
  /// that no file is completed by this. Also after an error of the disk.
  violet::Task<> keep();

 private:
  bool join();
  bool join(Journal& journal);
  [[noreturn]] void given_up() const;
  bool claim();
  bool note();
  bool in_gap() const noexcept {
    return !gaps_.empty() && at_ >= gaps_.front().begin;
  }
  void enter_gap();
  violet::Task<> settle();
  violet::Task<> note_pending();

  const Fragment piece_;
  std::uint64_t at_;               // where the next byte belongs
  std::string token_;              // of the upload; empty: it is done
  std::vector<ByteRange> gaps_;    // what of the range is missing, from at_ on
  ByteRange pending_;              // committed and not noted
  bool distrusted_ = false;        // nobody knows what the disk has of that
  bool noted_ = false;             // progress_ has these bytes
  std::unique_ptr<char[]> waste_;  // for bytes that are there already
  Progress progress_;
};

/// A whole file.
class WholeSink final : public Sink {
 public:
  WholeSink(Store& store, std::string name, Condition condition = {});
  ~WholeSink() override;

  /// Throws: Refused, also for a condition that does not hold now;
  /// std::system_error.
  violet::Task<> begin();

  violet::Task<std::span<char>> room() override;
  violet::Task<> commit(std::size_t count) override;

  /// Puts it in place of what had that name. Throws: std::system_error;
  /// Refused if that is no plain file, or not what the condition says.
  violet::Task<Progress> finish();

 private:
  bool publish(Progress& progress);

  std::string draft_;  // empty: there is none to remove
  std::uint64_t size_ = 0;
};

}  // namespace transfer
