// chunks.cpp - chunked bodies nobody has thought of.
//
// Promised: where a body is cut makes no difference to what it is. All payload
// is a view of what was taken. What is accepted and encoded anew is decoded to
// the same.
//
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "../../net/http/body.hpp"
#include "fuzz.hpp"

using namespace violet::http;

namespace {

BodyLimits limits() {
  BodyLimits limits;
  limits.body = 1000;
  limits.chunk_line = 40;
  limits.trailers = {100, 300, 4};
  return limits;
}

/// Takes what it can from a piece. Returns: false once the body is over.
bool take(BodyDecoder& body, std::string_view piece, std::string& payload) {
  for (;;) {
    const char* const before = piece.data();
    const std::string_view part = body.next(piece);
    if (part.empty()) break;
    promise(part.data() >= before && part.data() + part.size() <= piece.data(),
            "payload is a view of what was taken");
    payload += part;
  }
  promise(body.count() == payload.size(), "payload is counted");
  promise(body.count() <= 1000, "limits hold");
  const bool over = body.done() || body.fault() != Fault::kNone;
  promise(over || piece.empty(), "all is taken while the body goes on");
  return !over;
}

void check_same(const Fields& a, const Fields& b) {
  promise(a.size() == b.size(), "the same trailers");
  for (std::size_t i = 0; i < a.size(); ++i) {
    promise(a[i].name == b[i].name && a[i].value == b[i].value,
            "the same trailers");
  }
}

/// A trailer has no say about framing, so those are not written again.
bool may_be_written(const Fields& trailers) {
  return trailers.count("Content-Length") == 0 &&
         trailers.count("Transfer-Encoding") == 0;
}

void check_again(const BodyDecoder& body, std::string_view payload) {
  ChunkEncoder chunks;
  std::string text;
  for (std::size_t at = 0; at < payload.size(); at += 7) {
    const std::string_view piece = payload.substr(at, 7);
    text.append(chunks.before(piece.size())).append(piece);
  }
  text += chunks.last_before_trailers();
  HeadWriter writer(text);
  if (!may_be_written(body.trailers())) return;
  for (const Field field : body.trailers())
    writer.field(field.name, field.value);
  promise(writer.finish() == nullptr, "what was read can be written");
  BodyDecoder again({BodyKind::kChunked, 0});
  std::string decoded;
  std::string_view rest = text;
  while (!again.done()) {
    const std::string_view part = again.next(rest);
    promise(!part.empty() || again.done(), "what was encoded can be decoded");
    decoded += part;
  }
  promise(rest.empty(), "it ends where it ends");
  promise(decoded == payload, "the same payload");
  check_same(body.trailers(), again.trailers());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const Input input(data, size);
  BodyDecoder whole({BodyKind::kChunked, 0}, limits());
  BodyDecoder cut({BodyKind::kChunked, 0}, limits());
  std::string payload;
  std::string pieces;
  take(whole, input.text, payload);
  input.cut([&](std::string_view piece) { return take(cut, piece, pieces); });
  promise(whole.done() == cut.done(), "cuts make no difference");
  promise(whole.fault() == cut.fault(), "cuts make no difference to faults");
  promise(payload == pieces, "cuts make no difference to the payload");
  if (!whole.done()) return 0;
  check_same(whole.trailers(), cut.trailers());
  check_again(whole, payload);
  return 0;
}
