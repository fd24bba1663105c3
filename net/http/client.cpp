// client.cpp - one exchange: out, in, and once more where that is right.
// SPDX-License-Identifier: MIT
#include "client.hpp"

#include <algorithm>
#include <cerrno>

#include "../../runtime/combine.hpp"
#include "../../runtime/shield.hpp"

namespace violet::http {

namespace {

using violet::internal::into;
using violet::internal::keep;
using violet::internal::Outcome;

class ClientCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "http client"; }
  std::string message(int value) const override {
    switch (static_cast<ClientError>(value)) {
      case ClientError::kNoReply: return "the connection ended without a reply";
      case ClientError::kManyRedirects: return "there are too many redirects";
      case ClientError::kBadRedirect: return "it cannot be followed";
      case ClientError::kSwitched: return "the server speaks no HTTP any more";
    }
    return "no error";
  }
};

[[noreturn]] void throw_client(ClientError error, const std::string& what) {
  throw_error(std::system_error(make_error_code(error), what));
}

/// What an error says beside what its code means.
std::string own_text(const std::system_error& error) {
  std::string text = error.what();
  const std::string meaning = concat({": ", error.code().message()});
  if (text.ends_with(meaning)) text.resize(text.size() - meaning.size());
  return text;
}

/// True for the end of a connection, by whomever.
bool is_broken(const std::exception_ptr& error) noexcept {
  const auto* known = exception_as<std::system_error>(error);
  return known != nullptr &&
         (known->code() == make_error_code(ClientError::kNoReply) ||
          known->code() == std::errc::connection_reset ||
          known->code() == std::errc::broken_pipe);
}

bool is_one_of(std::string_view word,
               std::initializer_list<std::string_view> words) noexcept {
  return std::any_of(words.begin(), words.end(),
                     [&](auto one) { return same_word(word, one); });
}

}  // namespace

const std::error_category& client_category() noexcept {
  static const ClientCategory category;
  return category;
}

std::error_code make_error_code(ClientError error) noexcept {
  return {static_cast<int>(error), client_category()};
}

// -------------------------------------------------------------------- request

Request::Request(std::string_view method, Url url)
    : method_(method), url_(std::move(url)) {
  if (!is_token(method)) {
    throw_error(Misuse(concat(
        {"violet: '", method, "' is no method of HTTP: say GET, or a word"})));
  }
  if (method == "CONNECT") {
    throw_error(Misuse(
        "violet: CONNECT makes a tunnel, not an exchange: use connect()"));
  }
  if (url_.host().empty()) {
    throw_error(Misuse("violet: a request needs a URL with a host"));
  }
}

Request& Request::field(std::string_view name, std::string_view value) {
  if (is_one_of(name, {"Host", "Connection", "Content-Length",
                       "Transfer-Encoding", "Expect"})) {
    throw_error(Misuse(concat({"violet: the client writes ", name,
                               " itself, from the URL, the body and "
                               "expect_continue(): leave it out"})));
  }
  fields_.emplace_back(name, value);
  return *this;
}

Request& Request::body(std::string text) {
  drop_body();
  from_ = BodyFrom::kText;
  text_ = std::move(text);
  length_ = text_.size();
  return *this;
}

Request& Request::body(const File& file, std::uint64_t offset,
                       std::uint64_t count) {
  drop_body();
  from_ = BodyFrom::kFile;
  file_ = &file;
  offset_ = offset;
  length_ = count;
  return *this;
}

Request& Request::written_by(const void* function, Call how,
                             std::optional<std::uint64_t> length) {
  drop_body();
  from_ = BodyFrom::kFunction;
  function_ = function;
  call_ = how;
  length_ = length;
  return *this;
}

Request& Request::repeatable(bool may_repeat) {
  repeatable_ = may_repeat;
  return *this;
}

Request& Request::expect_continue(Duration patience) {
  expects_ = patience;
  return *this;
}

bool Request::can_repeat_body() const noexcept {
  return repeatable_.value_or(from_ != BodyFrom::kFunction);
}

// RFC 9110, section 9.2.2.
bool Request::may_repeat() const noexcept {
  const bool idempotent =
      is_one_of(method_, {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"});
  return repeatable_.value_or(idempotent && can_repeat_body());
}

void Request::drop_body() {
  from_ = BodyFrom::kNone;
  text_.clear();
  length_.reset();
}

void Request::drop_fields(std::initializer_list<std::string_view> names) {
  std::erase_if(fields_, [&](const auto& field) {
    return is_one_of(field.first, names);
  });
}

Framing Request::framing() const noexcept {
  // RFC 9110, section 8.6: these are expected to have a body.
  const bool empty = from_ == BodyFrom::kNone;
  if (empty && !is_one_of(method_, {"POST", "PUT", "PATCH"})) return {};
  if (empty) return {BodyKind::kLength, 0};
  if (!length_) return {BodyKind::kChunked, 0};
  return {BodyKind::kLength, *length_};
}

// ----------------------------------------------------------------- round trip

namespace internal {

/// One request, and its reply. Held by whoever reads that, and by the job that
/// sends: one that is busy when it is told to end does so at its next wait.
class RoundTrip : public std::enable_shared_from_this<RoundTrip> {
 public:
  RoundTrip(Pool& pool, const ClientOptions& options, Request&& request)
      : pool_(pool),
        options_(options),
        request_(std::move(request)),
        parser_(options.head_limits) {}
  RoundTrip(const RoundTrip&) = delete;

  /// Nobody wants to send any more. Nothing goes out after this.
  void stop_sending() noexcept;

  /// Sends the request, again if need be, and reads the head of the reply.
  Task<> run();

  /// Makes the request the one that a redirect asks for.
  /// Returns: false if it is none, or none that can be followed.
  bool redirect();

  /// Reads what is left of a reply that nobody wants, if it is little.
  Task<> drain();

  Task<std::string_view> read();
  Task<std::size_t> read(std::span<char> into);

  const ResponseHead& head() const noexcept { return parser_.head(); }
  const Url& url() const noexcept { return request_.url(); }
  const BodyReader& body() const noexcept { return *body_; }

  /// True once all has come in, and all has gone out.
  bool done() const noexcept {
    return body_->done() && sending_.ended() && !sending_failure();
  }

  /// "GET http://127.0.0.1/"
  std::string name() const {
    return concat({request_.method(), " ", request_.url().text()});
  }

  /// Throws what has been thrown, with the name of the request.
  [[noreturn]] void fail(const std::exception_ptr& error) const;

 private:
  enum class Progress : std::uint8_t {
    kNothing,  // not even an interim reply has come
    kInterim,  // one that was not the last has
    kReplied,  // the head is there
  };

  Task<> try_twice();
  Task<> try_once();
  bool worth_repeating(const std::exception_ptr& error) const noexcept;
  bool server_ended(const std::exception_ptr& error) const noexcept;

  Task<> send();
  Task<> send_with_body();
  Task<> keep_sending();
  Task<> send_watched();
  Task<> sending_ends();
  void end_sending() noexcept;
  bool holds_body_back() const noexcept;
  Task<> send_body();
  Task<> write_body(BodyWriter& body);
  Task<> call_function(BodyWriter& body);
  Task<> send_file();
  Task<> watch_sending();
  Task<> flush();
  template <class Event>
  Task<> in_time(Event event);
  void write_head(std::string& out) const;

  Task<> read_head(Duration limit);
  Task<> finish();
  std::exception_ptr sending_failure() const noexcept;
  void throw_if_sending_failed() const;
  void give_back() noexcept;
  bool may_be_kept() const noexcept { return sent_ && head().keeps_alive; }
  template <class Read>
  auto limited(Read read)
      -> Task<std::remove_cvref_t<decltype(read().result())>>;

  Pool& pool_;
  const ClientOptions& options_;
  Request request_;
  Loan loan_;
  ResponseParser parser_;
  std::optional<BodyReader> body_;  // once the head is there
  Flag asked_for_body_;             // by 100 Continue
  Progress progress_ = Progress::kNothing;
  bool sent_ = false;       // the whole request is out
  bool begun_ = false;      // the function that writes the body was called
  bool own_fault_ = false;  // and has thrown what is not the connection's
  // A long body goes out by this job of the pool's. What came of it stands
  // beside it, unless the job has failed before it could say.
  Job<> sending_;
  bool sending_counts_ = false;  // the reply has not made it needless
  Outcome<void> sending_outcome_;
};

void RoundTrip::fail(const std::exception_ptr& error) const {
  if (const auto* known = exception_as<std::system_error>(error)) {
    throw_error(std::system_error(known->code(),
                                  concat({name(), ": ", own_text(*known)})));
  }
  std::rethrow_exception(error);
}

Task<> RoundTrip::run() {
  Outcome<void> outcome;
  co_await into(outcome, try_twice());
  if (outcome.error) fail(outcome.error);
  body_.emplace(loan_.stream(), body_of(head(), request_.method()),
                options_.body_limits);
  if (body_->done()) co_await finish();
}

Task<> RoundTrip::try_twice() {
  stop_sending();  // to the one that redirects: it uses the loan
  loan_ = Loan();  // which may be the only one there may be
  loan_ = co_await pool_.lend(request_.url());
  Outcome<void> first;
  co_await into(first, try_once());
  if (!first.error) co_return;
  if (!worth_repeating(first.error)) first.take();
  stop_sending();
  co_await pool_.renew(loan_);
  co_await try_once();
}

/// True if the server may have ended the connection before it had read any of
/// the request, and sending it again does no harm.
bool RoundTrip::worth_repeating(
    const std::exception_ptr& error) const noexcept {
  const bool silent = progress_ == Progress::kNothing && parser_.idle();
  return loan_.used_before() && silent && server_ended(error) &&
         request_.may_repeat();
}

/// True if it is the connection that has ended, and not another one, of which
/// the function that writes the body has told.
bool RoundTrip::server_ended(const std::exception_ptr& error) const noexcept {
  return is_broken(error) && !own_fault_;
}

/// A server that refuses a request may end the connection while it is sent. So
/// when sending fails, what it said is still read.
Task<> RoundTrip::try_once() {
  parser_.next();
  progress_ = Progress::kNothing;
  sent_ = false;
  own_fault_ = false;
  asked_for_body_.clear();
  Outcome<void> sending;
  co_await into(sending, send());
  if (progress_ == Progress::kReplied) co_return;
  if (sending.error && !server_ended(sending.error)) sending.take();
  Outcome<void> reading;
  co_await into(reading, read_head(options_.reply_time));
  if (reading.error && sending.error) sending.take();
  reading.take();
}

// --- out

void RoundTrip::write_head(std::string& out) const {
  HeadWriter head(out);
  head.request(request_.method(), request_.url().target());
  head.field("Host", request_.url().authority());
  for (const auto& [name, value] : request_.fields_) head.field(name, value);
  const Framing framing = request_.framing();
  if (framing.kind == BodyKind::kLength) head.length(framing.length);
  if (framing.kind == BodyKind::kChunked) head.chunked();
  if (holds_body_back()) head.field("Expect", "100-continue");
  if (const char* why = head.finish()) {
    throw_error(Misuse(concat({"violet: the request ", name(),
                               " cannot be "
                               "written: ",
                               why})));
  }
}

/// There must be something to be held back (RFC 9110, section 10.1.1).
bool RoundTrip::holds_body_back() const noexcept {
  const Framing framing = request_.framing();
  const bool chunked = framing.kind == BodyKind::kChunked;
  return request_.expects_ && (chunked || framing.length > 0);
}

Task<> RoundTrip::send() {
  constexpr std::size_t kAtOnce = 16 * 1024;
  std::string head;
  write_head(head);
  const bool has_text = request_.from_ == Request::BodyFrom::kText;
  const bool at_once =
      !holds_body_back() && has_text && request_.text_.size() <= kAtOnce;
  co_await in_time(loan_.stream().write(head));
  if (at_once) co_await in_time(loan_.stream().write(request_.text_));
  if (request_.from_ == Request::BodyFrom::kNone || at_once) {
    co_await flush();
    sent_ = true;
  } else {
    co_await send_with_body();
  }
}

Task<> RoundTrip::flush() {
  co_await in_time(loan_.stream().flush());
}

template <class Event>
Task<> RoundTrip::in_time(Event event) {
  auto sends = within(options_.stall_time, std::move(event));
  const auto out = co_await std::move(sends);
  if (out) co_return;
  throw_system(ETIMEDOUT, concat({"send", limit_text(options_.stall_time)}));
}

/// A body that may take long, while the reply is awaited already. One that is
/// no success ends it: who refuses the body reads no more of it. With a success
/// it goes on, or begins, if it was held back: what that says may depend on all
/// that is still to come.
Task<> RoundTrip::send_with_body() {
  co_await flush();
  sending_outcome_.error = nullptr;
  sending_counts_ = true;
  const auto keeps_sending = [self = shared_from_this()] {
    return self->keep_sending();
  };
  sending_ = pool_.jobs().spawn(keeps_sending);
  Outcome<void> reading;
  co_await any(keep(reading, read_head(Duration::max())), sending_ends());
  if (progress_ != Progress::kReplied) {
    const std::exception_ptr failure = sending_failure();
    if (failure) std::rethrow_exception(failure);
    reading.take();
    sending_outcome_.take();
  } else if (head().status / 100 == 2) {
    asked_for_body_.set();
    if (sending_.ended() && !sent_) end_sending();
  } else {
    stop_sending();
  }
}

/// What comes of it is told to whoever reads the reply.
Task<> RoundTrip::keep_sending() {
  Outcome<void> watched;
  co_await into(watched, send_watched());
  if (watched.error) sending_outcome_ = watched;
  if (sending_outcome_.error && progress_ == Progress::kReplied) end_sending();
}

/// A server that waits for what will not come is told so by the end of the
/// stream, and so is who writes. What lies in the buffer is no use any more.
void RoundTrip::end_sending() noexcept {
  std::error_code unheard;
  loan_.stream().connection().shutdown(Half::kSending, unheard);
}

Task<> RoundTrip::send_watched() {
  // A failure is kept before anybody could kill who is to tell it.
  Outcome<void> stall;
  co_await any(keep(sending_outcome_, send_body()),
               keep(stall, watch_sending()));
  stall.take();
}

Task<> RoundTrip::sending_ends() {
  co_await wait(sending_);
}

/// As a group does at the end of its scope, shields or not: what the function
/// uses that writes the body may go now.
void RoundTrip::stop_sending() noexcept {
  sending_counts_ = false;
  if (sending_.ended()) return;
  const auto here = std::source_location::current();
  Loop::current().kill(*sending_.block(), "its reply has ended it", here, true);
}

Task<> RoundTrip::send_body() {
  if (holds_body_back()) {
    co_await within(*request_.expects_, asked_for_body_.wait());
  }
  if (request_.from_ == Request::BodyFrom::kFile) {
    co_await send_file();
    sent_ = true;
    co_return;
  }
  BodyWriter body(loan_.stream(), request_.framing());
  if (request_.from_ == Request::BodyFrom::kFunction) {
    co_await write_body(body);
  } else {
    co_await body.write(request_.text_);
  }
  co_await body.finish();
  co_await loan_.stream().flush();
  sent_ = true;
}

/// Whatever the function makes of it, if the connection has ended, that is why
/// the body is not out.
Task<> RoundTrip::write_body(BodyWriter& body) {
  begun_ = true;
  Outcome<void> outcome;
  co_await into(outcome, call_function(body));
  if (body.failure()) std::rethrow_exception(body.failure());
  own_fault_ = outcome.error != nullptr;
  outcome.take();
  if (!body.broken()) co_return;
  throw_error(Misuse(
      concat({"violet: the function that writes the body of ", name(),
              " has cut one of its writes short and gone on: a part of that "
              "may be out, so nothing can follow; let it throw"})));
}

/// In a task of its own, since it may throw before it has made one.
Task<> RoundTrip::call_function(BodyWriter& body) {
  co_await request_.call_(request_.function_, body);
}

Task<> RoundTrip::send_file() {
  const std::uint64_t count = *request_.length_;
  const FileSent sent = co_await sendfile(
      loan_.stream().connection(), *request_.file_, request_.offset_, count);
  if (sent.ended) {
    throw_system(EIO, concat({"send a file that ended after ", sent.bytes,
                              " of ", count, " bytes"}));
  }
}

/// Throws if the connection has taken nothing for too long, although there was
/// something to send.
Task<> RoundTrip::watch_sending() {
  constexpr int kLooks = 8;
  const Duration pause = std::max<Duration>(options_.stall_time / kLooks,
                                            std::chrono::milliseconds(1));
  const Connection& connection = loan_.stream().connection();
  const Slot& slot = *connection.descriptor().slot();
  std::uint64_t taken = connection.taken_bytes();
  for (int quiet = 0; quiet < kLooks;) {
    co_await violet::sleep(pause);
    const std::uint64_t before = std::exchange(taken, connection.taken_bytes());
    const bool held_up = slot.writer != nullptr && taken == before;
    quiet = held_up ? quiet + 1 : 0;
  }
  end_sending();  // a write under a shield ends only so
  throw_system(ETIMEDOUT,
               concat({"send body", limit_text(options_.stall_time)}));
}

// --- in

Task<> RoundTrip::read_head(Duration limit) {
  for (;;) {
    const auto came =
        co_await within(limit, http::read_head(loan_.stream(), parser_));
    if (!came) throw_system(ETIMEDOUT, concat({"no reply", limit_text(limit)}));
    if (!*came) throw_client(ClientError::kNoReply, "read_head");
    const int status = parser_.head().status;
    if (status >= 200) break;
    if (status == 101) throw_client(ClientError::kSwitched, "status 101");
    if (status == 100) asked_for_body_.set();
    progress_ = Progress::kInterim;
    parser_.next();
  }
  progress_ = Progress::kReplied;
}

/// The reply has been read; the request may still be under way. A server that
/// has said all it had to say may end that.
Task<> RoundTrip::finish() {
  co_await sending_ends();
  give_back();
  throw_if_sending_failed();
}

/// Why the body is not out; null if it is, or need not be.
std::exception_ptr RoundTrip::sending_failure() const noexcept {
  if (!sending_counts_) return nullptr;
  const std::exception_ptr& error = sending_outcome_.error;
  if (error) return server_ended(error) ? nullptr : error;
  return sent_ ? nullptr : sending_.error();
}

void RoundTrip::throw_if_sending_failed() const {
  if (const std::exception_ptr error = sending_failure()) fail(error);
}

/// The reply has been read. Whatever else has come answers nothing.
void RoundTrip::give_back() noexcept {
  Loan loan(std::move(loan_));
  if (may_be_kept()) loan.keep();
}

/// One read with a limit, which does not count while the request is under way:
/// the server may be waiting for that. If it has failed, that is why no more
/// comes.
template <class Read>
auto RoundTrip::limited(Read read)
    -> Task<std::remove_cvref_t<decltype(read().result())>> {
  using Value = std::remove_cvref_t<decltype(read().result())>;
  for (;;) {
    const bool sends = !sending_.ended();
    Outcome<std::optional<Value>> outcome;
    auto wait = within(options_.stall_time, read());
    co_await into(outcome, wait);
    std::optional<Value> value;
    if (!outcome.error) value = outcome.take();
    if (value) co_return *value;
    throw_if_sending_failed();
    if (outcome.error) fail(outcome.error);
    if (sends) continue;
    throw_system(ETIMEDOUT, concat({name(), ": read body",
                                    limit_text(options_.stall_time)}));
  }
}

// A piece lies in the buffer of the stream: that is given back by the read
// that finds the end.
Task<std::string_view> RoundTrip::read() {
  if (!body_->done()) {
    const auto next = [this] { return body_->read(); };
    const std::string_view piece = co_await limited(next);
    if (!piece.empty()) co_return piece;
  }
  co_await finish();
  co_return std::string_view();
}

Task<std::size_t> RoundTrip::read(std::span<char> into) {
  if (!body_->done()) {
    const auto next = [this, into] { return body_->read(into); };
    const std::size_t count = co_await limited(next);
    if (done()) give_back();  // at once
    if (count > 0 || into.empty()) co_return count;
  }
  co_await finish();
  co_return 0;
}

Task<> RoundTrip::drain() {
  constexpr std::uint64_t kLittle = 64 * 1024;
  const Framing body = body_of(head(), request_.method());
  const bool little =
      body.kind != BodyKind::kUntilClose && body.length <= kLittle;
  if (!may_be_kept() || !little) co_return;
  Deadline limit(options_.stall_time);
  while (!body_->done() && body_->count() <= kLittle) {
    std::error_code broken;
    const auto piece = co_await within(limit, body_->read(broken));
    if (!piece || broken) co_return;
  }
  if (body_->done()) give_back();
}

// --- elsewhere

bool RoundTrip::redirect() {
  const int status = head().status;
  const bool asks = status == 301 || status == 302 || status == 303 ||
                    status == 307 || status == 308;
  const auto location = head().fields.only("Location");
  if (!asks || !location) return false;
  const bool becomes_get =
      status == 303 || (status < 303 && request_.method() == "POST");
  if (!becomes_get && begun_ && !request_.can_repeat_body()) return false;
  std::string refusal;
  Url to = request_.url().resolve(*location, refusal);
  if (!refusal.empty()) {
    throw_client(ClientError::kBadRedirect,
                 concat({name(), ": redirect to ", refusal}));
  }
  if (becomes_get) {
    if (request_.method_ != "HEAD") request_.method_ = "GET";
    request_.drop_body();
    begun_ = false;
    request_.expects_.reset();
    request_.drop_fields({"Content-Type", "Content-Encoding",
                          "Content-Language", "Content-Location",
                          "Content-Range"});
  }
  if (!to.same_server(request_.url())) {
    request_.drop_fields({"Authorization", "Cookie"});
  }
  request_.url_ = std::move(to);
  return true;
}

}  // namespace internal

// ------------------------------------------------------------------- response

Response::Response(std::shared_ptr<internal::RoundTrip> trip) noexcept
    : trip_(std::move(trip)) {}
Response::Response(Response&& other) noexcept = default;
Response& Response::operator=(Response&& other) noexcept {
  Response taken(std::move(other));
  std::swap(trip_, taken.trip_);
  return *this;
}
Response::~Response() {
  if (trip_) trip_->stop_sending();
}

const ResponseHead& Response::head() const noexcept {
  return trip_->head();
}

const Url& Response::url() const noexcept {
  return trip_->url();
}

std::optional<std::uint64_t> Response::length() const noexcept {
  if (head().chunked) return std::nullopt;
  return head().length;
}

Task<std::string_view> Response::read() {
  return trip_->read();
}

Task<std::size_t> Response::read(std::span<char> into) {
  return trip_->read(into);
}

Task<std::string> Response::read_all(std::size_t limit) {
  std::string text;
  const bool too_long = !done() && length().value_or(0) > limit;
  for (std::string_view piece; !too_long;) {
    piece = co_await read();
    if (piece.empty()) co_return text;
    if (piece.size() > limit - text.size()) break;
    text.append(piece);
  }
  throw_error(LimitExceeded(concat({trip_->name(), ": read_all"}), limit));
}

bool Response::done() const noexcept {
  return trip_->done();
}

std::uint64_t Response::count() const noexcept {
  return trip_->body().count();
}

Fields Response::trailers() const noexcept {
  return trip_->body().trailers();
}

// --------------------------------------------------------------------- client

Client::Client(const ClientOptions& options)
    : options_(options), pool_(options) {}

Task<Response> Client::send(Request request) {
  const auto trip = std::make_shared<internal::RoundTrip>(pool_, options_,
                                                          std::move(request));
  Response reply(trip);
  for (int followed = 0;; ++followed) {
    co_await trip->run();
    const std::string from = trip->name();
    if (options_.max_redirects <= 0 || !trip->redirect()) break;
    if (followed == options_.max_redirects) {
      throw_client(ClientError::kManyRedirects,
                   concat({from, ": after ", followed, " redirects"}));
    }
    co_await trip->drain();
  }
  co_return reply;
}

Task<Response> Client::get(std::string url) {
  Request request("GET", url);
  co_return co_await send(std::move(request));
}

Task<Response> Client::head(std::string url) {
  Request request("HEAD", url);
  co_return co_await send(std::move(request));
}

Task<Response> Client::put(std::string url, std::string body) {
  Request request("PUT", url);
  request.body(std::move(body));
  co_return co_await send(std::move(request));
}

Task<Response> Client::post(std::string url, std::string type,
                            std::string body) {
  Request request("POST", url);
  request.field("Content-Type", type).body(std::move(body));
  co_return co_await send(std::move(request));
}

}  // namespace violet::http
