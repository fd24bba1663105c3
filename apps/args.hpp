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
#include <memory>
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

  /// `--flag WORD`, any text.
  [[gnu::cold]] void text(const char* flag, const char* word, const char* help,
                          std::string& value) {
    add<std::string>(flag, word, help, value, [](std::string_view given) {
      return std::pair(std::string(given), true);
    });
  }

  /// `--flag N`, a whole number between `least` and `most`.
  template <class Number>
  [[gnu::cold]] void number(const char* flag, const char* help, Number& value,
                            std::uint64_t least, std::uint64_t most) {
    add<Number>(flag, "N", help, value, [=](std::string_view given) {
      std::uint64_t parsed = 0;
      const bool good =
          whole(given, parsed) && parsed >= least && parsed <= most;
      return std::pair(static_cast<Number>(parsed), good);
    });
    options_.back().expects =
        violet::concat({"a number from ", least, " to ", most});
  }

  /// `--flag TIME`: 500ms, 5s, 2m; a bare number is seconds.
  [[gnu::cold]] void time(const char* flag, const char* help,
                          std::chrono::nanoseconds& value) {
    add<std::chrono::nanoseconds>(flag, "TIME", help, value, parse_time);
    options_.back().expects = "a time such as 500ms, 5s or 2m";
  }

  /// `--flag SIZE`: 512, 5MiB; a bare number is bytes.
  [[gnu::cold]] void size(const char* flag, const char* help,
                          std::uint64_t& value, std::uint64_t least,
                          std::uint64_t most) {
    add<std::uint64_t>(flag, "SIZE", help, value, [=](std::string_view given) {
      std::uint64_t parsed = 0;
      const bool good =
          parse_size(given, parsed) && parsed >= least && parsed <= most;
      return std::pair(parsed, good);
    });
    std::string& expects = options_.back().expects;
    expects = "a size such as 512 or 5MiB";
    const bool bounded = most != ~std::uint64_t{0};  // else by its type alone
    if (bounded || least > 0) expects += violet::concat({", from ", least});
    if (bounded) expects += violet::concat({" to ", most});
  }

  /// An argument that must be given, in the order of these calls.
  [[gnu::cold]] void positional(const char* word, const char* help,
                                std::string& value) {
    positionals_.push_back({word, help, &value, false});
  }

  /// `--flag`, given or not.
  [[gnu::cold]] void flag(const char* flag, const char* help, bool& value) {
    add<bool>(flag, "", help, value,
              [](std::string_view) { return std::pair(true, true); });
  }

  /// Sets the values. Prints usage and exits 0 for --help; exits 2, after one
  /// line on stderr, for anything that is not right.
  [[gnu::cold]] void parse(int argc, char** argv) {
    if (argc > 0) {
      const char* const slash = std::strrchr(argv[0], '/');
      name_ = slash == nullptr ? argv[0] : slash + 1;
    }
    violet::name_program(name_);
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (argument == "--help" || argument == "-h") print_usage();
      const auto equals = argument.find('=');
      const std::string_view flag = argument.substr(0, equals);
      if (argument.substr(0, 1) != "-" && take_positional(argument)) continue;
      const Option& option = find(flag, argument);
      if (option.word[0] == '\0') {
        if (equals != argument.npos) {
          refuse({"option '", flag, "' takes no value"});
        }
        option.set("");
        continue;
      }
      if (equals == argument.npos && i + 1 == argc) {
        refuse({"option '", flag, "' needs a value, ", option.word});
      }
      const std::string_view value =
          equals == argument.npos ? argv[++i] : argument.substr(equals + 1);
      if (!option.set(value)) {
        refuse({"option '", flag, "' takes ", option.expects, ", not '", value,
                "'"});
      }
    }
    for (const Positional& positional : positionals_) {
      if (!positional.given) refuse({positional.word, " is missing"});
    }
  }

  /// Ends the program: "name: what; try --help" on stderr, exit code 2.
  [[noreturn, gnu::cold]] void refuse(
      std::initializer_list<violet::Part> what) const {
    const std::string text = violet::concat(what);
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
  class Setter {
   public:
    virtual ~Setter() = default;
    virtual bool set(std::string_view given) = 0;
  };

  struct Option {
    const char* flag;
    const char* word;  // empty: takes no value
    const char* help;
    std::string expects;
    std::unique_ptr<Setter> setter;
    bool set(std::string_view given) const { return setter->set(given); }
  };

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
      *positional.value = argument;
      return positional.given = true;
    }
    return false;
  }

  template <class T, class Parse>
  [[gnu::cold]] void add(const char* flag, const char* word, const char* help,
                         T& value, Parse parser) {
    class Set final : public Setter {
     public:
      Set(T& target, Parse p) : target_(target), parse_(p) {}
      bool set(std::string_view given) override {
        auto [parsed, good] = parse_(given);
        if (good) target_ = std::move(parsed);
        return good;
      }

     private:
      T& target_;
      Parse parse_;
    };
    options_.push_back(
        {flag, word, help, word, std::make_unique<Set>(value, parser)});
  }

  [[gnu::cold]] static std::pair<std::chrono::nanoseconds, bool> parse_time(
      std::string_view text) {
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
      if (!good) return {{}, false};
      return {std::chrono::milliseconds(static_cast<std::int64_t>(count) *
                                        known.ms),
              true};
    }
    return {{}, false};
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
    std::size_t least = 4;  // further away it is no slip of the finger
    const auto consider = [&](const char* known) {
      const std::size_t distance = edits(flag, known);
      if (distance >= least) return;
      least = distance;
      best = known;
    };
    for (const Option& option : options_) consider(option.flag);
    consider("--help");
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
    std::printf("%s - %s\n\nusage: %s [options]", name_, summary_, name_);
    for (const Positional& one : positionals_) std::printf(" %s", one.word);
    std::printf("\n\n");
    for (const Positional& one : positionals_) {
      std::printf("  %-24s %s\n", one.word, one.help);
    }
    for (const Option& option : options_) {
      const std::string left = std::string(option.flag) + ' ' + option.word;
      std::printf("  %-24s %s\n", left.c_str(), option.help);
    }
    std::printf("  %-24s %s\n", "--help", "print this and exit");
    std::signal(SIGPIPE, SIG_IGN);
    if (std::fflush(stdout) == 0 || errno == EPIPE) std::exit(0);
    std::fprintf(stderr, "%s: write stdout: %s\n", name_, std::strerror(errno));
    std::exit(1);
  }

  const char* name_;
  const char* summary_;
  std::vector<Option> options_;
  std::vector<Positional> positionals_;
};
