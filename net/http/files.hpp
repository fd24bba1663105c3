// files.hpp - a folder, as HTTP shows it.
//
// The idea: a name that comes from outside is opened below a folder and
// nowhere else, and the system itself sees to that (openat2(2) on Linux; where
// there is no such call, no symbolic link is followed at all). So there is no
// path to be cleaned, and no moment between a check and an opening. What is
// opened is then looked at: files and folders are shown, nothing else is.
//
// What the system has in memory is opened at once; only what it would have to
// ask the disk for goes to a thread. What a crowd asks for in one turn of the
// loop is opened once for all of them, and looked at for each: one that has
// been replaced, removed or changed since is opened anew. That the way to it
// has changed, a link or the name of a folder, is noticed in the next turn.
//
// An ETag is made of a file's number, size and time of change in nanoseconds:
// who writes a file anew, or puts another in its place, gives it another tag.
// It is strong, as far as the clock of the file system tells two changes of the
// same size apart (some milliseconds, on older systems).
//
// Names that begin with a dot are hidden: they are not listed, and not there.
//
// Built on: exchange; runtime/file. See: openat2(2), RFC 9110, section 8.8.3.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "../../runtime/fd.hpp"
#include "../../runtime/file.hpp"
#include "exchange.hpp"

namespace violet::http {

/// One line of a listing.
struct Entry {
  std::string name;
  bool folder = false;
  std::uint64_t size = 0;  // of a file
  Time modified;
};

/// A page of HTML that lists a folder: folders first, then files, each by name.
/// `path` is the decoded path, with a slash at its end. `form` is HTML that
/// stands above the list.
std::string listing_page(std::string_view path, std::vector<Entry> entries,
                         std::string_view form = {});

/// What is opened below a folder.
struct Opened {
  Opened() noexcept {}
  Fd fd;
  sys::FileStatus status;
  int error = 0;  // why it is not there
};

/// True for a name that is not shown: it, or a folder in it, begins with a dot.
bool is_hidden(std::string_view name) noexcept;

/// What a client is told of an error of the disk or system: 404, 403 or 503
/// where that says it; else 500.
int status_of_error(int error) noexcept;

/// The tag of a file without its quotes, and its time. Lifetime: the tag's
/// view in `out` is `tag`'s.
Selected about_file(const sys::FileStatus& status, std::string& tag);

/// A folder whose files are served. A plain value: copies share the folder.
/// Any number of threads may use it.
class Files {
 public:
  /// Throws: std::system_error "open /srv: No such file or directory".
  explicit Files(const std::string& folder);

  /// Listings of folders without an index.html; else 404.
  Files& listings(bool wanted) noexcept {
    listings_ = wanted;
    return *this;
  }

  /// HTML that stands above each listing.
  Files& form(std::string html) {
    form_ = std::move(html);
    return *this;
  }

  /// Answers a GET or HEAD with what has this name below the folder: a file,
  /// or of a folder its index.html, or a listing. `name` is decoded, relative,
  /// and has a slash at its end for a folder; see decode_path().
  Task<> serve(Exchange& exchange, std::string_view name) const;

  /// The same for the whole path, as the handler of "/{path*}".
  Task<> operator()(Exchange& exchange) const {
    return serve(exchange, exchange.path().substr(1));
  }

  /// Opens what has this name below the folder, whatever it is. Never blocks
  /// the loop.
  Task<Opened> open(std::string name) const;

  /// What a listing of the folder of this name has, in no order. Throws:
  /// std::system_error.
  Task<std::vector<Entry>> list(std::string name) const;
  Task<std::vector<Entry>> list(std::string name, std::error_code& code) const;

  /// Answers for what cannot be opened or listed: 404, 403 or 503; or 500, and
  /// then `what` and the error go to stderr.
  static Task<> refuse(Exchange& exchange, std::string_view what, int error);

 private:
  Task<> send_opened(Exchange& exchange, std::string_view name,
                     Opened opened) const;
  Task<> send_folder(Exchange& exchange, std::string_view name) const;
  int root() const noexcept { return root_->get(); }

  std::shared_ptr<const Fd> root_;
  std::string form_;
  bool listings_ = true;
};

}  // namespace violet::http
