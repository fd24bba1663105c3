// http_load.hpp - the same request again and again, on many connections.
//
// One job for each connection, and nothing in its loop but one send, the
// receives that the reply takes, and a look at the clock. The reply is read
// as strictly as any: a body that is cut short, or a byte after its end, is a
// failure. Whatever fails is counted, and its connection made anew.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../net/http/http.hpp"
#include "measurement.hpp"

/// What all connections of one measurement have seen.
class HttpLoad {
 public:
  HttpLoad(const LoadSettings& how, const violet::http::Url& where)
      : settings(how),
        url(where),
        request(violet::concat({"GET ", where.target(), " HTTP/1.1\r\nHost: ",
                                where.authority(), "\r\n\r\n"})),
        measured(how) {}

  /// A reply has come whole.
  void answered(int status, std::uint64_t body_bytes) {
    ++statuses[static_cast<std::size_t>(status) % statuses.size()];
    least_body = std::min(least_body, body_bytes);
    most_body = std::max(most_body, body_bytes);
  }

  const LoadSettings& settings;
  const violet::http::Url url;
  const std::string request;
  Measurement measured;
  std::array<std::uint64_t, 1000> statuses{};  // by number
  std::uint64_t least_body = ~std::uint64_t{0};
  std::uint64_t most_body = 0;
  std::uint64_t bytes = 0;       // received
  std::uint64_t reconnects = 0;  // after a failure, or as the server wants it
};

/// One connection: its requests, one after the other.
class HttpFlow {
 public:
  HttpFlow(violet::Connection conn, std::size_t index, HttpLoad& all)
      : conn_(std::move(conn)), number_(index), all_(all) {}

  violet::Task<> run() {
    while (true) {
      std::exception_ptr error;
      try {
        co_await ask_all();
        co_return;
      } catch (...) {
        error = std::current_exception();
      }
      all_.measured.failed("a request", error);
      conn_.close();
      number_ += all_.settings.connections;
      co_await violet::sleep(std::chrono::milliseconds(10));
    }
  }

 private:
  using Framing = violet::http::BodyKind;

  /// Throws: whatever goes wrong with a request.
  violet::Task<> ask_all() {
    Measurement& measured = all_.measured;
    const bool paced = all_.settings.rate > 0;
    auto now = violet::Clock::now();
    for (;; number_ += all_.settings.connections) {
      auto begun = now;
      if (paced) {
        begun = measured.due(number_);
        const auto early = std::min(begun - now, measured.left());
        if (early > violet::Duration::zero()) {
          co_await violet::within(early, measured.stopped());
        }
      }
      if (measured.over(number_, begun)) co_return;
      if (!conn_) {
        conn_ = co_await violet::connect(all_.url.host(), all_.url.port());
        ++all_.reconnects;
      }
      co_await conn_.sendall(all_.request);
      begin_reply();
      while (!done_) {
        const violet::Chunk data = co_await conn_.recv();
        take(data.view());
      }
      now = violet::Clock::now();
      measured.answered(begun, now);
      all_.answered(parser_.head().status, body_bytes_);
      if (ended_ || !parser_.head().keeps_alive) conn_.close();
    }
  }

  void begin_reply() {
    parser_.next();
    body_.reset();
    body_bytes_ = left_ = 0;
    in_body_ = done_ = ended_ = false;
  }

  /// Takes what has come; nothing is the end of the stream.
  /// Throws: std::system_error for what is no reply, or too much.
  void take(std::string_view bytes) {
    if (bytes.empty()) return end();
    all_.bytes += bytes.size();
    while (!in_body_ && !bytes.empty()) {
      bytes.remove_prefix(parser_.feed(bytes));
      check(parser_.fault());
      if (parser_.done()) begin_body();
    }
    if (!in_body_) return;
    if (body_) {
      take_framed(bytes);
    } else {
      const auto size = static_cast<std::size_t>(
          std::min<std::uint64_t>(left_, bytes.size()));
      left_ -= size;
      body_bytes_ += size;
      bytes.remove_prefix(size);
      done_ = left_ == 0;
    }
    if (!bytes.empty()) {
      violet::throw_system(
          EPROTO,
          violet::concat({bytes.size(), " bytes after the end of a reply"}));
    }
  }

  void take_framed(std::string_view& bytes) {
    while (!bytes.empty() && !body_->done()) {
      body_bytes_ += body_->next(bytes).size();
      check(body_->fault());
    }
    done_ = body_->done();
  }

  void begin_body() {
    if (parser_.head().status == 101) {
      violet::throw_error(std::system_error(
          violet::http::ClientError::kSwitched, "read a reply"));
    }
    if (parser_.head().status < 200) return parser_.next();  // not the last
    const auto framing = violet::http::body_of(parser_.head(), "GET");
    in_body_ = true;
    left_ = framing.length;
    if (framing.kind != Framing::kLength && framing.kind != Framing::kNone) {
      body_.emplace(framing);
    }
    done_ = !body_ && left_ == 0;
  }

  void end() {
    using violet::http::Fault;
    ended_ = true;
    if (body_) check(body_->end());
    done_ = body_ && body_->done();
    if (!done_ && !parser_.idle()) check(Fault::kCutShort);
    if (!done_) violet::throw_system(EPROTO, "the connection ended, no reply");
  }

  static void check(violet::http::Fault fault) {
    if (fault == violet::http::Fault::kNone) return;
    violet::throw_error(
        std::system_error(make_error_code(fault), "read a reply"));
  }

  violet::Connection conn_;
  std::uint64_t number_;  // of the request, among those of all connections
  HttpLoad& all_;

  // Of the reply that is being read.
  violet::http::ResponseParser parser_;
  std::optional<violet::http::BodyDecoder> body_;  // unless it has a length
  std::uint64_t left_ = 0;                         // if it has
  std::uint64_t body_bytes_ = 0;
  bool in_body_ = false;
  bool done_ = false;
  bool ended_ = false;  // by the end of the connection
};

inline violet::Task<> load_one(violet::Connection conn, std::size_t index,
                               HttpLoad& all) {
  HttpFlow flow(std::move(conn), index, all);
  const bool ended =
      co_await violet::within(all.measured.patience(), flow.run());
  if (!ended) violet::throw_system(ETIMEDOUT, "wait for the last reply");
}

// ------------------------------------------------------------------- reporting

/// `each(status, count)` for those that came.
template <class Each>
void each_status(const HttpLoad& all, Each each) {
  for (std::size_t status = 0; status < all.statuses.size(); ++status) {
    if (all.statuses[status] > 0) each(status, all.statuses[status]);
  }
}

inline void report_json(const HttpLoad& all) {
  std::string statuses;
  each_status(all, [&](std::size_t status, std::uint64_t count) {
    statuses += violet::concat(
        {statuses.empty() ? "" : ", ", "\"", status, "\": ", count});
  });
  const std::uint64_t count = all.measured.times().count();
  violet::print_line(violet::concat(
      {"{\"connections\": ",
       all.settings.connections,
       ", \"rate\": ",
       all.settings.rate,
       ", \"seconds\": ",
       number_text(all.measured.seconds(), 3),
       ", \"requests\": ",
       count,
       ", \"requests_per_second\": ",
       number_text(all.measured.per_second(static_cast<double>(count)), 1),
       ", \"bytes_per_second\": ",
       number_text(all.measured.per_second(static_cast<double>(all.bytes)), 1),
       ", \"bytes\": ",
       all.bytes,
       ", \"statuses\": {",
       statuses,
       "}, \"body_bytes\": {\"min\": ",
       count > 0 ? all.least_body : 0,
       ", \"max\": ",
       all.most_body,
       "}, \"failures\": ",
       all.measured.failures(),
       ", \"reconnects\": ",
       all.reconnects,
       ", ",
       latency_json(all.measured.times()),
       "}"}));
}

inline void report(const HttpLoad& all) {
  using violet::concat;
  if (all.settings.json) return report_json(all);
  const Measurement& measured = all.measured;
  const std::uint64_t count = measured.times().count();
  const auto rate = [&](double what, int digits) {
    return number_text(measured.per_second(what), digits);
  };
  std::string statuses;
  each_status(all, [&](std::size_t status, std::uint64_t of_it) {
    statuses += concat({statuses.empty() ? "" : ", ", of_it, " of ", status});
  });
  violet::print_line(
      concat({all.settings.connections, " connections, GET ", all.url.text(),
              ", ", number_text(measured.seconds(), 2), " s"}));
  violet::print_line(
      concat({"requests   ", count, ", ", rate(static_cast<double>(count), 0),
              " a second, ", rate(static_cast<double>(all.bytes) / 1e6, 2),
              " MB/s received"}));
  violet::print_line(latency_text(measured.times()));
  violet::print_line(
      concat({"statuses   ", statuses.empty() ? "none" : statuses}));
  if (count > 0) {
    const bool same = all.least_body == all.most_body;
    violet::print_line(
        same ? concat({"bodies     ", all.most_body, " bytes each"})
             : concat({"bodies     from ", all.least_body, " to ",
                       all.most_body, " bytes"}));
  }
  violet::print_line(concat({"failures   ", measured.failures(), " requests, ",
                             all.reconnects, " connections made again"}));
}

// -------------------------------------------------------------- the whole run

inline violet::Task<> measure_http(LoadSettings settings,
                                   violet::http::Url url) {
  HttpLoad all(settings, url);
  {
    const Beside beside(all.measured, "requests");
    const std::vector<const violet::http::Url*> targets(settings.connections,
                                                        &url);
    const auto open =
        [](const violet::http::Url* to) -> violet::Task<violet::Connection> {
      co_return co_await violet::connect(to->host(), to->port());
    };
    std::vector<violet::Connection> connections =
        co_await violet::map_limited(256, targets, open);
    all.measured.begin();
    violet::TaskGroup flows;
    flows.on_failure([&](const violet::FailedJob& job) {
      all.measured.failed("a request", job.error);
    });
    for (std::size_t i = 0; i < connections.size(); ++i) {
      flows.spawn(load_one, std::move(connections[i]), i, std::ref(all));
    }
    co_await flows.join();
  }
  report(all);
  if (all.measured.failures() > 0) {
    violet::throw_system(
        EPROTO,
        violet::concat({all.measured.failures(), " of ",
                        all.measured.failures() + all.measured.times().count(),
                        " requests failed"}));
  }
}
