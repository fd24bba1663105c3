// range.cpp - ranges, tags, conditions.
// SPDX-License-Identifier: MIT
#include "range.hpp"

#include <algorithm>

namespace violet::http {

// --------------------------------------------------------------------- ranges

namespace {

/// Takes a unit and what follows it off the front.
bool skip_unit(std::string_view& text, char separator) noexcept {
  constexpr std::string_view kBytes = "bytes";
  if (text.size() <= kBytes.size() || text[kBytes.size()] != separator ||
      !same_word(text.substr(0, kBytes.size()), kBytes)) {
    return false;
  }
  text.remove_prefix(kBytes.size() + 1);
  return true;
}

/// Joins a range with those that it overlaps or touches; the result stands
/// where the first of them stood.
void join(Ranges& ranges, ByteRange range) noexcept {
  const auto meets = [&](const ByteRange& other) {
    return range.begin <= other.end && other.begin <= range.end;
  };
  ByteRange* const begin = ranges.list.data();
  ByteRange* end = begin + ranges.count;
  ByteRange* const place = std::find_if(begin, end, meets);
  // No two of the others meet, so those before the place stay apart from what
  // grows there.
  for (ByteRange* other = place; other != end;
       other = std::find_if(place, end, meets)) {
    range = {std::min(range.begin, other->begin),
             std::max(range.end, other->end)};
    end = std::move(other + 1, end, other);
  }
  std::move_backward(place, end, end + 1);
  *place = range;
  ranges.count = static_cast<std::size_t>(end + 1 - begin);
}

enum class SpecKind : std::uint8_t { kBad, kBeyond, kInside };

/// "a-b", "a-" or "-n".
SpecKind read_spec(std::string_view text, std::uint64_t size,
                   ByteRange& out) noexcept {
  const auto dash = text.find('-');
  if (dash == text.npos) return SpecKind::kBad;
  const std::string_view before = text.substr(0, dash);
  const std::string_view after = text.substr(dash + 1);
  const auto first = parse_number(before);
  const auto last = parse_number(after);
  if ((!first && !before.empty()) || (!last && !after.empty()) ||
      (!first && !last) || (first && last && *last < *first)) {
    return SpecKind::kBad;
  }
  if (!first) {
    out = {size - std::min(*last, size), size};
    return *last == 0 ? SpecKind::kBeyond : SpecKind::kInside;
  }
  if (*first >= size) return SpecKind::kBeyond;
  out = {*first, last ? std::min(*last, size - 1) + 1 : size};
  return SpecKind::kInside;
}

}  // namespace

Ranges parse_ranges(std::string_view text, std::uint64_t size) noexcept {
  const Ranges whole;
  if (!skip_unit(text, '=')) return whole;
  Ranges ranges;
  ranges.kind = Ranges::Kind::kUnsatisfiable;
  std::size_t asked = 0;
  Pieces pieces(text, ',');
  for (std::string_view piece; pieces.next(piece);) {
    if (++asked > Ranges::kMost) return whole;
    piece = trimmed(piece);
    if (piece.empty()) continue;  // lists may have those
    ByteRange range;
    const SpecKind kind = read_spec(piece, size, range);
    if (kind == SpecKind::kBad) return whole;
    if (kind == SpecKind::kBeyond) continue;
    if (range.begin == range.end) return whole;
    ranges.kind = Ranges::Kind::kSome;
    join(ranges, range);
  }
  return text.find('-') == text.npos ? whole : ranges;  // an empty list
}

std::optional<ContentRange> parse_content_range(
    std::string_view text) noexcept {
  if (!skip_unit(text, ' ')) return std::nullopt;
  const auto slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  ContentRange out;
  const std::string_view range = text.substr(0, slash);
  const std::string_view size = text.substr(slash + 1);
  if (size != "*") {
    out.size = parse_number(size);
    if (!out.size || *out.size > kMostBytes) return std::nullopt;
  }
  if (range == "*") {
    return out.size ? std::optional(out) : std::nullopt;
  }
  const auto dash = range.find('-');
  if (dash == range.npos) return std::nullopt;
  const auto first = parse_number(range.substr(0, dash));
  const auto last = parse_number(range.substr(dash + 1));
  if (!first || !last || *last < *first ||
      *last >= out.size.value_or(kMostBytes)) {
    return std::nullopt;
  }
  out.range = ByteRange{*first, *last + 1};
  return out;
}

std::string text_of(const ContentRange& range) {
  std::string text = "bytes ";
  if (range.range) {
    append_number(text, range.range->begin);
    text += '-';
    append_number(text, range.range->end - 1);
  } else {
    text += '*';
  }
  text += '/';
  if (range.size) {
    append_number(text, *range.size);
  } else {
    text += '*';
  }
  return text;
}

// ------------------------------------------------------------------ validators

namespace {

/// Takes an entity tag off the front.
std::optional<ETag> skip_etag(std::string_view& text) noexcept {
  ETag tag;
  tag.weak = text.substr(0, 2) == "W/";
  if (tag.weak) text.remove_prefix(2);
  if (text.empty() || text.front() != '"') return std::nullopt;
  const auto end = text.find('"', 1);
  if (end == text.npos) return std::nullopt;
  tag.opaque = text.substr(1, end - 1);
  text.remove_prefix(end + 1);
  const bool blank = tag.opaque.find_first_of(" \t") != tag.opaque.npos;
  if (blank || !internal::all_are(internal::kValue, tag.opaque)) {
    return std::nullopt;
  }
  return tag;
}

/// A list of entity tags. Once something in it is none, it ends.
class Tags {
 public:
  explicit Tags(std::string_view list) noexcept : rest_(list) {}

  std::optional<ETag> next() noexcept {
    while (!rest_.empty() && (rest_.front() == ',' || rest_.front() == ' ' ||
                              rest_.front() == '\t')) {
      rest_.remove_prefix(1);
    }
    const auto tag = skip_etag(rest_);
    const std::string_view after = trimmed(rest_);
    const bool ends = after.empty() || after.front() == ',';
    if (tag && ends) return tag;
    rest_ = {};
    return std::nullopt;
  }

 private:
  std::string_view rest_;
};

}  // namespace

std::optional<ETag> parse_etag(std::string_view text) noexcept {
  const auto tag = skip_etag(text);
  return text.empty() ? tag : std::nullopt;
}

// ------------------------------------------------------------------ conditions

namespace {

/// Evaluates one request. Each condition is nothing if the request has none
/// of that kind, or one that is to be ignored.
class Conditions {
 public:
  Conditions(const RequestHead& head, const Selected& selected,
             Time now) noexcept
      : head_(head), selected_(selected), now_(now) {}

  bool reads() const noexcept {
    return head_.method == "GET" || head_.method == "HEAD";
  }

  std::optional<bool> if_match() const noexcept {
    return matches("If-Match", strongly_equal);
  }

  std::optional<bool> if_none_match() const noexcept {
    const auto any = matches("If-None-Match", weakly_equal);
    return any ? std::optional(!*any) : std::nullopt;
  }

  std::optional<bool> if_unmodified_since() const noexcept {
    const auto date = date_of("If-Unmodified-Since");
    if (!date || !selected_.modified) return std::nullopt;
    return *selected_.modified <= *date;
  }

  std::optional<bool> if_modified_since() const noexcept {
    const auto date = date_of("If-Modified-Since");
    if (!reads() || !date || !selected_.modified) return std::nullopt;
    return *selected_.modified > *date;
  }

  /// RFC 9110, section 13.1.5.
  std::optional<bool> if_range() const noexcept {
    if (head_.fields.count("If-Range") == 0) return std::nullopt;
    const auto value = head_.fields.only("If-Range");
    if (!value) return false;
    if (const auto tag = parse_etag(*value)) {
      return selected_.etag && strongly_equal(*tag, *selected_.etag);
    }
    const auto date = parse_date(*value, now_);
    return date && selected_.modified_is_strong && selected_.modified == date;
  }

 private:
  /// True if the tag of what is there stands in the lists, or one is "*" and
  /// anything is there.
  template <class Equal>
  std::optional<bool> matches(std::string_view name,
                              Equal equal) const noexcept {
    std::optional<bool> found;
    for (const Field field : head_.fields) {
      if (!same_word(field.name, name)) continue;
      found = found.value_or(false);
      if (!selected_.exists) continue;
      if (field.value == "*") found = true;
      if (!selected_.etag) continue;
      Tags tags(field.value);
      for (auto tag = tags.next(); tag; tag = tags.next()) {
        if (equal(*tag, *selected_.etag)) found = true;
      }
    }
    return found;
  }

  std::optional<Time> date_of(std::string_view name) const noexcept {
    const auto value = head_.fields.only(name);
    return value ? parse_date(*value, now_) : std::nullopt;
  }

  const RequestHead& head_;
  const Selected& selected_;
  Time now_;
};

/// The status of a request whose conditions do not hold; 0 if they do.
int refusal_of(const Conditions& conditions) noexcept {
  if (const auto match = conditions.if_match()) {
    if (!*match) return 412;
  } else if (!conditions.if_unmodified_since().value_or(true)) {
    return 412;
  }
  if (const auto none_match = conditions.if_none_match()) {
    if (!*none_match) return conditions.reads() ? 304 : 412;
  } else if (!conditions.if_modified_since().value_or(true)) {
    return 304;
  }
  return 0;
}

}  // namespace

Verdict evaluate(const RequestHead& head, const Selected& selected,
                 Time now) noexcept {
  const Conditions conditions(head, selected, now);
  Verdict verdict;
  // What would be 404 without conditions is 404 with them (section 13.2.1).
  if (conditions.reads() && !selected.exists) return verdict;
  verdict.status = refusal_of(conditions);
  if (verdict.status != 0 || !conditions.reads()) return verdict;
  verdict.status = 200;
  const auto range = head.fields.only("Range");
  // Range is defined for GET alone (RFC 9110, section 14.2).
  if (head.method != "GET" || !range || !conditions.if_range().value_or(true)) {
    return verdict;
  }
  verdict.ranges = parse_ranges(*range, selected.size);
  if (verdict.ranges.kind == Ranges::Kind::kSome) verdict.status = 206;
  if (verdict.ranges.kind == Ranges::Kind::kUnsatisfiable) verdict.status = 416;
  return verdict;
}

}  // namespace violet::http
