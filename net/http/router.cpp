// router.cpp - patterns, and what is answered where none fits.
// SPDX-License-Identifier: MIT
#include "router.hpp"

#include <algorithm>
#include <atomic>

namespace violet::http {

// ------------------------------------------------------------------- patterns

std::vector<Router::Part> Router::parse(std::string_view pattern) {
  const auto refuse = [&](const char* why) {
    throw_error(Misuse(concat({"violet: the pattern ", pattern, " ", why})));
  };
  if (pattern.empty() || pattern.front() != '/') refuse("begins with no slash");
  std::vector<Part> parts;
  if (pattern == "/") return parts;
  Pieces pieces(pattern.substr(1), '/');
  std::size_t names = 0;
  for (std::string_view piece; pieces.next(piece);) {
    if (!parts.empty() && parts.back().kind == Kind::kRest) {
      refuse("goes on after a {name*}, which stands for all the rest");
    }
    const bool named =
        piece.size() > 2 && piece.front() == '{' && piece.back() == '}';
    if (!named && piece.find_first_of("{}") != piece.npos) {
      refuse("has a brace that belongs to no {name}");
    }
    Part part{named ? Kind::kName : Kind::kWord, std::string(piece)};
    if (named) {
      piece = piece.substr(1, piece.size() - 2);
      if (piece.back() == '*') part.kind = Kind::kRest;
      part.text = piece.substr(0, piece.find('*'));
      if (++names > Parameters::kMost) refuse("has more than eight names");
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

/// True for a pattern that is compared earlier than another.
bool Router::before(const std::vector<Part>& a,
                    const std::vector<Part>& b) noexcept {
  return std::lexicographical_compare(
      a.begin(), a.end(), b.begin(), b.end(),
      [](const Part& x, const Part& y) { return x.kind < y.kind; });
}

bool Router::same(const std::vector<Part>& a,
                  const std::vector<Part>& b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Part& x, const Part& y) {
                      return x.kind == y.kind && x.text == y.text;
                    });
}

void Router::keep(std::string_view method, std::string_view pattern,
                  std::unique_ptr<internal::Call> call) {
  static std::atomic<std::uint64_t> editions = 0;
  if (!is_token(method)) {
    throw_error(Misuse(concat({"violet: '", method, "' is no method"})));
  }
  std::vector<Part> parts = parse(pattern);
  edition_ = ++editions;
  auto route =
      std::find_if(routes_.begin(), routes_.end(),
                   [&](const Route& r) { return same(r.parts, parts); });
  if (route == routes_.end()) {
    route = std::find_if(routes_.begin(), routes_.end(), [&](const Route& r) {
      return before(parts, r.parts);
    });
    route = routes_.emplace(route);
    route->parts = std::move(parts);
  }
  if (find(*route, method) != nullptr) {
    throw_error(Misuse(concat({"violet: there is a handler for ", method, " ",
                               pattern, " already"})));
  }
  Method added;
  added.name = method;
  added.call = std::move(call);
  route->methods.push_back(std::move(added));
}

/// Compares a decoded path with a pattern, and takes what its names stand for.
bool Router::fits(const Route& route, std::string_view path,
                  Parameters& parameters) noexcept {
  parameters.count = 0;
  if (path.empty()) return false;
  path.remove_prefix(1);
  bool more = !path.empty();  // "/" has no parts, "/a/" has two
  for (const Part& part : route.parts) {
    const bool rest = part.kind == Kind::kRest;
    if (!more && !rest) return false;
    const auto end = rest ? path.npos : path.find('/');
    const std::string_view piece = path.substr(0, end);
    more = end != path.npos;
    path = more ? path.substr(end + 1) : std::string_view();
    if (part.kind == Kind::kWord) {
      if (piece != part.text) return false;
      continue;
    }
    if (piece.empty() && !rest) return false;
    parameters.names[parameters.count] = part.text;
    parameters.values[parameters.count++] = piece;
  }
  return !more;
}

const internal::Call* Router::find(const Route& route,
                                   std::string_view method) noexcept {
  for (const Method& known : route.methods) {
    if (known.name == method) return known.call.get();
  }
  return nullptr;
}

// ------------------------------------------------------------------ answering

/// Returns: null if no handler fits.
const internal::Call* Router::choose(Exchange& exchange) const noexcept {
  const std::string_view method = exchange.request().method;
  for (const Route& route : routes_) {
    if (!fits(route, exchange.path(), exchange.parameters_)) continue;
    const internal::Call* call = find(route, method);
    if (call == nullptr && method == "HEAD") call = find(route, "GET");
    if (call != nullptr) return call;
  }
  return nullptr;
}

std::optional<Task<>> Router::answer(Exchange& exchange) const {
  // What is asked again has its answer from whom it had it before.
  if (exchange.routes_ != edition_ || edition_ == 0) {
    exchange.call_ = choose(exchange);
    exchange.routes_ = edition_;
  }
  if (exchange.call_ == nullptr) return refuse(exchange);
  return (*exchange.call_)(exchange);
}

namespace {

void add_method(std::string& list, std::string_view method) {
  if (has_word(list, method)) return;
  if (!list.empty()) list += ", ";
  list += method;
}

bool is_known(std::string_view method) noexcept {
  return has_word("GET,HEAD,POST,PUT,DELETE,PATCH,OPTIONS,TRACE", method);
}

}  // namespace

/// Where no handler answers. OPTIONS * asks about the server as a whole.
Task<> Router::refuse(Exchange& exchange) const {
  const RequestHead& request = exchange.request();
  const bool of_all = request.parts.form == TargetForm::kAsterisk;
  std::string allowed;
  Parameters ignored;
  for (const Route& route : routes_) {
    if (!of_all && !fits(route, exchange.path(), ignored)) continue;
    for (const Method& known : route.methods) {
      add_method(allowed, known.name);
      if (known.name == "GET") add_method(allowed, "HEAD");
    }
  }
  // An extension or a CONNECT is nothing that a resource could allow.
  const bool known = is_known(request.method);
  if (!known && !has_word(allowed, request.method)) {
    co_await exchange.refuse(501);
    co_return;
  }
  if (allowed.empty() && !of_all) {
    co_await exchange.refuse(404);
    co_return;
  }
  add_method(allowed, "OPTIONS");
  exchange.field("Allow", allowed);
  if (request.method == "OPTIONS") {
    std::error_code unheard;
    co_await exchange.send(204, {}, {}, unheard);
  } else {
    co_await exchange.refuse(405);
  }
}

}  // namespace violet::http
