// The page of a study that is still running: how old it is, and whether there is a newer one.

(() => {
  const byId = (id) => document.getElementById(id);
  const EVERY = 15_000; // milliseconds between two looks at the file
  const MOST_FAILURES = 8; // looks in a row after which the server counts as gone
  const written = Date.parse(document.lastModified);
  const units = [["second", 1], ["minute", 60], ["hour", 3600], ["day", 86_400]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "always" });
  let first = null; // what the server said about the file at the first look
  let failures = 0;

  function showAge() {
    const age = Math.max(0, (Date.now() - written) / 1000);
    const [unit, length] = units.findLast(([, size]) => age >= size) ?? units[0];
    byId("live-age").textContent = `Written ${words.format(-Math.round(age / length), unit)}.`;
  }
  function say(text) {
    byId("live-words").textContent = text;
  }
  async function look() {
    if (document.hidden) return;
    const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const [tag, changed, size] = ["etag", "last-modified", "content-length"]
      .map((name) => answer.headers.get(name));
    const found = [tag, changed, size].join(" ");
    const isNewer = changed !== null && Date.parse(changed) > written + 999;
    failures = 0;
    if (isNewer || (first !== null && found !== first)) {
      say("New results have been written: reload to see them.");
      byId("live").dataset.news = "true";
    }
    first ??= found;
  }
  async function looks() {
    try {
      await look();
    } catch {
      failures += 1;
      if (failures === MOST_FAILURES) say("The server of this page does not answer any more: reload when it is back.");
    }
    if (failures < MOST_FAILURES && !byId("live").dataset.news) setTimeout(looks, EVERY);
  }

  byId("reload").addEventListener("click", () => location.reload());
  byId("reload").hidden = false;
  showAge();
  setInterval(showAge, EVERY);
  if (location.protocol.startsWith("http")) looks(); // a file may not look at itself
})();
