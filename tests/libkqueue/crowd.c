/* crowd.c - libkqueue loses news when more is ready than kevent(2) can return.
 *
 * What does not fit into the event list comes with the next call. libkqueue
 * takes an edge (EV_CLEAR) from the system that stands for two filters, reading
 * and writing, and drops the second when there is no room left for it.
 *
 * Exits with 0 where all news arrive, with 1 where some are lost.
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kPairs = 100, kRoom = 64 };

int main(void) {
  const struct timespec now = {0, 0};
  const int queue = kqueue();
  for (int i = 0; i < kPairs; ++i) {
    int ends[2];
    struct kevent both[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    EV_SET(&both[0], ends[0], EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, NULL);
    EV_SET(&both[1], ends[0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, NULL);
    kevent(queue, both, 2, NULL, 0, NULL);
    write(ends[1], "x", 1);
  }
  int reads = 0;
  int writes = 0;
  for (int call = 0; call < 100; ++call) {
    struct kevent events[kRoom];
    const int count = kevent(queue, NULL, 0, events, kRoom, &now);
    for (int i = 0; i < count; ++i) {
      reads += events[i].filter == EVFILT_READ;
      writes += events[i].filter == EVFILT_WRITE;
    }
  }
  printf("%d of %d readable, %d of %d writable\n", reads, kPairs, writes, kPairs);
  return reads == kPairs && writes == kPairs ? 0 : 1;
}
