// connect.cpp - who is tried when, and what is said if all fail.
// SPDX-License-Identifier: MIT
#include "connect.hpp"

#include <algorithm>

namespace violet {

std::vector<Address> in_turns(std::vector<Address> addresses) {
  if (addresses.empty()) return addresses;
  const int first_family = addresses.front().family();
  const auto second = std::stable_partition(
      addresses.begin(), addresses.end(),
      [=](const Address& one) { return one.family() == first_family; });
  std::vector<Address> mixed;
  mixed.reserve(addresses.size());
  auto one = addresses.begin();
  auto other = second;
  while (one != second || other != addresses.end()) {
    if (one != second) mixed.push_back(*one++);
    if (other != addresses.end()) mixed.push_back(*other++);
  }
  return mixed;
}

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
std::string host_of(const Address& address) {
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
    text += name_.empty() ? address.text() : host_of(address);
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

ConnectToAnyEvent connect(std::vector<Address> addresses,
                          ConnectOptions options) {
  if (addresses.empty()) {
    throw_error(Misuse("violet: connect() to no address: give at least one"));
  }
  return ConnectToAnyEvent({}, in_turns(std::move(addresses)), options);
}

}  // namespace violet
