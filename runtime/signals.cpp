// signals.cpp - from the handler to the loop.
// SPDX-License-Identifier: MIT
#include "signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

namespace violet {

namespace {

constexpr std::size_t kMostLoops = 256;

constexpr int kManners[] = {SIGINT, SIGTERM, SIGUSR1,
#ifdef SIGINFO
                            SIGINFO
#endif
};

/// What is known of one signal.
struct Kind {
  // Shared with the handler.
  std::atomic<std::uint32_t> arrived = 0;
  std::atomic<int> takers = 0;  // who has taken it over from the manners

  // Guarded by the mutex below.
  int wanted = 0;  // while not 0, our handler is installed
  struct sigaction before = {};
};

/// A loop that is to be woken.
struct Place {
  std::atomic<Poller*> poller = nullptr;  // shared with the handler
  int users = 0;                          // guarded by the mutex below
};

// What the handler and the loops share. All of it is lock-free.
constinit std::array<Kind, NSIG> kinds;
constinit std::array<Place, kMostLoops> places;
std::atomic<int> handlers_running = 0;
std::atomic<int> mannered = 0;  // SignalHandlers that live
std::atomic<int> requests = 0;  // SIGINT and SIGTERM so far
std::atomic<int> dumps = 0;     // SIGUSR1 and SIGINFO so far
std::atomic<int> last_request = 0;
std::atomic<int> unwinds = 0;

// What else the loops share.
std::mutex mutex;
struct sigaction alarm_before;  // of SIGALRM; set by the second request

thread_local SignalListener* listener_here = nullptr;

Kind& kind_of(int number) noexcept {
  return kinds[static_cast<std::size_t>(number)];
}

void on_alarm(int) {
  ::_exit(128 + last_request.load());
}

/// What a program does with a signal that it has not taken over.
void mind_manners(int number) {
  if (number != SIGINT && number != SIGTERM) {
    dumps.fetch_add(1);
    return;
  }
  last_request.store(number);
  if (requests.fetch_add(1) != 1) return;
  // Whatever hangs has one more second.
  struct sigaction exits{};
  exits.sa_handler = on_alarm;
  ::sigaction(SIGALRM, &exits, &alarm_before);
  ::alarm(1);
}

void on_signal(int number) {
  handlers_running.fetch_add(1);
  Kind& kind = kind_of(number);
  kind.arrived.fetch_add(1);
  if (kind.takers.load() == 0 && mannered.load() > 0) mind_manners(number);
  for (Place& place : places) {
    if (Poller* listening = place.poller.load()) listening->wake();
  }
  handlers_running.fetch_sub(1);
}

/// Installs our handler, if nobody wanted it before. The mutex is held.
int want(int number) noexcept {
  Kind& kind = kind_of(number);
  if (kind.wanted > 0) return ++kind.wanted, 0;
  struct sigaction ours{};
  ours.sa_handler = on_signal;
  ours.sa_flags = SA_RESTART;
  sigfillset(&ours.sa_mask);  // one handler after the other, in a thread
  if (::sigaction(number, &ours, &kind.before) != 0) return errno;
  kind.wanted = 1;
  return 0;
}

/// Restores what was there, if nobody wants ours any more.
void unwant(int number) noexcept {
  Kind& kind = kind_of(number);
  if (--kind.wanted == 0) ::sigaction(number, &kind.before, nullptr);
}

/// The place of a poller, or one that is free; null if there is neither.
Place* place_of(const Poller& poller) noexcept {
  Place* free = nullptr;
  for (Place& place : places) {
    if (place.poller.load() == &poller) return &place;
    if (free == nullptr && place.users == 0) free = &place;
  }
  return free;
}

}  // namespace

// ------------------------------------------------------------------- counting

int internal::take_signal(int number) noexcept {
  if (number <= 0 || number >= NSIG) return EINVAL;
  const std::lock_guard lock(mutex);
  const int error = want(number);
  if (error == 0) kind_of(number).takers.fetch_add(1);
  return error;
}

void internal::leave_signal(int number) noexcept {
  const std::lock_guard lock(mutex);
  unwant(number);
  kind_of(number).takers.fetch_sub(1);
}

std::uint32_t internal::arrivals(int number) noexcept {
  return kind_of(number).arrived.load();
}

bool internal::begin_hearing(Loop& loop, WakeHearer& hearer) noexcept {
  const std::lock_guard lock(mutex);
  Place* place = place_of(loop.poller());
  if (place == nullptr) return false;
  if (place->users++ == 0) place->poller.store(&loop.poller());
  loop.add_hearer(hearer);
  return true;
}

// A handler on another thread may hold our poller: it is waited for. One on
// this thread has ended before we get here.
void internal::stop_hearing(Loop& loop, WakeHearer& hearer) noexcept {
  const std::lock_guard lock(mutex);
  loop.remove_hearer(hearer);
  Place& place = *place_of(loop.poller());
  if (--place.users > 0) return;
  place.poller.store(nullptr);
  while (handlers_running.load() != 0) {
  }
}

// -------------------------------------------------------------------- manners

SignalHandlers::SignalHandlers() noexcept {
  const std::lock_guard lock(mutex);
  if (mannered.load() == 0) requests = dumps = last_request = unwinds = 0;
  mannered.fetch_add(1);
  for (const int number : kManners) want(number);
}

SignalHandlers::~SignalHandlers() {
  const std::lock_guard lock(mutex);
  for (const int number : kManners) unwant(number);
  if (mannered.fetch_sub(1) > 1 || requests.load() < 2) return;
  ::alarm(0);
  ::sigaction(SIGALRM, &alarm_before, nullptr);
}

SignalListener::SignalListener(Loop& loop)
    : WakeHearer(act, is_awaited), loop_(loop) {
  if (listener_here != nullptr) {
    throw_error(
        Misuse("violet: a loop of this thread listens to signals already; "
               "run_program() is not called inside itself"));
  }
  if (!internal::begin_hearing(loop, *this)) {
    throw_error(Misuse("violet: more than 256 loops listen to signals"));
  }
  listener_here = this;
  // What came while this loop was being made is meant for it, too.
  if (requests.load() + dumps.load() != 0) loop.poller().wake();
}

SignalListener::~SignalListener() {
  listener_here = nullptr;
  internal::stop_hearing(loop_, *this);
}

bool SignalListener::is_awaited(WakeHearer& self) noexcept {
  return static_cast<SignalListener&>(self).loop_.stop_is_awaited();
}

void SignalListener::act(WakeHearer& hearer) noexcept {
  SignalListener& self = static_cast<SignalListener&>(hearer);
  Loop& loop = self.loop_;
  const int wanted = dumps.load();
  if (wanted != std::exchange(self.dumps_seen_, wanted)) {
    complain_with([&] { return loop.dump(); });
  }
  const int asked = requests.load();
  if (asked == std::exchange(self.requests_seen_, asked)) return;
  if (asked == 1 && loop.stop_is_heard()) return loop.stop();
  unwinds.store(last_request.load());
  loop.cancel(last_request.load() == SIGINT ? "SIGINT" : "SIGTERM", asked > 1);
}

int unwinding_signal() noexcept {
  return unwinds.load();
}

// ---------------------------------------------------------------------- names

std::string signal_name(int number) {
  struct Name {
    int number;
    const char* text;
  };
  constexpr Name kNames[] = {
      {SIGHUP, "HUP"},   {SIGINT, "INT"},       {SIGQUIT, "QUIT"},
      {SIGILL, "ILL"},   {SIGTRAP, "TRAP"},     {SIGABRT, "ABRT"},
      {SIGBUS, "BUS"},   {SIGFPE, "FPE"},       {SIGKILL, "KILL"},
      {SIGUSR1, "USR1"}, {SIGSEGV, "SEGV"},     {SIGUSR2, "USR2"},
      {SIGPIPE, "PIPE"}, {SIGALRM, "ALRM"},     {SIGTERM, "TERM"},
      {SIGCHLD, "CHLD"}, {SIGCONT, "CONT"},     {SIGSTOP, "STOP"},
      {SIGTSTP, "TSTP"}, {SIGTTIN, "TTIN"},     {SIGTTOU, "TTOU"},
      {SIGURG, "URG"},   {SIGXCPU, "XCPU"},     {SIGXFSZ, "XFSZ"},
      {SIGPROF, "PROF"}, {SIGVTALRM, "VTALRM"}, {SIGWINCH, "WINCH"},
      {SIGIO, "IO"},     {SIGSYS, "SYS"},
  };
  for (const Name& name : kNames) {
    if (name.number == number) return concat({"SIG", name.text});
  }
  return concat({"signal ", number});
}

}  // namespace violet
