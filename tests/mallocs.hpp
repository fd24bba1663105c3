// mallocs.hpp - how often this thread asks malloc(3), operator new included,
// and a way to have it refuse.
//
// Whichever test file includes this brings the malloc of the whole program;
// all bring the same. The sanitizers have their own, which find more than a
// count does, and libkqueue takes memory as it likes. VIOLET_COUNTS_MALLOC
// tells whether there is one.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(__GLIBC__) && !defined(VIOLET_KQUEUE) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define VIOLET_COUNTS_MALLOC
#elif !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define VIOLET_COUNTS_MALLOC
#endif
#endif

#ifdef VIOLET_COUNTS_MALLOC
namespace support {
inline constinit thread_local long mallocs = 0;
inline constinit thread_local bool no_memory = false;
}  // namespace support
extern "C" void* __libc_malloc(std::size_t size);
extern "C" [[gnu::weak]] void* malloc(std::size_t size) {
  ++support::mallocs;
  return support::no_memory ? nullptr : __libc_malloc(size);
}
#endif
