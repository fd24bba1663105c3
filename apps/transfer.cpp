// transfer.cpp - files over HTTP, in pieces and in parallel.
//
// New here: state that belongs to no process. What a server knows of an upload
// lies on its disk, so that it may die at any moment, and several may take
// pieces of one upload; what a client knows, it asks.
//
// The parts are in the folder transfer: journal and store (uploads on a disk),
// serve (HTTP around them), page and multipart (for browsers), put and get (the
// clients).
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "args.hpp"
#include "transfer/get.hpp"
#include "transfer/put.hpp"
#include "transfer/serve.hpp"

namespace {

struct Command {
  std::string_view name;
  int (*work)(int argc, char** argv);
};

constexpr Command kCommands[] = {
    {"serve", transfer::serve},
    {"put", transfer::put},
    {"get", transfer::get},
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  for (const Command& command : kCommands) {
    if (name != command.name) continue;
    argv[1] = argv[0];  // which says what the program is called as
    return command.work(argc - 1, argv + 1);
  }
  std::string word;
  Args args("transfer", "files over HTTP, in pieces and in parallel");
  args.positional("COMMAND", "serve, put or get; COMMAND --help tells more",
                  word);
  args.parse(argc, argv);
  args.refuse({"unknown command '", word, "': it is serve, put or get"});
}
