// names.hpp - names that a test answers itself.
// SPDX-License-Identifier: MIT
#pragma once

#include <netdb.h>

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sockets.hpp"

namespace names {

using namespace sockets;

/// Answers for the whole world what it was told, on any thread.
class FakeNames final : public sys::Names {
 public:
  struct Entry {
    int failed = 0;
    int error = 0;
    std::vector<sockaddr_storage> addresses;
  };

  int look_up(const char* host, int family,
              std::vector<sockaddr_storage>& found) override {
    std::unique_lock lock(mutex_);
    asked_ += host;
    asked_ += ' ';
    ++times_asked_;
    ++in_it_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
    std::string name = host;
    if (name.back() == '.') name.pop_back();
    const auto entry = entries_.find(name);
    int failed = failure_;
    if (failed == 0) {
      failed = entry == entries_.end() ? EAI_NONAME : entry->second.failed;
    }
    if (failed == 0) {
      for (const sockaddr_storage& one : entry->second.addresses) {
        if (family == 0 || one.ss_family == family) found.push_back(one);
      }
    }
    errno = entry == entries_.end() ? 0 : entry->second.error;
    --in_it_;
    changed_.notify_all();
    return failed;
  }

  bool at_once() const noexcept override {
    const std::lock_guard lock(mutex_);
    return at_once_;
  }

 private:
  friend class FakeDns;

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;
  int failure_ = 0;
  bool at_once_ = false;
  bool held_ = false;
  std::string asked_;
  int times_asked_ = 0;
  int in_it_ = 0;
};

/// Has names of this thread looked up by FakeNames while it lives.
class FakeDns final : public sys::Layer {
 public:
  std::shared_ptr<sys::Names> names() noexcept override { return fake_; }

  void answer(const std::string& host, std::vector<const char*> numbers) {
    FakeNames::Entry entry;
    for (const char* number : numbers) {
      const Address address = Address::parse(number);
      sockaddr_storage name{};
      std::memcpy(&name, address.get(), address.size());
      entry.addresses.push_back(name);
    }
    set(host, entry);
  }
  void fail(const std::string& host, int failed, int error = 0) {
    FakeNames::Entry entry;
    entry.failed = failed;
    entry.error = error;
    set(host, entry);
  }
  void fail_all(int failed) {
    const std::lock_guard lock(fake_->mutex_);
    fake_->failure_ = failed;
  }
  void at_once(bool yes) {
    const std::lock_guard lock(fake_->mutex_);
    fake_->at_once_ = yes;
  }

  /// From now on nobody is answered, until let_go().
  void hold() {
    const std::lock_guard lock(fake_->mutex_);
    fake_->held_ = true;
  }
  void let_go() {
    const std::lock_guard lock(fake_->mutex_);
    fake_->held_ = false;
    fake_->changed_.notify_all();
  }

  /// Waits until so many have been asked, while the loop goes on.
  Task<> until_asked(int count) {
    while (times_asked() < count) co_await violet::sleep(1ms);
  }

  /// Waits until no thread is in it any more.
  void until_answered() {
    std::unique_lock lock(fake_->mutex_);
    fake_->changed_.wait(lock, [this] { return fake_->in_it_ == 0; });
  }

  std::string asked() const {
    const std::lock_guard lock(fake_->mutex_);
    return fake_->asked_;
  }
  int times_asked() const {
    const std::lock_guard lock(fake_->mutex_);
    return fake_->times_asked_;
  }

 private:
  void set(const std::string& host, const FakeNames::Entry& entry) {
    const std::lock_guard lock(fake_->mutex_);
    fake_->entries_[host] = entry;
  }

  std::shared_ptr<FakeNames> fake_ = std::make_shared<FakeNames>();
};

}  // namespace names
