// channel.hpp - items pass from job to job, first in, first out.
//
// The idea: a channel is a ring of items and two lines of jobs. A sender that
// finds the ring full waits with its item in its own event; whoever makes
// room moves the item of the first one in. A receiver that finds nothing
// waits in line; an item that comes is *granted* to the first of them, which
// takes it at its own next step. So no item is ever in the hands of a job
// that does not run: a receiver that is killed leaves its item where it was,
// and its grant goes to the next in line. With a capacity of 0 there is no
// ring, and items go straight from the sender's event to the receiver.
//
// Refused: handing the item itself to a waiting receiver (a kill would lose
// it), and a channel without a limit (it would hide that nobody receives).
//
// Built on: event. Other threads go through a Remote.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "error.hpp"
#include "event.hpp"
#include "list.hpp"

namespace violet {

class ChannelCore;
template <class T>
class Channel;

/// How far the wait of one sender or receiver has come; from kClosed on it
/// has ended without an item.
enum class Passage : std::uint32_t {
  kNone,       // not in line: not attempted yet, or completed at once
  kStandsBy,   // the same, but its job lets others go first
  kInLine,     // in line
  kGranted,    // a receiver, still in line: takes an item at its next step
  kAccepted,   // a sender: its item has been taken from it
  kClosed,     // close() came, or the last sender went
  kDeserted,   // the last receiver went
  kDestroyed,  // the channel is gone: nothing may touch it
};

/// A job in line at a channel, whatever the items are.
class ChannelEvent : public Event, public Link<ChannelEvent> {
 protected:
  explicit ChannelEvent(ChannelCore& channel) noexcept : channel_(&channel) {}
  ChannelEvent(ChannelEvent&& other) noexcept
      : Event(std::move(other)), channel_(other.channel_) {}
  ~ChannelEvent() = default;

  Passage passage() const noexcept { return static_cast<Passage>(word_); }
  bool fresh() const noexcept { return passage() == Passage::kNone; }

  /// Is fresh again. Returns: false if it did not stand by.
  bool stops_standing_by() noexcept {
    if (passage() != Passage::kStandsBy) return false;
    leave_standing_by();
    return true;
  }
  bool failed() const noexcept { return passage() >= Passage::kClosed; }
  void describe_line(const char* verb, Description& out) const;

  ChannelCore* channel_;  // of meaning while it is not kDestroyed

 private:
  friend class ChannelCore;
  void leave_standing_by() noexcept;
  void set(Passage passage) noexcept {
    word_ = static_cast<std::uint32_t>(passage);
  }

 public:
  /// See Event::stand_by: the channel may be gone by the first attempt.
  void stand_by() noexcept;
};

/// One of the handles that keep a side of a channel open.
class ChannelHandle : public Link<ChannelHandle> {
 protected:
  enum class Side : bool { kSending, kReceiving };

  ChannelHandle(ChannelCore* channel, Side side) noexcept;
  ChannelHandle(const ChannelHandle& other) noexcept
      : ChannelHandle(other.channel_, other.side_) {}
  ChannelHandle& operator=(const ChannelHandle& other) noexcept;
  ~ChannelHandle() { leave(); }

  /// Throws: Misuse if the channel is gone.
  ChannelCore& channel() const;

 private:
  friend class ChannelCore;
  void join(ChannelCore* channel) noexcept;
  void leave() noexcept;

  ChannelCore* channel_ = nullptr;  // null once it is gone
  Side side_;
};

/// A channel without its items: who waits, and how much there is.
class ChannelCore {
 public:
  ChannelCore(const ChannelCore&) = delete;
  ChannelCore& operator=(const ChannelCore&) = delete;

  /// Nothing more can be sent: waiting senders get Closed, and receivers end
  /// once they have taken what is there. Once is enough.
  void close() noexcept { close(Passage::kClosed); }

  /// True if nothing more can be sent.
  bool closed() const noexcept { return state_ != Passage::kNone; }

  /// Items in the buffer; what waiting senders hold is not counted.
  std::size_t size() const noexcept { return count_; }
  std::size_t capacity() const noexcept { return capacity_; }

 protected:
  explicit ChannelCore(std::size_t capacity) noexcept
      : limit_(capacity), capacity_(capacity) {}
  ~ChannelCore() = default;

  /// The first duty of the destructor, while there still are items.
  void dismiss_everyone() noexcept;

  bool has_room() const noexcept { return count_ < limit_; }

  /// True if an item is there that belongs to no receiver in line.
  bool may_take() const noexcept { return granted_ < available(); }

  /// Of a receiver that comes: true if it may take an item at once. Only
  /// while nobody is in line, which is easier to see than may_take().
  bool may_take_at_once() const noexcept {
    return receivers_.empty() && count_ != 0;
  }

  /// First attempts that were not possible at once. Returns: true if the event
  /// need not stand in line.
  bool enter_senders(ChannelEvent& sender) noexcept;
  bool enter_receivers(ChannelEvent& receiver) noexcept;

  /// A receiver with a grant is about to use it.
  void retire(ChannelEvent& receiver) noexcept {
    receivers_.remove(receiver);
    --granted_;
  }

  /// An item has come into the buffer.
  void added() noexcept {
    ++count_;
    if (next_ != nullptr) grant_next();
  }

  /// An item has been taken out of the buffer, and nobody waits to send.
  void removed() noexcept {
    --count_;
    if (!receivers_.empty()) [[unlikely]] {
      withdraw();  // the item may have been granted: see AnyEvent::result()
      if (limit_ == 0) end_receivers();
    }
  }

  /// The item of the first sender in line has been taken from it.
  void accept(ChannelEvent& sender) noexcept;

  /// Items have gone that may have been granted.
  void withdraw() noexcept;

  /// Throws: Closed if nothing more can be sent.
  void require_open() const {
    if (closed()) throw_failure(state_);
  }
  [[noreturn]] static void throw_failure(Passage why);

  std::size_t available() const noexcept { return count_ + offered_; }

  // How many items the buffer holds, and how many it takes: its capacity, or
  // 0 once the channel is closed.
  std::size_t count_ = 0;
  std::size_t limit_;

  // Senders in line, each of which offers an item. There are some only while
  // the buffer is full, and none once the channel is closed.
  List<ChannelEvent, ChannelEvent> senders_;

 private:
  friend class ChannelEvent;
  friend class ChannelHandle;
  template <class>
  friend class ChannelSendEvent;
  template <class>
  friend class ChannelRecvEvent;

  void close(Passage why) noexcept;
  void leave_senders(ChannelEvent& sender) noexcept;
  void leave_receivers(ChannelEvent& receiver) noexcept;
  void grant_next() noexcept;
  void end_receivers() noexcept;
  static void dismiss(ChannelEvent& event, Passage why) noexcept;

  // Receivers in line, in the order in which they came. The first granted_ of
  // them have a grant; next_ is the one behind these, null if there is none.
  // Never more than available() are granted, and while somebody is next
  // exactly as many. Once the channel is closed and empty, nobody is in line.
  List<ChannelEvent, ChannelEvent> receivers_;
  ChannelEvent* next_ = nullptr;
  std::size_t granted_ = 0;

  std::size_t offered_ = 0;  // how many senders_ there are
  const std::size_t capacity_;
  Passage state_ = Passage::kNone;  // why nothing can be sent any more

  List<ChannelEvent, ChannelEvent> standing_by_;
  List<ChannelHandle, ChannelHandle> sender_handles_;
  List<ChannelHandle, ChannelHandle> receiver_handles_;
};

template <class T>
class [[nodiscard]] ChannelSendEvent final : public ChannelEvent {
 public:
  template <class U>
  ChannelSendEvent(Channel<T>& channel,
                   U&& item) noexcept(std::is_nothrow_constructible_v<T, U&&>)
      : ChannelEvent(channel), item_(std::forward<U>(item)) {}
  ChannelSendEvent(ChannelSendEvent&& other) noexcept
      : ChannelEvent(std::move(other)), item_(std::move(other.item_)) {}

  bool attempt() noexcept override {
    if (!fresh() && !stops_standing_by()) return passage() != Passage::kInLine;
    if (!channel().has_room()) return channel().enter_senders(*this);
    channel().put(std::move(item_));
    return true;
  }
  void undo() noexcept override {
    if (in_list() && !stops_standing_by()) channel().leave_senders(*this);
  }
  /// See internal::offers().
  bool offers_item() const noexcept {
    return passage() == Passage::kInLine && channel_->capacity() == 0;
  }
  void describe(Description& out) const override { describe_line("send", out); }
  void result() const {
    if (failed()) [[unlikely]]
      ChannelCore::throw_failure(passage());
  }

 private:
  friend class Channel<T>;
  Channel<T>& channel() const noexcept {
    return static_cast<Channel<T>&>(*channel_);
  }

  T item_;  // the job's own until it is accepted
};

template <class T>
class [[nodiscard]] ChannelRecvEvent final : public ChannelEvent {
 public:
  explicit ChannelRecvEvent(Channel<T>& channel) noexcept
      : ChannelEvent(channel) {}
  ChannelRecvEvent(ChannelRecvEvent&& other) noexcept
      : ChannelEvent(std::move(other)) {}

  bool attempt() noexcept override {
    if (passage() == Passage::kGranted) channel().retire(*this);
    if (!fresh() && !stops_standing_by()) return passage() != Passage::kInLine;
    return channel().may_take_at_once() || channel().enter_receivers(*this);
  }
  void undo() noexcept override {
    if (in_list() && !stops_standing_by()) channel().leave_receivers(*this);
  }
  void describe(Description& out) const override {
    describe_line("receive", out);
  }

  // The item is taken here: attempt() has made sure that there is one, and
  // nothing happens between the two.
  std::optional<T> result() {
    if (failed()) [[unlikely]]
      return nothing();
    return channel().take();
  }

 private:
  Channel<T>& channel() const noexcept {
    return static_cast<Channel<T>&>(*channel_);
  }
  std::optional<T> nothing() const {
    if (passage() == Passage::kDestroyed) ChannelCore::throw_failure(passage());
    return std::nullopt;
  }
};

/// A handle that keeps a channel open for sending. Copies count, too: when
/// the last of all that were ever made goes, the channel is closed.
///
/// Use: hand one to each producer, and keep none; then the consumers end by
/// themselves. Make all before the first can go, or that closes the channel.
template <class T>
class Sender final : private ChannelHandle {
 public:
  explicit Sender(Channel<T>& channel) noexcept
      : ChannelHandle(&channel, Side::kSending) {}

  /// As the same of the channel. Throws: Misuse if that is gone.
  ChannelSendEvent<T> send(T&& item) const {
    return channel().send(std::move(item));
  }
  ChannelSendEvent<T> send(const T& item) const
    requires std::copy_constructible<T>
  {
    return channel().send(item);
  }
  bool try_send(T&& item) const { return channel().try_send(std::move(item)); }
  bool try_send(const T& item) const
    requires std::copy_constructible<T>
  {
    return channel().try_send(item);
  }
  void close() const { channel().close(); }
  bool closed() const { return channel().closed(); }
  std::size_t size() const { return channel().size(); }
  std::size_t capacity() const { return channel().capacity(); }

 private:
  Channel<T>& channel() const {
    return static_cast<Channel<T>&>(ChannelHandle::channel());
  }
};

/// A handle that says that somebody receives. When the last of all that were
/// ever made goes, senders get Closed; what is in the channel stays there.
template <class T>
class Receiver final : private ChannelHandle {
 public:
  explicit Receiver(Channel<T>& channel) noexcept
      : ChannelHandle(&channel, Side::kReceiving) {}

  /// As the same of the channel. Throws: Misuse if that is gone.
  ChannelRecvEvent<T> recv() const { return channel().recv(); }
  std::optional<T> try_recv() const { return channel().try_recv(); }
  std::vector<T> drain() const { return channel().drain(); }
  void close() const { channel().close(); }
  bool closed() const { return channel().closed(); }
  std::size_t size() const { return channel().size(); }
  std::size_t capacity() const { return channel().capacity(); }

 private:
  Channel<T>& channel() const {
    return static_cast<Channel<T>&>(ChannelHandle::channel());
  }
};

/// Items of type T on their way from jobs to jobs of one thread.
///
/// Use: `while (auto item = co_await channel.recv()) ...`
/// Lifetime: outlives its handles and the jobs that use it. One that is
/// destroyed earlier gives those that wait Misuse.
/// Cost: one allocation when it is made (none for a capacity of 0), and none
/// for an item or a wait.
template <class T>
class Channel final : public ChannelCore {
  static_assert(std::is_object_v<T> && std::is_nothrow_move_constructible_v<T>,
                "violet: the items of a channel move from job to job, and that "
                "must not fail: mark their move constructor noexcept, or send "
                "std::unique_ptr<T>");
  static_assert(alignof(T) <= FramePool::kStepBytes,
                "violet: the items of a channel cannot be over-aligned: send "
                "std::unique_ptr<T>");

 public:
  /// Takes `capacity` items without a receiver. With 0 a sender waits until
  /// a receiver has taken its item.
  /// Throws: std::bad_alloc.
  explicit Channel(std::size_t capacity)
      : ChannelCore(capacity),
        first_place_(capacity == 0 ? nullptr
                                   : std::allocator<T>().allocate(capacity)),
        end_of_places_(first_place_ + capacity) {}

  ~Channel() {
    dismiss_everyone();
    for (; count_ > 0; --count_)
      std::destroy_at(std::exchange(head_, after(head_)));
    if (first_place_ != nullptr) {
      std::allocator<T>().deallocate(first_place_, capacity());
    }
  }

  /// Sends one item. What is written as a temporary in the call is moved.
  /// Suspends: until the item is in the buffer, or with a receiver.
  /// Throws: Closed if nothing can be sent any more, also if that comes while
  /// it waits; the item was not accepted then. Misuse if the channel is
  /// destroyed meanwhile.
  /// Kill: the item is either accepted, and arrives once, or dies with the
  /// sender. So also where a limit ends the wait.
  ChannelSendEvent<T> send(T&& item) noexcept {
    static_assert(kMayBeTemporary,
                  "violet: on this compiler an aggregate must have a name "
                  "before it is sent, and is copied: Item item{..}; co_await "
                  "channel.send(item); to have it moved, give its type a "
                  "constructor");
    return ChannelSendEvent<T>(*this, std::move(item));
  }
  ChannelSendEvent<T> send(const T& item)
    requires std::copy_constructible<T>
  {
    return ChannelSendEvent<T>(*this, item);
  }

  /// Receives one item.
  /// Suspends: until there is one that is not for a receiver further ahead.
  /// Returns: the item; nothing once the channel is closed and empty.
  /// Throws: Misuse if the channel is destroyed meanwhile.
  /// Kill: no item has been taken; the next in line gets it.
  ChannelRecvEvent<T> recv() noexcept { return ChannelRecvEvent<T>(*this); }

  /// Sends without waiting; never possible with a capacity of 0.
  /// Returns: false if the buffer is full; the item is untouched then.
  /// Throws: Closed.
  bool try_send(T&& item) { return try_put(std::move(item)); }
  bool try_send(const T& item)
    requires std::copy_constructible<T>
  {
    return try_put(item);
  }

  /// Receives without waiting. Returns: nothing if there is no item, or only
  /// such as receivers in line will get.
  std::optional<T> try_recv() noexcept {
    return may_take() ? take() : std::nullopt;
  }

  /// Takes everything that is there now, also from the senders in line,
  /// whose sends complete with that. Receivers in line go on waiting.
  /// Throws: std::bad_alloc; nothing is taken then.
  std::vector<T> drain() {
    std::vector<T> items;
    items.reserve(available());
    while (available() > 0) items.push_back(*take());
    withdraw();
    return items;
  }

  /// New handles; see there.
  Sender<T> sender() noexcept { return Sender<T>(*this); }
  Receiver<T> receiver() noexcept { return Receiver<T>(*this); }

 private:
  friend class ChannelSendEvent<T>;
  friend class ChannelRecvEvent<T>;

  // g++ before 13 destroys an aggregate twice if it is written inside a
  // co_await expression (PR 107288).
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
  static constexpr bool kMayBeTemporary =
      !std::is_aggregate_v<T> || std::is_trivially_destructible_v<T>;
#else
  static constexpr bool kMayBeTemporary = true;
#endif

  T* after(T* place) const noexcept {
    return ++place == end_of_places_ ? first_place_ : place;
  }

  /// There is room.
  template <class U>
  void put(U&& item) noexcept(std::is_nothrow_constructible_v<T, U&&>) {
    std::construct_at(tail_, std::forward<U>(item));
    tail_ = after(tail_);
    added();
  }

  template <class U>
  bool try_put(U&& item) {
    if (!has_room()) {
      require_open();
      return false;
    }
    put(std::forward<U>(item));
    return true;
  }

  /// There is an item, in the buffer or with a sender.
  std::optional<T> take() noexcept {
    if (count_ == 0) return take_from_sender();
    std::optional<T> item(std::move(*head_));
    std::destroy_at(head_);
    head_ = after(head_);
    senders_.empty() ? removed() : let_in();
    return item;
  }

  std::optional<T> take_from_sender() noexcept {
    if (senders_.empty()) fatal("a channel has granted what is not there");
    auto& sender = static_cast<ChannelSendEvent<T>&>(senders_.front());
    std::optional<T> item(std::move(sender.item_));
    accept(sender);
    return item;
  }

  /// The ring was full, and the place that has become free belongs to the
  /// first sender in line: it is full again, one place further around.
  void let_in() noexcept {
    auto& sender = static_cast<ChannelSendEvent<T>&>(senders_.front());
    std::construct_at(tail_, std::move(sender.item_));
    tail_ = head_;
    accept(sender);
  }

  // The ring. Items lie from head_ on, up to tail_; both go around.
  T* const first_place_;
  T* const end_of_places_;
  T* head_ = first_place_;
  T* tail_ = first_place_;
};

}  // namespace violet
