// slots.hpp - what a thread knows about its descriptors.
//
// The idea: each descriptor has one slot, and the slot remembers readiness.
// The poller only tells when something *became* ready, so the slot keeps the
// news until an attempt meets EAGAIN. A descriptor is registered once in its
// life, when something first has to wait for it; from then on an operation
// is just the system call that does it.
//
// After a short read from TCP or a pipe the buffer was drained: the next read
// waits without another probe. This saves one failing call for each message,
// but it would hang if the end of the stream came with the same edge as the
// last bytes. So once kEnded was seen, only EAGAIN counts.
//
// Slots belong to the thread, not to a loop: a connection made in one run
// works in the next. They never move, so events may point to them.
//
// Built on: sys, fd, event, poller. See: epoll(7), "Edge-triggered".
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "event.hpp"
#include "fd.hpp"
#include "list.hpp"
#include "owned.hpp"
#include "poller.hpp"

namespace violet {

/// What kind of descriptor a slot holds, as bits.
enum SlotTraits : std::uint8_t {
  /// A byte stream whose short read means "drained": TCP, pipes. Watched for
  /// writing from the start, since it raises no spurious edges.
  kStream = 1,
  /// The process was given it and others share it: its flags stay as they
  /// are, so readiness is asked before each call, and nothing is closed. Or
  /// its owner has gone: here, too, the last waiter frees the slot.
  kBorrowed = 2,
  /// It may have been duplicated before it came to us: closing it alone would
  /// leave it registered.
  kAdopted = 4,
  /// The poller cannot watch it (regular files): it is always ready.
  kAlwaysReady = 8,
  /// It has been logged once that no descriptors were left.
  kComplained = 16,
  /// Its peer asks and we answer: it was accepted, not connected.
  kServed = 32,
  /// A file on a disk: always ready, and yet a read of it may take long.
  kFile = 64,
  /// A file of which the system cannot say what lies in memory.
  kAsksDisk = 128,
};

/// Beside the ReadyBits in a slot: bytes came in since the last went out, so
/// whoever waits for more is in the middle of a request. See Event::idle().
inline constexpr std::uint8_t kOwesReply = 8;

/// There, too: bytes came in or went out. Nobody here takes it away; whoever
/// wants to know how long a stream has been silent does, from time to time.
inline constexpr std::uint8_t kActive = 32;

enum class Direction : std::uint8_t { kRead, kWrite };

/// One descriptor.
struct alignas(kCacheLineBytes) Slot {
  // Who it is. A closed slot has fd -1 and lives on until its owner and the
  // last waiter are gone. Each open and each close change the generation.
  int fd = -1;
  std::uint32_t generation = 0;
  std::uint32_t index = 0;
  std::uint8_t traits = 0;

  // What is known, as ReadyBits. A cleared bit means that an attempt met
  // EAGAIN (or drained a stream) after the last edge; a set bit means that
  // trying may succeed. A closed slot has none. kOwesReply and kActive stand
  // here too.
  std::uint8_t ready = 0;
  std::uint8_t watched = 0;  // bits registered with the poller of `home`
  std::uint8_t home = 0;     // which loop of this thread; 0 is none

  // Who waits: at most one job for each direction.
  Event* reader = nullptr;
  Event* writer = nullptr;

  /// Bytes that send(2) and write(2) have taken, ever.
  std::uint64_t sent_bytes = 0;

  /// Left to whoever opened it. Stays as it is after the slot is closed, until
  /// it is used again.
  alignas(8) unsigned char note[24] = {};

  bool stream() const noexcept { return (traits & kStream) != 0; }
  bool borrowed() const noexcept { return (traits & kBorrowed) != 0; }
  bool file() const noexcept { return (traits & kFile) != 0; }

  /// Bytes came in: draws the conclusions from `got` of `asked`.
  void received(std::size_t got, std::size_t asked) noexcept {
    const bool drained = got < asked && stream() && (ready & kEnded) == 0;
    const unsigned known = drained ? ready & ~unsigned{kReadable} : ready;
    ready = static_cast<std::uint8_t>(known | kOwesReply | kActive);
  }

  /// Bytes went out.
  void sent(std::size_t bytes) noexcept {
    sent_bytes += bytes;
    ready = static_cast<std::uint8_t>((ready & ~kOwesReply) | kActive);
  }
};
static_assert(sizeof(Slot) == kCacheLineBytes);

/// The loop that new waits register with, where one instruction reaches it.
/// Who claims a slot and who lets it go do so while the same loop is entered,
/// so that its count comes out.
struct SlotState {
  std::uint8_t home = 0;
  int* waiting = nullptr;  // that loop's count of claims
};
inline constinit thread_local SlotState slot_state;

/// The slots of one thread.
class Slots {
 public:
  /// The slots of the calling thread.
  static Slots& here();

  /// Takes ownership of a descriptor. `ready`: what may be tried at once.
  /// Throws: std::bad_alloc; the descriptor is closed then.
  Slot& open(Fd fd, std::uint8_t traits, std::uint8_t ready);

  /// Makes sure that the next open() needs no memory.
  /// Returns: false if there is none.
  bool prepare() noexcept;

  /// Closes the descriptor and gives its waiters EBADF. Once is enough.
  void close(Slot& slot) noexcept;

  /// The owner is gone: closes, and frees the slot after the last waiter.
  void abandon(Slot& slot) noexcept;

  /// The slot of a descriptor that somebody else owns, for as long as an
  /// event has a claim on it. Returns: null if there is no memory.
  Slot* borrow(int fd) noexcept;

  /// A descriptor that may be borrowed is about to be closed by its owner:
  /// gives its waiters EBADF. Without this they would wait for ever.
  void take_back(int fd) noexcept;

  /// Has edges of this direction announced from now on. Returns: 0 or an
  /// error number. Afterwards `ready` may be set again: try once more.
  int watch(Slot& slot, Direction direction) noexcept;

  /// Has the poller tell anew what is ready of a descriptor. For a test kit
  /// that has refused a call without need: no new edge would follow.
  void announce_anew(int fd) noexcept;

  /// Takes no short read for the end of what is there any more. For a test
  /// kit that begins to cut them short.
  void distrust_short_reads() noexcept;

  /// A borrowed or abandoned slot has lost a waiter: frees it after the last.
  void retire(Slot& slot) noexcept;

  /// News from the poller: wakes whoever waits for it.
  void announce(const Ready& news) noexcept {
    Slot& slot = at(news.token.index);
    if (slot.generation != news.token.generation) return;
    slot.ready |= news.bits;
    if ((news.bits & kRefused) != 0) [[unlikely]]
      forget(slot);
    if (slot.reader != nullptr && (news.bits & kReadable) != 0) {
      wake(*slot.reader->job());
    }
    if (slot.writer != nullptr && (news.bits & kWritable) != 0) {
      wake(*slot.writer->job());
    }
  }

  /// Jobs that wait for a descriptor to be closed, since the process or the
  /// system has none left.
  WaitQueue& starved() noexcept { return starved_; }

  /// Registers a loop's poller. Returns: its number, never 0.
  /// Throws: Misuse if this thread has too many loops.
  std::uint8_t add_home(Poller& poller);

  /// Forgets a loop: what it watched is watched by nobody.
  void remove_home(std::uint8_t home) noexcept;

  /// The slot with this index, whatever it holds now.
  Slot& at(std::uint32_t index) noexcept {
    return chunks_[index / kChunk][index % kChunk];
  }

  /// Claims that jobs of the loop that runs hold now. With none, no
  /// descriptor can wake them.
  int waiting() const noexcept {
    return slot_state.waiting == nullptr ? 0 : *slot_state.waiting;
  }

  /// Slots in use; for tests and statistics.
  std::size_t in_use() const noexcept { return in_use_; }

 private:
  static constexpr std::size_t kChunk = 128;
  static constexpr std::size_t kHomes = 16;
  static constexpr std::uint64_t kNoSlot = ~std::uint64_t{0};

  template <class Visit>
  void each_slot(Visit visit) noexcept;
  template <class Visit>
  void each_poller(Visit visit) noexcept;
  void add_chunk();
  Slot& take();
  void put_back(Slot& slot) noexcept;
  void unwatch(Slot& slot) noexcept;
  static void forget(Slot& slot) noexcept;
  bool is_borrowed(int fd) const noexcept;

  // Chunks never move or shrink. A free slot names the next free one in its
  // sent_bytes, so giving one back cannot fail.
  std::vector<OwnedArray<Slot>> chunks_;
  std::uint64_t first_free_ = kNoSlot;
  std::vector<Slot*> borrowed_;  // few: one for each foreign descriptor in use
  std::size_t in_use_ = 0;
  WaitQueue starved_;

  std::array<Poller*, kHomes> homes_ = {};  // by number; 0 stays null
};

/// Owns a slot, and through it a descriptor.
class Descriptor {
 public:
  Descriptor() noexcept {}
  explicit Descriptor(Slot& slot) noexcept : slot_(&slot) {}
  Descriptor(Descriptor&& other) noexcept
      : slot_(std::exchange(other.slot_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      slot_ = std::exchange(other.slot_, nullptr);
    }
    return *this;
  }
  ~Descriptor() { reset(); }

  /// Null for one that was never opened or has been moved from.
  Slot* slot() const noexcept { return slot_; }

  /// The number, -1 if it is closed.
  int fd() const noexcept { return slot_ == nullptr ? -1 : slot_->fd; }
  explicit operator bool() const noexcept { return fd() >= 0; }

  /// Closes now. Whoever waits on it gets bad_file_descriptor.
  void close() noexcept {
    if (slot_ != nullptr) Slots::here().close(*slot_);
  }

 private:
  void reset() noexcept {
    if (slot_ != nullptr) Slots::here().abandon(*slot_);
    slot_ = nullptr;
  }

  Slot* slot_ = nullptr;
};

/// Takes ownership of a descriptor that came from elsewhere, makes it
/// non-blocking. Returns: its owner. Throws: std::system_error.
Descriptor adopt(Fd fd);

/// Throws what an error number says of `call` on an object; EBUSY and EEXIST
/// are Misuse.
[[noreturn]] void throw_on_descriptor(int error, const char* call,
                                      const std::string& object);

/// What the events on descriptors share: a slot, and one try of a system
/// call after the other until it succeeds or would block.
///
/// The event remembers the slot's generation, in word_: between co_await and
/// the first attempt it stands in no queue, and the slot may meanwhile be
/// closed and used again for another descriptor.
class SlotEvent : public Event {
 protected:
  /// `slot` may be null: the operation then fails with EBADF.
  explicit SlotEvent(Slot* slot) noexcept { use(slot); }
  SlotEvent(SlotEvent&& other) noexcept
      : Event(std::move(other)), slot_(other.slot_) {
    word_ = other.word_;
  }
  ~SlotEvent() = default;

  void use(Slot* slot) noexcept {
    slot_ = slot;
    if (slot != nullptr) word_ = slot->generation;
  }

  /// What an operation returns that has used up its job's budget before it
  /// was done. No error number is so large.
  static constexpr ssize_t kGoBehind = -100000;

  /// The same if something else will wake the job.
  static constexpr ssize_t kAway = -100001;

  /// Runs `operation(fd)` if the slot may be ready. It returns a count or a
  /// negated error number; -EAGAIN waits for the next edge.
  /// Returns: true when it is done; error_ tells how.
  template <Direction kDirection, class Operation>
  bool drive(Operation operation) noexcept {
    return may_try<kDirection>() ? conclude<kDirection>(operation(slot_->fd))
                                 : wait_for_edge<kDirection>();
  }

  /// The condition of drive(): the operation may succeed, and nobody else
  /// waits to do the same.
  template <Direction kDirection>
  bool may_try() const noexcept {
    return slot_ != nullptr && (slot_->ready & bit(kDirection)) != 0 &&
           slot_->generation == word_ &&
           (waiter(kDirection) == nullptr || waiter(kDirection) == this);
  }

  /// One half of drive(): what follows from what the operation returned.
  template <Direction kDirection>
  bool conclude(ssize_t done) noexcept {
    if (done < 0) [[unlikely]]
      return not_done(kDirection, done);
    let_go(kDirection);
    return true;
  }

  /// The other half: waits for the next edge. Returns: true if that is not
  /// possible; error_ tells why.
  template <Direction kDirection>
  bool wait_for_edge() noexcept {
    const bool prepared =
        slot_ != nullptr && (slot_->watched & bit(kDirection)) != 0 &&
        slot_->generation == word_ && slot_->home == slot_state.home &&
        waiter(kDirection) == nullptr;
    if (!prepared) [[unlikely]]
      return prepare_wait(kDirection);
    claim(kDirection);
    return false;
  }

  /// Waits, too, but not for an edge: something else wakes the job.
  template <Direction kDirection>
  bool wait_for_another() noexcept {
    claim(kDirection);
    return false;
  }

  /// Leaves the slot, if this event waits for it.
  void undo_claim(Direction direction) noexcept {
    if (slot_ != nullptr && waiter(direction) == this) let_go(direction);
  }

  /// Throws what error_ says of `call` on `object`; EBUSY is Misuse.
  [[noreturn]] void raise(const char* call, const std::string& object) const {
    throw_on_descriptor(error_, call, object);
  }

  Slot* slot_ = nullptr;  // slots never move, so this never dangles

 private:
  static constexpr std::uint8_t bit(Direction direction) noexcept {
    return direction == Direction::kRead ? kReadable : kWritable;
  }

  Event*& waiter(Direction direction) const noexcept {
    return direction == Direction::kRead ? slot_->reader : slot_->writer;
  }

  void claim(Direction direction) noexcept {
    if (waiter(direction) == nullptr) ++*slot_state.waiting;
    waiter(direction) = this;
  }

  void let_go(Direction direction) noexcept {
    if (waiter(direction) == this) {
      waiter(direction) = nullptr;
      --*slot_state.waiting;
    }
    if (slot_->borrowed()) [[unlikely]]
      Slots::here().retire(*slot_);
  }

  bool prepare_wait(Direction direction) noexcept;
  bool not_done(Direction direction, ssize_t negated_error) noexcept;
  bool fail(Direction direction, int error) noexcept;
};

}  // namespace violet
