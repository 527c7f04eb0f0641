// The page of the server: what the system does, live, and boxes to ask it.

import { byId, duration, element, moment, percent, short, svg } from "./dom.js";
import { neighbourhood } from "./graph.js";

const STATE_EVERY_MS = 10000;
const EVENTS_SHOWN = 100;

// Requests

const key = () => sessionStorage.getItem("sx9-key") || "";

function headers() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

async function request(path, body) {
  const options = { headers: headers() };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = await response.json();
  if (response.status === 401) byId("access").open = true;
  if (!response.ok) throw new Error(answer.detail || `${path} answered ${response.status}`);
  return answer;
}

async function busy(form, target, work) {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  target.replaceChildren(element("p", { class: "hint" }, "Working."));
  try {
    target.replaceChildren(...await work());
  } catch (error) {
    target.replaceChildren(element("p", { class: "bad", role: "alert" }, error.message));
  } finally {
    button.disabled = false;
  }
}

// Classify

function marked(text, answer) {
  const parts = [];
  let at = 0;
  const characters = Array.from(text);  // the server counts characters, JavaScript counts UTF-16 units
  for (const sentence of answer.sentences) {
    parts.push(characters.slice(at, sentence.start).join(""));
    const words = characters.slice(sentence.start, sentence.end).join("");
    const techniques = sentence.techniques || [];
    if (sentence.tactics.length || techniques.length) {
      const labels = techniques.map((technique) => `${technique.id} ${technique.name}`.trim());
      labels.push(...sentence.tactics.map((tactic) => `${tactic} ${percent(sentence.probabilities[tactic] || 0)}`));
      const nearest = techniques.flatMap((technique) => technique.examples.slice(0, 1))
        .map((example) => `${example.feed} ${example.release}: ${example.text}`).join("\n");
      parts.push(element("mark", { title: nearest || null }, words, " ", element("small", {}, `[${labels.join(", ")}]`)));
    } else {
      parts.push(words);
    }
    at = sentence.end;
  }
  parts.push(characters.slice(at).join(""));
  return element("div", { class: "report" }, parts);
}

async function classify() {
  const text = byId("text").value;
  const told = await request("/v1/classify", { texts: [text] });
  const answer = told.answers[0];
  const why = answer.severity_by === "stated" ? `stated by ${answer.severity_source}` : "predicted";
  const severity = answer.severity ? `Severity: ${answer.severity}, ${why}.` : "";
  return [
    element("p", {}, element("strong", {}, answer.tactics.join(", ") || "No tactic is probable enough."), " ", severity),
    marked(text, answer),
    element("p", { class: "hint" }, `${told.model} ${told.version}, ${Math.round(told.latency_ms.total)} ms`),
  ];
}

// Explain

async function explain() {
  const told = await request("/v1/explain", { question: byId("question").value, generate: false });
  const sentences = told.sentences.map((sentence) =>
    element("li", {}, sentence.text, " ", element("small", { class: "hint" }, `[${(sentence.sources || []).join(", ")}]`)));
  const away = Object.entries(told.away).map(([layer, reason]) => element("p", { class: "hint" }, `Without the ${layer}: ${reason}`));
  return [sentences.length ? element("ul", {}, sentences) : element("p", {}, "Nothing is known of this."), ...away];
}

// The graph

async function around() {
  const node = await request(`/v1/neighbours?of=${encodeURIComponent(byId("node").value)}`);
  return neighbourhood(node, (id) => {
    byId("node").value = id;
    byId("node").focus();
    byId("graph-form").requestSubmit();
  });
}

// The state

function measure(name, value, limit, unit = "") {
  const over = value >= limit;
  const told = `${name}: ${short(value)} of ${short(limit)}${unit}`;
  return element("div", { class: over ? "measure over" : "measure" }, told,
    element("progress", { max: limit, value: Math.min(value, limit), "aria-label": told }));
}

// The version in memory, else the one that would be loaded.
function championOf(model) {
  return model.version || model.champion || model.versions.filter((version) => version.promoted).at(-1)?.version || "";
}

function modelCard(model, served) {
  const card = element("article", { class: "card" }, element("h3", {}, model.model));
  const version = championOf(served);
  const how = version && !served.version ? (served.to_load ? ", which is loaded at the first question" : ", which is not loaded") : "";
  const none = "No version serves yet. The first one is trained when enough examples have come, and is loaded by itself.";
  card.append(element("p", {}, version ? "Serves " : none, version ? element("strong", {}, version) : "", how,
    model.waiting ? element("span", { class: "warn" }, ` A run waits: ${model.waiting}`) : ""));
  const latency = served.versions.filter((each) => each.event_to_model_s !== null).at(-1);
  if (latency) {
    card.append(element("p", { class: "measure" },
      `From event to model: ${duration(latency.event_to_model_s)}, from the newest event that ${latency.version} learnt from to the end of its run`));
  }
  if (served && served.failed) {
    card.append(element("p", { class: "bad" }, `${served.failed.version} can't serve: ${served.failed.reason}`));
  }
  const latest = (model.latest_triggers || []).at(-1);
  if (model.drift !== undefined) card.append(measure("Label drift", model.drift, model.drift_threshold));
  if (model.input_drift_threshold) card.append(measure("Input drift", model.input_drift, model.input_drift_threshold));
  if (model.performance_drift_threshold) {
    card.append(measure("Performance drift", model.performance_drift, model.performance_drift_threshold));
  }
  if (model.examples_since_trigger !== undefined) {
    card.append(element("p", { class: "measure" },
      `${short(model.examples_since_trigger)} new examples since the last trigger, ${short(model.open_window_examples)} in the open window`));
  }
  if (latest) {
    card.append(element("p", { class: "measure" },
      `Last retrained because of ${latest.reason} (${moment(latest.at_ms)}): ${latest.answer || "running"}`,
      latest.detail ? `, ${latest.detail}` : ""));
    for (const each of latest.measures || []) {
      if (each.threshold > 0) card.append(measure(`${each.reason} then`, each.value, each.threshold));
    }
  }
  return card;
}

function mainScore(version) {
  const wanted = ["tactics/holdout/macro_f1", "answers/holdout/accuracy", "links/holdout/recall@20"];
  const names = Object.keys(version.scores || {});
  return wanted.find((name) => names.includes(name)) || names.find((name) => name.includes("/holdout/")) || names[0];
}

function timeline(model) {
  const versions = model.versions.filter((version) => mainScore(version));
  const name = versions.length ? mainScore(versions.at(-1)) : "";
  const points = versions.filter((version) => name in version.scores);
  if (points.length < 2) return null;
  const width = 460, height = 130, left = 40, bottom = 25;
  const scores = points.map((version) => version.scores[name]);
  const low = Math.min(...scores), span = Math.max(...scores) - low || 1;
  const x = (index) => left + index * (width - left - 36) / (points.length - 1);
  const y = (score) => 15 + (1 - (score - low) / span) * (height - bottom - 30);
  const served = points.map((version, index) => [version, index]).filter(([version]) => version.promoted);
  const drawing = svg("svg", { class: "timeline", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${name} of ${model.model}: ${points.map((p) => `${p.version} ${p.scores[name]}`).join(", ")}` });
  drawing.append(svg("line", { x1: left, x2: width, y1: height - bottom, y2: height - bottom }),
    svg("text", { x: 0, y: 20 }, short(low + span)), svg("text", { x: 0, y: height - bottom - 12 }, short(low)),
    svg("polyline", { points: served.map(([version, index]) => `${x(index)},${y(version.scores[name])}`).join(" ") }));
  points.forEach((version, index) => {
    drawing.append(svg("circle", { cx: x(index), cy: y(version.scores[name]), r: 5, class: version.promoted ? "promoted" : "refused" }),
      svg("text", { x: x(index) - 14, y: height - 8 }, version.version));
  });
  return element("figure", {}, drawing, element("figcaption", { class: "hint" }, `${name}; a ring is a version that was refused`));
}

function versionRows(model) {
  return [...model.versions].reverse().map((version) => {
    const serves = version.version === championOf(model);
    const name = mainScore(version);
    const act = serves ? "serves" : element("button", { type: "button" }, version.promoted ? "Roll back to it" : "Promote");
    if (!serves) act.addEventListener("click", () => change(model.model, version));
    return element("tr", {}, element("th", { scope: "row" }, version.version), element("td", {}, version.reason),
      element("td", {}, short(version.examples)), element("td", {}, name ? `${name} ${version.scores[name]}` : ""),
      element("td", { class: version.promoted ? "good" : "bad" }, version.promoted ? "promoted" : "refused"),
      element("td", {}, moment(version.created_ms)), element("td", {}, duration(version.event_to_model_s)), element("td", {}, act));
  });
}

function versionTables(serving) {
  return serving.filter((model) => model.versions.length).map((model) => {
    const titles = ["Version", "Reason", "Examples", "Score", "Gate", "Made (UTC)", "From event to model", ""].map((t) => element("th", { scope: "col" }, t));
    return element("div", {}, element("h3", {}, model.model), timeline(model),
      element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `versions of ${model.model}` },
        element("table", {}, element("thead", {}, element("tr", {}, titles)), element("tbody", {}, versionRows(model)))));
  });
}

function feedRow(feed) {
  const cells = [moment(feed.last_success_ms), feed.new || "", feed.edited || "", feed.error || "", moment(feed.next_ms)];
  return element("tr", {}, element("th", { scope: "row" }, feed.feed),
    cells.map((cell, index) => element("td", index === 3 && cell ? { class: "bad" } : {}, cell)));
}

let lastVersions = "";

function show(state) {
  const known = new Map((state.models || []).map((model) => [model.model, model]));
  const serving = (state.serving || []).map((model) => ({ ...model, champion: known.get(model.model)?.champion }));
  byId("models").replaceChildren(...serving.map((model) => modelCard(known.get(model.model) || { model: model.model }, model)));
  const versions = JSON.stringify(serving.map((model) => [championOf(model), model.versions]));
  if (versions !== lastVersions) {  // a table that is made again loses the keyboard's place
    byId("versions").replaceChildren(...versionTables(serving));
    lastVersions = versions;
  }
  byId("feeds").replaceChildren(...(state.feeds || []).map(feedRow));
  byId("processes").replaceChildren(...(state.processes || []).map((process) =>
    element("li", { class: process.answers ? "good" : "bad" }, `${process.name}: ${process.answers ? "answers" : "does not answer"}`)));
  byId("connection").textContent = state.running ? "live" : "the system does not run: versions of the registry are shown";
}

let waiting = null;

async function refresh() {
  clearTimeout(waiting);
  try {
    show(await request("/v1/state"));
  } catch (error) {
    byId("connection").textContent = error.message;
  }
  waiting = setTimeout(refresh, STATE_EVERY_MS);
}

// Promote and roll back

function change(model, version) {
  const dialog = byId("confirm");
  const back = version.promoted;
  byId("confirm-title").textContent = back ? `Roll back ${model} to ${version.version}?` : `Promote ${model} ${version.version}?`;
  byId("confirm-text").textContent = back
    ? "It serves from now on, and the next run starts from it." : "The gate refused it. It serves from now on, and the next run starts from it.";
  byId("why").value = "";
  dialog.returnValue = "cancel";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "confirm") return;
    try {
      await request(back ? "/v1/admin/rollback" : "/v1/admin/promote", { model, version: version.version, why: byId("why").value });
      note({ kind: "version", text: `${model} ${version.version}: asked for; it serves within seconds` });
    } catch (error) {
      note({ kind: "version", text: `${model} ${version.version}: ${error.message}` });
    }
    refresh();
  };
  dialog.showModal();
  byId("why").focus();
}

// Events

function note({ kind, text }) {
  const list = byId("events");
  list.prepend(element("li", {}, element("strong", {}, kind), " ", text));
  while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
}

// An EventSource can't send a key, so the stream is read by fetch.
async function listen() {
  let last = "";
  for (;;) {
    try {
      const response = await fetch("/v1/events", { headers: { ...headers(), ...(last ? { "Last-Event-ID": last } : {}) } });
      if (!response.ok) throw new Error(`events answered ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        const messages = text.split("\n\n");
        text = messages.pop();
        for (const message of messages) last = received(message) || last;
      }
    } catch {
      byId("connection").textContent = "the stream of events is away; it is asked for again";
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

function received(message) {
  const fields = new Map(message.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
    const colon = line.indexOf(": ");
    return [line.slice(0, colon), line.slice(colon + 2)];
  }));
  if (!fields.has("data")) return "";
  const data = JSON.parse(fields.get("data"));
  note({ kind: fields.get("event"), text: data.text || JSON.stringify(data) });
  refresh();
  return fields.get("id");
}

byId("classify-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.target, byId("answer"), classify);
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("classify-form").requestSubmit();
});
byId("explain-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.target, byId("explanation"), explain);
});
byId("graph-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.target, byId("neighbours"), around);
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("sx9-key", byId("key").value.trim());
  byId("key").value = "";
  byId("access").open = false;
  refresh();
});

refresh();
listen();
