# Makefile - builds the library, the programs and the tests into build/.
#
#   make            the library and the programs      make help   all targets
#   make run        the echo server                   make test   the tests
#   make install    all but the tests, below PREFIX

# ---------------------------------------------------------------------------
# Settings: change these, here or on the command line (make OPT=-O0 test).

ifeq ($(origin CXX),default)  # make has a CXX of its own, so ?= is not enough
CXX    := $(firstword $(notdir $(shell command -v g++ c++)) g++)
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
FUZZ_SECONDS ?= 3600          # how long `make fuzz` takes, all targets together
V      ?=                     # 1: show whole commands

WARN  = -Wall
WARN += -Wextra
WARN += -Wpedantic
WARN += -Wshadow
WARN += -Wconversion
WARN += -Wold-style-cast
WARN += -Woverloaded-virtual
WARN += -Wundef

# Where `make install` puts things. DESTDIR, which packagers set, goes before
# all of them.
PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/violet
DESTDIR    ?=

# ---------------------------------------------------------------------------
# Nothing to change below this line.

ifeq ($(filter -j% --jobs%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN)
endif
$(if $(filter clean,$(MAKECMDGOALS)),.NOTPARALLEL:)  # clean first, then all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all run demo test single bench fuzz tour format lint house install
.PHONY: uninstall clean help FORCE

B     := $(patsubst %/,%,$(strip $(BUILD)))
Q     := $(if $(strip $(V)),,@)
SAN_  := $(if $(strip $(SAN)),-fsanitize=$(strip $(SAN)) \
         -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
ifneq ($(filter-out kqueue epoll,$(strip $(POLLER))),)
$(error POLLER=$(strip $(POLLER)) is unknown: say POLLER=kqueue, or nothing)
endif
ifeq ($(strip $(POLLER))-$(shell uname),kqueue-Linux)
KQUEUE_CFLAGS ?= $(shell pkg-config --cflags libkqueue)
KQUEUE_LIBS   ?= $(shell pkg-config --libs libkqueue)
BUILDS := $(filter-out clean help house tour uninstall,$(or $(MAKECMDGOALS),all))
ifeq ($(strip $(KQUEUE_CFLAGS)$(KQUEUE_LIBS))$(if $(BUILDS),,none),)
$(error POLLER=kqueue needs libkqueue on Linux, and pkg-config knows none: \
  say where it lies with KQUEUE_CFLAGS=... and KQUEUE_LIBS=...)
endif
export KQUEUE_CFLAGS KQUEUE_LIBS
BELOW  := $(KQUEUE_LIBS)
KQUEUE := -DVIOLET_KQUEUE $(patsubst -I%,-isystem %,$(KQUEUE_CFLAGS))
# Each program in tests/libkqueue shows a defect, and says what fails by it.
NOT    := $(patsubst tests/libkqueue/%.c,~[libkqueue:%],$(wildcard \
          tests/libkqueue/*.c))
endif
# What it is built for need not be where it is built.
APPLE := $(findstring darwin,$(subst macos,darwin,$(shell $(CXX) -dumpmachine)))
CALLS  = $(if $(APPLE),,-fno-plt)
# To shared libraries without a detour.
BASE   = -std=c++20 -pthread $(SAN_) $(KQUEUE) $(CPPFLAGS) $(CXXFLAGS)
SMALL  = -ffunction-sections -fdata-sections
# Sections of their own, so that the linker leaves out what is not used.
FLAGS  = $(OPT) $(SMALL) $(CALLS) $(WARN) $(if $(filter 1,$(WERROR)),-Werror) $(BASE)
# Code and constants share their pages, and relocations are packed, where the
# linker knows how to: small programs have few pages, and a third of them would
# be relocations. What is linked so must also run here.
LEAN   = $(if $(APPLE),-dead_strip,--gc-sections $(shell mkdir -p $B && \
         for z in noseparate-code pack-relative-relocs; do \
         echo 'int main() {}' | $(CXX) -Xlinker -z -Xlinker $$z -x c++ - \
         -o $B/probe 2> $B/probe.log && { [ $$z = noseparate-code ] || \
         $B/probe 2>> $B/probe.log; } && echo -z $$z; done))
LINK   = $(CXX) -pthread $(addprefix -Xlinker ,$(LEAN)) $(SAN_) $(LTO) $(LDFLAGS)
# OPT='-O2 -flto': then it is the linker that compiles, and only the
# compiler's own archiver knows what an object holds. g++ numbers the fields
# of an inline coroutine's frame anew in each file, and warns of that (-Wodr).
LTO   := $(if $(filter -flto%,$(OPT) $(CXXFLAGS)),-flto=auto -Wno-odr)
ifeq ($(origin AR),default)
AR     = $(if $(LTO),$(shell $(CXX) -print-prog-name=$(if $(findstring \
         clang,$(CXX)),llvm-ar,gcc-ar)),ar)
endif

# What the build directory was made with (make 4.3 leaves the newline at the
# end of some), and what this call says of that.
MADE  := $(strip $(file < $B/flags))
ASKED := $(filter CXX=% OPT=% SAN=% WERROR=% CATCH=% CPPFLAGS=% CXXFLAGS=% \
         LDFLAGS=% POLLER=% \
         KQUEUE_CFLAGS=% KQUEUE_LIBS=%,$(MAKEOVERRIDES))
# A mere `make install` asks for nothing: it takes what is there as it is, so
# that root, who has another environment, compiles nothing.
AS_IS := $(if $(ASKED)$(filter-out install,$(or $(MAKECMDGOALS),all)),,$(MADE))
# Some programs live on exceptions.
BARE  := $(findstring -fno-exceptions,$(or $(AS_IS),$(CXXFLAGS)))

# The files of a folder, as its ORDER lists them.
order  = $(addprefix $1/,$(if $(wildcard $1/ORDER),$(shell \
         sed -n 's/^\([a-z][^ ]*\).*/\1/p' $1/ORDER)))
LISTED:= $(call order,runtime) $(call order,net)
LIB   := $(patsubst %.cpp,%.o,$(filter %.cpp,$(LISTED)))
APPS  := $(patsubst apps/%.cpp,$B/%,$(filter-out $(if $(BARE),%/upload.cpp \
         %/delegation.cpp %/load.cpp %/transfer.cpp),$(wildcard apps/*.cpp)))
FRONT := $(addprefix $B/include/,violet.hpp violet/http.hpp violet/testing.hpp)
SINGLE:= $(FRONT:$B/include/%=$B/single/%)
# A program may have more files, in a folder of its name.
MORE  := $(if $(BARE),,$(patsubst %.cpp,$B/obj/%.o,$(wildcard apps/*/*.cpp)))
TEST  := $(patsubst %.cpp,$B/obj/%.o,$(or $(strip $(FILES)),$(wildcard \
         tests/*_test.cpp tests/regress/*_test.cpp)) tests/main.cpp)
BENCH := $(patsubst tests/bench/%.cpp,$B/bench/%,$(wildcard tests/bench/*.cpp))
FUZZ  := $(patsubst tests/fuzz/%.cpp,$B/fuzz/%,$(wildcard tests/fuzz/*.cpp))

# The way from a folder in the build directory back to the top.
PARTS := $(filter-out .,$(subst /, ,$B))
TOP   := $(if $(filter /%,$B)$(filter ..,$(PARTS)),$(CURDIR),$(subst \
         . .,./.,$(patsubst %,..,$(PARTS)) ..))

all: $B/libviolet.a $(APPS)  ## the library and the programs (the default)

run: $B/echo  ## build and start the echo server (ARGS='--port 4916')
	@exec $B/echo $(ARGS)

demo: $(APPS)  ## run the programs in order; stops by itself
	@bash apps/demo.sh '$B'

test: $B/tests/all $(APPS) single  ## build and run the tests (TESTS='[threads]')
	@set -f; VIOLET_BUILD='$B' exec $B/tests/all $(TESTS) $(NOT)

bench: $(BENCH)  ## build and run the measurements in tests/bench
	@for b in $(BENCH); do echo "== $$b"; $$b || exit 1; done

# Each starts with the inputs in the source tree, and keeps what it finds in
# the build directory, for the next time. An input that breaks a promise is
# left in $B/fuzz; run the program with it to see it again.
fuzz: $(FUZZ)  ## look for inputs that break a promise (FUZZ_SECONDS=60)
	@for f in $(FUZZ); do name=$${f##*/}; mkdir -p $B/fuzz/found/$$name; \
	  $$f -max_total_time=$$(($(FUZZ_SECONDS) / $(words $(FUZZ)))) -timeout=10 \
	    -print_final_stats=1 -artifact_prefix=$B/fuzz/$$name- \
	    $B/fuzz/found/$$name tests/fuzz/corpus/$$name > $$f.log 2>&1 || \
	    { tail -n 50 $$f.log; exit 1; }; \
	  sed -n "s|^stat::number_of_exec.* \([0-9]*\)$$|$$f: \1 inputs, no fault|p" \
	    $$f.log; \
	done

single: $(SINGLE)  ## the library as one header to copy, and the test kit

tour:  ## the files in reading order, with their sizes
	@for d in $(patsubst %/ORDER,%,$(wildcard runtime/ORDER net/ORDER)); do \
	  while read -r name purpose; do case $$name in \
	    ''|\#*) echo "$$name $$purpose" ;; \
	    *) printf '%5d  %-26s %s\n' $$(wc -l < $$d/$$name || echo 0) \
	      $$d/$$name "$$purpose" ;; esac; done < $$d/ORDER; echo; done

SOURCE = $(wildcard $(foreach d,runtime net net/http apps apps/transfer tests \
         tests/regress tests/bench tests/fuzz,$d/*.hpp $d/*.cpp))
format:  ## let clang-format lay out the sources
	@tool=$$(command -v clang-format-19 || command -v clang-format) || \
	  { echo "make format needs clang-format."; exit 1; }; \
	$$tool -i $(SOURCE)

lint: $(FRONT)  ## let clang-tidy read the library and the programs
	@tool=$$(command -v clang-tidy-19 || command -v clang-tidy) || \
	  { echo "make lint needs clang-tidy."; exit 1; }; \
	printf '%s\n' $(filter %.cpp,$(LISTED)) $(wildcard apps/*.cpp apps/*/*.cpp) | \
	xargs -n 1 -P $$(getconf _NPROCESSORS_ONLN) sh -c \
	  '"$$0" --quiet "$$1" -- -std=c++20 -I$B/include 2>/dev/null' $$tool

house:  ## the mechanical checks: order, includes, width, headings
	@sh tests/house.sh

clean:  ## remove the build directory
	rm -rf $B

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1	\2/p' Makefile | expand -t 18
	@echo "Settings: CXX OPT SAN WERROR BUILD POLLER CATCH TESTS FILES ARGS V"
	@echo "FUZZ_SECONDS (see Makefile); with POLLER=kqueue: KQUEUE_CFLAGS KQUEUE_LIBS"
	@echo "to install: PREFIX BINDIR LIBDIR INCLUDEDIR MANDIR DOCDIR DESTDIR"

# Objects depend on the flags they were made with: $B/flags is written anew
# when they change.
STAMP := $(strip $(CXX) $(FLAGS) $(LDFLAGS) $(BELOW) $(CATCH))
ifneq ($(MADE),$(STAMP))
ifneq ($(AS_IS),)
KEPT  := made with the settings in $B/flags, not with those of now
NEWER  = $(error $@ is out of date, and $B was made with other settings, which \
         $B/flags tells: run make with the ones you want, then make install)
else
$B/flags: FORCE
endif
endif
$B/flags:
	@mkdir -p $(@D) && printf '%s\n' '$(subst ','\'',$(STAMP))' > $@

$B/obj/%.o: %.cpp $B/flags | $(FRONT)
	$(NEWER)@mkdir -p $(@D) && echo "  compile $<"
	$Q$(CXX) $(FLAGS) -MMD -MP -I$B/include -c $< -o $@

# What runs at most once for each client is compiled for size, and so is what
# loses nothing by it.
SELDOM = $(foreach o,sys sys_files slots remote job dump error signals \
         signal_events loops program process,runtime/$o.o) \
         $(foreach o,address socket_path socket listener server admission \
         run_server,net/$o.o)
$(addprefix $B/obj/,$(SELDOM)): OPT := $(patsubst -O2,-Os,$(OPT))
# Of tests most time goes to the compiler: -Og takes half of -O2's.
$(TEST): OPT := $(patsubst -O2,-Og,$(OPT))

$B/bench/obj/%.o: %.cpp $B/flags | $(FRONT)
	@mkdir -p $(@D) && echo "  compile $< (to measure)"
	$Q$(CXX) $(FLAGS) -O2 -DNDEBUG -MMD -MP -I$B/include -c $< -o $@

$B/libviolet.a: $(addprefix $B/obj/,$(LIB))
$B/bench/libviolet.a: $(addprefix $B/bench/obj/,$(LIB))
%/libviolet.a: $(wildcard runtime/ORDER net/ORDER)
	@echo "  archive $@" && rm -f $@
	$Q$(AR) rcs $@ $(filter %.o,$^)

$(foreach a,$(APPS),$(eval $a: $(filter $B/obj/apps/$(notdir $a)/%,$(MORE))))
$(APPS): $B/%: $B/obj/apps/%.o $B/libviolet.a
$(BENCH): $B/bench/%: $B/bench/obj/tests/bench/%.o $B/bench/libviolet.a
$(APPS) $(BENCH):
	$(NEWER)@echo "  link    $@"
	$Q$(LINK) $^ $(BELOW) -o $@

# The fuzzer is clang's, whatever the rest is compiled with. What it runs does
# no input and output, so little else of the library is needed.
CLANG  = $(or $(shell command -v clang++-19 || command -v clang++),$(error \
         make fuzz needs clang and its libFuzzer))
FUZZER = $(CLANG) -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined \
         -fno-sanitize-recover=all $(WARN)
FUZZED := $(patsubst %,$B/fuzz/obj/%.o,$(addprefix net/http/,fault text \
         target message parse body range url) net/address runtime/error \
         runtime/sys apps/transfer/multipart)

$B/fuzz/obj/%.o: %.cpp
	@mkdir -p $(@D) && echo "  compile $< (to fuzz)"
	$Q$(FUZZER) -MMD -MP -c $< -o $@

$(FUZZ): $B/fuzz/%: $B/fuzz/obj/tests/fuzz/%.o $(FUZZED)
	@echo "  link    $@"
	$Q$(FUZZER) $^ -o $@

# What users include, with -I build/include: `#include <violet.hpp>`, for HTTP
# <violet/http.hpp>, and in their tests <violet/testing.hpp>.
$B/include/violet.hpp:
	@mkdir -p $(@D) && echo '#include "$(TOP)/net/net.hpp"' > $@
$B/include/violet/http.hpp:    DOOR := net/http/http.hpp
$B/include/violet/testing.hpp: DOOR := runtime/testing.hpp
$B/include/violet/%.hpp:
	@mkdir -p $(@D) && echo '#include "$(TOP:.%=../.%)/$(DOOR)"' > $@

# The same, but each is whole. What comes after a front door is not behind it.
beyond = $(addprefix $1/,$(shell sed -n \
         '1,/^$1\.hpp/d; s/^\([a-z][^ ]*\).*/\1/p' $1/ORDER))
KIT   := $(call beyond,runtime)
HTTP  := $(call beyond,net)
$B/single/violet.hpp: JOINED := $(filter-out $(KIT) $(HTTP),$(LISTED))
$B/single/violet.hpp: ABOUT := name=violet.hpp \
  purpose='an event-loop runtime for C++20, in one file.'
$B/single/violet/testing.hpp: JOINED := $(KIT)
$B/single/violet/testing.hpp: ABOUT := name=violet/testing.hpp \
  purpose='a kit for tests of programs that use Violet.' needs=../violet.hpp
$B/single/violet/http.hpp: JOINED := $(HTTP)
$B/single/violet/http.hpp: ABOUT := name=violet/http.hpp \
  purpose='HTTP/1.1 for programs that use Violet.' needs=../violet.hpp
$(SINGLE): runtime/single.awk LICENSE Makefile $(LISTED)
	@mkdir -p $(@D) && echo "  join    $@"
	$Qawk -f $< $(ABOUT) LICENSE $(JOINED) > $@

# What is installed: mode, whence and where, with bars between. What comes from
# no file is one of the texts below. Programs and their pages get a violet-
# before their names: an echo in PREFIX/bin would hide the system's own.
PLAN = $(foreach h,$(filter %.hpp,$(LISTED)),644|$h|$(INCLUDEDIR)/violet/$h) \
  644|violet_hpp|$(INCLUDEDIR)/violet.hpp \
  644|http_hpp|$(INCLUDEDIR)/violet/http.hpp \
  644|testing_hpp|$(INCLUDEDIR)/violet/testing.hpp \
  644|$B/libviolet.a|$(LIBDIR)/libviolet.a \
  644|violet_pc|$(LIBDIR)/pkgconfig/violet.pc \
  644|config_cmake|$(CMAKEDIR)/violet-config.cmake \
  644|version_cmake|$(CMAKEDIR)/violet-config-version.cmake \
  $(foreach a,$(notdir $(APPS)),755|$B/$a|$(BINDIR)/violet-$a \
  644|apps/$a.1|$(MANDIR)/man1/violet-$a.1) \
  644|LICENSE|$(DOCDIR)/LICENSE
CMAKEDIR = $(LIBDIR)/cmake/violet
# Folders for nobody else.
OURS = $(addprefix $(INCLUDEDIR)/,violet $(patsubst %/,violet/%,$(sort $(dir \
  $(filter %.hpp,$(LISTED)))))) $(CMAKEDIR) $(filter %/violet,$(DOCDIR))

install: $B/libviolet.a $(APPS)  ## install below PREFIX (/usr/local)
	$(CHECKED)$(OTHER)@umask 022; set -ef; IFS='|'; \
	for one in $(PLAN:%='%'); do set -- $$one; to='$(DESTDIR)'$$3; \
	  mkdir -p "$${to%/*}" && [ -w "$${to%/*}" ] || { echo "make install cannot" \
	    "write into $${to%/*}: try sudo make install, or make install" \
	    "PREFIX=\$$HOME/.local" >&2; exit 1; }; \
	  if [ -f $$2 ]; then install -m $$1 $$2 "$$to"; \
	  else rm -f "$$to"; printenv $$2 > "$$to"; chmod $$1 "$$to"; fi; \
	done; $(if $(KEPT),echo '  note    $(KEPT)';) \
	echo '  install $(words $(PLAN)) files below $(DESTDIR)$(PREFIX)'

uninstall:  ## remove what `make install` with the same PREFIX puts there
	$(CHECKED)@set -ef; IFS='|'; \
	for one in $(PLAN:%='%'); do set -- $$one; rm -f '$(DESTDIR)'$$3; done; \
	printf '%s\n' $(OURS:%='%') | sort -r | while read -r folder; do \
	  rmdir '$(DESTDIR)'"$$folder" 2> /dev/null || :; done; \
	echo '  remove  $(words $(PLAN)) files below $(DESTDIR)$(PREFIX)'

# Stops at a folder that make, pkg-config or CMake would misunderstand.
CHECKED = $(foreach d,PREFIX BINDIR LIBDIR INCLUDEDIR MANDIR DOCDIR,$(if $(or \
  $(filter-out 1,$(words $($d))),$(filter-out /%,$($d)),$(call odd,$($d))), \
  $(error $d is '$($d)': it must be an absolute path without spaces and special \
  characters, such as /opt/violet)))$(if $(findstring ',$(DESTDIR)),$(error \
  DESTDIR is "$(DESTDIR)": it must not have a ' in it))
OTHER = $(if $(findstring -DVIOLET_KQUEUE,$(if $(KQUEUE),,$(AS_IS))),$(error \
  $B was made with POLLER=kqueue: say so here, too))
odd = $(strip $(foreach c,' " % ; | $$ \ $(HASH) `,$(findstring $c,$1)))
HASH := \#
SPACE := $() $()

# The way back to PREFIX from a folder below it that is at hand as $2: what is
# installed may be moved as a whole. From a folder elsewhere: PREFIX itself.
back = $(if $(filter $(PREFIX)/%,$1),$2$(subst $(SPACE),,$(patsubst \
  %,/..,$(subst /, ,$(patsubst $(PREFIX)/%,%,$1)))),$(PREFIX))
below = $(patsubst $(PREFIX)/%,$2/%,$1)

VERSION = $(subst $(SPACE),.,$(shell \
  sed -n 's/^.define VIOLET_VERSION_[A-Z]* //p' runtime/runtime.hpp))
# What stays compatible: before 1.0 the minor version, afterwards the major.
SERIES = $(subst $(SPACE),.,$(wordlist 1,$(if $(filter \
  0.%,$(VERSION)),2,1),$(subst ., ,$(VERSION))))

TEXTS := violet_hpp http_hpp testing_hpp violet_pc config_cmake version_cmake
$(if $(filter install,$(MAKECMDGOALS)),$(eval export $(TEXTS)))
violet_hpp = \#include "violet/net/net.hpp"
http_hpp = \#include "net/http/http.hpp"
testing_hpp = \#include "runtime/testing.hpp"

define violet_pc
prefix=$(call back,$(LIBDIR)/pkgconfig,$${pcfiledir})
libdir=$(call below,$(LIBDIR),$${prefix})
includedir=$(call below,$(INCLUDEDIR),$${prefix})

Name: violet
Description: event-loop runtime for C++20
Version: $(VERSION)
Cflags: -I$${includedir} -pthread
Libs: -L$${libdir} -lviolet -pthread$(BELOW:%= %)
endef

define config_cmake
# violet-config.cmake - find_package(violet) gives the target violet::violet.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
get_filename_component(violet_prefix "$${CMAKE_CURRENT_LIST_DIR}" REALPATH)
get_filename_component(violet_prefix
  "$(call back,$(CMAKEDIR),$${violet_prefix})" ABSOLUTE)
if(NOT TARGET violet::violet)
  add_library(violet::violet STATIC IMPORTED)
  set_target_properties(violet::violet PROPERTIES
    IMPORTED_LOCATION "$(call below,$(LIBDIR),$${violet_prefix})/libviolet.a"
    INTERFACE_INCLUDE_DIRECTORIES "$(call below,$(INCLUDEDIR),$${violet_prefix})"
    INTERFACE_COMPILE_FEATURES cxx_std_20
    INTERFACE_LINK_LIBRARIES "Threads::Threads$(subst $(SPACE),,$(BELOW:%=;%))")
endif()
unset(violet_prefix)
endef

define version_cmake
# violet-config-version.cmake - whom this version suits: who asks for $(SERIES),
# not later than it, or for a range that it lies in.
set(PACKAGE_VERSION $(VERSION))
set(PACKAGE_VERSION_COMPATIBLE FALSE)
if(PACKAGE_FIND_VERSION_RANGE)
  if(PACKAGE_VERSION VERSION_GREATER_EQUAL PACKAGE_FIND_VERSION_MIN AND
     (PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION_MAX OR
      (PACKAGE_FIND_VERSION_RANGE_MAX STREQUAL "INCLUDE" AND
       PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION_MAX)))
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
  endif()
elseif("$${PACKAGE_FIND_VERSION}." MATCHES "^$(subst .,[.],$(SERIES))[.]" AND
       PACKAGE_VERSION VERSION_GREATER_EQUAL PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
endef

# Tests. catch.cc and catch.ld say how to compile and link with Catch2, either
# version; catch.hpp.gch is that header compiled once for all tests.
T     := $B/tests
TFLAGS = $(FLAGS) -MMD -MP @$T/catch.cc -iquote tests -I$B/include

$T/all: $(TEST) $(MORE) $B/libviolet.a
	@echo "  link    $@"
	$Q$(LINK) $^ $$(cat $T/catch.ld) $(BELOW) -o $@

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

-include $(wildcard $(patsubst %,$B/%.d,tests/catch $(foreach o,obj bench/obj \
  fuzz/obj,$(addprefix $o/,$(basename $(filter %.cpp,$(LISTED)) \
  $(wildcard apps/*.cpp apps/*/*.cpp tests/*.cpp tests/*/*.cpp))))))
