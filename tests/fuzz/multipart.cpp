// multipart.cpp - forms nobody has thought of.
//
// Promised: where a form is cut makes no difference to its parts. What is over
// stays over. Bytes that are written as a part are read as the same.
//
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "../../apps/transfer/multipart.hpp"
#include "fuzz.hpp"

using transfer::Multipart;

namespace {

/// A form's parts, as they were told, one after the other.
struct Story {
  std::string text;  // what one part is, and where it ends
  std::string data;  // of all parts
  std::size_t parts = 0;
  Multipart::Event end = Multipart::kMore;
};

void tell_part(const Multipart& form, Story& story) {
  const std::string file = form.file_name().value_or("none");
  promise(form.name().size() <= Multipart::kMostHeadBytes, "limits hold");
  promise(file.size() <= Multipart::kMostHeadBytes, "limits hold");
  story.text += "part " + form.name() + " file " + file + " at " +
                std::to_string(story.data.size()) + '\n';
  ++story.parts;
}

/// Takes what can be told of it. Returns: false once the form is over.
bool take(Multipart& form, Story& story) {
  for (;;) {
    const Multipart::Event event = form.next();
    switch (event) {
      case Multipart::kPart: tell_part(form, story); break;
      case Multipart::kData:
        promise(story.parts > 0, "data is a part's");
        promise(!form.data().empty(), "data is something");
        story.data += form.data();
        break;
      case Multipart::kEnd:
        story.text += "end at " + std::to_string(story.data.size()) + '\n';
        break;
      case Multipart::kMore: return true;
      case Multipart::kDone:
      case Multipart::kBad:
        story.end = event;
        promise(form.next() == event, "what is over stays over");
        return false;
    }
  }
}

Story read_whole(std::string_view text) {
  Multipart form("b");
  Story story;
  form.feed(text);
  take(form, story);
  return story;
}

void check_cuts(const Input& input) {
  const Story whole = read_whole(input.text);
  Multipart form("b");
  Story cut;
  input.cut([&](std::string_view piece) {
    form.feed(piece);
    return take(form, cut);
  });
  promise(whole.end == cut.end, "cuts make no difference");
  promise(whole.text == cut.text, "cuts make no difference to the parts");
  // The last bytes may be told later.
  promise(whole.data.starts_with(cut.data) || cut.data.starts_with(whole.data),
          "cuts make no difference to the bytes");
  if (whole.end != Multipart::kMore) {
    promise(whole.data == cut.data, "cuts make no difference to the bytes");
  }
}

void check_again(std::string_view bytes) {
  if (bytes.find("\r\n--b") != bytes.npos || bytes.starts_with("--b")) return;
  std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"n\"; "
      "filename=\"f\"\r\n\r\n";
  form.append(bytes).append("\r\n--b--\r\n");
  const Story story = read_whole(form);
  promise(story.end == Multipart::kDone, "what is written is whole");
  promise(story.parts == 1 && story.text.starts_with("part n file f at 0\n"),
          "it is one part");
  promise(story.data == bytes, "it has the same bytes");
}

void check_boundary(std::string_view text) {
  if (const auto boundary = transfer::boundary_of(text)) {
    promise(!boundary->empty() && boundary->size() <= 70, "limits hold");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const Input input(data, size);
  check_cuts(input);
  check_again(input.text);
  check_boundary(input.text);
  return 0;
}
