// server.cpp - a connection's life, and what becomes of failures.
// SPDX-License-Identifier: MIT
#include "server.hpp"

#include <cerrno>
#include <optional>
#include <utility>

#include "../../runtime/shield.hpp"
#include "../../runtime/within.hpp"

namespace violet::http {

namespace {

// A connection that awaits a request keeps no more memory than this of the
// last one's response.
constexpr std::size_t kKept = 1024;

/// Drops what comes until the stream ends. Not idle: a stop must not cut it
/// short, or what was said last could be lost.
class LeaveEvent : public StreamLook<LeaveEvent> {
 public:
  explicit LeaveEvent(const Stream& stream) noexcept
      : StreamLook(stream.core()) {}
  LeaveEvent(LeaveEvent&&) noexcept = default;

  bool look() noexcept {
    take(unread());
    return ended();
  }
  std::size_t want() const noexcept { return 1; }
  bool idle() const noexcept override { return false; }
  void describe(Description& out) const override { describe_as("leave", out); }
  void value() const noexcept {}
  void result() const noexcept {}  // gone is gone
};

/// The status that stands for an error; 0 for what concerns the connection.
int status_of(const std::error_code& error) noexcept {
  const Fault fault = fault_in(error);
  if (fault != Fault::kNone) return http::status_of(fault);
  return violet::internal::is_the_peers_doing(error) ? 0 : 500;
}

/// The same for what a handler has thrown. It may have asked another server,
/// whose faults are not its client's: those are what reading the body has met.
int status_of(const std::exception_ptr& error,
              const std::error_code& met) noexcept {
  if (const auto* said = exception_as<Error>(error)) {
    const int status = said->status();
    return status >= 300 && status <= 599 ? status : 500;
  }
  const auto* failure = exception_as<std::system_error>(error);
  const bool too_long = exception_as<LimitExceeded>(error) != nullptr &&
                        met == make_error_code(Fault::kLongBody);
  const bool the_same = failure != nullptr && met && failure->code() == met;
  return too_long ? 413 : the_same ? status_of(met) : 500;
}

/// A client that takes nothing is its own business, as one that resets is.
bool is_timeout(const std::exception_ptr& error) noexcept {
  const auto* failure = exception_as<std::system_error>(error);
  return failure != nullptr && failure->code() == std::errc::timed_out;
}

std::string sentence_of(const std::exception_ptr& error, int status) {
  if (const auto* said = exception_as<Error>(error)) return said->what();
  const auto* failure = exception_as<std::system_error>(error);
  if (status != 500 && failure != nullptr) {
    const Fault fault = fault_in(failure->code());
    if (fault != Fault::kNone) return std::string(text_of(fault));
  }
  return {};
}

}  // namespace

Task<> Application::operator()(Connection connection) const {
  Conversation conversation(std::move(connection), *router_, options_);
  co_await conversation.run();
}

Conversation::Conversation(Connection&& connection, const Router& router,
                           const Options& options)
    : exchange_(std::move(connection), options),
      router_(router),
      loop_(Loop::current()) {}

Conversation::~Conversation() {
  loop_.timers().stop(timer_);
}

/// Makes ready for the next request.
void Conversation::rest() noexcept {
  exchange_.parser_.next();
  if (exchange_.out_.capacity() > kKept) std::string().swap(exchange_.out_);
}

/// Nobody has asked for a while.
void Conversation::give_memory_back() noexcept {
  exchange_.parser_.release();
  std::string().swap(exchange_.out_);
  std::string().swap(exchange_.fields_);
  std::string().swap(exchange_.path_);
}

/// Reads the next head, or waits for it in vain.
///
/// A connection that is kept has one timer for all of its requests, which is
/// started when it waits and none is running, and not stopped when somebody
/// comes: one more request costs nothing. So it may go off early in a wait, and
/// only the eighth time in a row tells that nobody came, a seventh too late at
/// most. For a head that has come in part it is set anew.
class Conversation::NextHeadEvent final : public Event {
 public:
  explicit NextHeadEvent(Conversation& whose) noexcept
      : whose_(whose),
        read_(whose.exchange_.stream_, whose.exchange_.parser_) {}
  NextHeadEvent(NextHeadEvent&& other) noexcept
      : Event(std::move(other)),
        whose_(other.whose_),
        read_(std::move(other.read_)) {}

  bool attempt() noexcept override {
    if (attempt_part(read_)) return complete();
    Timer& timer = whose_.timer_;
    const bool begun = !whose_.exchange_.parser_.idle();
    if (begun && !begun_) stop_timer();
    const bool passed = !timer.active() && waits_ && begun == begun_;
    if (passed && !begun) whose_.give_memory_back();
    if (passed && (begun || ++quiet_ == kLooks)) return expire();
    waits_ = true;
    begun_ = begun;
    return timer.active() || start_timer() ? false : fail();
  }
  void undo() noexcept override { undo_part(read_); }
  bool idle() const noexcept override { return read_.idle(); }
  void stand_by() noexcept { stand_by_part(read_); }
  void describe(Description& out) const override { read_.describe(out); }
  Found result() const noexcept {
    if (expired_) return begun_ ? Found::kLate : Found::kNothing;
    if (read_.value()) return Found::kHead;
    const Fault fault = fault_in(read_.code());
    const bool wrong = fault != Fault::kNone && fault != Fault::kCutShort;
    return wrong ? Found::kFault : Found::kNothing;
  }

 private:
  static constexpr int kLooks = 8;

  bool start_timer() noexcept {
    const Options& options = *whose_.exchange_.options_;
    Duration limit = time_limit(options.head_time);
    if (!begun_) limit = time_limit(options.keep_alive) / (kLooks - 1);
    Loop& loop = whose_.loop_;
    const TimePoint end = after(loop.now(), limit);
    return loop.timers().start(whose_.timer_, end, *job());
  }
  void stop_timer() noexcept { whose_.loop_.timers().stop(whose_.timer_); }
  bool complete() noexcept {
    if (begun_) stop_timer();
    return true;
  }
  bool expire() noexcept {
    undo_part(read_);
    return expired_ = true;
  }
  bool fail() noexcept {
    begun_ = false;  // no memory for a timer: as if nobody came
    return expire();
  }

  Conversation& whose_;
  Heirless<ReadHeadEvent> read_;
  int quiet_ = 0;  // the timer went off so many times
  bool waits_ = false;
  bool begun_ = false;  // a part of the head has come
  bool expired_ = false;
};

Task<> Conversation::run() {
  for (;;) {
    const Found found = co_await NextHeadEvent(*this);
    if (found != Found::kHead) {
      co_await refuse_head(found);
      break;
    }
    violet::internal::Outcome<void> outcome;
    std::optional<Task<>> task = answer(outcome.error);
    if (task) co_await violet::internal::into(outcome, *task);
    if (outcome.error || !exchange_.is_whole()) {
      co_await complete(outcome.error);
    } else if (!exchange_.out_.empty()) {
      std::error_code unheard;
      co_await exchange_.flush(unheard);
    }
    if (!exchange_.keeps_ || exchange_.broken_) break;
    rest();
  }
  if (lingers() && !exchange_.broken_) co_await leave();
}

/// True where the client may still send, and must read first.
bool Conversation::lingers() const noexcept {
  return refused_ || exchange_.request().keeps_alive ||
         !exchange_.body_done() || !exchange_.stream_.buffered().empty();
}

/// Answers what is no request, as far as it came.
Task<> Conversation::refuse_head(Found found) {
  if (found == Found::kNothing) co_return;
  const Fault fault = exchange_.parser_.fault();
  const bool late = found == Found::kLate;
  exchange_.append_refusal(
      late ? 408 : http::status_of(fault),
      late ? std::string_view("the request does not come") : text_of(fault));
  refused_ = true;
  std::error_code unheard;
  co_await exchange_.flush(unheard);
}

/// Has the handler answer. Returns: what is to be waited for, if anything.
std::optional<Task<>> Conversation::answer(std::exception_ptr& error) {
  exchange_.begin();
  const Fault fault = check();
  if (fault != Fault::kNone) {
    exchange_.last_ = true;
    return exchange_.refuse(http::status_of(fault), text_of(fault));
  }
  std::optional<Task<>> task;
  error = caught([&] { task = router_.answer(exchange_); });
  return task;
}

/// Does what a handler has left to do, or says that it has failed.
Task<> Conversation::complete(std::exception_ptr error) {
  if (error) {
    co_await recover(error);
  } else if (exchange_.failure_) {
    co_await recover(exchange_.failure_);
  }
  if (exchange_.broken_) co_return;  // or a limit of the handler's own cut it
  if (exchange_.owes_text_) {
    exchange_.broken_ = true;
    complain_with([&] {
      return log_line(exchange_,
                      "violet: the response was not sent: co_await what send() "
                      "and write() return, or call reply()");
    });
    co_return;
  }
  if (!exchange_.begun_) co_await exchange_.refuse(500, "nobody has answered");
  const std::exception_ptr misuse = caught([&] { exchange_.end_body(); });
  if (misuse) {
    exchange_.broken_ = true;
    co_return complain_of_peer(misuse);
  }
  std::error_code unheard;
  co_await exchange_.flush(unheard);
  if (unheard) co_return;
  if (exchange_.keeps_ && !exchange_.body_done()) co_await drop_rest();
}

/// What is wrong with a request before anybody looks at it.
Fault Conversation::check() {
  const Fault fault = exchange_.body_ ? exchange_.body_->fault() : Fault::kNone;
  return fault != Fault::kNone ? fault : exchange_.read_path();
}

void Conversation::complain_of_peer(const std::exception_ptr& error) noexcept {
  complain_with([&] { return log_line(exchange_, violet::text_of(error)); });
}

/// The handler has thrown.
Task<> Conversation::recover(const std::exception_ptr& error) {
  const int status = status_of(error, exchange_.failure_);
  if (exchange_.broken_ && is_timeout(error)) {
    if (exchange_.options_->log == Log::kVerbose) complain_of_peer(error);
    co_return;
  }
  if (exchange_.broken_ || status == 0) {
    exchange_.broken_ = true;
    std::rethrow_exception(error);
  }
  if (exchange_.begun_ || status == 500) complain_of_peer(error);
  exchange_.broken_ = exchange_.begun_;
  if (exchange_.broken_) co_return;
  // Who was too slow for his body is not waited for (RFC 9110, 15.5.9).
  if (status == 408) exchange_.last_ = true;
  exchange_.fields_.clear();
  co_await exchange_.refuse(status, sentence_of(error, status));
}

/// The handler knows that the body is broken, and has returned.
Task<> Conversation::recover(std::error_code error) {
  const bool all_is_said = exchange_.begun_ && exchange_.framer_.ended();
  if (exchange_.broken_ || all_is_said) co_return;
  const bool late = error == std::errc::timed_out;
  const int status = late ? 408 : status_of(error);
  if (exchange_.begun_ || status == 0) {
    exchange_.broken_ = true;
    co_return;
  }
  exchange_.fields_.clear();
  co_await exchange_.refuse(status,
                            late ? std::string_view("the body does not come")
                                 : text_of(fault_in(error)));
}

/// Reads what is left of a body that nobody wanted.
Task<> Conversation::drop_rest() {
  std::error_code code;
  while (!exchange_.body_->done() && !code) {
    const auto piece =
        co_await within(time_limit(exchange_.options_->stall_time),
                        exchange_.body_->read(code));
    if (!piece) break;
  }
  exchange_.keeps_ = exchange_.body_->done();
}

/// Closes with manners; see take_leave().
Task<> Conversation::leave() {
  std::error_code code;
  co_await exchange_.stream_.shutdown(code);
  if (code) co_return;
  co_await within(time_limit(exchange_.options_->leave_time),
                  LeaveEvent(exchange_.stream_));
}

}  // namespace violet::http
