// error.hpp - how the library says that something went wrong.
//
// Three kinds. What the system refuses is a std::system_error whose text
// names the call and the object: "connect 127.0.0.1:4915: Connection
// refused". What the program did wrong is a Misuse, in every build, with a
// sentence that says what to do instead. What can only be a broken invariant
// ends the process with a sentence, for nothing after it could be trusted.
//
// All of it may be compiled without exceptions (-fno-exceptions). What would
// be thrown then ends the process with what it says. So nobody else throws
// or catches with the keywords: they stand in this file alone.
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

/// Nobody reads a program's output any more. That ends it, but it is no failure
/// to speak of.
class OutputClosed : public std::exception {
 public:
  const char* what() const noexcept override { return "stdout is closed"; }
};

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

/// `text` as a part of one line, for what others have chosen: '?' stands for
/// each control character, of ASCII and of U+0080 to U+009F.
std::string printable(std::string_view text);

/// Writes "<program>: <sentence>" and a line end to stderr, in one write. The
/// program is "violet" until it is named. A sentence may have several lines;
/// nothing in it can steer a terminal.
void complain(std::string_view sentence) noexcept;

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
/// Throws: std::bad_alloc.
std::string text_of(std::exception_ptr error);

// ---------------------------------------------------- with exceptions, or not

/// Where nothing can be thrown: ends the process with the sentence that the
/// exception would have had.
[[noreturn]] void end_with(const char* what) noexcept;

#ifdef __cpp_exceptions

/// A program and its library are compiled one way; see FramePool.
struct NeedsLibraryWithExceptions {};
using SameLibrary = NeedsLibraryWithExceptions;

/// `throw error`; without exceptions, the end of the process.
template <class Error>
[[noreturn, gnu::cold]] void throw_error(const Error& error) {
  throw error;
}

/// Throws std::bad_alloc.
[[noreturn, gnu::cold]] inline void throw_out_of_memory() {
  throw std::bad_alloc();
}

/// Calls `body`. Returns: what it throws; null if it returns.
template <class Body>
std::exception_ptr caught(Body&& body) noexcept {
  try {
    body();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

/// Calls `body`. Returns: false if that took more memory than there is.
/// Throws: what else it throws.
template <class Body>
bool has_memory_for(Body&& body) {
  try {
    body();
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

/// The exception as an Error; null if it is none.
/// Lifetime: the exception's.
template <class Error>
const Error* exception_as(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return &e;
  } catch (...) {
    return nullptr;
  }
}

/// An exception that has not been thrown yet.
template <class Error>
std::exception_ptr unthrown(const Error& error) noexcept {
  return std::make_exception_ptr(error);
}

#else

struct NeedsLibraryWithoutExceptions {};
using SameLibrary = NeedsLibraryWithoutExceptions;

template <class Error>
[[noreturn, gnu::cold]] void throw_error(const Error& error) {
  end_with(error.what());
}

[[noreturn, gnu::cold]] inline void throw_out_of_memory() {
  end_with("out of memory");
}

template <class Body>
std::exception_ptr caught(Body&& body) noexcept {
  body();
  return nullptr;
}

template <class Body>
bool has_memory_for(Body&& body) {
  body();
  return true;
}

// Who has one all the same, made by hand, may pass it on.
template <class Error>
const Error* exception_as(const std::exception_ptr&) noexcept {
  return nullptr;
}

template <class Error>
std::exception_ptr unthrown(const Error& error) noexcept {
  throw_error(error);
}

#endif

/// Throws std::system_error "what: text of error"; `error` is an error number
/// (positive). Out of memory is thrown as std::bad_alloc.
[[noreturn]] void throw_system(int error, const std::string& what);

/// Complains with what `text()` returns; without memory for it, says that.
template <class Text>
void complain_with(Text text) noexcept {
  if (!has_memory_for([&] { complain(text()); })) {
    complain("something failed, and no memory is left to say what");
  }
}

/// The same about an error that nobody else will hear of, unless it is none
/// to speak of.
template <class Text>
void complain_of(const std::exception_ptr& error, Text text) noexcept {
  if (exception_as<OutputClosed>(error) == nullptr) complain_with(text);
}

}  // namespace violet
