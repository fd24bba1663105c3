// frames.hpp - suspended coroutine bodies, and the stacks they form.
//
// The idea: a job is a stack of frames. A call pushes one, a return pops one,
// and the scheduler only ever resumes the one on top. The compiler gives us
// the frames but no stack; this file is the stack: each frame knows its
// caller, and the stack knows its top. No frame ever resumes another one, so
// the native stack does not grow however deep the calls go.
//
// Frames come from free lists, one for each size in steps of 16 bytes, since
// programs make and drop frames of few sizes very often. Under
// AddressSanitizer they come from malloc, so that a use after free is seen.
//
// Built on: sys, error. See: [dcl.fct.def.coroutine] of the C++ standard.
// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <new>
#include <source_location>

#include "error.hpp"

namespace violet {

class Event;

/// A source location as the compiler passes it: one pointer to static data.
/// A std::source_location parameter would be the same 8 bytes, but g++ keeps
/// a copy of it in the frame for every await.
using Line = decltype(__builtin_source_location());

inline std::source_location location_of(Line line) noexcept {
  return std::bit_cast<std::source_location>(line);
}

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kPooled = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kPooled = false;
#else
inline constexpr bool kPooled = true;
#endif
#else
inline constexpr bool kPooled = true;
#endif

/// What the processor fetches at a time. Larger things start on one, so that
/// thousands of them in turn cost no more fetches than they must.
inline constexpr std::size_t kCacheLineBytes = 64;

/// Free lists of one thread. Memory that was taken for one size is used again
/// for that size only, and goes back to the system when the thread ends.
class FramePool {
 public:
  static constexpr std::size_t kStepBytes = 16;
  static constexpr std::size_t kClasses = 129;  // up to 2 KiB; above: malloc

  /// Returns: memory aligned for anything that is not over-aligned.
  /// Throws: std::bad_alloc.
  void* take(std::size_t bytes) {
    const std::size_t size_class = (bytes + kStepBytes - 1) / kStepBytes;
    if (kPooled && size_class < kClasses) {
      if (Free* block = free_[size_class]) {
        free_[size_class] = block->next;
        return block;
      }
    }
    return take_fresh(size_class, SameLibrary());
  }

  /// Takes back what take(bytes) gave, on the same thread.
  void give_back(void* memory, std::size_t bytes) noexcept {
    const std::size_t size_class = (bytes + kStepBytes - 1) / kStepBytes;
    if (!kPooled || size_class >= kClasses || singly_) {
      return give_back_fresh(memory, size_class);
    }
    keep(memory, size_class);
  }

  /// Blocks now in use; for tests and statistics. Cost: counts the free ones.
  std::size_t live() const noexcept;

  /// Returns all memory to the system if none of it is in use.
  void release() noexcept;

  /// From now on every block is asked for by itself (sys::Calls::allocate)
  /// and freed by itself, so that a test can refuse any of them.
  /// Returns: false, and goes on pooling, while blocks are in use: they must
  /// go back where they came from.
  bool stop_pooling() noexcept;

  /// Pools again, from the moment when no block is in use.
  void resume_pooling() noexcept;
  bool pooling() const noexcept { return !wanted_singly_; }

 private:
  struct Free {
    Free* next;
  };

  void keep(void* memory, std::size_t size_class) noexcept {
    free_[size_class] = ::new (memory) Free{free_[size_class]};
  }

  // The library decides what is pooled: a program that is compiled for
  // AddressSanitizer may be linked to one that is not.
  // As every coroutine comes here, the second parameter has the linker refuse
  // a program with exceptions and a library without, or the other way round.
  void* take_fresh(std::size_t size_class, SameLibrary);
  void* carve(std::size_t bytes);
  bool add_chunk();
  void give_back_fresh(void* memory, std::size_t size_class) noexcept;

  // Each block comes and goes by itself, so that the lists stay empty, and no
  // take() needs to ask. Changes only while made_ is 0; wanted_singly_ says
  // what it is to be then.
  bool singly_ = false;
  bool wanted_singly_ = false;

  Free* free_[kClasses] = {};
  std::size_t made_ = 0;  // blocks carved or allocated, and not freed since

  // The unused rest of the newest chunk, and all chunks, newest first.
  void* rest_ = nullptr;
  std::size_t rest_bytes_ = 0;
  Free* chunks_ = nullptr;
};

/// The pool of this thread. Plain data without a destructor: a handle in a
/// static variable may still give memory back after the thread's own
/// destructors have run.
inline constinit thread_local FramePool frame_pool;

/// One suspended coroutine body: the base of every promise.
///
/// Invariant: it is the first base of its promise and no promise is aligned
/// beyond 16 bytes, so that handle() finds the coroutine from the base alone.
struct Frame {
  Frame* caller = nullptr;  // who gets the result; null in a job's root
  Line line = {};           // the await that this frame is in

  std::source_location where() const noexcept {
    return line ? location_of(line) : std::source_location();
  }

  std::coroutine_handle<Frame> handle() noexcept {
    return std::coroutine_handle<Frame>::from_promise(*this);
  }

  static void* operator new(std::size_t bytes) {
    return frame_pool.take(bytes);
  }
  static void operator delete(void* memory, std::size_t bytes) noexcept {
    frame_pool.give_back(memory, bytes);
  }
};

/// Has the processor fetch a frame that is resumed soon: among thousands none
/// is in its caches, and the first lines are all of most frames. (Were this a
/// call, g++ 12 would drop it as one without effect.)
[[gnu::always_inline]] inline void fetch_soon(Frame* frame) noexcept {
  if (frame == nullptr) return;
  const char* start = static_cast<const char*>(frame->handle().address());
  for (std::size_t at = 0; at < 3 * kCacheLineBytes; at += kCacheLineBytes) {
    __builtin_prefetch(start + at);
  }
}

/// What a stack of frames is doing. Whatever runs must leave kRunning before
/// it gives the processor back; the scheduler checks that it did. The order
/// matters: from kUnstarted on, the stack may be put off.
enum class Step : std::uint8_t {
  // On the processor.
  kRunning,
  kSwitched,  // a call or return: go on with the top
  kReturned,  // the root has returned or thrown
  // On its way out.
  kDying,  // its frames are being destroyed
  kEnded,  // no frame is left
  // Off the processor.
  kUnstarted,  // in the ready queue, its body not yet entered
  kReady,      // in the ready queue
  kWaiting,    // `event` will wake it
};

/// A stack of frames and what it waits for. Each is the base of a JobBlock
/// (job.hpp), which the scheduler relies on.
struct Stack {
  Frame* top = nullptr;    // the only frame that may be resumed
  Event* event = nullptr;  // attempted at its next step; null for a mere turn
  Step step = Step::kUnstarted;
  std::int8_t budget = 0;  // attempts left; none (0 or less): others first

  /// Leaves the processor until `wanted` completes; if its attempt has put the
  /// stack into the ready queue already, it stays there.
  void park(Event& wanted) noexcept {
    event = &wanted;
    if (step == Step::kRunning) step = Step::kWaiting;
  }
};

/// The stack on this thread's processor. Of meaning during a step only.
inline constinit thread_local Stack* running = nullptr;

}  // namespace violet
