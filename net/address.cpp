// address.cpp - the texts of addresses.
// SPDX-License-Identifier: MIT
#include "address.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "../runtime/error.hpp"

namespace violet {

namespace {

template <class Name>
Address as_address(const Name& name, std::size_t size = sizeof(Name)) {
  return Address::from(reinterpret_cast<const sockaddr*>(&name),
                       static_cast<unsigned>(size));
}

// What follows returns why it refuses, or null.

const char* parse_unix(std::string_view path, Address& out) noexcept {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty()) return "a path must follow unix:";
  if (path.size() >= sizeof name.sun_path) {
    return sizeof name.sun_path == 108 ? "a unix path has at most 107 bytes"
                                       : "a unix path has at most 103 bytes";
  }
  std::copy(path.begin(), path.end(), name.sun_path);
  std::size_t size = path.size() + 1;
  if (path.front() == '@') {
#ifdef __linux__
    name.sun_path[0] = '\0';
    --size;  // a NUL at its end would belong to the name
#else
    return "only Linux has abstract names; a file may be called unix:./@name";
#endif
  }
  out = as_address(name, offsetof(sockaddr_un, sun_path) + size);
  return nullptr;
}

const char* parse_ipv6(std::string_view host, std::uint16_t port,
                       Address& out) {
  std::string text(host);
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(port);
  if (const auto percent = text.find('%'); percent != std::string::npos) {
    name.sin6_scope_id = ::if_nametoindex(text.c_str() + percent + 1);
    if (name.sin6_scope_id == 0) return "no such network interface";
    text.resize(percent);
  }
  if (::inet_pton(AF_INET6, text.c_str(), &name.sin6_addr) != 1) {
    if (text.find(':') != text.npos && text.find(':') == text.rfind(':')) {
      return "an address and its port are two arguments";
    }
    return "neither an IPv4 nor an IPv6 address, localhost or unix:/path; "
           "other names are not looked up here";
  }
  out = as_address(name);
  return nullptr;
}

const char* parse_any(std::string_view host, std::uint16_t port, Address& out) {
  constexpr std::string_view kUnix = "unix:";
  if (host.find('\0') != host.npos) return "it contains a NUL";
  if (host.substr(0, kUnix.size()) == kUnix) {
    return parse_unix(host.substr(kUnix.size()), out);
  }
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  std::string text(host);
  if (host.empty()) text = "0.0.0.0";
  if (host == "localhost") text = "127.0.0.1";
  if (::inet_pton(AF_INET, text.c_str(), &name.sin_addr) != 1) {
    return parse_ipv6(host, port, out);
  }
  out = as_address(name);
  return nullptr;
}

}  // namespace

[[gnu::cold]] Address Address::parse(std::string_view host,
                                     std::uint16_t port) {
  std::string refusal;
  const Address address = parse(host, port, refusal);
  if (!refusal.empty()) throw_system(EINVAL, refusal);
  return address;
}

[[gnu::cold]] Address Address::parse(std::string_view host, std::uint16_t port,
                                     std::string& refusal) {
  Address address;
  const char* why = parse_any(host, port, address);
  refusal.clear();
  if (why != nullptr) refusal = concat({"address '", host, "' (", why, ")"});
  return address;
}

Address Address::from(const sockaddr* name, unsigned size) noexcept {
  Address address;
  address.size_ = std::min<unsigned>(size, kMaxBytes);
  std::memcpy(address.bytes_, name, address.size_);
#ifdef SIN6_LEN  // RFC 3493, 3.4: names begin with their length there
  address.bytes_[0] = static_cast<unsigned char>(address.size_);
#endif
  return address;
}

int Address::family() const noexcept {
  return size_ < offsetof(sockaddr, sa_data) ? 0 : get()->sa_family;
}

std::uint16_t Address::port() const noexcept {
  // IPv4 and IPv6 keep it in the same place.
  if (family() != AF_INET && family() != AF_INET6) return 0;
  return ntohs(reinterpret_cast<const sockaddr_in*>(bytes_)->sin_port);
}

void Address::set_port(std::uint16_t port) noexcept {
  if (family() != AF_INET && family() != AF_INET6) return;
  reinterpret_cast<sockaddr_in*>(bytes_)->sin_port = htons(port);
}

std::string_view Address::path() const noexcept {
  const std::size_t begin = offsetof(sockaddr_un, sun_path);
  if (family() != AF_UNIX || size_ <= begin) return {};
  const auto* name = reinterpret_cast<const sockaddr_un*>(bytes_);
  return {name->sun_path, ::strnlen(name->sun_path, size_ - begin)};
}

[[gnu::cold]] std::string Address::text() const {
  char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1] = "";
  switch (family()) {
    case AF_INET: {
      const auto* name = reinterpret_cast<const sockaddr_in*>(bytes_);
      ::inet_ntop(AF_INET, &name->sin_addr, text, sizeof text);
      return concat({text, ":", port()});
    }
    case AF_INET6: {
      const auto* name = reinterpret_cast<const sockaddr_in6*>(bytes_);
      ::inet_ntop(AF_INET6, &name->sin6_addr, text, sizeof text);
      char interface[IF_NAMESIZE] = "";
      const bool scoped = name->sin6_scope_id != 0 &&
                          ::if_indextoname(name->sin6_scope_id, interface);
      return concat({"[", text, scoped ? "%" : "", interface, "]:", port()});
    }
    case AF_UNIX: {
#ifdef __linux__
      const auto* name = reinterpret_cast<const sockaddr_un*>(bytes_);
      const std::size_t begin = offsetof(sockaddr_un, sun_path);
      if (size_ > begin && name->sun_path[0] == '\0') {
        const std::string_view rest(name->sun_path, size_ - begin);
        return concat({"unix:@", rest.substr(1)});
      }
#endif
      return concat({"unix:", path()});
    }
    default: return "nowhere";
  }
}

}  // namespace violet
