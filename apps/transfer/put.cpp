// put.cpp - sends a file in pieces, several at a time, and only those that the
// server has not.
//
// The server is asked what is missing; that is cut into pieces, and any number
// of jobs, on one loop or on several, each take the next one until there is
// none. A piece that fails is sent again, after a pause that grows. When all
// have been sent and the server still misses something, it is asked again.
// Nothing is kept here: who starts the program once more goes on where it was.
//
// A server that knows no pieces gets the whole file in one body.
// SPDX-License-Identifier: MIT
#include "put.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../../net/http/http.hpp"
#include "byte_set.hpp"
#include "errand.hpp"
#include "meter.hpp"

namespace transfer {

using namespace violet;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kReadBytes = std::size_t{256} << 10;
constexpr std::size_t kMostReply = std::size_t{1} << 20;

/// "0-4,10-19" as ranges of a file of `size` bytes, in order; nothing for
/// anything else.
std::optional<std::vector<ByteRange>> parse_missing(std::string_view text,
                                                    std::uint64_t size) {
  std::vector<ByteRange> ranges;
  if (text.empty()) return ranges;
  http::Pieces pieces(text, ',');
  for (std::string_view piece; pieces.next(piece);) {
    const auto dash = piece.find('-');
    if (dash == piece.npos) return std::nullopt;
    const auto first = http::parse_number(piece.substr(0, dash));
    const auto last = http::parse_number(piece.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= size) return std::nullopt;
    if (!ranges.empty() && *first < ranges.back().end) return std::nullopt;
    ranges.push_back({*first, *last + 1});
  }
  return ranges;
}

/// What is sent, and how far it is. All loops share it.
class Plan {
 public:
  enum class Next { kPiece, kWait, kAsk, kDone };

  /// What is missing is to be sent in pieces.
  void set(const std::vector<ByteRange>& missing, std::uint64_t chunk) {
    const std::lock_guard lock(mutex_);
    left_.assign(missing.begin(), missing.end());
    chunk_ = chunk;
    begun_ = true;
    asking_ = false;
  }

  /// kAsk: nothing is left to be sent, but the server has not said that it has
  /// all; the caller asks, and calls set() or complete().
  Next take(ByteRange& piece) {
    const std::lock_guard lock(mutex_);
    if (complete_) return Next::kDone;
    if (!begun_ || asking_) return Next::kWait;
    if (cut(left_, chunk_, piece)) {
      ++under_way_;
      return Next::kPiece;
    }
    if (under_way_ > 0) return Next::kWait;
    asking_ = true;
    return Next::kAsk;
  }

  /// A piece is sent.
  void sent() {
    const std::lock_guard lock(mutex_);
    --under_way_;
  }

  void complete() {
    const std::lock_guard lock(mutex_);
    complete_ = true;
  }

 private:
  std::mutex mutex_;            // guards the rest
  std::deque<ByteRange> left_;  // what nobody sends yet
  std::uint64_t chunk_ = 0;
  std::size_t under_way_ = 0;
  bool begun_ = false;
  bool asking_ = false;
  bool complete_ = false;
};

/// The whole errand.
class Put {
 public:
  explicit Put(const Errand& settings) : settings_(settings) {}

  /// What loop `index` does.
  Task<> work(int index);

 private:
  struct State {
    bool knows_pieces = false;
    bool complete = false;
    std::vector<ByteRange> missing;
  };

  Task<> lead();
  Task<> follow(std::size_t jobs);
  Task<> leave();
  Task<> send_pieces(http::Client& client, const File& file, std::size_t jobs);
  Task<> ask_again(http::Client& client);
  Task<State> ask(http::Client& client);
  Task<State> ask_once(http::Client& client);
  Task<int> send(http::Client& client, const File& file,
                 std::optional<ByteRange> piece);
  Task<int> send_once(http::Client& client, const File& file,
                      std::optional<ByteRange> piece, std::uint64_t& counted);
  Task<> check(http::Client& client);
  Task<> check_unchanged(const File& file);

  const Errand& settings_;
  std::uint64_t size_ = 0;
  std::string id_;
  sys::FileStatus status_;
  Plan plan_;
  Meter meter_;
  OneFailure failures_;
  std::atomic<bool> changed_ = false;  // the file, while it was sent
  int rounds_ = 0;                     // how often the server was asked again
  int idle_rounds_ = 0;                // and missed nothing
};

Task<> Put::work(int index) {
  if (index != 0) return follow(settings_.jobs_of_loop(index));
  return finally(lead(), [this] { return leave(); });
}

Task<> look_at(const File& file, sys::FileStatus& status) {
  auto look = [&] { return sys::file_calls->status(file.fd(), status); };
  const int failed = co_await offload(look);
  if (failed < 0) throw_system(-failed, concat({"look at ", file.path()}));
}

/// What was sent of a file that changes is of no version of it.
/// Throws: Rejected.
Task<> Put::check_unchanged(const File& file) {
  sys::FileStatus now;
  co_await look_at(file, now);
  const bool same =
      now.size == status_.size && now.modified_ns == status_.modified_ns;
  if (same) co_return;
  changed_ = true;
  throw Rejected(concat({settings_.file, " has changed while it was sent"}));
}

/// What has no version must not be taken for one by the next run. Pieces that
/// are still on their way begin the upload anew, so it is given up until none
/// does.
Task<> Put::leave() {
  if (!changed_ || id_.empty()) co_return;
  http::Client client(settings_.client_options());
  const std::string url = concat({settings_.url, "?upload"});
  try {
    for (int times = 0; times < 5; ++times) {
      http::Request request("DELETE", url);
      request.field("Upload-Id", id_);  // and nobody else's
      co_await client.send(std::move(request));
      co_await violet::sleep(milliseconds(100));
    }
  } catch (const std::system_error&) {  // then the server has it still
  }
}

/// Finds out what is to be done, takes its part, and says how it went.
Task<> Put::lead() {
  const File file = co_await open_file(settings_.file);
  co_await look_at(file, status_);
  size_ = static_cast<std::uint64_t>(status_.size);
  char first;
  if (size_ == 0 && co_await file.read_at({&first, 1}, 0) != 0) {
    throw Rejected(concat(
        {settings_.file, " does not say how long it is: copy it first"}));
  }
  http::Client client(settings_.client_options());
  State state;
  if (size_ != 0) {
    id_ = "sha256-" + co_await sha256_of(file);
    state = co_await ask(client);
  }
  std::uint64_t missing = size_;
  if (state.knows_pieces) {
    missing = 0;
    for (const ByteRange& range : state.missing) missing += range.size();
  }
  meter_.begin(size_ - missing, size_, settings_.quiet);
  {
    TaskGroup group;
    group.spawn([](Meter& meter) { return meter.show(); }, std::ref(meter_));
    if (!state.knows_pieces) {
      co_await send(client, file, std::nullopt);
      plan_.complete();
    } else if (state.complete) {
      plan_.complete();
    } else {
      plan_.set(state.missing, settings_.chunk);
      co_await send_pieces(client, file, settings_.jobs_of_loop(0));
    }
  }
  co_await failures_.among(check_unchanged(file));
  co_await check(client);
  const std::string said = concat(
      {"stored ", settings_.url, " ", size_, " bytes: ", meter_.summary()});
  print_line(said);
}

Task<> Put::follow(std::size_t jobs) {
  if (jobs == 0) co_return;
  const File file = co_await open_file(settings_.file);
  http::Client client(settings_.client_options());
  co_await send_pieces(client, file, jobs);
}

/// So many at once, until the server has all.
Task<> Put::send_pieces(http::Client& client, const File& file,
                        std::size_t jobs) {
  const auto each = [&]() -> Task<> {
    for (;;) {
      ByteRange piece;
      const Plan::Next next = plan_.take(piece);
      if (next == Plan::Next::kDone) co_return;
      if (next == Plan::Next::kWait) {
        co_await violet::sleep(milliseconds(10));
      } else if (next == Plan::Next::kAsk) {
        co_await ask_again(client);
      } else {
        const int status = co_await send(client, file, piece);
        if (status != 202) plan_.complete();
        plan_.sent();
      }
    }
  };
  const auto one_of_many = [&] { return failures_.among(each()); };
  TaskGroup group;
  for (std::size_t i = 0; i < jobs; ++i) group.spawn(one_of_many);
  co_await group.join();
}

Task<> Put::ask_again(http::Client& client) {
  constexpr int kMostRounds = 1000;  // each brings at least something
  const State state = co_await ask(client);
  if (state.complete) {
    plan_.complete();
  } else if (state.knows_pieces && state.missing.empty()) {
    Setback setback(concat({"PUT ", settings_.url,
                            ": the server has all, and says that it is not "
                            "complete"}));
    co_await settings_.pause(idle_rounds_, std::move(setback));
    plan_.set({}, settings_.chunk);
  } else if (++rounds_ > kMostRounds || !state.knows_pieces) {
    throw Rejected(concat(
        {"PUT ", settings_.url, ": the server forgets what it has been sent"}));
  } else {
    plan_.set(state.missing, settings_.chunk);
  }
}

/// Of what a server says of its refusal, enough for one line.
std::string_view first_line(std::string_view text) {
  constexpr std::size_t kMost = 200;
  return text.substr(0, std::min(text.find('\n'), kMost));
}

// ----------------------------------------------------------- asking the server

Task<Put::State> Put::ask(http::Client& client) {
  for (int attempt = 0;;) {
    Setback setback;
    try {
      State state = co_await ask_once(client);
      co_return state;
    } catch (...) {
      setback = what_may_pass();
    }
    co_await settings_.pause(attempt, std::move(setback));
  }
}

/// Throws: std::system_error and Deferred for what may be tried again.
Task<Put::State> Put::ask_once(http::Client& client) {
  const std::string url = concat({settings_.url, "?upload"});
  const http::Response reply = co_await client.head(url);
  State state;
  const http::Fields& fields = reply.fields();
  if (may_pass(reply.status())) settings_.refuse("HEAD", reply);
  if (!fields.find("Upload-Protocol")) co_return state;
  state.knows_pieces = true;
  state.missing = {{0, size_}};
  if (!reply.ok()) co_return state;
  const bool complete = fields.find("Upload-Complete") == "true";
  const auto size = http::parse_number(fields.find("Upload-Size").value_or(""));
  if (fields.find("Upload-Id") != id_ || size != size_) {
    if (complete) co_return state;  // of another file
    throw Rejected(
        concat({"another upload of ", settings_.url,
                " is in progress; a DELETE of ", url, " gives it up"}));
  }
  const auto missing =
      parse_missing(fields.find("Upload-Missing").value_or(""), size_);
  if (missing) state.missing = *missing;
  state.complete = complete;
  co_return state;
}

/// What the server has in the end is as long as what was sent.
Task<> Put::check(http::Client& client) {
  const http::Response reply = co_await client.head(settings_.url);
  if (!reply.ok() || !reply.length()) co_return;  // it does not say
  if (*reply.length() == size_) co_return;
  throw Rejected(concat(
      {settings_.url, " has ", *reply.length(), " bytes, and not ", size_}));
}

// -------------------------------------------------------------------- sending

/// Sends a piece, or all of the file. Returns: the status of the answer.
Task<int> Put::send(http::Client& client, const File& file,
                    std::optional<ByteRange> piece) {
  for (int attempt = 0;;) {
    std::uint64_t counted = 0;
    Setback setback;
    try {
      const int status = co_await send_once(client, file, piece, counted);
      co_return status;
    } catch (...) {
      setback = what_may_pass();
    }
    meter_.add(-static_cast<std::int64_t>(counted));
    co_await settings_.pause(attempt, std::move(setback));
  }
}

Task<int> Put::send_once(http::Client& client, const File& file,
                         std::optional<ByteRange> piece,
                         std::uint64_t& counted) {
  const ByteRange range = piece.value_or(ByteRange{0, size_});
  http::Request request("PUT", settings_.url);
  if (piece) {
    http::ContentRange where;
    where.range = range;
    where.size = size_;
    request.field("Content-Range", text_of(where));
    request.field("Upload-Id", id_);
  }
  request.field("Content-Type", "application/octet-stream");
  const auto body = [&](http::BodyWriter& to) -> Task<> {
    std::vector<char> buffer(static_cast<std::size_t>(
        std::min<std::uint64_t>(kReadBytes, range.size())));
    for (std::uint64_t at = range.begin; at < range.end;) {
      const std::uint64_t left = range.end - at;
      const std::size_t most = static_cast<std::size_t>(
          std::min<std::uint64_t>(buffer.size(), left));
      const std::span<char> room(buffer.data(), most);
      const std::size_t count = co_await file.read_at(room, at);
      // Its last bytes complete a piece: no longer if it has changed.
      if (count == 0 || at + count == range.end) co_await check_unchanged(file);
      if (count == 0) throw Rejected(concat({file.path(), " became shorter"}));
      const std::string_view bytes(buffer.data(), count);
      co_await to.write(bytes);
      at += count;
      counted += count;
      meter_.add(static_cast<std::int64_t>(count));
    }
  };
  request.body(body, range.size());
  http::Response reply = co_await client.send(std::move(request));
  const int status = reply.status();
  const std::string text = co_await reply.read_all(kMostReply);
  const bool right =
      piece ? status == 200 || status == 201 || status == 202 : reply.ok();
  if (right) co_return status;
  settings_.refuse("PUT", reply, first_line(text));
}

/// Of a URL that ends in a slash: with the name of the file.
std::string whole_url(const std::string& url, std::string_view file) {
  std::string whole = url;
  if (!url.ends_with('/')) return whole;
  http::append_escaped(whole, file.substr(file.rfind('/') + 1));
  return whole;
}

}  // namespace

int put(int argc, char** argv) {
  Errand settings;
  Args args("transfer", "sends a file, in pieces where the server knows them");
  args.command("put");
  args.positional("FILE", "what to send", settings.file);
  args.positional("URL", "where to; after a slash comes the file's name",
                  settings.url);
  settings.add_options(args, "how often a piece is sent again (8)");
  args.parse(argc, argv);
  std::string refusal;
  settings.url = whole_url(settings.url, settings.file);
  http::Url::parse(settings.url, refusal);
  if (!refusal.empty()) args.refuse({refusal});
  if (settings.url.find_first_of("?#") != settings.url.npos) {
    args.refuse({"URL must have no query and no fragment"});
  }
  struct stat status;
  const bool there = ::stat(settings.file.c_str(), &status) == 0;
  if (there && !S_ISREG(status.st_mode)) {
    args.refuse({"'", settings.file,
                 S_ISDIR(status.st_mode)
                     ? "' is a folder: send its files one by one"
                     : "' is no plain file: copy what comes from it to one"});
  }
  Put errand(settings);
  return run_program(settings.threads,
                     [&](int index) { return errand.work(index); });
}

}  // namespace transfer
