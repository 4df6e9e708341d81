// The page: a grid of prompts and models, and from it comparison, blind votes and value. Everything that comes from outside is
// put in as text, never as markup. In an exported page the data is in window.ORBATCH and nothing is sent anywhere.
"use strict";
const fixed = window.ORBATCH || null;
const $ = (id) => document.getElementById(id);
const usd = (value) => (value === null || value === undefined ? "–" : value.toFixed(Number.isInteger(Math.round(value * 1e4) / 100) ? 2 : 4));
// `cols`: numbers of the shown models in their order; `hide`: numbers of hidden rows; `n`: how many take part in a blind vote.
const state = { view: "grid", q: "", show: "", model: "", sort: "", group: "", least: "", low: "", high: "", cols: "", hide: "", n: "" };
const filters = [["search", "q"], ["show", "show"], ["model", "model"], ["sort", "sort"], ["group", "group"], ["least", "least"], ["low", "low"], ["high", "high"]];
const undone = []; // what `u` takes back: [job, field, earlier value]
let data = { rows: [], models: [] }, chosen = [], focused = null, cells = new Map(), playing = null, pair = null;

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const fill = (node, ...children) => node.replaceChildren(...children.filter((child) => child !== null));
const media = (cell, number = 0) => (fixed ? cell.files[number] : `media/${cell.id}/${number}`);
const poster = (cell) => (fixed ? cell.poster : `poster/${cell.id}`);
const isOpen = (cell) => ["submitting", "submitted", "completed"].includes(cell.status);
const name = (model) => model.slice(model.lastIndexOf("/") + 1);

// -- state in the address, so that a view can be kept and sent -------------------------------------------------------------

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) state[key] = given.get(key) || (key === "view" ? "grid" : "");
  chosen = (given.get("jobs") || "").split(",").filter(Boolean);
}
function writeAddress() {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) if (value && value !== "grid") given.set(key, value);
  if (chosen.length) given.set("jobs", chosen.join(","));
  const hash = `#${given}`;
  if (hash !== location.hash && (given.size || location.hash)) history.replaceState(null, "", hash);
}

// -- data ------------------------------------------------------------------------------------------------------------------

async function load() {
  data = fixed || (await (await fetch("api/batch")).json());
  cells = new Map();
  data.rows.forEach((row, at) => { row.at = at; });
  for (const row of data.rows) for (const list of Object.values(row.cells)) for (const cell of list) { cell.row = row; cells.set(cell.id, cell); }
  for (const model of data.models) for (const row of data.rows) for (const cell of row.cells[model.id] || []) { cell.model = model.id; cell.source = model.model; }
  render();
}
async function send(path, body) {
  if (fixed) return true;
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  if (!answer.ok) note(await answer.text());
  return answer.ok;
}
async function review(cell, field, value, remember = true) {
  const before = field === "rating" ? (cell.mine ? String(cell.mine) : null) : cell.mark;
  if (!(await send("api/review", { job: cell.id, field, value }))) return;
  if (remember) undone.push([cell.id, field, before]);
  if (field === "rating") { cell.mine = value ? Number(value) : null; cell.rating = cell.mine; } else cell.mark = value;
  repaint(cell);
  footer();
}
function note(text) { $("counts").textContent = text; }

// -- rows that are shown -----------------------------------------------------------------------------------------------------

function wanted(cell) {
  const isShown = { "": true, done: cell.status === "done", picked: cell.mark === "pick", unrated: cell.status === "done" && !cell.mine,
    failed: cell.status === "failed", open: isOpen(cell) || cell.status === "pending" }[state.show];
  return isShown && (cell.rating || 0) >= Number(state.least) && (!state.low || (cell.cost ?? -1) >= Number(state.low)) && (!state.high || (cell.cost ?? Infinity) <= Number(state.high));
}
const numbers = (text) => (text ? text.split(",").map(Number) : []);
const ordered = () => (state.cols ? numbers(state.cols).map((at) => data.models[at]).filter(Boolean) : data.models);
const models = () => ordered().filter((model) => !state.model || model.id === state.model);
function arrange(model, by) { // one place to the left (-1) or right (1), or away (0)
  const list = ordered().map((each) => data.models.indexOf(each)), at = list.indexOf(data.models.indexOf(model)), to = at + by;
  if (by === 0 ? list.length === 1 : to < 0 || to >= list.length) return;
  if (by === 0) list.splice(at, 1); else [list[at], list[to]] = [list[to], list[at]];
  state.cols = list.length === data.models.length && list.every((each, place) => each === place) ? "" : list.join(",");
  render();
}
function rows() {
  const words = state.q.toLowerCase();
  const all = (row) => models().flatMap((model) => row.cells[model.id] || []), hidden = numbers(state.hide);
  const found = data.rows.filter((row, at) => !hidden.includes(at) && `${row.prompt_id} ${row.prompt} ${Object.values(row.variables).join(" ")}`.toLowerCase().includes(words) && all(row).some(wanted));
  const by = { cost: (row) => all(row).reduce((sum, cell) => sum + (cell.cost || 0), 0), rating: (row) => Math.max(0, ...all(row).map((cell) => cell.rating || 0)) }[state.sort];
  return by ? found.map((row) => [by(row), row]).sort((a, b) => b[0] - a[0]).map((each) => each[1]) : found;
}
const groupOf = (row) => String((state.group === "seed" ? row.seed : state.group === "prompt" ? row.prompt_id : row.variables[state.group]) ?? "none");

// -- drawing -----------------------------------------------------------------------------------------------------------------

function render() {
  document.title = `${data.batch} · orbatch`;
  $("batch").textContent = data.batch;
  const every = [...cells.values()];
  const count = (test) => every.filter(test).length;
  const parts = [["done", count((cell) => cell.status === "done")], ["running", count(isOpen)], ["pending", count((cell) => cell.status === "pending")],
    ["failed", count((cell) => cell.status === "failed")], ["uncertain", count((cell) => cell.status === "uncertain")]];
  $("counts").replaceChildren(...parts.filter(([word, n]) => n || word === "done").map(([word, n]) => el("span", { class: word === "failed" ? "bad" : null }, el("b", {}, String(n)), ` ${word}`)));
  if ($("model").options.length !== data.models.length + 1)
    $("model").replaceChildren(el("option", { value: "" }, "All models"), ...data.models.map((model) => el("option", { value: model.id }, model.id)));
  const names = ["prompt", ...new Set(data.rows.flatMap((row) => Object.keys(row.variables))), ...(data.rows.some((row) => row.seed !== null) ? ["seed"] : [])];
  if ($("group").options.length !== names.length + 1)
    $("group").replaceChildren(el("option", { value: "" }, "No groups"), ...names.map((each) => el("option", { value: each }, `By ${each}`)));
  const away = numbers(state.hide).length + data.models.length - ordered().length;
  $("all").hidden = !away && !state.cols;
  $("all").textContent = away ? `Show ${away} hidden` : "Usual order";
  for (const [id, key] of filters) if (document.activeElement !== $(id)) $(id).value = state[key];
  for (const button of document.querySelectorAll("nav button")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  $("tools").hidden = state.view !== "grid";
  ({ grid, compare, blind, value })[state.view]();
  footer();
  writeAddress();
}
function grid() {
  const shown = rows(), columns = models(), main = $("main"), top = main.scrollTop, left = main.scrollLeft;
  if (!shown.length) { main.replaceChildren(el("p", { class: "empty" }, "Nothing matches these filters.")); return; }
  const head = el("tr", {}, el("th", { class: "corner", scope: "col" }, `${shown.length} prompts × ${columns.length} models`), ...columns.map(column));
  near.disconnect();
  lines.clear();
  const line = (row) => {
    const tr = el("tr");
    lines.set(row, { tr, draw: () => [rowHead(row, columns), ...columns.map((model) => takes(row, model))] });
    if (lines.size <= DRAWN_AT_ONCE) fillLine(row); else if (heights.has(row.at)) tr.style.height = heights.get(row.at);
    near.observe(Object.assign(tr, { row }));
    return tr;
  };
  const sections = () => [...Map.groupBy(shown, groupOf)].flatMap(([text, list]) => [groupHead(text, list, columns), ...list.map(line)]);
  const body = el("tbody", {}, ...(state.group ? sections() : shown.map(line)));
  main.replaceChildren(el("table", {}, el("thead", {}, head), body));
  const drawn = [...lines.values()].slice(0, DRAWN_AT_ONCE).map((each) => each.tr.offsetHeight);
  main.style.setProperty("--row", `${Math.round(drawn.reduce((sum, height) => sum + height, 0) / drawn.length)}px`); // of those not drawn
  main.scrollTo(left, top);
}
// Only the rows near the screen are drawn: 5,000 outputs would be half a million nodes.
const DRAWN_AT_ONCE = 12, lines = new Map(), heights = new Map();
const near = new IntersectionObserver((entries) => { for (const { target, isIntersecting } of entries) if (isIntersecting) fillLine(target.row); else emptyLine(target); }, { root: $("main"), rootMargin: "1200px 0px" });
function fillLine(row) {
  const line = lines.get(row);
  if (!line || line.tr.firstChild) return;
  line.tr.style.height = "";
  line.tr.append(...line.draw());
}
function emptyLine(tr) {
  if (!tr.firstChild || tr.contains(document.activeElement)) return;
  heights.set(tr.row.at, `${tr.offsetHeight}px`);
  tr.style.height = heights.get(tr.row.at);
  tr.replaceChildren();
}
function cellOf(job) { // drawn, wherever it is
  if (cells.has(job)) fillLine(cells.get(job).row);
  return document.querySelector(`td[data-job="${CSS.escape(job || "")}"]`);
}
function groupHead(text, list, columns) {
  const all = list.flatMap((row) => columns.flatMap((model) => row.cells[model.id] || []));
  const spent = all.reduce((sum, cell) => sum + (cell.cost || 0), 0), done = all.filter((cell) => cell.status === "done").length;
  return el("tr", { class: "group" }, el("th", { colspan: String(columns.length + 1), scope: "col" }, el("b", {}, `${state.group}: ${text}`), el("span", { class: "sums" }, `${usd(spent)} USD · ${done} of ${all.length} done`)));
}
function success(list) {
  const done = list.filter((cell) => cell.status === "done").length;
  return el("span", { title: "outputs that are done" }, `${done} of ${list.length}`);
}
function column(model) {
  const range = model.interval ? `${Math.round((100 * model.wins) / model.votes)} % of ${model.votes} votes (${Math.round(100 * model.interval[0])}–${Math.round(100 * model.interval[1])} %)` : "";
  const slash = model.id.lastIndexOf("/");
  const button = (text, label, by) => el("button", { "aria-label": `${label}: ${model.id}`, title: label, onclick: () => arrange(model, by) }, text);
  return el("th", { scope: "col" }, el("span", { class: "arrange" }, button("←", "Move left", -1), button("→", "Move right", 1), button("Hide", "Hide", 0)), el("span", { class: "vendor" }, model.id.slice(0, Math.max(slash, 0))), el("span", { class: "name" }, name(model.id)),
    el("span", { class: "sums" }, el("b", {}, usd(model.spent)), model.per_second ? `${usd(model.per_second)}/s` : "", success(data.rows.flatMap((row) => row.cells[model.id] || [])), range ? el("span", { title: "won in blind votes, with the Wilson interval at 95 %" }, range) : null));
}
function rowHead(row, columns) {
  const list = columns.flatMap((model) => row.cells[model.id] || []);
  const chips = Object.entries(row.variables).map(([key, text]) => [key, String(text)]);
  if (row.seed !== null) chips.push(["seed", String(row.seed)]);
  if (row.repeat > 1) chips.push(["take", String(row.repeat)]);
  return el("th", { scope: "row" }, el("span", { class: "pid" }, row.prompt_id), el("p", { class: "text", title: row.prompt }, row.prompt.slice(0, 2000)),
    ...chips.map(([key, text]) => el("span", { class: "chip" }, `${key} `, el("b", {}, text.slice(0, 80)))),
    el("p", { class: "rowsum" }, `${usd(list.reduce((sum, cell) => sum + (cell.cost || 0), 0))} USD · `, success(list), " done ",
      el("button", { "aria-label": `Hide ${row.prompt_id}`, onclick: () => { state.hide = [...numbers(state.hide), row.at].join(","); render(); } }, "Hide")));
}
function takes(row, model) {
  const list = (row.cells[model.id] || []).filter(wanted);
  return list.length ? paint(el("td", { tabindex: "0" }), list[0], list) : el("td", {});
}
function paint(td, cell, list = [cell]) {
  td.dataset.job = cell.id;
  td.className = [cell.status, cell.mark || "", chosen.includes(cell.id) ? "chosen" : ""].join(" ");
  td.setAttribute("aria-label", `${cell.row.prompt_id}, ${cell.model}, ${cell.status}${cell.cost === null ? "" : `, ${usd(cell.cost)} USD`}`);
  td.replaceChildren(...[cell, ...list.filter((other) => other !== cell)].map(output));
  return td;
}
function output(cell) {
  const box = el("div", { "data-take": cell.id });
  if (cell.status !== "done") { box.append(why(cell)); return box; }
  if (cell.kind === "text") box.append(words(cell));
  else {
    const figure = el("figure", {}, el("img", { src: poster(cell), alt: `${cell.row.prompt_id} by ${cell.model}`, loading: "lazy", decoding: "async" }));
    figure.addEventListener("pointerenter", () => play(cell, figure));
    figure.addEventListener("pointerleave", () => stop(figure));
    figure.addEventListener("click", () => { chosen = [cell.id]; go("compare"); });
    box.append(figure);
  }
  box.append(el("figcaption", {}, el("b", {}, usd(cell.cost)), cell.seconds ? el("span", {}, `${cell.seconds.toFixed(cell.seconds % 1 < 0.1 ? 0 : 1)} s`) : null,
    cell.size ? el("span", { class: "size" }, cell.size) : null, cell.took ? el("span", { class: "end" }, `${Math.round(cell.took)} s wait`) : null));
  const stars = [1, 2, 3, 4, 5].map((n) => el("button", { class: `star${(cell.rating || 0) >= n ? " on" : ""}`, "aria-label": `Rate ${n} of 5`, onclick: () => review(cell, "rating", cell.mine === n ? null : String(n)) }));
  box.append(el("div", { class: "rate" }, ...stars, el("button", { class: "mark", "aria-pressed": String(cell.mark === "pick"), onclick: () => review(cell, "mark", cell.mark === "pick" ? null : "pick") },
    cell.mark === "pick" ? "Picked" : cell.mark === "reject" ? "Rejected" : "Pick")));
  return box;
}
function usualOf(model) { // how long a job of this model usually takes: the median of those that are done
  const took = [...cells.values()].filter((cell) => cell.model === model && cell.status === "done" && cell.took !== null).map((cell) => cell.took).sort((a, b) => a - b);
  return took.length ? took[took.length >> 1] : null;
}
function why(cell) {
  const usual = cell.since ? usualOf(cell.model) : null;
  const age = cell.since ? `${Math.round((Date.now() - Date.parse(cell.since)) / 1000)} s${usual === null ? "" : ` of about ${Math.round(usual)} s`}` : "";
  const money = cell.cost ? `charged ${usd(cell.cost)} USD` : cell.status === "failed" ? "not charged" : cell.estimate === null ? "no upper price" : `up to ${usd(cell.estimate)} USD`;
  return el("div", { class: "why" }, el("b", {}, isOpen(cell) ? `running ${age}` : cell.status), (cell.error || "").slice(0, 300), el("br"), el("span", {}, money));
}
const textOf = (cell) => (cell.read ??= fetch(media(cell)).then((answer) => answer.text()).catch(() => cell.text || ""));
function words(cell) {
  const box = el("pre", { class: "words", tabindex: "0", "aria-label": `Text of ${cell.row.prompt_id}` });
  textOf(cell).then((text) => { box.textContent = text; });
  return box;
}
function differences(boxes, texts) { // what the other text lacks is marked, word by word: the longest common subsequence
  const [a, b] = texts.map((text) => text.split(/(?<=\s)/));
  if (a.length * b.length > 4e6) return;
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const left = [], right = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    if (i < a.length && j < b.length && a[i] === b[j]) { left.push(a[i++]); right.push(b[j++]); }
    else if (j >= b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) left.push(el("del", {}, a[i++]));
    else right.push(el("ins", {}, b[j++]));
  }
  boxes[0].replaceChildren(...left);
  boxes[1].replaceChildren(...right);
}
function notes(cell) {
  const others = Object.entries(cell.notes).filter(([who]) => who !== data.me);
  const box = el("input", { type: "text", class: "note", "aria-label": `Note on ${cell.row.prompt_id} by ${cell.model}`, placeholder: "Note", value: cell.notes[data.me] || "", maxlength: "2000" });
  box.addEventListener("change", async () => {
    const text = box.value.trim();
    if (!(await send("api/review", { job: cell.id, field: "note", value: text || null }))) return;
    if (text) cell.notes[data.me] = text; else delete cell.notes[data.me];
  });
  return el("div", { class: "notes" }, box, ...others.map(([who, text]) => el("p", {}, el("b", {}, who), ` ${text}`)));
}
function repaint(cell) {
  for (const td of document.querySelectorAll("td[data-job]")) {
    const take = td.querySelector(`[data-take="${CSS.escape(cell.id)}"]`);
    if (take) take.replaceWith(output(cell));
    if (td.dataset.job === cell.id) td.className = [cell.status, cell.mark || "", chosen.includes(cell.id) ? "chosen" : ""].join(" ");
  }
}
function play(cell, figure) {
  if (!cell.mime || !cell.mime.startsWith("video/")) return;
  stop(playing);
  const video = el("video", { src: media(cell), muted: true, loop: true, playsinline: true });
  video.muted = true;
  figure.append(video);
  video.play().catch(() => {});
  playing = figure;
}
function stop(figure) { figure?.querySelector("video")?.remove(); if (figure === playing) playing = null; }

function footer() {
  const picked = [...cells.values()].filter((cell) => cell.mark === "pick");
  const rejected = [...cells.values()].filter((cell) => cell.mark === "reject");
  const sum = (list) => list.reduce((total, cell) => total + (cell.cost || 0), 0);
  $("money").replaceChildren(...[["spent USD", usd(data.spent)], ["reserved", data.reserved ? usd(data.reserved) : null], ["per pick", picked.length ? usd(data.spent / picked.length) : null], ["rejected", rejected.length ? usd(sum(rejected)) : null]]
    .filter(([, text]) => text !== null).map(([word, text]) => el("div", {}, el("dt", {}, word), el("dd", {}, text))));
  const ids = [...new Set(picked.map((cell) => cell.row.prompt_id))];
  const command = `orbatch final ${data.batch} --model MODEL -o finals.yaml`;
  fill($("footer"), el("span", {}, el("b", {}, String(picked.length)), " picked"), el("span", { class: "muted" }, ids.slice(0, 6).join(", ") + (ids.length > 6 ? " …" : "")),
    chosen.length ? el("button", { onclick: () => go("compare") }, `Compare ${chosen.length}`) : null,
    picked.length ? el("button", { onclick: () => savePicks(picked) }, "Download picks") : null,
    picked.length && !fixed ? el("button", { id: "order-finals", onclick: orderFinals }, "Finals…") : null,
    picked.length && fixed ? el("code", { title: "Writes a batch file with its estimate; spends nothing" }, command) : null);
}
function savePicks(picked) {
  const lines = picked.map((cell) => JSON.stringify({ job_id: cell.id, prompt_id: cell.row.prompt_id, prompt: cell.row.prompt, variables: cell.row.variables, seed: cell.row.seed, model: cell.source, rating: cell.rating, cost_usd: cell.cost })).join("\n");
  download(`${lines}\n`, `${data.batch}-picks.jsonl`, "application/jsonl").click();
}
const download = (text, file, type) => el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: file }, `Download ${file}`);
function orderFinals() {
  $("final-models").replaceChildren(...[...new Set(data.models.map((model) => model.model))].map((model) => el("option", { value: model })));
  fill($("offer"));
  $("finals").showModal();
}
async function showOffer() { // the file and what it costs; it is run in a terminal
  fill($("offer"), el("p", {}, "Reading the price list …"));
  const answer = await fetch("api/finals", { method: "POST", body: JSON.stringify({ model: $("final-model").value, set: $("final-set").value }), headers: { "Content-Type": "application/json" } });
  const offer = answer.ok ? await answer.json() : { problems: [await answer.text()] };
  const price = offer.usd ? `up to ${offer.usd} USD` : "no upper price is known";
  fill($("offer"), offer.jobs ? el("p", {}, el("b", {}, `${offer.jobs} ${offer.jobs === 1 ? "job" : "jobs"}, ${price}`)) : null, ...offer.problems.map((text) => el("p", { class: "bad" }, text)),
    offer.jobs ? el("p", {}, download(offer.file, "finals.yaml", "application/yaml"), " and run it with ", el("code", {}, offer.command)) : null,
    offer.file ? el("pre", { tabindex: "0", "aria-label": "finals.yaml" }, offer.file) : null);
}

// -- compare: up to four outputs on one timeline -------------------------------------------------------------------------------

function compare() {
  let list = chosen.map((id) => cells.get(id)).filter((cell) => cell && cell.status === "done").slice(0, 4);
  if (!list.length && focused) list = Object.values(cells.get(focused)?.row.cells || {}).flat().filter((cell) => cell.status === "done").slice(0, 4);
  if (!list.length) { $("main").replaceChildren(el("p", { class: "empty" }, "Choose two to four outputs in the grid with c.")); return; }
  const stage = el("div", { class: "stage" }, ...list.map((cell) => el("div", { class: "take" }, still(cell), el("p", {}, el("b", {}, name(cell.model)), ` · ${cell.row.prompt_id} · ${usd(cell.cost)} USD`), output(cell).querySelector(".rate"), notes(cell))));
  $("main").replaceChildren(stage, controls(stage, list.length === 2));
  const boxes = [...stage.querySelectorAll("pre")];
  if (boxes.length === 2) Promise.all(list.filter((cell) => cell.kind === "text").map(textOf)).then((texts) => differences(boxes, texts));
}
function still(cell) {
  const isVideo = cell.mime && cell.mime.startsWith("video/");
  if (cell.kind === "text") return words(cell);
  const figure = el("figure", {}, isVideo ? el("video", { src: media(cell), poster: poster(cell), playsinline: true, preload: "auto", "aria-label": `${cell.row.prompt_id} by ${cell.model}` }) : el("img", { src: media(cell), alt: `${cell.row.prompt_id} by ${cell.model}` }));
  if (!isVideo) figure.addEventListener("click", zoom);
  return figure;
}
function zoom() { // every image at its own size, moved together; and back
  const figures = [...document.querySelectorAll(".stage figure:has(img)")], on = !figures[0]?.classList.contains("zoom");
  for (const figure of figures) {
    figure.classList.toggle("zoom", on);
    figure.onscroll = on ? () => figures.forEach((other) => { other.scrollTop = figure.scrollTop; other.scrollLeft = figure.scrollLeft; }) : null;
  }
}
function controls(stage, isPair) {
  const videos = [...stage.querySelectorAll("video")];
  if (!videos.length) return el("span");
  videos.forEach((video, at) => { video.muted = at > 0; video.loop = true; });
  const longest = () => Math.max(0.1, ...videos.map((video) => video.duration || 0));
  const time = el("input", { type: "range", min: "0", max: "1000", value: "0", "aria-label": "Position" });
  const seek = (seconds) => videos.forEach((video) => { video.currentTime = Math.min(seconds, Math.max(0, (video.duration || seconds) - 0.02)); });
  const toggle = el("button", { id: "play", onclick: () => { const paused = videos[0].paused; videos.forEach((video) => (paused ? video.play().catch(() => {}) : video.pause())); if (paused) seek(videos[0].currentTime); } }, "Play");
  videos[0].addEventListener("play", () => { toggle.textContent = "Pause"; });
  videos[0].addEventListener("pause", () => { toggle.textContent = "Play"; });
  videos[0].addEventListener("timeupdate", () => { if (document.activeElement !== time || !videos[0].paused) time.value = String((1000 * videos[0].currentTime) / longest()); });
  time.addEventListener("input", () => seek((Number(time.value) / 1000) * longest()));
  const step = (frames) => { videos.forEach((video) => video.pause()); seek(videos[0].currentTime + frames / 24); };
  const speed = el("select", { "aria-label": "Speed" }, ...["0.25", "0.5", "1", "2"].map((rate) => el("option", { value: rate, selected: rate === "1" }, `${rate}×`)));
  speed.addEventListener("change", () => videos.forEach((video) => { video.playbackRate = Number(speed.value); }));
  const sound = el("select", { "aria-label": "Sound" }, el("option", { value: "-1" }, "No sound"), ...videos.map((_, at) => el("option", { value: String(at), selected: at === 0 }, `Sound of ${at + 1}`)));
  sound.addEventListener("change", () => videos.forEach((video, at) => { video.muted = at !== Number(sound.value); }));
  const loop = el("button", { "aria-pressed": "true", onclick: () => { const on = !videos[0].loop; videos.forEach((video) => { video.loop = on; }); loop.setAttribute("aria-pressed", String(on)); } }, "Loop");
  const wipe = isPair ? el("input", { type: "range", min: "0", max: "100", value: "50", "aria-label": "Wipe", hidden: true }) : null;
  const second = isPair ? stage.querySelectorAll("figure")[1] : null;
  const cut = () => { second.style.clipPath = `inset(0 0 0 ${wipe.value}%)`; };
  const wiping = isPair ? el("button", { "aria-pressed": "false", onclick: () => { const on = stage.classList.toggle("wipe"); wiping.setAttribute("aria-pressed", String(on)); wipe.hidden = !on; if (on) cut(); else second.style.clipPath = ""; } }, "Wipe") : null;
  wipe?.addEventListener("input", cut);
  return el("div", { class: "controls", role: "group", "aria-label": "Playback" }, toggle, el("button", { id: "back", onclick: () => step(-1) }, "‹ frame"), el("button", { id: "on", onclick: () => step(1) }, "frame ›"), time, speed, sound, loop, wiping, wipe);
}

// -- blind: which is better, without their names -------------------------------------------------------------------------------

function blind() {
  if (!pair) {
    const open = data.rows.map((row) => Object.values(row.cells).flat().filter((cell) => cell.status === "done")).filter((list) => list.length > 1);
    if (!open.length) { $("main").replaceChildren(el("p", { class: "empty" }, "A blind vote needs a prompt with two finished outputs.")); return; }
    const list = [...open[Math.floor(Math.random() * open.length)]].sort(() => Math.random() - 0.5);
    pair = list.slice(0, Number(state.n) || 2);
  }
  const letter = (at) => "ABCD"[at];
  const stage = el("div", { class: "stage" }, ...pair.map((cell, at) => el("div", { class: "take" }, anonymous(cell, letter(at)), el("p", {}, el("b", {}, letter(at))))));
  const many = el("button", { id: "many", "aria-pressed": String(state.n === "4"), onclick: () => { state.n = state.n ? "" : "4"; pair = null; render(); } }, "Up to four at once");
  $("main").replaceChildren(el("p", { class: "text controls" }, pair[0].row.prompt.slice(0, 500)), stage,
    el("div", { class: "vote" }, ...pair.map((cell, at) => el("button", { id: `vote-${letter(at).toLowerCase()}`, onclick: () => vote(cell) }, pair.length === 2 ? `${letter(at)} is better` : `${letter(at)} is best`)),
      el("button", { id: "vote-skip", onclick: () => { pair = null; blind(); } }, "Skip"), many));
  $("main").querySelectorAll("video").forEach((video) => { video.muted = true; video.loop = true; video.play().catch(() => {}); });
}
function anonymous(cell, letter) {
  const node = still(cell);
  (node.matches("pre") ? node : node.querySelector("[aria-label],img"))?.setAttribute(node.querySelector("img") ? "alt" : "aria-label", `Output ${letter}`);
  return node;
}
async function vote(winner) { // the best of several has won against each of the others
  const others = pair.filter((cell) => cell !== winner);
  for (const loser of others) if (!(await send("api/vote", { winner: winner.id, loser: loser.id }))) return;
  pair = null;
  const told = (cell) => `${cell.model} (${usd(cell.cost)} USD)`;
  $("main").replaceChildren(el("div", { class: "empty" }, el("p", { id: "revealed" }, `You chose ${told(winner)} over ${others.map(told).join(", ")}.`), el("p", {}, el("button", { id: "next", onclick: () => load() }, "Next vote"))));
}

// -- value: what a rating costs -----------------------------------------------------------------------------------------------

function value() {
  const points = data.models.map((model) => {
    const list = [...cells.values()].filter((cell) => cell.model === model.id && cell.status === "done");
    const rated = list.filter((cell) => cell.rating);
    const rejected = list.filter((cell) => cell.mark === "reject"), sum = (cells, key) => cells.reduce((total, cell) => total + (cell[key] || 0), 0);
    return { model: model.id, outputs: list.length, spent: model.spent, estimate: sum(list, "estimate"), charged: sum(list, "cost"), picks: list.filter((cell) => cell.mark === "pick").length, rejected: sum(rejected, "cost"), cost: list.reduce((sum, cell) => sum + (cell.cost || 0), 0) / (list.length || 1), rating: rated.length ? rated.reduce((sum, cell) => sum + cell.rating, 0) / rated.length : null, wins: model.votes ? model.wins / model.votes : null };
  });
  const by = points.some((point) => point.rating !== null) ? "rating" : "wins", shown = points.filter((point) => point[by] !== null);
  const table = money(points);
  if (!shown.length) { $("main").replaceChildren(el("div", { class: "value" }, el("p", {}, "Rate some outputs, or vote blind, to see what quality costs."), table)); return; }
  const most = Math.max(...shown.map((point) => point.cost)) * 1.15, [low, high] = by === "rating" ? [1, 5] : [0, 1];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 900 420");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Mean charge per output against mean rating");
  const add = (tag, attributes, text) => { const node = document.createElementNS(svg.namespaceURI, tag); for (const [key, given] of Object.entries(attributes)) node.setAttribute(key, given); if (text) node.textContent = text; svg.append(node); };
  const x = (cost) => 60 + (780 * cost) / most, y = (amount) => 370 - (330 * (amount - low)) / (high - low);
  add("line", { class: "axis", x1: 60, y1: 370, x2: 860, y2: 370 }); add("line", { class: "axis", x1: 60, y1: 30, x2: 60, y2: 370 });
  add("text", { x: 860, y: 395, "text-anchor": "end" }, "USD per output"); add("text", { x: 60, y: 20 }, by === "rating" ? "mean rating, 1 to 5" : "share of blind votes won");
  for (let tick = low; tick <= high; tick += by === "rating" ? 1 : 0.25) add("text", { x: 52, y: y(tick) + 4, "text-anchor": "end" }, String(tick));
  for (const share of [0.25, 0.5, 0.75, 1]) add("text", { x: x((most * share) / 1.15), y: 388, "text-anchor": "middle" }, usd((most * share) / 1.15));
  for (const point of shown) { add("circle", { cx: x(point.cost), cy: y(point[by]), r: 6 }); add("text", { class: "label", x: x(point.cost) + 10, y: y(point[by]) + 4 }, `${name(point.model)} ${point[by].toFixed(by === "rating" ? 1 : 2)}`); }
  const box = el("div", { class: "value" });
  box.append(svg, table);
  $("main").replaceChildren(box);
}

function money(points) { // what each model cost, what was estimated, and what a pick cost
  const heads = ["USD by model", "outputs", "estimated", "charged", "per output", "picks", "per pick", "rejected", "rating", "won"];
  const line = (point) => [point.outputs, usd(point.estimate), usd(point.charged), usd(point.cost), point.picks, point.picks ? usd(point.spent / point.picks) : "–", usd(point.rejected),
    point.rating === null ? "–" : point.rating.toFixed(1), point.wins === null ? "–" : `${Math.round(100 * point.wins)} %`];
  return el("table", { class: "figures" }, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...points.map((point) => el("tr", {}, el("th", { scope: "row" }, point.model), ...line(point).map((text) => el("td", {}, String(text)))))));
}

// -- keys and events ------------------------------------------------------------------------------------------------------------

function go(view) { state.view = view; stop(playing); render(); }
function move(across, down) {
  const all = [...document.querySelectorAll("td[data-job]")];
  if (!all.length) return;
  const now = document.activeElement.closest?.("td[data-job]");
  if (!now) { all[0].focus(); return; }
  const line = now.parentElement;
  let next = null;
  if (across) { next = now; do { next = across > 0 ? next.nextElementSibling : next.previousElementSibling; } while (next && !next.dataset.job); }
  else { let row = line; do { row = down > 0 ? row.nextElementSibling : row.previousElementSibling; if (row?.row) fillLine(row.row); next = row?.children[now.cellIndex]; } while (row && !next?.dataset.job); }
  if (next?.dataset?.job) { next.focus(); next.scrollIntoView({ block: "nearest", inline: "nearest" }); }
}
document.addEventListener("focusin", (event) => { const td = event.target.closest?.("td[data-job]"); if (td) focused = td.dataset.job; });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]),select,textarea") || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const cell = cells.get(focused), key = event.key;
  const keys = { ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1), "?": () => $("help").showModal(),
    u: () => { const last = undone.pop(); if (last && cells.has(last[0])) review(cells.get(last[0]), last[1], last[2], false); } };
  if (state.view === "compare") Object.assign(keys, { " ": () => $("play")?.click(), z: zoom, ",": () => $("back")?.click(), ".": () => $("on")?.click(), Escape: () => go("grid"), ArrowLeft: null, ArrowRight: null, ArrowUp: null, ArrowDown: null });
  else if (state.view === "blind") Object.assign(keys, { ...Object.fromEntries([..."abcd"].map((letter) => [letter, () => $(`vote-${letter}`)?.click()])), Escape: () => go("grid") });
  if (state.view === "grid" && cell && cell.status === "done") {
    const figure = document.activeElement.querySelector?.("figure");
    Object.assign(keys, { " ": () => figure && (figure === playing ? stop(figure) : play(cell, figure)), p: () => review(cell, "mark", cell.mark === "pick" ? null : "pick"), x: () => review(cell, "mark", cell.mark === "reject" ? null : "reject"),
      c: () => { chosen = chosen.includes(cell.id) ? chosen.filter((id) => id !== cell.id) : [...chosen, cell.id].slice(-4); repaint(cell); document.querySelectorAll("td.chosen").forEach((td) => td.classList.toggle("chosen", chosen.includes(td.dataset.job))); footer(); writeAddress(); },
      Enter: () => { if (!chosen.includes(cell.id)) chosen = [cell.id]; go("compare"); } });
    if ("12345".includes(key) && key.length === 1) keys[key] = () => review(cell, "rating", cell.mine === Number(key) ? null : key);
  }
  if (keys[key] && !(event.target.matches("button") && (key === " " || key === "Enter"))) { event.preventDefault(); keys[key](); }
});
for (const [id, key] of filters) $(id).addEventListener("input", () => { state[key] = $(id).value; render(); });
$("all").addEventListener("click", () => { state.cols = state.hide = ""; render(); });
$("order").addEventListener("submit", (event) => { event.preventDefault(); showOffer(); });
$("tools").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => go(button.dataset.view));
addEventListener("resize", () => { heights.clear(); if (state.view === "grid") render(); });
addEventListener("hashchange", () => { readAddress(); render(); });
readAddress();
load().then(() => {
  if (fixed) return;
  let waiting = null;
  new EventSource("api/events").onmessage = () => { // a change of the ledger; drawn anew only where it does not disturb
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (state.view === "grid") { const at = focused; load().then(() => at && cellOf(at)?.focus({ preventScroll: true })); } }, 300);
  };
});
