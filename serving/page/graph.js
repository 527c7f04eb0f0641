// What is beside a node of the threat graph: a drawing to look at, and the same as lists to read and to go on from.

import { element, svg } from "./dom.js";

const DRAWN = 5;  // of each role; the lists have all
const ROW = 21, WIDTH = 900, SIDE = 285;
const TITLES = {
  user: "used by", report: "mentioned in", parent: "part of", technique: "techniques", mitigation: "mitigations",
  detection: "detections", rule: "rules that cover it", other: "others", similar: "nearest by embedding",
};
const LEFT = ["user", "technique", "parent", "report"];
const RIGHT = ["mitigation", "detection", "rule", "other", "similar"];
const ORDER = [...LEFT, ...RIGHT];

function byRole(node) {
  const groups = new Map();
  for (const fact of node.facts || []) groups.set(fact.role, [...(groups.get(fact.role) || []), fact]);
  if ((node.similar || []).length) groups.set("similar", node.similar);
  return groups;
}

const title = (role, shown, total) => total > shown ? `${TITLES[role]} (${shown} of ${total})` : `${TITLES[role]} (${shown})`;
const label = (fact) => fact.id === fact.name || fact.id.length > 20 ? fact.name || fact.id : `${fact.id} ${fact.name}`;
const cut = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;

function side(roles, groups, totals) {
  return roles.filter((role) => groups.has(role)).flatMap((role) => {
    const facts = groups.get(role);
    return [{ role, heading: title(role, Math.min(facts.length, DRAWN), totals[role] || facts.length) },
      ...facts.slice(0, DRAWN).map((fact) => ({ role, fact }))];
  });
}

function drawing(node, groups, open) {
  const sides = [side(LEFT, groups, node.totals || {}), side(RIGHT, groups, node.totals || {})];
  const height = Math.max(4, ...sides.map((rows) => rows.length)) * ROW + 20;
  const middle = { x: WIDTH / 2, y: height / 2 };
  const described = ORDER.filter((role) => groups.has(role))
    .map((role) => `${TITLES[role]}: ${groups.get(role).length}`).join(", ");
  const made = svg("svg", { class: "neighbours", viewBox: `0 0 ${WIDTH} ${height}`, role: "img",
    "aria-label": `${node.id} ${node.name}: ${described || "nothing is beside it"}. The lists below have the same.` });
  sides.forEach((rows, right) => {
    const top = middle.y - (rows.length - 1) * ROW / 2;
    const x = right ? WIDTH - SIDE : SIDE;
    rows.forEach(({ role, heading, fact }, index) => {
      const y = top + index * ROW, anchor = right ? "start" : "end", at = right ? x + 12 : x - 12;
      if (heading) {
        made.append(svg("text", { class: "heading", x: at, y: y + 4, "text-anchor": anchor }, heading));
        return;
      }
      const bend = (x + middle.x) / 2;
      made.prepend(svg("path", { class: role, d: `M${middle.x},${middle.y} C${bend},${middle.y} ${bend},${y} ${x},${y}` }));
      const text = svg("text", { class: "node", x: at, y: y + 4, "text-anchor": anchor }, cut(label(fact), 38));
      text.append(svg("title", {}, `${label(fact)} (${fact.source})`));
      text.addEventListener("click", () => open(fact.id));
      made.append(svg("circle", { class: role, cx: x, cy: y, r: 4 }), text);
    });
  });
  const name = cut(node.name, 24), half = Math.max(node.id.length, name.length) * 4.4 + 14;
  made.append(svg("rect", { class: "centre", x: middle.x - half, y: middle.y - 24, width: 2 * half, height: 48, rx: 8 }),
    svg("text", { class: "id", x: middle.x, y: middle.y - 4, "text-anchor": "middle" }, node.id),
    svg("text", { class: "name", x: middle.x, y: middle.y + 14, "text-anchor": "middle" }, name));
  return made;
}

function lists(node, groups, open) {
  return ORDER.filter((role) => groups.has(role)).map((role) => {
    const facts = groups.get(role);
    const rows = facts.map((fact) => {
      const button = element("button", { type: "button", class: "link" }, label(fact));
      button.addEventListener("click", () => open(fact.id));
      return element("li", {}, button, " ", element("small", { class: "hint" }, fact.source));
    });
    return element("section", { class: "plain" },
      element("h3", {}, title(role, facts.length, (node.totals || {})[role] || facts.length)), element("ul", {}, rows));
  });
}

// The nodes of the page that show a node of the graph; `open(id)` is called when somebody goes on to another one.
export function neighbourhood(node, open) {
  const groups = byRole(node);
  const facts = [node.kind, ...(node.tactics || []), node.severity, ...(node.platforms || [])].filter(Boolean).join(", ");
  const state = node.status && node.status !== "active"
    ? element("p", { class: "warn" }, `It is ${node.status}${node.revoked_by ? `, replaced by ${node.revoked_by}` : ""}.`) : null;
  return [element("p", {}, element("strong", {}, `${node.id} ${node.name}`), ` ${facts}`), state,
    drawing(node, groups, open), element("div", { class: "columns" }, lists(node, groups, open)),
    element("p", { class: "hint" }, node.source)].filter(Boolean);
}
