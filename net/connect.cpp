// connect.cpp - who is tried when, and what is said if all fail.
// SPDX-License-Identifier: MIT
#include "connect.hpp"

#include <algorithm>

namespace violet {

std::vector<Address> in_turns(const std::vector<Address>& addresses) {
  std::vector<Address> mixed;
  mixed.reserve(addresses.size());
  const auto end = addresses.end();
  const auto next = [&](auto from, bool of_first_family) {
    return std::find_if(from, end, [&](const Address& one) {
      return (one.family() == addresses.front().family()) == of_first_family;
    });
  };
  auto one = next(addresses.begin(), true);
  auto other = next(addresses.begin(), false);
  while (one != end || other != end) {
    if (one != end) {
      mixed.push_back(*one);
      one = next(one + 1, true);
    }
    if (other != end) {
      mixed.push_back(*other);
      other = next(other + 1, false);
    }
  }
  return mixed;
}

ConnectToAnyEvent::ConnectToAnyEvent(ConnectToAnyEvent&& other) noexcept
    : Event(std::move(other)),
      name_(std::move(other.name_)),
      addresses_(std::move(other.addresses_)),
      options_(other.options_) {}

ConnectToAnyEvent::~ConnectToAnyEvent() = default;

// Any news may concern any of the attempts, and one that ends may make room
// for another, which may end at once.
bool ConnectToAnyEvent::attempt() noexcept {
  if (!prepare()) {
    error_ = ENOMEM;
    return true;
  }
  for (;;) {
    if (try_all()) return true;
    // One that lets others go first has put the job into the ready queue: the
    // rest waits for that step.
    if (job()->step == Step::kReady) return false;
    if (!may_begin_another()) break;
    begin_another();
  }
  if (is_under_way()) return false;
  error_ = attempts_.back().error;
  return true;
}

bool ConnectToAnyEvent::prepare() noexcept {
  return has_memory_for([this] { attempts_.reserve(addresses_.size()); });
}

/// Returns: true if one has succeeded; the others are closed then.
bool ConnectToAnyEvent::try_all() noexcept {
  for (Attempt& one : attempts_) {
    if (!one.event || !ended(one)) continue;
    if (one.error == 0) {
      keep_only(winner_ = &one);
      return true;
    }
    one.event.reset();
  }
  return false;
}

bool ConnectToAnyEvent::ended(Attempt& attempt) noexcept {
  if (job()->step == Step::kReady || !attempt_part(*attempt.event)) {
    return false;
  }
  attempt.error = attempt.event->error();
  return true;
}

bool ConnectToAnyEvent::may_begin_another() const noexcept {
  if (attempts_.size() == addresses_.size()) return false;
  if (attempts_.empty() || !attempts_.back().event) return true;
  return due_later_ && !next_.active();
}

// Without memory for the timer, the one after this is tried at once.
void ConnectToAnyEvent::begin_another() noexcept {
  Loop& loop = loop_of(*job());
  loop.timers().stop(next_);
  attempts_.emplace_back(addresses_[attempts_.size()]);
  due_later_ = attempts_.size() < addresses_.size();
  if (!due_later_) return;
  loop.timers().start(next_, after(loop.now(), options_.attempt_delay), *job());
}

bool ConnectToAnyEvent::is_under_way() const noexcept {
  return std::any_of(attempts_.begin(), attempts_.end(),
                     [](const Attempt& one) { return one.event.has_value(); });
}

void ConnectToAnyEvent::keep_only(const Attempt* kept) noexcept {
  loop_of(*job()).timers().stop(next_);
  for (Attempt& one : attempts_) {
    if (&one == kept || !one.event) continue;
    undo_part(*one.event);
    one.event.reset();
  }
}

void ConnectToAnyEvent::undo() noexcept {
  keep_only(nullptr);
}

Connection ConnectToAnyEvent::value() noexcept {
  return error_ != 0 ? Connection() : winner_->event->value();
}

Connection ConnectToAnyEvent::result() {
  if (error_ != 0) throw_system(error_, causes());
  return winner_->event->value();
}

namespace {

/// The host alone, where the port has been said already.
std::string host_text(const Address& address) {
  std::string text = address.text();
  if (address.family() == AF_UNIX) return text;
  text.resize(text.rfind(':'));
  if (text.front() == '[') text = text.substr(1, text.size() - 2);
  return text;
}

}  // namespace

/// All but the last cause, which the exception adds itself.
std::string ConnectToAnyEvent::causes() const {
  std::string text = name_.empty() ? std::string("connect: ")
                                   : concat({"connect ", name_, ": "});
  for (const Attempt& one : attempts_) {
    const Address& address =
        addresses_[static_cast<std::size_t>(&one - attempts_.data())];
    text += name_.empty() ? address.text() : host_text(address);
    if (&one == &attempts_.back()) break;
    text += concat({": ", std::system_category().message(one.error), "; "});
  }
  return text;
}

void ConnectToAnyEvent::describe(Description& out) const {
  out.text = concat({"connect", name_.empty() ? "" : " ", name_});
  const char* separator = ", trying ";
  for (std::size_t i = 0; i < attempts_.size(); ++i) {
    if (!attempts_[i].event) continue;
    out.text += concat({separator, addresses_[i].text()});
    separator = ", ";
  }
}

ConnectToAnyEvent connect(const std::vector<Address>& addresses,
                          ConnectOptions options) {
  if (addresses.empty()) {
    throw_error(Misuse("violet: connect() to no address: give at least one"));
  }
  return ConnectToAnyEvent({}, in_turns(addresses), options);
}

// ------------------------------------------------------------------ by a name

struct ConnectToHostEvent::Search {
  Search(std::string_view host, std::uint16_t port, ConnectOptions how)
      : name(concat({host, ":", port})),
        options(how),
        names(host, port, ResolveOptions()) {}

  /// Returns: false if there is no memory.
  bool connect_to(std::vector<Address> addresses) noexcept {
    const bool sorted =
        has_memory_for([&] { addresses = in_turns(addresses); });
    any.emplace(std::move(name), std::move(addresses), options);
    return sorted;
  }

  std::string name;
  ConnectOptions options;
  Heirless<ResolveEvent> names;
  std::optional<Heirless<ConnectToAnyEvent>> any;  // once names has ended
};

// An Address knows one "localhost", and a host has two. To listen, no host is
// any; there is none to connect to.
ConnectToHostEvent::ConnectToHostEvent(std::string_view host,
                                       std::uint16_t port,
                                       ConnectOptions options) {
  std::string refusal;
  const Address number = Address::parse(host, port, refusal);
  if (refusal.empty() && !host.empty() && host != "localhost") {
    direct_.emplace(number);
  } else {
    search_.reset(new Search(host, port, options));
  }
}

ConnectToHostEvent::ConnectToHostEvent(ConnectToHostEvent&&) noexcept = default;
ConnectToHostEvent::~ConnectToHostEvent() = default;

bool ConnectToHostEvent::attempt() noexcept {
  if (direct_) return attempt_part(*direct_);
  if (!search_->any) {
    if (!attempt_part(search_->names)) return false;
    if (search_->names.code()) return true;
    if (!search_->connect_to(search_->names.value())) {
      error_ = ENOMEM;
      return true;
    }
  }
  return attempt_part(*search_->any);
}

void ConnectToHostEvent::undo() noexcept {
  if (direct_) return undo_part(*direct_);
  if (search_->any) return undo_part(*search_->any);
  undo_part(search_->names);
}

void ConnectToHostEvent::describe(Description& out) const {
  if (direct_) return direct_->describe(out);
  if (search_->any) return search_->any->describe(out);
  search_->names.describe(out);
}

std::error_code ConnectToHostEvent::code() const noexcept {
  if (error_ != 0) return {error_, std::system_category()};
  if (search_ && !search_->any) return search_->names.code();
  const int error = direct_ ? direct_->error() : search_->any->error();
  return {error, std::system_category()};
}

Connection ConnectToHostEvent::value() noexcept {
  if (code()) return Connection();
  return direct_ ? direct_->value() : search_->any->value();
}

Connection ConnectToHostEvent::result() {
  if (error_ != 0) throw_system(error_, "connect");
  if (direct_) return direct_->result();
  if (!search_->any) search_->names.result();
  return search_->any->result();
}

}  // namespace violet
