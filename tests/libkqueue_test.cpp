// libkqueue_test.cpp - what tests are excused for over libkqueue is its defect.
//
// Each program in libkqueue/ is plain C, shows one thing that kqueue(2) says
// and libkqueue does not do, and exits with 1 for as long as that is so. Tests
// that cannot pass by that carry its name as a tag, [libkqueue:NAME].
//
// SPDX-License-Identifier: MIT
#if defined(__linux__) && defined(VIOLET_KQUEUE)

#include "catch.hpp"
#include "program.hpp"

using namespace programs;

TEST_CASE("libkqueue: the defects that tests are excused for are still there",
          "[libkqueue]") {
  const std::string name = GENERATE("so_error", "poll", "close", "crowd");
  const std::string source = "tests/libkqueue/" + name + ".c";
  TemporaryFolder folder;
  const std::string target = folder.file(name);

  std::istringstream words(std::getenv("KQUEUE_CFLAGS"));
  std::vector<std::string> command{"cc", "-pthread", source, "-o", target};
  for (std::string word; words >> word;) command.push_back(word);
  const std::vector<std::string> all = libraries();
  command.insert(command.end(), all.begin() + 1, all.end());
  Program compiler(command);
  REQUIRE(compiler.wait().code == 0);

  Program shown({target});
  const End end = shown.wait();
  CAPTURE(source, shown.out());
  INFO("If this has been mended, remove the file and the tags of its name.");
  CHECK(end.code == 1);
}

#endif
