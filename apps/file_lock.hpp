// file_lock.hpp - the lock of a file, as long as that has its name.
//
// Locks tell servers in several processes what is in use. A process number
// would not: in containers all have the same, and it lives on after a crash.
// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>

#include "../runtime/sys.hpp"

/// Takes the flock(2) of an open file, until that is closed. Who had it before
/// may have removed or replaced the file meanwhile. Blocks, but not for it.
/// Returns: 0; -EWOULDBLOCK if another has it; -ESTALE if the path stands for
/// another file by now, or for none; or another negated error number.
inline int lock_named(int fd, const char* path) noexcept {
  namespace sys = violet::sys;
  sys::FileStatus mine;
  sys::FileStatus named;
  const int locked = sys::file_calls->lock(fd);
  if (locked < 0) return locked;
  const int known = sys::file_calls->status(fd, mine);
  if (known < 0) return known;
  const int found = sys::file_calls->status_at(path, named);
  if (found < 0 && found != -ENOENT) return found;
  return found == 0 && mine.number == named.number ? 0 : -ESTALE;
}
