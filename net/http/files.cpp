// files.cpp - opening, sending, listing.
// SPDX-License-Identifier: MIT
#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <tuple>

#include "../../runtime/offload.hpp"

namespace violet::http {

namespace {

// A pipe is opened without waiting for who writes, a terminal without taking
// it. Neither is read.
constexpr int kFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;

// For a look at what it is.
#ifdef O_PATH
constexpr int kLook = O_PATH;
#else
constexpr int kLook = kFlags;
#endif

constexpr std::string_view kHtml = "text/html; charset=utf-8";

/// Blocks, unless `cached_only`.
Opened open_below(int folder, const char* name, int flags, bool cached_only) {
  Opened opened;
  const int fd = sys::uninterrupted([&] {
    return sys::file_calls->open_beneath(folder, name, flags, cached_only);
  });
  opened.error = std::max(0, -fd);
  if (fd < 0) return opened;
  opened.fd = Fd(fd);
  opened.error = -std::min(0, sys::file_calls->status(fd, opened.status));
  return opened;
}

Time time_of(const sys::FileStatus& status) noexcept {
  const std::chrono::sys_time<std::chrono::nanoseconds> exact(
      std::chrono::nanoseconds(status.modified_ns));
  return std::chrono::floor<std::chrono::seconds>(exact);
}

void append_hex(std::string& out, std::uint64_t number) {
  char digits[16];
  std::size_t count = 0;
  do {
    digits[count++] = "0123456789abcdef"[number % 16];
    number /= 16;
  } while (number != 0);
  while (count > 0) out += digits[--count];
}

/// Whether a file system keeps its files in memory alone, as found out when
/// this thread first met it.
bool in_memory(int fd, const sys::FileStatus& status) noexcept {
  struct Known {
    std::uint64_t device = ~std::uint64_t{0};
    bool in_memory = false;
  };
  thread_local Known known;
  if (known.device != status.number.device) {
    known.device = status.number.device;
    known.in_memory = sys::file_calls->in_memory(fd);
  }
  return known.in_memory;
}

std::string_view last_of(std::string_view name) noexcept {
  return name.substr(name.rfind('/') + 1);
}

// ------------------------------------------------- what several ask for at
// once

/// A file below a folder. Those who are sent it share it.
struct OpenFile {
  std::shared_ptr<const Fd> root;
  std::shared_ptr<violet::internal::FileState> state;  // its path is the name
  sys::FileStatus status;
};

/// Files that have just been opened, for others who are ready in the same turn
/// and ask for the same: then one opening serves a whole crowd. A job behind
/// all of these lets go of them, so nothing stays open for those to come.
using JustOpened = std::vector<OpenFile>;
thread_local std::shared_ptr<JustOpened> just_opened;
constexpr std::size_t kMostJustOpened = 16;  // they are searched one by one

struct LetGo {
  explicit LetGo(std::shared_ptr<JustOpened> which) : files(std::move(which)) {}
  LetGo(LetGo&&) noexcept = default;
  ~LetGo() {
    if (files) files->clear();
  }
  std::shared_ptr<JustOpened> files;
};

Task<> let_go(LetGo) {
  co_return;
}

/// Keeps it for them, if there are any.
void keep(const OpenFile& file) {
  Loop& loop = Loop::current();
  if (loop.next_deadline() != TimePoint::min()) return;
  if (file.status.links == 0) return;  // gone while it was opened
  if (!just_opened) just_opened = std::make_shared<JustOpened>();
  if (just_opened->empty()) loop.spawn(let_go, LetGo(just_opened));
  if (just_opened->size() < kMostJustOpened) just_opened->push_back(file);
}

/// Returns: no state if there is none, or it has changed since, or another may
/// have its name now.
OpenFile find_kept(const Fd* root, std::string_view name) {
  if (!just_opened) return {};
  JustOpened& files = *just_opened;
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const OpenFile& file) {
        return file.root.get() == root && file.state->path == name;
      });
  if (found == files.end()) return {};
  sys::FileStatus now;
  const int error = sys::file_calls->status(found->state->fd.get(), now);
  if (error == 0 && now == found->status) return *found;
  files.erase(found);
  return {};
}

void complain_about(const Exchange& x, std::string_view what,
                    const std::error_code& code) {
  complain_with(
      [&] { return log_line(x, concat({what, ": ", code.message()})); });
}

/// A client that vanishes, or takes nothing, is its own business.
void complain_of_sending(const Exchange& x, const File& file,
                         const std::error_code& code) {
  const bool peers = violet::internal::is_the_peers_doing(code) ||
                     code == std::errc::timed_out;
  if (peers && x.options().log != Log::kVerbose) return;
  const bool shorter = code == make_error_code(Fault::kCutShort);
  complain_about(
      x,
      concat({"send ", file.path(), shorter ? ", which became shorter" : ""}),
      code);
}

/// "/a b/" as a reference that no client takes for a host.
std::string escaped_path(std::string_view name) {
  std::string path;
  Pieces pieces(name, '/');
  for (std::string_view piece; pieces.next(piece);) {
    if (piece.empty()) continue;
    path += '/';
    append_escaped(path, piece);
  }
  return path + '/';
}

}  // namespace

int status_of_error(int error) noexcept {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
    case ENAMETOOLONG: return 404;
    case EACCES:
    case EPERM:
    case EROFS:
    case ENXIO: return 403;  // the last for a socket
    case EMFILE:
    case ENFILE:
    case ENOMEM: return 503;
    default: return 500;
  }
}

bool is_hidden(std::string_view name) noexcept {
  return name.starts_with('.') || name.find("/.") != name.npos;
}

Selected about_file(const sys::FileStatus& status, std::string& tag) {
  tag.clear();
  append_hex(tag, status.number.inode);
  tag += '-';
  append_hex(tag, static_cast<std::uint64_t>(status.size));
  tag += '-';
  append_hex(tag, static_cast<std::uint64_t>(status.modified_ns));
  Selected about;
  about.size = static_cast<std::uint64_t>(status.size);
  about.etag = ETag{false, tag};
  // A time that is still to come would be no Last-Modified (RFC 9110, section
  // 8.8.2.1), and in a second that is not over more may change.
  const Time now = current_time();
  const Time modified = time_of(status);
  if (modified <= now) about.modified = modified;
  about.modified_is_strong = modified + std::chrono::seconds(1) < now;
  return about;
}

// -------------------------------------------------------------------- opening

Files::Files(const std::string& folder) {
  const int fd = sys::uninterrupted([&] {
    return sys::file_calls->open(folder.c_str(), O_RDONLY | O_DIRECTORY, 0);
  });
  if (fd < 0) throw_system(-fd, concat({"open ", folder}));
  root_ = std::make_shared<const Fd>(fd);
}

Task<Opened> Files::open(std::string name) const {
  while (!name.empty() && name.back() == '/') name.pop_back();
  if (name.empty()) name = ".";
  Opened opened = open_below(root(), name.c_str(), kFlags, true);
  if (opened.error != EAGAIN) co_return opened;
  co_await offload(
      [&] { opened = open_below(root(), name.c_str(), kFlags, false); });
  co_return opened;
}

// -------------------------------------------------------------------- sending

namespace {
Task<> send_file(Exchange& x, OpenFile open) {
  std::string tag;
  tag.reserve(3 * 17);
  const Selected about = about_file(open.status, tag);
  const std::string_view type = type_of_name(last_of(open.state->path));
  const File file(std::move(open.state));
  std::error_code code;
  co_await x.send_file(file, about, type, code);
  if (code) complain_of_sending(x, file, code);
}
}  // namespace

Task<> Files::serve(Exchange& x, std::string_view name) const {
  if (is_hidden(name)) {
    co_await x.refuse(404);
    co_return;
  }
  OpenFile kept = find_kept(root_.get(), name);
  if (kept.state) {
    co_await send_file(x, std::move(kept));
    co_return;
  }
  Opened opened = co_await open(std::string(name));
  if (opened.error == 0) {
    co_await send_opened(x, name, std::move(opened));
  } else {
    const std::string what = concat({"open ", name});
    co_await refuse(x, what, opened.error);
  }
}

/// What cannot be opened or listed. Only what nobody expects is told here, too.
Task<> Files::refuse(Exchange& x, std::string_view what, int error) {
  const int status = status_of_error(error);
  if (status == 500) {
    complain_about(x, what, {error, std::system_category()});
  }
  if (status == 503) x.field("Retry-After", 1);
  co_await x.refuse(status);
}

Task<> Files::send_opened(Exchange& x, std::string_view name,
                          Opened opened) const {
  const bool as_folder = name.empty() || name.back() == '/';
  if (opened.status.type == S_IFDIR && as_folder) {
    co_await send_folder(x, name);
  } else if (opened.status.type == S_IFDIR) {
    std::string location = escaped_path(name);
    const Target& target = x.request().parts;
    if (target.has_query) location += concat({"?", target.query});
    x.field("Location", location);
    co_await x.refuse(301);
  } else if (opened.status.type != S_IFREG) {
    co_await x.refuse(403);
  } else if (as_folder) {
    co_await x.refuse(404);
  } else {
    OpenFile file;
    file.root = root_;
    file.state =
        std::make_shared<violet::internal::FileState>(std::string(name));
    file.state->in_memory = in_memory(opened.fd.get(), opened.status);
    file.state->fd = std::move(opened.fd);
    file.status = opened.status;
    keep(file);
    co_await send_file(x, std::move(file));
  }
}

Task<> Files::send_folder(Exchange& x, std::string_view name) const {
  std::string index(name);
  index += "index.html";
  Opened page = co_await open(index);
  if (page.error == 0 && page.status.type == S_IFREG) {
    co_await send_opened(x, index, std::move(page));
  } else if (!listings_) {
    co_await x.refuse(404);
  } else {
    std::error_code code;
    std::vector<Entry> entries = co_await list(std::string(name), code);
    if (code) {
      const std::string what = concat({"list ", name});
      co_await refuse(x, what, code.value());
      co_return;
    }
    const std::string text = listing_page(x.path(), std::move(entries), form_);
    co_await x.send(200, kHtml, text, code);
  }
}

// -------------------------------------------------------------------- listing

namespace {

/// What of a folder is shown: what could be asked for. Blocks.
std::vector<Entry> entries_of(int root, const std::string& folder,
                              std::error_code& code) {
  const Opened opened = open_below(root, folder.c_str(), kFlags, false);
  std::vector<std::string> names;
  int error = opened.error;
  if (error == 0) error = -sys::file_calls->list(opened.fd.get(), names);
  code.assign(error, std::system_category());
  std::vector<Entry> entries;
  for (std::string& name : names) {
    if (name.front() == '.') continue;
    const std::string path = concat({folder, "/", name});
    const Opened found = open_below(root, path.c_str(), kLook, false);
    const bool is_folder = found.status.type == S_IFDIR;
    if (found.error != 0) continue;
    if (!is_folder && found.status.type != S_IFREG) continue;
    Entry entry;
    entry.name = std::move(name);
    entry.folder = is_folder;
    entry.size = static_cast<std::uint64_t>(found.status.size);
    entry.modified = time_of(found.status);
    entries.push_back(std::move(entry));
  }
  return entries;
}

/// "2026-11-21 19:30"
std::string time_text(Time time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  const auto two = [](auto number) {
    std::string digits = std::to_string(number);
    return digits.size() < 2 ? "0" + digits : digits;
  };
  return concat({int(date.year()), "-", two(unsigned(date.month())), "-",
                 two(unsigned(date.day())), " ", two(clock.hours().count()),
                 ":", two(clock.minutes().count())});
}

constexpr std::string_view kHead =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n"
    "<style>\n"
    "body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem;\n"
    "       margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }\n"
    "h1 { font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere }\n"
    "table { width: 100%; border-collapse: collapse }\n"
    "td { padding: .2rem .5rem; border-top: 1px solid #8884 }\n"
    "td:first-child { overflow-wrap: anywhere }\n"
    "td + td { text-align: right; white-space: nowrap; opacity: .7;\n"
    "          font-variant-numeric: tabular-nums }\n"
    "a { color: #63c; text-decoration: none }\n"
    "a:hover { text-decoration: underline }\n"
    "@media (prefers-color-scheme: dark) { a { color: #b9f } }\n"
    "</style>\n";

void append_entry(std::string& page, const Entry& entry) {
  const char* const slash = entry.folder ? "/" : "";
  page += "<tr><td><a href=\"";
  append_escaped(page, entry.name);
  page.append(slash).append("\">");
  append_html(page, entry.name);
  page.append(slash).append("</a></td><td>");
  if (!entry.folder) page += size_text(entry.size);
  page.append("</td><td>").append(time_text(entry.modified));
  page += "</td></tr>\n";
}

}  // namespace

Task<std::vector<Entry>> Files::list(std::string name,
                                     std::error_code& code) const {
  while (!name.empty() && name.back() == '/') name.pop_back();
  if (name.empty()) name = ".";
  std::vector<Entry> entries =
      co_await offload([&] { return entries_of(root(), name, code); });
  co_return entries;
}

Task<std::vector<Entry>> Files::list(std::string name) const {
  std::error_code code;
  std::vector<Entry> entries = co_await list(name, code);
  if (code) throw_system(code.value(), concat({"list ", name}));
  co_return entries;
}

std::string listing_page(std::string_view path, std::vector<Entry> entries,
                         std::string_view form) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(b.folder, a.name) < std::tie(a.folder, b.name);
  });
  std::string page(kHead);
  page += "<title>";
  append_html(page, path);
  page += "</title>\n</head>\n<body>\n<h1>";
  append_html(page, path);
  page.append("</h1>\n").append(form).append("<table>\n");
  if (path != "/") {
    page += "<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n";
  }
  for (const Entry& entry : entries) append_entry(page, entry);
  page += "</table>\n</body>\n</html>\n";
  return page;
}

}  // namespace violet::http
