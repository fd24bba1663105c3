// server.cpp - accepting, logging, looking for idle clients, draining.
// SPDX-License-Identifier: MIT
#include "server.hpp"

#include <poll.h>

#include <algorithm>

namespace violet {

std::string ServerSummary::text() const {
  std::string text = concat({"stopped: ", served, " served, ", cut, " cut"});
  if (refused != 0) text += concat({", ", refused, " refused"});
  if (timed_out != 0) text += concat({", ", timed_out, " timed out"});
  return text;
}

ServerSummary& ServerSummary::operator+=(const ServerSummary& other) {
  served += other.served;
  cut += other.cut;
  refused += other.refused;
  timed_out += other.timed_out;
  told += other.told;
  return *this;
}

// --------------------------------------------------------------- one client

Visitor::Visitor(internal::Handlers& handlers, Connection&& connection,
                 bool placed) noexcept
    : connection_(std::move(connection)),
      handlers_(&handlers),
      index_(connection_.descriptor().slot()->index & 0x7fffff),
      placed_(placed),
      served_(false),
      counted_(false),
      timed_out_(false),
      odd_round_(handlers.odd_round_),
      quiet_(0),
      generation_(connection_.descriptor().slot()->generation) {
  ++(placed ? handlers.placed_ : handlers.visitors_);
  // What is new is not idle.
  connection_.descriptor().slot()->ready |= kActive;
}

Visitor::Visitor(Visitor&& other) noexcept
    : connection_(std::move(other.connection_)),
      handlers_(std::exchange(other.handlers_, nullptr)),
      index_(other.index_),
      placed_(other.placed_),
      served_(other.served_),
      counted_(other.counted_),
      timed_out_(other.timed_out_),
      odd_round_(other.odd_round_),
      quiet_(other.quiet_),
      generation_(other.generation_) {}

Visitor::~Visitor() {
  if (handlers_ == nullptr) return;
  if (counted_) handlers_->options_.per_peer->give_back(*this);
  if (!served_) ++handlers_->summary_.refused;
  if (placed_) {
    handlers_->give_room_back();
  } else {
    --handlers_->visitors_;
    handlers_->moved_on(*this);
  }
}

// Closing has made the slot one generation older; its note stays until it is
// used again, which would show in an open descriptor or a later generation.
const Slot* Visitor::slot() const noexcept {
  const Slot& slot = Slots::here().at(index_);
  const bool open = slot.fd >= 0 && slot.generation == generation_;
  const bool closed = slot.fd < 0 && slot.generation == generation_ + 1;
  return open || closed ? &slot : nullptr;
}

Address Visitor::peer() const noexcept {
  const Slot* known = slot();
  return known == nullptr ? Address() : internal::noted_peer(*known);
}

Task<> Visitor::start() {
  if (placed_) return serve();
  handlers_->moved_on(*this);
  return options().when_full(*this);
}

const ServerOptions& Visitor::options() const noexcept {
  return handlers_->options_;
}

Task<> Visitor::serve() {
  if (!placed_) {
    throw_error(
        Misuse("violet: a client that has no place cannot be served; await "
               "client.place() first"));
  }
  if (!served_) ++handlers_->summary_.served;
  served_ = true;
  return handlers_->call_(handlers_->handler_, std::move(connection_));
}

namespace internal {

namespace {

/// Without a grace, too, who is in the backlog is taken.
constexpr Duration kBacklogTime = std::chrono::milliseconds(100);

/// A client is idle if so many looks in a row find it quiet, and so are the
/// looks spaced.
constexpr int kLooks = 8;

/// Clients that are looked at before others get their turn.
constexpr int kLooksPerStep = 512;

/// Handlers that are told of when they are cut.
constexpr int kMostTold = 10;

/// What Loop::age() may be wrong by.
constexpr Duration kAgeStep = Duration(1 << 24);

bool is_the_peers_doing(const std::exception_ptr& error) noexcept {
  const auto* refusal = exception_as<std::system_error>(error);
  return refusal != nullptr && internal::is_the_peers_doing(refusal->code());
}

/// Who may stay for a shorter time than it may be idle is never idle for too
/// long.
bool idle_counts(const ServerOptions& options) noexcept {
  return options.idle_timeout > Duration::zero() &&
         (options.total_timeout <= Duration::zero() ||
          options.idle_timeout < options.total_timeout);
}

/// How often to look, so that no limit is exceeded by more than an eighth;
/// zero for no limits.
Duration look_every(const ServerOptions& options) noexcept {
  const Duration limit =
      idle_counts(options) ? options.idle_timeout : options.total_timeout;
  if (limit <= Duration::zero()) return Duration::zero();
  return std::max<Duration>(limit / kLooks + Duration(1),
                            std::chrono::milliseconds(1));
}

/// Where a job waits, down in the tasks that it has put a limit on, and for
/// what: "server.cpp:41: recv".
std::string whereabouts(const JobBlock& job) {
  if (job.top == nullptr) return "its start";
  Description what;
  if (job.event != nullptr) job.event->describe(what);
  const auto* part = static_cast<const JobBlock*>(what.job);
  if (part != nullptr && !part->ended() && part->group()->hidden()) {
    return whereabouts(*part);
  }
  const std::string_view text = what.text;
  return concat(
      {text_of(job.top->where()), ": ", text.substr(0, text.find(" fd "))});
}

}  // namespace

Task<> VisitorsBody::operator()(Visitor&& client) const {
  return client.start();
}

Handlers::Handlers(std::vector<Listener>&& listeners, void* handler, Call call,
                   const ServerOptions& options, std::source_location where)
    : Group(Loop::current(), Loop::current().current_job()),
      options_(options),
      handler_(handler),
      call_(call),
      where_(where),
      hears_(loop()),
      door_count_(listeners.size()),
      doors_(new Door[door_count_]),
      room_(std::make_shared<WaitQueue>()),
      look_every_(look_every(options)) {
  Door* door = doors_.get();
  for (Listener& listener : listeners) {
    door->listener = std::move(listener);
    door->accept.move_to(door->listener);
    ++door;
  }
  if (options_.shared_limit != nullptr) {
    shared_.reset(new ConnectionLimit::Member(*options_.shared_limit,
                                              loop().remote(), room_));
  }
}

std::span<Handlers::Door> Handlers::doors() const noexcept {
  return {doors_.get(), door_count_};
}

Handlers::~Handlers() {
  dissolve();
  loop().timers().stop(look_);
  if (look_on_at_ != nullptr) look_on_at_->drop();
}

void Handlers::failed(JobBlock& child) noexcept {
  const Ending& ending = *child.ending();
  if (options_.log != Log::kVerbose && is_the_peers_doing(ending.error)) {
    return;
  }
  complain_with([&] {
    // Handlers may spawn jobs that have no client of their own.
    const Visitor* client = child.marked() ? &client_of(child) : nullptr;
    const std::string who = client != nullptr ? client->peer().text()
                                              : concat({"job #", child.id()});
    const bool served = client == nullptr || client->served_;
    return concat({who, served ? ": handler failed " : ": when_full failed ",
                   ending.text()});
  });
}

void Handlers::left(JobBlock&) noexcept {
  if (empty()) wake_all(drained_);
}

// -------------------------------------------------------------------- places

/// Takes a place for one more client. Returns: false if there is none; the
/// first in room_ is then woken when there may be.
bool Handlers::take_room() noexcept {
  const std::size_t most = options_.max_connections;
  if (most != 0 && placed_ >= most) return false;
  return !shared_ || shared_->take();
}

void Handlers::give_room_back() noexcept {
  --placed_;
  if (shared_) shared_->give_back();
  wake_first();
}

/// It stays where it is until it has got its place; then it wakes the next.
void Handlers::wake_first() noexcept {
  if (!room_->empty()) wake(*room_->front().job);
}

/// True if no client is before this one, which may stand in line or not.
bool Handlers::is_first(const Waiter& in_line) const noexcept {
  const Waiter* first = room_->first();
  return first == nullptr || first == &in_line || first == &last_in_line_;
}

/// Behind all clients, but before who accepts: the line was there first.
void Handlers::stand_in_line(Waiter& in_line, Stack& job) noexcept {
  const bool full = last_in_line_.in_list();
  leave(*room_, last_in_line_);
  stand_in(*room_, in_line, job);
  if (full) room_->push_back(last_in_line_);
}

/// True if one more may come that has no place.
bool Handlers::takes_visitors() const noexcept {
  return newcomer_ == nullptr && options_.when_full != nullptr &&
         visitors_ < options_.max_waiting;
}

/// A client without a place has begun its job, got a place, or left.
void Handlers::moved_on(const Visitor& client) noexcept {
  if (newcomer_ == &client) newcomer_ = nullptr;
  if (accepting_ != nullptr) wake(*accepting_);
}

/// Starts the job of a client that has been accepted.
void Handlers::admit(Connection&& connection) {
  Visitor client(*this, std::move(connection), place_taken_);
  Job<> job;
  const bool begun = has_memory_for([&] {
    job = spawn_in(*this, where_, VisitorsBody(), std::move(client));
  });
  if (!begun) return complain("out of memory: a client was turned away");
  job.block()->mark();
  Visitor& its = client_of(*job.block());
  if (!its.placed_) newcomer_ = &its;
  if (options_.per_peer == nullptr) return;
  its.counted_ = options_.per_peer->take(its, its.peer());
  if (its.counted_) return;
  tell(its, "one too many of this peer");
  job.kill("one too many of its peer");
}

/// For who wants to hear everything.
void Handlers::tell(const Visitor& client, const char* what) const noexcept {
  if (options_.log != Log::kVerbose) return;
  complain_with([&] { return concat({client.peer().text(), ": ", what}); });
}

// ---------------------------------------------------------------------- time

/// Ends who has been idle for too long, or there at all. Called whenever the
/// server's own job has a step, which look_ sees to.
void Handlers::look_after(Stack& job) noexcept {
  if (look_every_ == Duration::zero() || look_.active() || placed_ == 0) return;
  const Duration pause = look_at_some() ? look_every_ : Duration::zero();
  loop().timers().start(look_, after(loop().now(), pause), job);
}

/// One step of a round. As in Group::end_idle, a handler that is killed may
/// kill others: who comes next is held, and if it is gone the search begins
/// anew, past those that had their look in this round.
/// Returns: true if the round is over.
bool Handlers::look_at_some() noexcept {
  JobBlock* child = look_on_at_;
  if (child == nullptr) odd_round_ = !odd_round_;
  if (child == nullptr || child->ended()) child = children().first();
  if (look_on_at_ != nullptr) std::exchange(look_on_at_, nullptr)->drop();
  int looks = 0;
  while (child != nullptr) {
    JobBlock* next = children().next(*child);
    if (next != nullptr) next->hold();
    if (child->marked() && client_of(*child).odd_round_ != odd_round_) {
      look_at(*child, client_of(*child));
      ++looks;
    }
    if (next != nullptr && !next->ended() && looks == kLooksPerStep) {
      look_on_at_ = next;
      return false;
    }
    child = next != nullptr && next->ended() ? children().first() : next;
    if (next != nullptr) next->drop();
  }
  return true;
}

void Handlers::look_at(JobBlock& job, Visitor& client) noexcept {
  client.odd_round_ = odd_round_;
  if (!client.placed_) return;  // when_full has limits of its own
  Slot& slot = Slots::here().at(client.index_);
  const bool open = slot.fd >= 0 && slot.generation == client.generation_;
  const bool quiet = open && (slot.ready & kActive) == 0;
  if (open) slot.ready &= static_cast<std::uint8_t>(~kActive);
  client.quiet_ = quiet ? client.quiet_ + 1u : 0u;
  if (!idle_counts(options_)) client.quiet_ = 0;
  // No sum with a limit, which may be as long as can be.
  const Duration total = options_.total_timeout;
  const Duration age = loop().age(job) - kAgeStep;  // at least
  if (client.quiet_ == kLooks) {
    time_out(job, client, "it was idle");
  } else if (total > Duration::zero() && age >= total) {
    time_out(job, client, "its time was up");
  }
}

void Handlers::time_out(JobBlock& job, Visitor& client,
                        const char* why) noexcept {
  if (client.timed_out_) return;
  client.timed_out_ = true;
  ++summary_.timed_out;
  tell(client, why);
  loop().kill(job, why, where_);
}

// ------------------------------------------------------------------- the end

/// True if there is a client in the backlog.
bool Handlers::somebody_waits() const noexcept {
  for (const Door& door : doors()) {
    const int fd = door.listener.descriptor().fd();
    if (door.left != 0 && sys::poll_now(fd, POLLIN) > 0) return true;
  }
  return false;
}

/// Ends what is idle, now and from now on. Who stands in the backlog is still
/// taken, but nobody else: a crowd that keeps coming must not keep a server
/// from stopping. A unix path is removed first, so that the backlog cannot
/// grow, where its length is not known.
void Handlers::begin_to_stop() noexcept {
  if (stopping()) return;
  stopped_at_ = loop().now();
  if (options_.stop_hook != nullptr) options_.stop_hook->stopping();
  for (Door& door : doors()) {
    door.listener.remove_path();
    door.left = door.listener.backlog();
    // Who came since the last turn has not been announced yet.
    if (Slot* slot = door.listener.descriptor().slot()) {
      slot->ready |= kReadable;
    }
  }
  end_idle();
}

/// True once all who stood in the backlog at the stop are accepted. If that
/// takes too long, the rest is left alone.
bool Handlers::closed() const noexcept {
  if (!stopping()) return false;
  std::size_t left = 0;
  for (const Door& door : doors()) left += door.left;
  return left == 0 ||
         loop().now() - stopped_at_ > std::max(options_.grace, kBacklogTime);
}

/// What is left of the grace; negative when it is over.
Duration Handlers::time_left() const noexcept {
  return after(stopped_at_, options_.grace) - loop().now();
}

/// Waits for the next client.
/// Returns: none once the loop is asked to stop and the backlog is empty, or
/// the grace over: until then who waits there gets the room that others leave.
class Handlers::NextEvent final : public Event {
 public:
  explicit NextEvent(Handlers& handlers) noexcept : handlers_(handlers) {}
  NextEvent(NextEvent&& other) noexcept
      : Event(std::move(other)), handlers_(other.handlers_) {}
  bool attempt() noexcept override;
  void undo() noexcept override;
  void describe(Description& out) const override;
  std::optional<Connection> result();

 private:
  bool accept_one() noexcept;
  bool attempt_to_stop() noexcept;
  void undo_accepts() noexcept;
  bool paused() const noexcept;

  Handlers& handlers_;
  Waiter stop_place_;
  Timer grace_;               // wakes who still waits for room after a stop
  Door* accepted_ = nullptr;  // null once stopped
};

// A place in a shared limit is held only once there is a client for it: an
// idle server must not keep it from a busy one. Even while a loop looks whether
// there is one it takes no place if a client may come without: another loop
// might turn its own away for that.
bool Handlers::NextEvent::attempt() noexcept {
  Loop& loop = handlers_.loop();
  handlers_.look_after(*job());
  if (loop.stop_requested()) handlers_.begin_to_stop();
  if (handlers_.closed()) {
    undo();
    return true;
  }
  WaitQueue& room = *handlers_.room_;
  leave(room, handlers_.last_in_line_);
  const bool first = handlers_.newcomer_ == nullptr && room.empty();
  const bool visits = handlers_.takes_visitors();
  bool placed = first && !visits && handlers_.take_room();
  if (placed || visits) {
    const bool done = accept_one();
    const bool came = done && accepted_->accept.error() == 0;
    if (came && first && visits) placed = handlers_.take_room();
    if (!came && placed && handlers_.shared_) handlers_.shared_->give_back();
    handlers_.place_taken_ = placed;
    if (done) {
      undo();
      return true;
    }
  } else {
    undo_accepts();
    stand_in(room, handlers_.last_in_line_, *job());
  }
  handlers_.accepting_ = job();
  if (handlers_.stopping()) return attempt_to_stop();
  stand_in(loop.stop_waiters(), stop_place_, *job());
  return false;
}

/// Asks at one door after the other, beginning with whose turn it is.
bool Handlers::NextEvent::accept_one() noexcept {
  const std::span<Door> doors = handlers_.doors();
  for (std::size_t i = 0; i < doors.size(); ++i) {
    const std::size_t which = (handlers_.next_door_ + i) % doors.size();
    Door& door = doors[which];
    if (handlers_.stopping() && door.left == 0) continue;
    if (attempt_part(door.accept)) {
      handlers_.next_door_ = which + 1;
      if (door.left != 0) --door.left;
      accepted_ = &door;
      return true;
    }
    if (handlers_.stopping() && !door.accept.paused()) door.left = 0;
  }
  return false;
}

/// Returns: false if somebody in the backlog may still get room.
bool Handlers::NextEvent::attempt_to_stop() noexcept {
  Loop& loop = handlers_.loop();
  const TimePoint end = after(loop.now(), handlers_.time_left());
  if (handlers_.newcomer_ != nullptr) return false;  // begins in this turn
  const bool lacks_something = handlers_.last_in_line_.in_list() || paused();
  if (lacks_something && handlers_.time_left() > Duration::zero() &&
      handlers_.somebody_waits() &&
      (grace_.active() || loop.timers().start(grace_, end, *job()))) {
    return false;
  }
  undo();
  return true;
}

bool Handlers::NextEvent::paused() const noexcept {
  bool any = false;
  for (const Door& door : handlers_.doors()) any |= door.accept.paused();
  return any;
}

void Handlers::NextEvent::undo_accepts() noexcept {
  for (Door& door : handlers_.doors()) undo_part(door.accept);
}

void Handlers::NextEvent::undo() noexcept {
  leave(*handlers_.room_, handlers_.last_in_line_);
  handlers_.accepting_ = nullptr;
  leave(handlers_.loop().stop_waiters(), stop_place_);
  undo_accepts();
  handlers_.loop().timers().stop(grace_);
}

void Handlers::NextEvent::describe(Description& out) const {
  if (handlers_.last_in_line_.in_list()) {
    out.text = "room for one more connection";
    return;
  }
  for (const Door& door : handlers_.doors()) {
    Description one;
    door.accept.describe(one);
    out.text += concat({out.text.empty() ? "" : ", ", one.text});
  }
}

std::optional<Connection> Handlers::NextEvent::result() {
  if (accepted_ == nullptr) return std::nullopt;
  return accepted_->accept.result();
}

/// Waits until the last handler has left.
class Handlers::DrainedEvent final : public Event {
 public:
  explicit DrainedEvent(Handlers& handlers) noexcept : handlers_(handlers) {}
  DrainedEvent(DrainedEvent&& other) noexcept
      : Event(std::move(other)), handlers_(other.handlers_) {}
  bool attempt() noexcept override {
    handlers_.look_after(*job());
    if (handlers_.empty()) return true;
    stand_in(handlers_.drained_, place_, *job());
    return false;
  }
  void undo() noexcept override { leave(handlers_.drained_, place_); }
  void describe(Description& out) const override {
    out.text = concat({"end of ", handlers_.size(), " jobs"});
  }
  void result() const noexcept {}

 private:
  Handlers& handlers_;
  Waiter place_;
};

Task<> Handlers::run() {
  while (auto client = co_await NextEvent(*this)) admit(std::move(*client));
  for (Door& door : doors()) door.listener.close();
  co_await drain();
}

Task<> Handlers::drain() {
  const bool drained = co_await within(time_left(), DrainedEvent(*this));
  if (drained) co_return;
  summary_.cut = placed_;
  has_memory_for([this] { tell_who_is_left(); });
  kill_all("the grace is over");
}

/// Notes the first of those who are to be cut.
void Handlers::tell_who_is_left() {
  int left_to_tell = kMostTold;
  JobBlock* child = children().first();
  for (; child != nullptr; child = children().next(*child)) {
    if (!child->marked() || !client_of(*child).placed_) continue;
    if (--left_to_tell < 0) return;
    const auto tenths = loop().age(*child).count() / 100'000'000;
    summary_.told +=
        concat({client_of(*child).peer().text(), " after ", tenths / 10, ".",
                tenths % 10, " s, at ", whereabouts(*child), "\n"});
  }
}

std::vector<Listener> at_least_one(std::vector<Listener>&& listeners) {
  if (listeners.empty()) {
    throw_error(
        Misuse("violet: serve() without a listener: give at least one"));
  }
  return std::move(listeners);
}

std::vector<Listener> only(Listener&& listener) {
  std::vector<Listener> one(1);
  one[0] = std::move(listener);
  return one;
}

void announce(const Address& address) {
  if (!in_program()) return;
  print_line(concat({program_name(), ": listening on ", address.text()}));
}

void conclude(const ServerSummary& summary, Log log) noexcept {
  if (log == Log::kErrors) return;
  std::string_view told = summary.told;
  while (!told.empty()) {
    const std::size_t end = told.find('\n');
    complain_with([&] { return concat({"cut ", told.substr(0, end)}); });
    told.remove_prefix(end + 1);
  }
  complain_with([&] { return summary.text(); });
}

}  // namespace internal

}  // namespace violet
