// get.cpp - fetches a file in pieces, several at a time.
//
// The server is asked for one byte. Who answers with that has told how long
// the file is, and is asked for the rest in pieces, by any number of jobs on
// one loop or on several. Who sends all of it instead is listened to.
//
// What comes is written to FILE.part, at its place; FILE.part.state tells what
// of it is there. The second is written after the first is on the disk, so
// that it never tells too much, once a second and however the program ends.
// Each request says of which version it wants a piece (If-Range), and each
// answer is compared with the first: pieces of two versions are never mixed.
// SPDX-License-Identifier: MIT
#include "get.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../../net/http/http.hpp"
#include "../file_lock.hpp"
#include "byte_set.hpp"
#include "errand.hpp"
#include "meter.hpp"

namespace transfer {

using namespace violet;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kBlockBytes = std::size_t{256} << 10;
constexpr std::string_view kMagic = "violet transfer get 1";

/// A version of the file.
struct Version {
  std::uint64_t size = 0;
  std::string tag;       // a strong ETag; empty if there is none
  std::string modified;  // Last-Modified; the same

  friend bool operator==(const Version&, const Version&) = default;
};

Version version_of(const http::Response& reply, std::uint64_t size) {
  Version version;
  version.size = size;
  const auto tag = http::parse_etag(reply.fields().find("ETag").value_or(""));
  if (tag && !tag->weak) version.tag = concat({"\"", tag->opaque, "\""});
  version.modified = reply.fields().find("Last-Modified").value_or("");
  return version;
}

/// What base64 stands for, in hexadecimal digits.
std::string hex_of_base64(std::string_view text) {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string digits;
  unsigned bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const auto value = kLetters.find(c);
    if (value == kLetters.npos) break;
    held = (held << 6 | static_cast<unsigned>(value)) & 0xffff;
    for (bits += 6; bits >= 4; bits -= 4) {
      digits += "0123456789abcdef"[held >> (bits - 4) & 15];
    }
  }
  return digits;
}

/// The digits of a "Repr-Digest: sha-256=:...:" (RFC 9530); empty without one.
/// It may stand beside others, in one field or in several.
std::string digest_of(const http::Fields& fields) {
  constexpr std::string_view kName = "sha-256=:";
  std::string digest;
  for (const http::Field field : fields) {
    if (!http::same_word(field.name, "Repr-Digest")) continue;
    http::Pieces members(field.value, ',');
    for (std::string_view member; members.next(member);) {
      member = http::trimmed(member);
      if (!member.starts_with(kName)) continue;
      const std::string digits = hex_of_base64(member.substr(kName.size()));
      if (digits.size() >= 64) digest = digits.substr(0, 64);
    }
  }
  return digest;
}

// ------------------------------------------------------------ what is there

// A state is some lines; one that is longer is none of ours.
constexpr std::size_t kMostState = std::size_t{4} << 20;

/// Which bytes are there and who fetches the others. All loops share it.
class Book {
 public:
  enum class Next { kPiece, kWait, kDone };

  /// What is not there is to come in pieces. Returns: the bytes that are there.
  std::uint64_t begin(const Version& version, ByteSet have,
                      std::uint64_t chunk) {
    const std::lock_guard lock(mutex_);
    version_ = version;
    have_ = std::move(have);
    std::uint64_t left = 0;
    for (const ByteRange range : have_.missing({0, version.size})) {
      left += range.size();
      left_.push_back(range);
    }
    chunk_ = chunk;
    begun_ = true;
    return version.size - left;
  }

  /// There is nothing for others to do.
  void skip() {
    const std::lock_guard lock(mutex_);
    begun_ = true;
  }

  Next take(ByteRange& piece) {
    const std::lock_guard lock(mutex_);
    if (!begun_) return Next::kWait;
    return cut(left_, chunk_, piece) ? Next::kPiece : Next::kDone;
  }

  void add(ByteRange range) {
    const std::lock_guard lock(mutex_);
    have_.add(range);
  }

  bool complete() const {
    const std::lock_guard lock(mutex_);
    return begun_ && have_.has_all(version_.size);
  }

  const Version& version() const { return version_; }

  /// As lines; parse() reads them.
  std::string text(const std::string& url) const {
    const std::lock_guard lock(mutex_);
    std::string out =
        concat({kMagic, "\nurl ", url, "\nsize ", version_.size, "\ntag ",
                version_.tag, "\nmodified ", version_.modified, "\n"});
    for (const ByteRange& range : have_.ranges()) {
      out += concat({"have ", range.begin, " ", range.end, "\n"});
    }
    return out;
  }

  /// Returns: false if the text is not of that file, or not a whole one.
  static bool parse(std::string_view text, const std::string& url,
                    Version& version, ByteSet& have) {
    http::Pieces lines(text, '\n');
    std::string_view line;
    if (!lines.next(line) || line != kMagic) return false;
    int known = 0;
    while (lines.next(line)) {
      const auto blank = line.find(' ');
      const std::string_view key = line.substr(0, blank);
      const std::string_view value =
          blank == line.npos ? std::string_view() : line.substr(blank + 1);
      if (key == "url" && value == url) ++known;
      if (key == "tag") version.tag = value;
      if (key == "modified") version.modified = value;
      if (key == "size") {
        const auto size = http::parse_number(value);
        if (size) version.size = *size;
        if (size) ++known;
      }
      if (key == "have") {
        const auto between = value.find(' ');
        const auto begin = http::parse_number(value.substr(0, between));
        const auto end = http::parse_number(
            between == value.npos ? "" : value.substr(between + 1));
        if (!begin || !end || *end > version.size) return false;
        have.add({*begin, *end});
      }
    }
    return known == 2;
  }

 private:
  mutable std::mutex mutex_;  // guards the rest, but the version once begun
  Version version_;
  ByteSet have_;
  std::deque<ByteRange> left_;  // what nobody fetches yet
  std::uint64_t chunk_ = 0;
  bool begun_ = false;
};

// ------------------------------------------------------------------ the errand

class Get {
 public:
  explicit Get(const Errand& settings)
      : settings_(settings),
        part_path_(settings.file + ".part"),
        state_path_(part_path_ + ".state") {}

  /// What loop `index` does.
  Task<> work(int index) {
    if (index != 0) return follow(settings_.jobs_of_loop(index));
    return finally(lead(), [this] { return leave(); });
  }

 private:
  Task<> lead();
  Task<> follow(std::size_t jobs);
  Task<> leave();
  Task<> save();
  Task<> save_often();

  Task<bool> resume(Version& version, ByteSet& have);
  Task<> open_part();
  Task<> forget_state();
  Task<std::optional<http::Response>> begin(http::Client& client);
  Task<bool> probe(http::Client& client, std::optional<http::Response>& whole);

  Task<> fetch_pieces(http::Client& client, const File& part, std::size_t jobs);
  Task<> fetch(http::Client& client, const File& part, ByteRange piece);
  Task<> check_version(http::Client& client);
  Task<> fetch_some(http::Client& client, const File& part, ByteRange& rest);
  Task<> fetch_whole(http::Client& client, http::Response reply);
  Task<http::Response> ask_whole(http::Client& client);
  Task<std::uint64_t> store_whole(http::Response& reply);
  Task<> store(http::Response& reply, const File& part, ByteRange& rest);
  Task<> check_digest();
  Task<> publish(std::uint64_t size);

  http::Request request(const Version& version, ByteRange range) const;

  const Errand& settings_;
  const std::string part_path_;
  const std::string state_path_;
  Book book_;
  Meter meter_;
  OneFailure failures_;
  std::string digest_;  // as the server gave it; may be empty

  // Of loop 0.
  File part_;
  bool keeps_state_ = false;  // from when there is something to go on with
  bool told_ = false;         // that the state cannot be kept
  bool known_ = false;        // there is a state of an earlier run in found_
  Version found_;
};

/// The version is asked for by its tag, or by its date where that is all there
/// is: the answer is compared with it in any case.
http::Request Get::request(const Version& version, ByteRange range) const {
  http::Request request("GET", settings_.url);
  request.field("Range", concat({"bytes=", range.begin, "-", range.end - 1}));
  if (!version.tag.empty()) {
    request.field("If-Range", version.tag);
  } else if (!version.modified.empty()) {
    request.field("If-Range", version.modified);
  }
  return request;
}

// --------------------------------------------------------------- the beginning

/// What an earlier run has left. Returns: false if that is nothing.
Task<bool> Get::resume(Version& version, ByteSet& have) {
  try {
    const std::string text = co_await read_file(state_path_, kMostState);
    const File part = co_await open_file(part_path_);
    const std::uint64_t size = co_await part.size();
    const bool right =
        Book::parse(text, settings_.url, version, have) && version.size == size;
    co_return right && !(version.tag.empty() && version.modified.empty());
  } catch (const std::system_error&) {
    co_return false;
  }
}

/// Asks for the first byte. Returns: true if the server knows ranges, and has
/// told which version it has; else `whole` is all of the file, or nothing if
/// the version that was found is out of date.
Task<bool> Get::probe(http::Client& client,
                      std::optional<http::Response>& whole) {
  http::Request asked = request(found_, {0, 1});
  http::Response reply = co_await client.send(std::move(asked));
  digest_ = digest_of(reply.fields());
  const auto where = http::parse_content_range(
      reply.fields().find("Content-Range").value_or(""));
  const bool first = where && where->range == ByteRange{0, 1} && where->size &&
                     reply.length().value_or(1) == 1;
  if (reply.status() == 206 && first) {
    const Version version = version_of(reply, *where->size);
    co_await reply.read_all(1);
    if (known_ && !(version == found_)) known_ = false;
    found_ = version;
    co_return true;
  }
  if (reply.status() == 416 && where && where->size == std::uint64_t{0}) {
    found_ = version_of(reply, 0);
    known_ = false;
    co_return true;
  }
  if (reply.status() == 206 || reply.status() == 416) {  // as good as none
    known_ = false;
    whole.emplace(co_await ask_whole(client));
    co_return false;
  }
  if (reply.status() != 200) settings_.refuse("GET", reply);
  if (known_) {  // out of date, or no ranges any more: ask anew
    known_ = false;
    found_ = Version();
  } else {
    whole.emplace(std::move(reply));
  }
  co_return false;
}

/// Opens what the bytes go to. While it is open, it is this process's alone.
Task<> Get::open_part() {
  File part = co_await open_file(part_path_, for_updating());
  auto lock = [&] { return lock_named(part.fd(), part_path_.c_str()); };
  const int locked = co_await offload(lock);
  if (locked == -EWOULDBLOCK || locked == -ESTALE) {
    throw Rejected(concat({"somebody else fetches ", settings_.file, " now"}));
  }
  if (locked < 0) throw_system(-locked, concat({"lock ", part_path_}));
  part_ = std::move(part);
}

/// Before bytes come that are not those it speaks of: else who is interrupted
/// now would later be told that they are there. Also after a power cut.
Task<> Get::forget_state() {
  const int error = ::unlink(state_path_.c_str()) == 0 ? 0 : errno;
  if (error == ENOENT || error == ENAMETOOLONG) co_return;  // there is none
  if (error != 0) throw_system(error, concat({"remove ", state_path_}));
  co_await sync_folder(folder_of(state_path_));
}

/// Returns: all of the file, if there is no other way.
Task<std::optional<http::Response>> Get::begin(http::Client& client) {
  ByteSet have;
  known_ = co_await resume(found_, have);
  if (!known_) found_ = Version();
  for (int attempt = 0;;) {
    Setback setback;
    try {
      std::optional<http::Response> whole;
      const bool ranges = co_await probe(client, whole);
      if (whole) co_return whole;
      if (ranges) break;
      continue;
    } catch (...) {
      setback = what_may_pass();
    }
    co_await settings_.pause(attempt, std::move(setback));
  }
  co_await open_part();
  // Before it was locked somebody else may have begun it anew.
  have = ByteSet();
  Version version;
  const bool is_there = co_await resume(version, have);
  known_ = is_there && version == found_;
  if (!known_) {
    have = ByteSet();
    co_await forget_state();
    co_await part_.truncate(0);
  }
  co_await part_.truncate(found_.size);
  const std::uint64_t done =
      book_.begin(found_, std::move(have), settings_.chunk);
  keeps_state_ = true;
  meter_.begin(done, found_.size, settings_.quiet);
  co_return std::nullopt;
}

Task<> Get::lead() {
  http::Client client(settings_.client_options());
  std::optional<http::Response> whole = co_await begin(client);
  {
    TaskGroup beside;
    beside.spawn([](Meter& meter) { return meter.show(); }, std::ref(meter_));
    if (whole) {
      book_.skip();
      co_await fetch_whole(client, std::move(*whole));
      co_return;
    }
    beside.spawn([this] { return failures_.among(save_often()); });
    co_await fetch_pieces(client, part_, settings_.jobs_of_loop(0));
    while (!book_.complete()) co_await violet::sleep(milliseconds(10));
    co_await check_version(client);
  }
  co_await publish(book_.version().size);
}

Task<> Get::follow(std::size_t jobs) {
  if (jobs == 0) co_return;
  ByteRange first;
  while (book_.take(first) == Book::Next::kWait) {
    co_await violet::sleep(milliseconds(10));
  }
  if (first.size() == 0) co_return;
  FileOptions options;
  options.write = true;
  const File part = co_await open_file(part_path_, options);
  http::Client client(settings_.client_options());
  co_await failures_.among(fetch(client, part, first));
  co_await fetch_pieces(client, part, jobs);
}

// ------------------------------------------------------------------- fetching

/// So many at once, until nothing is left.
Task<> Get::fetch_pieces(http::Client& client, const File& part,
                         std::size_t jobs) {
  const auto each = [&]() -> Task<> {
    ByteRange piece;
    while (book_.take(piece) == Book::Next::kPiece) {
      co_await fetch(client, part, piece);
    }
  };
  const auto one_of_many = [&] { return failures_.among(each()); };
  TaskGroup group;
  for (std::size_t i = 0; i < jobs; ++i) group.spawn(one_of_many);
  co_await group.join();
}

/// All of a piece, however often it has to be asked for.
Task<> Get::fetch(http::Client& client, const File& part, ByteRange piece) {
  for (int attempt = 0; piece.size() > 0;) {
    const std::uint64_t before = piece.begin;
    Setback setback;
    try {
      co_await fetch_some(client, part, piece);
      continue;
    } catch (...) {
      setback = what_may_pass();
    }
    if (piece.begin > before) attempt = 0;
    co_await settings_.pause(attempt, std::move(setback));
  }
}

/// A file that changed under the last answers, whose heads came before that,
/// shows it when a byte is asked for once more.
Task<> Get::check_version(http::Client& client) {
  if (book_.version().size == 0) co_return;
  co_await fetch(client, part_, {0, 1});
  meter_.add(-1);
}

/// Throws: Rejected; what else it throws may pass.
Task<> Get::fetch_some(http::Client& client, const File& part,
                       ByteRange& rest) {
  http::Request asked = request(book_.version(), rest);
  http::Response reply = co_await client.send(std::move(asked));
  if (may_pass(reply.status())) settings_.refuse("GET", reply);
  const auto where = http::parse_content_range(
      reply.fields().find("Content-Range").value_or(""));
  // A server need not say how much there is beside what it sends, if it says
  // otherwise that it is the same.
  const Version& known = book_.version();
  const bool told =
      where && (where->size || !known.tag.empty() || !known.modified.empty());
  const bool same =
      reply.status() == 206 && told &&
      version_of(reply, where->size.value_or(known.size)) == known;
  if (!same) {
    const bool gone =
        reply.status() >= 400 && reply.status() != 412 && reply.status() != 416;
    if (gone) settings_.refuse("GET", reply);
    throw Rejected(
        concat({settings_.url, " has changed while it was fetched"}));
  }
  if (!where->range || where->range->begin != rest.begin ||
      where->range->end > rest.end) {
    throw Rejected(concat({"GET ", settings_.url,
                           ": the server sends other bytes than those that it "
                           "was asked for"}));
  }
  ByteRange got = *where->range;
  const std::uint64_t begin = got.begin;
  try {
    co_await store(reply, part, got);
  } catch (...) {
    rest.begin += got.begin - begin;
    throw;
  }
  rest.begin = got.begin;
}

/// What the disk refuses would not be helped by asking the server again.
Task<> write(const File& part, std::string_view bytes, std::uint64_t at) {
  std::error_code failed;
  co_await part.write_at(bytes, at, failed);
  if (failed) {
    throw Rejected(concat({"write ", part.path(), ": ", failed.message()}));
  }
}

/// Writes a body to its place; `rest` is what has not come.
Task<> Get::store(http::Response& reply, const File& part, ByteRange& rest) {
  std::vector<char> block(static_cast<std::size_t>(
      std::min<std::uint64_t>(kBlockBytes, rest.size())));
  while (rest.size() > 0) {
    std::size_t filled = 0;
    std::exception_ptr cut;
    const auto most = static_cast<std::size_t>(
        std::min<std::uint64_t>(block.size(), rest.size()));
    while (filled < most) {
      const std::span<char> room(block.data() + filled, most - filled);
      std::size_t count = 0;
      try {
        count = co_await reply.read(room);
      } catch (...) {
        cut = std::current_exception();
      }
      if (count == 0) break;
      filled += count;
    }
    const std::string_view bytes(block.data(), filled);
    co_await write(part, bytes, rest.begin);
    book_.add({rest.begin, rest.begin + filled});
    meter_.add(static_cast<std::int64_t>(filled));
    rest.begin += filled;
    if (cut) std::rethrow_exception(cut);
    if (filled < most) {
      throw Deferred(concat(
          {"GET ", settings_.url, ": the body is shorter than it was to be"}));
    }
  }
  char nothing[1];
  co_await reply.read(std::span<char>(nothing));  // its end
}

/// From a server without ranges: from the beginning, whenever it breaks off.
Task<> Get::fetch_whole(http::Client& client, http::Response reply) {
  co_await open_part();
  co_await forget_state();
  co_await part_.truncate(0);
  std::uint64_t size = 0;
  bool asked = true;
  for (int attempt = 0;;) {
    Setback setback;
    try {
      if (!std::exchange(asked, false)) reply = co_await ask_whole(client);
      size = co_await store_whole(reply);
      break;
    } catch (...) {
      setback = what_may_pass();
    }
    co_await settings_.pause(attempt, std::move(setback));
    co_await part_.truncate(0);
  }
  co_await publish(size);
}

Task<http::Response> Get::ask_whole(http::Client& client) {
  http::Response reply = co_await client.get(settings_.url);
  if (!reply.ok() || reply.status() == 206) settings_.refuse("GET", reply);
  digest_ = digest_of(reply.fields());
  co_return reply;
}

/// Returns: how many bytes it has.
Task<std::uint64_t> Get::store_whole(http::Response& reply) {
  const std::uint64_t length = reply.length().value_or(0);
  meter_.begin(0, length, settings_.quiet || length == 0);
  std::vector<char> block(kBlockBytes);
  for (std::uint64_t size = 0;;) {
    const std::size_t count = co_await reply.read(std::span<char>(block));
    if (count == 0) co_return size;
    const std::string_view bytes(block.data(), count);
    co_await write(part_, bytes, size);
    size += count;
    meter_.add(static_cast<std::int64_t>(count));
  }
}

// -------------------------------------------------------------------- the end

Task<> Get::check_digest() {
  if (digest_.empty()) co_return;
  const std::string sum = co_await sha256_of(part_);
  if (sum == digest_) co_return;
  keeps_state_ = known_ = false;  // nobody knows which of it is wrong
  throw Rejected(concat({settings_.url,
                         ": what came has not the digest that "
                         "the server gave"}));
}

/// What is whole and on the disk gets its name.
Task<> Get::publish(std::uint64_t size) {
  co_await check_digest();
  co_await part_.sync();
  co_await rename_file(part_path_, settings_.file);  // locked until then
  keeps_state_ = false;
  File got = std::move(part_);
  co_await got.close();
  ::unlink(state_path_.c_str());  // if it was ever written
  co_await sync_folder(folder_of(settings_.file));
  const std::string said =
      concat({"got ", settings_.file, " ", size, " bytes: ", meter_.summary()});
  print_line(said);
}

/// First the bytes, then what tells that they are there. Without a state all
/// comes as well; it is only lost with this process.
Task<> Get::save() {
  const std::string text = book_.text(settings_.url);
  co_await part_.sync_data();
  std::string why;
  try {
    co_await replace_file(state_path_, text);
    told_ = false;
  } catch (const std::system_error& e) {
    why = e.what();
  }
  if (why.empty() || std::exchange(told_, true)) co_return;
  Meter::complain(concat({why,
                          "; until this is mended, who is interrupted goes on "
                          "from an earlier place"}));
}

Task<> Get::save_often() {
  for (;;) {
    co_await violet::sleep(std::chrono::seconds(1));
    co_await save();
  }
}

/// However it ended. What an earlier run has left stays if this one has not
/// come to add to it.
Task<> Get::leave() {
  if (!part_) co_return;
  if (keeps_state_) {
    try {
      co_await save();
    } catch (const std::system_error&) {  // then why it failed is told already
      if (!failures_.happened()) throw;
    }
  } else if (!known_) {
    co_await forget_state();
    co_await remove_file(part_path_);
  }
}

/// What is renamed over FILE replaces it, whatever that is; so it may only be
/// a plain file, and so may what is kept beside it.
void check_plain(const Args& args, const std::string& path) {
  struct stat status;
  const bool there = ::lstat(path.c_str(), &status) == 0;
  if (there && S_ISDIR(status.st_mode)) {
    args.refuse({"'", path, "' is a folder: add the name of a file"});
  }
  if (there && !S_ISREG(status.st_mode)) {
    args.refuse(
        {"'", path, "' is no plain file, and would be replaced by one"});
  }
}

}  // namespace

int get(int argc, char** argv) {
  Errand settings;
  Args args("transfer",
            "fetches a file, in pieces where the server knows them");
  args.command("get");
  args.positional("URL", "what to fetch", settings.url);
  args.positional("FILE", "where to put it", settings.file);
  settings.add_options(args, "how often a piece is asked for again (8)");
  args.parse(argc, argv);
  std::string refusal;
  const http::Url url = http::Url::parse(settings.url, refusal);
  if (!refusal.empty()) args.refuse({refusal});
  settings.url = url.text();
  if (settings.file.empty() || settings.file.back() == '/') {
    args.refuse({"'", settings.file, "' is no name of a file"});
  }
  check_plain(args, settings.file);
  check_plain(args, settings.file + ".part");
  Get errand(settings);
  return run_program(settings.threads,
                     [&](int index) { return errand.work(index); });
}

}  // namespace transfer
