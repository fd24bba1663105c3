// upload.cpp - stores what each TCP client sends as a new file.
//
// New here: work that is limited, and disks that are slow. A semaphore lets so
// many clients store at a time; the others are connected and wait in line.
// Files are written off the loop, a block behind what is received. A file gets
// its name when all of it is on the disk; only then is the client told, and who
// cannot be told has no file. Whatever ends an upload, it goes with its names:
// they belong to the frames of the job.
// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <system_error>

#include "../net/net.hpp"
#include "file_lock.hpp"
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

// ------------------------------------------------------- files and their names

/// A name that goes with this, unless it is kept. Made by the call that makes
/// the name, so that a kill finds no gap between the two.
class Tentative {
 public:
  Tentative() {}
  explicit Tentative(std::string path, Fd file = Fd())
      : file_(std::move(file)), path_(std::move(path)) {}
  Tentative(Tentative&& other) noexcept { *this = std::move(other); }
  Tentative& operator=(Tentative&& other) noexcept {
    std::swap(file_, other.file_);
    path_.swap(other.path_);
    return *this;
  }
  ~Tentative() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  /// Takes the file's lock. Returns: 0, or an error number: EWOULDBLOCK if
  /// another has it, or has had it and removed the name.
  int lock() const {
    const int error = -lock_named(file_.get(), path_.c_str());
    return error == ESTALE ? EWOULDBLOCK : error;
  }

  const std::string& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  Fd file_;  // with its lock; closed when the name is gone
  std::string path_;
};

/// Makes a part: where an upload is while it comes. Its lock tells other
/// servers that it is in use. Blocks.
Tentative make_part(const std::string& folder) {
  static std::atomic<unsigned> tried = 0;
  for (;;) {
    std::string path = concat({folder, "/.upload-", ++tried, ".part"});
    constexpr int kNew = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    Fd file(::open(path.c_str(), kNew, 0666));
    if (!file && errno == EEXIST) continue;
    if (!file) throw_system(errno, concat({"open ", path}));
    Tentative part(std::move(path), std::move(file));
    const int error = part.lock();
    if (error == 0) return part;
    if (error != EWOULDBLOCK) throw_system(error, concat({"lock ", folder}));
    part.keep();  // a server that starts just now takes it away
  }
}

/// Removes the parts that have no owner: a crash or SIGKILL left them behind.
void remove_leftovers(const std::string& folder) {
  DIR* const listing = ::opendir(folder.c_str());
  if (listing == nullptr) throw_system(errno, concat({"open ", folder}));
  while (const dirent* const entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(".upload-") || !name.ends_with(".part")) continue;
    std::string path = concat({folder, "/", name});
    constexpr int kAny = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    Fd file(::open(path.c_str(), kAny));
    Tentative part(std::move(path), std::move(file));
    if (part.lock() != 0) part.keep();
  }
  ::closedir(listing);
}

/// Gives a part its other name, the first that is free from `number` on, and
/// sets that. Blocks.
Tentative link_to_free_name(const std::string& part, const std::string& folder,
                            int& number) {
  for (;; ++number) {
    std::string path = concat({folder, "/upload-", number});
    if (::link(part.c_str(), path.c_str()) == 0) {
      return Tentative(std::move(path));
    }
    if (errno != EEXIST) throw_system(errno, concat({"link ", part}));
  }
}

// ------------------------------------------------------------------ one client

/// Throws: if the client has reset its connection, which recv() does not tell
/// of after the end of the stream.
void check_for_reset(const Connection& conn) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(conn.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) throw_system(error, "receive");
}

class Uploads {
 public:
  explicit Uploads(const Settings& settings)
      : settings_(settings), transfers_(settings.max_transfers) {}

  /// Stores what the client sends, and tells it how that went.
  Task<> receive(Connection conn) {
    std::exception_ptr error;
    try {
      Tentative stored;  // for as long as the client is not told
      const std::string answer = co_await store(conn, stored);
      co_await conn.sendall(answer);  // at once: nothing was sent before
      stored.keep();
    } catch (...) {
      error = std::current_exception();
    }
    if (!error) co_return;
    co_await refuse(conn, text_of(error));
    std::rethrow_exception(error);
  }

 private:
  /// What is limited: from the first byte to a file on the disk that has its
  /// name, which `stored` holds. Returns: "stored NAME BYTES\n".
  Task<std::string> store(const Connection& conn, Tentative& stored) {
    const auto transfer = co_await transfers_.acquire();
    const auto make = [&] { return make_part(settings_.folder); };
    const Tentative part = co_await offload(make);
    FileWriter out(co_await open_file(part.path(), for_writing()), kBlockBytes);
    const std::uint64_t size = co_await copy(conn, out);
    co_await out.sync();
    co_await out.close();
    check_for_reset(conn);
    const int number = co_await publish(part.path(), stored);
    co_return concat({"stored upload-", number, " ", size, "\n"});
  }

  /// Returns: the number of bytes.
  Task<std::uint64_t> copy(const Connection& conn, FileWriter& out) {
    std::uint64_t size = 0;
    for (;;) {
      const auto room = co_await out.room();
      const auto count =
          co_await within(settings_.idle_timeout, conn.recv(room));
      if (!count) throw_system(ETIMEDOUT, "receive");
      if (*count == 0) co_return size;
      size += *count;
      if (settings_.max_size != 0 && size > settings_.max_size) {
        throw_system(
            EFBIG, concat({"store more than ", settings_.max_size, " bytes"}));
      }
      out.commit(*count);
    }
  }

  /// Makes a complete file visible, and its name durable.
  Task<int> publish(const std::string& part, Tentative& stored) {
    int number = next_;  // which others may change meanwhile
    const auto link = [&] {
      return link_to_free_name(part, settings_.folder, number);
    };
    stored = co_await offload(link);
    co_await sync_folder(settings_.folder);
    next_ = std::max(next_, number + 1);
    co_return number;
  }

  /// Says why, also to a client that still sends. Nobody waits for its permit.
  Task<> refuse(const Connection& conn, std::string why) {
    const std::string answer = concat({"failed: ", why, "\n"});
    try {
      co_await conn.sendall(answer);
      co_await within(std::chrono::seconds(2), take_leave(conn));
    } catch (const std::system_error&) {  // it has gone
    }
  }

  const Settings& settings_;
  Semaphore transfers_;
  int next_ = 1;  // names before this are taken
};

Task<> serve_uploads(ServerArgs args, Settings settings) {
  remove_leftovers(settings.folder);
  make_part(settings.folder);  // or each client would hear that it cannot be
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
  if (settings.idle_timeout == Duration::zero()) {
    settings.idle_timeout = Duration::max();
  }
  return run_program(serve_uploads(server, settings));
}
