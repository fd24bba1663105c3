// multipart.hpp - what a browser's form sends, taken apart as it comes.
//
// A form with files arrives as parts with a boundary between them: a few
// fields that say what a part is, an empty line, its bytes. Which bytes are the
// last of a part shows only when the boundary has come, so the last few are
// held back until they are known to be none of it. Nothing else is.
//
//     Multipart form(*boundary_of(content_type));
//     form.feed(bytes);
//     while (true)
//       switch (form.next()) {
//         case Multipart::kPart:  form.name(), form.file_name()
//         case Multipart::kData:  form.data()
//         case Multipart::kEnd:   of the part
//         case Multipart::kMore:  feed() more
//         case Multipart::kDone, kBad
//       }
//
// See: RFC 7578; RFC 2046, section 5.1.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace transfer {

/// The boundary in "multipart/form-data; boundary=abc"; nothing for another
/// type, or without one.
std::optional<std::string> boundary_of(std::string_view content_type);

class Multipart {
 public:
  enum Event { kPart, kData, kEnd, kMore, kDone, kBad };

  /// Bytes of the fields of a part.
  static constexpr std::size_t kMostHeadBytes = 8 * 1024;

  explicit Multipart(const std::string& boundary);

  /// More of the body. All that came before has been taken: next() has
  /// returned kMore. Lifetime: data() is good until the next call.
  void feed(std::string_view bytes);

  Event next();

  /// Of the part that has begun.
  const std::string& name() const noexcept { return name_; }
  const std::optional<std::string>& file_name() const noexcept {
    return file_name_;
  }

  /// Some bytes of it.
  std::string_view data() const noexcept { return data_; }

 private:
  enum class At { kBefore, kAfterBoundary, kHead, kBody, kDone, kBad };

  Event skip_to_boundary();
  Event after_boundary();
  Event read_head();
  Event read_body();
  void read_field(std::string_view line);
  std::string_view rest() const noexcept {
    return std::string_view(buffer_).substr(taken_);
  }

  const std::string boundary_;  // with CR LF "--" before it
  At at_ = At::kBefore;
  std::string buffer_;  // what has come and is not taken
  std::size_t taken_ = 0;
  std::string_view data_;
  std::string name_;
  std::optional<std::string> file_name_;
};

}  // namespace transfer
