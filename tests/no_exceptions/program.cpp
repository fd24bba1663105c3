// program.cpp - what a program without exceptions can do, and how it ends.
//
// Its argument says what it does. What works says so on stdout, line by line;
// what would throw elsewhere ends it. See: no_exceptions_test.cpp.
// SPDX-License-Identifier: MIT
#include <violet.hpp>
#include <violet/http.hpp>
#include <violet/testing.hpp>

#include <cstdio>
#include <string>
#include <string_view>

using namespace violet;
using namespace std::chrono_literals;

namespace {

void say(std::string_view line) {
  print_line(line);
}

void check(bool right, std::string_view what) {
  if (!right) fatal(what);
}

/// Says when it is destroyed.
class Told {
 public:
  explicit Told(std::string name) : name_(std::move(name)) {}
  Told(const Told&) = delete;
  ~Told() { say(name_ + " is destroyed"); }

 private:
  std::string name_;
};

/// A port of this machine on which nobody listens.
Address nobody() {
  const Listener listener("127.0.0.1", 0);
  return listener.address();
}

// ---------------------------------------------------------------- what works

Task<> greeter(Listener& listener) {
  std::error_code error;
  Connection client = co_await listener.accept(error);
  check(!error, "accept failed");
  char buffer[16];
  const std::size_t count = co_await client.recv(buffer, error);
  check(!error && count == 5, "recv failed");
  co_await client.sendall(std::string_view(buffer, count), error);
  check(!error, "sendall failed");
}

Task<> talk_with_codes() {
  std::error_code error;
  const Connection none = co_await connect(nobody(), error);
  say("connect: " + error.message());

  Listener listener("127.0.0.1", 0);
  const Job<> job = spawn(greeter, std::ref(listener));
  Connection conn = co_await connect(listener.address(), error);
  check(!error, "connect failed");
  co_await conn.sendall("hello", error);
  const auto data = co_await conn.recv(error);
  check(!error, "recv failed");
  say(data.view());
  co_await join(job);

  conn.close();
  const auto late = co_await conn.recv(error);
  check(!late, "a closed connection has data");
  say("recv: " + error.message());
}

Task<> read_with_codes() {
  auto [near, far] = connected_pair();
  const Stream in(std::move(near));
  const Stream out(std::move(far));
  std::error_code error;
  co_await out.write("first\nsecond", error);
  co_await out.shutdown(error);
  check(!error, "writing failed");
  Piece line = co_await in.readline(error, 4);
  say("readline: " + error.message());
  line = co_await in.readline(error);
  say(line);
  (void)co_await in.read_until(";", error);
  check(error == StreamError::kEndOfStream, "the end is not told");
  say("read_until: " + error.message());
  say(in.buffered());
}

Task<> read_in_vain() {
  auto [near, far] = connected_pair();
  const Stream in(std::move(near));
  co_await far.sendall("a line");
  (void)co_await in.readline(3);
}

Task<> sleep_for_long(std::string name) {
  const Told told(std::move(name));
  co_await violet::sleep(1h);
}

Task<> send_some(Sender<int> numbers, int count) {
  for (int i = 0; i < count; ++i) co_await numbers.send(i);
}

Task<> say_at_the_end() {
  say("cleaned up");
  co_await yield_now();
}

Task<int> answer() {
  co_await violet::sleep(1ms);
  co_return 42;
}

Generator<int> three() {
  for (int i = 1; i <= 3; ++i) co_yield i;
}

Task<> use_the_rest() {
  const bool in_time = co_await within(1ms, sleep_for_long("the late one"));
  check(!in_time, "an hour was over");
  {
    TaskGroup group;
    group.spawn(sleep_for_long, "one of a group");
    co_await yield_now();
  }
  const Job<> job = spawn(sleep_for_long, "the killed one");
  co_await yield_now();
  co_await kill(job, "enough");
  co_await wait(job);
  check(job.killed(), "a kill did not kill");

  Channel<int> numbers(2);
  TaskGroup senders;
  senders.spawn(send_some, numbers.sender(), 10);
  int sum = 0;
  while (auto n = co_await numbers.recv()) sum += *n;
  co_await senders.join();
  for (const int n : three()) sum += n;

  const Job<> cleaned =
      spawn([] { return finally(sleep_for_long("the body"), say_at_the_end); });
  co_await yield_now();
  co_await kill(cleaned);

  const auto [one, other] = co_await all(answer(), answer());
  const auto first = co_await any(answer(), answer());
  Oneshot<int> shot;
  const auto set = shot.setter();
  set(one + other + std::get<0>(first));
  say("sum " + std::to_string(sum + co_await shot.get()));
}

Task<> sleeper() {
  const Told told("the sleeper");
  say("asleep");
  co_await violet::sleep(1h);
}

// ------------------------------------------------------------------ HTTP

/// Sends a body back; says what is wrong with one that does not come.
Task<> repeat(http::Exchange& x) {
  std::error_code error;
  const std::string body = co_await x.read_all(10, error);
  if (error) {
    say("the handler: " + error.message());
    co_return;  // the server answers what there is to answer
  }
  co_await x.send(200, "text/plain", body, error);
  if (error) say("the handler: " + error.message());
}

/// Sends back what comes, while it comes.
Task<> reflect(http::Exchange& x) {
  x.start(200);
  std::error_code error;
  while (!error) {
    const std::string_view piece = co_await x.read(error);
    if (piece.empty()) break;
    co_await x.write(piece, error);
    co_await x.flush(error);
  }
}

/// Everything that a server answers to a text, which may be a part of a
/// request, until it closes.
Task<std::string> ask(Address address, std::string text) {
  std::error_code error;
  Connection conn = co_await connect(address, error);
  co_await conn.sendall(text, error);
  if (!error) conn.shutdown(Half::kSending);
  std::string reply;
  for (;;) {
    const Chunk chunk = co_await conn.recv(error);
    if (!chunk) co_return reply;
    reply += chunk.view();
  }
}

/// Only the first line.
Task<> ask_for_status(Address address, std::string text) {
  const std::string reply = co_await ask(address, std::move(text));
  say(reply.substr(0, reply.find('\r')));
}

/// Resets once a part of the answer has come.
Task<> reset_midway(Address address) {
  std::error_code error;
  Connection conn = co_await connect(address, error);
  co_await conn.sendall(
      "PUT /reflect HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
      error);
  char some[1];
  co_await conn.recv(some, error);
  const linger at_once{1, 0};
  ::setsockopt(conn.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/// The client, where nothing fails.
Task<> use_the_client(Address address) {
  http::Client client;
  const std::string url = "http://" + address.text();
  http::Response reply = co_await client.put(url + "/repeat", "hello");
  say(co_await reply.read_all(100));
  reply = co_await client.get(url + "/nowhere");
  say(co_await reply.read_all(100));
}

Task<> serve_http() {
  http::Router router;
  router.put("/repeat", repeat).put("/reflect", reflect);
  Listener listener("127.0.0.1", 0);
  const Address address = listener.address();
  const auto serves = [&router](Listener own) -> Task<> {
    co_await http::serve(std::move(own), router);
  };
  const Job<> server = spawn(serves, std::move(listener));
  co_await use_the_client(address);

  const std::string put = "PUT /repeat HTTP/1.1\r\nHost: h\r\n";
  co_await ask_for_status(address, put + "Content-Length: 11\r\n\r\n");
  co_await ask_for_status(address, put + "Content-Length: 5\r\n\r\nhel");
  co_await ask_for_status(
      address, put + "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n");
  co_await ask_for_status(address, "nonsense\r\n\r\n");
  co_await reset_midway(address);
  const std::string cut = co_await ask(
      address,
      "PUT /reflect HTTP/1.1\r\nHost: h\r\n"
      "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n");
  check(cut.ends_with("3\r\nabc"), "a broken body is answered as if whole");
  Loop::current().stop();
  co_await join(server);
  say("stopped");
}

Task<> ask_in_vain() {
  http::Client client;
  (void)co_await client.get("http://" + nobody().text() + "/");
}

// ------------------------------------------------------------------- the kit

Task<> produce(Sender<int> numbers, int from) {
  co_await numbers.send(from);
  co_await violet::sleep(1h);
  co_await numbers.send(from + 1);
}

Task<> consume(std::size_t& got) {
  Channel<int> numbers(1);
  TaskGroup group;
  for (const int from : {1, 3}) group.spawn(produce, numbers.sender(), from);
  while (auto n = co_await numbers.recv()) ++got;
}

Task<> whole() {
  std::size_t got = 0;
  co_await consume(got);
  check(got == 4, "one is missing");
}

void use_the_kit() {
  testing::play(whole);
  testing::for_seeds(20, whole);
  const bool all_orders = testing::explore(whole).complete;
  const auto counts =
      testing::kill_everywhere<std::size_t>(consume, [](std::size_t&) {});
  check(all_orders && counts.kills > 10, "the kit did little");
  say("the kit works");
}

// -------------------------------------------------------- what would throw

Task<> connect_in_vain() {
  co_await connect(nobody());
}

Task<> race_of_none() {
  std::vector<Task<>> none;
  co_await any(std::move(none));
}

Task<> wait_for_each_other() {
  Flag never;
  co_await never.wait();
}

Task<> end_itself() {
  Loop::current().cancel("enough of it");
  co_await violet::sleep(1h);
}

void lack_memory() {
  FaultPlan plan;
  plan.fail_allocation();
  run(answer());
}

Task<> poll_forever() {
  for (;;) co_await violet::sleep(1h);
}

int run_mode(std::string_view mode) {
  if (mode == "codes") return run_program(talk_with_codes());
  if (mode == "lines") return run_program(read_with_codes());
  if (mode == "http") return run_program(serve_http());
  if (mode == "rest") return run_program(use_the_rest());
  if (mode == "sleep") return run_program(sleeper());
  if (mode == "crew") {
    return run_program(2, [](int) { return sleeper(); });
  }
  if (mode == "kit") use_the_kit();
  if (mode == "refused") run(connect_in_vain());
  if (mode == "unanswered") run(ask_in_vain());
  if (mode == "limit") run(read_in_vain());
  if (mode == "misuse") run(race_of_none());
  if (mode == "outside") spawn(answer);
  if (mode == "deadlock") run(wait_for_each_other());
  if (mode == "cancelled") run(end_itself());
  if (mode == "memory") lack_memory();
  if (mode == "hang") testing::play(poll_forever);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  return count == 2 ? run_mode(words[1]) : 2;
}
