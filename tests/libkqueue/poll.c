/* poll.c - libkqueue's descriptor cannot be polled.
 *
 * kqueue(2) returns a descriptor that poll(2) calls readable while events are
 * pending. libkqueue returns one end of a pipe, of which poll(2) knows nothing.
 *
 * Exits with 0 where the descriptor is readable, with 1 where it is not.
 * SPDX-License-Identifier: MIT
 */
#include <poll.h>
#include <stdio.h>
#include <sys/event.h>
#include <sys/types.h>
#include <unistd.h>

int main(void) {
  int ends[2];
  pipe(ends);
  const int queue = kqueue();
  struct kevent event;
  EV_SET(&event, ends[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
  kevent(queue, &event, 1, NULL, 0, NULL);
  write(ends[1], "x", 1);
  struct pollfd foreign = {queue, POLLIN, 0};
  const int ready = poll(&foreign, 1, 1000);
  printf("poll: %d, revents: %#x\n", ready, (unsigned)foreign.revents);
  return ready == 1 && (foreign.revents & POLLIN) != 0 ? 0 : 1;
}
