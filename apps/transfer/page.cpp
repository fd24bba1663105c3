// page.cpp - the script that uploads from a listing.
//
// Files are dropped or chosen, sent in pieces of 5 MiB, three at a time, and
// shown as they go. What a server has already is not sent again: name, size and
// date of a file are the id of its upload.
// SPDX-License-Identifier: MIT
#include "page.hpp"

namespace transfer {

namespace {

constexpr std::string_view kStyle = R"(<style>
form { margin: 1.5rem 0; padding: 1rem; border: 2px dashed #8884;
       border-radius: .5rem }
form.over { border-color: #63c }
progress { width: 100% }
.bad { color: #c33 }
</style>
)";

constexpr std::string_view kForm =
    R"(<form method="post" enctype="multipart/form-data">
<input type="file" name="file" multiple required>
<button>Upload</button>
<span id="hint"></span>
<div id="going"></div>
</form>
)";

constexpr std::string_view kScript = R"(<script>
"use strict";
const piece = 5 * 1024 * 1024, atOnce = 3, tries = 5;
const form = document.forms[0], input = form.elements.file;
const going = document.getElementById("going");
document.getElementById("hint").textContent = "or drop files here";

function send(url, headers, body, onProgress) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    for (const name in headers) request.setRequestHeader(name, headers[name]);
    request.upload.onprogress = event => onProgress(event.loaded);
    request.onload = () => done(request);
    request.onerror = request.onabort = () => failed(new Error("no answer"));
    request.send(body);
  });
}

async function sendOften(url, headers, body, onProgress) {
  for (let n = 1; ; ++n) {
    try {
      const reply = await send(url, headers, body, onProgress);
      if (reply.status < 300) return JSON.parse(reply.responseText);
      if (reply.status < 500 || n === tries)
        throw Object.assign(new Error(reply.responseText), {final: true});
    } catch (error) {
      if (error.final || n === tries) throw error;
    }
    onProgress(0);
    await new Promise(wake => setTimeout(wake, 250 * 2 ** n));
  }
}

async function missing(url, id, size) {
  const reply = await fetch(url + "?upload", {cache: "no-store"});
  let have = [];
  if (reply.ok && reply.headers.get("Upload-Id") === id) {
    const state = await reply.json();
    if (state.size === size) have = state.received;
  }
  const gaps = [];
  let at = 0;
  for (const [begin, end] of [...have, [size, size]]) {
    for (; at < begin; at = Math.min(at + piece, begin))
      gaps.push([at, Math.min(at + piece, begin)]);
    at = Math.max(at, end);
  }
  return gaps;
}

async function upload(file, show) {
  const url = encodeURIComponent(file.name);
  if (file.size === 0) return sendOften(url, {}, file, () => {});
  const id = encodeURIComponent(file.name).slice(0, 100) + "." + file.size +
             "." + file.lastModified;
  const gaps = await missing(url, id, file.size);
  const sent = new Map();
  let done = file.size - gaps.reduce((sum, [a, b]) => sum + b - a, 0);
  const tell = () => {
    let all = done;
    for (const bytes of sent.values()) all += bytes;
    show(all / file.size);
  };
  tell();
  const worker = async () => {
    for (let gap; (gap = gaps.shift()); tell()) {
      const [begin, end] = gap;
      const headers = {"Upload-Id": id,
        "Content-Range": `bytes ${begin}-${end - 1}/${file.size}`};
      await sendOften(url, headers, file.slice(begin, end),
        bytes => { sent.set(begin, Math.min(bytes, end - begin)); tell(); });
      sent.delete(begin);
      done += end - begin;
    }
  };
  await Promise.all(Array.from({length: atOnce}, worker));
}

async function uploadAll(files) {
  const work = Array.from(files, async file => {
    const line = document.createElement("div");
    const label = document.createElement("label");
    const bar = document.createElement("progress");
    label.textContent = file.name;
    bar.value = 0;
    line.append(label, bar);
    going.append(line);
    try {
      await upload(file, part => { bar.value = part; });
      bar.value = 1;
      label.textContent = file.name + ": stored";
      return true;
    } catch (error) {
      label.className = "bad";
      label.textContent = file.name + ": " + error.message;
      return false;
    }
  });
  const all = await Promise.all(work);
  if (all.every(Boolean)) location.reload();
}

form.addEventListener("submit", event => {
  event.preventDefault();
  uploadAll(input.files);
});
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, event => {
    event.preventDefault();
    form.classList.toggle("over", name === "dragover");
    if (name === "drop") uploadAll(event.dataTransfer.files);
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
