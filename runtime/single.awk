# single.awk - joins the library into one header that needs no other file.
#
#   awk -f runtime/single.awk name=violet.hpp purpose=TEXT LICENSE FILES...
#
# FILES come in reading order, so that each stands below what it needs. First
# all headers are printed, then all sources, which a program gets by a macro
# named after the header, here VIOLET_IMPLEMENTATION. With needs=PATH that
# header is included first.
#
# Includes of the system move to the top of their half, once each, but stay
# where they are inside an #if: they may exist on one system only.
#
# SPDX-License-Identifier: MIT

FNR == 1 {
  if (FILENAME ~ /\.hpp$/) half = "header"
  if (FILENAME ~ /\.cpp$/) half = "source"
  if (half) add("\n// ---- " FILENAME "\n")
  head = 1
}

!half { licence = licence comment($0); next }

/^ *# *if/ { ++depth }
/^ *# *endif/ { --depth }
/^ *# *pragma once/ { next }
/^ *# *include *"/ {
  # With the comment above it, unless that is the head of the file.
  while (!head && lines[half, count[half]] ~ /^\/\//) --count[half]
  head = 0
  next
}
/^ *# *include *</ && depth == 0 {
  sub(/ *\/\/.*/, "")
  if (!seen[half, $0]++) includes[half] = includes[half] $0 "\n"
  next
}

# Where an include was, no gap is left.
!/^\/\// { head = 0 }
$0 != "" || lines[half, count[half]] != "" { add($0) }

function add(text) { lines[half, ++count[half]] = text }

function comment(text) { return (text == "" ? "//" : "// " text) "\n" }

function print_half(which,    i) {
  printf "%s", includes[which]
  for (i = 1; i <= count[which]; ++i) print lines[which, i]
}

END {
  macro = toupper(name)
  sub(/\.HPP$/, "", macro)
  gsub(/[^A-Z]/, "_", macro)
  wanted = macro "_IMPLEMENTATION"
  had = macro "_IMPLEMENTED"

  print "// " name " - " purpose
  print "//"
  print "// Include it wherever it is needed. One source file of a program has,"
  print "// at its end or with nothing else in it,"
  print "//"
  print "//     #define " wanted
  print "//     #include \"" name "\""
  print "//"
  print "// `make single` joins it from Violet's sources: changes belong there."
  print "//"
  print licence

  if (needs) print "#include \"" needs "\"\n"
  print "#ifndef " macro "_HPP"
  print "#define " macro "_HPP\n"
  print_half("header")
  print "\n#endif  // " macro "_HPP\n"

  # Outside of the guard: the header may have been included before.
  print "#if defined(" wanted ") && !defined(" had ")"
  print "#define " had "\n"
  # g++ wants what a source file has for itself in no header; this is both.
  print "#if defined(__GNUC__) && !defined(__clang__)"
  print "#pragma GCC diagnostic push"
  print "#pragma GCC diagnostic ignored \"-Wsubobject-linkage\""
  print "#endif"
  print_half("source")
  print "#if defined(__GNUC__) && !defined(__clang__)"
  print "#pragma GCC diagnostic pop"
  print "#endif"
  print "\n#endif  // " wanted
}
