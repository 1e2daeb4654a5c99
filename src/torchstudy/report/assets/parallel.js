// Parallel coordinates: one plot per family, one line per trial, drawn as SVG.
// plotly's own cannot be read narrow, clips the names of axes, and is closed to the keyboard.

function parallelPlots(table, page) {
  const MOST = 200; // lines of one plot; more are a solid block
  const BEST = 100; // of them, the best
  const SPACE = 104; // pixels between two upright axes below which axes lie instead
  const HEIGHT = 300;
  const ROW = 58; // pixels per lying axis
  const NEAR = 14; // pixels from a line or an axis that still mean it
  const LETTER = 6.6; // pixels, of text of 12 px
  const BOLD = 1.14; // times as much
  const SVG = "http://www.w3.org/2000/svg";
  const at = Object.fromEntries(table.columns.map((column, place) => [column.key, place]));

  function made(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) element.textContent = text;
    return element;
  }
  const cut = (text, room) => {
    const letters = Math.max(3, Math.floor(room / LETTER));
    return text.length > letters ? `${text.slice(0, letters - 1)}\u2026` : text;
  };

  // Where in 0 to 1 a value stands on its axis; null where it has none.
  function position(axis, value, row) {
    if (value === null) return null;
    if (axis.values) {
      const place = axis.values.indexOf(value);
      const apart = 1 / Math.max(1, axis.values.length);
      const spread = (((row * 37) % 11) / 5 - 1) * 0.16 * apart; // lines beside one another
      return place < 0 ? null : (place + 0.5) * apart + spread;
    }
    const [low, high, own] = axis.log
      ? [axis.low, axis.high, value].map((each) => Math.log(axis.error ? Math.max(1 - each, axis.error) : each))
      : [axis.low, axis.high, value];
    return high === low ? 0.5 : Math.min(1, Math.max(0, (own - low) / (high - low)));
  }
  function valueAt(axis, share) {
    const place = Math.min(1, Math.max(0, share));
    if (!axis.log) return axis.low + place * (axis.high - axis.low);
    const [low, high] = [axis.low, axis.high].map((each) => Math.log(axis.error ? Math.max(1 - each, axis.error) : each));
    const found = Math.exp(low + place * (high - low));
    return axis.error ? 1 - found : found;
  }

  // The lines of a plot: all trials of the family that are shown, or the best and a sample.
  function chosen(rows, family) {
    const own = rows.filter((row) => table.rows[row][at.family] === family);
    const ranked = [...own].sort(page.better);
    if (own.length <= MOST) return { own, ranked };
    const best = ranked.slice(0, BEST);
    const rest = own.filter((row) => !best.includes(row)).sort((a, b) => a - b);
    const sample = Array.from({ length: MOST - BEST },
      (_, place) => rest[Math.floor((place * rest.length) / (MOST - BEST))]);
    return { own, ranked: [...best, ...sample.sort(page.better)] };
  }

  function said({ own, ranked }) {
    const without = ranked.filter((row) => table.rows[row][at.value] === null).length;
    const which = own.length === ranked.length
      ? `${own.length} trial${own.length === 1 ? "" : "s"}, one line each.`
      : `${ranked.length} of ${own.length.toLocaleString("en-US")} trials: the best ${BEST}, and an even sample of the others.`;
    return which + (without ? ` Dashed: ${without} without a value.` : "");
  }

  function plotOf(given) {
    const element = page.byId(`parallel-${given.family}`);
    const svg = made("svg", { class: "parallel", role: "img",
      "aria-labelledby": `parallel-${given.family}-name parallel-${given.family}-about` });
    element.replaceChildren(svg);
    let lines = []; // {row, points}
    let axes = [];
    let hot = null;
    let isLying = false;
    let last = { rows: [], conditions: [] };

    // Both layouts differ in which way an axis runs: along it, and across all of them.
    const xy = (along, across) => (isLying ? [along, across] : [across, along]);

    function layout(width) {
      const count = given.axes.length;
      isLying = (width - 40) / Math.max(1, count - 1) < SPACE;
      const height = isLying ? count * ROW + 6 : HEIGHT;
      const hasNone = given.axes.map((axis) => table.rows.some((row) =>
        row[at.family] === given.family && row[axis.place] === null));
      const [start, end] = isLying ? [8, width - 8] : [height - 14, 40];
      const gap = isLying ? 46 : -24; // room at the axis's start for what has no value
      axes = given.axes.map((axis, index) => ({
        ...axis,
        label: page.visible(table.columns[axis.place].label),
        across: isLying ? 24 + index * ROW
          : count === 1 ? width / 2 : 20 + (index * (width - 40)) / (count - 1),
        none: start,
        start: hasNone[index] ? start + gap : start,
        end, hasNone: hasNone[index], index,
      }));
      svg.setAttribute("width", width);
      svg.setAttribute("height", height);
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      return { width, spacing: isLying ? width : (width - 40) / Math.max(1, count - 1) };
    }
    const along = (axis, share) => axis.start + share * (axis.end - axis.start);

    function ticks(axis) {
      const shown = axis.values
        ? axis.values.map((value, place) => [(place + 0.5) / axis.values.length, page.visible(page.setting(value))])
        : axis.ticks.map(([value, text]) => [position(axis, value, 0), text]);
      const placed = shown.map(([share, text]) => [along(axis, share), text]);
      if (axis.hasNone) placed.push([axis.none, "none"]);
      return placed.sort(([one], [two]) => (isLying ? one - two : two - one));
    }
    function drawTicks(group, axis, room) {
      let free = -Infinity;
      const isLast = axis.index === axes.length - 1;
      ticks(axis).forEach(([place, text]) => {
        const shown = cut(text, isLying ? 140 : room - 14);
        const size = isLying ? shown.length * LETTER : 13;
        const middle = !isLying ? place
          : Math.min(Math.max(place, size / 2 + 2), axis.end - size / 2 + 4);
        const [from, to] = isLying ? [middle - size / 2, middle + size / 2] : [-place - 6, -place + 7];
        const [x, y] = xy(place, axis.across);
        group.append(made("path", { class: "tick", d: isLying ? `M${x} ${y - 4}V${y + 4}` : `M${x - 4} ${y}H${x + 4}` }));
        if (from < free) return;
        free = to + (isLying ? 8 : 0);
        const spot = isLying ? { x: middle, y: axis.across + 17, "text-anchor": "middle" }
          : { x: axis.across + (isLast ? -7 : 7), y: place + 4, "text-anchor": isLast ? "end" : "start" };
        const label = made("text", spot, shown);
        if (shown !== text) label.append(made("title", {}, text));
        group.append(label);
      });
    }
    function drawAxis(axis, size) {
      const group = made("g", { class: "axis" });
      const [x, y] = xy(axis.start, axis.across);
      const [ex, ey] = xy(axis.end, axis.across);
      group.append(made("path", { class: "rail", d: `M${x} ${y}L${ex} ${ey}` }));
      const asked = last.conditions.find((one) => one.place === axis.place);
      if (asked) {
        const [one, two] = span(axis, asked).map((share) => along(axis, share));
        const [bx, by] = xy(one, axis.across);
        const [cx, cy] = xy(two, axis.across);
        group.append(made("path", { class: "brush", d: `M${bx} ${by}L${cx} ${cy}` }));
      }
      drawTicks(group, axis, size.spacing);
      const isFirst = axis.index === 0;
      const isLast = axis.index === axes.length - 1;
      const anchor = isLying || isFirst ? "start" : isLast ? "end" : "middle";
      const spot = isLying ? { x: 4, y: axis.across - 10 }
        : { x: axis.across + (isFirst ? -16 : isLast ? 16 : 0), y: 16 };
      const room = isLying ? size.width - 20 : size.spacing - (isFirst || isLast ? 0 : 12);
      const name = made("text", { ...spot, class: "name", "text-anchor": anchor }, cut(axis.label, room / BOLD));
      name.append(made("title", {}, axis.label));
      group.append(name);
      return group;
    }
    function span(axis, { low, high, texts }) {
      if (axis.values) {
        const chosenPlaces = axis.values.map((value, place) => [page.setting(value).toLowerCase(), place])
          .filter(([text]) => texts.includes(text)).map(([, place]) => place);
        if (!chosenPlaces.length) return [0, 0];
        return [Math.min(...chosenPlaces) / axis.values.length, (Math.max(...chosenPlaces) + 1) / axis.values.length];
      }
      const clamped = (value, other) => (Number.isFinite(value) ? value : other);
      const ends = axis.low < axis.high ? [axis.low, axis.high] : [axis.high, axis.low];
      return [clamped(low, ends[0]), clamped(high, ends[1])].map((value) => position(axis, value, 0));
    }

    function draw(width) {
      const size = layout(Math.max(260, width ?? element.clientWidth));
      const picked = chosen(last.rows, given.family);
      const many = Math.max(1, Math.round(picked.ranked.length / 10));
      lines = picked.ranked.map((row) => ({
        row,
        points: axes.map((axis) => {
          const share = position(axis, table.rows[row][axis.place], row);
          return share === null ? axis.none : along(axis, share);
        }),
      }));
      const path = ({ points }) => points
        .map((point, index) => xy(point, axes[index].across).map((each) => each.toFixed(1)).join(" "))
        .join("L");
      const group = made("g", { class: `lines look-${table.families[given.family].color}` });
      group.style.setProperty("--strength", lines.length > 80 ? 0.25 : 0.45);
      group.append(...lines.map((line, rank) => {
        const hasValue = table.rows[line.row][at.value] !== null;
        const kind = !hasValue ? "line none" : rank < many ? "line best" : "line";
        return made("path", { class: kind, d: `M${path(line)}` });
      }).reverse()); // the best on top
      hot = made("path", { class: "hot" });
      group.append(hot);
      svg.replaceChildren(group, ...axes.map((axis) => drawAxis(axis, size)));
      page.byId(`parallel-${given.family}-lines`).textContent = said(picked);
      steps.offer(lines.map((line) => line.row));
    }
    function highlight(row) {
      const line = lines.find((each) => each.row === row);
      if (!hot) return;
      if (line) {
        const points = line.points.map((point, index) => xy(point, axes[index].across).join(" "));
        hot.setAttribute("d", `M${points.join("L")}`);
      } else hot.removeAttribute("d");
    }
    const steps = page.stepper(`parallel-${given.family}`, highlight);

    // Mouse and touch: the nearest line is named and opens; dragging along an axis filters by it.
    const mouse = (event) => {
      const box = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      return isLying ? { along: x, across: y } : { along: y, across: x };
    };
    function nearest({ along: a, across: c }) {
      const after = axes.findIndex((axis) => axis.across >= c);
      const next = after < 0 ? axes.length - 1 : Math.max(after, Math.min(1, axes.length - 1));
      const before = Math.max(0, next - 1);
      const gap = axes[next].across - axes[before].across || 1;
      const share = Math.min(1, Math.max(0, (c - axes[before].across) / gap));
      const distances = lines.map((line) =>
        [Math.abs(line.points[before] + share * (line.points[next] - line.points[before]) - a), line.row]);
      const [distance, row] = distances.reduce((one, two) => (two[0] < one[0] ? two : one), [Infinity, null]);
      return distance <= NEAR ? row : null;
    }
    const axisAt = ({ across }) => axes.find((axis) => Math.abs(axis.across - across) <= NEAR);
    let drag = null;
    svg.addEventListener("pointerdown", (event) => {
      const point = mouse(event);
      const axis = axisAt(point);
      delete svg.dataset.dragged;
      if (event.button || !axis || !page.canFilter(axis.place)) return;
      drag = { axis, from: point.along, to: point.along };
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      const point = mouse(event);
      if (drag) {
        drag.to = point.along;
        const [x, y] = xy(drag.from, drag.axis.across);
        const [ex, ey] = xy(drag.to, drag.axis.across);
        hot.setAttribute("class", "hot dragged");
        hot.setAttribute("d", `M${x} ${y}L${ex} ${ey}`);
        return;
      }
      const row = nearest(point);
      svg.classList.toggle("near", row !== null);
      if (row === null) highlight(null);
      else steps.show(row);
    });
    svg.addEventListener("pointerleave", () => drag || highlight(null));
    svg.addEventListener("pointercancel", () => { drag = null; highlight(null); });
    svg.addEventListener("pointerup", () => {
      const done = drag;
      drag = null;
      if (!done || Math.abs(done.to - done.from) < 5) return;
      const shares = [done.from, done.to].map((place) =>
        (place - done.axis.start) / (done.axis.end - done.axis.start)).sort((a, b) => a - b);
      page.filterBy(done.axis.place, brushed(done.axis, shares));
      svg.dataset.dragged = "true"; // the click that ends a drag opens nothing
    });
    svg.addEventListener("click", (event) => {
      if (svg.dataset.dragged) { delete svg.dataset.dragged; return; }
      const axis = axisAt(mouse(event));
      if (axis && last.conditions.some((one) => one.place === axis.place)) {
        page.filterBy(axis.place, null);
        return;
      }
      const row = nearest(mouse(event));
      if (row !== null) { steps.show(row); page.open(row, steps.place()); }
    });
    function brushed(axis, [one, two]) {
      if (axis.values) {
        const found = axis.values.filter((_, place) => {
          const middle = (place + 0.5) / axis.values.length;
          return one <= middle && middle <= two;
        });
        return found.length ? found.map((value) => page.setting(value)).join("|") : null;
      }
      const ends = [valueAt(axis, one), valueAt(axis, two)].sort((a, b) => a - b);
      return ends.map((value) => String(Number(value.toPrecision(4)))).join("..");
    }

    new ResizeObserver(() => {
      if (!page.isPrinting() && Math.abs(element.clientWidth - Number(svg.getAttribute("width"))) > 1) draw();
    }).observe(element);
    return { update(rows, conditions) { last = { rows, conditions }; draw(); }, draw };
  }

  const plots = table.parallel.map(plotOf);
  return {
    update: (rows, conditions) => plots.forEach((plot) => plot.update(rows, conditions)),
    draw: (width) => plots.forEach((plot) => plot.draw(width)),
  };
}
