// httpd.cpp - an HTTP server for the files of a folder.
//
// New here: names that come from outside. The system opens them below the
// folder and nowhere else, so what a client asks for is never made into a
// path that could lead elsewhere. Files go out without a copy, whole or in the
// part that was asked for, or not at all if the client has them already. With
// --loops each loop serves on a thread of its own, and all share the folder.
// SPDX-License-Identifier: MIT
#include <memory>
#include <string>

#include "../net/http/http.hpp"
#include "server_args.hpp"

using namespace violet;

namespace {

struct Settings {
  std::string folder = ".";
  int loops = 1;
  Duration timeout = std::chrono::seconds(30);
};

/// The routes of a folder. It is opened once a failure can be told.
void add_files(http::Router& router, const std::string& folder) {
  const http::Files files(folder);
  router.get("/{path*}", files);
}

int serve_folder(const ServerArgs& args, const Address& address,
                 const Settings& settings) {
  http::Options options(args.options());
  options.stall_time = settings.timeout;
  http::Router router;
  LoopsServer server(settings.loops, options);
  const http::Application application(router, options);
  return run_program(
      settings.loops,
      [&] {
        add_files(router, settings.folder);
        server.listen(address);
      },
      [&](int index) { return server.run(index, application); });
}

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(8080);
  Settings settings;
  Args args("httpd", "an HTTP server for the files of a folder");
  server.add_where(args, "port, 0 for any free one (8080)");
  args.text("--dir", "FOLDER", "what to serve (.)", settings.folder);
  args.number("--loops", "event loops, each on its own thread (1)",
              settings.loops, 1, 256);
  args.time("--timeout", "give up a client that stalls, 0: never (30s)",
            settings.timeout);
  server.add_manners(args);
  args.parse(argc, argv);
  return serve_folder(server, server.address(args), settings);
}
