// right.cpp - all that the others get wrong, done right: this one compiles.
// See: compile_fail_test.cpp.
// SPDX-License-Identifier: MIT
#include <violet.hpp>

violet::Task<> child() {
  co_return;
}
violet::Task<> with_number(int) {
  co_return;
}
violet::Task<> with_view(std::string_view) {
  co_return;
}
violet::Task<> with_span(std::span<char>) {
  co_return;
}

struct Pair {
  std::string first;
  int second;
};
violet::Generator<Pair> pairs() {
  Pair pair{"one", 1};
  co_yield pair;
}

violet::Task<> body() {
  co_await violet::sleep(std::chrono::milliseconds(42));

  violet::Task<> task = child();
  co_await std::move(task);
  violet::Task<> other = child();
  violet::Task<> moved = std::move(other);
  co_await std::move(moved);

  const std::string text = "kept by the job";
  char buffer[16];
  violet::spawn(with_view, text);
  violet::spawn(with_view, violet::borrow(std::string_view(text)));
  violet::spawn(with_span, violet::borrow(std::span<char>(buffer)));
  const auto job = violet::spawn(with_number, 1);
  co_await join(job);

  for (const Pair& pair : pairs()) {
    co_await with_view(pair.first);
  }

  std::string greeting = "hello";
  auto handler = [greeting](violet::Connection conn) -> violet::Task<> {
    co_await conn.sendall(greeting);
  };
  co_await violet::server("127.0.0.1", 0, handler);
  auto listener = violet::Listener("127.0.0.1", 0);
  co_await violet::serve(std::move(listener), handler);
  co_await violet::server(
      "127.0.0.1", 0, [](violet::Connection conn) -> violet::Task<> {
        co_await conn.sendall("a lambda that captures nothing");
      });

  struct Order {
    std::string what;
    int count;
  };
  violet::Channel<Order> channel(1);
  const Order order{"tea", 1};
  co_await channel.send(order);
}
