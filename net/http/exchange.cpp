// exchange.cpp - reading a body, writing a response, sending files.
// SPDX-License-Identifier: MIT
#include "exchange.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <vector>

#include "../../runtime/within.hpp"

namespace violet::http {

namespace {

// Up to so many bytes are gathered before they are sent, and a file of that
// size is read rather than sent by the system: one call instead of two.
constexpr std::size_t kGathered = 16 * 1024;

// What is sent of a file before it is looked whether the client takes any.
constexpr std::uint64_t kFileStep = std::uint64_t{64} << 20;

/// Adds text where there is room for it.
class Adder {
 public:
  explicit Adder(char* to) noexcept : end_(to) {}
  Adder& operator<<(std::string_view text) noexcept {
    end_ += text.copy(end_, text.size());
    return *this;
  }
  Adder& operator<<(std::uint64_t number) noexcept {
    end_ = std::to_chars(end_, end_ + 20, number).ptr;
    return *this;
  }
  Adder& operator<<(Time time) noexcept {
    write_date(std::span<char, kDateSize>(end_, kDateSize), time);
    end_ += kDateSize;
    return *this;
  }
  const char* end() const noexcept { return end_; }

 private:
  char* end_;
};

/// What each response begins with: its first line, and the Date of this second.
/// The last one is kept, since most responses have the same.
class Opening {
 public:
  constexpr Opening() noexcept {}
  std::string_view of(int status) noexcept {
    const std::time_t now = std::time(nullptr);
    if (now != second_ || status != status_) write(status, now);
    return {text_.data(), size_};
  }

 private:
  static constexpr std::size_t kMostReason = 80;

  void write(int status, std::time_t now) noexcept {
    Adder text(text_.data());
    text << "HTTP/1.1 " << static_cast<std::uint64_t>(status) << " "
         << reason_of(status).substr(0, kMostReason)
         << "\r\nDate: " << Time(std::chrono::seconds(now)) << "\r\n";
    size_ = static_cast<std::size_t>(text.end() - text_.data());
    status_ = status;
    second_ = now;
  }

  std::time_t second_ = 0;
  int status_ = 0;  // none
  std::size_t size_ = 0;
  std::array<char, 64 + kMostReason> text_{};
};
constinit thread_local Opening opening;

bool is_the_servers(std::string_view name) noexcept {
  return same_word(name, "Content-Length") || same_word(name, "Date") ||
         same_word(name, "Transfer-Encoding") || same_word(name, "Connection");
}

void append_line(std::string& out, std::string_view name,
                 std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

Error::Error(int status, std::string_view text)
    : std::runtime_error(text.empty() ? concat({status, " ", reason_of(status)})
                                      : std::string(text)),
      status_(status) {}

Task<> say_busy(Connection& client) {
  co_await client.sendall(
      "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
      "Retry-After: 1\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\n"
      "503 Service Unavailable\n");
}

// ---------------------------------------------------------------- the request

/// A head has been read.
void Exchange::begin() {
  ++requests_;
  const Framing framing = body_of(request());
  body_.reset();
  if (framing.kind != BodyKind::kNone) {
    body_.emplace(stream_, framing, options_->body);
  }
  if (!parser_.repeats()) routes_ = 0;
  fields_.clear();
  failure_.clear();
  begun_ = bodiless_ = owes_text_ = invited_ = head_out_ = false;
  keeps_ = false;
}

Fault Exchange::read_path() {
  if (parser_.repeats()) return Fault::kNone;  // it is there
  // An authority or an asterisk has none.
  path_.clear();
  if (request().parts.path.empty()) return Fault::kNone;
  const Fault fault = decode_path(request().parts.path, path_);
  path_.insert(path_.begin(), '/');
  return fault;
}

std::string_view Exchange::parameter(std::string_view name) const {
  for (std::size_t i = 0; i < parameters_.count; ++i) {
    if (parameters_.names[i] == name) return parameters_.values[i];
  }
  throw_error(Misuse(concat(
      {"violet: the route of ", path_, " has no parameter {", name, "}"})));
}

/// Tells a client that waits for it to send its body.
Task<> Exchange::invite(std::error_code& code) {
  invited_ = true;
  out_.insert(0, "HTTP/1.1 100 Continue\r\n\r\n");  // also before a head
  co_await flush(code);
}

/// True for a client that may still wait with its body.
bool Exchange::holds_body() const noexcept {
  return request().expects_continue && !invited_ && body_count() == 0 &&
         stream_.buffered().empty();
}

/// Awaits what `begin(body)` makes, which brings a T.
template <class T, class Begin>
Task<T> Exchange::read_with(Begin begin, std::error_code& code) {
  code.clear();
  T brought{};
  if (body_ && holds_body() && !head_out_) co_await invite(code);
  if (body_ && !code) {
    const auto got =
        co_await within(time_limit(options_->stall_time), begin(*body_));
    if (got) {
      brought = *got;
    } else {
      code = stalled();
    }
  }
  failure_ = code;
  co_return brought;
}

Task<std::string_view> Exchange::read(std::error_code& code) {
  const auto begin = [&code](BodyReader& body) { return body.read(code); };
  return read_with<std::string_view>(begin, code);
}

Task<std::size_t> Exchange::read(std::span<char> into, std::error_code& code) {
  const auto begin = [into, &code](BodyReader& body) {
    return body.read(into, code);
  };
  return read_with<std::size_t>(begin, code);
}

Task<std::string_view> Exchange::read() {
  std::error_code code;
  const std::string_view piece = co_await read(code);
  if (code) raise();
  co_return piece;
}

Task<std::size_t> Exchange::read(std::span<char> into) {
  std::error_code code;
  const std::size_t count = co_await read(into, code);
  if (code) raise();
  co_return count;
}

std::error_code Exchange::stalled() noexcept {
  last_ = true;
  return std::make_error_code(std::errc::timed_out);
}

void Exchange::raise() const {
  if (failure_ == std::errc::timed_out && last_) {
    throw_error(Error(408, "the body does not come"));
  }
  throw_error(std::system_error(failure_,
                                concat({"read the body of ", peer().text()})));
}

Task<std::string> Exchange::read_all(std::size_t limit, std::error_code& code) {
  code.clear();
  const bool too_much = request().length.value_or(0) > limit;
  std::string text;
  while (!too_much) {
    const std::string_view piece = co_await read(code);
    if (piece.empty()) co_return text;
    if (piece.size() > limit - text.size()) break;
    text.append(piece);
  }
  failure_ = code = Fault::kLongBody;
  co_return std::string();
}

Task<std::string> Exchange::read_all(std::size_t limit) {
  std::error_code code;
  std::string text = co_await read_all(limit, code);
  if (code == make_error_code(Fault::kLongBody) &&
      body_->fault() == Fault::kNone) {
    throw_error(
        LimitExceeded(concat({"read the body of ", peer().text()}), limit));
  }
  if (code) raise();
  co_return text;
}

/// True if what is to come of the body may be read and dropped.
bool Exchange::may_drop_rest() const noexcept {
  if (body_done()) return true;
  if (body_->fault() != Fault::kNone || request().chunked) return false;
  return body_->left() <= options_->unwanted && !holds_body();
}

// --------------------------------------------------------------- the response

void Exchange::check_field(std::string_view name,
                           std::string_view value) const {
  if (begun_) {
    throw_error(Misuse(concat({"violet: the response has begun; set ", name,
                               " before send() or start()"})));
  }
  if (is_the_servers(name)) {
    throw_error(Misuse(
        concat({"violet: the server itself writes ", name, "; leave it out"})));
  }
  if (!is_token(name)) {
    throw_error(Misuse(concat({"violet: '", name, "' is no name of a field"})));
  }
  check_value(name, value);
}

void Exchange::check_value(std::string_view name, std::string_view value) {
  using violet::http::internal::all_are;
  using violet::http::internal::kValue;
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  const bool trim =
      value.empty() || (!blank(value.front()) && !blank(value.back()));
  if (trim && all_are(kValue, value)) return;
  throw_error(Misuse(concat({"violet: the value of the field ", name,
                             " cannot be sent: it has a control character, "
                             "or a space at an end"})));
}

Exchange& Exchange::field(std::string_view name, std::string_view value) {
  check_field(name, value);
  append_line(fields_, name, value);
  return *this;
}

Exchange& Exchange::field(std::string_view name, std::uint64_t number) {
  std::string digits;
  append_number(digits, number);
  return field(name, digits);
}

Exchange& Exchange::date(std::string_view name, Time time) {
  check_field(name, {});
  fields_.append(name).append(": ");
  append_date(fields_, time);
  fields_.append("\r\n");
  return *this;
}

void Exchange::start(int status, std::uint64_t length) {
  begin_response(status, {BodyKind::kLength, length});
}

void Exchange::start(int status) {
  const bool knows_chunks = request().minor_version > 0;
  begin_response(
      status, {knows_chunks ? BodyKind::kChunked : BodyKind::kUntilClose, 0});
}

void Exchange::begin_response(int status, Framing framing,
                              std::string_view type) {
  if (begun_) {
    throw_error(
        Misuse("violet: a request has one response, and this one has "
               "begun already"));
  }
  if (status < 200 || status > 999) {
    throw_error(Misuse(concat(
        {"violet: ", status, " is no status of a response: 200 to 999"})));
  }
  begun_ = true;
  const bool no_body = status == 204 || status == 304;
  if (no_body) framing = Framing();
  bodiless_ = no_body || request().method == "HEAD";
  keeps_ =
      request().keeps_alive && !last_ && may_drop_rest() &&
      framing.kind != BodyKind::kUntilClose &&
      (options_->max_requests == 0 || requests_ < options_->max_requests) &&
      !Loop::current().stop_requested();
  write_head(status, framing, type);
  // What is not sent need not be as long as it would be.
  framer_ = BodyFramer(bodiless_ ? Framing{BodyKind::kUntilClose, 0} : framing);
}

// One piece of memory, filled without looking again whether it suffices.
void Exchange::write_head(int status, Framing framing, std::string_view type) {
  constexpr std::size_t kRest = 100;  // all but the texts that are counted
  const std::string_view first = opening.of(status);
  const std::size_t begin = out_.size();
  out_.resize(begin + kRest + first.size() + fields_.size() + type.size());
  Adder head(out_.data() + begin);
  head << first;
  if (!fields_.empty()) head << fields_;
  if (!type.empty()) head << "Content-Type: " << type << "\r\n";
  if (framing.kind == BodyKind::kLength) {
    head << "Content-Length: " << framing.length << "\r\n";
  } else if (framing.kind == BodyKind::kChunked) {
    head << "Transfer-Encoding: chunked\r\n";
  }
  if (!keeps_) {
    head << "Connection: close\r\n";
  } else if (request().minor_version == 0) {
    head << "Connection: keep-alive\r\n";
  }
  head << "\r\n";
  out_.resize(static_cast<std::size_t>(head.end() - out_.data()));
}

void Exchange::reply(int status, std::string_view type, std::string_view text) {
  if (!begin_reply(status, type, text.size())) return;
  out_.append(text);
}

ResponseEvent Exchange::send(int status, std::string_view type,
                             std::string_view text) {
  if (!begin_reply(status, type, text.size())) return flush();
  if (out_.size() + text.size() > kGathered) {
    owes_text_ = true;
    return ResponseEvent(*this, text, ResponseEvent::Text::kSent);
  }
  out_.append(text);
  return flush();
}

/// All of a whole response but its text. Returns: true if that is to be sent.
bool Exchange::begin_reply(int status, std::string_view type,
                           std::size_t size) {
  check_value("Content-Type", type);
  begin_response(status, {BodyKind::kLength, size}, type);
  if (!bodiless_) framer_.before(size);
  framer_.end();
  return !bodiless_;
}

Task<> Exchange::refuse(int status, std::string_view text) {
  std::string said(text);
  if (text.empty()) said = concat({status, " ", reason_of(status)});
  said += '\n';
  std::error_code unheard;
  co_await send(status, "text/plain; charset=utf-8", said, unheard);
}

/// The whole answer to what is no request.
void Exchange::append_refusal(int status, std::string_view text) {
  out_.clear();
  out_.append(opening.of(status));
  out_.append("Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
  append_number(out_, text.size() + 1);
  out_.append("\r\nConnection: close\r\n\r\n").append(text).append("\n");
}

ResponseEvent Exchange::write(std::string_view piece) {
  check_begun();
  const std::string_view before = framer_.before(piece.size());
  if (bodiless_) return ResponseEvent(*this);
  out_.append(before);
  if (out_.size() + piece.size() <= kGathered) {
    out_.append(piece);
    return ResponseEvent(*this);
  }
  owes_text_ = true;
  return ResponseEvent(*this, piece,
                       piece.size() < kGathered ? ResponseEvent::Text::kGathered
                                                : ResponseEvent::Text::kSent);
}

ResponseEvent Exchange::flush() noexcept {
  return ResponseEvent(*this, {}, ResponseEvent::Text::kSent);
}

ResponseEvent Exchange::finish() {
  end_body();
  return flush();
}

void Exchange::end_body() {
  check_begun();
  const std::string_view end = framer_.end();
  if (!bodiless_) out_.append(end);
}

void Exchange::check_begun() const {
  if (begun_) return;
  throw_error(Misuse("violet: a response begins with send() or start()"));
}

// What is sent goes past the stream, which then has nothing to send. Whoever
// is cut off here can say nothing more on this connection.

bool ResponseEvent::attempt() noexcept {
  if (!sends_) return true;
  whose_->broken_ = true;
  if (!gathered_is_out_) {
    if (!send(whose_->out_)) return false;
    if (error_ != 0) return end(error_);
    gathered_is_out_ = true;
    whose_->head_out_ = whose_->begun_;
    whose_->out_.clear();
    if (what_ == Text::kGathered) {
      const bool kept = has_memory_for([&] { whose_->out_.append(text_); });
      return end(kept ? 0 : ENOMEM);
    }
  }
  return send(text_) && end(error_);
}

/// Returns: true once all of it is out, or error_ tells why not.
bool ResponseEvent::send(std::string_view text) noexcept {
  if (text.empty()) return true;
  if (!part_) {
    Slot* const slot = whose_->connection().descriptor().slot();
    part_.emplace(slot, text);
  }
  if (!attempt_part(*part_)) return wait_on();
  error_ = part_->error();
  part_.reset();
  taken_.reset();
  return true;
}

/// The client takes nothing just now. Returns: true if that has been so for too
/// long.
bool ResponseEvent::wait_on() noexcept {
  if (timer_.active()) return false;
  Loop& loop = loop_of(*job());
  const std::uint64_t taken = whose_->connection().taken_bytes();
  if (taken == taken_) {
    undo_part(*part_);
    error_ = ETIMEDOUT;
    return true;
  }
  taken_ = taken;
  const Duration limit = time_limit(whose_->options_->stall_time);
  const TimePoint moment = after(loop.now(), limit);
  if (moment == kNever || loop.timers().start(timer_, moment, *job())) {
    return false;
  }
  undo_part(*part_);
  error_ = ENOMEM;
  return true;
}

bool ResponseEvent::end(int error) noexcept {
  error_ = error;
  stop_timer();
  whose_->broken_ = error != 0;
  if (!text_.empty()) whose_->owes_text_ = false;
  return true;
}

void ResponseEvent::undo() noexcept {
  if (part_) undo_part(*part_);
  stop_timer();
}

void ResponseEvent::stop_timer() noexcept {
  if (timer_.active()) loop_of(*job()).timers().stop(timer_);
}

void ResponseEvent::describe(Description& out) const {
  if (part_) return part_->describe(out);
  out.text = "send a response";
}

void ResponseEvent::raise() const {
  throw_system(error_, concat({"send ", whose_->peer().text()}));
}

// ---------------------------------------------------------------------- files

Task<> Exchange::send_file(const File& file, const Selected& about,
                           std::string_view type, std::error_code& code) {
  code.clear();
  const Verdict verdict = evaluate(request(), about, current_time());
  describe_file(about);
  if (verdict.status == 304) {
    co_await send(304, {}, {}, code);
  } else if (verdict.status == 412) {
    co_await refuse(412);
  } else if (verdict.status == 416) {
    field("Content-Range", text_of(ContentRange{std::nullopt, about.size}));
    co_await refuse(416);
  } else if (verdict.status == 206 && verdict.ranges.count > 1) {
    co_await send_parts(file, about, type, verdict.ranges, code);
  } else {
    ByteRange range{0, about.size};
    if (verdict.status == 206) {
      range = verdict.ranges.list[0];
      field("Content-Range", text_of(ContentRange{range, about.size}));
    }
    field("Content-Type", type);
    start(verdict.status == 206 ? 206 : 200, range.size());
    co_await send_part(file, range, code);
    if (!code) co_await finish(code);
  }
}

Task<> Exchange::send_file(const File& file, const Selected& about,
                           std::string_view type) {
  std::error_code code;
  co_await send_file(file, about, type, code);
  if (code == make_error_code(Fault::kCutShort)) {
    throw_system(EIO, concat({"send ", file.path(), ", which became shorter"}));
  }
  if (code) {
    throw_error(std::system_error(
        code, concat({"send ", file.path(), " to ", peer().text()})));
  }
}

void Exchange::describe_file(const Selected& about) {
  if (about.etag) {
    check_field("ETag", about.etag->opaque);
    fields_.append(about.etag->weak ? "ETag: W/\"" : "ETag: \"");
    fields_.append(about.etag->opaque).append("\"\r\n");
  }
  if (about.modified) date("Last-Modified", *about.modified);
  field("Accept-Ranges", "bytes");
}

/// Some bytes of a file as the next of the body. If they cannot be had or sent,
/// nothing can follow them.
Task<> Exchange::send_part(const File& file, ByteRange range,
                           std::error_code& code) {
  framer_.before(range.size());
  if (bodiless_ || range.size() == 0) co_return;
  if (range.size() + out_.size() > kGathered) {
    co_await flush(code);
    if (!code) co_await send_long(file, range, code);
  } else {
    const std::size_t head = out_.size();
    out_.resize(head + static_cast<std::size_t>(range.size()));
    const std::span<char> room(out_.data() + head, out_.size() - head);
    const std::size_t got = co_await file.read_at(room, range.begin, code);
    if (!code && got < room.size()) code = Fault::kCutShort;
  }
  if (code) broken_ = true;
}

/// Past the buffer.
Task<> Exchange::send_long(const File& file, ByteRange range,
                           std::error_code& code) {
  broken_ = true;
  while (range.size() > 0) {
    const std::uint64_t before = connection().sent_bytes();
    const std::uint64_t taken = connection().taken_bytes();
    const std::uint64_t count = std::min(range.size(), kFileStep);
    const auto sent =
        co_await within(time_limit(options_->stall_time),
                        sendfile(connection(), file, range.begin, count, code));
    if (code) co_return;
    // A limit that has passed may have let some of it out.
    const std::uint64_t moved = connection().sent_bytes() - before;
    if (sent && sent->ended) code = Fault::kCutShort;
    if (!code && !sent && connection().taken_bytes() == taken) {
      code = std::make_error_code(std::errc::timed_out);
    }
    if (code) co_return;
    range.begin += moved;
  }
  broken_ = false;
}

/// Several parts, each with its place: RFC 9110, section 14.6.
Task<> Exchange::send_parts(const File& file, const Selected& about,
                            std::string_view type, const Ranges& ranges,
                            std::error_code& code) {
  static thread_local std::uint64_t made = 0;
  const std::string boundary =
      concat({"violet-", std::time(nullptr), "-", ++made, "-part"});
  const std::string end = concat({"\r\n--", boundary, "--\r\n"});
  std::vector<std::string> heads;
  std::uint64_t length = end.size();
  for (std::size_t i = 0; i < ranges.count; ++i) {
    const ByteRange range = ranges.list[i];
    heads.push_back(concat(
        {"\r\n--", boundary, "\r\nContent-Type: ", type, "\r\nContent-Range: ",
         text_of(ContentRange{range, about.size}), "\r\n\r\n"}));
    length += heads.back().size() + range.size();
  }
  field("Content-Type", concat({"multipart/byteranges; boundary=", boundary}));
  start(206, length);
  for (std::size_t i = 0; i < ranges.count; ++i) {
    co_await write(heads[i], code);
    if (!code) co_await send_part(file, ranges.list[i], code);
    if (code) co_return;
  }
  co_await write(end, code);
  if (!code) co_await finish(code);
}

// ------------------------------------------------------------------- the log

std::string log_line(const Exchange& about, std::string_view what) {
  return printable(concat({about.peer().text(), ": ", about.request().method,
                           " ", about.path(), ": ", what}));
}

}  // namespace violet::http
