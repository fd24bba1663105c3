// router.hpp - which handler answers which request.
//
//     http::Router router;
//     router.get("/", front);
//     router.get("/hello/{name}", hello);     // one part of a path, not empty
//     router.put("/files/{path*}", store);    // all the rest of it
//
//     void front(http::Exchange& x) { x.reply(200, "text/plain", "Hello\n"); }
//     Task<> hello(http::Exchange& x);        // may wait before it answers
//
// The path is decoded before it is compared, so there is one way to write each.
// Of several patterns that fit, the one whose first difference is a word before
// a {name}, and that before a {name*}, counts; in what order they were given
// does not. A path that ends in a slash is another than one without.
//
// By itself a router answers HEAD where there is a GET, by the handler of that;
// OPTIONS, with what is allowed; 404 where no pattern fits; 405 with Allow
// where the method is not among them, 501 for a method that nobody knows.
//
// Built on: exchange. See: RFC 9110, section 9.
// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "exchange.hpp"

namespace violet::http {

namespace internal {

/// A handler, whatever its type.
class Call {
 public:
  virtual ~Call() = default;

  /// Returns: nothing if a plain function has done all there is to do.
  virtual std::optional<Task<>> operator()(Exchange& exchange) const = 0;
};

template <class Handler>
class CallOf final : public Call {
 public:
  explicit CallOf(Handler handler) : handler_(std::move(handler)) {}
  std::optional<Task<>> operator()(Exchange& exchange) const override {
    using Result = std::invoke_result_t<const Handler&, Exchange&>;
    if constexpr (std::is_void_v<Result>) {
      handler_(exchange);
      return std::nullopt;
    } else {
      return handler_(exchange);
    }
  }

 private:
  Handler handler_;
};

template <class Result>
concept TaskOrNothing =
    std::same_as<Result, Task<>> || std::same_as<Result, void>;

}  // namespace internal

/// What answers an exchange: a function, or an object with a const operator(),
/// so that several loops may share it. Without anything to wait for, it may be
/// a plain function, which calls Exchange::reply().
template <class F>
concept Handler = requires(const std::decay_t<F>& f, Exchange& exchange) {
  { f(exchange) } -> internal::TaskOrNothing;
};

class Router {
 public:
  Router() noexcept {}
  Router(Router&& other) noexcept { swap(other); }
  Router& operator=(Router&& other) noexcept {
    Router(std::move(other)).swap(*this);
    return *this;
  }
  void swap(Router& other) noexcept {
    routes_.swap(other.routes_);
    std::swap(edition_, other.edition_);
  }

  template <class F>
  Router& get(std::string_view pattern, F&& handler) {
    return add("GET", pattern, std::forward<F>(handler));
  }
  template <class F>
  Router& put(std::string_view pattern, F&& handler) {
    return add("PUT", pattern, std::forward<F>(handler));
  }
  template <class F>
  Router& post(std::string_view pattern, F&& handler) {
    return add("POST", pattern, std::forward<F>(handler));
  }

  /// For any method; of HEAD and OPTIONS, too. Lifetime: the handler is moved
  /// or copied here, and must live as long as any exchange. Throws: Misuse for
  /// a pattern that is none, or that has a handler for that method already.
  template <class F>
  Router& add(std::string_view method, std::string_view pattern, F&& handler) {
    constexpr bool kAnswers = Handler<F>;  // no notes on why not
    static_assert(kAnswers,
                  "violet: a handler takes an http::Exchange&, returns Task<> "
                  "or void, and is const if it is an object (not mutable)");
    if constexpr (kAnswers) {
      using Held = internal::CallOf<std::decay_t<F>>;
      keep(method, pattern, std::make_unique<Held>(std::forward<F>(handler)));
    }
    return *this;
  }

  /// Has the handler answer a request. Throws: as a plain function does, or
  /// what makes a task. Returns: what is still to be done, if anything.
  /// Cost: the path is compared with one pattern after the other.
  std::optional<Task<>> answer(Exchange& exchange) const;

 private:
  enum class Kind : std::uint8_t { kWord, kName, kRest };  // the first is best

  struct Part {
    Kind kind;
    std::string text;  // the word or the name
  };
  struct Method {
    std::string name;
    std::unique_ptr<internal::Call> call;
  };
  struct Route {
    std::vector<Part> parts;
    std::vector<Method> methods;
  };

  void keep(std::string_view method, std::string_view pattern,
            std::unique_ptr<internal::Call> call);
  static std::vector<Part> parse(std::string_view pattern);
  static bool before(const std::vector<Part>& a,
                     const std::vector<Part>& b) noexcept;
  static bool same(const std::vector<Part>& a,
                   const std::vector<Part>& b) noexcept;
  static bool fits(const Route& route, std::string_view path,
                   Parameters& parameters) noexcept;
  static const internal::Call* find(const Route& route,
                                    std::string_view method) noexcept;
  const internal::Call* choose(Exchange& exchange) const noexcept;
  Task<> refuse(Exchange& exchange) const;

  std::vector<Route> routes_;  // the best that may fit first
  std::uint64_t edition_ = 0;  // of these: no others have the same; 0: none
};

}  // namespace violet::http
