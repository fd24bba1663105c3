// error.cpp - the texts of errors.
// SPDX-License-Identifier: MIT
#include "error.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <utility>

#include "sys.hpp"

namespace violet {

void Part::append_to(std::string& whole) const {
  if (!is_number_) {
    whole += text_;
    return;
  }
  char digits[24];
  std::snprintf(digits, sizeof digits, "%lld", number_);
  whole += digits;
}

std::string concat(std::initializer_list<Part> parts) {
  std::string whole;
  for (const Part& part : parts) part.append_to(whole);
  return whole;
}

namespace {

std::atomic<const char*> program = "violet";

}  // namespace

void name_program(const char* name) noexcept {
  program = name;
}

const char* program_name() noexcept {
  return program;
}

namespace {

/// Writes all of it, or as much as stderr takes.
void write_to_stderr(std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t count = sys::uninterrupted(
        [&] { return sys::calls->write(2, text.data(), text.size()); });
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

/// Puts '?' for each control character but those that are kept.
std::string without_controls(std::string text, std::string_view kept) {
  char before = 0;
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool ascii = byte < 0x20 || byte == 0x7f;
    const bool latin = before == '\xc2' && byte >= 0x80 && byte < 0xa0;
    before = c;
    if (latin || (ascii && kept.find(c) == kept.npos)) c = '?';
  }
  return text;
}

}  // namespace

std::string printable(std::string_view text) {
  return without_controls(std::string(text), {});
}

void complain(std::string_view sentence) noexcept {
  const bool said = has_memory_for([&] {
    std::string text = concat({program_name(), ": ", sentence, "\n"});
    write_to_stderr(without_controls(std::move(text), "\n\t"));
  });
  // The sentence alone is better than silence.
  if (!said) write_to_stderr(sentence);
}

void fatal(std::string_view sentence, std::source_location where) noexcept {
  complain(sentence);
  if (where.line() != 0) complain(concat({"  near ", text_of(where)}));
  std::abort();
}

std::string text_of(std::source_location where) {
  if (where.line() == 0) return "?";
  std::string_view file = where.file_name();
  file.remove_prefix(file.rfind('/') + 1);
  return concat({file, ":", where.line()});
}

// g++ 12 calls the body of a coroutine "void f(f(int)::_Z1fi.Frame*)", other
// compilers "Task<> f(int)": the last word before the first parenthesis.
std::string function_of(std::source_location where) {
  constexpr std::string_view kAnonymous = "(anonymous namespace)";
  std::string_view name = where.function_name();
  std::size_t parameters = name.find('(');
  while (name.substr(std::min(parameters, name.size()), kAnonymous.size()) ==
         kAnonymous) {
    parameters = name.find('(', parameters + 1);
  }
  name = name.substr(0, parameters);
  std::size_t depth = 0;  // a space within <...> does not end the name
  std::size_t begin = name.size();
  while (begin > 0) {
    const char c = name[begin - 1];
    if (c == '>') ++depth;
    if (c == '<' && depth > 0) --depth;
    if (c == ' ' && depth == 0) break;
    --begin;
  }
  return std::string(name.substr(begin));
}

std::string text_of(std::exception_ptr error) {
  if (const auto* known = exception_as<std::exception>(error))
    return known->what();
  return "an exception that is no std::exception";
}

// The sentence of a Misuse begins with our name, and a line of a program that
// has no name of its own does so, too.
void end_with(const char* what) noexcept {
  std::string_view sentence = what;
  const std::string ours = concat({program_name(), ": "});
  if (sentence.starts_with(ours)) sentence.remove_prefix(ours.size());
  fatal(sentence);
}

void throw_system(int error, const std::string& what) {
  if (error == ENOMEM) throw_out_of_memory();
  throw_error(std::system_error(error, std::system_category(), what));
}

}  // namespace violet
