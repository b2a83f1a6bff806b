// What the page does without being loaded again. All of what others wrote is set as text.
"use strict";

const PERIOD = 2000; // milliseconds between two looks at the trail
const PATIENCE = 10000;
const SHOWN = 50;

const byId = (id) => document.getElementById(id);

/** An element with attributes and content; strings become text. */
function made(name, attributes = {}, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

/** The JSON at an address; an Error with a sentence for people if there is none. */
async function read(address) {
  const response = await fetch(address, {
    headers: { accept: "application/json" },
    signal: AbortSignal.timeout(PATIENCE),
  });
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(told(content) || `the evaluator answered ${response.status}`);
  }
  return content;
}

/** What a problem document says. */
function told(problem) {
  const faults = (problem.errors || []).map(({ parameter, detail }) => `${parameter || ""} ${detail}`.trim());
  return [problem.detail || problem.title, ...faults].filter(Boolean).join("; ");
}

// --- The graph -----------------------------------------------------------------------------------

function graph() {
  const picture = byId("graph");
  if (!picture) return;
  const links = [...picture.querySelectorAll("a")];
  const nodes = links.filter((link) => link.dataset.node);
  const edges = links.filter((link) => link.dataset.source);
  const node = (number) => nodes.find((link) => link.dataset.node === number);
  const address = (link) => link.getAttribute("href").slice(1);
  let opener = null; // what had the focus when the facts were opened
  let from = null; // the node from which the arrow keys went along its edges

  const of = (link, side) => edges.filter((edge) => edge.dataset[side] === link.dataset.node);

  function near(link) {
    if (link.dataset.source) {
      return [link, node(link.dataset.source), node(link.dataset.destination)];
    }
    const touching = [...of(link, "source"), ...of(link, "destination")];
    const ends = touching.flatMap((edge) => [edge.dataset.source, edge.dataset.destination]);
    return [link, ...touching, ...ends.map(node)];
  }

  function highlight(link) {
    const shown = new Set(link ? near(link) : []);
    for (const each of links) each.classList.toggle("near", shown.has(each));
    picture.classList.toggle("chosen", shown.size > 0);
  }

  const opened = () => document.querySelector(".fact.open");

  function open(id) {
    const fact = byId(id);
    if (!fact || !fact.classList.contains("fact")) return false;
    opened()?.classList.remove("open");
    fact.classList.add("open");
    highlight(links.find((link) => address(link) === id));
    return true;
  }

  function close() {
    opened()?.classList.remove("open");
    highlight(null);
    opener?.focus({ preventScroll: true });
    opener = null;
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a");
    const target = link?.getAttribute("href") || "";
    if (link?.classList.contains("close")) {
      event.preventDefault();
      close();
    } else if (target.startsWith("#") && open(target.slice(1))) {
      event.preventDefault();
      if (!link.closest(".fact")) opener = link;
      opened().focus({ preventScroll: true });
      if (!link.closest("#picture")) byId("picture").scrollIntoView({ block: "start" });
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && opened()) close();
  });
  // On what is around the picture: one with listeners of its own would be a stop of the Tab key.
  const frame = picture.parentElement;
  frame.addEventListener("focusin", (event) => highlight(event.target.closest("a")));
  frame.addEventListener("focusout", () => {
    const fact = opened();
    highlight(fact ? links.find((link) => address(link) === fact.id) : null);
  });

  /** Where an arrow key leads: from a node to its edges, along an edge, or to the next one. */
  function next(link, key) {
    if (link.dataset.node) {
      if (key === "ArrowRight" || key === "ArrowLeft") {
        from = link;
        return of(link, key === "ArrowRight" ? "source" : "destination")[0];
      }
      return step(nodes, link, key);
    }
    if (key === "ArrowRight") return node(link.dataset.destination);
    if (key === "ArrowLeft") return node(link.dataset.source);
    const outgoing = from ? from.dataset.node === link.dataset.source : true;
    const centre = from || node(link.dataset.source);
    return step(of(centre, outgoing ? "source" : "destination"), link, key);
  }

  function step(list, link, key) {
    const place = list.indexOf(link) + (key === "ArrowDown" ? 1 : -1);
    return list[(place + list.length) % list.length];
  }

  frame.addEventListener("keydown", (event) => {
    const link = event.target.closest("a");
    if (!link || !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    next(link, event.key)?.focus();
  });
  if (location.hash) open(location.hash.slice(1));
}

// --- The latest decisions ------------------------------------------------------------------------

const short = (id) => (id ? id.split("/").slice(3).join("/") || id : "no identity");

function verdict(decision, wouldBe) {
  if (decision === "ALLOW" && wouldBe === "DENY") {
    return made("span", { class: "verdict would" }, "ALLOW, would be DENY");
  }
  return made("span", { class: `verdict ${decision === "ALLOW" ? "allow" : "deny"}` }, decision);
}

function question(source, destination, port) {
  return new URLSearchParams({ source: source || "", destination: destination || "", port });
}

function row(record) {
  const { source, destination } = record;
  const asked = question(source.spiffe_id, destination.spiffe_id, destination.port);
  const why = made("a", { href: `v1/explain?${asked}`, class: "why" }, "Explain");
  const calm = record.decision === "ALLOW" && record.would_be !== "DENY";
  const cell = (...content) => made("td", {}, ...content);
  const party = (id) => made("td", { title: id || "" }, short(id));
  return made(
    "tr",
    { class: calm ? "allow" : "deny", "data-id": record.id },
    cell(record.timestamp.slice(0, 23).replace("T", " ").replace("Z", "")),
    cell(verdict(record.decision, record.would_be)),
    party(source.spiffe_id),
    party(destination.spiffe_id),
    cell(String(destination.port)),
    cell(made("code", {}, record.policy_matched)),
    cell(record.reason || ""),
    cell(String(record.latency_us)),
    cell(source.spiffe_id ? why : ""), // nobody is no party to ask about
  );
}

function decisions() {
  const [body, pause, updated] = [byId("decisions"), byId("pause"), byId("updated")];
  const rows = new Map();
  let paused = false;
  let timer = 0;
  let first = true;
  let looking = false;

  /** Put new rows where they belong, and leave those that stay alone: one may have the focus. */
  function show(records) {
    const kept = new Set(records.map((record) => record.id));
    for (const [id, old] of rows) {
      if (!kept.has(id)) {
        old.remove();
        rows.delete(id);
      }
    }
    let place = body.firstElementChild;
    for (const record of records) {
      const known = rows.get(record.id);
      if (known) {
        place = known.nextElementSibling;
        continue;
      }
      const fresh = row(record);
      if (!first) fresh.classList.add("new");
      rows.set(record.id, fresh);
      body.insertBefore(fresh, place);
    }
    first = false;
  }

  async function look() {
    if (looking) return;
    looking = true;
    try {
      const { records } = await read(`v1/audit?limit=${SHOWN}`);
      if (!paused) {
        show(records);
        updated.textContent = `${records.length} shown, updated ${new Date().toLocaleTimeString()}`;
        updated.classList.remove("error");
      }
    } catch (error) {
      updated.textContent = `Not updated: ${error.message}`;
      updated.classList.add("error");
    }
    looking = false;
    wait();
  }

  /** Look again after a while, unless nobody wants to see it. */
  function wait() {
    clearTimeout(timer);
    timer = paused || document.hidden ? 0 : setTimeout(look, PERIOD);
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    if (paused) {
      clearTimeout(timer);
      updated.textContent = "Paused";
    } else {
      look();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) look();
  });
  byId("only").addEventListener("change", (event) => {
    body.classList.toggle("only", event.target.checked);
  });
  look();
}

// --- Explanations --------------------------------------------------------------------------------

/** The decision, and what each plane says of it where whole policies are in force. */
function explanation(found) {
  const said = ["p", {}, verdict(found.decision, found.wouldBe), " by ", made("code", {}, found.rule)];
  const parts = [made(...said, ` (${found.reason}), in phase ${found.phase}`)];
  const planes = found.planes || [];
  if (planes.length) {
    const head = ["Plane", "Says", "Why"].map((name) => made("th", { scope: "col" }, name));
    const body = planes.map(({ plane, stance, why, weaker }) => {
      const reason = [why, weaker].filter(Boolean).join(" — ");
      const cells = [made("td", {}, plane), made("td", {}, stance)];
      return made("tr", {}, ...cells, made("td", { class: "wrap" }, reason));
    });
    const rows = [made("thead", {}, made("tr", {}, ...head)), made("tbody", {}, ...body)];
    parts.push(made("div", { class: "scroll" }, made("table", {}, ...rows)));
  }
  for (const { message, snippet } of found.hints || []) {
    parts.push(made("p", { class: "hint" }, message));
    if (snippet) parts.push(made("pre", {}, snippet));
  }
  return parts;
}

function explain() {
  const [form, answer] = [byId("explain"), byId("explanation")];

  async function ask(asked) {
    answer.replaceChildren(made("p", { class: "quiet" }, "Asking…"));
    try {
      answer.replaceChildren(...explanation(await read(`v1/explain?${asked}`)));
    } catch (error) {
      answer.replaceChildren(made("p", { class: "error" }, error.message));
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(new URLSearchParams(new FormData(form)));
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a.why");
    if (!link) return;
    event.preventDefault();
    const asked = new URLSearchParams(link.getAttribute("href").split("?")[1]);
    for (const [name, value] of asked) form.elements[name].value = value;
    form.scrollIntoView({ block: "center" });
    ask(asked);
  });
}

document.documentElement.classList.add("js");
graph();
decisions();
explain();
