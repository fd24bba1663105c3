#!/usr/bin/env bash
# demo.sh - runs the programs one after the other, as apps/README.md has them,
# and stops by itself. Needs nothing but bash and the programs in build/.
#
#   apps/demo.sh [BUILD]      the build directory, where it is not build
# SPDX-License-Identifier: MIT
set -eu
build=${1:-build}
limit_s=20  # for whatever is waited for; the longest takes about one
pid=
folder=

# Whatever happens, no server is left, and no file.
trap '[ -z "$pid" ] || kill -KILL "$pid" 2> /dev/null || :
      [ -z "$folder" ] || rm -rf "$folder"' EXIT

fail() {
  echo "demo: $*" >&2
  exit 1
}
title() { printf '\n== %s\n\n' "$*"; }
run() {
  echo "\$ $*"
  "$build/$1" "${@:2}"
}

# start NAME OPTION...: a server on a free port. Sets pid, port, said.
start() {
  echo "\$ $* &"
  exec {said}< <(exec "$build/$1" "${@:2}" --port 0 2>&1)
  pid=$!
  IFS= read -r -t "$limit_s" line <&"$said" || fail "$1 does not listen"
  echo "$line"
  port=${line##*:}
}

# Prints what comes from a descriptor, to its end.
show() {
  local text status=0
  until [ "$status" -ne 0 ]; do
    IFS= read -r -t "$limit_s" text <&"$1" || status=$?
    [ "$status" -gt 1 ] || [ -z "$text" ] || echo "$text"
  done
  [ "$status" -eq 1 ] || fail "no end within $limit_s seconds"
}

# Ends the server and shows what else it said. Not with INT, which a shell in
# the background has its children ignore.
stop() {
  kill -TERM "$pid"
  show "$said"
  exec {said}<&-
  pid=
}

# ask WORD: a client that says one word and prints what comes back.
ask() {
  local client
  exec {client}<> "/dev/tcp/127.0.0.1/$port"
  printf '%s' "$1" >&"$client"
  echo "client: $(show "$client")"
}

title "hello: two jobs on one thread"
run hello

title "sleepy: four sleeps at once take as long as the longest"
run sleepy --unit 200ms

title "delegation: values, errors and a kill pass through calls"
run delegation

title "produce: a generator and its caller alternate"
run produce

title "produce --channel: jobs, and a channel that makes who is ahead wait"
run produce --channel --producers 2 --consumers 2 --items 6

title "three echo servers, each with one idle client: what of the second one?"
for server in echo_blocking echo_callbacks echo; do
  start "$server"
  exec {idle}<> "/dev/tcp/127.0.0.1/$port" {second}<> "/dev/tcp/127.0.0.1/$port"
  echo "are you there?" >&"$second"
  if IFS= read -r -t 2 answer <&"$second"; then
    echo "the second client got: $answer"
  else
    echo "the second client got nothing within two seconds"
  fi
  exec {idle}>&- {second}>&-
  stop
done

title "greet: five clients at once are answered after one second"
start greet
begin=$SECONDS
clients=()
for name in Ada Alan Edsger Grace Tony; do
  ask "$name" &
  clients+=($!)
done
wait "${clients[@]}"
echo "all five took about $((SECONDS - begin)) s"
stop

title "ipc: two processes, two loops, messages between them"
run ipc

title "crawler: the same pages one by one, with threads, with jobs"
run crawler

title "upload: a file is there when all of it is, and not before"
folder=$(mktemp -d)
start upload --dir "$folder"
exec {client}<> "/dev/tcp/127.0.0.1/$port"
echo "these few words" >&"$client"
exec {client}>&-
for ((tenths = 0; tenths < 10 * limit_s; ++tenths)); do
  [ ! -f "$folder/upload-1" ] || break
  sleep 0.1
done
echo "upload-1 holds: $(cat "$folder/upload-1")"
rm -r "$folder"
stop

# get PATH [OPTION...]: what the server says to a request.
get() {
  local client
  exec {client}<> "/dev/tcp/127.0.0.1/$port"
  printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&"$client"
  sed '1,/^\r$/d' <&"$client"
  exec {client}>&-
}

title "web: what is asked for decides who answers"
start web
get /
echo
get "/hello/%3CAda%3E"
echo
stop

title "httpd: a folder, as a browser sees it"
folder=$(mktemp -d)
echo "these few words" > "$folder/words.txt"
start httpd --dir "$folder"
get / | sed -n 's|.*<a href="\([^".]*\.[^"]*\)".*|the listing has \1|p'
echo "words.txt holds: $(get /words.txt)"
rm -r "$folder"
stop

title "transfer: a file in pieces, several at a time"
folder=$(mktemp -d)
mkdir "$folder/there"
head -c 3000000 /dev/zero > "$folder/zeros"
start transfer serve --dir "$folder/there"
run transfer put --chunk 500KiB --quiet "$folder/zeros" \
  "http://127.0.0.1:$port/" | sed 's/ in .*//'
cmp "$folder/zeros" "$folder/there/zeros" && echo "it is the same there"
rm -r "$folder"
stop

title "load: ten connections, every byte checked"
start echo --quiet
run load echo "127.0.0.1:$port" --connections 10 --seconds 1
stop
