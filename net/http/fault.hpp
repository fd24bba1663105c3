// fault.hpp - what can be wrong with an HTTP message, and what to answer.
//
// A fault is a value: nothing in net/http throws because of what a peer sent.
// Each has a sentence and the status that a server answers with. After any
// fault nobody knows where the next message begins, so the connection closes.
//
// Built on: nothing. See: RFC 9112, section 11.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace violet::http {

enum class Fault : std::uint8_t {
  kNone,
  // lines
  kBareLf,
  kBareCr,
  kControl,
  kLeadingSpace,
  kLongLine,
  kLongHead,
  // the first line
  kEmptyLines,
  kBadRequestLine,
  kBadMethod,
  kLongMethod,
  kBadTarget,
  kLongTarget,
  kBadVersion,
  kOtherVersion,
  kBadStatus,
  kBadPath,
  // fields
  kNoColon,
  kBadName,
  kSpaceBeforeColon,
  kFoldedLine,
  kManyFields,
  kNoHost,
  kManyHosts,
  kBadHost,
  kOtherExpectation,
  // framing
  kBadLength,
  kManyLengths,
  kLengthAndCoding,
  kBadCoding,
  kOtherCoding,
  kCodingIn10,
  kLengthRequired,
  // bodies
  kLongBody,
  kBadChunkSize,
  kLongChunkLine,
  kBadChunkEnd,
  kCutShort,
};

/// The number of faults, kNone among them.
inline constexpr int kFaultCount = static_cast<int>(Fault::kCutShort) + 1;

/// The status that a server answers with: 400, 411, 413, 414, 417, 431, 501 or
/// 505. 502 for what only a server can have done wrong; 0 for kNone.
int status_of(Fault fault) noexcept;

/// A sentence without a full stop: "a line ends in LF without CR".
std::string_view text_of(Fault fault) noexcept;

/// The same two as the standard library's errors, so that an operation with a
/// `std::error_code&` can say them. The code's value is the Fault's.
const std::error_category& fault_category() noexcept;
inline std::error_code make_error_code(Fault fault) noexcept {
  return {static_cast<int>(fault), fault_category()};
}

}  // namespace violet::http

template <>
struct std::is_error_code_enum<violet::http::Fault> : std::true_type {};
