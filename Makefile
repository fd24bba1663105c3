# Makefile - builds the library, the programs and the tests into build/.
#
#   make            the library and the programs      make help   all targets
#   make run        the echo server                   make test   the tests

# ---------------------------------------------------------------------------
# Settings: change these, here or on the command line (make OPT=-O0 test).

ifeq ($(origin CXX),default)  # make has a CXX of its own, so ?= is not enough
CXX     = g++
endif
OPT    ?= -O2
BUILD  ?= build
SAN    ?=                     # address,undefined or thread
WERROR ?=                     # 1: a warning is an error
POLLER ?=                     # kqueue: on Linux, too, by way of libkqueue
CATCH  ?=                     # where a Catch2 lies, if not where it is searched
TESTS  ?=                     # arguments to the tests, for example [threads]
FILES  ?=                     # test files, if not all; with a BUILD of their own
ARGS   ?=                     # arguments to `make run`
V      ?=                     # 1: show whole commands

WARN  = -Wall
WARN += -Wextra
WARN += -Wpedantic
WARN += -Wshadow
WARN += -Wconversion
WARN += -Wold-style-cast
WARN += -Woverloaded-virtual
WARN += -Wundef

# ---------------------------------------------------------------------------
# Nothing to change below this line.

ifeq ($(filter -j% --jobs%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN)
endif
$(if $(filter clean,$(MAKECMDGOALS)),.NOTPARALLEL:)  # clean first, then all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all run test bench tour format lint house clean help FORCE

B     := $(patsubst %/,%,$(strip $(BUILD)))
Q     := $(if $(strip $(V)),,@)
SAN_  := $(if $(strip $(SAN)),-fsanitize=$(strip $(SAN)) \
         -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
ifneq ($(filter-out kqueue epoll,$(strip $(POLLER))),)
$(error POLLER=$(strip $(POLLER)) is unknown: say POLLER=kqueue, or nothing)
endif
ifeq ($(strip $(POLLER))-$(shell uname),kqueue-Linux)
KQUEUE_CFLAGS ?= $(shell pkg-config --cflags libkqueue)
KQUEUE_LIBS   ?= $(shell pkg-config --libs libkqueue)
ifeq ($(strip $(KQUEUE_CFLAGS)$(KQUEUE_LIBS)),)
$(error POLLER=kqueue needs libkqueue on Linux, and pkg-config knows none: \
  say where it lies with KQUEUE_CFLAGS=... and KQUEUE_LIBS=...)
endif
export KQUEUE_CFLAGS KQUEUE_LIBS
KQUEUE := -DVIOLET_KQUEUE $(patsubst -I%,-isystem %,$(KQUEUE_CFLAGS))
# Each program in tests/libkqueue shows a defect, and says what fails by it.
NOT    := $(patsubst tests/libkqueue/%.c,~[libkqueue:%],$(wildcard \
          tests/libkqueue/*.c))
endif
CALLS  = $(if $(filter Darwin,$(shell uname)),,-fno-plt)
# To shared libraries without a detour.
BASE   = -std=c++20 -pthread $(SAN_) $(KQUEUE) $(CPPFLAGS) $(CXXFLAGS)
SMALL  = -ffunction-sections -fdata-sections
# Sections of their own, so that the linker leaves out what is not used.
FLAGS  = $(OPT) $(SMALL) $(CALLS) $(WARN) $(if $(filter 1,$(WERROR)),-Werror) $(BASE)
# Code and constants share their pages: small programs have few of them.
LINK   = $(CXX) -pthread -Wl,--gc-sections,-z,noseparate-code $(SAN_) $(LDFLAGS)

# The files of a folder, as its ORDER lists them.
order  = $(addprefix $1/,$(if $(wildcard $1/ORDER),$(shell \
         sed -n 's/^\([a-z][^ ]*\).*/\1/p' $1/ORDER)))
LISTED:= $(call order,runtime) $(call order,net)
LIB   := $(patsubst %.cpp,%.o,$(filter %.cpp,$(LISTED)))
APPS  := $(patsubst apps/%.cpp,$B/%,$(wildcard apps/*.cpp))
FRONT := $B/include/violet.hpp $B/include/violet/testing.hpp
TEST  := $(patsubst %.cpp,$B/obj/%.o,$(or $(strip $(FILES)),$(wildcard \
         tests/*_test.cpp tests/regress/*_test.cpp)) tests/main.cpp)
BENCH := $(patsubst tests/bench/%.cpp,$B/bench/%,$(wildcard tests/bench/*.cpp))

# The way from a folder in the build directory back to the top.
PARTS := $(filter-out .,$(subst /, ,$B))
TOP   := $(if $(filter /%,$B)$(filter ..,$(PARTS)),$(CURDIR),$(subst \
         . .,./.,$(patsubst %,..,$(PARTS)) ..))

all: $B/libviolet.a $(APPS)  ## the library and the programs (the default)

run: $B/echo  ## build and start the echo server (ARGS='--port 4916')
	@exec $B/echo $(ARGS)

test: $B/tests/all $(APPS)  ## build and run the tests (TESTS='[threads]')
	@set -f; VIOLET_BUILD='$B' exec $B/tests/all $(TESTS) $(NOT)

bench: $(BENCH)  ## build and run the measurements in tests/bench
	@for b in $(BENCH); do echo "== $$b"; $$b || exit 1; done

tour:  ## the files in reading order, with their sizes
	@for d in $(patsubst %/ORDER,%,$(wildcard runtime/ORDER net/ORDER)); do \
	  while read -r name purpose; do case $$name in \
	    ''|\#*) echo "$$name $$purpose" ;; \
	    *) printf '%5d  %-26s %s\n' $$(wc -l < $$d/$$name || echo 0) \
	      $$d/$$name "$$purpose" ;; esac; done < $$d/ORDER; echo; done

SOURCE = $(wildcard $(foreach d,runtime net net/http apps tests tests/regress \
         tests/bench,$d/*.hpp $d/*.cpp))
format:  ## let clang-format lay out the sources
	@tool=$$(command -v clang-format-19 || command -v clang-format) || \
	  { echo "make format needs clang-format."; exit 1; }; \
	$$tool -i $(SOURCE)

lint: $(FRONT)  ## let clang-tidy read the library and the programs
	@tool=$$(command -v clang-tidy-19 || command -v clang-tidy) || \
	  { echo "make lint needs clang-tidy."; exit 1; }; \
	printf '%s\n' $(filter %.cpp,$(LISTED)) $(wildcard apps/*.cpp) | \
	xargs -n 1 -P $$(getconf _NPROCESSORS_ONLN) sh -c \
	  '"$$0" --quiet "$$1" -- -std=c++20 -I$B/include 2>/dev/null' $$tool

house:  ## the mechanical checks: order, includes, width, headings
	@sh tests/house.sh

clean:  ## remove the build directory
	rm -rf $B

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1	\2/p' Makefile | expand -t 14
	@echo "Settings: CXX OPT SAN WERROR BUILD CATCH TESTS FILES ARGS V (see Makefile)"

# Objects depend on the flags they were made with: $B/flags is written anew
# when they change.
STAMP := $(strip $(CXX) $(FLAGS) $(LDFLAGS) $(KQUEUE_LIBS) $(CATCH))
ifneq ($(file < $B/flags),$(STAMP))
$B/flags: FORCE
endif
$B/flags:
	@mkdir -p $(@D) && printf '%s\n' '$(STAMP)' > $@

$B/obj/%.o: %.cpp $B/flags | $(FRONT)
	@mkdir -p $(@D) && echo "  compile $<"
	$Q$(CXX) $(FLAGS) -MMD -MP -I$B/include -c $< -o $@

# What runs at most once for each client is compiled for size.
SELDOM = $(foreach o,dump error loops program signals,runtime/$o.o) \
         $(foreach o,address socket listener server,net/$o.o)
$(addprefix $B/obj/,$(SELDOM)): OPT := $(patsubst -O2,-Os,$(OPT))

$B/bench/obj/%.o: %.cpp $B/flags | $(FRONT)
	@mkdir -p $(@D) && echo "  compile $< (to measure)"
	$Q$(CXX) $(FLAGS) -O2 -DNDEBUG -MMD -MP -I$B/include -c $< -o $@

$B/libviolet.a: $(addprefix $B/obj/,$(LIB))
$B/bench/libviolet.a: $(addprefix $B/bench/obj/,$(LIB))
%/libviolet.a: $(wildcard runtime/ORDER net/ORDER)
	@echo "  archive $@" && rm -f $@
	$Q$(AR) rcs $@ $(filter %.o,$^)

$(APPS): $B/%: $B/obj/apps/%.o $B/libviolet.a
$(BENCH): $B/bench/%: $B/bench/obj/tests/bench/%.o $B/bench/libviolet.a
$(APPS) $(BENCH):
	@echo "  link    $@"
	$Q$(LINK) $^ $(KQUEUE_LIBS) -o $@

# What users include, with -I build/include: `#include <violet.hpp>`, and in
# their tests `#include <violet/testing.hpp>`.
$B/include/violet.hpp:
	@mkdir -p $(@D) && echo '#include "$(TOP)/net/net.hpp"' > $@
$B/include/violet/testing.hpp:
	@mkdir -p $(@D) && \
	echo '#include "$(TOP:.%=../.%)/runtime/testing.hpp"' > $@

# Tests. catch.cc and catch.ld say how to compile and link with Catch2, either
# version; catch.hpp.gch is that header compiled once for all tests.
T     := $B/tests
TFLAGS = $(FLAGS) -MMD -MP @$T/catch.cc -iquote tests -I$B/include

$T/all: $(TEST) $B/libviolet.a
	@echo "  link    $@"
	$Q$(LINK) $^ $$(cat $T/catch.ld) $(KQUEUE_LIBS) -o $@

$B/obj/tests/%.o: tests/%.cpp $T/catch.hpp.gch $B/flags | $(FRONT)
	@mkdir -p $(@D) && echo "  compile $<"
	$Q$(CXX) $(TFLAGS) -include $T/catch.hpp -c $< -o $@

# Mostly Catch2's own code, so: quick to compile, and its warnings not ours.
$B/obj/tests/main.o: tests/main.cpp $T/catch.cc $B/flags
	@mkdir -p $(@D) && echo "  compile $<"
	$Q$(CXX) $(TFLAGS) -O0 -w -c $< -o $@

$T/catch.hpp.gch: tests/catch.hpp $T/catch.cc $B/flags
	@echo '#include "$(TOP)/tests/catch.hpp"' > $T/catch.hpp
	$Q$(CXX) $(TFLAGS) -MF $T/catch.d -MT $@ -x c++-header $T/catch.hpp -o $@

# Finds Catch2, or installs it: in CATCH if that is set (the amalgamated files,
# a source tree or a prefix), else version 3 or 2 in the usual places.
$T/catch.cc: $B/flags
	@mkdir -p $T && exec 3>&1 >$T/catch.log 2>&1; \
	accept() { echo "$$2" > $T/catch.ld; echo "$$1" > $@; exit 0; }; \
	builds() { printf '#include <%s>\nint main() { %s }\n' "$$1" "$$2" | \
	  $(CXX) $(BASE) $$3 -x c++ - -o $T/probe $$4; }; \
	look() { for p in $(or $(CATCH),'' /usr/local /opt/homebrew); do \
	  for a in $$p $$p/extras; do if [ -f $$a/catch_amalgamated.cpp ]; then \
	    $(CXX) $(BASE) -DCATCH_AMALGAMATED_CUSTOM_MAIN -o $T/catch.o \
	      -c $$a/catch_amalgamated.cpp && \
	    accept "-isystem $$a -DVIOLET_CATCH_AMALGAMATED" $T/catch.o; fi; done; \
	  [ -z $$p ] || [ -d $$p/include/catch2 ] || continue; \
	  i="$${p:+-isystem $$p/include}"; l="$${p:+-L$$p/lib} -lCatch2"; \
	  builds catch2/catch_session.hpp 'Catch::Session all;' "$$i" "$$l" && \
	    accept "$$i" "$$l"; \
	  builds catch2/catch.hpp '' "-E $$i" '' && accept "$$i" ''; done; }; \
	get() { $$1 --version || return; echo "  $$*" >&3; \
	  [ $$1 = brew ] || [ $$(id -u) = 0 ] || set -- sudo -n "$$@"; \
	  "$$@" < /dev/null; look; }; \
	look; [ '$(CATCH)' ] || { get apt-get install -y catch2; \
	  get apt-get update && get apt-get install -y catch2; \
	  get brew install catch2; get dnf install -y catch2-devel; \
	  get pacman -S --noconfirm catch2; get pkg install -y catch2; }; \
	echo "The tests need Catch2$(if $(CATCH), and it is not in $(CATCH)): please" \
	  "install it (Debian: apt-get install catch2; others: its version 3)" \
	  "or say where it lies with make test CATCH=DIR; see $T/catch.log." >&3; \
	exit 1

-include $(wildcard $(patsubst %,$B/%.d,tests/catch $(foreach o,obj bench/obj, \
  $(addprefix $o/,$(basename $(filter %.cpp,$(LISTED)) $(wildcard apps/*.cpp \
  tests/*.cpp tests/*/*.cpp))))))
