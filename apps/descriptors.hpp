// descriptors.hpp - for a program that knows how many descriptors it needs.
// SPDX-License-Identifier: MIT
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "../runtime/error.hpp"

/// Makes sure that `count` more descriptors can be open at a time: better
/// refused at the start than halfway. Raises the soft limit, where the hard one
/// allows it; see getrlimit(2).
/// Throws: std::system_error, which says what to do.
inline void need_descriptors(rlim_t count) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int next = ::dup(2);  // the lowest that is free
  if (next >= 0) ::close(next);
  const rlim_t open = next < 0 ? limit.rlim_cur : static_cast<rlim_t>(next);
  const rlim_t needed = open + count;
  if (limit.rlim_cur >= needed) return;
  const rlim_t most = limit.rlim_max;
  limit.rlim_cur = std::min(needed, most);
  if (needed <= most && ::setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
  violet::throw_system(EMFILE,
                       violet::concat({needed,
                                       " descriptors are needed, and the limit "
                                       "is ",
                                       most, " (raise it with ulimit -n)"}));
}
