/* close.c - libkqueue closes its own descriptors later, in a thread.
 *
 * A kqueue(2) is one descriptor, and close(2) ends it at once. libkqueue opens
 * several for it, and closes them when a thread of its own notices.
 *
 * Exits with 0 where no descriptor is left after the close, with 1 otherwise.
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/event.h>
#include <unistd.h>

static int open_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) != -1;
  return count;
}

int main(void) {
  const int before = open_descriptors();
  close(kqueue());
  const int after = open_descriptors();
  printf("%d before, %d after\n", before, after);
  return after == before ? 0 : 1;
}
