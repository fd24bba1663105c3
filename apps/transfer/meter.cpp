// meter.cpp - bars, rates, and the time that is left.
// SPDX-License-Identifier: MIT
#include "meter.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "../../net/http/text.hpp"

namespace transfer {

using violet::concat;
using violet::http::size_text;

namespace {

/// How wide the terminal is: a line that is longer would begin another with
/// each update.
std::size_t columns() {
  winsize size{};
  const bool told = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0;
  return told && size.ws_col > 1 ? size.ws_col : 80;
}

std::string time_text(std::uint64_t seconds) {
  if (seconds < 60) return concat({seconds, " s"});
  if (seconds < 3600) return concat({seconds / 60, " m ", seconds % 60, " s"});
  return concat({seconds / 3600, " h ", seconds / 60 % 60, " m"});
}

}  // namespace

std::string bar_text(std::uint64_t done, std::uint64_t total,
                     std::uint64_t bytes_per_s) {
  constexpr std::uint64_t kWidth = 16;  // with all else 79 columns at most
  done = std::min(done, total);
  const double part =
      total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<std::size_t>(part * kWidth);
  const auto percent = static_cast<int>(part * 100);
  std::string text = "[" + std::string(filled, '#');
  text.append(kWidth - filled, '-');
  text += concat({percent < 10    ? "]   "
                  : percent < 100 ? "]  "
                                  : "] ",
                  percent, "%  ", size_text(done), " of ", size_text(total)});
  if (bytes_per_s == 0) return text;
  const std::uint64_t left = (total - done + bytes_per_s - 1) / bytes_per_s;
  return concat(
      {text, "  ", size_text(bytes_per_s), "/s  ", time_text(left), " left"});
}

void Meter::begin(std::uint64_t done, std::uint64_t total, bool quiet) {
  done_ = before_ = seen_ = static_cast<std::int64_t>(done);
  total_ = total;
  quiet_ = quiet;
  begun_ = seen_at_ = Clock::now();
}

std::uint64_t Meter::done() const noexcept {
  const std::int64_t now = done_.load(std::memory_order_relaxed);
  return now < 0 ? 0 : static_cast<std::uint64_t>(now);
}

/// Of the last seconds, mostly.
std::uint64_t Meter::rate() {
  const Clock::time_point now = Clock::now();
  const std::int64_t bytes = done_.load(std::memory_order_relaxed);
  const std::chrono::duration<double> passed = now - seen_at_;
  if (passed.count() > 0) {
    const double fresh =
        static_cast<double>(std::max<std::int64_t>(0, bytes - seen_)) /
        passed.count();
    const double weight = std::min(1.0, passed.count() / 2);
    bytes_per_s_ = bytes_per_s_ == 0
                       ? fresh
                       : bytes_per_s_ * (1 - weight) + fresh * weight;
  }
  seen_ = bytes;
  seen_at_ = now;
  return static_cast<std::uint64_t>(bytes_per_s_);
}

/// The line of a bar, which is ended in the end.
class Meter::Line {
 public:
  Line() noexcept {}
  Line(const Line&) = delete;
  ~Line() {
    if (width_ != 0) std::fputc('\n', stderr);
  }
  void write(std::string text) {
    text.resize(std::min(text.size(), columns() - 1));
    const std::size_t width = text.size();
    if (width < width_) text.append(width_ - width, ' ');
    width_ = width;
    std::fprintf(stderr, "\r%s", text.c_str());
  }

 private:
  std::size_t width_ = 0;
};

violet::Task<> Meter::show() {
  using std::chrono::milliseconds;
  if (quiet_) co_return;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  Line line;
  for (;;) {
    co_await violet::sleep(terminal ? milliseconds(100) : milliseconds(5000));
    const std::string text = bar_text(done(), total_, rate());
    if (terminal) {
      line.write(text);
    } else {
      violet::complain(text.substr(text.find(']') + 1));
    }
  }
}

void Meter::complain(std::string_view text) {
  if (::isatty(STDERR_FILENO) == 1) std::fputs("\r\x1b[K", stderr);
  violet::complain(text);
}

std::string Meter::summary() const {
  const std::chrono::duration<double> passed = Clock::now() - begun_;
  const double moved = static_cast<double>(done_ - before_);
  const double seconds = std::max(passed.count(), 1e-3);
  char time[32];
  std::snprintf(time, sizeof time, "%.1f", passed.count());
  return concat(
      {size_text(static_cast<std::uint64_t>(std::max(0.0, moved))), " in ",
       time, " s, ",
       size_text(static_cast<std::uint64_t>(std::max(0.0, moved / seconds))),
       "/s"});
}

}  // namespace transfer
