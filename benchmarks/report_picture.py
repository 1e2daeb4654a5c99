"""A static picture of a report, as the README shows one.

    python benchmarks/report_picture.py REPORT.html OUT.png [--width 1400] [--height 980] [--dark]

The top of the page as headless Chromium (`/usr/bin/chromium`, playwright) draws it, offline, once
every figure stands.
"""

import argparse
from pathlib import Path

from page_speed import ARGUMENTS, CHROMIUM
from playwright.sync_api import sync_playwright


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=980)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(
            viewport={"width": given.width, "height": given.height},
            color_scheme="dark" if given.dark else "light",
            offline=True,
        )
        page = context.new_page()
        page.goto(given.report.resolve().as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
        page.screenshot(path=str(given.out))
        browser.close()


if __name__ == "__main__":
    main()
