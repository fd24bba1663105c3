// wire.cpp - a look at what has come, and what is wrong with it.
// SPDX-License-Identifier: MIT
#include "wire.hpp"

#include <algorithm>
#include <cerrno>

#include "../../runtime/shield.hpp"

namespace violet::http {

// ---------------------------------------------------------------------- heads

bool ReadHeadEvent::look() noexcept {
  const std::string_view bytes(data(), unread());
  if (bytes.empty() && !ended() && parser_->fault() == Fault::kNone) {
    return parser_->done();
  }
  std::size_t taken = 0;
  if (!has_memory_for([&] { taken = parser_->feed(bytes); })) {
    parser_->next();
    return fail(ENOMEM);
  }
  take(taken);
  if (parser_->fault() != Fault::kNone) return refuse(parser_->fault());
  if (parser_->done()) return true;
  if (!ended()) return false;
  return parser_->idle() || refuse(Fault::kCutShort);
}

// --------------------------------------------------------------------- bodies

bool BodyPieceEvent::look() noexcept {
  std::string_view bytes(data(), unread());
  const std::size_t before = bytes.size();
  if (!has_memory_for([&] { piece_ = body_->next(bytes); })) {
    return fail(ENOMEM);
  }
  take(before - bytes.size());
  if (!piece_.empty()) return true;
  if (body_->fault() != Fault::kNone) return refuse(body_->fault());
  if (body_->done()) return true;
  if (!ended()) return false;
  return body_->end() == Fault::kNone || refuse(body_->fault());
}

bool BodyIntoEvent::look() noexcept {
  while (got_ < into_.size() && unread() > 0) {
    // The payload in so many bytes has room, whatever framing is among them.
    std::string_view bytes(data(), std::min(unread(), into_.size() - got_));
    const std::size_t before = bytes.size();
    std::string_view piece;
    if (!has_memory_for([&] { piece = body_->next(bytes); })) {
      return fail(ENOMEM);
    }
    std::copy(piece.begin(), piece.end(), into_.data() + got_);
    got_ += piece.size();
    take(before - bytes.size());
    if (bytes.size() == before) break;  // it is done, or there is a fault
  }
  // What is wrong after these bytes is told by the next read.
  if (got_ > 0 || into_.empty()) return true;
  if (body_->fault() != Fault::kNone) return refuse(body_->fault());
  if (body_->done()) return true;
  if (!ended()) return false;
  return body_->end() == Fault::kNone || refuse(body_->fault());
}

BodyIntoEvent::Fetched BodyIntoEvent::get_more() noexcept {
  const std::uint64_t left = body_->left();
  const auto size =
      static_cast<std::size_t>(std::min<std::uint64_t>(into_.size(), left));
  if (size < violet::internal::BufferPool::kBytes) return fetch(1);
  core_->stow();
  const Fetched fetched = fetch_into(into_.first(size), got_);
  body_->skip(got_);
  return fetched;
}

Task<std::string> BodyReader::read_all(std::size_t limit) {
  std::string text;
  for (;;) {
    const std::string_view piece = co_await read();
    if (piece.empty()) co_return text;
    if (piece.size() > limit - text.size()) break;
    text.append(piece);
  }
  throw_error(LimitExceeded(concat({"read body ", stream_->name()}), limit));
}

// -------------------------------------------------------------------- writing

std::string_view BodyFramer::before(std::uint64_t bytes) {
  if (ended_) {
    throw_error(Misuse("violet: the body is finished; nothing follows it"));
  }
  const bool unknown = framing_.kind == BodyKind::kChunked ||
                       framing_.kind == BodyKind::kUntilClose;
  if (!unknown && bytes > framing_.length - count_) {
    throw_error(Misuse(
        concat({"violet: a body of ", framing_.length, " bytes was begun; ",
                count_ + bytes,
                " are too many. Begin it with their number, or without one"})));
  }
  count_ += bytes;
  if (framing_.kind != BodyKind::kChunked) return {};
  return chunks_.before(bytes);
}

std::string_view BodyFramer::end() {
  if (ended_) return {};
  if (framing_.kind == BodyKind::kLength && count_ != framing_.length) {
    throw_error(Misuse(concat({"violet: a body of ", framing_.length,
                               " bytes was begun, and ends after ", count_,
                               ". Write all of it"})));
  }
  ended_ = true;
  if (framing_.kind != BodyKind::kChunked) return {};
  return chunks_.last();
}

Task<> BodyWriter::write(std::string_view piece) {
  const std::string_view before = framer_.before(piece.size());
  begin();
  co_await put(before, piece);
}

Task<> BodyWriter::finish() {
  const std::string_view last = framer_.end();
  begin();
  co_await put(last, {});
}

// What is counted must be written, also where there is no memory for that.
void BodyWriter::begin() noexcept {
  broken_ = broken();
  writes_ = true;
}

Task<> BodyWriter::put(std::string_view first, std::string_view second) {
  using violet::internal::into;
  violet::internal::Outcome<void> outcome;
  if (!first.empty()) co_await into(outcome, stream_->write(first));
  if (!second.empty() && !outcome.error) {
    co_await into(outcome, stream_->write(second));
  }
  writes_ = false;
  if (!outcome.error) co_return;
  broken_ = true;
  if (!failure_) failure_ = outcome.error;
  outcome.take();
}

}  // namespace violet::http
