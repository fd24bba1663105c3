// load.cpp - asks an echo or an HTTP server and measures how it answers.
//
// New here: a job that sends and a job that receives share one connection, and
// a channel between them keeps only so many messages under way.
//
// Every byte that an echo server sends back is compared with what was sent.
// For HTTP see http_load.hpp; for what both have, and for what a rate means,
// measurement.hpp.
// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../net/net.hpp"
#include "../runtime/random.hpp"
#include "args.hpp"
#include "http_load.hpp"
#include "measurement.hpp"

using namespace violet;
using namespace std::chrono_literals;

namespace {

struct Settings : LoadSettings {
  std::uint64_t size_bytes = 64;
  std::size_t depth = 1;
};

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

/// One measurement of an echo server.
class EchoLoad : public Measurement {
 public:
  explicit EchoLoad(const Settings& settings)
      : Measurement(settings), settings_(settings), pattern_(make_pattern()) {}

  const Settings& settings() const { return settings_; }

  /// The stream of a connection from `position` on, at most `most` bytes.
  std::string_view bytes_at(std::uint64_t position, std::uint64_t most) const {
    const auto at = static_cast<std::size_t>(position % kPatternBytes);
    return std::string_view(pattern_).substr(
        at,
        static_cast<std::size_t>(std::min<std::uint64_t>(most, kPatternBytes)));
  }

  /// The place in its stream at which connection `index` begins: each another.
  static std::uint64_t origin_of(std::size_t index) { return index * 7919; }

 private:
  const Settings& settings_;
  std::string pattern_;
};

/// One connection: what has been sent and checked of its stream.
class Flow {
 public:
  Flow(Connection conn, std::size_t index, EchoLoad& all)
      : conn_(std::move(conn)),
        index_(index),
        origin_(EchoLoad::origin_of(index)),
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
      const std::uint64_t number = i * share + index_;
      const TimePoint due = all_.due(number);
      const Duration early = std::min(due - Clock::now(), all_.left());
      if (early > 0ns) co_await within(early, all_.stopped());
      if (all_.over(number, due)) break;
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
  EchoLoad& all_;
  const std::uint64_t size_;
  Channel<char> under_way_;       // one item for each message not answered
  std::vector<TimePoint> begun_;  // of those, by number
  std::uint64_t sent_ = 0;        // bytes of whole messages
};

/// One connection from its first message to its end.
Task<> load_one(Connection conn, std::size_t index, EchoLoad& all) {
  Flow flow(std::move(conn), index, all);
  const bool ended = co_await within(all.patience(), flow.run());
  if (ended) co_return;
  const bool rated = all.settings().rate > 0;
  throw_system(ETIMEDOUT, concat({"wait for the last answers",
                                  rated ? " (is the rate too high?)" : ""}));
}

// ------------------------------------------------------------------- reporting

void report(const EchoLoad& all) {
  const Settings& settings = all.settings();
  const std::uint64_t count = all.times().count();
  const double rate = all.per_second(static_cast<double>(count));
  const double bytes = rate * static_cast<double>(settings.size_bytes);
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
                              number_text(all.seconds(), 3),
                              ", \"messages\": ",
                              count,
                              ", \"messages_per_second\": ",
                              number_text(rate, 1),
                              ", \"bytes_per_second\": ",
                              number_text(bytes, 1),
                              ", \"failures\": ",
                              all.failures(),
                              ", ",
                              latency_json(all.times()),
                              "}"}));
  }
  print_line(
      concat({settings.connections, " connections, ", settings.size_bytes,
              " bytes a message, ", settings.depth, " under way on each, ",
              number_text(all.seconds(), 2), " s"}));
  print_line(
      concat({"messages   ", count, ", ", number_text(rate, 0), " a second, ",
              number_text(bytes / 1e6, 2), " MB/s each way"}));
  print_line(latency_text(all.times()));
  print_line(concat({"failures   ", all.failures(), " of ",
                     settings.connections, " connections"}));
}

// -------------------------------------------------------------- the whole run

Task<> measure_echo(Settings settings, Address target) {
  EchoLoad all(settings);
  {
    const Beside beside(all, "messages");
    const std::vector<Address> targets(settings.connections, target);
    const auto open = [](Address address) -> Task<Connection> {
      co_return co_await connect(address);
    };
    std::vector<Connection> connections =
        co_await map_limited(256, targets, open);
    all.begin();
    TaskGroup flows;
    flows.on_failure(
        [&](const FailedJob& job) { all.failed("a connection", job.error); });
    for (std::size_t i = 0; i < connections.size(); ++i) {
      flows.spawn(load_one, std::move(connections[i]), i, std::ref(all));
    }
    co_await flows.join();
  }
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
  constexpr Duration kNotGiven = -1s;
  Settings settings;
  settings.time = kNotGiven;
  std::string what;
  Args args("load", "measures an echo or HTTP server, and checks its answers");
  args.positional("echo|http", "what kind of server it is", what);
  args.positional("TARGET", "HOST:PORT, or http://HOST:PORT/PATH",
                  settings.target);
  args.number("--connections", "clients at a time (1)", settings.connections, 1,
              1'000'000);
  args.time("--seconds", "how long, if --requests is not given (10s)",
            settings.time);
  args.number("--requests", "how many messages in all, 0: no limit (0)",
              settings.messages, 0, ~std::uint64_t{0});
  args.number("--rate", "messages a second in all, 0: at once (0)",
              settings.rate, 0, 1'000'000'000);
  args.size("--size", "echo: bytes of a message (64)", settings.size_bytes, 1,
            std::uint64_t{1} << 30);
  args.number("--depth", "echo: messages under way on each connection (1)",
              settings.depth, 1, 65536);
  args.flag("--json", "print the result as JSON", settings.json);
  args.parse(argc, argv);
  if (settings.time == kNotGiven) {
    settings.time = settings.messages > 0 ? Duration::max() : Duration(10s);
  }
  if (settings.time <= 0s) args.refuse({"--seconds must be more than 0"});
  if (what == "http") {
    std::string refusal;
    const auto url = http::Url::parse(settings.target, refusal);
    if (!refusal.empty()) args.refuse({refusal});
    return run_program(measure_http(settings, url));
  }
  if (what != "echo") {
    args.refuse({"'", what, "' is not a kind of load: it is echo or http"});
  }
  const Address target = parse_target(args, settings.target);
  return run_program(measure_echo(settings, target));
}
