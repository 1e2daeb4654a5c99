"""What opening a report costs the reader's processor, and what its filters and drawer cost.

    python benchmarks/page_speed.py REPORT... [--repeats 5] [--out FILE]

Each report is opened in headless Chromium (`/usr/bin/chromium`, playwright), 1400 px wide, offline,
in a browser of its own; several take turns. Measured are the processor seconds of the page's
process until the first figures stand (`data-begun`), until all do (`data-drawn`), so that what is
put off is counted too, then the milliseconds from a click to the next frame for a filter, and for a
trial's drawer until its curve is drawn. Medians with ranges, and how busy the machine was: a busy
one makes the same page dearer.

Exits with 1 if first figures take more than 1.5 s, or 2 s in the page of more than 1,000 trials.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LARGE = 1_000  # trials
TRIALS = "() => Number(document.querySelector('#count').textContent.match(/\\d+(?= trials)/)[0])"
FRAME = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
TIMED = """(selector) => new Promise((done) => {
    const began = performance.now();
    document.querySelector(selector).click();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""
DRAWER = """() => new Promise((done) => {
    const began = performance.now();
    const look = () => document.querySelector("#drawer .js-line")
        ? done(performance.now() - began) : setTimeout(look, 5);
    document.querySelector("#trial-table tbody button").click();
    look();
})"""


def processor(session: Any) -> float:
    """Processor seconds of the page's process so far."""
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(max(each["cpuTime"] for each in found if each["type"] == "renderer"))


def opened(playwright: Any, path: Path) -> dict[str, float]:
    """One opening of one report."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    try:
        session = browser.new_browser_cdp_session()
        context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
        page = context.new_page()
        before = processor(session)
        page.goto(path.resolve().as_uri(), wait_until="commit")
        page.wait_for_selector("html[data-begun]", state="attached", timeout=60_000)
        first = processor(session) - before
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
        page.evaluate(FRAME)
        whole = processor(session) - before
        page.wait_for_timeout(300)
        filtered = page.evaluate(TIMED, "input[name=family]")
        page.click("button[type=reset]")
        page.wait_for_timeout(300)
        return {
            "trials": page.evaluate(TRIALS),
            "load": os.getloadavg()[0],
            "first_figures_s": first,
            "all_figures_s": whole,
            "filter_ms": filtered,
            "drawer_ms": page.evaluate(DRAWER),
        }
    finally:
        browser.close()


def summary(path: Path, found: list[dict[str, float]]) -> dict[str, Any]:
    """Medians and ranges of the openings of one report."""
    return {
        "trials": int(found[0].pop("trials")),
        "megabytes": round(path.stat().st_size / 1e6, 2),
        "repeats": len(found),
        **{
            name: {
                "median": round(statistics.median(each[name] for each in found), 2),
                "range": [round(end(each[name] for each in found), 2) for end in (min, max)],
            }
            for name in found[0]
        },
    }


def main() -> int:
    """Measure every report, print the numbers, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    openings: dict[Path, list[dict[str, float]]] = {path: [] for path in options.reports}
    with sync_playwright() as playwright:
        for _ in range(options.repeats):
            for path, found in openings.items():
                found.append(opened(playwright, path))
    sizes = {str(path): summary(path, found) for path, found in openings.items()}
    fine = True
    for path, size in sizes.items():
        most = 2.0 if size["trials"] > LARGE else 1.5
        fine = fine and size["first_figures_s"]["median"] <= most
        print(path, json.dumps(size), flush=True)
    if options.out:
        options.out.write_text(json.dumps(sizes, indent=2) + "\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
