// transfer_store_test.cpp - uploads on a disk: in every order, by several at
// once, and whoever dies.
// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "../apps/transfer/store.hpp"
#include "../runtime/testing.hpp"
#include "program.hpp"
#include "support.hpp"
#include "transfer_support.hpp"

using namespace violet;
using namespace std::chrono_literals;
using programs::contents;
using programs::Folder;
using programs::Names;
using programs::noise;
using support::contains;
using transfer::ByteRange;
using transfer::ByteSet;
using transfer::Fragment;
using transfer::PieceSink;
using transfer::Progress;
using transfer::Refused;
using transfer::Store;
using transfer::StoreOptions;
using transfer::WholeSink;
using transfer::Why;

namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/// Gives a sink some bytes, as a peer that sends `step` at a time would.
Task<> pour(transfer::Sink& sink, std::string_view data,
            std::size_t step = 1 << 20) {
  while (!data.empty()) {
    const std::span<char> room = co_await sink.room();
    require(!room.empty(), "there is no room");
    const std::size_t count = std::min({room.size(), data.size(), step});
    std::copy_n(data.data(), count, room.data());
    co_await sink.commit(count);
    data.remove_prefix(count);
  }
}

/// Sends a range of `data` as a piece of it.
Task<Progress> put(Store& store, std::string name, const std::string& data,
                   ByteRange range, std::string id = "",
                   std::size_t step = 1 << 20) {
  Fragment piece(range, data.size(), id);
  PieceSink chunk(store, name, std::move(piece));
  co_await chunk.begin();
  co_await pour(chunk, std::string_view(data).substr(range.begin, range.size()),
                step);
  co_return co_await chunk.finish();
}

Task<Progress> put_whole(Store& store, std::string name, std::string data) {
  WholeSink whole(store, name);
  co_await whole.begin();
  co_await pour(whole, data);
  co_return co_await whole.finish();
}

/// What somebody is refused; kBadName and text "" if nothing is.
template <class T>
Task<std::pair<Why, std::string>> refusal_of(Task<T> task) {
  std::pair<Why, std::string> said;
  try {
    co_await std::move(task);
  } catch (const Refused& e) {
    said = {e.why(), e.what()};
  }
  co_return said;
}

StoreOptions impatient(Duration patience = 0s) {
  StoreOptions options;
  options.patience = patience;
  return options;
}

std::vector<ByteRange> ranges(std::vector<ByteRange> list) {
  return list;
}

}  // namespace

TEST_CASE("transfer store: a set of bytes joins what touches", "[transfer]") {
  ByteSet set;
  set.add({10, 20});
  set.add({30, 40});
  set.add({5, 5});
  CHECK(set.ranges() == ranges({{10, 20}, {30, 40}}));
  CHECK(set.missing({0, 50}) == ranges({{0, 10}, {20, 30}, {40, 50}}));
  CHECK(set.missing({12, 20}).empty());
  CHECK(set.missing({15, 35}) == ranges({{20, 30}}));
  set.add({20, 30});
  CHECK(set.ranges() == ranges({{10, 40}}));
  set.add({0, 100});
  CHECK(set.ranges() == ranges({{0, 100}}));
  CHECK(set.has_all(100));
  CHECK_FALSE(set.has_all(101));
  CHECK(ByteSet().has_all(0));
}

TEST_CASE("transfer store: a set of bytes agrees with a bit for each",
          "[transfer]") {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    ByteSet set;
    std::vector<bool> bits(40);
    for (int i = 0; i < 12; ++i) {
      const std::uint64_t begin = random() % 40;
      const std::uint64_t end = begin + random() % (41 - begin);
      set.add({begin, end});
      for (auto at = begin; at < end; ++at) bits[at] = true;
      std::vector<bool> missing(40);
      for (const ByteRange& gap : set.missing({0, 40})) {
        REQUIRE(gap.begin < gap.end);
        for (auto at = gap.begin; at < gap.end; ++at) missing[at] = true;
      }
      for (std::size_t at = 0; at < 40; ++at) REQUIRE(missing[at] != bits[at]);
      for (std::size_t k = 1; k < set.ranges().size(); ++k) {
        REQUIRE(set.ranges()[k - 1].end < set.ranges()[k].begin);
      }
    }
  }
}

TEST_CASE("transfer store: a whole body becomes a file, and replaces one",
          "[transfer]") {
  const Folder folder;
  const support::MaybeShortIo io;
  const std::size_t most = support::MaybeShortIo::wanted() ? 3000 : 3'000'000;
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    bool replaced = false;
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, most}) {
      const std::string data = noise(size);
      const Progress progress = co_await put_whole(store, "a b", data);
      CHECK(progress.complete);
      CHECK(progress.size == size);
      CHECK(progress.replaced == std::exchange(replaced, true));
      CHECK((contents(folder.file("a b")) == data));
      CHECK(folder.names() == Names{"a b"});
    }
  };
  run(body());
}

TEST_CASE("transfer store: nobody sees a whole body that is not complete",
          "[transfer]") {
  const Folder folder;
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put_whole(store, "name", "before");
    {
      WholeSink whole(store, "name");
      co_await whole.begin();
      co_await pour(whole, "half");
      CHECK(folder.names().size() == 2);
      CHECK(folder.names()[0].starts_with(".name."));
      CHECK(contents(folder.file("name")) == "before");
    }
    CHECK(folder.names() == Names{"name"});
    CHECK(contents(folder.file("name")) == "before");
  };
  run(body());
}

TEST_CASE("transfer store: pieces may come in every order", "[transfer]") {
  const support::MaybeShortIo io;
  const std::string data = noise(50);
  // Some overlap, some repeat, and one is all of it but its ends.
  const std::vector<ByteRange> pieces = {{0, 10}, {10, 25}, {20, 40},
                                         {5, 12}, {40, 50}, {0, 10}};
  std::vector<std::size_t> order = {0, 1, 2, 3, 4, 5};
  do {
    const Folder folder;
    const auto body = [&]() -> Task<> {
      Store store(folder.path());
      ByteSet got;
      for (const std::size_t i : order) {
        const bool was_complete = got.has_all(50);
        if (was_complete) break;
        got.add(pieces[i]);
        const Progress progress =
            co_await put(store, "f", data, pieces[i], "", 7);
        REQUIRE(progress.received == got.ranges());
        REQUIRE(progress.complete == got.has_all(50));
        REQUIRE(progress.size == 50);
        REQUIRE((::access(folder.file("f").c_str(), F_OK) == 0) ==
                progress.complete);
      }
      REQUIRE(contents(folder.file("f")) == data);
      REQUIRE(folder.names() == Names{"f"});
    };
    run(body());
    if (support::MaybeShortIo::wanted()) break;
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE(
    "transfer store: many pieces at once, on several loops' worth of "
    "stores",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(5'000'001);
  const auto body = [&]() -> Task<> {
    Store first(folder.path());
    Store second(folder.path());
    int completed = 0;
    const auto send = [&](std::uint64_t begin, std::uint64_t end) -> Task<> {
      Store& store = begin % 2 == 0 ? first : second;
      const ByteRange range{begin, end};
      const Progress progress = co_await put(store, "f", data, range, "id");
      if (progress.complete) ++completed;
    };
    TaskGroup group;
    for (std::uint64_t at = 0; at < data.size(); at += 100'001) {
      const auto end = std::min<std::uint64_t>(at + 150'000, data.size());
      group.spawn(send, at, end);
    }
    co_await group.join();
    CHECK(completed >= 1);
    CHECK((contents(folder.file("f")) == data));
    CHECK(folder.names() == Names{".f.upload", "f"});
  };
  run(body());
}

TEST_CASE(
    "transfer store: an upload is told how far it is, and goes on in "
    "another store",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(1000);
  const auto body = [&]() -> Task<> {
    {
      Store store(folder.path());
      const auto none = co_await store.progress("f");
      CHECK_FALSE(none.has_value());
      co_await put(store, "f", data, {100, 300}, "id");
    }
    Store store(folder.path());
    const auto some = co_await store.progress("f");
    REQUIRE(some.has_value());
    CHECK(some->id == "id");
    CHECK(some->json() ==
          "{\"name\": \"f\", \"size\": 1000, \"received\": [[100, 300]], "
          "\"complete\": false}\n");
    co_await put(store, "f", data, {300, 1000}, "id");
    const Progress last = co_await put(store, "f", data, {0, 100}, "id");
    CHECK(last.complete);
    CHECK_FALSE(last.replaced);
    CHECK((contents(folder.file("f")) == data));
  };
  run(body());
}

TEST_CASE(
    "transfer store: a piece that comes once more after the end changes "
    "nothing if the upload has an id",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(1000);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "f", data, {0, 1000}, "id");
    const Progress again = co_await put(store, "f", data, {0, 500}, "id");
    CHECK(again.complete);
    CHECK(again.replaced);
    CHECK(folder.names() == Names{".f.upload", "f"});
    const auto told = co_await store.progress("f");
    REQUIRE(told.has_value());
    CHECK(told->complete);

    // Another one begins anew, and so does the same if the file has changed.
    const std::string other = noise(1000, 2);
    const Progress begun = co_await put(store, "f", other, {0, 500}, "other");
    CHECK_FALSE(begun.complete);
    const Progress ended =
        co_await put(store, "f", other, {500, 1000}, "other");
    CHECK(ended.complete);
    CHECK((contents(folder.file("f")) == other));
    co_await put_whole(store, "f", "something else");
    const auto gone = co_await store.progress("f");
    CHECK_FALSE(gone.has_value());
    const Progress anew = co_await put(store, "f", other, {0, 500}, "other");
    CHECK_FALSE(anew.complete);
    CHECK(contents(folder.file("f")) == "something else");
  };
  run(body());
}

TEST_CASE(
    "transfer store: without ids the same name and size are one upload, "
    "and after its end another",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(100);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    for (int i = 0; i < 2; ++i) {
      const Progress half = co_await put(store, "f", data, {0, 50});
      CHECK_FALSE(half.complete);
      const Progress whole = co_await put(store, "f", data, {50, 100});
      CHECK(whole.complete);
      CHECK(whole.replaced == (i == 1));
      CHECK(folder.names() == Names{"f"});
    }
  };
  run(body());
}

TEST_CASE("transfer store: another upload of a name in progress is a conflict",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(100);
  const std::string longer = noise(101);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "f", data, {0, 50}, "id");
    for (const std::string id : {"", "other"}) {
      const auto said =
          co_await refusal_of(put(store, "f", data, {50, 60}, id));
      CHECK(said.first == Why::kConflict);
      CHECK(said.second ==
            "another upload of 'f' is in progress, of 100 bytes");
    }
    const auto said =
        co_await refusal_of(put(store, "f", longer, {50, 60}, "id"));
    CHECK(said.first == Why::kConflict);
    const auto same = co_await store.progress("f");
    CHECK(same->received == ranges({{0, 50}}));

    // Unless it is given up.
    const bool gone = co_await store.give_up("f");
    CHECK(gone);
    CHECK(folder.names().empty());
    const bool nothing = co_await store.give_up("f");
    CHECK_FALSE(nothing);
    const Progress begun = co_await put(store, "f", longer, {50, 60}, "new");
    CHECK(begun.size == 101);
  };
  run(body());
}

TEST_CASE("transfer store: what an upload has is never written again",
          "[transfer]") {
  const Folder folder;
  const std::string data(100, 'a');
  const std::string other(100, 'b');
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "f", data, {20, 60});
    co_await put(store, "f", other, {0, 90});
    co_await put(store, "f", other, {20, 100});
    CHECK(contents(folder.file("f")) ==
          std::string(20, 'b') + std::string(40, 'a') + std::string(40, 'b'));
  };
  run(body());
}

TEST_CASE(
    "transfer store: who sends the same bytes waits for the first, and "
    "not for ever",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(100);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    Store hasty(folder.path(), impatient());
    std::optional<PieceSink> first;
    first.emplace(store, "f", Fragment({0, 50}, 100, ""));
    co_await first->begin();
    co_await pour(*first, data.substr(0, 20));

    const auto said = co_await refusal_of(put(hasty, "f", data, {40, 100}));
    CHECK(said.first == Why::kBusy);
    CHECK(said.second == "somebody else sends these bytes of 'f' now");
#ifdef F_OFD_SETLK
    const Progress beside = co_await put(hasty, "f", data, {50, 60});
    CHECK(beside.received == ranges({{50, 60}}));
#endif

    const auto second = [&]() -> Task<> {
      const Progress all = co_await put(store, "f", data, {0, 100});
      CHECK(all.complete);
    };
    const Job<> waits = spawn(second);
    co_await violet::sleep(5ms);
    CHECK_FALSE(waits.ended());
    first.reset();  // without a word: its bytes count for nothing
    co_await join(waits);
    CHECK(contents(folder.file("f")) == data);
  };
  run(body());
}

TEST_CASE("transfer store: what came of a piece that was cut is kept",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(1000);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    {
      PieceSink chunk(store, "f", Fragment({100, 900}, 1000, "id"));
      co_await chunk.begin();
      co_await pour(chunk, std::string_view(data).substr(100, 321));
      const auto said = co_await refusal_of(chunk.finish());
      CHECK(said.second == "479 bytes of the range have not come");
      co_await chunk.keep();
      co_await chunk.keep();
    }
    const auto some = co_await store.progress("f");
    REQUIRE(some.has_value());
    CHECK(some->received == ranges({{100, 421}}));
    co_await put(store, "f", data, {0, 1000}, "id");
    CHECK((contents(folder.file("f")) == data));
  };
  run(body());
}

TEST_CASE("transfer store: a long piece is noted while it comes",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(1000);
  StoreOptions options;
  options.note_bytes = 100;
  const auto body = [&]() -> Task<> {
    Store store(folder.path(), options);
    PieceSink chunk(store, "f", Fragment({0, 1000}, 1000, "id"));
    co_await chunk.begin();
    co_await pour(chunk, std::string_view(data).substr(0, 355), 10);
    const auto some = co_await store.progress("f");
    REQUIRE(some.has_value());
    CHECK(some->received == ranges({{0, 300}}));
    co_await pour(chunk, std::string_view(data).substr(355), 10);
    const Progress all = co_await chunk.finish();
    CHECK(all.complete);
    CHECK((contents(folder.file("f")) == data));
  };
  run(body());
}

TEST_CASE("transfer store: a journal is short, however many pieces come",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(2600);
  const Call call = GENERATE(Call::kSocket, Call::kRename, Call::kSync);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    FaultPlan plan;
    std::size_t longest = 0;
    for (std::uint64_t at = 0; at + 1 < data.size(); ++at) {
      // Just before it is written anew for the first time: that may fail.
      if (at == 1001) plan.fail(call, EIO, call == Call::kSync ? 2 : 1);
      const Progress progress =
          co_await put(store, "f", data, {at, at + 1}, "id");
      REQUIRE(progress.received == ranges({{0, at + 1}}));
      longest = std::max<std::size_t>(
          longest, std::filesystem::file_size(folder.file(".f.upload")));
    }
    CHECK(plan.failed(call) == (call == Call::kSocket ? 0 : 1));
    CHECK(longest > 1000 * 10);
    CHECK(longest < 1010 * 30);
    CHECK(folder.names().size() == 2);
    const Progress all = co_await put(store, "f", data, {0, 2600}, "id");
    CHECK(all.complete);
    CHECK((contents(folder.file("f")) == data));
  };
  run(body());
}

TEST_CASE("transfer store: more bytes than a range has are refused",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(100);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    const auto send = [&](ByteRange range) -> Task<> {
      PieceSink chunk(store, "f", Fragment(range, 100, ""));
      co_await chunk.begin();
      co_await pour(chunk, data);
    };
    const auto said = co_await refusal_of(send({10, 20}));
    CHECK(said.first == Why::kBadPiece);
    CHECK(said.second == "more bytes came than the range has");
    for (const ByteRange range :
         {ByteRange{10, 10}, ByteRange{20, 10}, ByteRange{50, 101}}) {
      const auto bad = co_await refusal_of(send(range));
      CHECK(bad.first == Why::kBadPiece);
    }
    for (const std::string id : {"-", "two words", "\x01", "\xc3\xa4"}) {
      const auto bad = co_await refusal_of(put(store, "f", data, {0, 1}, id));
      CHECK(bad.first == Why::kBadPiece);
    }
  };
  run(body());
}

TEST_CASE("transfer store: names that are refused", "[transfer]") {
  const Folder folder;
  const auto file = [&](const char* name) { return folder.file(name); };
  REQUIRE(::mkdir(file("folder").c_str(), 0777) == 0);
  REQUIRE(::mkfifo(file("fifo").c_str(), 0600) == 0);
  REQUIRE(::symlink("/etc", file("outside").c_str()) == 0);
  REQUIRE(::symlink("/etc/passwd", file("link").c_str()) == 0);
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    struct Case {
      std::string name;
      Why why;
    };
    const std::vector<Case> cases = {
        {"", Why::kBadName},
        {"..", Why::kBadName},
        {"../f", Why::kBadName},
        {"folder/../f", Why::kBadName},
        {"folder/./f", Why::kBadName},
        {"/etc/f", Why::kBadName},
        {"folder/", Why::kBadName},
        {"folder//f", Why::kBadName},
        {std::string(231, 'x'), Why::kBadName},
        {"bad\xff", Why::kBadName},
        {"\xed\xa0\x80", Why::kBadName},
        {"\xc0\xaf", Why::kBadName},
        {"\xe2\x82", Why::kBadName},
        {std::string("nul\0", 4), Why::kBadName},
        {"new\nline", Why::kBadName},
        {"\x7f", Why::kBadName},
        {"next\xc2\x85line", Why::kBadName},
        {".hidden", Why::kHidden},
        {"folder/.hidden", Why::kHidden},
        {".folder/f", Why::kHidden},
        {"nowhere/f", Why::kNoFolder},
        {"folder", Why::kNoFile},
        {"fifo", Why::kNoFile},
        {"fifo/f", Why::kNoFile},
        {"link", Why::kNoFile},
        {"outside/f", Why::kNoFile},
    };
    for (const Case& one : cases) {
      CAPTURE(one.name);
      const auto whole = co_await refusal_of(put_whole(store, one.name, "x"));
      CHECK_FALSE(whole.second.empty());
      CHECK(whole.first == one.why);
      const auto piece = co_await refusal_of(put(store, one.name, "x", {0, 1}));
      CHECK(piece.second == whole.second);
      const auto look = co_await refusal_of(store.progress(one.name));
      CHECK(look.second == whole.second);
      const auto removal = co_await refusal_of(store.give_up(one.name));
      CHECK(removal.second == whole.second);
    }
    const std::string longest(230, 'x');
    for (const std::string name :
         {"folder/f", "\xc3\xa4 \"\\", longest.c_str()}) {
      const Progress all = co_await put(store, name, "x", {0, 1}, "id");
      CHECK(all.complete);
      CHECK(contents(file(name.c_str())) == "x");
    }
    const auto told = co_await store.progress("\xc3\xa4 \"\\");
    CHECK(contains(told->json(), "\"name\": \"\xc3\xa4 \\\"\\\\\""));
  };
  run(body());
}

// ------------------------------------------------------------- what goes wrong

TEST_CASE("transfer store: a disk that is full leaves what is there",
          "[transfer]") {
  const Folder folder;
  const std::string data = noise(3'000'000);
  const auto body = [&]() -> Task<> {
    StoreOptions options;
    options.note_bytes = 1'000'000;
    Store store(folder.path(), options);
    FaultPlan plan;
    co_await put(store, "f", data, {2'000'000, 3'000'000}, "id");
    std::string said;
    {
      PieceSink chunk(store, "f", Fragment({0, 2'000'000}, 3'000'000, "id"));
      co_await chunk.begin();
      co_await pour(chunk, std::string_view(data).substr(0, 1'200'000));
      plan.fail(Call::kPwrite, ENOSPC, 1, FaultPlan::kForEver);
      bool failed = false;
      try {
        co_await pour(chunk, std::string_view(data).substr(1'200'000, 800'000));
        co_await chunk.finish();
      } catch (const std::system_error& e) {
        said = e.what();
        failed = e.code() == std::errc::no_space_on_device;
      }
      CHECK(failed);
      CHECK(contains(said, ".part: No space left on device"));
      try {
        co_await chunk.keep();
      } catch (const std::system_error&) {
      }
    }
    plan.relent();
    const auto some = co_await store.progress("f");
    REQUIRE(some.has_value());
    CHECK(some->received.front().begin == 0);
    CHECK(some->received.front().end >= 1'000'000);
    CHECK(some->received.back() == ByteRange{2'000'000, 3'000'000});
    const std::uint64_t from = some->received.front().end;
    const Progress all =
        co_await put(store, "f", data, {from, 2'000'000}, "id");
    CHECK(all.complete);
    CHECK((contents(folder.file("f")) == data));
  };
  run(body());
}

TEST_CASE(
    "transfer store: each call that fails leaves an upload that can be "
    "completed",
    "[transfer]") {
  // Whatever call it is that fails, once: what is told as received is there,
  // and the pieces that are sent again complete it.
  const std::string data = noise(300);
  int failures = 0;
  for (const Call call :
       {Call::kOpen, Call::kPwrite, Call::kSync, Call::kTruncate, Call::kRename,
        Call::kUnlink, Call::kStatus, Call::kStatusAt, Call::kFileAt,
        Call::kLock, Call::kLockRange, Call::kPread, Call::kFileSize}) {
    for (std::uint64_t nth = 1; nth < 60; ++nth) {
      CAPTURE(int(call), nth);
      const Folder folder;
      const auto body = [&]() -> Task<bool> {
        FaultPlan plan;
        plan.fail(call, EIO, nth);
        Store store(folder.path(), impatient(1s));
        for (const ByteRange range :
             {ByteRange{100, 200}, ByteRange{0, 150}, ByteRange{150, 300}}) {
          PieceSink chunk(store, "f", Fragment(range, 300, "id"));
          bool failed = false;
          try {
            co_await chunk.begin();
            co_await pour(chunk, std::string_view(data).substr(range.begin,
                                                               range.size()));
            co_await chunk.finish();
          } catch (const std::system_error&) {
            failed = true;
          }
          if (!failed) continue;
          try {
            co_await chunk.keep();
          } catch (const std::system_error&) {
          }
        }
        const bool happened = plan.failed(call) != 0;
        plan.relent();
        const auto some = co_await store.progress("f");
        if (some && !some->complete) {
          ByteSet have;
          for (const ByteRange& one : some->received) have.add(one);
          for (const ByteRange& gap : have.missing({0, 300})) {
            co_await put(store, "f", data, gap, "id");
          }
        } else if (!some) {
          co_await put(store, "f", data, {0, 300}, "id");
        }
        co_return happened;
      };
      const bool happened = run(body());
      REQUIRE(contents(folder.file("f")) == data);
      REQUIRE(folder.names() == Names{".f.upload", "f"});
      if (!happened) break;
      ++failures;
    }
  }
  CHECK(failures > 60);
}

TEST_CASE("transfer store: a journal that is torn anywhere tells no lie",
          "[transfer]") {
  const std::string data = noise(300);
  const Folder folder;
  const auto begin = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "f", data, {0, 100}, "id");
    co_await put(store, "f", data, {200, 300}, "id");
  };
  run(begin());
  const std::string journal = folder.file(".f.upload");
  const std::string whole = contents(journal);
  REQUIRE(std::count(whole.begin(), whole.end(), '\n') == 3);
  const auto told = [&]() -> Task<std::optional<Progress>> {
    Store store(folder.path());
    co_return co_await store.progress("f");
  };
  const std::size_t first = whole.find('\n') + 1;
  const std::size_t second = whole.find('\n', first) + 1;
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    CAPTURE(size);
    std::ofstream(journal) << whole.substr(0, size);
    const auto cut = run(told());
    REQUIRE(cut.has_value() == (size >= first));
    if (!cut) continue;
    const std::size_t count = size < second         ? 0u
                              : size < whole.size() ? 1u
                                                    : 2u;
    REQUIRE(cut->received.size() == count);
  }
  // A bit that has turned is noticed: nothing that was not there is told.
  for (std::size_t at = 0; at < whole.size(); ++at) {
    CAPTURE(at);
    std::string other = whole;
    other[at] = static_cast<char>(other[at] ^ 4);
    std::ofstream(journal) << other;
    const auto cut = run(told());
    if (!cut) continue;
    CHECK(cut->size == 300);
    for (const ByteRange& one : cut->received) {
      const bool right = one == ByteRange{0, 100} || one == ByteRange{200, 300};
      REQUIRE(right);
    }
  }
  // What is torn is replaced by what comes.
  std::ofstream(journal) << whole.substr(0, whole.size() - 5);
  const auto end = [&]() -> Task<> {
    Store store(folder.path());
    const Progress all = co_await put(store, "f", data, {100, 300}, "id");
    CHECK(all.complete);
  };
  run(end());
  CHECK(contents(folder.file("f")) == data);
}

TEST_CASE(
    "transfer store: what died while it published is published by the "
    "next one who looks",
    "[transfer]") {
  const std::string data = noise(300);
  const bool with_id = GENERATE(true, false);
  const bool looks = GENERATE(true, false);
  CAPTURE(with_id, looks);
  const Folder folder;
  const auto body = [&]() -> Task<> {
    const std::string id = with_id ? "id" : "";
    Store store(folder.path());
    co_await put(store, "f", data, {0, 200}, id);
    {
      FaultPlan plan;
      plan.fail(Call::kRename, EIO);
      bool failed = false;
      try {
        co_await put(store, "f", data, {200, 300}, id);
      } catch (const std::system_error&) {
        failed = true;
      }
      CHECK(failed);
    }
    CHECK(folder.names().size() == 2);
    if (looks) {
      const auto told = co_await store.progress("f");
      REQUIRE(told.has_value());
      CHECK(told->complete);
    } else {
      const Progress again = co_await put(store, "f", data, {200, 300}, id);
      CHECK(again.complete == with_id);  // else it is another upload
    }
    CHECK((contents(folder.file("f")) == data));
  };
  run(body());
}

TEST_CASE("transfer store: a kill at every wait loses no byte that was told",
          "[transfer][kill]") {
  struct State {
    Folder folder;
    std::string data = noise(4000);
    ByteSet told;
  };
  const auto send = [](State& state, std::uint64_t begin) -> Task<> {
    StoreOptions options;
    options.note_bytes = 700;
    Store store(state.folder.path(), options);
    const ByteRange range{begin, begin + 2000};
    try {
      const Progress progress =
          co_await put(store, "f", state.data, range, "id", 500);
      for (const ByteRange& one : progress.received) state.told.add(one);
    } catch (const std::system_error& e) {  // its writer was killed
      require(e.code() == std::errc::operation_canceled, e.what());
    }
  };
  const auto body = [&](State& state) -> Task<> {
    TaskGroup group;
    group.spawn(send, std::ref(state), 0u);
    group.spawn(send, std::ref(state), 1000u);
    group.spawn(send, std::ref(state), 2000u);
    co_await group.join();
  };
  const auto check = [](State& state) {
    const auto look = [&]() -> Task<> {
      Store store(state.folder.path());
      const auto now = co_await store.progress("f");
      ByteSet have;
      if (now) {
        for (const ByteRange& one : now->received) have.add(one);
      }
      for (const ByteRange& one : state.told.ranges()) {
        require(have.missing(one).empty(), "what was told is not there");
      }
      if (!now || !now->complete) {
        for (const ByteRange& gap : have.missing({0, 4000})) {
          co_await put(store, "f", state.data, gap, "id");
        }
      }
      require(contents(state.folder.file("f")) == state.data, "wrong bytes");
      require(state.folder.names() == Names{".f.upload", "f"}, "left behind");
    };
    std::thread([&] { run(look()); }).join();
  };
  testing::Options options;
  options.seeds = 50;
  const auto counts = testing::kill_everywhere<State>(body, check, options);
  CHECK(counts.kills > 30);
}

TEST_CASE(
    "transfer store: a kill at every wait of a whole body leaves the "
    "old file or the new",
    "[transfer][kill]") {
  struct State {
    Folder folder;
    bool told = false;
  };
  const auto body = [](State& state) -> Task<> {
    std::ofstream(state.folder.file("f")) << "old";
    Store store(state.folder.path());
    try {
      co_await put_whole(store, "f", "new");
      state.told = true;
    } catch (const std::system_error& e) {  // its writer was killed
      require(e.code() == std::errc::operation_canceled, e.what());
    }
  };
  const auto check = [](State& state) {
    const Names names = state.folder.names();
    require(names.empty() || names == Names{"f"}, "left behind");
    if (names.empty()) return;
    const std::string text = contents(state.folder.file("f"));
    require(text == "new" || (text == "old" && !state.told), "wrong bytes");
  };
  const auto counts = testing::kill_everywhere<State>(body, check);
  CHECK(counts.kills > 5);
}

// ------------------------------------------------------------------- processes

namespace {

/// A child that sends what is missing of `data`, piece by piece, and writes
/// what it was told to `log`, a pipe, until it is killed or done.
int send_missing(const std::string& folder, const std::string& data, int log,
                 std::uint32_t seed) {
  constexpr std::uint64_t kLap = 3000;
  const auto body = [&]() -> Task<> {
    StoreOptions options;
    options.note_bytes = 4096;
    Store store(folder, options);
    std::mt19937 random(seed);
    ByteSet sent;
    while (!sent.has_all(data.size())) {
      const auto gaps = sent.missing({0, data.size()});
      const std::uint64_t gap = gaps[random() % gaps.size()].begin;
      const std::uint64_t begin = gap - random() % std::min(gap + 1, kLap);
      const std::uint64_t end =
          std::min<std::uint64_t>(data.size(), gap + 1 + random() % 20'000);
      const Progress progress =
          co_await put(store, "f", data, {begin, end}, "id", 3000);
      sent.add({begin, end});
      for (const ByteRange& one : progress.received) sent.add(one);
      const std::uint64_t told[2] = {begin, end};
      if (::write(log, told, sizeof told) != sizeof told) co_return;
      if (progress.complete) co_return;
    }
  };
  run(body());
  return 0;
}

}  // namespace

TEST_CASE(
    "transfer store: kill -9 at fifty random moments loses no byte that "
    "was told",
    "[transfer][process]") {
  const std::string data = noise(300'000);
  std::mt19937 random(7);
  const Folder folder;
  ByteSet told;
  bool complete = false;
  int killed = 0;
  int uploads = 0;
  for (std::uint32_t round = 0; round < 400 && killed < 50; ++round) {
    if (complete) {  // another upload begins
      ++uploads;
      CHECK((contents(folder.file("f")) == data));
      std::filesystem::remove(folder.file("f"));
      told = ByteSet();
      complete = false;
    }
    int log[2];
    REQUIRE(::pipe(log) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::_exit(send_missing(folder.path(), data, log[1], round));
    }
    ::close(log[1]);
    // After some pieces, and somewhere in the next.
    std::uint64_t range[2];
    const auto heard = [&] {
      if (::read(log[0], range, sizeof range) != sizeof range) return false;
      told.add({range[0], range[1]});
      return true;
    };
    for (auto pieces = random() % 4; pieces > 0 && heard(); --pieces) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) ++killed;
    while (heard()) {
    }
    ::close(log[0]);

    CAPTURE(round);
    const auto look = [&]() -> Task<> {
      Store store(folder.path());
      const auto now = co_await store.progress("f");
      ByteSet have;
      if (now) {
        for (const ByteRange& one : now->received) have.add(one);
        complete = now->complete;
      }
      for (const ByteRange& one : told.ranges()) {
        REQUIRE(have.missing(one).empty());
      }
      // And what is told as received is what was sent.
      std::string name = folder.file("f");
      for (const std::string& file : folder.names()) {
        if (file.ends_with(".part")) name = folder.file(file);
      }
      const std::string bytes = contents(name);
      for (const ByteRange& one : have.ranges()) {
        REQUIRE(one.end <= bytes.size());
        REQUIRE((bytes.compare(one.begin, one.size(), data, one.begin,
                               one.size()) == 0));
      }
    };
    run(look());
  }
  CHECK(killed >= 50);
  CHECK(uploads >= 1);
}

TEST_CASE(
    "transfer store: two processes that race on one upload publish it "
    "once",
    "[transfer][process]") {
  const std::string data = noise(400'000);
  for (std::uint32_t round = 0; round < 10; ++round) {
    const Folder folder;
    std::vector<pid_t> children;
    const int log = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (std::uint32_t i = 0; i < 2; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        ::_exit(send_missing(folder.path(), data, log, 2 * round + i));
      }
      children.push_back(child);
    }
    for (const pid_t child : children) {
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      REQUIRE(WIFEXITED(status));
      REQUIRE(WEXITSTATUS(status) == 0);
    }
    ::close(log);
    REQUIRE((contents(folder.file("f")) == data));
    REQUIRE(folder.names() == Names{".f.upload", "f"});
    REQUIRE(programs::count_of(contents(folder.file(".f.upload")), "done ") ==
            1);
  }
}

// -------------------------------------------------------------------- cleaning

TEST_CASE(
    "transfer store: what nobody goes on with is removed, and nothing "
    "else",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(100);
  REQUIRE(::mkdir(folder.file("sub").c_str(), 0777) == 0);
  const auto touch = [&](const std::string& name, const char* text) {
    std::ofstream(folder.file(name)) << text;
  };
  const auto age = [&](const std::string& name, int hours) {
    timespec times[2] = {{::time(nullptr) - hours * 3600, 0},
                         {::time(nullptr) - hours * 3600, 0}};
    REQUIRE(::utimensat(AT_FDCWD, folder.file(name).c_str(), times, 0) == 0);
  };
  const auto age_all = [&](const std::string& of, int hours) {
    for (const std::string& name : folder.names()) {
      if (name.starts_with(of)) age(name, hours);
    }
  };
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "old", data, {0, 50}, "id");
    co_await put(store, "sub/old", data, {0, 50}, "id");
    co_await put(store, "new", data, {0, 50}, "id");
    age_all(".old", 30);
    for (const auto& entry :
         std::filesystem::directory_iterator(folder.file("sub"))) {
      age("sub/" + entry.path().filename().string(), 30);
    }
    const std::string token = "0123456789abcdef";
    touch(".gone." + token + ".part", "of no upload");
    touch(".gone." + token + ".new", "of a process that is no more");
    touch(".fresh." + token + ".new", "perhaps of one that has just begun");
    age(".gone." + token + ".new", 1);
    touch(".mine.part", "somebody else's");
    touch(".mine.upload", "somebody else's");
    touch(".empty.upload", "");
    age(".empty.upload", 30);
    touch(".profile", "somebody else's");
    touch("old.part", "not hidden");
    for (const char* name : {".mine.part", ".mine.upload", ".profile"}) {
      age(name, 100);
    }
    WholeSink live(store, "live");
    co_await live.begin();
    age_all(".live", 30);

    const std::size_t drafts = co_await store.clean(0s);
    CHECK(drafts == 2);  // .gone's two
    const std::size_t count = co_await store.clean(24h);
    CHECK(count == 2);
    Names left = folder.names();
    CHECK(std::erase_if(left, [](const std::string& name) {
            return name.starts_with(".new.") || name.starts_with(".live.");
          }) == 3);
    CHECK(left == Names{".fresh.0123456789abcdef.new", ".mine.part",
                        ".mine.upload", ".profile", "old.part", "sub"});
    CHECK(std::filesystem::is_empty(folder.file("sub")));
    const auto still = co_await store.progress("new");
    CHECK(still.has_value());
  };
  run(body());
}

TEST_CASE("transfer store: the memory of many transfers is bounded",
          "[transfer]") {
  const Folder folder;
  const programs::ManyDescriptors many;
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    std::vector<std::unique_ptr<WholeSink>> all;
    std::size_t least = SIZE_MAX;
    std::size_t sum = 0;
    for (int i = 0; i < 100; ++i) {
      all.push_back(
          std::make_unique<WholeSink>(store, "f" + std::to_string(i)));
      co_await all.back()->begin();
      const std::span<char> room = co_await all.back()->room();
      if (i == 0) CHECK(room.size() == Store::kMostBlockBytes);
      least = std::min(least, room.size());
      sum += 2 * room.size();
    }
    CHECK(least == Store::kLeastBlockBytes);
    CHECK(sum <= std::size_t{36} << 20);
  };
  run(body());
}

// ------------------------------------------------------------------ conditions

namespace {

/// Holds where no file is.
bool is_new(const sys::FileStatus* there) {
  return there == nullptr;
}

/// Holds for a file of that size.
transfer::Condition of_size(std::int64_t size) {
  return [size](const sys::FileStatus* there) {
    return there != nullptr && there->size == size;
  };
}

/// Why a sink is refused; nothing if it is not.
Task<std::optional<Why>> refused(Task<> task) {
  std::optional<Why> why;
  try {
    co_await std::move(task);
  } catch (const Refused& e) {
    why = e.why();
  }
  co_return why;
}

template <class Sink>
Task<> finish(Sink& sink) {
  co_await sink.finish();
}

}  // namespace

TEST_CASE("transfer store: of two who store what is new one is refused",
          "[transfer]") {
  const Folder folder;
  const auto body = [&]() -> Task<> {
    Store one(folder.path());
    Store other(folder.path());
    WholeSink first(one, "f", is_new);
    WholeSink second(other, "f", is_new);
    co_await first.begin();
    co_await second.begin();  // there is nothing yet
    co_await pour(first, "first");
    co_await pour(second, "second");
    const Progress stored = co_await second.finish();
    CHECK_FALSE(stored.replaced);
    CHECK(stored.stored->size == 6);
    const auto late = co_await refused(finish(first));
    CHECK(late == Why::kOtherVersion);
    CHECK(contents(folder.file("f")) == "second");

    WholeSink third(one, "f", is_new);  // before anything is sent
    const auto early = co_await refused(third.begin());
    CHECK(early == Why::kOtherVersion);
    WholeSink fourth(other, "f", of_size(6));
    co_await fourth.begin();
    co_await pour(fourth, "replaced");
    const Progress replaced = co_await fourth.finish();
    CHECK(replaced.replaced);
  };
  run(body());
  CHECK(contents(folder.file("f")) == "replaced");
  CHECK(folder.names() == Names{"f"});
}

TEST_CASE(
    "transfer store: the last piece is not noted where its condition does not "
    "hold, and the others are kept",
    "[transfer]") {
  const Folder folder;
  const std::string data = "0123456789";
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "f", data, {0, 6}, "id");
    {
      Fragment piece({6, 10}, 10, "id");
      PieceSink last(store, "f", std::move(piece), is_new);
      co_await last.begin();
      co_await put_whole(store, "f", "another");
      co_await pour(last, "6789");
      const auto finish = [&]() -> Task<> { co_await last.finish(); };
      const auto late = co_await refused(finish());
      CHECK(late == Why::kOtherVersion);
      co_await last.keep();
    }
    // Nobody publishes it, for it is not complete.
    const auto progress = co_await store.progress("f");
    REQUIRE(progress);
    CHECK(progress->received == ranges({{0, 6}}));
    CHECK(contents(folder.file("f")) == "another");

    Fragment piece({6, 10}, 10, "id");
    PieceSink early(store, "f", piece, is_new);
    const auto why = co_await refused(early.begin());
    CHECK(why == Why::kOtherVersion);
    for (int i = 0; i < 2; ++i) {  // once more than needed: it is done
      PieceSink last(store, "f", piece, of_size(7));
      co_await last.begin();
      co_await pour(last, "6789");
      const Progress done = co_await last.finish();
      CHECK(done.complete);
    }
  };
  run(body());
  CHECK(contents(folder.file("f")) == data);
}

TEST_CASE(
    "transfer store: bytes that somebody cut off are never served as zeros",
    "[transfer]") {
  const Folder folder;
  const std::string data = noise(1000);
  const auto cut = [&](std::uintmax_t size) {
    for (const std::string& name : folder.names()) {
      if (name.ends_with(".part")) {
        std::filesystem::resize_file(folder.file(name), size);
      }
    }
  };
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    // Before the next piece: the upload begins anew.
    co_await put(store, "f", data, {0, 500}, "id");
    cut(499);
    const auto told = co_await store.progress("f");
    CHECK_FALSE(told.has_value());
    const Progress anew = co_await put(store, "f", data, {500, 1000}, "id");
    CHECK(anew.received == std::vector<ByteRange>{{500, 1000}});

    // While the last piece comes: it completes nothing.
    Fragment rest({0, 500}, data.size(), "id");
    PieceSink last(store, "f", std::move(rest));
    co_await last.begin();
    co_await pour(last, std::string_view(data).substr(0, 500));
    cut(800);
    std::string why;
    try {
      co_await last.finish();
    } catch (const Refused& e) {
      why = e.what();
      CHECK(e.why() == Why::kGivenUp);
    }
    CHECK(why == "the upload of 'f' was given up");
    CHECK_FALSE(std::filesystem::exists(folder.file("f")));

    const Progress whole = co_await put(store, "f", data, {0, 1000}, "id");
    CHECK(whole.complete);
  };
  run(body());
  CHECK((contents(folder.file("f")) == data));
}

TEST_CASE("transfer store: what only looks like an upload holds up no cleaning",
          "[transfer]") {
  const Folder folder;
  std::filesystem::create_symlink("/nowhere", folder.file(".a.upload"));
  std::filesystem::create_directory(folder.file(".b.upload"));
  const std::string data = "0123456789";
  const auto body = [&]() -> Task<> {
    Store store(folder.path());
    co_await put(store, "c", data, {0, 5});
    const std::size_t removed = co_await store.clean(1ns);
    CHECK(removed == 1);
  };
  const std::string said = support::errors_of([&] { run(body()); });
  CHECK(contains(said, "open " + folder.file(".a.upload") + ": "));
  CHECK(contains(said, "open " + folder.file(".b.upload") + ": "));
  CHECK(folder.names() == Names{".a.upload", ".b.upload"});
}
