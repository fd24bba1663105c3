// error.hpp - how the library says that something went wrong.
//
// Three kinds. What the system refuses is a std::system_error whose text
// names the call and the object: "connect 127.0.0.1:4915: Connection
// refused". What the program did wrong is a Misuse, in every build, with a
// sentence that says what to do instead. What can only be a broken invariant
// ends the process with a sentence, for nothing after it could be trusted.
//
// Built on: nothing but, for its texts, sys.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <exception>
#include <initializer_list>
#include <new>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace violet {

/// The program asked for something that cannot be right.
class Misuse : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// The other side is gone: what is sent would never arrive, or what is awaited
/// will never come.
class Closed : public Misuse {
 public:
  using Misuse::Misuse;
};

/// Every job waits and nothing can wake any of them. The text is the
/// wait-for graph, with the cycle marked if there is one.
class Deadlock : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The job that was joined had been killed: news about another job. The text
/// says by whom, where and why.
class Killed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws std::system_error "what: text of error"; `error` is an error number
/// (positive). Out of memory is thrown as std::bad_alloc.
[[noreturn]] void throw_system(int error, const std::string& what);

/// A text or a number, as a part of a longer text.
class Part {
 public:
  template <class Text>
    requires std::convertible_to<const Text&, std::string_view>
  Part(const Text& text) noexcept : text_(text) {}
  template <std::integral Number>
  Part(Number number) noexcept
      : is_number_(true), number_(static_cast<long long>(number)) {}
  void append_to(std::string& whole) const;

 private:
  std::string_view text_;
  bool is_number_ = false;
  long long number_ = 0;
};

/// One string of many parts. Texts are made where something has gone wrong or
/// someone looks; there, small code counts for more than speed.
std::string concat(std::initializer_list<Part> parts);

/// Writes "<program>: <sentence>" and a line end to stderr, in one write. The
/// program is "violet" until it is named.
void complain(std::string_view sentence) noexcept;

/// Complains with what `text()` returns; without memory for it, says that.
template <class Text>
void complain_with(Text text) noexcept {
  try {
    complain(text());
  } catch (const std::bad_alloc&) {
    complain("something failed, and no memory is left to say what");
  }
}

/// Names the program in what complain() writes. Lifetime: a literal.
void name_program(const char* name) noexcept;
const char* program_name() noexcept;

/// Ends the process: complains and aborts.
[[noreturn]] void fatal(std::string_view sentence,
                        std::source_location where = {}) noexcept;

/// "echo.cpp:21", the file without its folders; "?" where it is not known.
std::string text_of(std::source_location where);

/// The name of the function around `where` without its parameters.
std::string function_of(std::source_location where);

/// What an exception says of itself; it is never thrown further.
std::string text_of(std::exception_ptr error) noexcept;

}  // namespace violet
