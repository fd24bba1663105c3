// http_files_test.cpp - a folder, as HTTP shows it.
// SPDX-License-Identifier: MIT
#include "../net/http/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "../net/http/server.hpp"
#include "../runtime/testing.hpp"
#include "catch.hpp"
#include "sockets.hpp"

using namespace sockets;

namespace {

namespace fs = std::filesystem;

/// A folder with all that may lie in one, which goes with it.
class Tree {
 public:
  Tree() {
    char path[] = "/tmp/violet_files_test_XXXXXX";
    if (::mkdtemp(path) == nullptr) throw_system(errno, "mkdtemp");
    outside_ = path;
    root_ = outside_ + "/root";
    fs::create_directories(root_ + "/sub/deep");
    write("secret", outside_);
    write("a.txt", root_, "0123456789");
    write("a b&c<d>.html", root_, "<p>");
    write(".hidden", root_, "no");
    fs::create_directory(root_ + "/.git");
    write("config", root_ + "/.git", "no");
    fs::create_directory(root_ + "/with");
    write("index.html", root_ + "/with", "index");
    fs::create_symlink("a.txt", root_ + "/inside");
    fs::create_symlink("../../a.txt", root_ + "/sub/deep/up");
    fs::create_symlink("../secret", root_ + "/outside");
    fs::create_symlink("/etc", root_ + "/absolute");
    fs::create_symlink("loop", root_ + "/loop");
    ::mkfifo((root_ + "/pipe").c_str(), 0600);
  }
  Tree(const Tree&) = delete;
  ~Tree() { fs::remove_all(outside_); }

  static void write(const std::string& name, const std::string& folder,
                    const std::string& text = "text") {
    std::ofstream(folder + '/' + name, std::ios::binary) << text;
  }

  const std::string& root() const { return root_; }

 private:
  std::string outside_;
  std::string root_;
};

/// Refuses what only Linux has, as other systems do.
class Elsewhere final : public sys::Layer {
 public:
  int open_beneath(int folder, const char* path, int flags,
                   bool cached_only) noexcept override {
    ++(cached_only ? cached : asked);
    return cached_only ? -EAGAIN : sys::open_by_segments(folder, path, flags);
  }
  bool in_memory(int) noexcept override { return false; }
  int cached = 0;
  int asked = 0;
};

struct Reply {
  int status = 0;
  std::string head;
  std::string body;
  std::string field(const std::string& name) const {
    const auto at = head.find("\r\n" + name + ": ");
    if (at == head.npos) return "";
    const auto begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

Task<Reply> ask(Address address, std::string line, std::string fields = {}) {
  Connection conn = co_await connect(address);
  line += " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
  line += fields + "\r\n";
  co_await conn.sendall(line);
  const std::string text = co_await receive_all(conn);
  Reply reply;
  const auto end = text.find("\r\n\r\n");
  REQUIRE(end != text.npos);
  reply.head = text.substr(0, end + 2);
  reply.body = text.substr(end + 4);
  reply.status = std::atoi(reply.head.c_str() + 9);
  co_return reply;
}

/// Serves a folder beside a scenario.
template <class Handler, class Scenario>
void serve_files(const Handler& files, Scenario scenario) {
  const MaybeShortIo io;
  http::Router router;
  router.get("/{path*}", files);
  testing::play([&]() -> Task<> {
    Listener listener("127.0.0.1", 0);
    const Address address = listener.address();
    auto serves = [&router](Listener own) -> Task<> {
      co_await http::serve(std::move(own), router);
    };
    auto server = spawn(serves, std::move(listener));
    co_await scenario(address);
    Loop::current().stop();
    co_await join(server);
  });
}

template <class Scenario>
void with_tree(Scenario scenario) {
  const Tree tree;
  const http::Files files(tree.root());
  serve_files(files, [&](Address address) { return scenario(tree, address); });
}

/// What a set of names is answered with, which is the same on every system
/// but for links.
Task<> check_names(Address address, bool follows_links) {
  const std::pair<const char*, int> cases[] = {
      {"/a.txt", 200},
      {"/a%20b%26c%3Cd%3E.html", 200},
      {"//a.txt", 200},
      {"/inside", follows_links ? 200 : 404},
      {"/sub/deep/up", follows_links ? 200 : 404},
      {"/", 200},
      {"/sub/", 200},
      {"/with/", 200},
      {"/sub", 301},
      {"/nowhere", 404},
      {"/nowhere/", 404},
      {"/a.txt/", 404},
      {"/a.txt/b", 404},
      {"/outside", 404},
      {"/absolute", 404},
      {"/absolute/passwd", 404},
      {"/loop", 404},
      {"/pipe", 403},
      {"/.hidden", 404},
      {"/.git/", 404},
      {"/.git/config", 404},
      {"/%2egit/config", 404},
      {"/..", 400},
      {"/../secret", 400},
      {"/%2e%2e/secret", 400},
      {"/%2E./secret", 400},
      {"/sub/../../secret", 400},
      {"/sub/..%2f..%2fsecret", 400},
      {"/a.txt%00", 400},
      {"/.", 400},
      {"/..%5c..%5csecret", 404},
  };
  for (const auto& [target, status] : cases) {
    CAPTURE(target);
    const Reply reply = co_await ask(address, std::string("GET ") + target);
    CHECK(reply.status == status);
    CHECK(reply.body != "no");
    CHECK_FALSE(contains(reply.body, "root:"));
  }
  const std::string long_name(300, 'a');
  const Reply reply = co_await ask(address, "GET /" + long_name);
  CHECK(reply.status == 404);
}

/// True if names are opened below a folder by the system itself.
bool knows_beneath() {
  const Fd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd link(sys::file_calls->open_beneath(folder.get(), "proc/self",
                                              O_RDONLY, false));
  return bool(link);
}

}  // namespace

TEST_CASE("http files: what is there, and what is not", "[http]") {
  with_tree([](const Tree&, Address address) -> Task<> {
    co_await check_names(address, knows_beneath());
  });
}

TEST_CASE("http files: the same where the disk is asked", "[http][threads]") {
  const Tree tree;
  const http::Files files(tree.root());
  serve_files(files, [](Address address) -> Task<> {
    Elsewhere elsewhere;
    co_await check_names(address, false);
    CHECK(elsewhere.cached > 20);
    CHECK(elsewhere.asked >= elsewhere.cached);
  });
}

TEST_CASE("http files: names are opened below a folder and nowhere else",
          "[http]") {
  const Tree tree;
  const Fd root(::open(tree.root().c_str(), O_RDONLY | O_DIRECTORY));
  const auto error_of = [&](const char* path) {
    const int ours = sys::open_by_segments(root.get(), path, O_RDONLY);
    const int systems =
        sys::file_calls->open_beneath(root.get(), path, O_RDONLY, false);
    if (ours >= 0) ::close(ours);
    if (systems >= 0) ::close(systems);
    CHECK((systems >= 0) == (ours >= 0));
    return std::min(0, ours);
  };
  CHECK(error_of("a.txt") == 0);
  CHECK(error_of("sub/deep") == 0);
  CHECK(error_of(".") == 0);
  CHECK(error_of("..") == -EXDEV);
  CHECK(error_of("sub/../a.txt/..") == -EXDEV);
  CHECK(error_of("../root/a.txt") == -EXDEV);
  CHECK(error_of("/etc/passwd") != 0);
  CHECK(error_of("outside") == -ELOOP);
  CHECK(error_of("absolute/passwd") != 0);
  CHECK(error_of("loop") == -ELOOP);
  CHECK(error_of("nowhere/a") == -ENOENT);
  CHECK(error_of("a.txt/b") == -ENOTDIR);
  CHECK(error_of(std::string(300, 'a').c_str()) == -ENAMETOOLONG);
}

TEST_CASE("http files: a file, a part of it, and what is known of it",
          "[http]") {
  with_tree([](const Tree& tree, Address address) -> Task<> {
    const Reply whole = co_await ask(address, "GET /a.txt");
    CHECK(whole.status == 200);
    CHECK(whole.body == "0123456789");
    CHECK(whole.field("Content-Length") == "10");
    CHECK(whole.field("Content-Type") == "text/plain; charset=utf-8");
    CHECK(whole.field("Accept-Ranges") == "bytes");
    CHECK(http::parse_date(whole.field("Last-Modified"), http::Time()));
    const std::string tag = whole.field("ETag");
    CHECK(http::parse_etag(tag));

    const Reply head = co_await ask(address, "HEAD /a.txt");
    CHECK(head.body == "");
    CHECK(head.field("Content-Length") == "10");
    CHECK(head.field("ETag") == tag);

    const auto range = [&](std::string text) {
      return ask(address, "GET /a.txt", "Range: bytes=" + text + "\r\n");
    };
    Reply reply = co_await range("0-0");
    CHECK(reply.status == 206);
    CHECK(reply.body == "0");
    CHECK(reply.field("Content-Range") == "bytes 0-0/10");
    reply = co_await range("5-");
    CHECK(reply.body == "56789");
    reply = co_await range("-3");
    CHECK(reply.body == "789");
    reply = co_await range("10-");
    CHECK(reply.status == 416);
    CHECK(reply.field("Content-Range") == "bytes */10");
    reply = co_await range("2-1");
    CHECK(reply.status == 200);
    reply = co_await range("0-1,8-9");
    CHECK(reply.status == 206);
    const std::string type = reply.field("Content-Type");
    const std::string boundary = type.substr(type.find('=') + 1);
    CHECK(reply.body == concat({"\r\n--", boundary,
                                "\r\nContent-Type: text/plain; charset=utf-8"
                                "\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
                                "\r\n--",
                                boundary,
                                "\r\nContent-Type: text/plain; charset=utf-8"
                                "\r\nContent-Range: bytes 8-9/10\r\n\r\n89"
                                "\r\n--",
                                boundary, "--\r\n"}));
    CHECK(reply.field("Content-Length") == std::to_string(reply.body.size()));

    reply =
        co_await ask(address, "GET /a.txt", "If-None-Match: " + tag + "\r\n");
    CHECK(reply.status == 304);
    CHECK(reply.body == "");
    CHECK(reply.field("ETag") == tag);
    reply = co_await ask(address, "GET /a.txt",
                         "Range: bytes=1-1\r\nIf-Range: " + tag + "\r\n");
    CHECK(reply.status == 206);
    reply = co_await ask(address, "GET /a.txt",
                         "Range: bytes=1-1\r\nIf-Range: \"x\"\r\n");
    CHECK(reply.status == 200);
    reply = co_await ask(address, "GET /a.txt", "If-Match: \"x\"\r\n");
    CHECK(reply.status == 412);

    // Another file under the same name, of the same size and time.
    const auto time = fs::last_write_time(tree.root() + "/a.txt");
    Tree::write("new", tree.root(), "abcdefghij");
    fs::last_write_time(tree.root() + "/new", time);
    fs::rename(tree.root() + "/new", tree.root() + "/a.txt");
    reply =
        co_await ask(address, "GET /a.txt", "If-None-Match: " + tag + "\r\n");
    CHECK(reply.status == 200);
    CHECK(reply.body == "abcdefghij");
    CHECK(reply.field("ETag") != tag);
  });
}

TEST_CASE("http files: large files go out whole, and in any part", "[http]") {
  with_tree([](const Tree& tree, Address address) -> Task<> {
    const std::string text = random_bytes(1'000'000);
    Tree::write("large", tree.root(), text);
    Reply reply = co_await ask(address, "GET /large");
    CHECK((reply.body == text));
    reply = co_await ask(address, "GET /large", "Range: bytes=1-800000\r\n");
    CHECK((reply.body == text.substr(1, 800'000)));
    reply = co_await ask(address, "GET /large",
                         "Range: bytes=0-99999,500000-599999\r\n");
    CHECK(reply.status == 206);
    CHECK(contains(reply.body, text.substr(500'000, 100'000)));
    Tree::write("empty", tree.root(), "");
    reply = co_await ask(address, "GET /empty");
    CHECK(reply.status == 200);
    CHECK(reply.field("Content-Length") == "0");
  });
}

TEST_CASE("http files: a file that becomes shorter ends the connection",
          "[http]") {
  std::string log;
  log = errors_of([] {
    with_tree([](const Tree& tree, Address address) -> Task<> {
      Tree::write("large", tree.root(), std::string(32 << 20, 'x'));
      Connection conn = co_await connect(address);
      co_await conn.sendall("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
      co_await receive(conn, 1000);
      co_await testing::wait_all_blocked();
      fs::resize_file(tree.root() + "/large", 1000);
      std::error_code code;
      std::size_t came = 1000;
      for (;;) {
        const Chunk chunk = co_await conn.recv(code);
        came += chunk.size();
        if (!chunk) break;
      }
      CHECK(came < (32 << 20));
    });
  });
  CHECK(contains(log, "which became shorter"));
}

TEST_CASE("http files: a folder without a slash is another place", "[http]") {
  with_tree([](const Tree& tree, Address address) -> Task<> {
    Reply reply = co_await ask(address, "GET /sub?a=b");
    CHECK(reply.status == 301);
    CHECK(reply.field("Location") == "/sub/?a=b");
    reply = co_await ask(address, "GET //sub");  // not the host "sub"
    CHECK(reply.field("Location") == "/sub/");
    fs::create_directory(tree.root() + "/a:\"b");
    reply = co_await ask(address, "GET /a%3A%22b");
    CHECK(reply.field("Location") == "/a%3A%22b/");
    reply = co_await ask(address, "GET /with/");
    CHECK(reply.body == "index");
    CHECK(reply.field("Content-Type") == "text/html; charset=utf-8");
  });
}

TEST_CASE("http files: a listing shows what could be asked for", "[http]") {
  with_tree([](const Tree& tree, Address address) -> Task<> {
    Tree::write("Z", tree.root(), std::string(1536, 'x'));
    const Reply reply = co_await ask(address, "GET /");
    CHECK(reply.field("Content-Type") == "text/html; charset=utf-8");
    const std::string& page = reply.body;
    std::string order;
    for (std::size_t at = 0; (at = page.find("<a href=\"", at)) != page.npos;) {
      at += 9;
      order += page.substr(at, page.find('"', at) - at) + ' ';
    }
    const std::string links = knows_beneath() ? "inside " : "";
    CHECK(order == "sub/ with/ Z a%20b%26c%3Cd%3E.html a.txt " + links);
    CHECK(contains(page, ">a b&amp;c&lt;d&gt;.html</a>"));
    CHECK(contains(page, "<td>1.5 KiB</td>"));
    CHECK(contains(page, "<td>10 B</td>"));
    const Reply below = co_await ask(address, "GET /sub/");
    CHECK(contains(below.body, "<h1>/sub/</h1>"));
    CHECK(contains(below.body, "<a href=\"../\">"));
    const Reply head = co_await ask(address, "HEAD /");
    CHECK(head.body == "");
    CHECK(head.field("Content-Length") == std::to_string(page.size()));
  });
}

TEST_CASE("http files: listings may have a form, or not be there", "[http]") {
  const Tree tree;
  http::Files files(tree.root());
  files.form("<form>x</form>");
  serve_files(files, [](Address address) -> Task<> {
    const Reply reply = co_await ask(address, "GET /");
    CHECK(contains(reply.body, "</h1>\n<form>x</form><table>"));
  });
  files.listings(false);
  serve_files(files, [](Address address) -> Task<> {
    const Reply reply = co_await ask(address, "GET /");
    CHECK(reply.status == 404);
    const Reply index = co_await ask(address, "GET /with/");
    CHECK(index.status == 200);
  });
}

TEST_CASE("http files: a system that has run out of something", "[http]") {
  const Tree tree;
  const http::Files files(tree.root());
  serve_files(files, [](Address address) -> Task<> {
    FaultPlan plan;
    plan.fail(Call::kOpenBeneath, EMFILE);
    Reply reply = co_await ask(address, "GET /a.txt");
    CHECK(reply.status == 503);
    CHECK(reply.field("Retry-After") == "1");
    plan.fail(Call::kOpenBeneath, EACCES);
    reply = co_await ask(address, "GET /a.txt");
    CHECK(reply.status == 403);
    plan.fail(Call::kOpenBeneath, EINTR);
    reply = co_await ask(address, "GET /a.txt");
    CHECK(reply.status == 200);
  });
  CHECK_THROWS_WITH(http::Files("/nonexistent/violet"),
                    "open /nonexistent/violet: No such file or directory");
}

namespace {

/// Counts openings, and has something happen after each look at a file.
class Opening final : public sys::Layer {
 public:
  int open_beneath(int folder, const char* path, int flags,
                   bool cached_only) noexcept override {
    ++count;
    return Layer::open_beneath(folder, path, flags, cached_only);
  }
  int status(int fd, sys::FileStatus& status) noexcept override {
    const int result = Layer::status(fd, status);
    if (then) then();
    return result;
  }
  int count = 0;
  std::function<void()> then;
};

/// What several are sent who ask for a.txt in one turn of the loop, and how
/// often it was opened for that.
struct Crowd {
  std::vector<std::string> bodies;
  int openings = 0;
  auto count(const std::string& body) const {
    return std::count(bodies.begin(), bodies.end(), body);
  }
};

/// `then` is called after each look at a file.
Crowd ask_at_once(const Tree& tree, std::function<void()> then = {}) {
  constexpr std::size_t kMany = 8;
  const http::Files files(tree.root());
  std::size_t waiting = 0;
  Flag gate;
  const auto handler = [&](http::Exchange& x) -> Task<> {
    if (++waiting == kMany) gate.set();
    co_await gate.wait();
    co_await files(x);
  };
  Crowd crowd;
  serve_files(handler, [&](Address address) -> Task<> {
    Opening opening;
    opening.then = std::move(then);
    TaskGroup group;
    const auto client = [&]() -> Task<> {
      const Reply reply = co_await ask(address, "GET /a.txt");
      crowd.bodies.push_back(reply.body);
    };
    for (std::size_t i = 0; i < kMany; ++i) group.spawn(client);
    co_await group.join();
    crowd.openings = opening.count;
  });
  CHECK(crowd.bodies.size() == kMany);
  return crowd;
}

}  // namespace

TEST_CASE("http files: a crowd has a file opened once", "[http]") {
  const Tree tree;
  const Crowd crowd = ask_at_once(tree);
  CHECK(crowd.count("0123456789") == 8);
  CHECK(crowd.openings == 1);
}

TEST_CASE("http files: a crowd sees what becomes of a file", "[http]") {
  const Tree tree;
  const std::string path = tree.root() + "/a.txt";
  int looks = 0;
  SECTION("another is put in its place, each time") {
    Crowd crowd = ask_at_once(tree, [&] {
      Tree::write("new", tree.root(), std::to_string(++looks));
      fs::rename(tree.root() + "/new", path);
    });
    CHECK(crowd.count("0123456789") == 1);
    std::sort(crowd.bodies.begin(), crowd.bodies.end());
    const auto twice =
        std::adjacent_find(crowd.bodies.begin(), crowd.bodies.end());
    const bool each_is_new = twice == crowd.bodies.end();
    CHECK(each_is_new);
  }
  SECTION("it becomes longer") {
    const Crowd crowd = ask_at_once(tree, [&] {
      if (++looks > 1) return;
      Tree::write("a.txt", tree.root(), "0123456789 and more");
    });
    CHECK(crowd.count("0123456789") == 1);
    CHECK(crowd.count("0123456789 and more") == 7);
    CHECK(crowd.openings == 2);
  }
  SECTION("it is removed") {
    const Crowd crowd = ask_at_once(tree, [&] { fs::remove(path); });
    CHECK(crowd.count("0123456789") == 1);
    CHECK(crowd.openings == 8);
  }
}

TEST_CASE("http files: tags and times of a file", "[http]") {
  sys::FileStatus status;
  status.number.inode = 0x1f;
  status.size = 10;
  status.modified_ns = 1'000'000'000'000'000'001;
  std::string tag;
  http::Selected about = http::about_file(status, tag);
  CHECK(tag == "1f-a-de0b6b3a7640001");
  CHECK(about.size == 10);
  CHECK_FALSE(about.etag->weak);
  CHECK(about.modified_is_strong);
  CHECK(http::date_text(*about.modified) == "Sun, 09 Sep 2001 01:46:40 GMT");
  status.modified_ns = 4'000'000'000'000'000'000;  // is still to come
  about = http::about_file(status, tag);
  CHECK_FALSE(about.modified);
  CHECK_FALSE(about.modified_is_strong);
}
