// resolve.hpp - the addresses that a name stands for.
//
// The idea: the C library knows how this machine looks up names, from
// /etc/hosts to DNS, and has one call for it, getaddrinfo(3), which blocks for
// seconds if a server is silent. So it is called on threads of a pool that do
// nothing else: however slow names are, files and connections go on. Nobody
// can stop that call. A job that is killed, or has waited long enough, leaves
// it behind.
//
// Numbers are answered at once, and so is "localhost", which means this
// machine whatever DNS says (RFC 6761, 6.3): 127.0.0.1 and then ::1.
//
// Refused: a cache (the system may have one), joining equal look-ups, service
// names, addresses while others are still looked up (RFC 8305, 3).
//
// Built on: address, runtime/offload. See: getaddrinfo(3), RFC 6724.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../runtime/offload.hpp"
#include "../runtime/owned.hpp"
#include "address.hpp"

namespace violet {

/// The error numbers of getaddrinfo(3), EAI_NONAME and so on, and their texts.
/// EAI_AGAIN means that the same may work later, and compares equal to
/// std::errc::resource_unavailable_try_again.
const std::error_category& resolve_category() noexcept;

/// What is asked for.
struct ResolveOptions {
  ResolveOptions() noexcept {}

  /// AF_INET or AF_INET6; 0 for both.
  int family = 0;
};

namespace internal {

/// What a look-up needs to know; it owns all of it.
class Question {
 public:
  Question(std::string_view name, int of, std::shared_ptr<sys::Names> whom)
      : host(name), family(of), names(std::move(whom)) {}

  std::string host;
  int family;
  std::shared_ptr<sys::Names> names;  // null: the system
};

/// What it brings.
class Answer {
 public:
  Answer() noexcept {}

  std::vector<Address> addresses;  // without a port
  std::error_code code;
};

/// Blocks for as long as the answer takes. Throws: std::bad_alloc.
Answer look_up(const Question& question);

}  // namespace internal

class [[nodiscard]] ResolveEvent : public Event {
 public:
  ResolveEvent(std::string_view host, std::uint16_t port,
               ResolveOptions options);
  ResolveEvent(ResolveEvent&&) noexcept;
  ~ResolveEvent();

  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override {
    out.text = concat({"resolve ", host_});
  }
  std::error_code code() const noexcept { return answer_.code; }
  std::vector<Address> value() noexcept {
    return std::exchange(answer_.addresses, {});
  }
  std::vector<Address> result();

 private:
  struct LookUp;

  bool know_already();
  bool know(std::initializer_list<const char*> numbers);
  void refuse(std::string why);
  void begin();

  std::string host_;
  std::uint16_t port_;
  int family_;
  bool known_ = false;   // answer_ or refusal_ was there from the start
  std::string refusal_;  // why it cannot be a host
  internal::Answer answer_;
  Owned<LookUp> look_up_;  // by the system, on a thread
};

/// Looks up the addresses of a host.
/// Suspends: until the system has answered; not for numbers and "localhost".
/// Returns: at least one address, with `port`, in the order in which they
/// should be tried (RFC 6724).
/// Throws: std::system_error "resolve nosuch.invalid: Name or service not
/// known", of resolve_category(); or of the system's if that is at fault.
/// std::errc::invalid_argument for what cannot be a name.
/// Kill: at once; what the system is about goes on without anyone.
/// Cost: for a name one of four threads, and a few allocations.
inline ResolveEvent resolve(std::string_view host, std::uint16_t port = 0,
                            ResolveOptions options = ResolveOptions()) {
  return ResolveEvent(host, port, options);
}
inline Coded<ResolveEvent> resolve(std::string_view host, std::uint16_t port,
                                   ResolveOptions options,
                                   std::error_code& code) {
  return Coded<ResolveEvent>(ResolveEvent(host, port, options), code);
}
inline Coded<ResolveEvent> resolve(std::string_view host, std::uint16_t port,
                                   std::error_code& code) {
  return resolve(host, port, ResolveOptions(), code);
}

}  // namespace violet
