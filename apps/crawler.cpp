// crawler.cpp - fetches the same pages one by one, with threads and with jobs.
//
// New here: lines, and calls that block. HTTP/1.0 is lines and then a body, so
// readline() and read_all() make a client and a server of it in a few lines.
// Code that blocks goes to a thread with offload(), and the loop goes on.
// Such a thread cannot be stopped, so offload(abandon) leaves it behind where
// Ctrl-C comes. The three ways do the same work, and what is printed was
// measured.
// SPDX-License-Identifier: MIT
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "../net/net.hpp"
#include "args.hpp"
#include "descriptors.hpp"
#include "plain.hpp"

using namespace violet;

namespace {

using Pages = std::vector<std::string>;

// ------------------------------------------------------------------ the server

/// One request: a page that takes its time.
Task<> answer(Connection conn, Duration delay) {
  const Stream stream(std::move(conn));
  const auto first = co_await stream.readline();
  const std::string request(first.view());
  for (;;) {
    const auto field = co_await stream.readline();
    if (field.size() == 0) break;
  }
  co_await violet::sleep(delay);
  const auto begin = request.find('/') + 1;
  const auto page = request.substr(begin, request.find(' ', begin) - begin);
  co_await stream.write("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n");
  const std::string body = concat({"This is page ", page, ".\n"});
  co_await stream.write(body);
  co_await stream.close();
}

/// Unlike serve(), it does not hear of Ctrl-C, which so ends the whole program.
Task<> serve_pages(Listener listener, Duration delay) {
  TaskGroup clients;
  for (;;) {
    Connection client = co_await listener.accept();
    clients.spawn(answer, std::move(client), delay);
  }
}

std::string request_for(int page) {
  return concat({"GET /", page, " HTTP/1.0\r\n\r\n"});
}

// ------------------------------------------------------- fetching, with a loop

Task<std::string> fetch(Address server, int page) {
  const Stream stream(co_await connect(server));
  const std::string request = request_for(page);
  co_await stream.sendall(request);
  for (;;) {
    const auto line = co_await stream.readline();
    if (line.size() == 0) break;
  }
  const auto body = co_await stream.read_all(1 << 20);
  co_return std::string(body.view());
}

Task<Pages> fetch_one_by_one(Address server, int count) {
  Pages pages;
  for (int page = 0; page < count; ++page) {
    pages.push_back(co_await fetch(server, page));
  }
  co_return pages;
}

Task<Pages> fetch_with_jobs(Address server, int count) {
  std::vector<int> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  auto fetch_page = [server](int page) { return fetch(server, page); };
  co_return co_await map_limited(numbers.size(), numbers, fetch_page);
}

// ----------------------------------------------------- fetching, with threads

/// The same with calls that block.
std::string fetch_blocking(const Address& server, int page) {
  const Fd socket(::socket(server.family(), SOCK_STREAM, 0));
  if (!socket) throw_system(errno, "socket");
  if (::connect(socket.get(), server.get(), server.size()) != 0) {
    throw_system(errno, concat({"connect ", server.text()}));
  }
  const std::string request = request_for(page);
  if (::send(socket.get(), request.data(), request.size(), 0) < 0) {
    throw_system(errno, "send");
  }
  std::string answer;
  char buffer[4096];
  for (;;) {
    const ssize_t count = ::recv(socket.get(), buffer, sizeof buffer, 0);
    if (count < 0) throw_system(errno, "recv");
    if (count == 0) break;
    answer.append(buffer, static_cast<std::size_t>(count));
  }
  const auto head = answer.find("\r\n\r\n");
  if (head == answer.npos) throw_system(EPROTO, "read the head of a page");
  return answer.substr(head + 4);
}

/// A thread for each page. What one of them throws must be carried by hand.
Pages fetch_with_threads(const Address& server, int count) {
  Pages pages(static_cast<std::size_t>(count));
  std::vector<std::exception_ptr> errors(pages.size());
  std::vector<std::thread> threads;
  const auto too_many = caught([&] {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      threads.emplace_back([&, i] {
        errors[i] = caught(
            [&] { pages[i] = fetch_blocking(server, static_cast<int>(i)); });
      });
    }
  });
  for (std::thread& thread : threads) thread.join();
  if (too_many) {
    const auto* failure = exception_as<std::system_error>(too_many);
    if (failure == nullptr) std::rethrow_exception(too_many);
    throw_system(failure->code().value(),
                 concat({"start thread ", threads.size() + 1}));
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return pages;
}

/// A call that may be left behind owns what it uses, here its arguments.
Task<Pages> fetch_beside_the_loop(Address server, int count) {
  co_return co_await offload(abandon, fetch_with_threads, server, count);
}

// ------------------------------------------------------------- the comparison

/// Prints how long `task` takes.
Task<Pages> measured(const char* name, int threads, Task<Pages> task) {
  const TimePoint begin = Clock::now();
  Pages pages = co_await std::move(task);
  const std::chrono::duration<double> took = Clock::now() - begin;
  char line[100];
  std::snprintf(line, sizeof line, "%-22s %7.3f s  %4zu pages  %4d thread%s",
                name, took.count(), pages.size(), threads,
                threads == 1 ? "" : "s");
  print_line(line);
  co_return pages;
}

Task<> crawl(int count, Duration delay) {
  Listener listener("127.0.0.1", 0);
  const Address server = listener.address();
  print_line(concat({count, " pages from ", server.text()}));
  TaskGroup beside;
  beside.spawn(serve_pages, std::move(listener), delay);

  const Pages one_by_one = co_await measured("one after the other", 1,
                                             fetch_one_by_one(server, count));
  const Pages by_threads = co_await measured(
      "a thread for each", count, fetch_beside_the_loop(server, count));
  const Pages by_jobs =
      co_await measured("a job for each", 1, fetch_with_jobs(server, count));
  if (by_threads != one_by_one || by_jobs != one_by_one) {
    throw_system(EPROTO, "compare the pages of the three ways");
  }
}

}  // namespace

int main(int argc, char** argv) {
  int count = 40;
  Duration delay = std::chrono::milliseconds(50);
  Args args("crawler", "fetches pages in three ways, and compares");
  args.number("--pages", "how many pages (40)", count, 1, 1000);
  args.time("--delay", "how long the server takes for one (50ms)", delay);
  args.parse(argc, argv);
  // Two for each page that is under way, and what the loop itself has.
  const auto descriptors = 2 * static_cast<rlim_t>(count) + 16;
  const int failed = run_plainly([=] { need_descriptors(descriptors); });
  if (failed != 0) return failed;
  return run_program(crawl(count, delay));
}
