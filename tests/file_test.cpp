// file_test.cpp - files, without blocking the loop.
// SPDX-License-Identifier: MIT
#include "../runtime/file.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include "../runtime/combine.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "support.hpp"

using namespace violet;
using namespace support;
using namespace std::chrono_literals;

namespace {

/// A fresh folder that is gone at the end, with all that is in it.
class Folder {
 public:
  Folder() {
    if (::mkdtemp(path_) == nullptr) throw_system(errno, "mkdtemp");
  }
  Folder(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const {
    return concat({path_, "/", name});
  }
  std::size_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  char path_[32] = "/tmp/violet_test_XXXXXX";
};

/// Past everything of ours.
std::string content_of(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  for (std::string part = get(fd.get()); !part.empty(); part = get(fd.get())) {
    text += part;
  }
  return text;
}

void make(const std::string& path, std::string_view text) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!put(fd.get(), text)) throw_system(errno, path);
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    text[i] = static_cast<char>('a' + i * 7 % 26);
  }
  return text;
}

Task<std::string> error_of(Task<> task) {
  std::string text = "nothing";
  try {
    co_await std::move(task);
  } catch (const std::exception& e) {
    text = e.what();
  }
  co_return text;
}

/// Has no file in memory, as far as anybody can tell.
class Uncached : public sys::Calls, public sys::FileCalls {
 public:
  explicit Uncached(int error) noexcept : error_(error) {}
  bool in_memory(int) noexcept override { return false; }  // as on a disk
  ssize_t read_cached(int, void*, std::size_t, std::int64_t) noexcept override {
    ++asked;
    return -error_;
  }
  ssize_t pread(int fd, void* data, std::size_t size,
                std::int64_t offset) noexcept override {
    ++reads;
    return FileCalls::pread(fd, data, size, offset);
  }
  std::atomic<int> asked = 0;
  std::atomic<int> reads = 0;

 private:
  int error_;
};

/// A disk that does not answer before it is let go.
class Stuck : public sys::Calls, public sys::FileCalls {
 public:
  ssize_t pread(int fd, void* data, std::size_t size,
                std::int64_t offset) noexcept override {
    wait();
    return FileCalls::pread(fd, data, size, offset);
  }
  ssize_t pwrite(int fd, const void* data, std::size_t size,
                 std::int64_t offset) noexcept override {
    wait();
    return FileCalls::pwrite(fd, data, size, offset);
  }
  bool in_memory(int) noexcept override { return false; }  // as on a disk
  ssize_t read_cached(int, void*, std::size_t, std::int64_t) noexcept override {
    return -EAGAIN;
  }
  std::atomic<bool> asked = false;
  std::atomic<bool> answers = false;

 private:
  void wait() noexcept {
    asked = true;
    while (!answers) std::this_thread::yield();
  }
};

/// Has every file in memory, and knows who writes there.
class NoDisk : public sys::Calls, public sys::FileCalls {
 public:
  bool in_memory(int) noexcept override { return true; }
  ssize_t pwrite(int fd, const void* data, std::size_t size,
                 std::int64_t offset) noexcept override {
    ++writes;
    if (std::this_thread::get_id() != home_) ++elsewhere;
    if (most <= 0) return std::exchange(most, ssize_t{1} << 20);
    const auto room = static_cast<std::size_t>(most);
    return FileCalls::pwrite(fd, data, std::min(size, room), offset);
  }
  ssize_t most = ssize_t{1} << 20;  // taken at once; or what one write gets
  std::atomic<int> writes = 0;
  std::atomic<int> elsewhere = 0;

 private:
  const std::thread::id home_ = std::this_thread::get_id();
};

/// A test that has one runs twice: with a disk, and with none.
class DiskOrNone {
 public:
  DiskOrNone() {
    if (GENERATE(false, true)) scope_.emplace(calls_);
  }

 private:
  NoDisk calls_;
  std::optional<ScopedCalls> scope_;
};

/// A disk that is asked for the first piece; the others lie in memory, and yet
/// whoever waits has lost his patience when the second is asked for.
class SlowMemory : public sys::Calls, public sys::FileCalls {
 public:
  bool in_memory(int) noexcept override { return false; }
  ssize_t read_cached(int fd, void* data, std::size_t size,
                      std::int64_t offset) noexcept override {
    if (asked++ == 0) return -EAGAIN;
    if (asked == 2) limit->move(0s);
    return FileCalls::pread(fd, data, size, offset);
  }
  int asked = 0;
  Deadline* limit = nullptr;
};

}  // namespace

// --------------------------------------------------------- reading and writing

TEST_CASE("file: what is written at an offset is read there",
          "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "notes", for_updating());
    CHECK(file.path() == folder / "notes");
    const std::size_t written = co_await file.write_at("world", 6);
    CHECK(written == 5);
    co_await file.write_at("hello ", 0);
    const std::uint64_t size = co_await file.size();
    CHECK(size == 11);
    char buffer[32];
    const std::size_t all = co_await file.read_at(buffer, 0);
    CHECK(std::string_view(buffer, all) == "hello world");
    const std::size_t some = co_await file.read_at({buffer, 3}, 4);
    CHECK(std::string_view(buffer, some) == "o w");
    const std::size_t none = co_await file.read_at(buffer, 11);
    CHECK(none == 0);
    const std::size_t nothing = co_await file.read_at({}, 0);
    CHECK(nothing == 0);
    co_await file.close();
    CHECK_FALSE(file);
  };
  run(body());
  CHECK(content_of(folder / "notes") == "hello world");
}

TEST_CASE("file: without an offset each goes on where the last has ended",
          "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "notes", for_updating());
    co_await file.write("one two");
    co_await file.write(" three");
    CHECK(file.position() == 13);
    file.seek(4);
    char buffer[4];
    std::string text;
    while (const std::size_t count = co_await file.read(buffer)) {
      text.append(buffer, count);
    }
    CHECK(text == "two three");
    CHECK(file.position() == 13);
  };
  run(body());
}

TEST_CASE("file: appending writes go to the end", "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  make(folder / "log", "first\n");
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "log", for_appending());
    co_await file.write("second\n");
    const File again = co_await open_file(folder / "log", for_appending());
    co_await again.write("third\n");
    co_await file.write("fourth\n");
  };
  run(body());
  CHECK(content_of(folder / "log") == "first\nsecond\nthird\nfourth\n");
}

TEST_CASE("file: large ones come in pieces, from memory and from the disk",
          "[file][threads]") {
  const Folder folder;
  const std::string text = pattern((5u << 20) + 17);
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "big", for_updating());
    const std::size_t written = co_await file.write_at(text, 0);
    CHECK(written == text.size());
    std::string got(text.size() + 10, '\0');
    const std::size_t count = co_await file.read_at(got, 0);
    got.resize(count);
    CHECK(got == text);
  };
  SECTION("from memory where the system can tell") {
    run(body());
  }
  SECTION("where it has none of it") {
    Uncached calls(EAGAIN);
    const ScopedCalls scope(calls);
    run(body());
    CHECK(calls.reads >= 6);
    CHECK(calls.asked >= 6);
  }
  SECTION("where it cannot tell, which it is asked once") {
    Uncached calls(EOPNOTSUPP);
    const ScopedCalls scope(calls);
    run(body());
    CHECK(calls.reads >= 6);
    CHECK(calls.asked == 1);
  }
}

TEST_CASE("file: one that is in memory is written by the loop, bit by bit",
          "[file][threads]") {
  const Folder folder;
  NoDisk calls;
  const ScopedCalls scope(calls);
  const std::string text = pattern((20u << 20) + 17);
  int turns = 0;
  const auto count = [&]() -> Task<> {
    for (;; ++turns) co_await yield_now();
  };
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "big", for_updating());
    CHECK(file.in_memory());
    const Job<> other = spawn(count);
    const std::size_t written = co_await file.write_at(text, 0);
    CHECK(written == text.size());
    co_await kill(other);
    std::string got(text.size() + 10, '\0');
    const std::size_t size = co_await file.read_at(got, 0);
    got.resize(size);
    CHECK(got == text);
  };
  run(body());
  CHECK(calls.writes >= 20);
  CHECK(calls.elsewhere == 0);
  CHECK(turns >= 1);  // others are not kept from theirs
}

TEST_CASE("file: a long write to memory shuts out no descriptor and no limit",
          "[file][threads]") {
  const Folder folder;
  NoDisk calls;
  const ScopedCalls scope(calls);
  const std::string text = pattern(20u << 20);
  const Pair pipe = make_pipe();
  int writes_before = 0;
  const auto listen = [&]() -> Task<> {
    co_await readable(pipe[0].get());
    writes_before = calls.writes;
  };
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a", for_writing());
    const Job<> listens = spawn(listen);
    for (int i = 0; i < 3; ++i) co_await yield_now();
    REQUIRE(put(pipe[1].get(), "x"));
    co_await file.write(text);
    CHECK(calls.writes == 80);
    CHECK(writes_before > 0);
    CHECK(writes_before < 10);
    co_await join(listens);
    const auto late = co_await within(1ns, file.write_at(text, 0));
    CHECK_FALSE(late);
    CHECK(calls.writes < 90);
  };
  run(body());
}

TEST_CASE("file: at the limit of a file's size there is an error and no signal",
          "[file][threads]") {
  const Folder folder;
  const DiskOrNone calls;
  constexpr std::uint64_t kLimit = 64u << 20;
  const std::string text = pattern(1000);
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a", for_writing());
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit limit{kLimit, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    std::error_code code;
    const std::size_t written =
        co_await file.write_at(text, kLimit - 100, code);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(written == 100);
    CHECK(code == std::errc::file_too_large);
  };
  run(body());
}

TEST_CASE("file: a limit that ends between two pieces is no deadlock",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", pattern(4u << 20));
  SlowMemory calls;
  const ScopedCalls scope(calls);
  std::string got(4u << 20, '\0');
  LoopOptions options;
  options.budget = 0;  // it goes behind after each piece
  Loop loop(options);
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a");
    Deadline limit(1h);
    calls.limit = &limit;
    const auto late = co_await within(limit, file.read_at(got, 0));
    CHECK_FALSE(late);
    CHECK(calls.asked >= 2);
    const std::size_t all = co_await file.read_at(got, 0);
    CHECK(all == got.size());
  };
  loop.run(body());
}

TEST_CASE("file: a device is not in memory, wherever its name lies",
          "[file][threads]") {
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file("/dev/null", for_writing());
    CHECK_FALSE(file.in_memory());
    co_await file.write("x");
  };
  run(body());
}

TEST_CASE("file: a kill in the middle of a write to memory tells how far it is",
          "[file][threads][kill]") {
  const Folder folder;
  NoDisk calls;
  calls.most = 1000;
  const ScopedCalls scope(calls);
  const std::string text = pattern(20u << 20);
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a", for_writing());
    const auto fill = [&]() -> Task<> { co_await file.write(text); };
    const Job<> fills = spawn(fill);
    while (calls.writes == 0) co_await yield_now();
    co_await kill(fills);
    const std::uint64_t size = co_await file.size();
    CHECK(size > 0);
    CHECK(size < text.size());
    CHECK(file.position() == size);
    co_await file.write("end");  // nobody holds the position
    co_await file.close();
    CHECK(content_of(folder / "a") == text.substr(0, size) + "end");
  };
  run(body());
}

TEST_CASE("file: what goes wrong in memory is told as on a disk",
          "[file][threads]") {
  const Folder folder;
  NoDisk calls;
  const ScopedCalls scope(calls);
  const auto body = [&](int error) -> Task<> {
    const File file = co_await open_file(folder / "a", for_writing());
    std::error_code code;
    const std::size_t written = co_await file.write_at("0123", 0, code);
    CHECK(code.value() == error);
    CHECK(written == 0);
    co_await file.write_at("fine", 0);
  };
  calls.most = -ENOSPC;
  run(body(ENOSPC));
  calls.most = 0;  // which a loop could repeat for ever
  run(body(EIO));
  CHECK(content_of(folder / "a") == "fine");
}

TEST_CASE("file: parallel writes at offsets make the right file",
          "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  const std::string text = pattern(MaybeShortIo::wanted() ? 1000 : 1000'000);
  const std::size_t parts = 50;
  const std::size_t size = text.size() / parts;
  const auto write_part = [&](const File& file, std::size_t part) -> Task<> {
    const std::string_view all = text;
    co_await file.write_at(all.substr(part * size, size), part * size);
  };
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "parts", for_writing());
    TaskGroup group;
    for (std::size_t i = 0; i < parts; ++i) {
      group.spawn(write_part, std::cref(file), i * 37 % parts);
    }
    co_await group.join();
  };
  run(body());
  CHECK(content_of(folder / "parts") == text);
}

TEST_CASE("file: truncate, sync, rename and remove", "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  make(folder / "a", "0123456789");
  const auto body = [&]() -> Task<> {
    FileOptions options;
    options.write = true;
    File file = co_await open_file(folder / "a", options);
    co_await file.truncate(4);
    co_await file.sync();
    co_await file.sync_data();
    const std::uint64_t size = co_await file.size();
    CHECK(size == 4);
    co_await file.close();
    co_await rename_file(folder / "a", folder / "b");
    CHECK(content_of(folder / "b") == "0123");
    co_await remove_file(folder / "b");
    CHECK(folder.files() == 0);
  };
  run(body());
}

// ---------------------------------------------------------------------- errors

TEST_CASE("file: errors name the call and the file", "[file][threads]") {
  const Folder folder;
  const auto body = [&]() -> Task<> {
    const auto open = [&](std::string path, FileOptions options) -> Task<> {
      (void)co_await open_file(path, options);
    };
    const std::string none = folder / "none";
    const std::string missing = co_await error_of(open(none, FileOptions()));
    CHECK(missing == "open " + none + ": " + text_of_error(ENOENT));
    const std::string dir = co_await error_of(open("/tmp", FileOptions()));
    CHECK(dir == "open /tmp: " + text_of_error(EISDIR));
    make(folder / "there", "x");
    FileOptions fresh = for_writing();
    fresh.exclusive = true;
    const std::string exists = co_await error_of(open(folder / "there", fresh));
    CHECK(contains(exists, text_of_error(EEXIST)));
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    const std::string pipe =
        co_await error_of(open(folder / "pipe", FileOptions()));
    CHECK(contains(pipe, "a pipe or socket and no file"));
    const std::string from = folder / "from";
    const std::string to = folder / "to";
    const std::string renamed = co_await error_of(rename_file(from, to));
    CHECK(renamed ==
          "rename " + from + " to " + to + ": " + text_of_error(ENOENT));
    const std::string removed = co_await error_of(remove_file(from));
    CHECK(removed == "remove " + from + ": " + text_of_error(ENOENT));
    const std::string read = co_await error_of([](std::string p) -> Task<> {
      const File file = co_await open_file(p);
      co_await file.write("x");
    }(folder / "there"));
    CHECK(read == "write " + (folder / "there") + ": " + text_of_error(EBADF));
    const std::string closed = co_await error_of([]() -> Task<> {
      const File file;
      char buffer[1];
      (void)co_await file.read(buffer);
    }());
    CHECK(contains(closed, "read a closed file"));
  };
  run(body());
}

TEST_CASE("file: an offset beyond all files is not taken for the position",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "abcdefghij");
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a", for_updating());
    file.seek(3);
    std::error_code code;
    char buffer[4];
    const auto top = std::uint64_t{1} << 63;
    for (const std::uint64_t offset : {~std::uint64_t{0}, top, top + 3}) {
      const std::size_t got = co_await file.read_at(buffer, offset, code);
      CHECK(got == 0);
      CHECK(code == std::errc::invalid_argument);
      const std::size_t put = co_await file.write_at("XY", offset, code);
      CHECK(put == 0);
      CHECK(code == std::errc::invalid_argument);
      CHECK(file.position() == 3);
    }
    file.seek(~std::uint64_t{0});
    co_await file.read(buffer, code);
    CHECK(code == std::errc::invalid_argument);
  };
  run(body());
  CHECK(content_of(folder / "a") == "abcdefghij");
}

TEST_CASE("file: a path with a NUL does not lead to the file before it",
          "[file][threads]") {
  const Folder folder;
  make(folder / "keep", "kept");
  const std::string path = folder / std::string("keep\0.tmp", 9);
  const auto refused = [](Task<> task) {
    std::string error;
    try {
      run(std::move(task));
    } catch (const std::system_error& caught) {
      CHECK(caught.code() == std::errc::invalid_argument);
      error = caught.what();
    }
    return error;
  };
  const auto open = [](std::string p) -> Task<> { co_await open_file(p); };
  CHECK(contains(refused(remove_file(path)), "keep?.tmp, a path with a NUL"));
  CHECK(refused(write_file(path, "lost")) != "");
  CHECK(refused(replace_file(path, "lost")) != "");
  CHECK(refused(rename_file(path, folder / "b")) != "");
  CHECK(refused(rename_file(folder / "keep", path)) != "");
  CHECK(refused(sync_folder(path)) != "");
  CHECK(refused(open(path)) != "");
  CHECK(content_of(folder / "keep") == "kept");
  CHECK(folder.files() == 1);
}

TEST_CASE("file: the error_code forms set instead of throwing",
          "[file][threads]") {
  const Folder folder;
  make(folder / "there", "abc");
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "there");
    std::error_code code;
    char buffer[8];
    const std::size_t got = co_await file.read_at(buffer, 1, code);
    CHECK(got == 2);
    CHECK_FALSE(code);
    const std::size_t none = co_await file.write_at("x", 0, code);
    CHECK(none == 0);
    CHECK(code == std::errc::bad_file_descriptor);
  };
  run(body());
}

TEST_CASE("file: a full disk is an error, and what fitted is told",
          "[file][threads]") {
  const Folder folder;
  FaultPlan plan;
  plan.one_byte().fail(Call::kPwrite, ENOSPC, 4);
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "full", for_writing());
    std::error_code code;
    const std::size_t some = co_await file.write("0123456789", code);
    CHECK(some == 3);
    CHECK(code == std::errc::no_space_on_device);
    CHECK(file.position() == 3);
    co_await file.write("3456789");
  };
  run(body());
  CHECK(plan.failed(Call::kPwrite) == 1);
  CHECK(content_of(folder / "full") == "0123456789");
}

TEST_CASE("file: interrupted and short calls change nothing",
          "[file][threads]") {
  const Folder folder;
  const std::string text = pattern(300);
  const auto body = [&]() -> Task<std::string> {
    co_await write_file(folder / "a", text);
    co_await replace_file(folder / "a", text + "!");
    co_return co_await read_file(folder / "a");
  };
  FaultPlan plan;
  plan.one_byte().interrupt_every(2);
  CHECK(run(body()) == text + "!");
  CHECK(plan.interrupted() > 300);
  CHECK(plan.shortened() > 300);
}

TEST_CASE("file: two jobs at one position are a mistake that is told",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "abc");
  Stuck disk;
  const ScopedCalls scope(disk);
  const auto read = [](const File& file) -> Task<> {
    char buffer[3];
    (void)co_await file.read(buffer);
  };
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a");
    const Job<> first = spawn(read, std::cref(file));
    co_await yield_now();
    const std::string second = co_await error_of(read(file));
    CHECK(contains(second, "another job reads or writes at its position"));
    disk.answers = true;
    co_await join(first);
    CHECK(file.position() == 3);
  };
  run(body());
}

// ---------------------------------------------------------- closing, and kills

TEST_CASE("file: closing it while a job reads it is a mistake",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "abc");
  Stuck disk;
  const ScopedCalls scope(disk);
  const auto read = [](const File& file) -> Task<> {
    char buffer[3];
    (void)co_await file.read(buffer);
  };
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a");
    const Job<> reads = spawn(read, std::cref(file));
    co_await yield_now();
    const std::string said = co_await error_of(file.close());
    CHECK(contains(said, "while a job reads or writes it"));
    CHECK(file);
    disk.answers = true;
    co_await join(reads);
    co_await file.close();
  };
  run(body());
}

TEST_CASE("file: one that goes while it is read keeps its number until then",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "abc");
  Stuck disk;
  const ScopedCalls scope(disk);
  std::string got;
  const auto body = [&]() -> Task<> {
    auto file = std::make_unique<File>(co_await open_file(folder / "a"));
    const int number = file->fd();
    const auto read = [&](const File& from) -> Task<> {
      char buffer[3];
      const std::size_t count = co_await from.read(buffer);
      got.assign(buffer, count);
    };
    const Job<> reads = spawn(read, std::cref(*file));
    co_await yield_now();
    while (!disk.asked) std::this_thread::yield();
    file.reset();
    CHECK(is_open(number));
    disk.answers = true;
    co_await join(reads);
    CHECK_FALSE(is_open(number));
  };
  run(body());
  CHECK(got == "abc");
}

TEST_CASE("file: a kill waits for the piece that is read, and moves nothing",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "abc");
  Stuck disk;
  const ScopedCalls scope(disk);
  const auto read = [](const File& file) -> Task<> {
    char buffer[3];
    (void)co_await file.read(buffer);
    co_await yield_now();
    FAIL("it went on after its kill");
  };
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a");
    const Job<> reads = spawn(read, std::cref(file));
    co_await yield_now();
    while (!disk.asked) std::this_thread::yield();
    CHECK_FALSE(reads.kill());
    disk.answers = true;
    co_await wait(reads);
    CHECK(reads.killed());
    char buffer[3];
    const std::size_t again = co_await file.read_at(buffer, 0);
    CHECK(again == 3);
  };
  run(body());
}

TEST_CASE("file: a kill between two pieces ends a large write early",
          "[file][threads]") {
  const Folder folder;
  const std::string text = pattern(8u << 20);
  Stuck disk;
  const ScopedCalls scope(disk);
  const auto body = [&]() -> Task<> {
    const File file = co_await open_file(folder / "a", for_writing());
    const auto write = [&]() -> Task<> { co_await file.write(text); };
    const Job<> writes = spawn(write);
    co_await yield_now();
    while (!disk.asked) std::this_thread::yield();
    CHECK_FALSE(writes.kill());
    disk.answers = true;
    co_await wait(writes);
    CHECK(writes.killed());
    CHECK(file.position() == 1u << 20);
    const std::uint64_t size = co_await file.size();
    CHECK(size == file.position());
  };
  run(body());
}

TEST_CASE("file: a slow disk does not hold up the loop", "[file][threads]") {
  const Folder folder;
  make(folder / "a", "abc");
  Stuck disk;
  const ScopedCalls scope(disk);
  const auto read = [&]() -> Task<> {
    const std::string text = co_await read_file(folder / "a");
    CHECK(text == "abc");
  };
  const auto body = [&]() -> Task<> {
    const Job<> reads = spawn(read);
    while (!disk.asked) co_await yield_now();
    for (int i = 0; i < 100; ++i) co_await violet::sleep(10us);
    disk.answers = true;
    co_await join(reads);
  };
  run(body());
}

// ----------------------------------------------------------------- whole files

TEST_CASE("read_file: all of it, also where the system knows no size",
          "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  make(folder / "empty", "");
  make(folder / "some", "some");
  const auto body = [&]() -> Task<> {
    const std::string empty = co_await read_file(folder / "empty");
    CHECK(empty.empty());
    const std::string some = co_await read_file(folder / "some");
    CHECK(some == "some");
#if defined(__linux__)
    const std::string status = co_await read_file("/proc/self/status");
    CHECK(contains(status, "Threads:"));
#endif
  };
  run(body());
}

TEST_CASE("read_file: one over the limit is refused", "[file][threads]") {
  const Folder folder;
  make(folder / "a", "0123456789");
  const auto body = [&]() -> Task<> {
    const auto read = [&](std::string path, std::size_t most) -> Task<> {
      (void)co_await read_file(path, most);
    };
    const std::string fits = co_await error_of(read(folder / "a", 10));
    CHECK(fits == "nothing");
    const std::string not_quite = co_await error_of(read(folder / "a", 9));
    CHECK(contains(not_quite, "more than 9 bytes"));
#if defined(__linux__)
    const std::string endless = co_await error_of(read("/dev/zero", 100'000));
    CHECK(contains(endless, "more than 100000 bytes"));
#endif
  };
  run(body());
}

TEST_CASE("write_file: the file has what it was given, and no more",
          "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  make(folder / "a", "something longer");
  const auto body = [&]() -> Task<> {
    co_await write_file(folder / "a", "short");
    co_await write_file(folder / "b", "");
  };
  run(body());
  CHECK(content_of(folder / "a") == "short");
  CHECK(folder.files() == 2);
}

TEST_CASE("replace_file: the new file is whole, and its folder synced",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "old");
  FaultPlan plan;
  run(replace_file(folder / "a", "new"));
  CHECK(content_of(folder / "a") == "new");
  CHECK(folder.files() == 1);
  CHECK(plan.count(Call::kSync) == 2);
}

TEST_CASE("replace_file: a name may be as long as names are",
          "[file][threads]") {
  const Folder folder;
  const std::string longest(255, 'n');
  run(replace_file(folder / longest, "new"));
  CHECK(content_of(folder / longest) == "new");
  CHECK(folder.files() == 1);
}

TEST_CASE("replace_file: whatever fails, the old file stays and no other",
          "[file][threads]") {
  const Folder folder;
  make(folder / "a", "old");
  const auto fails = [&](Call call, int error, std::uint64_t nth = 1) {
    CAPTURE(int(call));
    FaultPlan plan;
    plan.fail(call, error, nth);
    CHECK_THROWS_AS(run(replace_file(folder / "a", "new")), std::system_error);
    CHECK(plan.failed(call) == 1);
    CHECK(content_of(folder / "a") == "old");
    CHECK(folder.files() == 1);
  };
  fails(Call::kOpen, EACCES);
  fails(Call::kFileType, EIO);
  fails(Call::kPwrite, ENOSPC);
  fails(Call::kSync, EIO);
  fails(Call::kClose, EIO);
  fails(Call::kRename, EXDEV);
}

TEST_CASE("replace_file: a kill at every wait leaves the old file or the new",
          "[file][threads][kill]") {
  const Folder folder;
  make(folder / "a", "old");
  const auto body = [&](int&) -> Task<> {
    co_await replace_file(folder / "a", "new");
  };
  testing::Options options;
  options.seeds = 50;
  const auto counts = testing::kill_everywhere<int>(
      body,
      [&](int&) {
        const std::string now = content_of(folder / "a");
        if (now != "old" && now != "new") throw std::runtime_error("torn");
        if (folder.files() != 1) throw std::runtime_error("a file is left");
        make(folder / "a", "old");
      },
      options);
  CHECK(counts.waits >= 5);
}

TEST_CASE("read_file: of any size, whatever the limit", "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  const std::size_t size = GENERATE(0u, 1u, 4095u, (2u << 20) - 1, 3u << 20);
  if (MaybeShortIo::wanted() && size > 10'000) return;
  const std::string text = pattern(size);
  make(folder / "a", text);
  const auto body = [&]() -> Task<> {
    for (const std::size_t most : {size, size + 1, ~std::size_t{0}}) {
      const std::string got = co_await read_file(folder / "a", most);
      CHECK(got == text);
    }
    const std::string kernel = co_await read_file("/proc/self/status");
    CHECK(kernel.size() > 500);  // of which the size tells nothing
    if (size == 0) co_return;
    std::string error = "nothing";
    try {
      (void)co_await read_file(folder / "a", size - 1);
    } catch (const std::system_error& e) {
      error = e.what();
    }
    CHECK(contains(error, "more than " + std::to_string(size - 1) + " bytes"));
  };
  run(body());
}

// ---------------------------------------------------------------- write-behind

TEST_CASE("FileWriter: what goes in is in the file", "[file][threads]") {
  const MaybeShortIo io;
  const Folder folder;
  const std::string text = pattern(1000);
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a", for_writing());
    FileWriter out(std::move(file), 64);
    const std::string_view all = text;
    std::size_t at = 0;
    for (std::size_t size = 1; at < all.size(); size = size * 3 % 101) {
      const std::string_view part = all.substr(at, size);
      co_await out.write(part);
      at += part.size();
    }
    co_await out.flush();
    CHECK(content_of(folder / "a") == text);
    const std::span<char> room = co_await out.room();
    REQUIRE_FALSE(room.empty());
    room[0] = '!';
    out.commit(1);
    CHECK_THROWS_AS(out.commit(64), Misuse);
    co_await out.sync();
    co_await out.close();
    CHECK_FALSE(out.file());
  };
  run(body());
  CHECK(content_of(folder / "a") == text + "!");
}

TEST_CASE("FileWriter: it goes on while the disk is busy, by one block",
          "[file][threads]") {
  const Folder folder;
  Stuck disk;
  const ScopedCalls scope(disk);
  int taken = 0;
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a", for_writing());
    FileWriter out(std::move(file), 10);
    const auto fill = [&]() -> Task<> {
      for (; taken < 100; ++taken) co_await out.write("x");
    };
    const Job<> fills = spawn(fill);
    while (!disk.asked) co_await yield_now();
    for (int i = 0; i < 50; ++i) co_await yield_now();
    CHECK(taken >= 19);  // one block away, and the next full
    CHECK(taken <= 20);
    disk.answers = true;
    co_await join(fills);
    co_await out.close();
  };
  run(body());
  CHECK(content_of(folder / "a") == std::string(100, 'x'));
}

TEST_CASE("FileWriter: to memory it writes from one block", "[file][threads]") {
  const Folder folder;
  NoDisk calls;
  const ScopedCalls scope(calls);
  std::string expected;
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a", for_writing());
    FileWriter out(std::move(file), 10);
    const char* block = nullptr;
    for (int i = 0; i < 20; ++i) {
      const std::span<char> room = co_await out.room();
      if (block == nullptr) block = room.data();
      CHECK(room.data() == block);
      CHECK(room.size() == 10);
      std::memset(room.data(), 'a' + i, 10);
      expected.append(room.data(), 10);
      out.commit(10);
    }
    CHECK(calls.writes == 19);
    co_await out.close();
  };
  run(body());
  CHECK(calls.elsewhere == 0);
  CHECK(content_of(folder / "a") == expected);
}

TEST_CASE("FileWriter: a limit that cuts a write to memory loses nothing",
          "[file][threads]") {
  const Folder folder;
  NoDisk calls;
  calls.most = 1000;
  const ScopedCalls scope(calls);
  const std::string first = pattern(20u << 20);
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a", for_writing());
    FileWriter out(std::move(file), first.size());
    co_await out.write(first);  // handed over
    const auto more = [&]() -> Task<> { co_await out.write("more"); };
    const Job<> waits = spawn(more);
    while (calls.writes == 0) co_await yield_now();
    co_await kill(waits);  // while the one block is being written
    co_await out.write("end");
    co_await out.close();
  };
  run(body());
  CHECK(content_of(folder / "a") == first + "end");
}

TEST_CASE("FileWriter: an error is told at the next call, and again",
          "[file][threads]") {
  const Folder folder;
  const DiskOrNone calls;
  FaultPlan plan;
  plan.fail(Call::kPwrite, ENOSPC);
  const auto body = [&]() -> Task<> {
    File file = co_await open_file(folder / "a", for_writing());
    FileWriter out(std::move(file), 4);
    co_await out.write("0123");
    const std::string flushed = co_await error_of(out.flush());
    CHECK(flushed == "write " + (folder / "a") + ": " + text_of_error(ENOSPC));
    const std::string written = co_await error_of(out.write("4"));
    CHECK(written == flushed);
    const std::string closed = co_await error_of(out.close());
    CHECK(closed == flushed);
  };
  run(body());
}

TEST_CASE("FileWriter: an error that nobody asked for is a line on stderr",
          "[file][threads]") {
  const Folder folder;
  const DiskOrNone calls;
  FaultPlan plan;
  plan.fail(Call::kPwrite, ENOSPC);
  const std::string said = errors_of([&] {
    const auto body = [&]() -> Task<> {
      File file = co_await open_file(folder / "a", for_writing());
      FileWriter out(std::move(file), 4);
      co_await out.write("0123");
      co_await yield_now();
      while (contains(Loop::current().dump(), "write " + (folder / "a"))) {
        co_await violet::sleep(100us);
      }
    };
    run(body());
  });
  CHECK(contains(said, "nobody asked whether " + (folder / "a")));
}

TEST_CASE("file: a kill at every wait of a copy leaves nothing behind",
          "[file][threads][kill]") {
  const Folder folder;
  const DiskOrNone calls;
  make(folder / "from", "0123456789");
  const auto copy = [&]() -> Task<> {
    const File from = co_await open_file(folder / "from");
    File to = co_await open_file(folder / "to", for_writing());
    FileWriter out(std::move(to), 4);
    char buffer[3];
    while (const std::size_t count = co_await from.read(buffer)) {
      co_await out.write({buffer, count});
    }
    co_await within(1h, out.sync());
    co_await out.close();
  };
  // Whoever kills the job that writes a block kills no copy: that is told.
  const auto body = [&](int&) -> Task<> {
    const std::string error = co_await error_of(copy());
    if (error != "nothing" && !contains(error, text_of_error(ECANCELED))) {
      throw std::runtime_error(error);
    }
  };
  testing::Options options;
  options.seeds = 50;
  const int before = open_descriptors();
  const auto counts = testing::kill_everywhere<int>(
      body,
      [&](int&) {
        const std::string now = content_of(folder / "to");
        if (std::string_view("0123456789").substr(0, now.size()) != now) {
          throw std::runtime_error("the copy is wrong");
        }
      },
      options);
  CHECK(counts.waits >= 10);
  CHECK(open_descriptors() == before);
}
