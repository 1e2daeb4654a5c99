"use strict";
// Unpacks the page's data and plotly.js, draws the figures, and links all that shows trials.
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const narrow = window.matchMedia("(max-width: 699px)");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const PER_PAGE = 15;
  const PRINT_WIDTH = 680;
  let figures = {};
  const waiting = new Set(); // figures that are still to be drawn
  let keep = null; // rows of the trial table that pass the filters; null: all
  let trials = null; // the section of all trials, once its data are there
  let isPrinting = false;

  const trouble = (error) => {
    const place = byId("trouble");
    place.textContent = `This page could not be drawn completely: ${error}`;
    place.hidden = false;
  };

  async function unpacked(id) {
    const text = atob(byId(id).textContent);
    const bytes = new Uint8Array(text.length); // a loop: Uint8Array.from takes 0.4 s of processor
    for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // Colours: a figure names custom properties, so that it can be drawn in either theme. Each is
  // asked for once per theme: the answer costs a look at the styles of the whole page.
  const asked = { dark: new Map(), light: new Map() };
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

  function react(element, figure, width) {
    const { data, layout, config } = colored(figure, asked[isDark() ? "dark" : "light"]);
    const small = narrow.matches || Boolean(width);
    if (width) layout.width = width;
    layout.autosize = !width;
    element.style.height = `${layout.height}px`;
    return window.Plotly.react(element, data.map(kept), layout, { ...config, displayModeBar: !small && !element.closest("dialog") });
  }
  function draw(element, width) {
    const figure = figures[element.dataset.figure];
    waiting.delete(element);
    try {
      if (!figure) throw new Error("there is no such figure");
      react(element, figure, width)
        .catch((error) => { element.textContent = `This figure could not be drawn: ${error}`; });
    } catch (error) {
      element.textContent = `This figure could not be drawn: ${error}`;
    }
  }
  const plots = () => document.querySelectorAll(".plot");
  function drawAll(width) {
    plots().forEach((element) => draw(element, width));
    trials?.redraw();
  }
  function redraw() { // what waits is drawn in its turn
    plots().forEach((element) => waiting.has(element) || draw(element));
    trials?.redraw();
  }

  // First what the reader sees, then the others one by one, the nearest first, so that the page
  // answers meanwhile. What waits has its height already: nothing moves when it is drawn.
  const away = (element) => { // pixels out of view
    const { top, bottom } = element.getBoundingClientRect();
    return Math.max(top - window.innerHeight, -bottom, 0);
  };
  const rest = () => new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done)); // after what is drawn so far has been painted
    setTimeout(done, 100); // a page in the background paints nothing
  });
  async function drawFirst(link) {
    plots().forEach((element) => {
      waiting.add(element);
      element.style.height = `${figures[element.dataset.figure]?.layout.height}px`;
    });
    if (performance.getEntriesByType("navigation")[0]?.type === "navigate") { // else as it was left
      byId(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
    }
    [...waiting].filter((element) => !away(element)).forEach((element) => draw(element));
    await rest();
    root.dataset.begun = "true";
    await link();
    await rest();
    while (waiting.size) {
      const places = new Map([...waiting].map((element) => [element, away(element)]));
      draw([...waiting].reduce((one, two) => (places.get(two) < places.get(one) ? two : one)));
      await rest();
    }
    trials?.drawn();
    root.dataset.drawn = "true";
  }

  // Theme: the system's, until the button is used.
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches;
  }
  function showTheme() {
    byId("theme").setAttribute("aria-pressed", String(isDark()));
    if (window.Plotly) redraw();
  }
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  narrow.addEventListener("change", () => window.Plotly && redraw());

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
  const thousands = new Intl.NumberFormat("en-US"); // made once: toLocaleString makes one each time
  const WRITTEN = {
    number, seconds,
    integer: (value) => thousands.format(value),
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
  const setting = (value) => (typeof value === "number" ? number(value) : String(value));

  function trialTable(table) {
    const at = Object.fromEntries(table.columns.map((column, place) => [column.key, place]));
    const head = byId("trial-table").tHead;
    const body = byId("trial-table").tBodies[0];
    const form = byId("filters");
    let sort = { column: at.value, falls: table.maximize };
    let sheet = 0;
    let rows = [];
    let columns = [];

    const written = (value, column) => {
      if (value === null) return "";
      if (column.kind === "family") return visible(table.families[value].name);
      if (column.kind === "status") return table.words[value];
      if (column.kind === "origin") return table.origins[value] ?? visible(value);
      return isNumeric(column.kind) ? WRITTEN[column.kind](value) : visible(String(value));
    };
    const filter = trialFilter(table, written);
    // The best first; what has no value last.
    function better(a, b) {
      const [one, two] = [table.rows[a][at.value], table.rows[b][at.value]];
      if (one === null || two === null) return (one === null) - (two === null) || a - b;
      return (table.maximize ? two - one : one - two) || a - b;
    }
    function compared(a, b) {
      const [one, two] = [table.rows[a][sort.column], table.rows[b][sort.column]];
      if (one === null || two === null) return (one === null) - (two === null) || a - b;
      const order = typeof one === "number" ? one - two : String(one).localeCompare(String(two), "en");
      return (sort.falls ? -order : order) || a - b;
    }
    function opener(place, text) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.row = place;
      const family = visible(table.families[table.rows[place][at.family]].name);
      button.setAttribute("aria-label", `${text}: trial of ${family}, details`);
      button.textContent = text;
      return button;
    }
    function cell(value, column, tag, place) {
      const element = document.createElement(tag);
      const text = written(value, column);
      element.className = isNumeric(column.kind) ? "number" : "text";
      if (tag === "th") element.scope = "row";
      if (column.kind === "family") element.append(mark(value));
      if (place !== undefined) element.append(opener(place, text));
      else element.append(text);
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
      sheet = Math.min(sheet, pages - 1);
      const shown = all ? rows : rows.slice(sheet * PER_PAGE, (sheet + 1) * PER_PAGE);
      body.replaceChildren(...shown.map((place) => {
        const tr = document.createElement("tr");
        tr.append(...columns.map(([column, at_], index) =>
          cell(table.rows[place][at_], column, index ? "td" : "th", index ? undefined : place)));
        return tr;
      }));
      byId("page-number").textContent = `Page ${sheet + 1} of ${pages}`;
      byId("previous").disabled = sheet === 0;
      byId("next").disabled = sheet === pages - 1;
    }
    function update() {
      rows = filter.passing(form).sort(compared);
      const isUsed = (place) => rows.some((row) => table.rows[row][place] !== null);
      columns = table.columns.map((column, place) => [column, place])
        .filter(([, place]) => place <= at.value || isUsed(place));
      keep = rows.length === table.rows.length ? null : new Set(rows);
      const total = table.rows.length;
      const unknown = filter.unknown(byId("words").value).map((name) => `no column is called ${name}`);
      byId("count").textContent = [
        rows.length === total ? `${total} trials` : `${rows.length} of ${total} trials`,
        ...(rows.length ? [] : unknown),
      ].join("; ");
      drawHead();
      drawBody(isPrinting);
      parallel?.update(rows, filter.conditions(byId("words").value));
      if (cost && window.Plotly && !waiting.has(cost)) {
        draw(cost);
        offerPoints();
      }
    }

    // A slider under a figure goes through its trials; its button names one and opens the drawer.
    function stepper(id, highlight) {
      const [range, button] = byId(`${id}-steps`).children;
      let offered = [];
      const say = (row) => {
        range.value = offered.indexOf(row);
        const name = visible(table.families[table.rows[row][at.family]].name);
        const value = written(table.rows[row][at.value], table.columns[at.value]) || "no value";
        const text = `${name}, trial ${table.rows[row][at.trial]}: ${value}, ${table.words[table.rows[row][at.status]]}`;
        range.setAttribute("aria-valuetext", text);
        button.textContent = text;
        button.title = text;
      };
      const show = (row) => {
        if (!offered.includes(row)) return;
        say(row);
        highlight(row);
      };
      const chosen = () => offered[Number(range.value)];
      range.addEventListener("input", () => show(chosen()));
      range.addEventListener("focus", () => highlight(chosen()));
      range.addEventListener("blur", () => highlight(null));
      range.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && offered.length) { event.preventDefault(); drawer.open(chosen(), range); }
      });
      button.addEventListener("click", () => drawer.open(chosen(), button));
      return {
        show,
        place: () => range,
        offer(list) {
          offered = list;
          range.max = Math.max(0, list.length - 1);
          range.disabled = button.disabled = !list.length;
          if (list.length) say(list[0]);
          else button.textContent = "No trial is shown";
        },
      };
    }
    const page = {
      byId, visible, setting, unpacked, better, stepper, written, mark,
      isPrinting: () => isPrinting,
      rows: () => rows,
      open: (row, from) => drawer.open(row, from),
      plot(element, name, data, xaxis) {
        const { layout } = figures[name];
        return react(element, { ...figures[name], data, layout: { ...layout, xaxis: { ...layout.xaxis, ...xaxis } } });
      },
      canFilter: (place) => filter.canName(table.columns[place].key.replace(/^config\./, "")),
      filterBy(place, given) {
        const name = table.columns[place].key.replace(/^config\./, "");
        const field = byId("words");
        field.value = filter.replaced(field.value, place, given === null ? null : `${name}=${given}`);
        turnTo(0);
      },
    };
    const drawer = trialDrawer(table, page);
    const parallel = table.parallel.length ? parallelPlots(table, page) : null;

    // The points of the scatter: plotly draws them, the slider and the mouse open their trials.
    const cost = byId("plot-cost");
    const pointOf = (row) => (cost.data ?? []).flatMap((trace, curveNumber) => {
      const pointNumber = (trace.customdata ?? []).indexOf(row);
      return pointNumber < 0 ? [] : [{ curveNumber, pointNumber }];
    });
    const points = cost && stepper("plot-cost", (row) => {
      if (!cost.data) return;
      const found = row === null ? [] : pointOf(row);
      if (found.length) window.Plotly.Fx.hover(cost, found);
      else window.Plotly.Fx.unhover(cost);
    });
    function offerPoints() {
      const drawn = (cost.data ?? []).flatMap((trace) => trace.customdata ?? []);
      points.offer(drawn.sort(better));
    }
    function turnTo(next) {
      sheet = next;
      update();
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
      turnTo(0);
      head.querySelector(`[data-column="${column}"]`)?.focus();
    });
    form.addEventListener("input", () => turnTo(0));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => turnTo(0)));
    byId("previous").addEventListener("click", () => { sheet -= 1; drawBody(false); });
    byId("next").addEventListener("click", () => { sheet += 1; drawBody(false); });
    byId("csv").addEventListener("click", csv);
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (!row || String(window.getSelection())) return; // text is being marked
      const button = row.querySelector("button");
      drawer.open(Number(button.dataset.row), button);
    });
    window.addEventListener("beforeprint", () => drawBody(true));
    window.addEventListener("afterprint", () => drawBody(false));
    update();
    return {
      redraw() { // in other colours or another width
        parallel?.draw(isPrinting ? PRINT_WIDTH : undefined);
        drawer.redraw();
      },
      drawn() { // once plotly has drawn the scatter
        if (!cost) return;
        cost.on("plotly_click", ({ points: [point] }) => {
          const row = point.data.customdata?.[point.pointNumber];
          if (row === undefined) return;
          points.show(row);
          drawer.open(row, points.place());
        });
        offerPoints();
      },
    };
  }

  // Paper is light and has a width of its own.
  let themeBefore;
  const openedForPrint = [];
  window.addEventListener("beforeprint", () => {
    themeBefore = root.dataset.theme;
    isPrinting = true;
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
    isPrinting = false;
    openedForPrint.splice(0).forEach((element) => { element.open = false; });
    if (window.Plotly) redraw();
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
    figures = JSON.parse(await unpacked("packed-figures"));
    let linked; // once, and after the first figures
    const link = () => (linked ??= unpacked("packed-data").then((text) => {
      const data = JSON.parse(text);
      if (data.trials) trials = trialTable(data.trials);
    }));
    try {
      const script = document.createElement("script");
      script.textContent = await unpacked("packed-plotly");
      document.head.append(script);
      if (!window.Plotly) throw new Error("plotly.js did not start");
      await drawFirst(link);
    } finally {
      await link(); // the table needs no plotly
    }
  })().catch(trouble);
})();
