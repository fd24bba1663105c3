// body.cpp - the decoder's steps, and the encoder's.
// SPDX-License-Identifier: MIT
#include "body.hpp"

#include <algorithm>
#include <charconv>

namespace violet::http {

// ------------------------------------------------------------------- decision

namespace {

Framing framing_of(const Head& head, BodyKind otherwise) noexcept {
  if (head.chunked) return {BodyKind::kChunked, 0};
  if (head.length) return {BodyKind::kLength, *head.length};
  return {otherwise, 0};
}

}  // namespace

// RFC 9112, section 6.3, in its order. What it says of broken framing, the
// parser has refused.

Framing body_of(const RequestHead& head) noexcept {
  return framing_of(head, BodyKind::kNone);
}

Framing body_of(const ResponseHead& head,
                std::string_view request_method) noexcept {
  const bool success = head.status / 100 == 2;
  if (head.status == 101 || (success && request_method == "CONNECT")) {
    return {BodyKind::kTunnel, 0};
  }
  if (request_method == "HEAD" || head.status / 100 == 1 ||
      head.status == 204 || head.status == 304) {
    return {BodyKind::kNone, 0};
  }
  return framing_of(head, BodyKind::kUntilClose);
}

Fault check_length_given(const RequestHead& head) noexcept {
  return head.chunked || head.length ? Fault::kNone : Fault::kLengthRequired;
}

// -------------------------------------------------------------------- decoder

BodyDecoder::BodyDecoder(Framing framing, const BodyLimits& limits) noexcept
    : kind_(framing.kind), limits_(limits), trailers_(limits.trailers) {
  limits_.body = std::min(limits_.body, kMostBytes);
  switch (kind_) {
    case BodyKind::kNone:
    case BodyKind::kTunnel: break;
    case BodyKind::kChunked: stage_ = Stage::kFirstDigit; break;
    case BodyKind::kUntilClose:
      stage_ = Stage::kData;
      left_ = limits_.body;
      break;
    case BodyKind::kLength:
      left_ = framing.length;
      if (left_ > limits_.body) {
        fail(Fault::kLongBody);
      } else if (left_ > 0) {
        stage_ = Stage::kData;
      }
      break;
  }
}

std::string_view BodyDecoder::next(std::string_view& bytes) {
  while (!bytes.empty() && stage_ < Stage::kDone) {
    switch (stage_) {
      case Stage::kData:
      case Stage::kChunkData: return take_data(bytes);
      case Stage::kTrailers: take_trailers(bytes); break;
      default: take_framing(bytes);
    }
  }
  return {};
}

std::string_view BodyDecoder::take_data(std::string_view& bytes) noexcept {
  if (left_ == 0) {  // only kUntilClose has bytes beyond those it may have
    fail(Fault::kLongBody);
    return {};
  }
  const auto size =
      static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
  const std::string_view data = bytes.substr(0, size);
  bytes.remove_prefix(size);
  skip(size);
  return data;
}

void BodyDecoder::skip(std::uint64_t bytes) noexcept {
  bytes = std::min(bytes, left());
  left_ -= bytes;
  count_ += bytes;
  if (in_data() && left_ == 0) end_data();
}

void BodyDecoder::end_data() noexcept {
  if (stage_ == Stage::kChunkData) stage_ = Stage::kChunkCr;
  if (kind_ == BodyKind::kLength) stage_ = Stage::kDone;
}

void BodyDecoder::take_framing(std::string_view& bytes) {
  while (!bytes.empty() && stage_ != Stage::kChunkData &&
         stage_ < Stage::kTrailers) {
    read_framing(bytes.front());
    bytes.remove_prefix(1);
  }
}

void BodyDecoder::take_trailers(std::string_view& bytes) {
  bytes.remove_prefix(trailers_.feed(bytes));
  if (trailers_.done()) stage_ = Stage::kDone;
  if (trailers_.fault() != Fault::kNone) fail(trailers_.fault());
}

void BodyDecoder::read_framing(char c) noexcept {
  switch (stage_) {
    case Stage::kChunkCr:
      if (c != '\r') return fail(Fault::kBadChunkEnd);
      stage_ = Stage::kChunkLf;
      return;
    case Stage::kChunkLf:
      if (c != '\n') return fail(Fault::kBadChunkEnd);
      stage_ = Stage::kFirstDigit;
      line_size_ = 0;
      return;
    case Stage::kSizeLf:
      if (c != '\n') return fail(Fault::kBareCr);
      return begin_chunk();
    default: break;
  }
  // The line with a size.
  if (c != '\r' && ++line_size_ > limits_.chunk_line) {
    return fail(Fault::kLongChunkLine);
  }
  switch (stage_) {
    case Stage::kFirstDigit:
    case Stage::kDigits: return read_digit(c);
    case Stage::kBeforeExtension: return end_size(c);
    default: break;
  }
  // An extension: nobody here knows any, and what it is decides nothing, as
  // long as it cannot end the line for somebody else.
  if (c == '\r') {
    stage_ = Stage::kSizeLf;
  } else if (c == '\n') {
    fail(Fault::kBareLf);
  } else if (!internal::is(internal::kValue, c)) {
    fail(Fault::kControl);
  }
}

void BodyDecoder::read_digit(char c) noexcept {
  const int digit = internal::hex_value(c);
  if (digit >= 0) {
    // Before it would be more than 64 bits, it is more than any body.
    if (left_ > kMostBytes / 16) return fail(Fault::kLongBody);
    left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
    stage_ = Stage::kDigits;
    return;
  }
  if (stage_ == Stage::kFirstDigit) return fail(Fault::kBadChunkSize);
  end_size(c);
}

/// After the digits: the end of the line, or an extension (RFC 9112, section
/// 7.1.1), perhaps after spaces.
void BodyDecoder::end_size(char c) noexcept {
  if (c == ';') {
    stage_ = Stage::kExtension;
  } else if (c == ' ' || c == '\t') {
    stage_ = Stage::kBeforeExtension;
  } else if (c == '\r' && stage_ == Stage::kDigits) {
    stage_ = Stage::kSizeLf;
  } else {
    fail(Fault::kBadChunkSize);
  }
}

void BodyDecoder::begin_chunk() noexcept {
  if (left_ > limits_.body - count_) return fail(Fault::kLongBody);
  stage_ = left_ > 0 ? Stage::kChunkData : Stage::kTrailers;
}

Fault BodyDecoder::end() noexcept {
  if (stage_ == Stage::kDone || stage_ == Stage::kFailed) return fault_;
  if (kind_ == BodyKind::kUntilClose) {
    stage_ = Stage::kDone;
  } else {
    fail(Fault::kCutShort);
  }
  return fault_;
}

void BodyDecoder::fail(Fault fault) noexcept {
  stage_ = Stage::kFailed;
  fault_ = fault;
  left_ = 0;
}

// -------------------------------------------------------------------- encoder

std::string_view ChunkEncoder::before(std::uint64_t size) noexcept {
  if (size == 0) return {};
  char* end = text_;
  if (open_) {
    *end++ = '\r';
    *end++ = '\n';
  }
  end = std::to_chars(end, text_ + sizeof text_ - 2, size, 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  open_ = true;
  return {text_, static_cast<std::size_t>(end - text_)};
}

std::string_view ChunkEncoder::ended(std::string_view text) noexcept {
  if (!open_) text.remove_prefix(2);
  open_ = false;
  return text;
}

}  // namespace violet::http
