// upload.cpp - stores what each TCP client sends as a new file.
//
// New here: work that is limited, and disks that are slow. A semaphore lets so
// many clients store at a time; the others are connected and wait in line.
// Files are written off the loop, a block behind what is received. A file gets
// its name when all of it is on the disk; only then is the client told, and
// until then there is nothing that anybody else would see or that would stay.
// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <system_error>

#include "../net/net.hpp"
#include "server_args.hpp"

using namespace violet;

namespace {

struct Settings {
  std::string folder = ".";
  std::size_t max_transfers = 100;
  std::uint64_t max_size = 0;
  Duration idle_timeout = std::chrono::minutes(1);
};

constexpr std::size_t kBlockBytes = 64 * 1024;
constexpr std::string_view kPartPrefix = ".upload-";

// ------------------------------------------------------- files and their names

/// Removes what uploads of processes that are no more have left behind, which
/// only a crash or SIGKILL can bring about.
void remove_leftovers(const std::string& folder) {
  DIR* const listing = ::opendir(folder.c_str());
  if (listing == nullptr) throw_system(errno, concat({"open ", folder}));
  while (const dirent* const entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(kPartPrefix) || !name.ends_with(".part")) continue;
    const long owner =
        std::strtol(&entry->d_name[kPartPrefix.size()], nullptr, 10);
    if (owner <= 0) continue;
    if (::kill(static_cast<pid_t>(owner), 0) == 0 || errno != ESRCH) continue;
    ::unlink(concat({folder, "/", name}).c_str());
  }
  ::closedir(listing);
}

/// Where an upload is while it comes.
std::string part_path(const std::string& folder) {
  static int made = 0;
  return concat({folder, "/", kPartPrefix, ::getpid(), "-", ++made, ".part"});
}

std::string stored_path(const std::string& folder, int number) {
  return concat({folder, "/upload-", number});
}

/// The name of a file, which goes with this unless it is kept.
class Tentative {
 public:
  explicit Tentative(std::string path) : path_(std::move(path)) {}
  Tentative(const Tentative&) = delete;
  ~Tentative() {
    if (!kept_) ::unlink(path_.c_str());
  }

  const std::string& path() const { return path_; }
  void keep() { kept_ = true; }

 private:
  std::string path_;
  bool kept_ = false;
};

/// Gives a file the first name that is free from `number` on. Blocks.
/// Returns: the number.
int link_to_free_name(const std::string& path, const std::string& folder,
                      int number) {
  while (::link(path.c_str(), stored_path(folder, number).c_str()) != 0) {
    if (errno != EEXIST) throw_system(errno, concat({"link ", path}));
    ++number;
  }
  return number;
}

// ------------------------------------------------------------------ one client

class Uploads {
 public:
  explicit Uploads(const Settings& settings)
      : settings_(settings), transfers_(settings.max_transfers) {
    if (settings.idle_timeout > Duration::zero()) {
      patience_ = settings.idle_timeout;
    }
  }

  /// Stores what the client sends, and tells it how that went.
  Task<> receive(Connection conn) {
    const auto transfer = co_await transfers_.acquire();
    std::string answer;
    std::exception_ptr error;
    try {
      answer = co_await store(conn);
    } catch (...) {
      error = std::current_exception();
      answer = concat({"failed: ", text_of(error), "\n"});
    }
    std::error_code gone;
    co_await within(patience_, conn.sendall(answer, gone));
    if (!error) co_return;
    try {  // a client that still sends shall read the answer
      co_await within(std::chrono::seconds(2), take_leave(conn));
    } catch (const std::system_error&) {
    }
    std::rethrow_exception(error);
  }

 private:
  /// Returns: "stored NAME BYTES\n".
  Task<std::string> store(Connection& conn) {
    const Tentative part(part_path(settings_.folder));
    FileOptions options = for_writing();
    options.exclusive = true;
    FileWriter out(co_await open_file(part.path(), options), kBlockBytes);
    std::uint64_t size = 0;
    for (;;) {
      const auto room = co_await out.room();
      const auto count = co_await within(patience_, conn.recv(room));
      if (!count) throw_system(ETIMEDOUT, "receive");
      if (*count == 0) break;
      size += *count;
      if (settings_.max_size != 0 && size > settings_.max_size) {
        throw_system(
            EFBIG, concat({"store more than ", settings_.max_size, " bytes"}));
      }
      out.commit(*count);
    }
    co_await out.sync();
    co_await out.close();
    const int number = co_await publish(part.path());
    co_return concat({"stored upload-", number, " ", size, "\n"});
  }

  /// Makes a complete file visible, and its name durable.
  Task<int> publish(const std::string& path) {
    const int free = next_;  // which others may change meanwhile
    auto call = [&] { return link_to_free_name(path, settings_.folder, free); };
    const int number = co_await offload(call);
    Tentative stored(stored_path(settings_.folder, number));
    co_await sync_folder(settings_.folder);
    stored.keep();
    next_ = std::max(next_, number + 1);
    co_return number;
  }

  const Settings& settings_;
  Semaphore transfers_;
  Duration patience_ = Duration::max();  // with a client that stalls
  int next_ = 1;                         // names before this are taken
};

Task<> serve_uploads(ServerArgs args, Settings settings) {
  remove_leftovers(settings.folder);
  Uploads uploads(settings);
  auto handler = [&](Connection conn) {
    return uploads.receive(std::move(conn));
  };
  co_await server(args.host(), args.port(), handler, args.options());
}

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(8888);
  Settings settings;
  Args args("upload", "stores what each TCP client sends as a new file");
  server.add_where(args, "port, 0 for any free one (8888)");
  args.text("--dir", "FOLDER", "where to store (.)", settings.folder);
  args.number("--max-transfers", "clients that store at a time (100)",
              settings.max_transfers, 1, 100'000);
  args.size("--max-size", "bytes of a file, 0: no limit (0)", settings.max_size,
            0, ~std::uint64_t{0});
  args.time("--idle-timeout", "give up a client that stalls, 0: never (1m)",
            settings.idle_timeout);
  server.add_manners(args);
  args.parse(argc, argv);
  server.address(args);
  return run_program(serve_uploads(server, settings));
}
