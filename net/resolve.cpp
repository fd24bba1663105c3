// resolve.cpp - what need not be looked up, and how the rest is.
// SPDX-License-Identifier: MIT
#include "resolve.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

namespace violet {

// --------------------------------------------------------------------- errors

namespace {

class ResolveCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "resolve"; }
  std::string message(int error) const override {
    return ::gai_strerror(error);
  }
  std::error_condition default_error_condition(
      int error) const noexcept override {
    if (error == EAI_AGAIN) return std::errc::resource_unavailable_try_again;
    if (error == EAI_MEMORY) return std::errc::not_enough_memory;
    return std::error_category::default_error_condition(error);
  }
};

}  // namespace

const std::error_category& resolve_category() noexcept {
  static const ResolveCategory category;
  return category;
}

// ----------------------------------------------------------------- looking up

namespace {

/// The system itself.
class SystemNames final : public sys::Names {
 public:
  int look_up(const char* host, int family,
              std::vector<sockaddr_storage>& found) override {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;  // or each comes once for every type
    addrinfo* list = nullptr;
    const int failed = ::getaddrinfo(host, nullptr, &hints, &list);
    if (failed != 0) return failed;
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list,
                                                               ::freeaddrinfo);
    for (; list != nullptr; list = list->ai_next) {
      sockaddr_storage one{};
      std::memcpy(&one, list->ai_addr,
                  std::min<std::size_t>(list->ai_addrlen, sizeof one));
      found.push_back(one);
    }
    return 0;
  }
};

std::error_code code_of(int failed) noexcept {
  if (failed == 0) return {};
  if (failed == EAI_SYSTEM) return {errno, std::system_category()};
  return {failed, resolve_category()};
}

/// What has kept it from being looked up: no thread, or no memory, is left.
std::error_code code_of(const std::exception_ptr& failure) noexcept {
  const auto* error = exception_as<std::system_error>(failure);
  return error != nullptr ? error->code()
                          : std::make_error_code(std::errc::not_enough_memory);
}

Address address_of(const sockaddr_storage& name) noexcept {
  const unsigned size =
      name.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  return Address::from(reinterpret_cast<const sockaddr*>(&name), size);
}

/// Where names are looked up. Never destroyed: a look-up may outlive main().
OffloadPool& pool() {
  static OffloadPool& names = *new OffloadPool(4);
  return names;
}

}  // namespace

internal::Answer internal::look_up(const Question& question) {
  SystemNames system;
  sys::Names& names = question.names ? *question.names : system;
  std::vector<sockaddr_storage> found;
  Answer answer;
  answer.code =
      code_of(names.look_up(question.host.c_str(), question.family, found));
  if (answer.code) return answer;
  for (const sockaddr_storage& one : found) {
    const Address address = address_of(one);
    const auto end = answer.addresses.end();
    if (std::find(answer.addresses.begin(), end, address) == end) {
      answer.addresses.push_back(address);
    }
  }
  if (answer.addresses.empty()) answer.code = code_of(EAI_NONAME);
  return answer;
}

// -------------------------------------------------------------------- the wait

namespace {

/// Returns: why this cannot be the name of a host, or null. See RFC 1035,
/// 2.3.4.
const char* fault_in(std::string_view name) noexcept {
  if (name.empty()) return "a name is missing";
  if (name.find('\0') != name.npos) return "it contains a NUL";
  if (name.back() == '.') name.remove_suffix(1);
  if (name.size() > 253) return "a name has at most 253 bytes";
  for (;;) {
    const std::size_t dot = std::min(name.find('.'), name.size());
    if (dot == 0) return "a part of the name is missing";
    if (dot > 63) return "a part of a name has at most 63 bytes";
    if (dot == name.size()) return nullptr;
    name.remove_prefix(dot + 1);
  }
}

/// RFC 6761, 6.3: "localhost" and all names that end in it.
bool is_localhost(std::string_view name) noexcept {
  constexpr std::string_view kLocal = "localhost";
  if (!name.empty() && name.back() == '.') name.remove_suffix(1);
  if (name.size() < kLocal.size()) return false;
  const std::size_t begin = name.size() - kLocal.size();
  if (begin > 0 && name[begin - 1] != '.') return false;
  const std::string_view last = name.substr(begin);
  return std::equal(kLocal.begin(), kLocal.end(), last.begin(),
                    [](char a, char b) { return a == (b | 0x20); });
}

}  // namespace

struct ResolveEvent::LookUp {
  using Wait = AbandonEvent<internal::Answer (*)(const internal::Question&),
                            internal::Question>;

  explicit LookUp(Wait begun) noexcept : wait(std::move(begun)) {}

  Wait wait;
};

ResolveEvent::ResolveEvent(std::string_view host, std::uint16_t port,
                           ResolveOptions options)
    : host_(host), port_(port), family_(options.family) {
  known_ = know_already();
}

ResolveEvent::ResolveEvent(ResolveEvent&&) noexcept = default;
ResolveEvent::~ResolveEvent() = default;

bool ResolveEvent::know_already() {
  if (is_localhost(host_)) return know({"127.0.0.1", "::1"});
  if (const char* fault = fault_in(host_)) {
    refuse(concat({"'", host_.substr(0, 80), "' (", fault, ")"}));
    return true;
  }
  std::string why;
  Address::parse(host_, port_, why);
  if (why.empty()) return know({host_.c_str()});
  // No name has a colon or a scope.
  const bool is_number = host_.find_first_of(":%[") != host_.npos;
  if (is_number) refuse(std::move(why));
  return is_number;
}

/// Takes what is of the family. Returns: true.
bool ResolveEvent::know(std::initializer_list<const char*> numbers) {
  for (const char* number : numbers) {
    const Address address = Address::parse(number, port_);
    if (family_ != 0 && family_ != address.family()) continue;
    answer_.addresses.push_back(address);
  }
  if (answer_.addresses.empty()) answer_.code = code_of(EAI_NONAME);
  return true;
}

void ResolveEvent::refuse(std::string why) {
  // what() ends at a NUL.
  std::replace(why.begin(), why.end(), '\0', '?');
  refusal_ = concat({"resolve ", why});
  answer_.code = std::make_error_code(std::errc::invalid_argument);
}

bool ResolveEvent::attempt() noexcept {
  if (known_) return true;
  std::exception_ptr failure;
  if (!look_up_) failure = caught([this] { begin(); });
  if (look_up_) {
    if (!attempt_part(look_up_->wait)) return false;
    failure = caught([this] { answer_ = look_up_->wait.result(); });
  }
  if (failure) answer_.code = code_of(failure);
  for (Address& one : answer_.addresses) one.set_port(port_);
  return true;
}

void ResolveEvent::begin() {
  internal::Question question(host_, family_, sys::calls->names());
  if (question.names && question.names->at_once()) {
    answer_ = internal::look_up(question);
  } else {
    look_up_.reset(new LookUp(
        offload(abandon, pool(), &internal::look_up, std::move(question))));
  }
}

void ResolveEvent::undo() noexcept {
  if (look_up_) undo_part(look_up_->wait);
}

std::vector<Address> ResolveEvent::result() {
  if (answer_.code == std::errc::not_enough_memory) throw_out_of_memory();
  if (!refusal_.empty()) throw_error(std::system_error(answer_.code, refusal_));
  if (answer_.code) {
    throw_error(std::system_error(answer_.code, concat({"resolve ", host_})));
  }
  return value();
}

}  // namespace violet
