// fault.cpp - the sentences and the statuses.
// SPDX-License-Identifier: MIT
#include "fault.hpp"

#include <string>

namespace violet::http {

namespace {

struct FaultEntry {
  int status;
  std::string_view text;
};

// In the order of Fault; fault_entry() relies on it, and a test reads all.
constexpr FaultEntry kFaults[kFaultCount] = {
    {0, "nothing is wrong"},

    {400, "a line ends in LF without CR"},
    {400, "a CR stands inside a line"},
    {400, "a control character stands in a line"},
    {400, "a line begins with a space where none may"},
    {431, "a line is too long"},
    {431, "the head is too long"},

    {400, "more than one empty line comes before the request"},
    {400, "the first line is not method, target and version"},
    {400, "the method is not a word"},
    {501, "the method is too long to be known"},
    {400, "the target is none that this method may have"},
    {414, "the target is too long"},
    {400, "the version is not of the form HTTP/1.1"},
    {505, "the version of HTTP is neither 1.0 nor 1.1"},
    {502, "the first line is not version and status"},
    {400,
     "the path has a bad escape, a NUL, an encoded slash or a dot segment"},

    {400, "a field has no colon"},
    {400, "the name of a field is not a word"},
    {400, "a space stands before the colon of a field"},
    {400, "a field goes on in a second line"},
    {431, "there are too many fields"},
    {400, "Host is missing"},
    {400, "there is more than one Host"},
    {400, "Host is not a host"},
    {417, "Expect asks for something unknown"},

    {400, "Content-Length is not a number"},
    {400, "there is more than one Content-Length"},
    {400, "both Content-Length and Transfer-Encoding are given"},
    {400, "Transfer-Encoding does not end in chunked, once"},
    {501, "a transfer coding is unknown"},
    {400, "HTTP/1.0 has no Transfer-Encoding"},
    {411, "the length of the body is not given"},

    {413, "the body is too long"},
    {400, "the size of a chunk is not a number"},
    {400, "the line of a chunk is too long"},
    {400, "a chunk does not end where its size says"},
    {400, "the body ends too early"},
};

const FaultEntry& fault_entry(Fault fault) noexcept {
  return kFaults[static_cast<int>(fault) % kFaultCount];
}

class FaultCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "http"; }
  std::string message(int value) const override {
    return std::string(text_of(static_cast<Fault>(value)));
  }
};

}  // namespace

int status_of(Fault fault) noexcept {
  return fault_entry(fault).status;
}

std::string_view text_of(Fault fault) noexcept {
  return fault_entry(fault).text;
}

const std::error_category& fault_category() noexcept {
  static const FaultCategory category;
  return category;
}

}  // namespace violet::http
