// server_args.hpp - the options that all servers in this folder have.
// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "../net/net.hpp"
#include "args.hpp"

/// Where a server listens, how it ends, and how much it says.
class ServerArgs {
 public:
  explicit ServerArgs(std::uint16_t port) : port_(port) {}

  /// `--host` and `--port`; `port_help` names the default. Lifetime: a literal.
  void add_where(Args& args, const char* port_help) {
    args.text("--host", "ADDRESS", "where to listen (127.0.0.1)", host_);
    args.number("--port", port_help, port_, 0, 65535);
  }

  /// `--grace`, `--quiet` and `--verbose`.
  void add_manners(Args& args,
                   const char* verbose_help = "log clients that vanish, too") {
    args.time("--grace", "how long clients may finish at the end (5s)", grace_);
    args.flag("--quiet", "log errors only", quiet_);
    args.flag("--verbose", verbose_help, verbose_);
  }

  /// Ends the program if that is no address; see Args::refuse.
  violet::Address address(const Args& args) const {
    std::string refusal;
    const auto address = violet::Address::parse(host_, port_, refusal);
    // To parse() it is every address: not what an unset variable asks for.
    if (host_.empty()) refusal = "an address is needed";
    if (!refusal.empty()) args.refuse({"--host: ", refusal});
    return address;
  }

  violet::ServerOptions options() const {
    violet::ServerOptions options;
    options.grace = grace_;
    options.log = quiet_     ? violet::Log::kErrors
                  : verbose_ ? violet::Log::kVerbose
                             : violet::Log::kNormal;
    return options;
  }

  const std::string& host() const { return host_; }
  std::uint16_t port() const { return port_; }
  bool quiet() const { return quiet_; }
  bool verbose() const { return verbose_; }

 private:
  std::string host_ = "127.0.0.1";
  std::uint16_t port_;
  violet::Duration grace_ = std::chrono::seconds(5);
  bool quiet_ = false;
  bool verbose_ = false;
};
