// slots.cpp - the life of a slot.
// SPDX-License-Identifier: MIT
#include "slots.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace violet {

namespace {

constinit thread_local Slots* slots_here = nullptr;

/// Frees the slots of a thread at its end, unless some are still in use: a
/// Connection in a static variable may outlive its thread's own variables.
struct Keeper {
  Slots* slots = nullptr;
  ~Keeper() {
    if (slots == nullptr || slots->in_use() != 0) return;
    slots_here = nullptr;  // a later destructor may ask for slots again
    delete std::exchange(slots, nullptr);
  }
};

/// What the kind of a descriptor tells.
std::uint8_t traits_of(int fd) noexcept {
  switch (sys::calls->file_type(fd)) {
    case S_IFIFO: return kStream;
    case S_IFREG:
    case S_IFBLK: return kFile;
    default: return 0;
  }
}

Slots& make_slots() {
  thread_local Keeper keeper;
  slots_here = keeper.slots = new Slots();
  return *slots_here;
}

}  // namespace

// Every loop of this thread may have watched a descriptor in its turn.
template <class Visit>
void Slots::each_poller(Visit visit) noexcept {
  for (Poller* poller : homes_) {
    if (poller != nullptr) visit(*poller);
  }
}

Slots& Slots::here() {
  return slots_here != nullptr ? *slots_here : make_slots();
}

[[gnu::cold]] void Slots::add_chunk() {
  const auto base = static_cast<std::uint32_t>(chunks_.size() * kChunk);
  chunks_.push_back(OwnedArray<Slot>(new Slot[kChunk]));
  for (std::uint32_t i = kChunk; i > 0; --i) {
    at(base + i - 1).index = base + i - 1;
    put_back(at(base + i - 1));
  }
}

bool Slots::prepare() noexcept {
  return first_free_ != kNoSlot || has_memory_for([this] { add_chunk(); });
}

Slot& Slots::take() {
  if (first_free_ == kNoSlot) add_chunk();
  Slot& slot = at(static_cast<std::uint32_t>(first_free_));
  first_free_ = slot.sent_bytes;
  ++in_use_;
  return slot;
}

void Slots::put_back(Slot& slot) noexcept {
  slot.sent_bytes = first_free_;
  first_free_ = slot.index;
}

Slot& Slots::open(Fd fd, std::uint8_t traits, std::uint8_t ready) {
  Slot& slot = take();
  ++slot.generation;  // an event may have been made after close()
  slot.fd = fd.release();
  slot.traits = traits;
  slot.ready = ready;
  slot.watched = 0;
  slot.home = 0;
  slot.sent_bytes = 0;
  std::fill(std::begin(slot.note), std::end(slot.note), std::uint8_t{0});
  return slot;
}

void Slots::close(Slot& slot) noexcept {
  if (slot.fd < 0) return;
  each_poller([&](Poller& poller) { poller.closing(slot.fd); });
  if ((slot.traits & kAdopted) != 0) unwatch(slot);
  const int number = std::exchange(slot.fd, -1);
  ++slot.generation;
  slot.watched = slot.ready = 0;
  sys::calls->close(number);
  if (slot.reader != nullptr) wake(*slot.reader->job());
  if (slot.writer != nullptr) wake(*slot.writer->job());
  wake_all(starved_);
}

// The traits tell an abandoned slot from one whose owner merely closed it: it
// is the waiters that free it then.
void Slots::abandon(Slot& slot) noexcept {
  close(slot);
  slot.traits |= kBorrowed;
  retire(slot);
}

void Slots::retire(Slot& slot) noexcept {
  if (slot.reader != nullptr || slot.writer != nullptr) return;
  if (slot.fd >= 0) {
    unwatch(slot);
    std::erase(borrowed_, &slot);
    slot.fd = -1;
    ++slot.generation;
  }
  put_back(slot);
  --in_use_;
}

bool Slots::is_borrowed(int fd) const noexcept {
  return std::any_of(borrowed_.begin(), borrowed_.end(),
                     [fd](const Slot* slot) { return slot->fd == fd; });
}

Slot* Slots::borrow(int fd) noexcept {
  for (Slot* slot : borrowed_) {
    if (slot->fd == fd) return slot;
  }
  Slot* made = nullptr;
  has_memory_for([&] {
    borrowed_.reserve(borrowed_.size() + 1);
    made = &open(Fd(),
                 static_cast<std::uint8_t>(kBorrowed | (traits_of(fd) & kFile)),
                 kReadable | kWritable);
    made->fd = fd;
    borrowed_.push_back(made);
  });
  return made;
}

[[gnu::cold]] void Slots::take_back(int fd) noexcept {
  const auto at =
      std::find_if(borrowed_.begin(), borrowed_.end(),
                   [fd](const Slot* slot) { return slot->fd == fd; });
  if (at == borrowed_.end()) return;
  Slot& slot = **at;
  unwatch(slot);
  borrowed_.erase(at);
  slot.fd = -1;
  ++slot.generation;
  slot.ready = 0;
  if (slot.reader != nullptr) wake(*slot.reader->job());
  if (slot.writer != nullptr) wake(*slot.writer->job());
}

int Slots::watch(Slot& slot, Direction direction) noexcept {
  std::uint8_t bits = kReadable;
  if (slot.stream() || direction == Direction::kWrite) bits |= kWritable;
  // Where reads may be cut short by a test, a short one proves nothing.
  if (sys::calls->shortens())
    slot.traits &= static_cast<std::uint8_t>(~kStream);
  const std::uint8_t home = slot_state.home;
  const bool fresh = slot.home != home || slot.watched == 0;
  if (!fresh && (slot.watched & bits) == bits) return 0;

  const Token token{slot.index, slot.generation};
  Poller& poller = *homes_[home];
  int error = fresh ? poller.add(slot.fd, token, bits)
                    : poller.change(slot.fd, token, bits);
  if (error == EEXIST) {
    // Either a loop beside this one had the slot for a while, and our own
    // registration is still there; or it is another slot's, see borrow().
    const bool ours = !slot.borrowed() && !is_borrowed(slot.fd);
    error = ours ? poller.change(slot.fd, token, bits) : EEXIST;
  }
  if (error == EPERM) {
    slot.traits |= kAlwaysReady;
    slot.ready |= kReadable | kWritable;
    return 0;
  }
  if (error != 0) return error;
  slot.home = home;
  slot.watched = bits;
  return 0;
}

void Slots::unwatch(Slot& slot) noexcept {
  if (slot.watched == 0) return;
  each_poller([&](Poller& poller) { poller.remove(slot.fd); });
  slot.watched = 0;
}

/// The system has refused late what it was asked for.
void Slots::forget(Slot& slot) noexcept {
  slot.watched = 0;
  slot.ready &= static_cast<std::uint8_t>(~kRefused);
}

template <class Visit>
void Slots::each_slot(Visit visit) noexcept {
  for (auto& chunk : chunks_) {
    for (std::size_t i = 0; i < kChunk; ++i) visit(chunk[i]);
  }
}

std::uint8_t Slots::add_home(Poller& poller) {
  for (std::uint8_t home = 1; home < kHomes; ++home) {
    if (homes_[home] != nullptr) continue;
    homes_[home] = &poller;
    return home;
  }
  throw_error(
      Misuse("violet: this thread has 15 loops already; one is enough for "
             "any number of jobs"));
}

void Slots::remove_home(std::uint8_t home) noexcept {
  homes_[home] = nullptr;
  each_slot([home, this](Slot& slot) {
    if (slot.home != home) return;
    if ((slot.traits & kAdopted) != 0) unwatch(slot);  // by the other loops
    slot.home = slot.watched = 0;
  });
}

void Slots::announce_anew(int fd) noexcept {
  each_slot([=, this](Slot& slot) {
    if (slot.fd != fd || slot.watched == 0) return;
    const Token token{slot.index, slot.generation};
    homes_[slot.home]->change(fd, token, slot.watched);
  });
}

void Slots::distrust_short_reads() noexcept {
  each_slot(
      [](Slot& slot) { slot.traits &= static_cast<std::uint8_t>(~kStream); });
}

Descriptor adopt(Fd fd) {
  const int result = sys::set_nonblocking(fd.get());
  if (result < 0) throw_system(-result, concat({"adopt ", fd.get()}));
  const auto traits = static_cast<std::uint8_t>(kAdopted | traits_of(fd.get()));
  return Descriptor(
      Slots::here().open(std::move(fd), traits, kReadable | kWritable));
}

/// The slow part of waiting: whatever is not as it is on most waits.
bool SlotEvent::prepare_wait(Direction direction) noexcept {
  if (slot_ == nullptr || slot_->generation != word_) {
    error_ = EBADF;
    undo_claim(direction);
    return true;
  }
  const Event* current = waiter(direction);
  if (current != nullptr && current != this) {
    error_ = EBUSY;
    return true;
  }
  const int error = Slots::here().watch(*slot_, direction);
  if (error != 0) return fail(direction, error);
  claim(direction);
  // A descriptor that cannot be watched is ready: its job tries in its turn.
  if ((slot_->ready & bit(direction)) != 0) go_behind();
  return false;
}

// Whoever goes behind keeps its place at the slot: half of what it writes may
// be out already.
bool SlotEvent::not_done(Direction direction, ssize_t negated_error) noexcept {
  if (negated_error == kGoBehind || negated_error == kAway) {
    claim(direction);
    if (negated_error == kGoBehind) go_behind();
    return false;
  }
  if (negated_error != -EAGAIN) {
    return fail(direction, static_cast<int>(-negated_error));
  }
  slot_->ready &= static_cast<std::uint8_t>(~bit(direction));
  return prepare_wait(direction);
}

bool SlotEvent::fail(Direction direction, int error) noexcept {
  error_ = error;
  let_go(direction);
  return true;
}

void throw_on_descriptor(int error, const char* call,
                         const std::string& object) {
  const std::string what = concat({call, " ", object});
  if (error == EEXIST) {
    throw_error(
        Misuse(concat({what,
                       ": two wait for it, one by its bare number and one "
                       "by the Connection, Listener or Descriptor that owns "
                       "it: let both go by the owner"})));
  }
  if (error != EBUSY) throw_system(error, what);
  throw_error(Misuse(concat({what,
                             ": another job waits for the same already; let "
                             "one job do all the reading and one all the "
                             "writing"})));
}

}  // namespace violet
