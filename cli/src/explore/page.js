"use strict";
// Finds events and shows them. The data are scripts, since a page opened as a file may
// load no others: each calls `tracepoints` with its name and a gzip stream in base64.

/** The most events that are listed at once. */
const MOST_LISTED = 300;

const page = {
  index: null,
  chunks: new Map(),
  waiting: new Map(),
};

function tracepoints(name, base64) {
  const bytes = Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new Response(stream).json();
  if (name === "index") {
    data.then(start, complain);
  } else {
    page.waiting.get(name)?.(data);
  }
}

function complain(error) {
  const line = element("p", `This page cannot be shown: ${error}`);
  line.className = "error";
  document.getElementById("event").replaceChildren(line);
}

/** Makes an element with children: strings are text, never HTML. */
function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

function link(event, text = event) {
  const made = element("a", text);
  made.href = `#${event}`;
  return made;
}

/** Loads the data of a category. */
function chunk(number) {
  if (!page.chunks.has(number)) {
    const loaded = new Promise((resolve, reject) => {
      page.waiting.set(String(number), resolve);
      const script = element("script");
      script.src = `data/${number}.js`;
      script.onerror = () => reject(`${script.src} cannot be read`);
      document.head.append(script);
    });
    page.chunks.set(number, loaded);
  }
  return page.chunks.get(number);
}

function start(index) {
  page.index = index;
  page.byName = new Map(index.events.map((row) => [row.event, row]));
  for (const row of index.events) {
    row.words = row.event.toLowerCase();
  }
  const search = document.getElementById("search");
  search.addEventListener("input", () => list(search.value));
  document.addEventListener("keydown", key);
  addEventListener("hashchange", show);
  list("");
  show();
}

/** Returns how well an event fits the words; 0 if it does not. */
function fit(row, words) {
  const name = row.words.slice(row.words.indexOf(":") + 1);
  let least = 4;
  for (const word of words) {
    let fits = 0;
    if (name === word || row.words === word) fits = 4;
    else if (name.startsWith(word) || row.words.startsWith(word)) fits = 3;
    else if (row.words.includes(word)) fits = 2;
    else if (row.fields.some((field) => field.includes(word))) fits = 1;
    least = Math.min(least, fits);
    if (least === 0) break;
  }
  return least;
}

function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return page.index.events.map((row) => ({ row, words }));
  const found = [];
  for (const row of page.index.events) {
    const fits = fit(row, words);
    if (fits > 0) found.push({ row, fits, words });
  }
  // The sort is stable: equals stay in alphabetical order.
  return found.sort((a, b) => b.fits - a.fits);
}

function list(text) {
  const begun = performance.now();
  const found = find(text);
  const rows = found.slice(0, MOST_LISTED).map(({ row, fits, words }) => {
    const made = link(row.event);
    if (fits === 1) {
      const fields = row.fields.filter((field) => words.some((word) => field.includes(word)));
      made.append(element("small", fields.join(", ")));
    }
    return made;
  });
  if (found.length > rows.length) {
    rows.push(element("small", `and ${found.length - rows.length} more`));
  }
  const results = document.getElementById("results");
  results.replaceChildren(...rows);
  results.scrollTop = 0;
  markCurrent();
  page.searchMilliseconds = performance.now() - begun;
  const events = found.length === 1 ? "1 event" : `${found.length} events`;
  document.getElementById("found").textContent = events;
}

function markCurrent() {
  const { event } = place();
  for (const shown of document.querySelectorAll("#results a")) {
    if (shown.getAttribute("href") === `#${event}`) shown.setAttribute("aria-current", "true");
    else shown.removeAttribute("aria-current");
  }
}

function key(pressed) {
  const search = document.getElementById("search");
  const links = [...document.querySelectorAll("#results a")];
  const at = links.indexOf(document.activeElement);
  const inSearch = document.activeElement === search;
  const inField = inSearch || document.activeElement.tagName === "SELECT";
  if (pressed.key === "/" && !inField) {
    search.focus();
    search.select();
  } else if (pressed.key === "Escape" && (inSearch || at >= 0)) {
    search.value = "";
    list("");
    search.focus();
  } else if (pressed.key === "ArrowDown" && (inSearch || at >= 0)) {
    links[Math.min(at + 1, links.length - 1)]?.focus();
  } else if (pressed.key === "ArrowUp" && at >= 0) {
    (at === 0 ? search : links[at - 1]).focus();
  } else if (pressed.key === "Enter" && inSearch && links.length > 0) {
    location.hash = links[0].getAttribute("href");
    return;
  } else {
    return;
  }
  pressed.preventDefault();
}

/** What the address names: `#sched:sched_switch/prev_pid?on=0&with=2`. */
function place() {
  const hash = decodeURIComponent(location.hash.slice(1));
  const [path, query = ""] = hash.split("?");
  const [event, field = ""] = path.split("/");
  const chosen = new URLSearchParams(query);
  const number = (name) => (chosen.has(name) ? Number(chosen.get(name)) : null);
  return { event, field, on: number("on"), compared: number("with") };
}

function go(event, field, on, compared) {
  const query = new URLSearchParams();
  if (on !== null) query.set("on", on);
  if (compared !== null) query.set("with", compared);
  const text = query.toString();
  location.hash = `#${event}${field && `/${field}`}${text && `?${text}`}`;
}

/** Puts an event together: equal values of a category are stored once. */
function unpack({ events, columns }, event) {
  const entry = events[event];
  const value = ([key, place]) => [key, columns[key][place]];
  const variants = entry.variants.map((variant) => Object.fromEntries(Object.entries(variant).map(value)));
  return { ...entry, variants, accessors: columns.accessors[entry.accessors] };
}

async function show() {
  markCurrent();
  const at = place();
  const main = document.getElementById("event");
  if (at.event === "") {
    document.title = "Tracepoints";
    main.replaceChildren(...welcome());
    return;
  }
  const row = page.byName.get(at.event);
  if (row === undefined) {
    main.replaceChildren(element("p", `None of these kernels has the event ${at.event}.`));
    return;
  }
  try {
    const entry = unpack(await chunk(row.chunk), at.event);
    if (place().event !== at.event) return; // Another one was chosen meanwhile.
    document.title = `${at.event} · Tracepoints`;
    main.replaceChildren(...described(entry, at));
    main.querySelector("tr.chosen")?.scrollIntoView({ block: "center" });
  } catch (error) {
    complain(error);
  }
}

function welcome() {
  const kernels = element("ul");
  page.index.kernels.forEach((kernel, number) => {
    const count = page.index.events.filter((row) => row.kernels.includes(number)).length;
    kernels.append(element("li", kernel, element("small", ` ${count} events`)));
  });
  const keys = "Keys: / to search, arrows to move, Enter to open, Esc to clear.";
  const about = element("p", keys);
  about.className = "dim";
  const title = element("h1", `${page.index.events.length} events of ${page.index.kernels.length} kernels`);
  return [title, kernels, about];
}

function described(entry, at) {
  const on = entry.on.find((known) => known.kernel === at.on) ?? entry.on[entry.on.length - 1];
  const compared = entry.on.find((known) => known.kernel === at.compared) ?? null;
  const variant = entry.variants[on.variant];
  return [
    element("h1", at.event),
    kernelsOf(entry),
    choices(entry, at, on, compared),
    ...facts(variant, on),
    ...fields(entry, at, on, compared),
    ...changes(entry),
    ...names(variant),
    ...preformatted("Print fmt", variant.print_fmt, "wrap"),
    ...code(entry, variant),
  ];
}

function kernelsOf(entry) {
  const made = element("ul");
  made.className = "kernels";
  made.setAttribute("aria-label", "Kernels that have the event");
  page.index.kernels.forEach((kernel, number) => {
    const item = element("li", kernel);
    if (!entry.on.some((known) => known.kernel === number)) {
      item.className = "absent";
      item.title = "not on this kernel";
    }
    made.append(item);
  });
  return made;
}

function choices(entry, at, on, compared) {
  const choice = (label, chosen, none, change) => {
    const select = element("select");
    if (none) select.append(new Option("every kernel", ""));
    for (const known of entry.on) {
      select.append(new Option(page.index.kernels[known.kernel], known.kernel));
    }
    select.value = chosen === null ? "" : String(chosen);
    select.addEventListener("change", () => change(select.value === "" ? null : Number(select.value)));
    return element("label", `${label} `, select);
  };
  const made = element(
    "div",
    choice("On", on.kernel, false, (kernel) => go(at.event, at.field, kernel, at.compared)),
    choice("against", compared?.kernel ?? null, true, (kernel) => go(at.event, at.field, on.kernel, kernel)),
    copy("Copy link", () => location.href),
  );
  made.className = "choices";
  return made;
}

function copy(label, text) {
  const button = element("button", label);
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "The browser does not allow it";
    }
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

function facts(variant, on) {
  const made = element("dl");
  const fact = (name, ...content) => made.append(element("dt", name), element("dd", ...content));
  const mono = (text) => element("code", text);
  fact("Context", mono(variant.struct ? `struct ${variant.struct}` : "not known"));
  if (variant.class) fact("Class", mono(variant.class));
  if (on.candidates.length > 0) fact("Candidates", mono(on.candidates.join(", ")));
  fact("Evidence", `${on.evidence}: ${on.reason}`);
  if (on.siblings.length > 0) {
    const links = on.siblings.flatMap((sibling, at) => (at > 0 ? [", ", link(sibling)] : [link(sibling)]));
    fact("Same class", ...links);
  }
  if (variant.raw) {
    const declared = variant.raw.arguments.map((argument) => argument.declaration).join(", ");
    fact("Raw arguments", mono(`(${declared})`));
  }
  if (variant.programs.length === 0) return [made];
  const programs = element("table");
  programs.append(element("thead", element("tr", ...["Section", "Gets", "Since"].map((name) => element("th", name)))));
  const rows = variant.programs.map((program) =>
    element("tr", element("td", program.section), element("td", program.gets), element("td", `Linux ${program.since}`)),
  );
  programs.append(element("tbody", ...rows));
  const scroll = element("div", programs);
  scroll.className = "scroll";
  return [made, element("h2", "Programs that can be attached"), scroll];
}

/** The columns of the table of fields: kernels with the same fields are one. */
function columns(entry, on, compared) {
  const label = (known) => page.index.kernels[known.kernel];
  if (compared !== null) {
    return [on, compared].map((known) => ({ variant: known.variant, labels: [label(known)] }));
  }
  const made = [];
  for (const known of entry.on) {
    const text = JSON.stringify(entry.variants[known.variant].fields.map(shown));
    const same = made.find((column) => column.text === text);
    if (same) same.labels.push(label(known));
    else made.push({ text, variant: known.variant, labels: [label(known)] });
  }
  return made;
}

/** What a cell shows of a field. */
function shown(field) {
  const slot = field.context_slot;
  const where = slot ? slot.offset : field.offset;
  const notes = [];
  if (!slot) notes.push("only in the record");
  else if (slot.offset !== field.offset) notes.push(`record: ${field.offset}`);
  return { name: field.name, line: `${where} (${slot ? slot.size : field.size})`, declaration: field.declaration, notes };
}

function fields(entry, at, on, compared) {
  const all = columns(entry, on, compared);
  const cells = all.map((column) => new Map(entry.variants[column.variant].fields.map((field) => [field.name, field])));
  const allFields = cells.flatMap((column) => [...column.values()]);
  // The event's own fields come first.
  const own = allFields.filter((field) => !field.common);
  const fieldNames = new Set([...own, ...allFields].map((field) => field.name));
  const head = element("tr", element("th", "Field"));
  for (const column of all) {
    const cell = element("th");
    column.labels.forEach((label) => cell.append(element("div", label)));
    head.append(cell);
  }
  const body = element("tbody");
  for (const name of fieldNames) {
    const title = element("th");
    title.append(link(`${at.event}/${name}`, name));
    title.scope = "row";
    const row = element("tr", title);
    let first = null;
    for (const column of cells) {
      const field = column.get(name);
      const cell = element("td");
      const known = field ? shown(field) : null;
      if (known) {
        cell.append(known.line, element("small", known.declaration), ...known.notes.map((note) => element("small", note)));
      } else {
        cell.append("absent");
      }
      const text = JSON.stringify(known);
      first ??= text;
      if (text !== first) cell.className = "differs";
      if (field?.common) row.className = "common";
      row.append(cell);
    }
    if (name === at.field) row.classList.add("chosen");
    body.append(row);
  }
  const table = element("table", element("thead", head), body);
  const scroll = element("div", table);
  scroll.className = "scroll";
  const note = element("p", "Where the field begins in the context and its size, in bytes. Marked: differs from the first column.");
  note.className = "dim";
  return [element("h2", "Fields"), note, scroll];
}

function changes(entry) {
  if (entry.changes.length === 0) return [];
  const made = [element("h2", "Changes")];
  for (const change of entry.changes) {
    const [from, to] = [change.from, change.to].map((number) => page.index.kernels[number]);
    made.push(element("h3", `${from} → ${to}`), ...block(change.lines.join("\n"), "wrap"));
  }
  return made;
}

function names(variant) {
  const made = [];
  for (const field of variant.fields) {
    const { flags, symbols } = field.print;
    for (const [what, known] of [["flags", flags], ["values", symbols]]) {
      if (known.length === 0) continue;
      const lines = known.map(({ name, value }) => {
        // Numbers of 64 bits are text, as JavaScript's lose digits.
        const number = value === null ? "not known" : `0x${BigInt(value).toString(16)}`;
        return `${number.padEnd(12)} ${name}`;
      });
      made.push(element("h3", `${field.name}: ${what}`), ...block(lines.join("\n")));
    }
  }
  return made.length > 0 ? [element("h2", "Names of values"), ...made] : [];
}

function block(text, className = "") {
  const made = element("pre", text);
  made.className = className;
  made.tabIndex = 0;
  return [made];
}

function preformatted(title, text, className) {
  return [element("h2", title), ...block(text, className)];
}

function code(entry, variant) {
  const all = [
    ["C for libbpf, this kernel", variant.c],
    ["C accessors for libbpf, right on all kernels that have the event", entry.accessors],
    ["Rust for aya, this kernel", variant.rust],
  ];
  const made = all
    .filter(([, text]) => text)
    .flatMap(([title, text]) => [element("h3", title), copy(`Copy ${title.split(",")[0]}`, () => text), ...block(text)]);
  return made.length > 0 ? [element("h2", "Code"), ...made] : [];
}
