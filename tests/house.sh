#!/bin/sh
# house.sh - the rules of the house that a machine can check. Says what is
# wrong, one line each, and fails if there was anything. Run from the top.
# SPDX-License-Identifier: MIT
set -u
export LC_ALL=C  # columns and patterns count bytes; see width below
wrong=$(mktemp) || exit 1
trap 'rm -f "$wrong"' EXIT

# The files of a folder in reading order, and those that are there.
listed() {
  [ ! -f "$1/ORDER" ] || sed -n "s|^\([a-z][^ ]*\).*|$1/\1|p" "$1/ORDER"
}
present() { find "$@" -type f \( -name '*.hpp' -o -name '*.cpp' \) | sort; }

{
  # The top level is complete.
  for name in *; do
    case $name in
      Makefile|runtime|net|apps|tests|README.md|LICENSE|build) ;;
      *) echo "$name: has no place at the top level" ;;
    esac
  done

  # Every file stands in ORDER once, and every file there is a file.
  for dir in runtime net; do
    [ -n "$(present $dir)" ] && [ ! -f $dir/ORDER ] &&
      echo "$dir/ORDER: is missing"
    listed $dir | sort | uniq -d | sed 's/$/: stands twice in ORDER/'
    for file in $(listed $dir); do
      [ -f "$file" ] || echo "$file: stands in ORDER but is not there"
    done
    for file in $(present $dir); do
      listed $dir | grep -qxF "$file" || echo "$file: does not stand in ORDER"
    done
  done

  # A file includes only files above it, and its own header.
  { listed runtime; listed net; } | awk '
    { rank[$0] = NR; files[NR] = $0 }
    function check(file, line, number,    path, own) {
      if (line !~ /^[ ]*#[ ]*include[ ]*["]/) {
        if (line ~ /^[ ]*#[ ]*include[ ]*<violet/)
          print file ":" number ": includes the library as its users do"
        return
      }
      split(line, part, "\"")
      path = file
      sub(/[^\/]*$/, "", path)
      path = path part[2]
      while (sub(/[^\/.]+\/\.\.\//, "", path)) {}
      own = file
      sub(/\.cpp$/, ".hpp", own)
      if (!(path in rank))
        print file ":" number ": includes " path ", which is in no ORDER"
      else if (rank[path] >= rank[file] && path != own || path == file)
        print file ":" number ": includes " path ", which stands below it"
    }
    END {
      for (i = 1; i <= NR; ++i)
        for (n = 1; (getline line < files[i]) > 0; ++n)
          check(files[i], line, n)
    }'

  # Every program has a manual page, every page a program.
  for file in apps/*.cpp; do
    page=${file%.cpp}.1
    [ -f "$page" ] || echo "$page: is missing, the manual page of $file"
  done
  for page in apps/*.[1-9]; do
    [ -f "${page%.*}.cpp" ] || echo "$page: is the manual page of no program"
    awk -v page="$page" -v base="${page##*/}" '
      NR == 1 && index($0, ".\\\" " base " - ") != 1 {
        print page ": does not open with .\\\" " base " - purpose"
      }
      /^[.]\\" SPDX-License-Identifier: MIT$/ { license = 1 }
      / $|\t/ { print page ":" NR ": ends in a blank or has a tab" }
      length($0) > 80 { print page ":" NR ": is too wide" }
      END { if (!license) print page ": has no SPDX line" }
    ' "$page"
  done

  # Each line, and the head of each file.
  for file in $(present runtime net apps tests); do
    awk -v file="$file" '
      function say(what) { print file ":" NR ": " what }
      NR == 1 {
        name = file
        sub(/^[a-z]*\//, "", name)
        base = name
        sub(/.*\//, "", base)
        if (index($0, "// " name " - ") != 1 &&
            index($0, "// " base " - ") != 1)
          say("does not open with \"// " base " - purpose\"")
      }
      /^\/\/ SPDX-License-Identifier: MIT$/ { license = 1 }
      /\t/ { say("has a tab") }
      /(^|[^A-Za-z0-9_])(TODO|FIXME|XXX|HACK)([^A-Za-z0-9_]|$)/ {
        say("is not finished: " $0)
      }
      file ~ /^(runtime|net)\/.*\.hpp$/ &&
      /^ *# *include *<(iostream|functional|map|regex)>/ {
        say("is too heavy for a header: " $0)
      }
      {
        gsub(/[\200-\277]/, "")  # width: a UTF-8 character is one column
        if (length($0) > 80) say("is " length($0) " columns wide")
      }
      END { if (!license) print file ": has no SPDX line" }
    ' "$file"
  done
} > "$wrong"

cat "$wrong"
[ ! -s "$wrong" ]
