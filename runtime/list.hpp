// list.hpp - an intrusive list: the links lie in the members themselves.
//
// Everything that waits or is ready stands in such a list: jobs in the ready
// queue, jobs in their group, joiners at a job. Entering and leaving are O(1)
// and allocate nothing, so neither can fail. A type that stands in two lists
// at once derives from two links, told apart by a tag.
//
// The ready queue, which everything passes through, is a plain Queue: one
// link each, in at the back and out at the front.
//
// The ring of a List is circular, and the list is one pointer to its first
// member: an empty list costs its owner eight bytes.
//
// Built on: nothing.
// SPDX-License-Identifier: MIT
#pragma once

namespace violet {

/// The place of one member in one list.
template <class Tag>
class Link {
 public:
  Link() noexcept {}
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  bool in_list() const noexcept { return next_ != nullptr; }

 private:
  template <class, class>
  friend class List;

  Link* next_ = nullptr;  // null in no list
  Link* previous_;        // of meaning in one
};

/// A list of T, each of which derives from Link<Tag>. Owns none of them.
template <class T, class Tag>
class List {
 public:
  List() noexcept {}
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const noexcept { return first_ == nullptr; }
  T& front() const noexcept { return member(first_); }
  T& back() const noexcept { return member(first_->previous_); }

  /// The same, null if there is none.
  T* first() const noexcept { return empty() ? nullptr : &front(); }
  T* last() const noexcept { return empty() ? nullptr : &back(); }

  /// The member after `current`, or null after the last.
  T* next(T& current) const noexcept {
    Link<Tag>* link = static_cast<Link<Tag>&>(current).next_;
    return link == first_ ? nullptr : &member(link);
  }

  /// The member before `current`, or null before the first.
  T* previous(T& current) const noexcept {
    Link<Tag>* link = &current;
    return link == first_ ? nullptr : &member(link->previous_);
  }

  void push_back(T& added) noexcept {
    Link<Tag>* link = &added;
    if (first_ == nullptr) {
      first_ = link->next_ = link->previous_ = link;
      return;
    }
    Link<Tag>* last = first_->previous_;
    link->next_ = first_;
    link->previous_ = last;
    last->next_ = first_->previous_ = link;
  }

  /// Takes out a member that stands in this list.
  void remove(T& removed) noexcept {
    Link<Tag>* link = &removed;
    if (link->next_ == link) {
      first_ = nullptr;
    } else {
      link->previous_->next_ = link->next_;
      link->next_->previous_ = link->previous_;
      if (first_ == link) first_ = link->next_;
    }
    link->next_ = nullptr;
  }

  T& pop_front() noexcept {
    T& popped = front();
    remove(popped);
    return popped;
  }

 private:
  static T& member(Link<Tag>* link) noexcept { return static_cast<T&>(*link); }

  Link<Tag>* first_ = nullptr;
};

/// The place of one member in one queue.
template <class T>
class QueueLink {
 public:
  QueueLink() noexcept {}
  QueueLink(const QueueLink&) = delete;
  QueueLink& operator=(const QueueLink&) = delete;

 private:
  template <class>
  friend class Queue;
  T* behind_ = nullptr;
};

/// First in, first out; who leaves from the middle has to be searched for.
/// Owns none.
template <class T>
class Queue {
 public:
  Queue() noexcept {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  bool empty() const noexcept { return first_ == nullptr; }
  T& front() const noexcept { return *first_; }

  void push_back(T& added) noexcept {
    behind(added) = nullptr;
    *(first_ == nullptr ? &first_ : &behind(*last_)) = &added;
    last_ = &added;
  }

  T& pop_front() noexcept {
    T& popped = *first_;
    first_ = behind(popped);
    return popped;
  }

  /// Calls visit(member) for each, in order.
  template <class Visit>
  void each(Visit visit) const {
    for (T* one = first_; one != nullptr; one = behind(*one)) visit(*one);
  }

  /// Takes out a member that stands in this queue. Cost: O(n).
  void remove(T& removed) noexcept {
    if (first_ == &removed) {
      pop_front();
      return;
    }
    T* before = first_;
    while (behind(*before) != &removed) before = behind(*before);
    behind(*before) = behind(removed);
    if (last_ == &removed) last_ = before;
  }

 private:
  static T*& behind(T& member) noexcept {
    return static_cast<QueueLink<T>&>(member).behind_;
  }

  T* first_ = nullptr;
  T* last_ = nullptr;  // only of meaning while there is a first
};

}  // namespace violet
