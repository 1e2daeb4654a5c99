// The drawer of one trial: its numbers, why it ended, its learning curve and its configuration.

function trialDrawer(table, page) {
  const dialog = page.byId("drawer");
  const at = Object.fromEntries(table.columns.map((column, place) => [column.key, place]));
  const FACTS = ["status", "value", "epochs", "seconds", "parameters", "origin", "environment"];
  let shown = null; // the trial's place in the table
  let opener = null; // what gets the focus back
  let curves = null; // unpacked when the first drawer opens, with the examples

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const cell = (row, key) => (at[key] === undefined ? "" : page.written(table.rows[row][at[key]], table.columns[at[key]]));
  const isRecipe = (row, family) => table.rows[row][at.family] === family && table.rows[row][at.origin] === "recipe";

  function facts(row) {
    return FACTS.filter((key) => cell(row, key) !== "").map((key) => {
      const pair = document.createElement("div");
      pair.append(element("dt", page.visible(table.columns[at[key]].label)), element("dd", cell(row, key)));
      return pair;
    });
  }
  function settings(row) {
    const family = table.rows[row][at.family];
    const recipe = table.rows.findIndex((_, other) => isRecipe(other, family));
    return table.columns.filter(({ key }) => key.startsWith("config."))
      .filter(({ key }) => [row, recipe].some((each) => each >= 0 && cell(each, key) !== ""))
      .map(({ key, label }) => {
        const [own, usual] = [cell(row, key) || "\u2013", recipe < 0 ? "\u2013" : cell(recipe, key) || "\u2013"];
        const tr = document.createElement("tr");
        const name = element("th", page.visible(label));
        name.scope = "row";
        const value = element("td", own);
        if (recipe >= 0 && own !== usual) {
          tr.className = "changed";
          value.append(element("span", " (changed)", "hidden"));
        }
        if ([own, usual].some((text) => text.length > 14) || label.length > 22) tr.dataset.long = "";
        tr.append(name, value, element("td", usual));
        return tr;
      });
  }
  function words(row) {
    return [["reason", "Reason"], ["diagnosis", "Diagnosis"]].filter(([key]) => cell(row, key))
      .flatMap(([key, title]) => [element("h4", title), element("p", cell(row, key), key)]);
  }

  const unpack = async () => { curves ??= JSON.parse(await page.unpacked("packed-curves")); };

  async function drawCurve(row) {
    const place = page.byId("drawer-curve");
    const about = page.byId("drawer-curve-about");
    await unpack();
    if (shown !== row) return;
    const family = table.rows[row][at.family];
    const best = curves.best[family] ?? null;
    const named = (other) => `trial ${table.rows[other][at.trial]}`;
    const own = curves.rows[row];
    place.hidden = !own;
    if (!own) {
      about.textContent = "No epoch with a value was recorded.";
      return;
    }
    const isThinned = own.epochs !== null && own.epochs.length < own.epochs.at(-1);
    const other = best === null || best === row ? "" : ` Dashed: ${named(best)}, the family's best.`;
    about.textContent = `${page.visible(table.curve_words)} after each epoch${isThinned ? " (an even sample of them)" : ""}.${other}`;
    const trace = (of, isOwn) => {
      const { epochs, values } = curves.rows[of];
      const x = epochs ?? values.map((_, index) => index + 1);
      return {
        x, y: values.map(placed), mode: x.length > 1 ? "lines+markers" : "markers", hoverinfo: "text",
        showlegend: false,
        line: isOwn ? { color: `var(--family-${table.families[family].color})`, width: 3 }
          : { color: "var(--muted)", width: 1.5, dash: "dash" },
        marker: { symbol: table.families[family].symbol, opacity: 1, line: { width: 0 },
          size: x.map((_, index) => (index === x.length - 1 ? (isOwn ? 10 : 0.1) : 0.1)) },
        hovertext: values.map((value, index) => `${named(of)}, epoch ${x[index]}<br>${value === null ? "not finite"
          : page.written(value, table.columns[at.value])}`),
      };
    };
    const traces = other && curves.rows[best] ? [trace(best, false), trace(row, true)] : [trace(row, true)];
    const last = Math.max(...traces.map(({ x }) => x.at(-1)));
    await page.plot(place, "trial-curve", traces, last <= curves.few ? { dtick: 1 } : {});
  }
  const placed = (value) => (value === null || !curves.error ? value : Math.max(1 - value, curves.error));

  // What the trial makes of a few items: an answer to each, or pictures side by side.
  const LEFT_OUT = "Left out here to keep the page small, as for all but the best trials: the folder evidence has it.";
  const picture = (given, alt) => Object.assign(element("img"), { src: given.address, width: given.width, height: given.height, alt });
  function tableRow(cells) {
    const list = element("dl");
    list.append(...cells.map(([column, text]) => {
      const pair = document.createElement("div");
      pair.append(element("dt", page.visible(column)), element("dd", page.visible(text)));
      return pair;
    }));
    return list;
  }
  function answer(examples, entry, place) {
    const item = examples.items[place];
    const written = (value) => page.written(value, { kind: Number.isInteger(value) && Math.abs(value) >= 1e4 ? "integer" : "number" });
    const name = (value) => (entry.guesses ? page.visible(examples.classes[value]) : value === null ? "not finite" : written(value));
    const [own, percent] = entry.guesses ? entry.guesses[place] : [entry.values[place], null];
    const isRight = own === item.target;
    const li = element("li", undefined, entry.guesses ? (isRight ? "right" : "wrong") : undefined);
    const sentence = `${name(item.target)}, answered ${name(own)}${percent === null ? "" : `, ${percent}%`}`;
    const isSeen = item.address && entry.sees !== false; // else the model had the row of a table alone
    li.append(isSeen ? picture(item, sentence) : element("span", sentence, "hidden"));
    if (!isSeen && item.row) li.append(tableRow(item.row));
    const seen = element("span");
    const sign = entry.guesses ? (isRight ? "\u2713 " : "\u2717 ") : "";
    seen.append(element("strong", `${sign}${name(own)}`), percent === null ? "" : ` ${percent}%`,
      element("span", isRight ? "" : `true: ${name(item.target)}`));
    seen.ariaHidden = "true"; // the sentence says the same
    li.title = page.visible(item.name);
    li.append(seen);
    return li;
  }
  function strips(examples, entry) {
    const rows = entry.strips ?? [];
    const own = rows.length && examples.original !== null && !entry.guesses ? [["as it is", examples.original], ...rows] : rows;
    return own.map(([caption, place]) => {
      const tr = document.createElement("tr");
      const head = element("th", page.visible(caption));
      head.scope = "row";
      const cell = document.createElement("td");
      const count = examples.items.length || "several";
      cell.append(picture(examples.strips[place], `${count} pictures: ${page.visible(caption)}`));
      tr.append(head, cell);
      return tr;
    });
  }
  async function drawExamples(row) {
    await unpack();
    if (shown !== row) return;
    const { examples } = curves;
    const entry = examples?.rows?.[row];
    page.byId("drawer-examples").hidden = !entry && !examples?.problem;
    const answers = entry?.guesses ?? entry?.values ?? [];
    page.byId("drawer-answers").hidden = !answers.length;
    page.byId("drawer-answers").replaceChildren(...answers.map((_, place) => answer(examples, entry, place)));
    page.byId("drawer-strips").hidden = !entry?.strips;
    page.byId("drawer-strips").tBodies[0].replaceChildren(...(entry ? strips(examples, entry) : []));
    page.byId("drawer-examples-name").textContent = examples?.title ?? "";
    if (!entry) {
      page.byId("drawer-examples-about").textContent = page.visible(examples?.problem ?? "");
      return;
    }
    const right = answers.filter((each, place) => each[0] === examples.items[place].target).length;
    const said = entry.guesses ? [`${right} of the ${answers.length} shown right`]
      : entry.values ? [`${page.visible(examples.target)} as predicted and as it is`] : [];
    if (entry.score) said.push(examples.metric ? `${page.visible(examples.metric)} ${entry.score} over ${examples.all}` : `${entry.score} of ${examples.all}`);
    const isBlind = entry.sees === false && examples.items[0]?.address;
    const blind = isBlind ? " This model saw the columns of the table, not the pictures." : "";
    page.byId("drawer-examples-about").textContent = entry.epoch === undefined ? LEFT_OUT
      : `${examples.about}, here after epoch ${entry.epoch}${said.length ? ": " : ""}${said.join("; ")}.${blind}`;
  }

  function fill(row) {
    shown = row;
    const rows = page.rows();
    const place = rows.indexOf(row);
    const family = table.families[table.rows[row][at.family]];
    const title = page.byId("drawer-title");
    title.replaceChildren(page.mark(table.rows[row][at.family]), `${page.visible(family.name)}, trial ${table.rows[row][at.trial]}`);
    page.byId("drawer-place").textContent = place < 0 ? "" : `${place + 1} of ${rows.length} shown, as the table is sorted`;
    page.byId("drawer-facts").replaceChildren(...facts(row));
    page.byId("drawer-words").replaceChildren(...words(row));
    const own = settings(row);
    page.byId("drawer-settings").hidden = !own.length;
    page.byId("drawer-settings").tBodies[0].replaceChildren(...own);
    page.byId("drawer-previous").disabled = place <= 0;
    page.byId("drawer-next").disabled = place < 0 || place >= rows.length - 1;
    dialog.scrollTop = 0;
    drawCurve(row).catch((error) => {
      page.byId("drawer-curve-about").textContent = `This curve could not be drawn: ${error}`;
    });
    drawExamples(row).catch((error) => {
      page.byId("drawer-examples-about").textContent = `These items could not be shown: ${error}`;
    });
  }
  function step(by) {
    const rows = page.rows();
    const next = rows[rows.indexOf(shown) + by];
    if (next !== undefined) fill(next);
    if (document.activeElement === document.body || document.activeElement?.disabled) page.byId("drawer-title").focus();
  }

  page.byId("drawer-close").addEventListener("click", () => dialog.close());
  page.byId("drawer-previous").addEventListener("click", () => step(-1));
  page.byId("drawer-next").addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && !event.altKey && !event.ctrlKey && !event.metaKey) { event.preventDefault(); step(by); }
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside the drawer
  });
  dialog.addEventListener("close", () => {
    shown = null;
    const place = opener?.isConnected ? opener : page.byId("trial-table").querySelector("tbody button");
    opener = null;
    place?.focus();
  });
  return {
    open(row, from) {
      opener = from;
      fill(row);
      dialog.showModal();
      page.byId("drawer-title").focus();
    },
    redraw() { if (shown !== null) drawCurve(shown); },
  };
}
