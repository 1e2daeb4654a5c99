// Which trials pass the filters: words that a row contains, and conditions on a column.
// `epochs>10`, `learning_rate=0.001..0.01`, `optimizer=sgd|adamw`, `accuracy>=95%`.

function trialFilter(table, written) {
  const CONDITION = /^([^<>=]+)(<=|>=|<|>|=)(.+)$/;
  const spoken = (text) => text.toLowerCase().replace(/\s+/g, "_");
  const places = new Map();
  table.columns.forEach((column, place) => {
    const names = [column.key, column.key.replace(/^config\./, ""), column.label];
    if (column.key === "value") names.push(table.metric);
    names.forEach((name) => places.has(spoken(name)) || places.set(spoken(name), place));
  });
  const haystacks = []; // each made when a word is first looked for
  const haystack = (place) => (haystacks[place] ??= table.rows[place]
    .map((value, at) => `${value ?? ""} ${written(value, table.columns[at])}`)
    .join(" ").toLowerCase());

  const numeric = (text) => (/^\s*$/.test(text) ? NaN
    : text.endsWith("%") ? Number(text.slice(0, -1)) / 100 : Number(text));

  // What a word asks of a column; null where it is a word like any other.
  function condition(word) {
    const [, name, sign, given] = CONDITION.exec(word) ?? [];
    const place = name === undefined ? undefined : places.get(spoken(name));
    if (place === undefined) return null;
    const [first, last] = given.split("..");
    const [low, high] = [numeric(first), numeric(last ?? first)];
    if (!Number.isNaN(low) && !Number.isNaN(high)) {
      return {
        name, place, sign, range: last === undefined ? null : [low, high],
        low: sign === "<" || sign === "<=" ? -Infinity : low,
        high: sign === ">" || sign === ">=" ? Infinity : high,
        texts: given.split("|"),
      };
    }
    return sign === "=" ? { name, place, sign, range: null, texts: given.split("|") } : null;
  }

  function meets(row, { place, sign, low, high, texts }) {
    const value = row[place];
    if (value === null) return false;
    if (typeof value === "number" && table.columns[place].kind !== "family") {
      if (low === undefined) return texts.some((text) => numeric(text) === value);
      if (sign === "<" && value === high) return false;
      return (sign === ">" ? value > low : value >= low) && value <= high;
    }
    const own = [String(value), written(value, table.columns[place])].map(spoken);
    return sign === "=" && texts.some((text) => own.includes(text));
  }

  function parsed(text) {
    const all = String(text).toLowerCase().split(/\s+/).filter(Boolean);
    const asked = all.map((word) => [word, condition(word)]);
    return {
      conditions: asked.map(([, one]) => one).filter(Boolean),
      words: asked.filter(([, one]) => !one).map(([word]) => word),
    };
  }

  return {
    // The trials, by their place in the table, that the form lets through.
    passing(form) {
      const given = new FormData(form);
      const families = new Set(given.getAll("family").map(Number));
      const statuses = new Set(given.getAll("status"));
      const { conditions, words } = parsed(given.get("text"));
      const [family, status] = ["family", "status"].map((key) => places.get(key));
      return table.rows.map((_, place) => place).filter((place) => {
        const row = table.rows[place];
        return families.has(row[family]) && statuses.has(row[status])
          && words.every((word) => haystack(place).includes(word))
          && conditions.every((one) => meets(row, one));
      });
    },
    conditions: (text) => parsed(text).conditions,
    // What is written like conditions, on columns that there are not.
    unknown: (text) => parsed(text).words.map((word) => CONDITION.exec(word)?.[1])
      .filter((name) => name !== undefined && !places.has(spoken(name))),
    // Whether a column can be named in a condition.
    canName: (name) => !/[\s<>=]/.test(name) && places.has(spoken(name)),
    // The text with its conditions on this column replaced by another; null: by none.
    replaced(text, place, word) {
      const others = String(text).split(/\s+/).filter(Boolean)
        .filter((each) => condition(each.toLowerCase())?.place !== place);
      return [...others, ...(word === null ? [] : [word])].join(" ");
    },
  };
}
