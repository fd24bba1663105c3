// stream.cpp - searching, fetching, sending.
// SPDX-License-Identifier: MIT
#include "stream.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <new>
#include <variant>

namespace violet {

// --------------------------------------------------------------------- errors

namespace {

class StreamCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "stream"; }
  std::string message(int error) const override {
    return error == static_cast<int>(StreamError::kEndOfStream)
               ? "the stream has ended"
               : "too long";
  }
};

/// a + b, or the largest number there is.
std::size_t sum_of(std::size_t a, std::size_t b) noexcept {
  return a > ~std::size_t{0} - b ? ~std::size_t{0} : a + b;
}

}  // namespace

const std::error_category& stream_category() noexcept {
  static const StreamCategory category;
  return category;
}

std::error_code make_error_code(StreamError error) noexcept {
  return {static_cast<int>(error), stream_category()};
}

EndOfStream::EndOfStream(const std::string& what, std::string_view partial)
    : std::system_error(make_error_code(StreamError::kEndOfStream),
                        concat({what, " after ", partial.size(), " bytes"})),
      partial_(std::make_shared<const std::string>(partial)) {}

LimitExceeded::LimitExceeded(const std::string& what, std::size_t limit)
    : std::system_error(make_error_code(StreamError::kLimitExceeded),
                        concat({what, ", limit ", limit, " bytes"})),
      limit_(limit) {}

void Separators::check() const {
  for (std::size_t i = 0; i < count_; ++i) {
    if (!texts_[i].empty()) continue;
    throw_error(Misuse("violet: a stream cannot be read up to an empty text"));
  }
}

// ----------------------------------------------------------------- the buffers

namespace internal {

namespace {

constexpr std::size_t kBytes = BufferPool::kBytes;

char* storage_of(std::size_t size) noexcept {
  if (size == kBytes) return buffer_pool.take();
  return static_cast<char*>(sys::calls->allocate(size));
}

void give_back(char* storage, std::size_t size) noexcept {
  if (storage == nullptr) return;
  if (size == kBytes) return buffer_pool.give_back(storage);
  std::free(storage);
}

}  // namespace

/// What the system is asked for in the name of who reads and who writes.
struct StreamCore::Parts {
  std::variant<std::monostate, Heirless<RecvEvent>, Heirless<ReadEvent>>
      incoming;
  std::variant<std::monostate, Heirless<SendEvent>, Heirless<WriteEvent>>
      outgoing;
};

namespace {

class WholeCore final : public StreamCore {
 public:
  WholeCore(Connection&& over, Kind what, int number) noexcept
      : StreamCore(std::move(over), what, number) {}

  Parts parts;
};

}  // namespace

StreamCore* StreamCore::make(Connection&& over, Kind what, int number) {
  void* const memory = sys::calls->allocate(sizeof(WholeCore));
  if (memory == nullptr) throw_out_of_memory();
  if (number < 0) number = over.fd();
  return new (memory) WholeCore(std::move(over), what, number);
}

void StreamCore::free() noexcept {
  auto* const whole = static_cast<WholeCore*>(this);
  whole->~WholeCore();
  std::free(whole);
}

StreamCore::Parts& StreamCore::parts() noexcept {
  return static_cast<WholeCore*>(this)->parts;
}

StreamCore::~StreamCore() {
  release();
  give_back(out, kBytes);
}

void StreamCore::release() noexcept {
  give_back(std::exchange(storage, nullptr), std::exchange(capacity, 0));
  begin = end = nothing;
}

/// Moves what is unread to the start of other storage.
bool StreamCore::move_to(std::size_t size) noexcept {
  char* const other = storage_of(size);
  if (other == nullptr) return false;
  const std::size_t count = unread();
  if (count > 0) std::memcpy(other, begin, count);
  release();
  storage = begin = other;
  end = other + count;
  capacity = size;
  return true;
}

std::span<char> StreamCore::room(std::size_t want) noexcept {
  const std::size_t count = unread();
  if (count == 0 && capacity != kBytes) release();
  const std::size_t twice = sum_of(capacity, capacity);
  const std::size_t wanted = std::max(want, sum_of(count, 1));
  if (capacity < kBytes && count < kBytes) {
    if (!move_to(kBytes)) return {};
  } else if (count == capacity) {
    if (!move_to(std::min(twice, wanted))) return {};
  } else if (begin != storage) {
    std::memmove(storage, begin, count);
    begin = storage;
    end = storage + count;
  }
  return {end, static_cast<std::size_t>(storage + capacity - end)};
}

bool StreamCore::awaits_edge() const noexcept {
  if (kind != Kind::kConnection) return false;
  const Slot* const slot = connection.descriptor().slot();
  return slot != nullptr && (slot->ready & kReadable) == 0;
}

void StreamCore::stow(std::size_t most) noexcept {
  const std::size_t count = unread();
  if (count == 0) return release();
  // Without memory for the little one, the large one will do.
  if (count <= most && capacity >= kBytes) move_to(std::max(count, kStowed));
}

void StreamCore::put_back(std::span<const char> bytes) noexcept {
  if (bytes.empty() || closed) return;
  release();
  storage = begin = storage_of(bytes.size());
  if (storage == nullptr) {
    begin = end = nothing;
    failed = ENOMEM;
    return;
  }
  std::memcpy(storage, bytes.data(), bytes.size());
  capacity = bytes.size();
  end = begin + capacity;
}

bool StreamCore::have_out() noexcept {
  if (out == nullptr) out = buffer_pool.take();
  return out != nullptr;
}

void StreamCore::sent_out(std::size_t count) noexcept {
  out_begin += std::min(count, unsent());  // after drop() there is none
  if (out_begin != out_end) return;
  out_begin = out_end = 0;
  give_back(std::exchange(out, nullptr), kBytes);
}

void StreamCore::drop() noexcept {
  if (std::exchange(closed, true)) return;
  // The storage stays for who waits: the system may be filling it.
  begin = end = nothing;
  ended = false;
  out_begin = out_end;
  connection.close();
  if (reader != nullptr) wake(*reader->job());
  if (writer != nullptr) wake(*writer->job());
}

std::string StreamCore::name() const {
  if (kind != Kind::kConnection) return concat({"fd ", fd});
  return connection.peer().text();
}

}  // namespace internal

// ---------------------------------------------------------- what events share

std::error_code StreamEvent::code() const noexcept {
  if (error_ >= 0) return {error_, std::system_category()};
  return make_error_code(error_ == kEnd ? StreamError::kEndOfStream
                                        : StreamError::kLimitExceeded);
}

void StreamEvent::let_core_go() noexcept {
  if (!core_->orphan || core_->reader != nullptr || core_->writer != nullptr) {
    return;
  }
  std::exchange(core_, nullptr)->free();
}

std::string StreamEvent::name() const {
  if (core_ != nullptr) return core_->name();
  return error_ == EBUSY ? "a stream" : "a closed stream";
}

void StreamEvent::describe_as(const char* call, Description& out) const {
  out.text = call;
  if (core_ == nullptr) return;
  if (core_->kind == Core::Kind::kConnection) {
    out.text += concat({" fd ", core_->fd});
  }
  out.text += concat({" ", core_->name()});
}

void StreamEvent::raise(const char* call, std::size_t limit) const {
  if (error_ >= 0) throw_on_descriptor(error_, call, name());
  const std::string what = concat({call, " ", name()});
  if (error_ == kTooLong) throw_error(LimitExceeded(what, limit));
  throw_error(EndOfStream(what, {core_->begin, core_->unread()}));
}

// -------------------------------------------------------------------- fetching

bool StreamReadEvent::enter() noexcept {
  if (error_ != 0) return false;
  if (core_ != nullptr && core_->reader == nullptr) core_->reader = this;
  if (core_ == nullptr || (core_->closed && core_->reader == this)) {
    StreamReadEvent::undo();
    error_ = EBADF;
  } else if (core_->reader != this) {
    error_ = EBUSY;
  }
  return error_ == 0;
}

void StreamReadEvent::leave() noexcept {
  if (core_ == nullptr || core_->reader != this) return;
  core_->reader = nullptr;
  let_core_go();
}

void StreamReadEvent::undo() noexcept {
  if (core_ == nullptr || core_->reader != this) return;
  undo_incoming();
  leave();
}

void StreamReadEvent::undo_incoming() noexcept {
  auto& incoming = core_->parts().incoming;
  if (auto* recv = std::get_if<Heirless<RecvEvent>>(&incoming))
    undo_part(*recv);
  if (auto* read = std::get_if<Heirless<ReadEvent>>(&incoming))
    undo_part(*read);
  incoming.emplace<std::monostate>();
}

bool StreamReadEvent::idle() const noexcept {
  if (core_ == nullptr || core_->kind != Core::Kind::kConnection) return false;
  if (core_->unread() > 0 || core_->unsent() > 0) return false;
  return RecvEvent(core_->connection.descriptor().slot(), {}).idle();
}

StreamReadEvent::Fetched StreamReadEvent::fetch(std::size_t want,
                                                std::size_t most) noexcept {
  Core& core = *core_;
  std::size_t got = 0;
  if (core.awaits_edge()) {
    core.stow();
    return fetch_into({core.nothing, 1}, got);
  }
  std::span<char> room;
  if (std::get_if<Heirless<ReadEvent>>(&core.parts().incoming) == nullptr) {
    room = core.room(want);
    if (room.empty()) {
      undo_incoming();
      error_ = ENOMEM;
      return Fetched::kFailed;
    }
    room = room.first(std::min(room.size(), most));
  }
  const Fetched fetched = fetch_into(room, got);
  core.end += got;
  if (fetched == Fetched::kNotYet && core.kind == Core::Kind::kConnection) {
    core.stow();
  }
  return fetched;
}

// A socket is told at each attempt where to put what comes, so that it needs
// no room while it waits. The others keep theirs: somebody may be filling it.
StreamReadEvent::Fetched StreamReadEvent::fetch_into(
    std::span<char> room, std::size_t& got) noexcept {
  Core& core = *core_;
  if (core.failed != 0) {
    error_ = core.failed;
    return Fetched::kFailed;
  }
  if (core.kind == Core::Kind::kConnection) {
    auto* recv = std::get_if<Heirless<RecvEvent>>(&core.parts().incoming);
    if (recv == nullptr) {
      Slot* slot = core.connection.descriptor().slot();
      recv = &core.parts().incoming.emplace<Heirless<RecvEvent>>(slot, room);
    }
    recv->fill(room);
    return conclude(*recv, got);
  }
  auto* read = std::get_if<Heirless<ReadEvent>>(&core.parts().incoming);
  if (read == nullptr && core.kind == Core::Kind::kDescriptor) {
    const Descriptor& owned = core.connection.descriptor();
    read = &core.parts().incoming.emplace<Heirless<ReadEvent>>(owned, room);
  } else if (read == nullptr) {
    read = &core.parts().incoming.emplace<Heirless<ReadEvent>>(core.fd, room);
  }
  return conclude(*read, got);
}

template <class E>
StreamReadEvent::Fetched StreamReadEvent::conclude(E& part,
                                                   std::size_t& got) noexcept {
  if (!attempt_part(part)) return Fetched::kNotYet;
  error_ = part.error();
  got = part.value();
  core_->parts().incoming.emplace<std::monostate>();
  if (error_ != 0) {
    // The system tells a reset once, and then an end as if all were well.
    const bool passing =
        error_ == EBUSY || error_ == EEXIST || error_ == ENOMEM;
    if (!passing) core_->failed = error_;
    return Fetched::kFailed;
  }
  core_->received += got;
  core_->ended = got == 0;
  return Fetched::kMore;
}

// --------------------------------------------------------------------- looking

bool ReadlineEvent::refuse() noexcept {
  line_ = nullptr;
  return fail(kTooLong);
}

bool ReadlineEvent::look_at_rest() noexcept {
  const std::size_t size = unread();
  scanned_ = size;
  if (size > limit_) {
    const bool may_be_stripped =
        strip_ && !ended() && size - 1 == limit_ && data()[limit_] == '\r';
    if (!may_be_stripped) return refuse();
  }
  if (!ended()) return false;
  if (size > 0) {
    line_ = data();
    line_end_ = line_ + size;
  }
  take(size);
  return true;
}

std::size_t ReadlineEvent::want() const noexcept {
  return sum_of(limit_, 2);
}

namespace {

constexpr std::size_t kNowhere = ~std::size_t{0};

/// Where the next separator is.
struct Match {
  std::size_t at = 0;    // none begins before; if size is 0, one may here
  std::size_t size = 0;  // 0: there is none yet
  std::size_t which = 0;
};

/// Where that byte is between two places.
std::size_t next_of(char byte, std::string_view text, std::size_t from,
                    std::size_t to) noexcept {
  const std::size_t found = text.substr(0, to).find(byte, from);
  return found == std::string_view::npos ? kNowhere : found;
}

/// The longest separator at a place. `size` stays 0 if there is none, or if
/// it is not known yet which it will be; then `open` is set.
Match match_at(std::size_t at, std::string_view text,
               const Separators& separators, bool& open) noexcept {
  Match match;
  match.at = at;
  const std::string_view rest = text.substr(at);
  for (std::size_t i = 0; i < separators.size(); ++i) {
    const std::string_view separator = separators[i];
    if (rest.starts_with(separator)) {
      if (separator.size() <= match.size) continue;
      match.size = separator.size();
      match.which = i;
    } else if (separator.starts_with(rest)) {
      open = true;
    }
  }
  return match;
}

/// Finds the earliest separator that begins between two places. Looks for the
/// first byte of each with memchr(3), which passes over each byte once, and
/// compares there. Returns: with at == `to`, if there is none.
Match find_within(const Separators& separators, std::string_view text,
                  std::size_t from, std::size_t to, bool whole) noexcept {
  std::array<std::size_t, Separators::kMost> next;
  next.fill(kNowhere);
  for (std::size_t i = 0; i < separators.size(); ++i) {
    next[i] = next_of(separators[i].front(), text, from, to);
  }
  for (;;) {
    const std::size_t at = *std::min_element(next.begin(), next.end());
    if (at == kNowhere) break;
    bool open = false;
    Match match = match_at(at, text, separators, open);
    if (open && !whole) match.size = 0;
    if (match.size > 0 || (open && !whole)) return match;
    for (std::size_t i = 0; i < separators.size(); ++i) {
      if (next[i] != at) continue;
      next[i] = next_of(separators[i].front(), text, at + 1, to);
    }
  }
  Match none;
  none.at = to;
  return none;
}

/// Finds the earliest separator. Where one is near and another far or nowhere,
/// the search for the other must not pass over all that follows each time: so
/// it goes on from part to part, each twice as large.
Match find(const Separators& separators, std::string_view text,
           std::size_t from, bool whole) noexcept {
  std::size_t part = 256;
  for (;;) {
    const std::size_t to = std::min(sum_of(from, part), text.size());
    const Match match = find_within(separators, text, from, to, whole);
    if (match.at < to || to == text.size()) return match;
    from = to;
    part *= 2;
  }
}

}  // namespace

bool ReadUntilEvent::look() noexcept {
  // What lies beyond the limit decides nothing.
  const std::string_view text(data(), std::min(unread(), want()));
  const Match match = find(separators_, text, scanned_, ended());
  if (match.size == 0) return look_at_rest(match.at);
  if (match.at > limit_) return fail(kTooLong);
  piece_ = Piece(data(), match.at, true, match.which);
  take(match.at + match.size);
  return true;
}

bool ReadUntilEvent::look_at_rest(std::size_t undecided) noexcept {
  scanned_ = undecided;
  if (undecided > limit_) return fail(kTooLong);
  if (!ended()) return false;
  if (!lines_) return fail(kEnd);
  const std::size_t size = unread();
  if (size > 0) piece_ = Piece(data(), size, true);
  take(size);
  return true;
}

std::size_t ReadUntilEvent::want() const noexcept {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < separators_.size(); ++i) {
    longest = std::max(longest, separators_[i].size());
  }
  return sum_of(limit_, longest);
}

bool ReadFullyEvent::look() noexcept {
  const std::size_t size = into_.size();
  const std::size_t count = std::min(unread(), size - got_);
  const bool enough = got_ + count == size;
  if (enough || direct()) {
    if (count > 0) std::memcpy(into_.data() + got_, data(), count);
    take(count);
    got_ += count;
  }
  if (enough) return true;
  if (!ended()) return false;
  give_up();
  return fail(kEnd);
}

StreamReadEvent::Fetched ReadFullyEvent::get_more() noexcept {
  if (!direct()) return fetch(want());
  core_->stow();
  std::size_t got = 0;
  const Fetched fetched = fetch_into(into_.subspan(got_), got);
  got_ += got;
  return fetched;
}

void ReadFullyEvent::give_up() noexcept {
  core_->put_back(into_.first(std::exchange(got_, 0)));
}

void ReadFullyEvent::undo() noexcept {
  if (core_ == nullptr || core_->reader != this) return;
  undo_incoming();
  give_up();
  leave();
}

bool ReadIntoEvent::look() noexcept {
  const std::size_t count = std::min(unread(), into_.size() - got_);
  if (count > 0) std::memcpy(into_.data() + got_, data(), count);
  take(count);
  got_ += count;
  return got_ > 0 || into_.empty() || ended();
}

StreamReadEvent::Fetched ReadIntoEvent::get_more() noexcept {
  // Of what is small, many would follow: one call fetches for them all.
  if (into_.size() < internal::BufferPool::kBytes) return fetch(want());
  core_->stow();
  return fetch_into(into_, got_);
}

bool SkipEvent::look() noexcept {
  const auto count =
      static_cast<std::size_t>(std::min<std::uint64_t>(unread(), rest_));
  take(count);
  rest_ -= count;
  skipped_ += count;
  return rest_ == 0 || ended();
}

bool ReadAllEvent::look() noexcept {
  const std::size_t size = unread();
  if (size > limit_) return fail(kTooLong);
  if (!ended()) return false;
  piece_ = Piece(data(), size, size > 0);
  take(size);
  return true;
}

std::size_t ReadAllEvent::want() const noexcept {
  return sum_of(limit_, 1);
}

// --------------------------------------------------------------------- sending

const char* StreamWriteEvent::call() const noexcept {
  switch (until_) {
    case Until::kTaken: return "write";
    case Until::kBegun: return "send";
    case Until::kSent: return "sendall";
    case Until::kFlushed: return "flush";
    case Until::kShut: return "shutdown";
    case Until::kClosed: break;
  }
  return "close";
}

void StreamWriteEvent::describe(Description& out) const {
  describe_as(call(), out);
  if (core_ != nullptr) {
    out.text += concat({", ", core_->unsent() + data_.size(), " bytes left"});
  }
}

bool StreamWriteEvent::enter() noexcept {
  if (error_ != 0) return false;
  if (core_ != nullptr && core_->writer == nullptr) core_->writer = this;
  if (core_ == nullptr || (core_->closed && core_->writer == this)) {
    undo();
    error_ = EBADF;
  } else if (core_->writer != this) {
    error_ = EBUSY;
  }
  return error_ == 0;
}

void StreamWriteEvent::leave() noexcept {
  if (core_ == nullptr || core_->writer != this) return;
  core_->writer = nullptr;
  let_core_go();
}

void StreamWriteEvent::undo() noexcept {
  if (core_ == nullptr || core_->writer != this) return;
  auto& outgoing = core_->parts().outgoing;
  if (auto* send = std::get_if<Heirless<SendEvent>>(&outgoing))
    undo_part(*send);
  if (auto* write = std::get_if<Heirless<WriteEvent>>(&outgoing))
    undo_part(*write);
  note_sent();
  leave();
}

bool StreamWriteEvent::attempt_with_sending() noexcept {
  if (!enter()) {
    if (until_ == Until::kClosed && error_ == EBADF) error_ = 0;
    return true;
  }
  for (bool first = true; !take_what_fits() && !is_over(); first = false) {
    if (!first && !spend()) {
      go_behind();
      return false;
    }
    if (!send_some()) return false;
    if (error_ != 0) break;
  }
  finish();
  leave();
  return true;
}

/// Puts what remains into the buffer, if that is what is wanted of it.
/// Returns: true if write() is done.
bool StreamWriteEvent::take_what_fits() noexcept {
  const bool behind = until_ == Until::kSent && core_->unsent() > 0;
  if (until_ != Until::kTaken && !behind) return false;
  if (data_.size() <= kBytes - core_->out_end) {
    if (data_.empty()) return until_ == Until::kTaken;
    if (!core_->have_out()) error_ = ENOMEM;
    if (error_ == 0) append();
  }
  return until_ == Until::kTaken && (data_.empty() || error_ != 0);
}

bool StreamWriteEvent::is_over() const noexcept {
  if (error_ != 0) return true;
  if (core_->unsent() > 0) return false;
  return data_.empty() || (until_ == Until::kBegun && begun_);
}

/// Sends what the system takes at once, what is in the buffer first.
/// Returns: false if it takes nothing yet.
bool StreamWriteEvent::send_some() noexcept {
  Core& core = *core_;
  buffered_ = core.unsent() > 0;
  const std::string_view next =
      buffered_ ? std::string_view(core.out + core.out_begin, core.unsent())
                : data_;
  bool done;
  if (core.kind == Core::Kind::kConnection) {
    auto* send = std::get_if<Heirless<SendEvent>>(&core.parts().outgoing);
    if (send == nullptr) {
      Slot* slot = core.connection.descriptor().slot();
      send = &core.parts().outgoing.emplace<Heirless<SendEvent>>(slot, next);
    }
    done = attempt_part(*send);
  } else {
    auto* write = std::get_if<Heirless<WriteEvent>>(&core.parts().outgoing);
    if (write == nullptr && core.kind == Core::Kind::kDescriptor) {
      const Descriptor& owned = core.connection.descriptor();
      write = &core.parts().outgoing.emplace<Heirless<WriteEvent>>(owned, next);
    } else if (write == nullptr) {
      write =
          &core.parts().outgoing.emplace<Heirless<WriteEvent>>(core.fd, next);
    }
    done = attempt_part(*write);
  }
  if (done) note_sent();
  return done;
}

/// Draws the conclusions from a part that has ended or was undone.
void StreamWriteEvent::note_sent() noexcept {
  Core& core = *core_;
  std::size_t count = 0;
  if (const auto* send =
          std::get_if<Heirless<SendEvent>>(&core.parts().outgoing)) {
    count = send->value();
    error_ = send->error();
  }
  if (const auto* write =
          std::get_if<Heirless<WriteEvent>>(&core.parts().outgoing)) {
    count = write->value();
    error_ = write->error();
  }
  core.parts().outgoing.emplace<std::monostate>();
  core.sent += count;
  if (buffered_) return core.sent_out(count);
  data_.remove_prefix(count);
  taken_ += count;
  begun_ = count > 0;
}

void StreamWriteEvent::finish() noexcept {
  if (until_ == Until::kShut && error_ == 0) {
    error_ = -std::min(0, sys::calls->shutdown(core_->fd, SHUT_WR));
  }
  if (until_ == Until::kClosed) core_->drop();
}

// --------------------------------------------------------------------- copying

bool CopyEvent::attempt() noexcept {
  if (send_ && core_->closed) undo_sending();  // while there is what it sends
  if (enter() && !go_on()) return false;
  leave();
  return true;
}

/// Returns: true when it is done; error_ tells how.
bool CopyEvent::go_on() noexcept {
  for (;;) {
    if (send_) {
      if (!attempt_part(*send_)) return false;
      note_copied();
      if (error_ != 0) return true;
      if (!spend()) {
        go_behind();
        return false;
      }
    }
    if (copied_ == limit_) return true;
    if (unread() == 0) {
      if (ended()) return true;
      const Fetched fetched = fetch(1);
      if (fetched == Fetched::kNotYet) return false;
      if (fetched == Fetched::kFailed) return true;
      continue;
    }
    const auto size = static_cast<std::size_t>(
        std::min<std::uint64_t>(unread(), limit_ - copied_));
    send_.emplace(to_, StreamWriteEvent::Until::kBegun,
                  std::string_view(data(), size));
  }
}

/// What has been sent has been read, and nothing else.
void CopyEvent::note_copied() noexcept {
  const std::size_t count = send_->value();
  if (error_ == 0) error_ = send_->error();
  if (core_ != nullptr) take(std::min(count, unread()));
  copied_ += count;
  to_ = send_->core();
  send_.reset();
}

void CopyEvent::undo_sending() noexcept {
  if (!send_) return;
  undo_part(*send_);
  note_copied();
}

void CopyEvent::undo() noexcept {
  undo_sending();
  StreamReadEvent::undo();
}

std::string CopyEvent::names() const {
  return concat(
      {name(), " to ",
       to_ == nullptr ? std::string("a closed stream") : to_->name()});
}

void CopyEvent::describe(Description& out) const {
  out.text = concat({"copy ", names()});
}

std::uint64_t CopyEvent::result() const {
  if (error_ != 0) throw_on_descriptor(error_, "copy", names());
  return copied_;
}

// ------------------------------------------------------------------ the stream

using internal::StreamCore;

Stream::Stream(Connection connection)
    : core_(StreamCore::make(std::move(connection),
                             StreamCore::Kind::kConnection)) {}

Stream::Stream(Descriptor descriptor)
    : core_(StreamCore::make(Connection(std::move(descriptor)),
                             StreamCore::Kind::kDescriptor)) {}

Stream::Stream(int fd)
    : core_(StreamCore::make(Connection(), StreamCore::Kind::kBorrowed, fd)) {}

Stream::~Stream() {
  if (core_ == nullptr) return;
  core_->drop();
  core_->orphan = true;
  if (core_->reader == nullptr && core_->writer == nullptr) core_->free();
}

void Stream::compact() const noexcept {
  if (core_ == nullptr || core_->reader != nullptr) return;
  core_->stow(internal::BufferPool::kBytes / 2);
}

std::string_view Stream::buffered() const noexcept {
  if (core_ == nullptr) return {};
  return {core_->begin, core_->unread()};
}

void Stream::consume(std::size_t count) const {
  if (core_ == nullptr) return;
  if (core_->reader != nullptr) {
    throw_error(Misuse(concat({"consume ", name(),
                               ": another job reads this stream; what it has "
                               "received is not yours to take"})));
  }
  core_->begin += std::min(count, core_->unread());
}

std::uint64_t Stream::position() const noexcept {
  return core_ == nullptr ? 0 : core_->received - core_->unread();
}

const Connection& Stream::connection() const {
  if (core_ == nullptr || core_->kind != StreamCore::Kind::kConnection) {
    throw_error(Misuse(concat(
        {"violet: the stream over ", name(), " is over no Connection"})));
  }
  return core_->connection;
}

Connection Stream::release(std::string& leftovers) {
  connection();
  if (core_->unsent() > 0 || core_->reader != nullptr ||
      core_->writer != nullptr) {
    throw_error(Misuse(concat(
        {"release ", name(), ": flush it first, and let nobody wait on it"})));
  }
  leftovers.assign(core_->begin, core_->unread());
  Connection result = std::move(core_->connection);
  core_->drop();
  return result;
}

std::string Stream::name() const {
  return core_ == nullptr ? "a closed stream" : core_->name();
}

}  // namespace violet
