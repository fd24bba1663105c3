// frames.cpp - where frames get their memory.
// SPDX-License-Identifier: MIT
#include "frames.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <utility>

#include "sys.hpp"

namespace violet {

namespace {

constexpr std::size_t kChunkBytes = 64 * 1024;

/// Returns the pool's chunks when its thread ends.
struct PoolKeeper {
  ~PoolKeeper() { frame_pool.release(); }
  void arm() const noexcept {}
};
thread_local PoolKeeper pool_keeper;

}  // namespace

void* FramePool::take_fresh(std::size_t size_class, SameLibrary) {
  const std::size_t bytes = size_class * kStepBytes;
  const bool pooled = kPooled && size_class < kClasses && !singly_;
  if (pooled && free_[size_class] != nullptr) {
    return std::exchange(free_[size_class], free_[size_class]->next);
  }
  void* memory = pooled ? carve(bytes) : sys::calls->allocate(bytes);
  if (memory == nullptr) throw_out_of_memory();
  ++made_;
  return memory;
}

// The rest of a chunk that is too small is left; a chunk holds hundreds of
// frames, so little is lost.
void* FramePool::carve(std::size_t bytes) {
  const std::size_t start =
      bytes < kCacheLineBytes ? kStepBytes : kCacheLineBytes;
  if (std::align(start, bytes, rest_, rest_bytes_) == nullptr) {
    if (!add_chunk()) return nullptr;
    std::align(start, bytes, rest_, rest_bytes_);
  }
  rest_bytes_ -= bytes;
  return std::exchange(rest_, static_cast<char*>(rest_) + bytes);
}

bool FramePool::add_chunk() {
  void* memory = sys::calls->allocate(kChunkBytes);
  if (memory == nullptr) return false;
  pool_keeper.arm();
  chunks_ = ::new (memory) Free{chunks_};
  rest_ = static_cast<char*>(memory) + kStepBytes;
  rest_bytes_ = kChunkBytes - kStepBytes;
  return true;
}

void FramePool::give_back_fresh(void* memory, std::size_t size_class) noexcept {
  if (kPooled && size_class < kClasses && !singly_) {
    return keep(memory, size_class);
  }
  std::free(memory);
  if (--made_ == 0) singly_ = wanted_singly_;
}

std::size_t FramePool::live() const noexcept {
  std::size_t free = 0;
  for (const Free* block : free_) {
    for (; block != nullptr; block = block->next) ++free;
  }
  return made_ - free;
}

// A frame or job that outlives its thread keeps all chunks alive: they are
// left to the system rather than freed under its feet.
void FramePool::release() noexcept {
  if (live() != 0) return;
  while (Free* chunk = chunks_) {
    chunks_ = chunk->next;
    std::free(chunk);
  }
  std::fill(std::begin(free_), std::end(free_), nullptr);
  made_ = 0;
  rest_ = nullptr;
  rest_bytes_ = 0;
}

bool FramePool::stop_pooling() noexcept {
  release();
  if (made_ != 0) return false;
  singly_ = wanted_singly_ = true;
  return true;
}

void FramePool::resume_pooling() noexcept {
  wanted_singly_ = false;
  if (made_ == 0) singly_ = false;
}

}  // namespace violet
