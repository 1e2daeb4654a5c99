"""The report opened in headless Chromium, offline: what it shows, says and asks for."""

import csv
import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_chromium = pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None or not CHROMIUM.exists(),
    reason="needs playwright and /usr/bin/chromium",
)
in_a_browser = [pytest.mark.browser, needs_chromium]


class Opened:
    """A page, with everything it said and asked for."""

    def __init__(
        self,
        browser: Any,
        path: Path | str,
        *,
        width: int = 1400,
        scheme: Any = "light",
        has_clock: bool = False,
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            offline=isinstance(path, Path),
            accept_downloads=True,
        )
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        if has_clock:
            self.page.clock.install()  # timers fire when a test says so, too
        self.page.goto(path.as_uri() if isinstance(path, Path) else path)
        self.page.wait_for_selector("html[data-drawn]", state="attached", timeout=30_000)
        self.page.wait_for_selector("#plot-outcomes .main-svg", state="attached")
        self.said_at_first = list(self.messages)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def count(self) -> str:
        return str(self.page.locator("#count").text_content())

    def color(self, selector: str, name: str) -> str:
        script = "([s, n]) => getComputedStyle(document.querySelector(s))[n]"
        return str(self.page.evaluate(script, [selector, name]))

    def points(self) -> int:
        return int(self.page.locator("#plot-cost .scatterlayer .point").count())

    def download(self) -> list[list[str]]:
        with self.page.expect_download() as waiting:
            self.page.click("#csv")
        text = Path(waiting.value.path()).read_text(encoding="utf-8")
        return list(csv.reader(io.StringIO(text)))

    def lines(self, family: int) -> int:
        return int(self.page.locator(f"#parallel-{family} .line").count())

    def ailments(self) -> list[str]:
        """What axe-core finds, injected where the page's own policy does not hold."""
        import axe_playwright_python

        source = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text("utf-8")
        session = self.context.new_cdp_session(self.page)
        session.send("Runtime.evaluate", {"expression": source})
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        session.detach()
        return [
            f"{each['id']}: {node['html'][:160]}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


class Pages:
    """One report in several windows; opening one takes seconds, so each is kept."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.browser, self.path = browser, path
        self._opened: dict[tuple[int, str], Opened] = {}

    def __call__(self, width: int = 1400, scheme: str = "light") -> Opened:
        """The window of this width, with the drawer closed and all filters cleared."""
        if (width, scheme) not in self._opened:
            opened = Opened(self.browser, self.path, width=width, scheme=scheme)
            self._opened[width, scheme] = opened
        opened = self._opened[width, scheme]
        page = opened.page
        page.evaluate("document.querySelector('#drawer').close()")
        page.mouse.move(0, 0)  # a figure under the mouse names what is there
        page.evaluate("document.querySelector('button[type=reset]').click()")
        page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
        page.mouse.move(0, 0)
        page.wait_for_selector("#count:text-is('60 trials')")
        opened.messages.clear()
        return opened

    def close(self) -> None:
        for opened in self._opened.values():
            opened.context.close()
