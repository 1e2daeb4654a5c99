"use strict";
// Unpacks the page's data and plotly.js, draws the figures, and runs the table of trials.
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const narrow = window.matchMedia("(max-width: 699px)");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const PER_PAGE = 15;
  const PRINT_WIDTH = 680;
  let figures = {};
  let keep = null; // rows of the trial table that pass the filters; null: all

  const trouble = (error) => {
    const place = byId("trouble");
    place.textContent = `This page could not be drawn completely: ${error}`;
    place.hidden = false;
  };

  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // Colours: a figure names custom properties, so that it can be drawn in either theme.
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  function color(token) {
    probe.style.color = token;
    return getComputedStyle(probe).color;
  }
  function colored(value, cache) {
    if (typeof value === "string") {
      if (!value.startsWith("var(--")) return value;
      if (!cache.has(value)) cache.set(value, color(value));
      return cache.get(value);
    }
    if (Array.isArray(value)) return value.map((item) => colored(item, cache));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, colored(v, cache)]));
  }

  function kept(trace) {
    if (!keep || !trace.customdata) return trace;
    const passes = trace.customdata.map((row) => keep.has(row));
    const only = (list) => list.filter((_, place) => passes[place]);
    return {
      ...trace, x: only(trace.x), y: only(trace.y),
      hovertext: only(trace.hovertext), customdata: only(trace.customdata),
    };
  }

  function draw(element, width) {
    const figure = figures[element.dataset.figure];
    try {
      if (!figure) throw new Error("there is no such figure");
      const { data, layout, config } = colored(figure, new Map());
      const small = narrow.matches || Boolean(width);
      if (width) layout.width = width;
      layout.autosize = !width;
      element.style.height = `${layout.height}px`;
      window.Plotly.react(element, data.map(kept), layout, { ...config, displayModeBar: !small })
        .catch((error) => { element.textContent = `This figure could not be drawn: ${error}`; });
    } catch (error) {
      element.textContent = `This figure could not be drawn: ${error}`;
    }
  }
  const plots = () => document.querySelectorAll(".plot");
  const drawAll = (width) => plots().forEach((element) => draw(element, width));

  // Theme: the system's, until the button is used.
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches;
  }
  function showTheme() {
    byId("theme").setAttribute("aria-pressed", String(isDark()));
    if (window.Plotly) drawAll();
  }
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  narrow.addEventListener("change", () => window.Plotly && drawAll());

  // Numbers, written as in the rest of the page.
  const minus = (text) => text.replace("-", "\u2212");
  function number(value) {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e6)) return minus(value.toExponential(2));
    return minus(String(Number(value.toPrecision(4))));
  }
  function seconds(value) {
    if (value < 9.95) return `${value.toFixed(1)} s`;
    if (value < 59.5) return `${value.toFixed(0)} s`;
    return value < 3570 ? `${(value / 60).toFixed(1)} min` : `${(value / 3600).toFixed(1)} h`;
  }
  const WRITTEN = {
    number, seconds,
    integer: (value) => value.toLocaleString("en-US"),
    percent: (value) => `${(100 * value).toFixed(2)}%`,
  };
  // Hidden characters as escapes, as in the rest of the page.
  const visible = (text) => text.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029]/gu,
    (letter) => {
      const code = letter.codePointAt(0);
      const digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
      const known = { "\t": "\\t", "\r": "\\r" }[letter];
      return known ?? `\\${{ 2: "x", 4: "u", 8: "U" }[digits]}${code.toString(16).padStart(digits, "0")}`;
    });
  const FORMULA = /^[ \t\r\n\u00a0\ufeff]*[=+\-@]|^[\t\r\n]/; // as spreadsheets.py has it
  const isNumeric = (kind) => kind in WRITTEN;

  function trialTable(table) {
    const at = Object.fromEntries(table.columns.map((column, place) => [column.key, place]));
    const head = byId("trial-table").tHead;
    const body = byId("trial-table").tBodies[0];
    const form = byId("filters");
    let sort = { column: at.value, falls: table.maximize };
    let page = 0;
    let rows = [];
    let columns = [];

    const written = (value, column) => {
      if (value === null) return "";
      if (column.kind === "family") return visible(table.families[value].name);
      if (column.kind === "status") return table.words[value];
      return isNumeric(column.kind) ? WRITTEN[column.kind](value) : visible(String(value));
    };
    const haystacks = table.rows.map((row) => row
      .map((value, place) => `${value ?? ""} ${written(value, table.columns[place])}`)
      .join(" ").toLowerCase());

    function filtered() {
      const given = new FormData(form);
      const families = new Set(given.getAll("family").map(Number));
      const statuses = new Set(given.getAll("status"));
      const words = String(given.get("text")).toLowerCase().split(/\s+/).filter(Boolean);
      return table.rows.map((_, place) => place).filter((place) => {
        const row = table.rows[place];
        return families.has(row[at.family]) && statuses.has(row[at.status])
          && words.every((word) => haystacks[place].includes(word));
      });
    }
    function compared(a, b) {
      const [one, two] = [table.rows[a][sort.column], table.rows[b][sort.column]];
      if (one === null || two === null) return (one === null) - (two === null) || a - b;
      const order = typeof one === "number" ? one - two : String(one).localeCompare(String(two), "en");
      return (sort.falls ? -order : order) || a - b;
    }
    function cell(value, column, tag) {
      const element = document.createElement(tag);
      const text = written(value, column);
      element.className = isNumeric(column.kind) ? "number" : "text";
      if (tag === "th") element.scope = "row";
      if (column.kind === "family") element.append(mark(value));
      element.append(text);
      if (text.length > 30) element.title = text;
      return element;
    }
    function mark(place) {
      const family = table.families[place];
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("class", `mark family-${family.color}`);
      svg.setAttribute("aria-hidden", "true");
      const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
      use.setAttribute("href", `#mark-${family.symbol}`);
      svg.append(use);
      return svg;
    }
    function drawHead() {
      const row = document.createElement("tr");
      columns.forEach(([column, place]) => {
        const th = document.createElement("th");
        const button = document.createElement("button");
        const isSorted = sort.column === place;
        th.scope = "col";
        th.className = isNumeric(column.kind) ? "number" : "text";
        if (isSorted) th.setAttribute("aria-sort", sort.falls ? "descending" : "ascending");
        button.type = "button";
        button.dataset.column = place;
        button.textContent = visible(column.label) + (isSorted ? (sort.falls ? " \u25BE" : " \u25B4") : "");
        th.append(button);
        row.append(th);
      });
      head.replaceChildren(row);
    }
    function drawBody(all) {
      const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
      page = Math.min(page, pages - 1);
      const shown = all ? rows : rows.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
      body.replaceChildren(...shown.map((place) => {
        const tr = document.createElement("tr");
        tr.append(...columns.map(([column, at_], index) =>
          cell(table.rows[place][at_], column, index ? "td" : "th")));
        return tr;
      }));
      byId("page-number").textContent = `Page ${page + 1} of ${pages}`;
      byId("previous").disabled = page === 0;
      byId("next").disabled = page === pages - 1;
    }
    function update() {
      rows = filtered().sort(compared);
      const isUsed = (place) => rows.some((row) => table.rows[row][place] !== null);
      columns = table.columns.map((column, place) => [column, place])
        .filter(([, place]) => place <= at.value || isUsed(place));
      keep = rows.length === table.rows.length ? null : new Set(rows);
      const total = table.rows.length;
      byId("count").textContent = rows.length === total
        ? `${total} trials` : `${rows.length} of ${total} trials`;
      drawHead();
      drawBody(false);
      const plot = byId("plot-cost");
      if (plot && window.Plotly) draw(plot);
    }
    function csv() {
      const quoted = (value) => {
        if (value === null) return "";
        if (typeof value !== "string") return String(value);
        const safe = FORMULA.test(value) ? `'${value}` : value;
        return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
      };
      const lines = [columns.map(([column]) => quoted(column.key)), ...rows.map((row) =>
        columns.map(([column, place]) => {
          const value = table.rows[row][place];
          return quoted(column.kind === "family" ? table.families[value].name : value);
        }))];
      const blob = new Blob([`${lines.map((line) => line.join(",")).join("\n")}\n`],
        { type: "text/csv;charset=utf-8" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${table.study.replace(/[^\w.-]+/g, "_").slice(0, 60)}-trials.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    head.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const column = Number(button.dataset.column);
      const falls = sort.column === column ? !sort.falls
        : isNumeric(table.columns[column].kind) && column !== at.trial;
      sort = { column, falls };
      page = 0;
      update();
      head.querySelector(`[data-column="${column}"]`)?.focus();
    });
    form.addEventListener("input", () => { page = 0; update(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => { page = 0; update(); }));
    byId("previous").addEventListener("click", () => { page -= 1; drawBody(false); });
    byId("next").addEventListener("click", () => { page += 1; drawBody(false); });
    byId("csv").addEventListener("click", csv);
    window.addEventListener("beforeprint", () => drawBody(true));
    window.addEventListener("afterprint", () => drawBody(false));
    update();
  }

  // Paper is light and has a width of its own.
  let themeBefore;
  const openedForPrint = [];
  window.addEventListener("beforeprint", () => {
    themeBefore = root.dataset.theme;
    root.dataset.theme = "light";
    document.querySelectorAll("details:not([open])").forEach((element) => {
      element.open = true;
      openedForPrint.push(element);
    });
    if (window.Plotly) drawAll(PRINT_WIDTH);
  });
  window.addEventListener("afterprint", () => {
    if (themeBefore) root.dataset.theme = themeBefore;
    else delete root.dataset.theme;
    openedForPrint.splice(0).forEach((element) => { element.open = false; });
    if (window.Plotly) drawAll();
  });
  byId("print").addEventListener("click", () => window.print());

  // The navigation follows the reader.
  const links = [...document.querySelectorAll("nav a")];
  const sections = links.map((link) => document.querySelector(link.getAttribute("href")));
  function follow() {
    const line = window.innerHeight * 0.3;
    const isAtEnd = window.innerHeight + window.scrollY >= root.scrollHeight - 4;
    const passed = sections.filter((section) => section.getBoundingClientRect().top <= line);
    const current = isAtEnd ? sections.length - 1 : Math.max(0, passed.length - 1);
    links.forEach((link, place) => {
      if (place === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }
  window.addEventListener("scroll", follow, { passive: true });
  follow();
  showTheme();

  (async () => {
    const data = JSON.parse(await unpacked("packed-data"));
    figures = data.figures;
    if (data.trials) trialTable(data.trials);
    const script = document.createElement("script");
    script.textContent = await unpacked("packed-plotly");
    document.head.append(script);
    if (!window.Plotly) throw new Error("plotly.js did not start");
    drawAll();
    root.dataset.drawn = "true";
  })().catch(trouble);
})();
