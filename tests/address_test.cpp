// address_test.cpp - where a socket is, as text and back.
// SPDX-License-Identifier: MIT
#include "../net/address.hpp"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <system_error>

#include "catch.hpp"

using namespace violet;

namespace {

/// What parse() says of a host that it refuses.
std::string refusal(std::string_view host) {
  try {
    return "accepted as " + Address::parse(host, 1).text();
  } catch (const std::system_error& e) {
    CHECK(e.code() == std::errc::invalid_argument);
    return e.what();
  }
}

/// The address that its own text names, host and port apart.
Address parsed_again(const Address& address) {
  const std::string text = address.text();
  if (address.family() == AF_UNIX) return Address::parse(text);
  const auto colon = text.rfind(':');
  const int port = std::stoi(text.substr(colon + 1));
  return Address::parse(text.substr(0, colon),
                        static_cast<std::uint16_t>(port));
}

std::string first_interface() {
  char name[IF_NAMESIZE] = "";
  ::if_indextoname(1, name);
  return name;
}

constexpr char kNeither[] =
    "neither an IPv4 nor an IPv6 address, localhost or unix:/path; other names "
    "are not looked up here";

}  // namespace

TEST_CASE("address: none at all prints as nowhere", "[address]") {
  const Address none;
  CHECK(none.text() == "nowhere");
  CHECK(none.family() == 0);
  CHECK(none.port() == 0);
  CHECK(none.size() == 0);
  CHECK(none == Address());
}

TEST_CASE("address: an IPv4 address prints as it is written", "[address]") {
  const Address address = Address::parse("127.0.0.1", 4915);
  CHECK(address.text() == "127.0.0.1:4915");
  CHECK(address.family() == AF_INET);
  CHECK(address.port() == 4915);
  CHECK(address.size() == sizeof(sockaddr_in));
  CHECK(parsed_again(address) == address);
  CHECK(Address::parse("255.255.255.255", 65535).text() ==
        "255.255.255.255:65535");
  CHECK(Address::parse("0.0.0.0").text() == "0.0.0.0:0");
}

TEST_CASE("address: an IPv6 address prints in brackets", "[address]") {
  const Address address = Address::parse("::1", 80);
  CHECK(address.text() == "[::1]:80");
  CHECK(address.family() == AF_INET6);
  CHECK(address.port() == 80);
  CHECK(address.size() == sizeof(sockaddr_in6));
  CHECK(parsed_again(address) == address);
  CHECK(Address::parse("[::1]", 80) == address);
  CHECK(Address::parse("2001:DB8:0:0::7", 1).text() == "[2001:db8::7]:1");
  CHECK(Address::parse("::").text() == "[::]:0");
  CHECK(Address::parse("::ffff:10.0.0.1", 2).text() == "[::ffff:10.0.0.1]:2");
}

TEST_CASE("address: an IPv6 scope is kept by name", "[address]") {
  const std::string interface = first_interface();
  if (interface.empty()) return;
  const Address address = Address::parse("fe80::1%" + interface, 7);
  CHECK(address.text() == "[fe80::1%" + interface + "]:7");
  CHECK(parsed_again(address) == address);
  CHECK(Address::parse("[fe80::1%" + interface + "]", 7) == address);
  CHECK_FALSE(Address::parse("fe80::1", 7) == address);
  const auto* name = reinterpret_cast<const sockaddr_in6*>(address.get());
  CHECK(name->sin6_scope_id == 1);
}

TEST_CASE("address: localhost and the empty host have numbers", "[address]") {
  CHECK(Address::parse("localhost", 9) == Address::parse("127.0.0.1", 9));
  CHECK(Address::parse("", 9) == Address::parse("0.0.0.0", 9));
}

TEST_CASE("address: a unix path prints as it is written", "[address]") {
  const Address address = Address::parse("unix:/tmp/a socket");
  CHECK(address.text() == "unix:/tmp/a socket");
  CHECK(address.family() == AF_UNIX);
  CHECK(address.port() == 0);
  CHECK(parsed_again(address) == address);
  CHECK(Address::parse("unix:relative").text() == "unix:relative");
  // The port has no meaning there.
  CHECK(Address::parse("unix:/tmp/a socket", 80) == address);
}

TEST_CASE("address: a unix path has at most 107 bytes", "[address]") {
  const std::string longest = "unix:/" + std::string(106, 'p');
  CHECK(Address::parse(longest).text() == longest);
  CHECK(parsed_again(Address::parse(longest)) == Address::parse(longest));
  CHECK(refusal(longest + 'p') ==
        "address '" + longest +
            "p' (a unix path has at most 107 bytes): Invalid argument");
  CHECK(refusal("unix:") ==
        "address 'unix:' (a path must follow unix:): Invalid argument");
}

TEST_CASE("address: a unix address may be a name that is no file",
          "[address]") {
#ifdef __linux__
  const Address name = Address::parse("unix:@a name");
  CHECK(name.text() == "unix:@a name");
  CHECK(name.path().empty());
  CHECK(parsed_again(name) == name);
  CHECK_FALSE(name == Address::parse("unix:@a nam"));
#else
  CHECK(refusal("unix:@a name").find("only Linux") != std::string::npos);
#endif
  const Address file = Address::parse("unix:./@a name");
  CHECK(file.text() == "unix:./@a name");
  CHECK(file.path() == "./@a name");
  CHECK(Address::parse("127.0.0.1", 1).path().empty());
}

TEST_CASE("address: what is no number is refused by name", "[address]") {
  for (const std::string host :
       {"example.org", "256.0.0.1", "1.2.3", "1.2.3.4.5", "::1::", "[::1",
        "::1]", "[]", "[", " 127.0.0.1", "127.0.0.1 ", "LOCALHOST",
        "[127.0.0.1]", "12345::1", "/tmp/socket"}) {
    INFO(host);
    CHECK(refusal(host) ==
          "address '" + host + "' (" + kNeither + "): Invalid argument");
  }
  CHECK(refusal("127.0.0.1:80") ==
        "address '127.0.0.1:80' (an address and its port are two arguments): "
        "Invalid argument");
}

TEST_CASE("address: a scope must be an interface", "[address]") {
  for (const std::string host : {"fe80::1%nosuch0", "fe80::1%", "[::1%nosuch]"})
    CHECK(refusal(host) == "address '" + host +
                               "' (no such network interface): Invalid "
                               "argument");
}

TEST_CASE("address: a NUL ends no host early", "[address]") {
  using namespace std::string_view_literals;
  CHECK(refusal("127.0.0.1\0.evil.org"sv).find("accepted") ==
        std::string::npos);
  CHECK(refusal("::1\0evil"sv).find("accepted") == std::string::npos);
  CHECK(refusal("unix:/tmp/a\0b"sv).find("accepted") == std::string::npos);
}

TEST_CASE("address: the port can be replaced", "[address]") {
  Address four = Address::parse("10.1.2.3", 1);
  four.set_port(65535);
  CHECK(four.text() == "10.1.2.3:65535");
  Address six = Address::parse("::1", 1);
  six.set_port(0);
  CHECK(six.text() == "[::1]:0");
  Address path = Address::parse("unix:/p");
  path.set_port(5);
  CHECK(path == Address::parse("unix:/p"));
  Address none;
  none.set_port(5);
  CHECK(none == Address());
}

TEST_CASE("address: equal means equal in every byte", "[address]") {
  CHECK(Address::parse("10.0.0.1", 1) == Address::parse("10.0.0.1", 1));
  CHECK_FALSE(Address::parse("10.0.0.1", 1) == Address::parse("10.0.0.1", 2));
  CHECK_FALSE(Address::parse("10.0.0.1", 1) == Address::parse("10.0.0.2", 1));
  CHECK_FALSE(Address::parse("::", 1) == Address::parse("", 1));
  CHECK_FALSE(Address::parse("unix:a") == Address::parse("unix:ab"));
}

TEST_CASE("address: it comes from what the kernel filled in", "[address]") {
  const Address parsed = Address::parse("127.0.0.1", 4915);
  CHECK(Address::from(parsed.get(), parsed.size()) == parsed);

  sockaddr_storage storage{};
  storage.ss_family = AF_UNIX;
  const auto* name = reinterpret_cast<const sockaddr*>(&storage);
  // A unix socket without a name: only the family is there.
  CHECK(Address::from(name, sizeof(sa_family_t)).text() == "unix:");
  // Nothing at all, or more than there is room for.
  CHECK(Address::from(name, 0).text() == "nowhere");
  CHECK(Address::from(name, sizeof storage).size() <= 112);
}
