// args.hpp - the command line of the programs in this folder.
//
// A program lists its options once; from that list come the parsing, the
// messages and --help. Times take ms, s, m, sizes KiB, MiB, GiB. What is wrong
// is said in one line that names the thing, with exit code 2.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../runtime/error.hpp"

/// The options of one program. Its functions run once, so they are compiled
/// for size.
class Args {
 public:
  /// `name` until parse() knows what the program is called as (installed, it
  /// is violet-NAME), `summary` in one line. Lifetime: literals.
  Args(const char* name, const char* summary)
      : name_(name), summary_(summary) {}

  /// The word before the options that says what to do, for --help; argv has it
  /// no more. Lifetime: a literal.
  void command(const char* word) { command_ = word; }

  /// `--flag WORD`, any text.
  [[gnu::cold]] void text(const char* flag, const char* word, const char* help,
                          std::string& value) {
    options_.push_back({Kind::kText, flag, word, help, &value, nullptr, 0, 0});
  }

  /// `--flag N`, a whole number between `least` and `most`.
  template <class Number>
  [[gnu::cold]] void number(const char* flag, const char* help, Number& value,
                            std::uint64_t least, std::uint64_t most) {
    options_.push_back(
        {Kind::kNumber, flag, "N", help, &value, store<Number>, least, most});
  }

  /// `--flag TIME`: 500ms, 5s, 2m; a bare number is seconds.
  [[gnu::cold]] void time(const char* flag, const char* help,
                          std::chrono::nanoseconds& value) {
    options_.push_back(
        {Kind::kTime, flag, "TIME", help, &value, nullptr, 0, 0});
  }

  /// `--flag SIZE`: 512, 5MiB; a bare number is bytes.
  [[gnu::cold]] void size(const char* flag, const char* help,
                          std::uint64_t& value, std::uint64_t least,
                          std::uint64_t most) {
    options_.push_back({Kind::kSize, flag, "SIZE", help, &value,
                        store<std::uint64_t>, least, most});
  }

  /// An argument that must be given, in the order of these calls.
  [[gnu::cold]] void positional(const char* word, const char* help,
                                std::string& value) {
    positionals_.push_back({word, help, &value, false});
  }

  /// `--flag`, given or not.
  [[gnu::cold]] void flag(const char* flag, const char* help, bool& value) {
    options_.push_back(
        {Kind::kFlag, flag, "", help, &value, store<bool>, 0, 0});
  }

  /// Sets the values. Prints usage and exits 0 for --help; exits 2, after one
  /// line on stderr, for anything that is not right.
  [[gnu::cold]] void parse(int argc, char** argv) {
    if (argc > 0) {
      const char* const slash = std::strrchr(argv[0], '/');
      name_ = slash == nullptr ? argv[0] : slash + 1;
    }
    violet::name_program(name_);
    bool help = false;
    this->flag("--help", "print this and exit", help);
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      const auto equals = argument.find('=');
      std::string_view flag = argument.substr(0, equals);
      if (flag == "-h") flag = "--help";
      if (argument.substr(0, 1) != "-" && take_positional(argument)) continue;
      const Option& option = find(flag, argument);
      if (option.word[0] == '\0') {
        if (equals != argument.npos) {
          refuse({"option '", flag, "' takes no value"});
        }
        option.store(option.value, 1);
        if (help) print_usage();
        continue;
      }
      std::string_view value;
      if (equals != argument.npos) {
        value = argument.substr(equals + 1);
      } else if (i + 1 < argc) {
        value = argv[++i];
      }
      if (value.empty()) {
        refuse({"option '", flag, "' needs a value, ", option.word});
      }
      if (!set(option, value)) {
        refuse({"option '", flag, "' takes ", expected(option), ", not '",
                value, "'"});
      }
    }
    for (const Positional& positional : positionals_) {
      if (!positional.given) refuse({positional.word, " is missing"});
    }
  }

  /// Ends the program: "name: what; try --help" on stderr, exit code 2. It is
  /// one line, whatever has been given on the command line.
  [[noreturn, gnu::cold]] void refuse(
      std::initializer_list<violet::Part> what) const {
    const std::string text = violet::printable(violet::concat(what));
    std::fprintf(stderr, "%s: %s; try --help\n", name_, text.c_str());
    std::exit(2);
  }

  /// Returns: false unless all of `text` is one whole number.
  static bool whole(std::string_view text, std::uint64_t& value) {
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
  }

 private:
  enum class Kind : std::uint8_t { kText, kNumber, kTime, kSize, kFlag };

  struct Option {
    Kind kind;
    const char* flag;
    const char* word;  // empty: takes no value
    const char* help;
    void* value;                                       // the program's
    void (*store)(void* value, std::uint64_t number);  // of what is a number
    std::uint64_t least;
    std::uint64_t most;
  };

  template <class Number>
  static void store(void* value, std::uint64_t number) {
    *static_cast<Number*>(value) = static_cast<Number>(number);
  }

  struct Positional {
    const char* word;
    const char* help;
    std::string* value;
    bool given;
  };

  /// Returns: false if there is one argument too many.
  [[gnu::cold]] bool take_positional(std::string_view argument) {
    for (Positional& positional : positionals_) {
      if (positional.given) continue;
      if (argument.empty()) refuse({positional.word, " is empty"});
      *positional.value = argument;
      return positional.given = true;
    }
    return false;
  }

  /// Returns: false for a value that the option does not take.
  [[gnu::cold]] static bool set(const Option& option, std::string_view given) {
    if (option.kind == Kind::kText) {
      *static_cast<std::string*>(option.value) = given;
      return true;
    }
    if (option.kind == Kind::kTime) {
      return parse_time(given,
                        *static_cast<std::chrono::nanoseconds*>(option.value));
    }
    std::uint64_t number = 0;
    const bool good = option.kind == Kind::kSize ? parse_size(given, number)
                                                 : whole(given, number);
    if (!good || number < option.least || number > option.most) return false;
    option.store(option.value, number);
    return true;
  }

  [[gnu::cold]] static std::string expected(const Option& option) {
    if (option.kind == Kind::kTime) return "a time such as 500ms, 5s or 2m";
    const bool size = option.kind == Kind::kSize;
    const bool limited = option.most != ~std::uint64_t{0};
    std::string text = size ? "a size such as 512 or 5MiB" : "a number";
    if (limited || option.least != 0) {
      text += violet::concat({size ? ", from " : " from ", option.least,
                              limited ? " to " : " on"});
    }
    if (limited) text += violet::concat({option.most});
    return text;
  }

  [[gnu::cold]] static bool parse_time(std::string_view text,
                                       std::chrono::nanoseconds& value) {
    struct Unit {
      std::string_view name;
      std::int64_t ms;
    };
    constexpr Unit kUnits[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"", 1000}};
    const auto digits = text.find_first_not_of("0123456789");
    const std::string_view unit =
        digits == text.npos ? "" : text.substr(digits);
    std::uint64_t count = 0;
    for (const Unit& known : kUnits) {
      if (known.name != unit) continue;
      constexpr std::int64_t kCenturyMs = 3'155'760'000'000;
      const bool good =
          whole(text.substr(0, digits), count) &&
          count <= static_cast<std::uint64_t>(kCenturyMs / known.ms);
      if (!good) return false;
      value = std::chrono::milliseconds(static_cast<std::int64_t>(count) *
                                        known.ms);
      return true;
    }
    return false;
  }

  [[gnu::cold]] static bool parse_size(std::string_view text,
                                       std::uint64_t& value) {
    struct Unit {
      std::string_view name;
      int shift;
    };
    constexpr Unit kUnits[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    const auto digits = text.find_first_not_of("0123456789");
    const std::string_view unit =
        digits == text.npos ? "" : text.substr(digits);
    for (const Unit& known : kUnits) {
      if (known.name != unit) continue;
      if (!whole(text.substr(0, digits), value)) return false;
      const std::uint64_t bytes = value << known.shift;
      const bool fits = bytes >> known.shift == value;
      value = bytes;
      return fits;
    }
    return false;
  }

  [[gnu::cold]] const Option& find(std::string_view flag,
                                   std::string_view whole) const {
    for (const Option& option : options_) {
      if (flag == option.flag) return option;
    }
    if (flag.substr(0, 1) != "-") {
      refuse({"unexpected argument '", whole, "'"});
    }
    const char* best = nullptr;
    std::size_t least = 3;  // further away it is no slip of the finger
    for (const Option& option : options_) {
      const std::size_t distance = edits(flag, option.flag);
      if (distance >= least) continue;
      least = distance;
      best = option.flag;
    }
    if (best == nullptr) refuse({"unknown option '", flag, "'"});
    refuse({"unknown option '", flag, "' (did you mean '", best, "'?)"});
  }

  /// How many letters must change to turn one word into the other
  /// (Levenshtein).
  [[gnu::cold]] static std::size_t edits(std::string_view a,
                                         std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), 0u);
    for (std::size_t i = 1; i <= a.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i);
      for (std::size_t j = 1; j <= b.size(); ++j) {
        const std::size_t changed = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
        diagonal = row[j];
        row[j] = std::min({changed, row[j - 1] + 1, row[j] + 1});
      }
    }
    return row.back();
  }

  [[noreturn, gnu::cold]] void print_usage() const {
    std::printf("%s%s%s - %s\n\nusage: %s%s%s [options]", name_, gap(),
                command_, summary_, name_, gap(), command_);
    for (const Positional& one : positionals_) std::printf(" %s", one.word);
    std::printf("\n\n");
    for (const Positional& one : positionals_) {
      std::printf("  %-24s %s\n", one.word, one.help);
    }
    for (const Option& option : options_) {
      const std::string left = std::string(option.flag) + ' ' + option.word;
      std::printf("  %-24s %s\n", left.c_str(), option.help);
    }
    std::signal(SIGPIPE, SIG_IGN);
    if (std::fflush(stdout) == 0 || errno == EPIPE) std::exit(0);
    std::fprintf(stderr, "%s: write stdout: %s\n", name_, std::strerror(errno));
    std::exit(1);
  }

  const char* gap() const { return command_[0] == '\0' ? "" : " "; }

  const char* name_;
  const char* summary_;
  const char* command_ = "";
  std::vector<Option> options_;
  std::vector<Positional> positionals_;
};
