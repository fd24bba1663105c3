// load.cpp - sends messages to an echo server and measures how it answers.
//
// New here: a job that sends and a job that receives share one connection, and
// a channel between them keeps only so many messages under way.
//
// Every byte that comes back is compared with what was sent. With --rate each
// message has a moment at which it is due, and its time counts from there even
// if it could not be sent then: a server that stalls cannot hide the messages
// that it kept from being sent (coordinated omission).
// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../net/net.hpp"
#include "../runtime/random.hpp"
#include "args.hpp"
#include "histogram.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

struct Settings {
  std::string target;
  std::size_t connections = 1;
  std::uint64_t size_bytes = 64;
  std::size_t depth = 1;
  Duration time = 10s;
  std::uint64_t rate = 0;  // messages a second, all together; 0: no limit
  bool json = false;
};

/// How long the last answers may take after the end.
constexpr Duration kPatience = 5s;

constexpr std::size_t kPatternBytes = 65521;  // a prime: no size divides it

/// What all connections send: bytes that do not repeat for a while, twice, so
/// that a piece from anywhere in the first half is in one piece.
std::string make_pattern() {
  std::string pattern(2 * kPatternBytes, '\0');
  internal::Random random(1);
  for (std::size_t i = 0; i < kPatternBytes; ++i) {
    pattern[i] = pattern[i + kPatternBytes] = static_cast<char>(random.next());
  }
  return pattern;
}

/// One measurement, and what its connections have in common.
class Measurement {
 public:
  explicit Measurement(const Settings& settings)
      : settings_(settings),
        pattern_(make_pattern()),
        start_(Clock::now()),
        end_(start_ + settings.time) {}

  const Settings& settings() const { return settings_; }

  /// When message `number` of all is to be sent: now, or as the rate wants it.
  TimePoint due(std::uint64_t number) const {
    if (settings_.rate == 0) return Clock::now();
    const std::chrono::duration<double> after(
        static_cast<double>(number) / static_cast<double>(settings_.rate));
    return start_ + std::chrono::duration_cast<Duration>(after);
  }

  /// True if a message that is due then is not sent any more. One that is
  /// late, but was due in time, is.
  bool over(TimePoint due) const { return stopped_.is_set() || due >= end_; }
  Duration left() const { return end_ - Clock::now(); }
  void stop() { stopped_.set(); }
  auto stopped() { return stopped_.wait(); }

  /// The stream of a connection from `position` on, at most `most` bytes.
  std::string_view bytes_at(std::uint64_t position, std::uint64_t most) const {
    const auto at = static_cast<std::size_t>(position % kPatternBytes);
    return std::string_view(pattern_).substr(
        at,
        static_cast<std::size_t>(std::min<std::uint64_t>(most, kPatternBytes)));
  }

  /// The place in its stream at which connection `index` begins: each another.
  static std::uint64_t origin_of(std::size_t index) { return index * 7919; }

  void answered(TimePoint begun, TimePoint now) {
    times_.add(now - begun);
    last_ = now;
  }

  /// A connection did not do what it should. It concerns no other.
  void failed(const std::exception_ptr& error) {
    if (failures_++ > 0) return;  // the first tells enough
    complain(concat({"a connection failed: ", text_of(error)}));
  }

  const Histogram& times() const { return times_; }
  /// To the last answer.
  Duration took() const { return last_ - start_; }

  std::size_t failures() const { return failures_; }

 private:
  const Settings& settings_;
  std::string pattern_;
  TimePoint start_;
  TimePoint end_;
  TimePoint last_ = start_;
  Flag stopped_;
  Histogram times_;
  std::size_t failures_ = 0;
};

/// One connection: what has been sent and checked of its stream.
class Flow {
 public:
  Flow(Connection conn, std::size_t index, Measurement& all)
      : conn_(std::move(conn)),
        index_(index),
        origin_(Measurement::origin_of(index)),
        all_(all),
        size_(all.settings().size_bytes),
        under_way_(all.settings().depth),
        begun_(all.settings().depth) {}

  /// Throws: std::system_error, also for an answer that is wrong.
  Task<> run() { co_await violet::all(send_messages(), check_answers()); }

 private:
  Task<> send_messages() {
    const std::uint64_t share = all_.settings().connections;
    for (std::uint64_t i = 0;; ++i) {
      const TimePoint due = all_.due(i * share + index_);
      const Duration early = std::min(due - Clock::now(), all_.left());
      if (early > 0ns) co_await within(early, all_.stopped());
      if (all_.over(due)) break;
      co_await under_way_.send('.');
      begun_[i % begun_.size()] = all_.settings().rate > 0 ? due : Clock::now();
      for (std::uint64_t sent = 0; sent < size_;) {
        const auto piece =
            all_.bytes_at(origin_ + i * size_ + sent, size_ - sent);
        co_await conn_.sendall(piece);
        sent += piece.size();
      }
      sent_ = (i + 1) * size_;
    }
    conn_.shutdown(Half::kSending);
  }

  Task<> check_answers() {
    std::uint64_t checked = 0;
    std::uint64_t answered = 0;
    while (const auto data = co_await conn_.recv()) {
      check(data.view(), checked);
      checked += data.size();
      for (const TimePoint now = Clock::now();
           checked >= (answered + 1) * size_; ++answered) {
        all_.answered(begun_[answered % begun_.size()], now);
        under_way_.try_recv();
      }
    }
    if (checked != sent_) {
      throw_system(EPROTO, concat({"the stream ended after ", checked, " of ",
                                   sent_, " bytes"}));
    }
  }

  /// Throws: std::system_error at the first byte that is not what was sent.
  void check(std::string_view got, std::uint64_t checked) const {
    while (!got.empty()) {
      const auto sent = all_.bytes_at(origin_ + checked, got.size());
      if (std::memcmp(got.data(), sent.data(), sent.size()) != 0) {
        const auto wrong = std::mismatch(sent.begin(), sent.end(), got.begin());
        checked += static_cast<std::uint64_t>(wrong.first - sent.begin());
        throw_system(
            EPROTO,
            concat({"byte ", checked, " of the answers is ",
                    static_cast<unsigned char>(*wrong.second), " instead of ",
                    static_cast<unsigned char>(*wrong.first)}));
      }
      checked += sent.size();
      got.remove_prefix(sent.size());
    }
  }

  const Connection conn_;
  const std::size_t index_;
  const std::uint64_t origin_;
  Measurement& all_;
  const std::uint64_t size_;
  Channel<char> under_way_;       // one item for each message not answered
  std::vector<TimePoint> begun_;  // of those, by number
  std::uint64_t sent_ = 0;        // bytes of whole messages
};

/// One connection from its first message to its end.
Task<> load_one(Connection conn, std::size_t index, Measurement& all) {
  Flow flow(std::move(conn), index, all);
  const bool ended = co_await within(all.left() + kPatience, flow.run());
  if (!ended) throw_system(ETIMEDOUT, "wait for the last answers");
}

// ------------------------------------------------------------------- reporting

double microseconds(Duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

std::string number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

/// On a terminal, a line that tells how it goes on.
Task<> tell_progress(const Measurement& all) {
  for (std::uint64_t before = 0;;) {
    co_await violet::sleep(1s);
    const std::uint64_t count = all.times().count();
    std::fprintf(stderr, "\r%s messages/s, p99 %s us \033[K",
                 number(static_cast<double>(count - before), 0).c_str(),
                 number(microseconds(all.times().percentile(99)), 0).c_str());
    before = count;
  }
}

void report(const Measurement& all) {
  const Settings& settings = all.settings();
  const Histogram& times = all.times();
  const double seconds = std::chrono::duration<double>(all.took()).count();
  const double rate =
      seconds > 0 ? static_cast<double>(times.count()) / seconds : 0;
  const double bytes = rate * static_cast<double>(settings.size_bytes);
  const auto us = [](Duration time) { return number(microseconds(time), 1); };
  if (settings.json) {
    return print_line(concat({"{\"connections\": ",
                              settings.connections,
                              ", \"size_bytes\": ",
                              settings.size_bytes,
                              ", \"depth\": ",
                              settings.depth,
                              ", \"rate\": ",
                              settings.rate,
                              ", \"seconds\": ",
                              number(seconds, 3),
                              ", \"messages\": ",
                              times.count(),
                              ", \"messages_per_second\": ",
                              number(rate, 1),
                              ", \"bytes_per_second\": ",
                              number(bytes, 1),
                              ", \"failures\": ",
                              all.failures(),
                              ", \"latency_us\": {\"min\": ",
                              us(times.least()),
                              ", \"p50\": ",
                              us(times.percentile(50)),
                              ", \"p99\": ",
                              us(times.percentile(99)),
                              ", \"p99.9\": ",
                              us(times.percentile(99.9)),
                              ", \"max\": ",
                              us(times.most()),
                              "}}"}));
  }
  print_line(concat({settings.connections, " connections, ",
                     settings.size_bytes, " bytes a message, ", settings.depth,
                     " under way on each, ", number(seconds, 2), " s"}));
  print_line(concat({"messages   ", times.count(), ", ", number(rate, 0),
                     " a second, ", number(bytes / 1e6, 2), " MB/s each way"}));
  print_line(concat(
      {"latency    min ", us(times.least()), ", p50 ", us(times.percentile(50)),
       ", p99 ", us(times.percentile(99)), ", p99.9 ",
       us(times.percentile(99.9)), ", max ", us(times.most()), " us"}));
  print_line(concat({"failures   ", all.failures(), " of ",
                     settings.connections, " connections"}));
}

// -------------------------------------------------------------- the whole run

Task<> stop_early(Measurement& all) {
  co_await stopping();
  all.stop();
}

Task<> measure(Settings settings, Address target) {
  const std::vector<Address> targets(settings.connections, target);
  const auto open = [](Address address) -> Task<Connection> {
    co_return co_await connect(address);
  };
  std::vector<Connection> connections =
      co_await map_limited(256, targets, open);

  Measurement all(settings);
  TaskGroup beside;
  beside.spawn(stop_early, std::ref(all));
  const bool live = ::isatty(2) == 1;
  if (live) beside.spawn(tell_progress, std::cref(all));
  {
    TaskGroup flows;
    flows.on_failure([&](const FailedJob& job) { all.failed(job.error); });
    for (std::size_t i = 0; i < connections.size(); ++i) {
      flows.spawn(load_one, std::move(connections[i]), i, std::ref(all));
    }
    co_await flows.join();
  }
  if (live) std::fprintf(stderr, "\r\033[K");
  report(all);
  if (all.failures() > 0) {
    throw_system(EPROTO, concat({all.failures(), " of ", settings.connections,
                                 " connections failed"}));
  }
}

/// "127.0.0.1:4915", "[::1]:4915", "unix:/path".
Address parse_target(const Args& args, const std::string& target) {
  const auto colon = target.rfind(':');
  const bool unix_path = target.starts_with("unix:");
  std::uint64_t port = 0;
  if (!unix_path &&
      (colon == target.npos ||
       !Args::whole(std::string_view(target).substr(colon + 1), port) ||
       port == 0 || port > 65535)) {
    args.refuse({"'", target, "' is not HOST:PORT"});
  }
  std::string refusal;
  const Address address =
      Address::parse(unix_path ? target : target.substr(0, colon),
                     static_cast<std::uint16_t>(port), refusal);
  if (!refusal.empty()) args.refuse({refusal});
  return address;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  std::string what;
  Args args("load", "measures an echo server, and checks every byte");
  args.positional("echo", "what kind of server it is", what);
  args.positional("HOST:PORT", "where it listens", settings.target);
  args.number("--connections", "clients at a time (1)", settings.connections, 1,
              1'000'000);
  args.size("--size", "bytes of a message (64)", settings.size_bytes, 1,
            std::uint64_t{1} << 30);
  args.number("--depth", "messages under way on each connection (1)",
              settings.depth, 1, 65536);
  args.time("--seconds", "how long (10s)", settings.time);
  args.number("--rate", "messages a second in all, 0: at once (0)",
              settings.rate, 0, 1'000'000'000);
  args.flag("--json", "print the result as JSON", settings.json);
  args.parse(argc, argv);
  if (what != "echo") args.refuse({"'", what, "' is not a kind of load"});
  if (settings.time <= 0s) args.refuse({"--seconds must be more than 0"});
  const Address target = parse_target(args, settings.target);
  return run_program(measure(settings, target));
}
