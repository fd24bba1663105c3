// message.hpp - heads of requests and responses, read and written.
//
// A head that was read is a set of views into the buffer of the parser that
// read it (see parse.hpp): fields keep their order and their spelling, and no
// memory is taken for each. A head that is written goes to the end of a string
// by way of a HeadWriter, which refuses whatever would end a line early: no
// value, however it came about, can turn into a second field or message.
//
// Built on: fault, target, text. See: RFC 9110, sections 5 to 7; RFC 9112,
// sections 2 to 5 and 9.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fault.hpp"
#include "target.hpp"
#include "text.hpp"

namespace violet::http {

struct Field {
  std::string_view name;   // as it was spelled
  std::string_view value;  // without the spaces around it
};

namespace internal {

/// Where a field is, counted from the beginning of the head: a buffer moves as
/// it grows.
struct FieldEntry {
  std::uint32_t name = 0;
  std::uint32_t name_size = 0;
  std::uint32_t value = 0;
  std::uint32_t value_size = 0;
};

}  // namespace internal

/// The fields of a head, in their order. Names are compared without regard to
/// case. A plain value, to be copied freely.
/// Lifetime: of it and what it returns: the parser's current message.
/// Cost: a search looks at each field.
class Fields {
 public:
  Fields() noexcept {}
  Fields(const char* text, const internal::FieldEntry* entries,
         std::size_t size) noexcept
      : text_(text), entries_(entries), size_(size) {}

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  Field operator[](std::size_t i) const noexcept {
    const internal::FieldEntry& entry = entries_[i];
    return {{text_ + entry.name, entry.name_size},
            {text_ + entry.value, entry.value_size}};
  }

  /// For `for (const http::Field field : fields)`.
  class Iterator {
   public:
    Iterator(const Fields& fields, std::size_t i) noexcept
        : fields_(&fields), i_(i) {}
    Field operator*() const noexcept { return (*fields_)[i_]; }
    Iterator& operator++() noexcept {
      ++i_;
      return *this;
    }
    bool operator!=(const Iterator& other) const noexcept {
      return i_ != other.i_;
    }

   private:
    const Fields* fields_;
    std::size_t i_;
  };
  Iterator begin() const noexcept { return {*this, 0}; }
  Iterator end() const noexcept { return {*this, size_}; }

  /// The value of the first field of that name.
  std::optional<std::string_view> find(std::string_view name) const noexcept;

  /// The same, for a field that must stand there once: nothing if there are
  /// several.
  std::optional<std::string_view> only(std::string_view name) const noexcept;

  std::size_t count(std::string_view name) const noexcept;

  /// True if a list such as Connection has that word in one of its fields.
  bool has_word(std::string_view name, std::string_view word) const noexcept;

 private:
  const char* text_ = nullptr;
  const internal::FieldEntry* entries_ = nullptr;
  std::size_t size_ = 0;
};

/// What both kinds of heads have. The parser has resolved what decides about
/// framing: who reads `length` and `chunked` need not look at the fields.
struct Head {
  Fields fields;
  int minor_version = 1;                // of HTTP/1.x
  std::optional<std::uint64_t> length;  // Content-Length
  bool chunked = false;                 // Transfer-Encoding: chunked

  /// The sender will go on with this connection after this message, if the
  /// receiver does, too, and the body has an end of its own (RFC 9112, section
  /// 9.3).
  bool keeps_alive = false;
};

struct RequestHead : Head {
  std::string_view method;  // in its case: "get" is not "GET"
  std::string_view target;  // as it was sent
  Target parts;             // the same, taken apart

  /// Whom it is for: of an absolute target or a CONNECT the authority, else
  /// the Host (RFC 9112, section 3.2.2). Empty in a 1.0 request without one.
  std::string_view host;

  /// The client holds the body back until it is told to go on with
  /// "HTTP/1.1 100 Continue", or until it has waited for a while.
  bool expects_continue = false;
};

struct ResponseHead : Head {
  int status = 0;  // 100 to 999; treat what is not known as x00
  std::string_view reason;
};

/// "Not Found" for 404; empty for what has no name.
std::string_view reason_of(int status) noexcept;

/// Appends a head, or the trailer fields after a chunked body, to a string.
///
///     http::HeadWriter head(out);
///     head.response(200).field("Content-Type", "text/plain").length(5);
///     if (const char* why = head.finish()) ...   // out is as it was
///
/// Once something is refused, the rest is ignored and finish() says why.
/// Lifetime: the string outlives the writer; nobody else changes it meanwhile.
class HeadWriter {
 public:
  explicit HeadWriter(std::string& out) noexcept
      : out_(out), begin_(out.size()) {}
  HeadWriter(const HeadWriter&) = delete;
  HeadWriter& operator=(const HeadWriter&) = delete;

  /// The first line. Without one, trailer fields are written.
  HeadWriter& request(std::string_view method, std::string_view target);
  HeadWriter& response(int status) {
    return response(status, reason_of(status));
  }
  HeadWriter& response(int status, std::string_view reason);

  /// A field. Refused are a name that is no word and a value that has a
  /// control character or begins or ends with a space. So is a length or a
  /// coding beside length() or chunked(), and either of them in a trailer.
  HeadWriter& field(std::string_view name, std::string_view value);
  HeadWriter& field(std::string_view name, std::uint64_t number);
  HeadWriter& date(std::string_view name, Time time);

  /// How the body is framed: at most one of them, at most once.
  HeadWriter& length(std::uint64_t bytes) {
    return field("Content-Length", bytes);
  }
  HeadWriter& chunked() { return field("Transfer-Encoding", "chunked"); }

  /// Ends the head with an empty line.
  /// Returns: null; or why it was refused, and the string is as before.
  [[nodiscard]] const char* finish();

 private:
  HeadWriter& refuse(const char* why) noexcept;
  bool begins(const char* refusal) noexcept;
  void admit(std::string_view name, std::string_view value) noexcept;
  void append_line(std::string_view name, std::string_view value);

  std::string& out_;
  std::size_t begin_;
  const char* refusal_ = nullptr;
  bool has_first_line_ = false;
  bool framed_ = false;
};

}  // namespace violet::http
