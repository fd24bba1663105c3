// catch.hpp - Catch2 as the tests see it, version 2 or 3.
//
// Every test file includes this first and nothing else of Catch2. Which one
// is there decides; the Makefile says so where the choice is not in the
// include path: VIOLET_CATCH_AMALGAMATED for the two files of version 3.
//
// SPDX-License-Identifier: MIT
#ifndef VIOLET_TESTS_CATCH_HPP
#define VIOLET_TESTS_CATCH_HPP

// An exception within CHECK(..) ends the test case, as in REQUIRE(..). For that
// a compiler is done sooner by a sixth: it has no try block for each of them.
#define CATCH_CONFIG_FAST_COMPILE

#if defined(VIOLET_CATCH_AMALGAMATED)
#include <catch_amalgamated.hpp>
#elif __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#elif __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#else
#error "Catch2 is missing: `make test` finds or installs it"
#endif

#endif
