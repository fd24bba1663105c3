// browser.mjs - what a person does on the upload page, in a real browser.
//
//   node browser.mjs PLAYWRIGHT STEP URL [FILE...]
//
// PLAYWRIGHT is the folder of playwright-core, URL the page. A step does one
// thing and says "done"; if it does not see what it should, it says so on
// stderr and fails. Servers are the caller's: where one has to die, the step
// says "kill", and "start" once the page has seen that.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import {createHash} from "node:crypto";
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {basename} from "node:path";

const [playwright, step, url, ...paths] = process.argv.slice(2);
const {chromium} = createRequire(import.meta.url)(playwright);
const names = paths.map(path => basename(path));
const piece = 5 * 1024 * 1024;

// Notes what each bar on the page has shown, under the name beside it.
function watchBars() {
  window.shown = {};
  const watcher = new MutationObserver(changes => {
    for (const {target} of changes) {
      const name = target.closest("label").firstChild.textContent;
      (window.shown[name.split(": ")[0]] ??= []).push(target.value);
    }
  });
  watcher.observe(document, {subtree: true, attributeFilter: ["value"]});
}

// Waits until what stands beside a bar matches "NAME: " and then a pattern.
async function says(page, name, pattern) {
  const begin = name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  await page.locator("#going span", {
    hasText: new RegExp("^" + begin + ": " + pattern + "$")}).waitFor();
}

// Each bar goes up, and to its end; that of several pieces not at once.
async function checkBars(page) {
  for (const name of names) await says(page, name, "stored");
  const shown = await page.evaluate(() => window.shown);
  for (const [i, name] of names.entries()) {
    const values = shown[name];
    assert.ok(values, `${name} has no bar`);
    assert.equal(values.at(-1), 1, `${name}: ${values}`);
    assert.deepEqual(values, [...values].sort((a, b) => a - b), name);
    if (readFileSync(paths[i]).length > 2 * piece)
      assert.ok(values.some(v => v > 0 && v < 1), `${name}: ${values}`);
  }
}

const digest = path =>
  createHash("sha256").update(readFileSync(path)).digest("hex");

// The listing shows each file, and its link leads to it.
async function checkListing(page) {
  for (const [i, name] of names.entries()) {
    const link = page.locator("table").getByRole("link", {name, exact: true});
    await link.waitFor();
    const href = await link.evaluate(a => a.href);
    const got = await page.request.get(href);
    assert.equal(got.status(), 200, href);
    const sum = createHash("sha256").update(await got.body()).digest("hex");
    assert.equal(sum, digest(paths[i]), name);
  }
}

// A drop as scripts make it: an event with a DataTransfer full of files.
async function drop(page, files = paths) {
  await page.evaluate(() => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.id = "source";
    input.hidden = true;
    document.body.append(input);
  });
  await page.setInputFiles("#source", files);
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    const input = document.getElementById("source");
    for (const file of input.files) dataTransfer.items.add(file);
    input.remove();
    for (const name of ["dragover", "drop"])
      document.forms[0].dispatchEvent(new DragEvent(
        name, {dataTransfer, bubbles: true, cancelable: true}));
  });
}

// A drop as the window system makes it.
async function dropFromOutside(page, files = paths) {
  const {x, y} = await page.locator("form").boundingBox();
  const client = await page.context().newCDPSession(page);
  const data = {items: [], files, dragOperationsMask: 1};
  for (const type of ["dragEnter", "dragOver", "drop"])
    await client.send("Input.dispatchDragEvent",
                      {type, x: x + 5, y: y + 5, data});
}

async function choose(page) {
  await page.setInputFiles("form input[type=file]", paths);
  await page.getByRole("button", {name: "Upload"}).click();
}

const put = (name, id) => fetch(new URL(encodeURIComponent(name), url), {
  method: "PUT", body: "x",
  headers: {"Content-Range": "bytes 0-0/2", "Upload-Id": id}});

// Holds back pieces from the third on, until the server is dead.
async function outlive(page) {
  let release;
  const dead = new Promise(go => { release = go; });
  let arrived = 0;
  await page.route("**", async route => {
    const range = route.request().headers()["content-range"];
    if (range && Number(/ (\d+)-/.exec(range)[1]) >= 2 * piece) {
      if (++arrived === 3) console.log("kill");
      await dead;
    }
    await route.continue();
  });
  await drop(page);
  for (;;) {  // until nobody answers
    try {
      await fetch(url);
    } catch {
      break;
    }
    await new Promise(wake => setTimeout(wake, 10));
  }
  const asks = page.waitForEvent("dialog");
  page.once("dialog", dialog => dialog.dismiss());
  await page.evaluate(() => { location.href = "/elsewhere"; });
  assert.equal((await asks).type(), "beforeunload");
  release();
  await says(page, names[0], "no answer from the server, trying again");
}

const steps = {
  async drop(page) {
    await drop(page);
    await checkBars(page);
    await checkListing(page);
  },

  async dropFromOutside(page) {
    await dropFromOutside(page);
    await checkBars(page);
    await checkListing(page);
  },

  async choose(page) {
    await choose(page);
    await checkBars(page);
    await checkListing(page);
    assert.equal(await page.inputValue("form input[type=file]"), "");
  },

  // Without script the form alone does it.
  async plain(page) {
    assert.equal(await page.locator("#hint").textContent(), "");
    await choose(page);
    await page.waitForURL(url);
    await checkListing(page);
  },

  async plainRefused(page) {
    await choose(page);
    const text = await page.locator("body").textContent();
    assert.match(text, /'\.hidden' is hidden/);
  },

  // What is refused says why, and stays on the page when others succeed.
  async refused(page) {
    await drop(page, paths.slice(0, 2));
    await says(page, names[0], "the name '\\.hidden' is hidden");
    await says(page, names[1], "'folder' is no plain file");
    await dropFromOutside(page, paths.slice(2, 3));
    await says(page, names[2], ".*directory could not be found.*");
    await drop(page, paths.slice(3));
    await says(page, names[3], "stored");
    await says(page, names[0], ".* is hidden");
    assert.equal(await page.locator(".bad").count(), 3);
  },

  // Somebody else's upload is in the way, until it is given up.
  async conflict(page) {
    assert.equal((await put(names[0], "other")).status, 202);
    await drop(page);
    await says(page, names[0], "another upload of that name is in progress");
    await page.getByRole("button", {name: "Discard that upload"}).click();
    await checkBars(page);
    await checkListing(page);
  },

  // Of the same name, size and time, but not the same.
  async lookalike(page) {
    for (const [i, letter] of ["A", "B"].entries()) {
      await page.evaluate(([text]) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([text], "like", {lastModified: 1e12}));
        document.forms[0].dispatchEvent(new DragEvent(
          "drop", {dataTransfer, bubbles: true, cancelable: true}));
      }, [letter.repeat(piece + 1)]);
      const lines = page.locator("#going span", {hasText: /^like: stored$/});
      await lines.nth(i).waitFor();
      const got = await page.request.get(new URL("like", url).href);
      assert.ok(await got.text() === letter.repeat(piece + 1), letter);
    }
  },

  async full(page) {
    await drop(page);
    await says(page, names[0], "the disk is full");
    await page.getByRole("button", {name: "Try again"}).waitFor();
  },

  // The server dies and comes back: the page goes on by itself.
  async restart(page) {
    await outlive(page);
    console.log("start");
    await says(page, names[0], "stored");
    await checkListing(page);
  },

  // It does not come back for a minute: the page says so, and goes on when
  // it is told to.
  async death(page) {
    await page.clock.install();
    await outlive(page);
    const button = page.getByRole("button", {name: "Try again"});
    while (!await button.isVisible()) await page.clock.runFor(1000);
    await says(page, names[0], "no answer from the server");
    console.log("start");
    await button.click();
    await says(page, names[0], "stored");
  },
};

const find = ["-c", "command -v chromium"];
const executablePath = execFileSync("sh", find, {encoding: "utf8"}).trim();
const browser = await chromium.launch({executablePath});
try {
  const page = await browser.newPage(
    {javaScriptEnabled: !step.startsWith("plain")});
  const faults = [];
  page.on("pageerror", error => faults.push(error));
  await page.addInitScript(watchBars);
  await page.goto(url);
  await steps[step](page);
  assert.deepEqual(faults, []);
  console.log("done");
} finally {
  await browser.close();
}
