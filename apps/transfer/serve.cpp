// serve.cpp - files over HTTP: whole, in ranges, and in pieces that are put
// together.
//
//     PUT /NAME                       stores a whole body: 201, or 200 if it
//                                     replaced a file
//     PUT /NAME  Content-Range        stores a piece: 202 while others are
//                                     missing, else as above
//     PUT /NAME  If-Match             only in place of that version, or (*
//                                     in If-None-Match) of none: else 412
//     GET /NAME?upload                how far an upload is
//     DELETE /NAME?upload             gives it up
//     GET /NAME                       a file, or a part of it
//     GET /FOLDER/                    what is in it, with a form
//     POST /FOLDER/                   what that form sends
//
// All state is on the disk (store.hpp); this translates between it and HTTP.
//
// Only so many transfers go on at a time, and who takes his time would keep the
// others waiting for a place. So while somebody waits, a client that moves next
// to nothing loses its place: an upload, which takes memory, is given up; a
// download goes on without.
// SPDX-License-Identifier: MIT
#include "serve.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "../../net/http/http.hpp"
#include "../server_args.hpp"
#include "multipart.hpp"
#include "page.hpp"
#include "store.hpp"

namespace transfer {

using namespace violet;

namespace {

struct Settings {
  std::string folder = ".";
  std::size_t max_transfers = 100;
  std::uint64_t max_body = 0;
  Duration timeout = std::chrono::seconds(30);
  Duration keep = std::chrono::hours(24);
};

constexpr std::string_view kHtml = "text/html; charset=utf-8";
constexpr std::string_view kJson = "application/json";
constexpr std::size_t kMostMissing = 256;  // ranges in a field

int status_of(Why why) {
  switch (why) {
    case Why::kBadName:
    case Why::kBadPiece: return 400;
    case Why::kHidden:
    case Why::kNoFile: return 403;
    case Why::kNoFolder: return 404;
    case Why::kConflict:
    case Why::kManyGaps:
    case Why::kGivenUp: return 409;
    case Why::kOtherVersion: return 412;
    case Why::kBusy: return 503;
  }
  return 500;
}

bool is_full_disk(const std::error_code& code) {
  return code == std::errc::no_space_on_device ||
         code == std::errc::file_too_large ||
         code == std::error_code(EDQUOT, std::system_category());
}

/// What of an error of the disk or system a client should hear, and what that
/// is called. Returns: 0 if it is the server's own business.
int status_of(const std::error_code& code, std::string& text) {
  if (is_full_disk(code)) {
    text = "the disk is full";
    return 507;
  }
  if (code.category() != std::system_category()) return 0;
  const int status = http::status_of_error(code.value());
  if (status == 403) text = "the server may not write there";
  if (status == 503) text = "the server has too much open";
  return status == 403 || status == 503 ? status : 0;
}

/// Answers with what an error says. Rethrows it if it is not one that a client
/// should hear of, or once the response has begun.
Task<> refuse(http::Exchange& x, std::exception_ptr error) {
  int status = 0;
  std::string text;
  if (const auto* refused = exception_as<Refused>(error)) {
    status = status_of(refused->why());
    text = refused->what();
  } else if (const auto* e = exception_as<std::system_error>(error)) {
    status = status_of(e->code(), text);
  }
  if (status == 0 || x.begun()) std::rethrow_exception(error);
  if (status == 503) x.field("Retry-After", std::uint64_t{1});
  co_await x.refuse(status, text);
}

/// If-Match and its kin: RFC 9110, section 13.1. Lifetime: the exchange.
Condition condition_of(const http::Exchange& x) {
  return [&head = x.request()](const sys::FileStatus* there) {
    http::Selected selected;
    std::string tag;
    if (there != nullptr) selected = http::about_file(*there, tag);
    selected.exists = there != nullptr;
    return http::evaluate(head, selected, http::current_time()).status == 0;
  };
}

/// Answers how far an upload is, and with the tag of what it has become.
Task<> answer(http::Exchange& x, const Progress& progress) {
  if (progress.stored) {
    std::string tag;
    http::about_file(*progress.stored, tag);
    x.field("ETag", concat({"\"", tag, "\""}));
  }
  const int status = !progress.complete ? 202 : progress.replaced ? 200 : 201;
  co_await x.send(status, kJson, progress.json());
}

// --------------------------------------------------------------- slow clients

// Next to nothing: less than so much in a second, for so long.
constexpr double kLeastBytes = 1024;
constexpr std::chrono::seconds kSlowUpload(3);
constexpr std::chrono::seconds kSlowDownload(1);
constexpr std::chrono::milliseconds kLook(250);

bool is_slow(std::uint64_t bytes, Duration time) noexcept {
  const std::chrono::duration<double> seconds = time;
  return static_cast<double>(bytes) < kLeastBytes * seconds.count();
}

/// How fast a client sends, over the time in which it is waited for: what the
/// disk takes is not its fault. Lifetime: `places` outlives it.
class Pace {
 public:
  explicit Pace(const Semaphore& places) noexcept : places_(places) {}

  void wait() noexcept { begin_ = Loop::current().now(); }

  /// So many bytes have come. Throws: http::Error (408) if the client is slow
  /// and others wait for its place.
  void came(std::size_t count) {
    waited_ += Loop::current().now() - begin_;
    bytes_ += count;
    if (waited_ < kSlowUpload) return;
    const bool slow = is_slow(bytes_, waited_);
    waited_ = Duration::zero();
    bytes_ = 0;
    if (slow && places_.waiting() > 0) {
      throw http::Error(408, "the body comes too slowly, and others wait");
    }
  }

 private:
  const Semaphore& places_;
  TimePoint begin_;
  Duration waited_{0};  // since it was last judged
  std::uint64_t bytes_ = 0;
};

/// All of a request's body, into a file.
Task<> pour(http::Exchange& x, Sink& sink, Pace pace) {
  for (;;) {
    const std::span<char> room = co_await sink.room();
    pace.wait();
    const std::size_t count = co_await x.read(room);
    pace.came(count);
    if (count == 0) co_return;
    co_await sink.commit(count);
  }
}

/// A transfer's place, which a slow download gives back before its end.
class Seat {
 public:
  Seat(std::vector<Seat*>& all, const http::Exchange& x, Permit place)
      : all_(all),
        exchange_(x),
        place_(std::move(place)),
        downloads_(x.request().method == "GET"),
        marked_(Loop::current().now()),
        sent_(x.sent_bytes()) {
    all_.push_back(this);
  }
  Seat(const Seat&) = delete;
  ~Seat() { std::erase(all_, this); }

  /// Gives the place back if the client takes next to nothing.
  void look(TimePoint now) {
    if (!downloads_ || now - marked_ < kSlowDownload) return;
    const std::uint64_t sent = exchange_.sent_bytes();
    if (is_slow(sent - sent_, now - marked_)) place_.reset();
    marked_ = now;
    sent_ = sent;
  }

 private:
  std::vector<Seat*>& all_;
  const http::Exchange& exchange_;
  std::optional<Permit> place_;
  const bool downloads_;
  TimePoint marked_;    // when this was last looked at
  std::uint64_t sent_;  // by then
};

class Service {
 public:
  explicit Service(const Settings& settings)
      : settings_(settings),
        store_(settings.folder, store_options(settings)),
        files_(settings.folder),
        transfers_(settings.max_transfers) {}

  Store& store() { return store_; }

  /// While somebody waits for a place, looks for one. Never ends.
  Task<> make_room();

  /// Routes to `self`, which outlives the router.
  static void add_routes(http::Router& router, Service& self);

 private:
  static StoreOptions store_options(const Settings& settings) {
    StoreOptions options;
    if (settings.timeout > Duration::zero())
      options.patience = settings.timeout;
    return options;
  }

  template <class Work>
  Task<> transfer(http::Exchange& x, Work work);

  Task<> put(http::Exchange& x);
  Task<> put_piece(http::Exchange& x, const http::ContentRange& where);
  Task<> put_whole(http::Exchange& x);
  Task<> get(http::Exchange& x);
  Task<> list(http::Exchange& x, std::string name);
  Task<> tell(http::Exchange& x);
  Task<> give_up(http::Exchange& x);
  Task<> post(http::Exchange& x);
  Task<> store_form(http::Exchange& x, Multipart& form);
  Task<> store_part(http::Exchange& x, Multipart& form, Pace& pace);

  static std::string name_of(const http::Exchange& x) {
    return std::string(x.path().substr(1));
  }

  const Settings& settings_;
  Store store_;
  http::Files files_;
  Semaphore transfers_;
  Flag crowded_;              // somebody waits
  std::vector<Seat*> seats_;  // of all transfers
};

Task<> Service::make_room() {
  for (;;) {
    co_await crowded_.wait();
    crowded_.clear();
    while (transfers_.waiting() > 0) {
      for (Seat* seat : seats_) seat->look(Loop::current().now());
      co_await violet::sleep(kLook);
    }
  }
}

/// Calls `work(x)` when there is room for one more transfer.
template <class Work>
Task<> Service::transfer(http::Exchange& x, Work work) {
  const Duration patience = settings_.timeout > Duration::zero()
                                ? settings_.timeout
                                : Duration::max();
  std::optional<Permit> place = transfers_.try_acquire();
  if (!place) {
    crowded_.set();
    x.compact();
    place = co_await within(patience, transfers_.acquire());
  }
  if (!place) {
    x.field("Retry-After", std::uint64_t{5});
    co_await x.refuse(503, "too many transfers at once");
    co_return;
  }
  const Seat seat(seats_, x, std::move(*place));
  place.reset();
  std::exception_ptr error;
  try {
    co_await work(x);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) co_await refuse(x, error);
}

// --------------------------------------------------------------------- uploads

/// curl -C - says so of an empty file.
bool is_empty_range(std::string_view text) {
  return text == "bytes 0--1/0";
}

/// Throws: http::Error for what would be stored as something else than it is.
void check_fields(const http::Fields& fields) {
  for (const std::string_view name : {"Content-Range", "Upload-Id"}) {
    if (fields.count(name) < 2) continue;
    throw http::Error(400, concat({"there is more than one ", name}));
  }
  for (const http::Field field : fields) {
    if (!http::same_word(field.name, "Content-Encoding")) continue;
    if (http::same_word(field.value, "identity")) continue;
    throw http::Error(415, "a file is stored as it is, without a coding");
  }
}

Task<> Service::put(http::Exchange& x) {
  const http::RequestHead& head = x.request();
  if (http::check_length_given(head) != http::Fault::kNone) {
    co_await x.refuse(411, "say how long the body is");
    co_return;
  }
  check_fields(head.fields);
  const auto given = head.fields.find("Content-Range");
  if (!given || is_empty_range(*given)) {
    co_await put_whole(x);
    co_return;
  }
  const auto where = http::parse_content_range(*given);
  if (!where || !where->range || !where->size) {
    co_await x.refuse(400, "a piece has a Content-Range such as bytes 0-4/10");
    co_return;
  }
  co_await put_piece(x, *where);
}

Task<> Service::put_piece(http::Exchange& x, const http::ContentRange& where) {
  const http::RequestHead& head = x.request();
  if (!head.chunked && head.length != where.range->size()) {
    co_await x.refuse(400, "Content-Length and Content-Range disagree");
    co_return;
  }
  if (settings_.max_body != 0 && *where.size > settings_.max_body) {
    co_await x.refuse(413, "the file would be too long");
    co_return;
  }
  const std::string id(head.fields.find("Upload-Id").value_or(""));
  Fragment piece(*where.range, *where.size, id);
  PieceSink sink(store_, name_of(x), std::move(piece), condition_of(x));
  co_await sink.begin();
  std::exception_ptr error;
  Progress progress;
  try {
    co_await pour(x, sink, Pace(transfers_));
    progress = co_await sink.finish();
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    try {
      co_await sink.keep();
    } catch (const std::exception&) {  // what there was to say has been said
    }
    std::rethrow_exception(error);
  }
  co_await answer(x, progress);
}

Task<> Service::put_whole(http::Exchange& x) {
  WholeSink sink(store_, name_of(x), condition_of(x));
  co_await sink.begin();
  co_await pour(x, sink, Pace(transfers_));
  const Progress progress = co_await sink.finish();
  co_await answer(x, progress);
}

/// "0-4,10-19": as in a Content-Range, the last byte is one of them.
std::string missing_text(const Progress& progress) {
  ByteSet have;
  for (const ByteRange& range : progress.received) have.add(range);
  std::string text;
  std::size_t count = 0;
  for (const ByteRange& gap : have.missing({0, progress.size})) {
    if (++count > kMostMissing) break;
    text += concat({text.empty() ? "" : ",", gap.begin, "-", gap.end - 1});
  }
  return text;
}

/// How far an upload is. Who gets an Upload-Protocol knows that there are such
/// answers.
Task<> Service::tell(http::Exchange& x) {
  x.field("Upload-Protocol", "1").field("Cache-Control", "no-store");
  const std::optional<Progress> progress = co_await store_.progress(name_of(x));
  if (!progress) {
    co_await x.refuse(404, "no upload of that name is in progress");
    co_return;
  }
  x.field("Upload-Size", progress->size);
  if (!progress->id.empty()) x.field("Upload-Id", progress->id);
  x.field("Upload-Complete", progress->complete ? "true" : "false");
  x.field("Upload-Missing", missing_text(*progress));
  co_await x.send(200, kJson, progress->json());
}

Task<> Service::give_up(http::Exchange& x) {
  if (!x.query("upload")) {
    x.field("Allow", "GET, HEAD, OPTIONS, POST, PUT");
    co_await x.refuse(405, "only uploads are given up: DELETE /NAME?upload");
    co_return;
  }
  const std::string id(x.request().fields.find("Upload-Id").value_or(""));
  const bool found = co_await store_.give_up(name_of(x), id);
  if (found) {
    co_await x.send(204, "", "");
  } else {
    co_await x.refuse(404, "no upload of that name is in progress");
  }
}

// ----------------------------------------------------------------------- forms

/// True if a page of another server has made this request (CSRF): a browser
/// names the server of the page.
bool is_foreign(const http::RequestHead& head) {
  const auto origin = head.fields.find("Origin");
  if (!origin) return false;
  const auto host = origin->find("://");
  return host == origin->npos ||
         !http::same_word(origin->substr(host + 3),
                          head.fields.find("Host").value_or(""));
}

Task<> Service::post(http::Exchange& x) {
  const auto type = x.request().fields.find("Content-Type");
  const auto boundary = boundary_of(type.value_or(""));
  if (!boundary || !x.path().ends_with('/')) {
    co_await x.refuse(400, "a form with files is sent to a folder");
    co_return;
  }
  if (is_foreign(x.request())) {
    co_await x.refuse(403, "the form is another server's");
    co_return;
  }
  Multipart form(*boundary);
  co_await store_form(x, form);
  x.field("Location", x.request().parts.path);
  co_await x.refuse(303, "stored");
}

/// Feeds the form with what comes next.
Task<> feed(http::Exchange& x, Multipart& form, Pace& pace) {
  pace.wait();
  const std::string_view piece = co_await x.read();
  pace.came(piece.size());
  if (piece.empty()) throw http::Error(400, "the form is cut short");
  form.feed(piece);
}

/// Feeds the form until it is done.
Task<> Service::store_form(http::Exchange& x, Multipart& form) {
  Pace pace(transfers_);
  for (;;) {
    switch (form.next()) {
      case Multipart::kPart: co_await store_part(x, form, pace); break;
      case Multipart::kMore: co_await feed(x, form, pace); break;
      case Multipart::kDone: co_return;
      case Multipart::kBad: throw http::Error(400, "that is no form");
      case Multipart::kData:
      case Multipart::kEnd: break;
    }
  }
}

/// The part that has begun: a file, if it has a name.
Task<> Service::store_part(http::Exchange& x, Multipart& form, Pace& pace) {
  // Some browsers have sent a path, with slashes of either kind.
  std::string name = form.file_name().value_or("");
  name.erase(0, name.find_last_of("/\\") + 1);
  std::optional<WholeSink> sink;
  if (!name.empty()) {
    sink.emplace(store_, concat({name_of(x), name}));
    co_await sink->begin();
  }
  for (;;) {
    const Multipart::Event event = form.next();
    if (event == Multipart::kData) {
      std::string_view data = form.data();
      while (sink && !data.empty()) {
        const std::span<char> room = co_await sink->room();
        const std::size_t count = data.copy(room.data(), room.size());
        co_await sink->commit(count);
        data.remove_prefix(count);
      }
    } else if (event == Multipart::kMore) {
      co_await feed(x, form, pace);
    } else if (event == Multipart::kEnd) {
      break;
    } else {
      throw http::Error(400, "that is no form");
    }
  }
  if (sink) co_await sink->finish();
}

// ------------------------------------------------------------------- downloads

/// What a browser would run as a page gets no rights: it may be anybody's.
bool may_have_script(std::string_view type) {
  return type.starts_with("text/html") || type.find("xml") != type.npos;
}

Task<> Service::get(http::Exchange& x) {
  const std::string name = name_of(x);
  if (x.query("upload")) {
    co_await tell(x);
  } else if (name.empty() || name.ends_with('/')) {
    co_await list(x, name);
  } else {
    const std::string_view type = http::type_of_name(name);
    x.field("X-Content-Type-Options", "nosniff");
    if (may_have_script(type)) x.field("Content-Security-Policy", "sandbox");
    co_await files_.serve(x, name);
  }
}

/// Always a listing: an index.html that somebody uploads is a file like others.
Task<> Service::list(http::Exchange& x, std::string name) {
  if (http::is_hidden(name)) throw http::Error(404);
  std::error_code code;
  std::vector<http::Entry> entries = co_await files_.list(name, code);
  if (code) {
    const std::string what = concat({"list ", name});
    co_await http::Files::refuse(x, what, code.value());
    co_return;
  }
  const std::string page =
      http::listing_page(x.path(), std::move(entries), upload_form());
  x.field("Cache-Control", "no-store");
  co_await x.send(200, kHtml, page);
}

void Service::add_routes(http::Router& router, Service& self) {
  const auto limited = [&self](Task<> (Service::*work)(http::Exchange&)) {
    return [&self, work](http::Exchange& x) {
      const auto call = [&self, work](http::Exchange& e) {
        return (self.*work)(e);
      };
      return self.transfer(x, call);
    };
  };
  router.get("/", limited(&Service::get));
  router.get("/{path*}", limited(&Service::get));
  router.put("/{path*}", limited(&Service::put));
  router.post("/", limited(&Service::post));
  router.post("/{path*}", limited(&Service::post));
  router.add("DELETE", "/{path*}", limited(&Service::give_up));
}

// ----------------------------------------------------------------- the program

/// Removes what is abandoned, now and then.
Task<> keep_clean(Store& store, Duration age) {
  for (;;) {
    co_await violet::sleep(std::chrono::hours(1));
    try {
      co_await store.clean(age);
    } catch (const std::exception& e) {
      complain(e.what());
    }
  }
}

Task<> serve_folder(ServerArgs args, const Settings& settings) {
  Service service(settings);
  co_await service.store().clean(settings.keep);
  http::Router router;
  Service::add_routes(router, service);
  http::Options options(args.options());
  options.stall_time = settings.timeout;
  if (settings.max_body != 0) options.body.body = settings.max_body;
  TaskGroup group;
  group.spawn(keep_clean, std::ref(service.store()), settings.keep);
  group.spawn([](Service& s) { return s.make_room(); }, std::ref(service));
  co_await http::server(args.host(), args.port(), router, options);
}

}  // namespace

int serve(int argc, char** argv) {
  ServerArgs server(8080);
  Settings settings;
  Args args("transfer", "serves and stores files over HTTP");
  args.command("serve");
  server.add_where(args, "port, 0 for any free one (8080)");
  args.text("--dir", "FOLDER", "what to serve, and where to store (.)",
            settings.folder);
  args.number("--max-transfers", "requests at a time (100)",
              settings.max_transfers, 1, 100'000);
  args.size("--max-body", "bytes of a file, 0: no limit (0)", settings.max_body,
            0, ~std::uint64_t{0});
  args.time("--timeout", "give up who stalls, 0: never (30s)",
            settings.timeout);
  args.time("--keep", "forget an abandoned upload, 0: never (1440m)",
            settings.keep);
  server.add_manners(args);
  args.parse(argc, argv);
  server.address(args);
  return run_program(serve_folder(server, settings));
}

}  // namespace transfer
