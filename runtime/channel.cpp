// channel.cpp - the lines in front of a channel.
// SPDX-License-Identifier: MIT
#include "channel.hpp"

namespace violet {

// -------------------------------------------------------------------- events

// Out of line, what it waited for may be gone.
void ChannelEvent::describe_line(const char* verb, Description& out) const {
  out.text = concat({"channel ", verb});
  if (!in_list()) return;
  out.text += concat({" ", channel_->size(), "/", channel_->capacity()});
}

void ChannelEvent::stand_by() noexcept {
  if (!fresh()) return;
  set(Passage::kStandsBy);
  channel_->standing_by_.push_back(*this);
}

void ChannelEvent::leave_standing_by() noexcept {
  channel_->standing_by_.remove(*this);
  set(Passage::kNone);
}

void ChannelCore::throw_failure(Passage why) {
  if (why == Passage::kDestroyed) {
    throw_error(Misuse(
        "violet: the channel was destroyed while a job waited at it: let it "
        "live in a frame that outlives the jobs that use it"));
  }
  if (why == Passage::kDeserted) {
    throw_error(Closed(
        "violet: nobody receives from the channel any more, so the item was "
        "not accepted: keep a Receiver until the senders have ended"));
  }
  throw_error(Closed(
      "violet: the channel is closed, so the item was not accepted: close it "
      "when its senders have ended, or let their Sender handles do it"));
}

// ------------------------------------------------------------------- senders

bool ChannelCore::enter_senders(ChannelEvent& sender) noexcept {
  if (closed()) {
    sender.set(state_);
    return true;
  }
  sender.set(Passage::kInLine);
  senders_.push_back(sender);
  ++offered_;
  if (next_ != nullptr) grant_next();
  return false;
}

// A job that is not parked takes its own item, by an event beside this one.
void ChannelCore::accept(ChannelEvent& sender) noexcept {
  senders_.remove(sender);
  --offered_;
  dismiss(sender, Passage::kAccepted);
  const Stack& job = *sender.job();
  if (job.step == Step::kReady && job.event != &sender) {
    job.event->decide(sender);
  }
}

/// Whoever was granted the item that goes with this sender gets the next.
void ChannelCore::leave_senders(ChannelEvent& sender) noexcept {
  senders_.remove(sender);
  --offered_;
  withdraw();
}

// ----------------------------------------------------------------- receivers

bool ChannelCore::enter_receivers(ChannelEvent& receiver) noexcept {
  if (may_take()) return true;
  if (closed()) [[unlikely]] {
    if (available() == 0) {
      receiver.set(state_);
      return true;
    }
  }
  receiver.set(Passage::kInLine);
  receivers_.push_back(receiver);
  if (next_ == nullptr) next_ = &receiver;
  return false;
}

/// A grant that is not used goes to the next in line.
void ChannelCore::leave_receivers(ChannelEvent& receiver) noexcept {
  if (receiver.passage() == Passage::kGranted) {
    retire(receiver);
    if (next_ != nullptr && may_take()) grant_next();
    return;
  }
  if (next_ == &receiver) next_ = receivers_.next(receiver);
  receivers_.remove(receiver);
}

/// Grants the item that belongs to nobody to the first who has none.
void ChannelCore::grant_next() noexcept {
  ChannelEvent& receiver = *next_;
  next_ = receivers_.next(receiver);
  ++granted_;
  dismiss(receiver, Passage::kGranted);
}

/// Takes back grants of items that are gone, from the latest on: so the line
/// keeps its order. The jobs are awake; their attempts will find nothing.
void ChannelCore::withdraw() noexcept {
  while (granted_ > available()) {
    next_ = next_ == nullptr ? &receivers_.back() : receivers_.previous(*next_);
    next_->set(Passage::kInLine);
    --granted_;
  }
}

/// Nothing will ever come to the receivers of a closed channel once the last
/// item is taken.
void ChannelCore::end_receivers() noexcept {
  if (!closed() || available() > 0) return;
  next_ = nullptr;
  granted_ = 0;
  while (!receivers_.empty()) dismiss(receivers_.pop_front(), state_);
}

// ------------------------------------------------------------------- the end

void ChannelCore::dismiss(ChannelEvent& event, Passage why) noexcept {
  event.set(why);
  wake(*event.job());
}

void ChannelCore::close(Passage why) noexcept {
  if (closed()) return;
  state_ = why;
  limit_ = 0;
  while (!senders_.empty()) dismiss(senders_.pop_front(), why);
  offered_ = 0;
  withdraw();
  end_receivers();
}

void ChannelCore::dismiss_everyone() noexcept {
  for (auto* handles : {&sender_handles_, &receiver_handles_}) {
    while (!handles->empty()) handles->pop_front().channel_ = nullptr;
  }
  // Closed and empty, it has told those in line; the others hear the same.
  const Passage why = closed() && count_ == 0 ? state_ : Passage::kDestroyed;
  for (auto* line : {&senders_, &receivers_, &standing_by_}) {
    while (!line->empty()) dismiss(line->pop_front(), why);
  }
}

// ------------------------------------------------------------------- handles

ChannelHandle::ChannelHandle(ChannelCore* channel, Side side) noexcept
    : side_(side) {
  join(channel);
}

ChannelHandle& ChannelHandle::operator=(const ChannelHandle& other) noexcept {
  if (channel_ == other.channel_) return *this;
  leave();
  join(other.channel_);
  return *this;
}

ChannelCore& ChannelHandle::channel() const {
  if (channel_ != nullptr) return *channel_;
  throw_error(Misuse(
      "violet: the channel of this handle is gone: let it live in a frame "
      "that outlives its handles"));
}

void ChannelHandle::join(ChannelCore* channel) noexcept {
  channel_ = channel;
  if (channel == nullptr) return;
  (side_ == Side::kSending ? channel->sender_handles_
                           : channel->receiver_handles_)
      .push_back(*this);
}

void ChannelHandle::leave() noexcept {
  if (channel_ == nullptr) return;
  const bool sends = side_ == Side::kSending;
  auto& handles =
      sends ? channel_->sender_handles_ : channel_->receiver_handles_;
  handles.remove(*this);
  if (!handles.empty()) return;
  channel_->close(sends ? Passage::kClosed : Passage::kDeserted);
}

}  // namespace violet
