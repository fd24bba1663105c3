// parse.cpp - heads nobody has thought of.
//
// Promised: where a head is cut makes no difference. All views lie within the
// text that was read. What is accepted has one framing, and written anew it is
// read as the same. A path that is accepted stays below its root.
//
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "../../net/http/body.hpp"
#include "fuzz.hpp"

using namespace violet::http;

namespace {

/// Small enough that the fuzzer runs into them.
constexpr HeadLimits kLimits{200, 600, 8};

template <class Parser>
void feed_whole(Parser& parser, std::string_view text) {
  const std::size_t taken = parser.feed(text);
  promise(taken <= text.size(), "no more is taken than there is");
  promise(parser.fault() == Fault::kNone || !parser.done(), "a fault is final");
  if (!parser.done() && parser.fault() == Fault::kNone) {
    promise(taken == text.size(), "all is taken while the head goes on");
  }
  if (parser.done()) promise(parser.text().size() == taken, "all is kept");
  promise(parser.text().size() <= kLimits.head, "limits hold");
}

template <class Parser>
void feed_cut(Parser& parser, const Input& input) {
  input.cut([&](std::string_view piece) {
    const std::size_t taken = parser.feed(piece);
    return !parser.done() && parser.fault() == Fault::kNone &&
           taken == piece.size();
  });
}

void check_within(std::string_view part, std::string_view text) {
  if (part.empty()) return;
  promise(part.data() >= text.data() &&
              part.data() + part.size() <= text.data() + text.size(),
          "each view lies within the text");
}

template <class Parser>
void check_head(const Parser& parser) {
  const Head& head = parser.head();
  for (const Field field : head.fields) {
    check_within(field.name, parser.text());
    check_within(field.value, parser.text());
    promise(is_token(field.name), "a name is a word");
    promise(trimmed(field.value).size() == field.value.size(), "trimmed");
    promise(field.value.find_first_of("\r\n") == field.value.npos,
            "no value has a line end");
  }
  promise(!(head.length && head.chunked), "there is one framing");
  promise(head.fields.size() <= kLimits.fields, "limits hold");
}

void check_same(const Head& a, const Head& b) {
  promise(a.fields.size() == b.fields.size(), "the same fields");
  for (std::size_t i = 0; i < a.fields.size(); ++i) {
    promise(a.fields[i].name == b.fields[i].name, "the same names");
    promise(a.fields[i].value == b.fields[i].value, "the same values");
  }
  promise(a.length == b.length && a.chunked == b.chunked, "the same framing");
}

void write_fields(HeadWriter& writer, const Head& head) {
  for (const Field field : head.fields) writer.field(field.name, field.value);
  promise(writer.finish() == nullptr, "what was read can be written");
}

void check_path(const Target& target) {
  std::string name;
  if (decode_path(target.path, name) != Fault::kNone) return;
  promise(name.empty() || name.front() != '/', "a name is relative");
  Pieces pieces(name, '/');
  for (std::string_view piece; pieces.next(piece);) {
    promise(piece != "." && piece != "..", "no name leads up");
    promise(piece.find('\0') == piece.npos, "no name has a NUL");
  }
}

/// Reads the input whole and in pieces. Returns: true if there is a head.
template <class Parser>
bool read_both_ways(const Input& input, Parser& whole) {
  Parser cut(kLimits);
  feed_whole(whole, input.text);
  feed_cut(cut, input);
  promise(whole.done() == cut.done(), "cuts make no difference");
  promise(whole.fault() == cut.fault(), "cuts make no difference to faults");
  if (!whole.done()) return false;
  check_head(whole);
  check_same(whole.head(), cut.head());
  promise(whole.text() == cut.text(), "cuts make no difference to the text");
  whole.next();
  feed_whole(whole, input.text);
  promise(whole.done(), "the same again is the same");
  check_same(whole.head(), cut.head());
  return true;
}

/// Reads what was written of a head.
template <class Parser>
void read_again(Parser& again, const std::string& text, const Head& head) {
  again.feed(text);
  promise(again.done(), "what was written can be read");
  check_same(head, again.head());
}

void check_request(const Input& input) {
  RequestParser whole(kLimits);
  if (!read_both_ways(input, whole)) return;
  const RequestHead& head = whole.head();
  check_within(head.method, whole.text());
  check_within(head.target, whole.text());
  check_within(head.host, whole.text());
  check_within(head.parts.path, head.target);
  check_within(head.parts.query, head.target);
  check_path(head.parts);
  (void)body_of(head);

  std::string text;
  HeadWriter writer(text);
  writer.request(head.method, head.target);
  write_fields(writer, head);
  if (head.minor_version == 0) return;  // what is written is 1.1
  RequestParser again;
  read_again(again, text, head);
  promise(head.method == again.head().method, "the same method");
  promise(head.target == again.head().target, "the same target");
  promise(head.host == again.head().host, "the same host");
  promise(head.keeps_alive == again.head().keeps_alive, "the same end");
  again.next();  // it knows that one, and reads another
  feed_cut(again, input);
  promise(again.done(), "what was read can be read after another");
  check_same(head, again.head());
}

void check_response(const Input& input) {
  ResponseParser whole(kLimits);
  if (!read_both_ways(input, whole)) return;
  const ResponseHead& head = whole.head();
  (void)body_of(head, "GET");

  std::string text;
  HeadWriter writer(text);
  writer.response(head.status, head.reason);
  write_fields(writer, head);
  ResponseParser again;
  read_again(again, text, head);
  promise(head.status == again.head().status, "the same status");
  promise(head.reason == again.head().reason, "the same reason");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const Input input(data, size);
  check_request(input);
  check_response(input);
  return 0;
}
