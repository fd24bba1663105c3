// page.cpp - the script that uploads from a listing.
//
// Files are dropped or chosen, sent in pieces of 5 MiB, three of each of two
// files at a time (browsers have six connections to a server), and shown as
// they go. What a server has already is not sent again: the id of an upload is
// made of all the bytes of its file. What gets no answer is sent again for a
// minute; then there is a button.
// SPDX-License-Identifier: MIT
#include "page.hpp"

namespace transfer {

namespace {

constexpr std::string_view kStyle = R"(<style>
form { margin: 1.5rem 0; padding: 1rem; border: 2px dashed #8884;
       border-radius: .5rem }
form.over { border-color: #63c }
form div label { display: block; overflow-wrap: anywhere }
progress { width: 100% }
.bad { color: #c33 }
</style>
)";

constexpr std::string_view kForm =
    R"(<form method="post" enctype="multipart/form-data">
<input type="file" name="file" multiple required>
<button>Upload</button>
<span id="hint"></span>
<div id="going" aria-live="polite"></div>
</form>
)";

constexpr std::string_view kScript = R"(<script>
"use strict";
const piece = 5 * 1024 * 1024, files = 2, pieces = 3, tries = 8;
const form = document.forms[0], input = form.elements.file;
const going = document.getElementById("going");
document.getElementById("hint").textContent = "or drop files here";

// One request. Status 0 is no answer.
function send(method, url, headers, body, sent = () => {}) {
  return new Promise(done => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const name in headers) request.setRequestHeader(name, headers[name]);
    request.upload.onprogress = event => sent(event.loaded);
    request.onloadend = () => done(request);
    request.send(body);
  });
}

// What a server refused, in its own words if they are meant to be read.
function refusal(reply) {
  const type = reply.getResponseHeader("Content-Type") || "";
  const text = reply.status === 0 ? "no answer from the server" :
    type.startsWith("text/plain") ? reply.responseText.trim() :
    reply.status + " " + reply.statusText;
  return Object.assign(new Error(text), {status: reply.status});
}

// The same again for a minute, where that may help. That there is no upload is
// an answer, too.
async function sendOften(line, method, url, headers, body, sent = () => {}) {
  for (let n = 1; ; ++n) {
    const reply = await send(method, url, headers, body, sent);
    const {status} = reply;
    if (status >= 200 && status < 300 || method === "GET" && status === 404)
      return reply;
    const may = status === 0 || status >= 500 && status !== 507;
    if (!may || n === tries) throw refusal(reply);
    if (body) await body.slice(0, 1).arrayBuffer();  // throws if that is why
    line.say(refusal(reply).message + ", trying again");
    sent(0);
    await new Promise(wake => setTimeout(wake, 250 * 2 ** n));
  }
}

// Calls work(item) for all, so many at a time; after a failure for no more.
async function each(items, atOnce, work) {
  const left = Array.from(items);
  const worker = async () => {
    try {
      while (left.length) await work(left.shift());
    } catch (error) {
      left.length = 0;
      throw error;
    }
  };
  await Promise.all(Array.from({length: atOnce}, worker));
}

// Which pieces the server does not have: of [begin, end] each.
async function missing(line, url, id, size) {
  const reply = await sendOften(line, "GET", url + "?upload", {}, null);
  const state = reply.status === 200 ? JSON.parse(reply.responseText) : null;
  const ours = state && state.size === size &&
               reply.getResponseHeader("Upload-Id") === id;
  if (state && !ours && !state.complete) {
    throw Object.assign(new Error("another upload of that name is in progress"),
                        {status: 409});
  }
  const have = ours ? state.received : [];
  const gaps = [];
  let at = 0;
  for (const [begin, end] of [...have, [size, size]]) {
    for (; at < begin; at = Math.min(at + piece, begin))
      gaps.push([at, Math.min(at + piece, begin)]);
    at = Math.max(at, end);
  }
  return gaps;
}

// A name for what is in a file, so that pieces of two are never taken for one
// another's: its size and all of its bytes, mixed as MurmurHash3 does. Browsers
// know SHA-256, but not for pages that come without TLS.
async function idOf(line, file) {
  const turn = (x, bits) => x << bits | x >>> 32 - bits;
  let a = 1, b = 2;
  for (let at = 0; at < file.size; at += piece) {
    line.say(`reading, ${Math.floor(100 * at / file.size)}%`);
    const bytes = await file.slice(at, at + piece).arrayBuffer();
    const even = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
    even.set(new Uint8Array(bytes));
    const words = new Uint32Array(even.buffer);
    for (let i = 0; i < words.length; ++i) {
      a ^= Math.imul(turn(Math.imul(words[i], 0xcc9e2d51), 15), 0x1b873593);
      a = Math.imul(turn(a, 13), 5) + 0xe6546b64 | 0;
      b ^= Math.imul(turn(Math.imul(words[i], 0x239b961b), 16), 0xab0e9789);
      b = Math.imul(turn(b, 19), 5) + 0x561ccd1b + a | 0;
    }
  }
  line.say("");
  return [file.size, a >>> 0, b >>> 0].join(".");
}

async function uploadPieces(line, url, file) {
  const id = await idOf(line, file);
  const gaps = await missing(line, url, id, file.size);
  const sent = new Map();
  let done = gaps.reduce((left, [a, b]) => left - (b - a), file.size);
  let complete = gaps.length === 0;
  const tell = () => {
    let all = done;
    for (const bytes of sent.values()) all += bytes;
    line.bar.value = all / file.size;
  };
  tell();
  await each(gaps, pieces, async ([begin, end]) => {
    const headers = {"Upload-Id": id,
      "Content-Range": `bytes ${begin}-${end - 1}/${file.size}`};
    const reply = await sendOften(
      line, "PUT", url, headers, file.slice(begin, end),
      bytes => { sent.set(begin, Math.min(bytes, end - begin)); tell(); });
    if (reply.status !== 202) complete = true;
    sent.delete(begin);
    done += end - begin;
    tell();
    line.say("");
  });
  if (!complete) throw new Error("somebody has removed what was sent");
}

async function upload(line, file) {
  const url = encodeURIComponent(file.name);
  if (file.size > 0) return uploadPieces(line, url, file);
  await sendOften(line, "PUT", url, {}, file);
}

class Line {
  constructor(file) {
    this.file = file;
    this.box = document.createElement("div");
    this.name = document.createElement("span");
    this.bar = document.createElement("progress");
    const label = document.createElement("label");
    label.append(this.name, this.bar);
    this.box.append(label);
    going.append(this.box);
    this.bar.value = 0;
    this.say("");
  }
  say(text) { this.name.textContent = this.file.name + (text && ": ") + text; }

  async upload() {
    this.name.className = "";
    try {
      await upload(this, this.file);
      this.bar.value = 1;
      this.say("stored");
    } catch (error) {
      this.name.className = "bad";
      this.say(error.message);
      this.offer(error.status === 409);
    }
  }

  // What has been sent is not sent again. Another upload is in the way of it.
  offer(conflict) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent =
      conflict ? "Discard that upload, send this" : "Try again";
    button.onclick = async () => {
      button.remove();
      const url = encodeURIComponent(this.file.name) + "?upload";
      if (conflict) await send("DELETE", url, {}, null);
      uploadAll([this]);
    };
    this.box.append(button);
  }
}

let busy = 0;
async function uploadAll(lines) {
  ++busy;
  await each(lines, files, line => line.upload());
  --busy;
  const reply = await send("GET", location.pathname, {}, null);
  const page = new DOMParser().parseFromString(reply.responseText, "text/html");
  const table = page.querySelector("table");
  if (table) document.querySelector("table").replaceWith(table);
}
const add = list => uploadAll(Array.from(list, file => new Line(file)));

form.addEventListener("submit", event => {
  event.preventDefault();
  add(input.files);
  form.reset();
});
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, event => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    form.classList.toggle("over", name === "dragover");
    if (name === "drop") add(event.dataTransfer.files);
  });
window.addEventListener("beforeunload", event => {
  if (busy) event.preventDefault();
});
</script>
)";

}  // namespace

std::string upload_form() {
  std::string html(kStyle);
  html.append(kForm).append(kScript);
  return html;
}

}  // namespace transfer
