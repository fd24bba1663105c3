// libuv.cpp - a Violet loop inside libuv's.
//
// Before each wait, libuv is told how long it may take; fd() ends it earlier.
//
// SPDX-License-Identifier: MIT
#include <uv.h>

#include "guest.hpp"

namespace {

struct Host {
  Guest guest;
  uv_poll_t news;        // fd() is readable
  uv_prepare_t prepare;  // about to wait
  uv_timer_t time;       // the guest's next timer
  uv_timer_t tick;
};

Host& host_of(void* data) {
  return *static_cast<Host*>(data);
}

void turn(Host& host) {
  if (host.guest.turn()) return;
  uv_close(reinterpret_cast<uv_handle_t*>(&host.news), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&host.prepare), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&host.time), nullptr);
}

void on_news(uv_poll_t* handle, int, int) {
  turn(host_of(handle->data));
}

void on_time(uv_timer_t* handle) {
  turn(host_of(handle->data));
}

void on_prepare(uv_prepare_t* handle) {
  Host& host = host_of(handle->data);
  const int limit = host.guest.loop.timeout_ms();
  if (limit < 0) {
    uv_timer_stop(&host.time);
  } else {
    uv_update_time(handle->loop);
    const auto wait = static_cast<std::uint64_t>(limit);
    uv_timer_start(&host.time, on_time, wait, 0);
  }
}

void on_tick(uv_timer_t* handle) {
  if (host_of(handle->data).guest.tick()) return;
  uv_close(reinterpret_cast<uv_handle_t*>(handle), nullptr);
}

}  // namespace

int main() {
  uv_loop_t* loop = uv_default_loop();
  Host host;
  host.news.data = host.prepare.data = host.time.data = host.tick.data = &host;
  uv_poll_init(loop, &host.news, host.guest.loop.fd());
  uv_poll_start(&host.news, UV_READABLE, on_news);
  uv_prepare_init(loop, &host.prepare);
  uv_prepare_start(&host.prepare, on_prepare);
  uv_timer_init(loop, &host.time);
  uv_timer_init(loop, &host.tick);
  uv_timer_start(&host.tick, on_tick, 1, 1);
  uv_run(loop, UV_RUN_DEFAULT);
  uv_loop_close(loop);
}
