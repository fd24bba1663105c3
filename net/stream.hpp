// stream.hpp - lines, blocks and buffered writing over whatever flows.
//
// The idea: one buffer between the descriptor and who reads. Each reading
// operation is an event that looks at what is there, and fetches more only if
// that does not suffice; so a line that has come already costs a search and
// no call. What an operation yields is a view into the buffer: nothing is
// copied, and nothing allocated. It takes its bytes out of the buffer at the
// moment it completes. One that fails or is killed has taken none.
//
// The buffer comes from the pool of connection.hpp, and only once there is
// something to put in it: a connection that waits at the start of a line holds
// none, and one that waits within its first KiB no more than that. It grows
// beyond 64 KiB only for who asks for more, and then up to the limit of the
// call.
//
// Writing has a buffer, too. Nobody empties it in the background: write()
// does when it is full, flush() to the last byte; reading never does. So a
// failure is always news to somebody who waits for it.
//
// Refused: silent limits (each has a number, a default and an error of its
// own) and ends that are taken for success (what was cut short is an error).
//
// Built on: connection; runtime/events. See: getline(3), tcp(7).
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "../runtime/events.hpp"
#include "connection.hpp"

namespace violet {

// --------------------------------------------------------------------- errors

/// What a stream refuses by itself, as a std::error_code.
enum class StreamError {
  kEndOfStream = 1,  ///< it ended before what was asked for had come
  kLimitExceeded,    ///< what was asked for is longer than the limit
};

const std::error_category& stream_category() noexcept;
std::error_code make_error_code(StreamError error) noexcept;

}  // namespace violet

template <>
struct std::is_error_code_enum<violet::StreamError> : std::true_type {};

namespace violet {

/// The stream ended in the middle: "read_exactly 127.0.0.1:50412 after 3
/// bytes: the stream has ended". What had come is still in the stream, too.
class EndOfStream : public std::system_error {
 public:
  EndOfStream(const std::string& what, std::string_view partial);

  /// What had come.
  const std::string& partial() const noexcept { return *partial_; }

 private:
  std::shared_ptr<const std::string> partial_;  // copies must not throw
};

/// What was asked for is longer than the limit: "readline 127.0.0.1:50412,
/// limit 65536 bytes: too long". It is still in the stream, as far as it came.
class LimitExceeded : public std::system_error {
 public:
  LimitExceeded(const std::string& what, std::size_t limit);

  /// The limit in bytes, as the call had it.
  std::size_t limit() const noexcept { return limit_; }

 private:
  std::size_t limit_;
};

// --------------------------------------------------------------------- pieces

/// Bytes in the buffer of a stream.
/// Lifetime: until the next read from the stream, or the end of the stream
/// object. Writing does not concern it.
class Piece {
 public:
  /// What is found where nothing more comes.
  Piece() noexcept {}
  Piece(const char* data, std::size_t size, bool there) noexcept
      : data_(data), size_(size), there_(there) {}
  Piece(const char* data, std::size_t size, bool terminated,
        std::size_t separator) noexcept
      : data_(data),
        size_(size),
        there_(true),
        terminated_(terminated),
        separator_(static_cast<std::uint8_t>(separator)) {}

  const char* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::string_view view() const noexcept { return {data_, size_}; }
  operator std::string_view() const noexcept { return view(); }

  /// False at the end of the stream. An empty line is true.
  explicit operator bool() const noexcept { return there_; }

  /// False for a last line that the end of the stream has ended.
  bool terminated() const noexcept { return terminated_; }

  /// Which of the separators ended it, as numbered from 0 in the call.
  std::size_t separator() const noexcept { return separator_; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
  bool there_ = false;
  bool terminated_ = false;
  std::uint8_t separator_ = 0;
};

/// One text that ends a piece, or up to four: read_until({"\r\n\r\n", "\n\n"}).
/// Lifetime: the texts outlive the operation. Throws: Misuse for an empty one.
///
/// g++ 12 has no std::initializer_list in a co_await expression.
class Separators {
 public:
  static constexpr std::size_t kMost = 4;

  template <class... Texts>
    requires(sizeof...(Texts) >= 1 && sizeof...(Texts) <= kMost &&
             (std::convertible_to<const Texts&, std::string_view> && ...))
  Separators(const Texts&... texts)
      : texts_{texts...}, count_(sizeof...(Texts)) {
    check();
  }

  std::size_t size() const noexcept { return count_; }
  std::string_view operator[](std::size_t i) const noexcept {
    return texts_[i];
  }

 private:
  void check() const;

  std::string_view texts_[kMost];
  std::size_t count_;
};

class Stream;
class StreamReadEvent;
class StreamWriteEvent;

namespace internal {

/// What a stream is made of. It stays where it is when the Stream moves, and
/// lives on until the last job that waits on it has left.
class StreamCore {
 public:
  enum class Kind : std::uint8_t { kConnection, kDescriptor, kBorrowed };

  /// Up to so many bytes are stowed away while more are awaited.
  static constexpr std::size_t kStowed = 1024;

  /// Throws: std::bad_alloc.
  static StreamCore* make(Connection&& over, Kind what, int number = -1);
  StreamCore(const StreamCore&) = delete;
  void free() noexcept;

  std::size_t unread() const noexcept {
    return static_cast<std::size_t>(end - begin);
  }
  std::size_t unsent() const noexcept { return out_end - out_begin; }

  /// Room behind what is unread. `want`: how many bytes the reader may come
  /// to need. Returns: an empty span if there is no memory.
  std::span<char> room(std::size_t want) noexcept;

  /// True if nothing can be received just now: what waits for it needs no room.
  bool awaits_edge() const noexcept;

  /// Holds as little memory as possible while more is awaited, for up to so
  /// many bytes.
  void stow(std::size_t most = kStowed) noexcept;

  /// Has bytes that were taken read again, before all others; there are no
  /// others. Without memory for them, reading fails from now on.
  void put_back(std::span<const char> bytes) noexcept;

  /// Takes a buffer to write into, if there is none.
  bool have_out() noexcept;

  /// The first bytes of `unsent` are out.
  void sent_out(std::size_t count) noexcept;

  /// Closes now, drops what is in the buffers, wakes who waits.
  void drop() noexcept;

  /// "127.0.0.1:50412" or "fd 7"
  std::string name() const;

  // Whatever it is over; what the connection holds need not be a socket.
  Connection connection;
  int fd;
  Kind kind;

  bool closed = false;
  bool ended = false;   // the end has come: what is unread is the last
  bool orphan = false;  // its Stream is gone: whoever waits last frees it
  int failed = 0;       // a failure to read, which comes once from the system

  // Received and not read: from `begin` to `end`, within `storage`. A
  // `capacity` of BufferPool::kBytes is the pool's; other storage is free(3)'s.
  static inline char nothing[1] = {};
  char* begin = nothing;
  char* end = nothing;
  char* storage = nullptr;
  std::size_t capacity = 0;
  std::uint64_t received = 0;  // ever

  // Written and not sent: out[out_begin .. out_end), in a buffer of the pool
  // that is held while there is such.
  char* out = nullptr;
  std::size_t out_begin = 0;
  std::size_t out_end = 0;
  std::uint64_t sent = 0;  // ever

  // Who has begun and not ended: one each. And what it does just now.
  StreamReadEvent* reader = nullptr;
  StreamWriteEvent* writer = nullptr;
  struct Parts;
  Parts& parts() noexcept;

 protected:
  StreamCore(Connection&& over, Kind what, int number) noexcept
      : connection(std::move(over)), fd(number), kind(what) {}
  ~StreamCore();

 private:
  void release() noexcept;
  bool move_to(std::size_t size) noexcept;
};

}  // namespace internal

// -------------------------------------------------------------------- reading

/// What the events on streams share.
class StreamEvent : public Event {
 public:
  std::error_code code() const noexcept;
  int error() const noexcept { return error_; }

 protected:
  using Core = internal::StreamCore;

  // Beside error numbers in error_.
  static constexpr int kEnd = -1;
  static constexpr int kTooLong = -2;

  explicit StreamEvent(Core* core) noexcept : core_(core) {}
  StreamEvent(StreamEvent&& other) noexcept
      : Event(std::move(other)), core_(other.core_) {}
  ~StreamEvent() = default;

  /// Before the first attempt the stream must know of this one, or may go
  /// without a word.
  void forget_unless(bool known) noexcept {
    if (!known) core_ = nullptr;
  }

  /// Frees the core if this was the last who needed it.
  void let_core_go() noexcept;
  std::string name() const;
  void describe_as(const char* call, Description& out) const;
  [[noreturn]] void raise(const char* call, std::size_t limit = 0) const;

  Core* core_;  // null: closed
};

/// What the events that read share.
class StreamReadEvent : public StreamEvent {
 public:
  void undo() noexcept override;
  bool idle() const noexcept override;

  void stand_by() noexcept { forget_unless(enter()); }

 protected:
  enum class Fetched : std::uint8_t { kMore, kNotYet, kFailed };

  using StreamEvent::StreamEvent;
  StreamReadEvent(StreamReadEvent&&) noexcept = default;
  ~StreamReadEvent() = default;

  /// Returns: false, with error_ set, if this cannot read.
  bool enter() noexcept;
  void leave() noexcept;
  void undo_incoming() noexcept;

  /// Fetches more into the buffer, at most so many bytes in one call.
  Fetched fetch(std::size_t want, std::size_t most = ~std::size_t{0}) noexcept;

  /// Fetches into `room` instead; `got` tells how much.
  Fetched fetch_into(std::span<char> room, std::size_t& got) noexcept;

  // What there is to look at, from attempt() on.
  const char* data() const noexcept { return core_->begin; }
  std::size_t unread() const noexcept { return core_->unread(); }
  bool ended() const noexcept { return core_->ended; }

  /// Takes bytes out of the buffer.
  void take(std::size_t count) noexcept { core_->begin += count; }

  /// Ends the operation with an error. Returns: true.
  bool fail(int error) noexcept {
    error_ = error;
    return true;
  }

 private:
  template <class E>
  Fetched conclude(E& part, std::size_t& got) noexcept;
};

/// An operation that looks, and fetches while that does not suffice.
///
/// Operation::look() takes what it wants and returns true; false if more must
/// come first. want() tells how many bytes it may come to need.
template <class Operation>
class StreamLook : public StreamReadEvent {
 public:
  bool attempt() noexcept override {
    if (core_ != nullptr && core_->reader == nullptr) [[likely]] {
      if (self().look()) return true;
    }
    return attempt_with_fetching();
  }

 protected:
  using StreamReadEvent::StreamReadEvent;
  StreamLook(StreamLook&&) noexcept = default;
  ~StreamLook() = default;

  Fetched get_more() noexcept { return fetch(self().want()); }
  void give_up() noexcept {}  // what was taken goes back

 private:
  Operation& self() noexcept { return static_cast<Operation&>(*this); }

  [[gnu::noinline]] bool attempt_with_fetching() noexcept {
    if (!enter()) return true;
    for (bool first = true; !self().look(); first = false) {
      if (!first && !spend()) {
        go_behind();
        return false;
      }
      const Fetched fetched = self().get_more();
      if (fetched == Fetched::kNotYet) return false;
      if (fetched == Fetched::kFailed) {
        self().give_up();
        break;
      }
    }
    leave();
    return true;
  }
};

/// readline(), with one byte at the end. What a program with much input does
/// most, so this is made for a line that has come already.
class [[nodiscard]] ReadlineEvent : public StreamLook<ReadlineEvent> {
 public:
  ReadlineEvent(Core* core, char terminator, bool strip,
                std::size_t limit) noexcept
      : StreamLook(core),
        limit_(limit),
        terminator_(terminator),
        strip_(strip) {}
  ReadlineEvent(ReadlineEvent&&) noexcept = default;

  bool look() noexcept {
    const char* const from = data();
    const std::size_t size = unread() - scanned_;
    const void* found = std::memchr(from + scanned_, terminator_, size);
    if (found == nullptr) [[unlikely]]
      return look_at_rest();
    const auto* end = static_cast<const char*>(found);
    line_ = from;
    line_end_ = strip_ && end != from && end[-1] == '\r' ? end - 1 : end;
    if (length() > limit_) [[unlikely]]
      return refuse();
    terminated_ = true;
    take(static_cast<std::size_t>(end - from) + 1);
    return true;
  }
  std::size_t want() const noexcept;
  void describe(Description& out) const override {
    describe_as("readline", out);
  }
  Piece value() const noexcept {
    if (line_ == nullptr) return Piece();
    return Piece(line_, length(), terminated_, 0);
  }
  Piece result() const {
    if (error_ != 0) [[unlikely]]
      raise("readline", limit_);
    return value();
  }

 private:
  std::size_t length() const noexcept {
    return static_cast<std::size_t>(line_end_ - line_);
  }
  bool refuse() noexcept;
  bool look_at_rest() noexcept;

  std::size_t limit_;
  std::size_t scanned_ = 0;  // so many bytes hold no terminator

  // No Piece: loaded as one from where two halves were just stored, it would
  // hold the processor up.
  const char* line_ = nullptr;
  const char* line_end_ = nullptr;
  bool terminated_ = false;
  char terminator_;
  bool strip_;
};

/// read_until(), and readline() with a text at the end.
class [[nodiscard]] ReadUntilEvent : public StreamLook<ReadUntilEvent> {
 public:
  ReadUntilEvent(Core* core, const Separators& separators, bool lines,
                 std::size_t limit) noexcept
      : StreamLook(core),
        separators_(separators),
        limit_(limit),
        lines_(lines) {}
  ReadUntilEvent(ReadUntilEvent&&) noexcept = default;

  bool look() noexcept;
  std::size_t want() const noexcept;
  void describe(Description& out) const override { describe_as(call(), out); }
  Piece value() const noexcept { return piece_; }
  Piece result() const {
    if (error_ != 0) raise(call(), limit_);
    return piece_;
  }

 private:
  const char* call() const noexcept {
    return lines_ ? "readline" : "read_until";
  }
  bool look_at_rest(std::size_t undecided) noexcept;

  Separators separators_;
  std::size_t limit_;
  std::size_t scanned_ = 0;  // no separator begins before
  Piece piece_;
  bool lines_;  // the end of the stream ends a line, too
};

/// read_exactly(n)
class [[nodiscard]] ReadExactlyEvent : public StreamLook<ReadExactlyEvent> {
 public:
  ReadExactlyEvent(Core* core, std::size_t count) noexcept
      : StreamLook(core), count_(count) {}
  ReadExactlyEvent(ReadExactlyEvent&&) noexcept = default;

  bool look() noexcept {
    if (unread() < count_) return ended() && fail(kEnd);
    piece_ = Piece(data(), count_, true);
    take(count_);
    return true;
  }
  std::size_t want() const noexcept { return count_; }
  void describe(Description& out) const override {
    describe_as("read_exactly", out);
  }
  Piece value() const noexcept { return piece_; }
  Piece result() const {
    if (error_ != 0) raise("read_exactly");
    return piece_;
  }

 private:
  std::size_t count_;
  Piece piece_;
};

/// read_exactly(span). What is larger than a buffer goes straight where it is
/// wanted, and back into the stream if not all of it comes.
class [[nodiscard]] ReadFullyEvent : public StreamLook<ReadFullyEvent> {
 public:
  ReadFullyEvent(Core* core, std::span<char> into) noexcept
      : StreamLook(core), into_(into) {}
  ReadFullyEvent(ReadFullyEvent&&) noexcept = default;

  bool look() noexcept;
  std::size_t want() const noexcept { return into_.size(); }
  Fetched get_more() noexcept;
  void give_up() noexcept;
  void undo() noexcept override;
  void describe(Description& out) const override {
    describe_as("read_exactly", out);
  }
  std::size_t value() const noexcept { return got_; }
  std::size_t result() const {
    if (error_ != 0) raise("read_exactly");
    return got_;
  }

 private:
  bool direct() const noexcept {
    return into_.size() > internal::BufferPool::kBytes;
  }

  std::span<char> into_;  // the caller's
  std::size_t got_ = 0;
};

/// read()
class [[nodiscard]] ReadSomeEvent : public StreamLook<ReadSomeEvent> {
 public:
  explicit ReadSomeEvent(Core* core) noexcept : StreamLook(core) {}
  ReadSomeEvent(ReadSomeEvent&&) noexcept = default;

  bool look() noexcept {
    const std::size_t size = unread();
    if (size == 0) return ended();
    piece_ = Piece(data(), size, true);
    take(size);
    return true;
  }
  std::size_t want() const noexcept { return 1; }
  void describe(Description& out) const override { describe_as("read", out); }
  Piece value() const noexcept { return piece_; }
  Piece result() const {
    if (error_ != 0) raise("read");
    return piece_;
  }

 private:
  Piece piece_;
};

/// read(span)
class [[nodiscard]] ReadIntoEvent : public StreamLook<ReadIntoEvent> {
 public:
  ReadIntoEvent(Core* core, std::span<char> into) noexcept
      : StreamLook(core), into_(into) {}
  ReadIntoEvent(ReadIntoEvent&&) noexcept = default;

  bool look() noexcept;
  std::size_t want() const noexcept { return 1; }
  Fetched get_more() noexcept;
  void describe(Description& out) const override { describe_as("read", out); }
  std::size_t value() const noexcept { return got_; }
  std::size_t result() const {
    if (error_ != 0) raise("read");
    return got_;
  }

 private:
  std::span<char> into_;  // the caller's
  std::size_t got_ = 0;
};

/// peek(n)
class [[nodiscard]] PeekEvent : public StreamLook<PeekEvent> {
 public:
  PeekEvent(Core* core, std::size_t count) noexcept
      : StreamLook(core), count_(count) {}
  PeekEvent(PeekEvent&&) noexcept = default;

  bool look() noexcept {
    const std::size_t size = unread() < count_ ? unread() : count_;
    if (size < count_ && !ended()) return false;
    piece_ = Piece(data(), size, size > 0);
    return true;
  }
  std::size_t want() const noexcept { return count_; }
  void describe(Description& out) const override { describe_as("peek", out); }
  Piece value() const noexcept { return piece_; }
  Piece result() const {
    if (error_ != 0) raise("peek");
    return piece_;
  }

 private:
  std::size_t count_;
  Piece piece_;
};

/// skip(n)
class [[nodiscard]] SkipEvent : public StreamLook<SkipEvent> {
 public:
  SkipEvent(Core* core, std::uint64_t count) noexcept
      : StreamLook(core), rest_(count) {}
  SkipEvent(SkipEvent&&) noexcept = default;

  bool look() noexcept;
  std::size_t want() const noexcept { return 1; }
  void describe(Description& out) const override { describe_as("skip", out); }
  std::uint64_t value() const noexcept { return skipped_; }
  std::uint64_t result() const {
    if (error_ != 0) raise("skip");
    return skipped_;
  }

 private:
  std::uint64_t rest_;
  std::uint64_t skipped_ = 0;
};

/// read_all(limit)
class [[nodiscard]] ReadAllEvent : public StreamLook<ReadAllEvent> {
 public:
  ReadAllEvent(Core* core, std::size_t limit) noexcept
      : StreamLook(core), limit_(limit) {}
  ReadAllEvent(ReadAllEvent&&) noexcept = default;

  bool look() noexcept;
  std::size_t want() const noexcept;
  void describe(Description& out) const override {
    describe_as("read_all", out);
  }
  Piece value() const noexcept { return piece_; }
  Piece result() const {
    if (error_ != 0) raise("read_all", limit_);
    return piece_;
  }

 private:
  std::size_t limit_;
  Piece piece_;
};

// -------------------------------------------------------------------- writing

/// All that sends. They differ in what must have happened at the end.
class [[nodiscard]] StreamWriteEvent : public StreamEvent {
 public:
  enum class Until : std::uint8_t {
    kTaken,    // write: in the buffer
    kBegun,    // send: some of it is out
    kSent,     // sendall: all of it is out
    kFlushed,  // flush: what was in the buffer is out
    kShut,     // shutdown: and nothing will follow
    kClosed,   // close: and nothing is left open
  };

  StreamWriteEvent(Core* core, Until until, std::string_view data = {}) noexcept
      : StreamEvent(core), data_(data), until_(until) {}
  StreamWriteEvent(StreamWriteEvent&& other) noexcept
      : StreamEvent(std::move(other)),
        data_(other.data_),
        until_(other.until_) {}

  bool attempt() noexcept override {
    return fits() ? append() : attempt_with_sending();
  }
  void undo() noexcept override;
  void stand_by() noexcept { forget_unless(enter()); }
  void describe(Description& out) const override;
  std::size_t value() const noexcept { return taken_; }
  std::size_t result() const {
    if (error_ != 0) raise(call());
    return taken_;
  }
  Core* core() const noexcept { return core_; }

 private:
  static constexpr std::size_t kBytes = internal::BufferPool::kBytes;

  bool fits() const noexcept {
    return until_ == Until::kTaken && !data_.empty() && core_ != nullptr &&
           core_->writer == nullptr && core_->out != nullptr &&
           data_.size() <= kBytes - core_->out_end;
  }
  bool append() noexcept {
    std::memcpy(core_->out + core_->out_end, data_.data(), data_.size());
    core_->out_end += data_.size();
    taken_ += data_.size();
    data_ = {};
    return true;
  }

  const char* call() const noexcept;
  bool enter() noexcept;
  void leave() noexcept;
  bool attempt_with_sending() noexcept;
  bool take_what_fits() noexcept;
  bool is_over() const noexcept;
  void finish() noexcept;
  bool send_some() noexcept;
  void note_sent() noexcept;

  std::string_view data_;  // the caller's: what is neither out nor buffered
  std::size_t taken_ = 0;
  Until until_;
  bool begun_ = false;     // some of data_ went straight out
  bool buffered_ = false;  // what is being sent is in the buffer
};

/// flush(), shutdown() and close(), which yield nothing.
class [[nodiscard]] StreamFlushEvent : public StreamWriteEvent {
 public:
  StreamFlushEvent(Core* core, Until until) noexcept
      : StreamWriteEvent(core, until) {}
  StreamFlushEvent(StreamFlushEvent&&) noexcept = default;
  void value() const noexcept {}
  void result() const { StreamWriteEvent::result(); }
};

/// copy()
class [[nodiscard]] CopyEvent : public StreamReadEvent {
 public:
  CopyEvent(Core* from, Core* to, std::uint64_t limit) noexcept
      : StreamReadEvent(from), to_(to), limit_(limit) {}
  CopyEvent(CopyEvent&& other) noexcept
      : StreamReadEvent(std::move(other)),
        to_(other.to_),
        limit_(other.limit_) {}

  bool attempt() noexcept override;
  void undo() noexcept override;
  bool idle() const noexcept override { return false; }
  void describe(Description& out) const override;
  std::uint64_t value() const noexcept { return copied_; }
  std::uint64_t result() const;

 private:
  bool go_on() noexcept;
  void undo_sending() noexcept;
  void note_copied() noexcept;
  std::string names() const;

  Core* to_;
  std::uint64_t limit_;
  std::uint64_t copied_ = 0;
  std::optional<Heirless<StreamWriteEvent>> send_;  // of what is unread
};

// --------------------------------------------------------------------- stream

/// A buffered stream of bytes, over a connection, a pipe, a file, a terminal.
/// Move-only. Belongs to the thread that made it. At a time one job reads and
/// one writes, which may be two.
///
/// All reading: Suspends: only if what is there does not suffice. Throws:
/// std::system_error that names call and peer, which every later read does,
/// too, once the buffer is empty; Misuse if another job reads. After an error
/// or a kill nothing has been taken. Lifetime: see Piece.
class Stream {
 public:
  static constexpr std::size_t kLineBytes = 64 * 1024;
  static constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

  /// A stream that is closed.
  Stream() noexcept {}

  /// Takes over what it reads and writes. Throws: std::bad_alloc.
  explicit Stream(Connection connection);
  explicit Stream(Descriptor descriptor);

  /// Over a number that somebody else owns: `Stream in(0)`. It is never
  /// closed, and its flags stay as they are.
  /// Lifetime: the descriptor outlives the stream.
  explicit Stream(int fd);

  Stream(Stream&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }

  /// As drop().
  ~Stream();

  // --- reading

  /// Reads a line. It ends with "\n"; a "\r" before that does not belong to
  /// it. A last line may end with the stream instead.
  /// Returns: the line without its end; false at the end of the stream.
  /// Throws: LimitExceeded if it is longer than `limit`.
  ReadlineEvent readline(std::size_t limit = kLineBytes) const noexcept {
    return ReadlineEvent(core_, '\n', true, limit);
  }
  Coded<ReadlineEvent> readline(std::error_code& code,
                                std::size_t limit = kLineBytes) const noexcept {
    return Coded<ReadlineEvent>(readline(limit), code);
  }

  /// The same with another end.
  template <std::same_as<char> Char>
  ReadlineEvent readline(Char end,
                         std::size_t limit = kLineBytes) const noexcept {
    return ReadlineEvent(core_, end, false, limit);
  }
  ReadUntilEvent readline(const Separators& ends,
                          std::size_t limit = kLineBytes) const noexcept {
    return ReadUntilEvent(core_, ends, true, limit);
  }
  template <std::same_as<char> Char>
  Coded<ReadlineEvent> readline(Char end, std::error_code& code,
                                std::size_t limit = kLineBytes) const noexcept {
    return Coded<ReadlineEvent>(readline(end, limit), code);
  }
  Coded<ReadUntilEvent> readline(
      const Separators& ends, std::error_code& code,
      std::size_t limit = kLineBytes) const noexcept {
    return Coded<ReadUntilEvent>(readline(ends, limit), code);
  }

  /// Reads up to the first separator, and takes that, too. Of several at the
  /// same place the longest counts; so one that begins another is known only
  /// when the next byte has come.
  /// Returns: what stood before it; Piece::separator() tells which it was.
  /// Throws: LimitExceeded if that is longer than `limit`; EndOfStream.
  ReadUntilEvent read_until(const Separators& separators,
                            std::size_t limit = kLineBytes) const noexcept {
    return ReadUntilEvent(core_, separators, false, limit);
  }
  Coded<ReadUntilEvent> read_until(
      const Separators& separators, std::error_code& code,
      std::size_t limit = kLineBytes) const noexcept {
    return Coded<ReadUntilEvent>(read_until(separators, limit), code);
  }

  /// Reads so many bytes and no fewer.
  /// Throws: EndOfStream.
  /// Cost: more than 64 KiB are held in a buffer that grows as they come.
  ReadExactlyEvent read_exactly(std::size_t count) const noexcept {
    return ReadExactlyEvent(core_, count);
  }
  Coded<ReadExactlyEvent> read_exactly(std::size_t count,
                                       std::error_code& code) const noexcept {
    return Coded<ReadExactlyEvent>(read_exactly(count), code);
  }

  /// The same into the caller's memory. Returns: its size.
  /// Kill: what has come is put back, which may take memory; if there is
  /// none, all reads fail from then on.
  ReadFullyEvent read_exactly(std::span<char> into) const noexcept {
    return ReadFullyEvent(core_, into);
  }
  Coded<ReadFullyEvent> read_exactly(std::span<char> into,
                                     std::error_code& code) const noexcept {
    return Coded<ReadFullyEvent>(read_exactly(into), code);
  }

  /// Reads what is there; what is in the buffer first.
  /// Returns: at least one byte; false at the end of the stream.
  ReadSomeEvent read() const noexcept { return ReadSomeEvent(core_); }
  Coded<ReadSomeEvent> read(std::error_code& code) const noexcept {
    return Coded<ReadSomeEvent>(read(), code);
  }

  /// The same into the caller's memory.
  /// Returns: how many bytes; 0 at the end, or for an empty span.
  ReadIntoEvent read(std::span<char> into) const noexcept {
    return ReadIntoEvent(core_, into);
  }
  Coded<ReadIntoEvent> read(std::span<char> into,
                            std::error_code& code) const noexcept {
    return Coded<ReadIntoEvent>(read(into), code);
  }

  /// Shows the next `count` bytes without taking them.
  /// Returns: these; fewer only if the stream ends with them.
  PeekEvent peek(std::size_t count) const noexcept {
    return PeekEvent(core_, count);
  }
  Coded<PeekEvent> peek(std::size_t count,
                        std::error_code& code) const noexcept {
    return Coded<PeekEvent>(peek(count), code);
  }

  /// Takes bytes and drops them, at most `count`.
  /// Returns: how many; fewer only at the end of the stream.
  /// Kill: some may have been dropped; position() tells.
  SkipEvent skip(std::uint64_t count) const noexcept {
    return SkipEvent(core_, count);
  }
  Coded<SkipEvent> skip(std::uint64_t count,
                        std::error_code& code) const noexcept {
    return Coded<SkipEvent>(skip(count), code);
  }

  /// Reads to the end of the stream.
  /// Returns: all of it; false if nothing came.
  /// Throws: LimitExceeded if it is more than `limit`.
  /// Cost: a buffer that grows as the bytes come, up to the limit.
  ReadAllEvent read_all(std::size_t limit) const noexcept {
    return ReadAllEvent(core_, limit);
  }
  Coded<ReadAllEvent> read_all(std::size_t limit,
                               std::error_code& code) const noexcept {
    return Coded<ReadAllEvent>(read_all(limit), code);
  }

  /// What has been received and not read. Lifetime: see Piece.
  std::string_view buffered() const noexcept;

  /// Holds buffered() in no more memory than it needs, for who will not read
  /// for a while. Does nothing while a job reads.
  void compact() const noexcept;

  /// Takes the first bytes of buffered(), at most `count`.
  /// Throws: Misuse if another job reads.
  void consume(std::size_t count) const;

  /// Bytes that have been read from this stream, ever.
  std::uint64_t position() const noexcept;

  /// True once the system has told the end, whatever is still buffered.
  bool ended() const noexcept { return core_ != nullptr && core_->ended; }

  // --- writing

  /// Writes into a buffer of 64 KiB, which is sent when it is full, and by
  /// flush(). Nothing else sends it: flush before you wait for an answer.
  /// Suspends: while the buffer is too full.
  /// Returns: the size of `data`; less only in the error_code form.
  /// Throws: std::system_error if sending fails; what was in the buffer is
  /// still there then. Misuse if another job writes.
  /// Kill: up to 64 KiB are taken whole or not at all.
  /// Lifetime: `data` outlives the wait.
  StreamWriteEvent write(std::string_view data) const noexcept {
    return StreamWriteEvent(core_, StreamWriteEvent::Until::kTaken, data);
  }
  Coded<StreamWriteEvent> write(std::string_view data,
                                std::error_code& code) const noexcept {
    return Coded<StreamWriteEvent>(write(data), code);
  }

  /// Sends what is in the buffer.
  /// Suspends, Throws: as write(). Kill: the rest stays in the buffer.
  StreamFlushEvent flush() const noexcept {
    return StreamFlushEvent(core_, StreamWriteEvent::Until::kFlushed);
  }
  Coded<StreamFlushEvent> flush(std::error_code& code) const noexcept {
    return Coded<StreamFlushEvent>(flush(), code);
  }

  /// Sends all of `data` after what is in the buffer.
  /// Suspends, Throws, Lifetime: as write().
  /// Returns: the size of `data`; less only in the error_code form.
  /// Kill: some of it may be out or in the buffer; sent_bytes() tells.
  StreamWriteEvent sendall(std::string_view data) const noexcept {
    return StreamWriteEvent(core_, StreamWriteEvent::Until::kSent, data);
  }
  Coded<StreamWriteEvent> sendall(std::string_view data,
                                  std::error_code& code) const noexcept {
    return Coded<StreamWriteEvent>(sendall(data), code);
  }

  /// Flushes, and has the peer read the end of the stream. For connections.
  StreamFlushEvent shutdown() const noexcept {
    return StreamFlushEvent(core_, StreamWriteEvent::Until::kShut);
  }
  Coded<StreamFlushEvent> shutdown(std::error_code& code) const noexcept {
    return Coded<StreamFlushEvent>(shutdown(), code);
  }

  /// Flushes and closes; closes also if flushing fails. A job that reads
  /// gets bad_file_descriptor.
  /// Throws: what flush() throws. Kill: it is not closed yet.
  StreamFlushEvent close() const noexcept {
    return StreamFlushEvent(core_, StreamWriteEvent::Until::kClosed);
  }
  Coded<StreamFlushEvent> close(std::error_code& code) const noexcept {
    return Coded<StreamFlushEvent>(close(), code);
  }

  /// Closes now. What is not read or not flushed is lost; whoever waits gets
  /// bad_file_descriptor.
  void drop() noexcept {
    if (core_ != nullptr) core_->drop();
  }

  /// Bytes that wait in the buffer to be sent.
  std::size_t unsent() const noexcept {
    return core_ == nullptr ? 0 : core_->unsent();
  }

  /// Bytes that the system has taken through this stream, ever.
  std::uint64_t sent_bytes() const noexcept {
    return core_ == nullptr ? 0 : core_->sent;
  }

  // --- what it is over

  /// The connection that it is over. Throws: Misuse if it is over none.
  const Connection& connection() const;

  /// Gives the connection back. What has been received and not read goes to
  /// `leftovers`. The stream is closed then.
  /// Throws: Misuse if it is over none, if something is not flushed, or while
  /// a job waits on it.
  Connection release(std::string& leftovers);

  /// The descriptor's number; -1 if it is closed.
  int fd() const noexcept {
    return core_ == nullptr || core_->closed ? -1 : core_->fd;
  }

  /// True until it is closed.
  explicit operator bool() const noexcept { return fd() >= 0; }

  /// "127.0.0.1:50412" or "fd 7"; as in errors.
  std::string name() const;

  /// What the events of other files are made of; null if it is closed.
  internal::StreamCore* core() const noexcept { return core_; }

 private:
  friend CopyEvent copy(const Stream& from, const Stream& to,
                        std::uint64_t limit) noexcept;

  internal::StreamCore* core_ = nullptr;  // null: closed
};

/// Sends what comes from one stream through another, up to the end of the
/// first or `limit` bytes. The two may be the same, or be made in the call:
/// `co_await copy(Stream(0), Stream(1))`.
/// Suspends: while nothing comes, or nothing can be sent.
/// Returns: how many bytes.
/// Throws: std::system_error "copy 127.0.0.1:50412 to fd 1: Broken pipe".
/// Kill: what has been sent, and nothing else, has been read: the position()
/// of the first tells how much.
/// Cost: at most one buffer of 64 KiB.
inline CopyEvent copy(const Stream& from, const Stream& to,
                      std::uint64_t limit = Stream::kNoLimit) noexcept {
  return CopyEvent(from.core_, to.core_, limit);
}
inline Coded<CopyEvent> copy(const Stream& from, const Stream& to,
                             std::error_code& code,
                             std::uint64_t limit = Stream::kNoLimit) noexcept {
  return Coded<CopyEvent>(copy(from, to, limit), code);
}

}  // namespace violet
