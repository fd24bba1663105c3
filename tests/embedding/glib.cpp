// glib.cpp - a Violet loop inside GLib's, as a source of its own kind.
// SPDX-License-Identifier: MIT
#include <glib.h>

#include "guest.hpp"

namespace {

struct Source {
  GSource base;  // GLib's part comes first
  Guest* guest;
  gpointer news;  // what watches fd()
};

Guest& guest_of(GSource* source) {
  return *reinterpret_cast<Source*>(source)->guest;
}

gboolean prepare(GSource* source, gint* timeout) {
  *timeout = guest_of(source).loop.timeout_ms();
  return *timeout == 0;
}

gboolean check(GSource* source) {
  gpointer news = reinterpret_cast<Source*>(source)->news;
  return g_source_query_unix_fd(source, news) != 0 ||
         guest_of(source).loop.timeout_ms() == 0;
}

gboolean dispatch(GSource* source, GSourceFunc, gpointer host) {
  if (guest_of(source).turn()) return G_SOURCE_CONTINUE;
  g_main_loop_quit(static_cast<GMainLoop*>(host));
  return G_SOURCE_REMOVE;
}

gboolean tick(gpointer guest) {
  return static_cast<Guest*>(guest)->tick() ? G_SOURCE_CONTINUE
                                            : G_SOURCE_REMOVE;
}

}  // namespace

int main() {
  Guest guest;
  GMainLoop* host = g_main_loop_new(nullptr, FALSE);
  GSourceFuncs functions{};
  functions.prepare = prepare;
  functions.check = check;
  functions.dispatch = dispatch;
  GSource* source = g_source_new(&functions, sizeof(Source));
  auto* ours = reinterpret_cast<Source*>(source);
  ours->guest = &guest;
  ours->news = g_source_add_unix_fd(source, guest.loop.fd(), G_IO_IN);
  g_source_set_callback(source, nullptr, host, nullptr);
  g_source_attach(source, nullptr);
  g_timeout_add(1, tick, &guest);
  g_main_loop_run(host);
  g_source_unref(source);
  g_main_loop_unref(host);
}
