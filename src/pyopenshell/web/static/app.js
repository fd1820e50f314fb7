"use strict";
// Everything is put in as text, never as HTML. What is decided is what stands in `card`, with its token.
const $ = (id) => document.getElementById(id);
const SETTLE = 400;  // milliseconds a card must have stood here before a click or key decides it
let state = null, chosen = "", card = null, since = 0, ended = false, notice = "", busy = false;

function el(tag, cls, text, ...kids) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text) node.textContent = text;
  node.append(...kids);
  return node;
}
function say(text) { $("said").textContent = text; $("said").hidden = false; clearTimeout(say.timer); say.timer = setTimeout(() => { $("said").hidden = true; }, 6000); }
const tone = (verdict) => verdict === "no findings" ? "good" : verdict === "blocked" ? "bad" : "warn";
const mine = (one) => !$("sandbox").value || one.sandbox === $("sandbox").value;

function row(one) {
  const button = el("button", "row " + one.status, "", el("span", "where", one.where), el("span", "what", one.what));
  const last = el("span", "dim", "", el("b", one.status === "pending" ? tone(one.verdict) : "", one.status === "pending" ? one.verdict : one.status));
  last.append(" · " + one.rule + " · " + one.sandbox + (one.hits > 1 ? " · " + one.hits + "x" : ""));
  button.append(last);
  button.type = "button"; button.dataset.id = one.id;
  button.setAttribute("aria-current", String(one.id === chosen));
  button.addEventListener("click", () => choose(one.id, true));
  return el("li", "", "", button);
}
function fill(list, nodes) {
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.id : "";
  list.replaceChildren(...nodes);
  const again = focused && list.querySelector('[data-id="' + CSS.escape(focused) + '"]');
  if (again) again.focus();
}
function draw() {
  const place = $("sandbox").value;
  $("sandbox").replaceChildren(new Option("all sandboxes", ""), ...state.sandboxes.map((s) => new Option(s.name + (s.phase === "Ready" ? "" : " (" + s.phase.toLowerCase() + ")") + (s.pending ? ": " + s.pending + " pending" : ""), s.name)));
  $("sandbox").value = state.sandboxes.some((s) => s.name === place) ? place : "";
  const pending = state.pending.filter(mine), decided = state.decided.filter(mine);
  $("state").textContent = "gateway " + state.gateway + ", " + (state.connected ? "connected" : "not connected: " + state.trouble) + " · workspace " + state.workspace;
  $("count").textContent = pending.length ? "(" + pending.length + ")" : "";
  document.title = (state.pending.length ? "(" + state.pending.length + ") " : "") + "OpenShell inbox";
  $("nothing").hidden = pending.length > 0; $("several").hidden = pending.length < 2;
  fill($("pending"), pending.map(row)); fill($("decided"), decided.map(row));
  fill($("observed"), state.observed.filter(mine).map((o) => el("li", "", "", el("div", "mono", o.title), el("div", "dim", o.why), el("div", "dim", o.count + " · " + o.sandbox))));
  const all = [...state.pending, ...state.decided];
  if (!all.some((one) => one.id === chosen)) { chosen = ""; if (pending.length) choose(pending[0].id, false); else clear("Choose a proposal."); follow(); return; }
  const now = all.find((one) => one.id === chosen);
  if (card && card.id === chosen && (now.token !== card.token || now.status !== card.status)) {
    if (now.status === "pending" && card.status === "pending" && !busy) notice = "Changed while you were looking. Read it again, then decide.";
    load();
  } else if (!card || card.proof === "missing" || card.expires) load();  // a renewal changes nothing but the end
  follow();
}
function clear(words) { card = null; $("card").replaceChildren(el("p", "dim", words)); $("actions").replaceChildren(); }
function choose(id, jump) { chosen = id; notice = ""; for (const b of document.querySelectorAll(".row")) b.setAttribute("aria-current", String(b.dataset.id === id)); clear("The proof is being fetched ..."); load(); follow(); if (jump) { $("card").focus(); $("card").scrollIntoView({block: "start"}); } }
async function fetchCard(id) { const answer = await fetch("api/card/" + encodeURIComponent(id)); return answer.ok ? answer.json() : null; }
async function load() {
  const id = chosen, found = await fetchCard(id);
  if (!found || id !== chosen) return;
  const same = card && card.proof !== "missing" && ["id", "token", "status", "proof"].every((key) => card[key] === found[key]);
  card = found;
  if (same) count(); else put();
}
function put() {  // the buttons come alive once the card has stood here for a moment, and approving once its end was seen
  since = performance.now(); ended = false;
  const end = el("p", "end");
  $("card").replaceChildren(...paper(card), end); $("card").scrollTop = 0; $("actions").replaceChildren(...buttons(card)); count();
  put.watch && put.watch.disconnect();
  put.watch = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) { ended = true; put.watch.disconnect(); wake(); } });
  put.watch.observe(end);
  clearTimeout(put.timer); put.timer = setTimeout(wake, SETTLE + 20);
}
function wake() { for (const b of document.querySelectorAll("#actions [data-on=true]")) b.disabled = performance.now() - since < SETTLE || (b.dataset.whole === "true" && !ended); }
function left(one) {
  let seconds = Math.floor((Date.parse(one.expires) - Date.now()) / 1000), words = "";
  if (seconds <= 0) return "now";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]]) { const n = Math.floor(seconds / size); seconds -= n * size; if (n) words += n + unit; }
  return "in " + words;
}
function count() { const place = $("left"); if (place && card && card.expires) place.textContent = "ends " + left(card) + " (" + card.ends + " UTC; approved for " + card.given + ")"; }
setInterval(count, 1000);
function permits(one) {
  if (one.proof === "missing") return [el("p", "warn", "Not known yet: the proof is being fetched.")];
  const out = one.permits.map((p) => { const box = el("div", "permit" + (p.uninspected ? " raw" : ""), "", el("strong", "", p.text)); if (p.reason && p.reason !== "new grant") box.append(el("span", "warn", "  [" + p.reason + "]")); if (p.uninspected) box.append(el("div", "bad", "NOT INSPECTED")); if (p.witness) box.append(el("div", "dim mono", "for example " + p.witness)); return box; });
  if (!out.length && one.proof === "complete") out.push(el("p", "", "Nothing that is not permitted already."));
  if (one.proof === "incomplete") out.push(el("p", "bad", "The proof did not finish: there may be more."));
  return out;
}
function paper(one) {
  const out = [];
  if (notice) out.push(el("p", "notice", notice));
  out.push(el("p", "title", one.rule), el("p", "dim", one.status + " · in " + one.sandbox + (one.author ? " · " + one.author : "") + (one.hits > 1 ? " · " + one.hits + " times" : "") + " · " + one.last_seen));
  if (one.expires) { const line = el("p", "warn"); line.id = "left"; out.push(line); }
  out.push(el("h2", "", one.status === "approved" ? "Newly permitted" : "Approving would newly permit"), ...permits(one));
  const part = (title, lines, cls) => { if (lines.length) out.push(el("h2", "", title), ...lines.map((l) => el("p", cls, l))); };
  part("It cannot be applied", one.application, "bad");
  part("Security notes", one.security ? [one.security] : [], "warn");
  part("Findings", one.prover, one.clean && one.inspected ? "good" : "warn");
  part("Asks for", [...one.endpoints, "by " + (one.binaries.join(", ") || "nobody")], "mono");
  part(one.mode === "mechanistic" ? "Why" : "The agent says", one.rationale ? [one.rationale] : [], "quote");
  part("Reason given", one.reason ? [one.reason] : [], "");
  part("Decided", one.decided_by ? ["by " + one.decided_by + ", " + one.decided] : [], "");
  out.push(el("p", "dim", "confidence " + one.confidence + " · candidate " + (one.candidate || "-") + " · id " + one.id));
  return out;
}
function buttons(one) {
  const out = [];
  const add = (text, cls, act, on, whole) => { const b = el("button", cls, text); b.type = "button"; b.disabled = true; b.dataset.on = String(Boolean(on) && one.proof !== "missing"); b.dataset.whole = String(Boolean(whole)); b.addEventListener("click", act); out.push(b); };
  const pending = one.status === "pending";
  if (one.status !== "approved") add("Approve (a)", "good", () => decide("approve"), true, true);
  if (one.status !== "approved" || one.expires) add((one.expires ? "Renew" : "Approve for a time") + " (T)", "good", askLimit, true, true);
  add(one.status === "approved" ? "Revoke (x)" : "Reject (x)", "bad", askReason, pending || one.status === "approved");
  if (pending) add("Narrow to what was refused (n)", "", () => decide("narrow"), true);
  if (one.status === "approved") add("Undo (u)", "", () => decide("undo"), true);
  return out;
}
const seen = (one) => ({sandbox: one.sandbox, id: one.id, token: one.token, status: one.status});
async function post(path, body) { const answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)}); return answer.json(); }
function ready(whole) {
  if (!card || card.proof === "missing" || busy) return false;
  if (notice) { notice = ""; put(); say("It changed: read it again, then decide."); return false; }
  if (performance.now() - since < SETTLE) { say("This just came up: look at it first."); return false; }
  if (whole && !ended) { more(); say("There was more below: approve once you have seen the end."); return false; }
  return true;
}
function more() { const one = $("card"); (one.scrollHeight > one.clientHeight + 1 ? one : window).scrollBy(0, 0.8 * Math.min(one.clientHeight, innerHeight)); }
async function decide(action, reason, limit) {
  if (!ready(action === "approve")) return;
  const done = {approve: "approved", reject: "rejected", narrow: "narrowed: read it, then approve", undo: "undone: the policy is what it was"};
  const body = {action, seen: seen(card)};
  if (reason) body.reason = reason;
  if (limit) body.limit = limit;
  busy = true;
  try { const answer = await post("api/decide", body); say(answer.error || done[action] + (limit ? " for " + limit : "")); await load(); } finally { busy = false; }
}
function askReason() { if (!ready()) return; const asked = card; $("why").value = ""; $("reason").returnValue = ""; $("reason").showModal(); $("reason").onclose = () => { if ($("reason").returnValue === "send" && card && seenSame(card, asked)) decide("reject", $("why").value); }; }
function askLimit() {
  if (!ready(true)) return;
  const asked = card, choose = (length) => { $("limit").close(); if (card && seenSame(card, asked)) decide("approve", "", length); };
  $("limit-title").textContent = (asked.expires ? "Renew " : "Approve ") + asked.rule + " for";
  $("presets").replaceChildren(...state.presets.map(([length, words]) => { const b = el("button", "good", words); b.type = "button"; b.addEventListener("click", () => choose(length)); return b; }));
  $("length").value = ""; $("limit").showModal(); $("presets").firstChild.focus();
  $("limit").querySelector("form").onsubmit = (event) => { event.preventDefault(); choose($("length").value); };
  $("limit-back").onclick = () => $("limit").close();
}
const seenSame = (one, other) => one.id === other.id && one.token === other.token && one.status === other.status;
async function several() {
  const found = (await Promise.all(state.pending.filter(mine).slice(0, 50).map((one) => fetchCard(one.id)))).filter((one) => one && one.status === "pending" && one.proof === "complete" && !one.security && !one.application.length);
  if (!found.length) { say("Each of these wants a look of its own."); return; }
  $("bulk-title").textContent = "Approve these " + found.length + " proposals?";
  $("bulk-list").replaceChildren(...found.flatMap((one) => [el("h2", "", one.rule + " in " + one.sandbox), ...permits(one)]));
  const end = el("p", "end"), send = $("bulk-send");
  $("bulk-list").append(end); send.disabled = true;
  $("bulk").returnValue = ""; $("bulk").showModal(); $("bulk-list").scrollTop = 0; $("bulk-list").focus();
  const watch = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) { watch.disconnect(); setTimeout(() => { send.disabled = false; }, SETTLE); } });
  watch.observe(end);
  $("bulk").onclose = async () => { if ($("bulk").returnValue !== "send") return; const answer = await post("api/approve-all", {seen: found.map(seen)}); say(answer.error || "approved " + answer.approved + ", skipped " + answer.skipped); };
}
$("several").addEventListener("click", several);
$("sandbox").addEventListener("change", draw);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]") || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const step = (by) => { const rows = [...document.querySelectorAll("#pending .row, #decided .row")], at = rows.findIndex((r) => r.dataset.id === chosen), next = rows[Math.max(0, Math.min(rows.length - 1, at + by))]; if (next) { next.focus(); choose(next.dataset.id, false); } };
  const keys = {a: () => card && card.status !== "approved" && decide("approve"), T: () => card && (card.status !== "approved" || card.expires) && askLimit(), l: () => { $("log").open = !$("log").open; }, x: () => card && card.status !== "rejected" && askReason(), n: () => card && card.status === "pending" && decide("narrow"), u: () => card && card.status === "approved" && decide("undo"), j: () => step(1), k: () => step(-1), A: several};
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
// The log of the chosen sandbox, or of the chosen proposal's, while it is open.
const KEPT = 1000;
let tail = null, tailed = "";
function follow() {
  const entry = state && [...state.pending, ...state.decided].find((one) => one.id === chosen), name = $("sandbox").value || (entry ? entry.sandbox : "");
  $("log-of").textContent = name ? "of " + name : "";
  const wanted = $("log").open ? name : "";
  if (wanted === tailed) return;
  if (tail) tail.close();
  tail = null; tailed = wanted; $("lines").replaceChildren();
  if (!wanted) return;
  tail = new EventSource("api/log/" + encodeURIComponent(wanted));
  tail.onopen = () => $("lines").replaceChildren();
  tail.onmessage = (event) => {
    const line = JSON.parse(event.data), lines = $("lines"), low = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
    lines.append(line.remark ? el("li", "dim", "-- " + line.remark + " --") : el("li", line.level === "ERROR" ? "bad" : line.level === "WARN" ? "warn" : "", "", el("span", "dim", line.time + " " + line.source + " "), line.message, el("span", "dim", line.fields ? " " + line.fields : "")));
    while (lines.childElementCount > KEPT) lines.firstChild.remove();
    if (low) lines.scrollTop = lines.scrollHeight;
  };
}
$("log").addEventListener("toggle", follow);
const events = new EventSource("api/events");
events.onmessage = (event) => { state = JSON.parse(event.data); draw(); };
events.onerror = () => { $("state").textContent = "not connected to openshell web; trying again"; };
