// connection.hpp - a stream socket, TCP or unix.
//
// Sending is attempted at once. Receiving waits for an edge first where there
// is most likely nothing yet: on a fresh connection, and after a short read.
// So a busy connection costs one system call for each operation and no more.
//
// Two ways to receive. `recv(buffer)` fills the caller's memory. `recv()`
// lends a buffer from the thread's pool once there is something to put in
// it, and takes it back with the Chunk, so a connection that waits holds
// none: ten thousand idle clients cost no buffers.
//
// Built on: address, socket, runtime/slots. See: tcp(7), unix(7).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "../runtime/events.hpp"
#include "address.hpp"

namespace violet {

class Connection;

namespace internal {

/// Buffers that a thread's connections lend out in turn. One free buffer is at
/// hand, so that the busy one stays in the cache; a few more are kept, since
/// more are in use only while peers do not read what they are sent.
class BufferPool {
 public:
  static constexpr std::size_t kBytes = 64 * 1024;

  /// Returns: kBytes of memory, null if there is none.
  char* take() noexcept {
    char* buffer = std::exchange(at_hand_, nullptr);
    return buffer != nullptr ? buffer : take_more();
  }

  void give_back(char* buffer) noexcept {
    if (at_hand_ != nullptr) return keep(buffer);
    at_hand_ = buffer;
  }

  /// Frees what is kept; called when the thread ends.
  void clear() noexcept;

  /// The buffer that an attempt has just filled. The event's result, which
  /// follows at once, takes it: a waiting event is so much smaller.
  char* filled = nullptr;

 private:
  static constexpr int kMostKept = 16;

  char* take_more() noexcept;
  void keep(char* buffer) noexcept;

  char* at_hand_ = nullptr;
  char* kept_[kMostKept] = {};
  int kept_count_ = 0;
};
inline constinit thread_local BufferPool buffer_pool;

/// Pauses between two tries of what a unix peer that is behind has no room
/// for: nobody tells when it has. Each is twice as long, up to 64 ms.
class Retry {
 public:
  Retry() noexcept {}
  Retry(Retry&&) noexcept {}  // it moves only before the first

  /// True until the pause is over.
  bool pauses() const noexcept { return timer_.active(); }

  /// Begins a pause of this job. Returns: false if there is no memory.
  bool pause(Stack& job) noexcept;
  void stop(Stack& job) noexcept;

 private:
  Timer timer_;
  Duration next_ = std::chrono::milliseconds(1);
};

}  // namespace internal

/// Bytes that were received, in a lent buffer. Empty at the end of stream.
/// Lifetime: the bytes are valid as long as the chunk; it stays in the thread
/// that received it.
class Chunk {
 public:
  Chunk() noexcept {}
  Chunk(char* buffer, std::size_t size) noexcept
      : buffer_(buffer), size_(size) {}
  Chunk(Chunk&& other) noexcept
      : buffer_(std::exchange(other.buffer_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Chunk& operator=(Chunk&& other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Chunk() {
    if (buffer_ != nullptr) internal::buffer_pool.give_back(buffer_);
  }

  const char* data() const noexcept { return buffer_; }
  std::size_t size() const noexcept { return size_; }
  std::string_view view() const noexcept { return {buffer_, size_}; }
  operator std::string_view() const noexcept { return view(); }

  /// False at the end of the stream.
  explicit operator bool() const noexcept { return size_ > 0; }

 private:
  char* buffer_ = nullptr;  // the pool's
  std::size_t size_ = 0;
};

/// What the events on connections share.
class SocketEvent : public SlotEvent {
 public:
  int error() const noexcept { return error_; }

 protected:
  /// For idle(): nothing has come that is not answered, read or not.
  bool awaits_request() const noexcept;

  explicit SocketEvent(Slot* slot) noexcept : SlotEvent(slot) {}
  SocketEvent(SocketEvent&&) noexcept = default;
  ~SocketEvent() = default;

  [[noreturn]] void throw_error(const char* call) const;
  void describe_as(const char* call, Description& out) const;
};

class [[nodiscard]] RecvEvent : public SocketEvent {
 public:
  RecvEvent(Slot* slot, std::span<char> buffer) noexcept
      : SocketEvent(slot), buffer_(buffer) {}
  bool attempt() noexcept override;
  void undo() noexcept override { undo_claim(Direction::kRead); }

  /// Before an attempt: has it fill another buffer.
  void fill(std::span<char> buffer) noexcept { buffer_ = buffer; }

  bool idle() const noexcept override { return awaits_request(); }
  void describe(Description& out) const override { describe_as("recv", out); }
  std::size_t value() const noexcept { return got_; }
  std::size_t result() const {
    if (error_ != 0) throw_error("recv");
    return got_;
  }

 private:
  std::span<char> buffer_;  // the caller's
  std::size_t got_ = 0;
};

/// Until it completes, word_ is the slot's generation, as in all SlotEvents;
/// then it is the number of bytes, for nobody attempts it any more.
class [[nodiscard]] RecvChunkEvent : public SocketEvent {
 public:
  explicit RecvChunkEvent(Slot* slot) noexcept : SocketEvent(slot) {}
  bool attempt() noexcept override {
    return may_try<Direction::kRead>() ? receive_chunk()
                                       : wait_for_edge<Direction::kRead>();
  }
  void undo() noexcept override { undo_claim(Direction::kRead); }
  bool idle() const noexcept override { return awaits_request(); }
  void describe(Description& out) const override { describe_as("recv", out); }
  Chunk value() const noexcept {
    char* buffer = std::exchange(internal::buffer_pool.filled, nullptr);
    return buffer == nullptr ? Chunk() : Chunk(buffer, word_);
  }
  Chunk result() const {
    if (error_ != 0) throw_error("recv");
    return value();
  }

 private:
  bool receive_chunk() noexcept;
  bool received_none(char* buffer, ssize_t count) noexcept;
};

/// send() and sendall(), which differ in one condition.
template <bool kAll>
class [[nodiscard]] BasicSendEvent : public SocketEvent {
 public:
  BasicSendEvent(Slot* slot, std::string_view data) noexcept
      : SocketEvent(slot), data_(data) {}
  bool attempt() noexcept override {
    if (data_.empty()) return true;
    return may_try<Direction::kWrite>() ? send_now()
                                        : wait_for_edge<Direction::kWrite>();
  }
  void undo() noexcept override { undo_claim(Direction::kWrite); }
  void describe(Description& out) const override;
  std::size_t value() const noexcept { return sent_; }
  std::size_t result() const {
    if (error_ != 0) throw_error(kAll ? "sendall" : "send");
    return sent_;
  }

 private:
  bool send_now() noexcept;
  ssize_t send_on(int fd, ssize_t count) noexcept;

  std::string_view data_;  // the caller's
  std::size_t sent_ = 0;
};

using SendEvent = BasicSendEvent<false>;
using SendAllEvent = BasicSendEvent<true>;

class [[nodiscard]] ConnectEvent : public SocketEvent {
 public:
  explicit ConnectEvent(const Address& address) noexcept
      : SocketEvent(nullptr), address_(address) {}
  ConnectEvent(ConnectEvent&&) noexcept = default;
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override {
    out.text = concat({"connect ", address_.text()});
  }
  Connection value() noexcept;
  Connection result();

 private:
  bool begin_connecting() noexcept;

  Address address_;
  Descriptor descriptor_;  // closed if the wait is undone
  internal::Retry retry_;  // while the backlog of a unix peer is full
};

/// Which directions shutdown() ends.
enum class Half : std::uint8_t { kReceiving, kSending, kBoth };

/// A connected stream socket. Move-only; closes with its last owner.
/// Belongs to the thread that made it.
class Connection {
 public:
  /// A connection that is closed.
  Connection() noexcept {}

  /// Takes over a connected socket, for instance one of a socketpair(2).
  /// Throws: std::system_error.
  explicit Connection(Fd socket);
  explicit Connection(Descriptor descriptor) noexcept
      : descriptor_(std::move(descriptor)) {}

  /// Receives what is there, in a lent buffer of up to 64 KiB.
  /// Suspends: until something is there.
  /// Returns: a Chunk, false at the end of the stream.
  /// Throws: std::system_error; Misuse if another job receives already.
  /// Kill: no byte has been consumed.
  RecvChunkEvent recv() const noexcept {
    return RecvChunkEvent(descriptor_.slot());
  }
  Coded<RecvChunkEvent> recv(std::error_code& code) const noexcept {
    return Coded<RecvChunkEvent>(recv(), code);
  }

  /// Receives what is there into `buffer`, up to its size.
  /// Suspends, Throws, Kill: as recv().
  /// Returns: the number of bytes; 0 at the end of the stream, or for an
  /// empty buffer.
  /// Lifetime: the buffer outlives the wait.
  RecvEvent recv(std::span<char> buffer) const noexcept {
    return RecvEvent(descriptor_.slot(), buffer);
  }
  Coded<RecvEvent> recv(std::span<char> buffer,
                        std::error_code& code) const noexcept {
    return Coded<RecvEvent>(recv(buffer), code);
  }

  /// Sends as much of `data` as the system takes at once.
  /// Suspends: while it takes nothing.
  /// Returns: the number of bytes, at least 1 unless `data` is empty.
  /// Throws: std::system_error; Misuse if another job sends already.
  /// Kill: no byte has been sent.
  SendEvent send(std::string_view data) const noexcept {
    return SendEvent(descriptor_.slot(), data);
  }
  Coded<SendEvent> send(std::string_view data,
                        std::error_code& code) const noexcept {
    return Coded<SendEvent>(send(data), code);
  }

  /// Sends all of `data`.
  /// Suspends: whenever the system takes no more.
  /// Returns: the number of bytes sent: all of them, unless the error_code
  /// form reports an error.
  /// Throws: std::system_error; Misuse if another job sends already.
  /// Kill: some of it may have been sent; sent_bytes() tells.
  SendAllEvent sendall(std::string_view data) const noexcept {
    return SendAllEvent(descriptor_.slot(), data);
  }
  SendAllEvent sendall(const Chunk& chunk) const noexcept {
    return sendall(chunk.view());
  }
  Coded<SendAllEvent> sendall(std::string_view data,
                              std::error_code& code) const noexcept {
    return Coded<SendAllEvent>(sendall(data), code);
  }

  /// Ends one direction: after kSending the peer reads the end of stream.
  /// Throws: std::system_error.
  void shutdown(Half half) const;
  void shutdown(Half half, std::error_code& code) const noexcept;

  /// Closes now. A job that waits on it gets bad_file_descriptor.
  void close() noexcept { descriptor_.close(); }

  /// True until close(), and false once moved from.
  explicit operator bool() const noexcept { return bool(descriptor_); }

  /// The other end, known even after it has reset the connection.
  Address peer() const;

  /// Our own end. Throws: std::system_error.
  Address local() const;

  /// Bytes that the system has taken from us since the connection began.
  std::uint64_t sent_bytes() const noexcept {
    const Slot* slot = descriptor_.slot();
    return slot == nullptr ? 0 : slot->sent_bytes;
  }

  /// Those of them that the peer's system has taken in turn, as far as ours
  /// tells: they grow while the peer takes something, though there may be no
  /// room to send more for long.
  std::uint64_t taken_bytes() const noexcept {
    const std::int64_t unsent = sys::file_calls->unsent(fd());
    return sent_bytes() - static_cast<std::uint64_t>(unsent > 0 ? unsent : 0);
  }

  /// The descriptor, still owned by the connection; -1 if it is closed.
  int fd() const noexcept { return descriptor_.fd(); }

  /// What the events of other files are made of.
  const Descriptor& descriptor() const noexcept { return descriptor_; }

 private:
  Descriptor descriptor_;
};

/// Ends the stream, and drops what still comes until the peer has ended it,
/// too. Whoever closes with bytes unread resets the connection, and what was
/// said last may be lost; so this stands between a refusal and the end.
/// Suspends: for as long as the peer sends: put a limit around it.
/// Throws: std::system_error.
Task<> take_leave(const Connection& conn);

/// Connects a TCP or unix socket.
/// Suspends: until the peer has answered; also while the backlog of a unix
/// peer is full.
/// Returns: a Connection.
/// Throws: std::system_error "connect 127.0.0.1:4915: Connection refused".
/// Kill: the socket is closed.
inline ConnectEvent connect(const Address& address) noexcept {
  return ConnectEvent(address);
}
inline Coded<ConnectEvent> connect(const Address& address,
                                   std::error_code& code) noexcept {
  return Coded<ConnectEvent>(ConnectEvent(address), code);
}

/// Two connected unix sockets. Throws: std::system_error.
std::pair<Connection, Connection> connected_pair();

namespace internal {

/// A slot for a connected socket whose peer is known.
/// Throws: std::bad_alloc, unless Slots::prepare() said otherwise.
Slot& open_connection(Fd socket, const Address& peer);

/// Notes in a slot whom its socket is connected to.
void note_peer(Slot& slot, const Address& peer) noexcept;

/// The peer that is noted there.
Address noted_peer(const Slot& slot) noexcept;

}  // namespace internal

}  // namespace violet
