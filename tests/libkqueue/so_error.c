/* so_error.c - libkqueue takes a socket's error away.
 *
 * kqueue(2): for EVFILT_READ and EVFILT_WRITE with EV_EOF the socket's error,
 * if any, is returned in fflags. It stays with the socket, where SO_ERROR or
 * the next recv(2) finds it. libkqueue asks SO_ERROR itself to fill in fflags,
 * which clears it: a refused connect(2) then looks like one that succeeded,
 * and a reset like an orderly end.
 *
 * Exits with 0 where the error is still there, with 1 where it is gone.
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(void) {
  /* A port where nobody listens: bound, but not listening. */
  struct sockaddr_in name;
  socklen_t size = sizeof name;
  memset(&name, 0, sizeof name);
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int bound = socket(AF_INET, SOCK_STREAM, 0);
  bind(bound, (struct sockaddr*)&name, size);
  getsockname(bound, (struct sockaddr*)&name, &size);

  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  connect(fd, (struct sockaddr*)&name, sizeof name);

  const int queue = kqueue();
  const struct timespec limit = {5, 0};
  struct kevent event;
  EV_SET(&event, fd, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, NULL);
  const int count = kevent(queue, &event, 1, &event, 1, &limit);

  int error = 0;
  size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  printf("%d event, fflags: %s, then SO_ERROR: %s\n", count,
         strerror((int)event.fflags), strerror(error));
  return error == ECONNREFUSED ? 0 : 1;
}
