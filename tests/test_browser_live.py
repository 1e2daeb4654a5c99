"""The page of a running study in a real browser: it tells of a newer one, and asks nobody else."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Opened, in_a_browser
from tests.report_data import Made, write_study
from typing_extensions import override

from torchstudy.report.page import write_report

pytestmark = in_a_browser


class Served(SimpleHTTPRequestHandler):
    """A folder, with every request kept."""

    asked: list[str] = []  # noqa: RUF012  # of the whole server

    @override
    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append(f"{self.command} {self.path}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Made(families=("CNN",), trials=8, epochs=9, confirm=False, state="running")
    return write_report(write_study(tmp_path_factory.mktemp("running"), made))


@pytest.fixture
def address(running: Path) -> Iterator[str]:
    handler = partial(Served, directory=str(running.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/report.html"
        server.shutdown()
        thread.join()


def test_a_file_says_how_old_it_is_and_asks_nothing(browser: Any, running: Path) -> None:
    for width, scheme in ((390, "light"), (1400, "dark")):
        with Opened(browser, running, width=width, scheme=scheme) as opened:
            page = opened.page
            said = str(page.locator("#live").inner_text())
            assert "This study is still running: reload to see more." in said
            assert "Written " in said
            assert " ago." in said
            assert opened.messages == []
            assert opened.requests == [running.as_uri()]
            assert opened.ailments() == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_served_page_notices_a_newer_one_and_reloads_when_asked(
    browser: Any, running: Path, address: str
) -> None:
    Served.asked.clear()
    began = time.monotonic()
    with Opened(browser, address, has_clock=True) as opened:
        page = opened.page
        while "HEAD /report.html" not in Served.asked:
            page.wait_for_timeout(20)
        assert "still running" in str(page.locator("#live-words").text_content())
        passed = time.monotonic() - began  # to open a page takes a busy machine half a minute
        assert 1 <= Served.asked.count("HEAD /report.html") <= 1 + passed / 15
        text = running.read_text(encoding="utf-8")
        running.write_text(text.replace("Study report", "Study report!"), encoding="utf-8")
        page.clock.run_for(15_000)
        page.wait_for_selector("#live[data-news]")
        assert "New results have been written" in str(page.locator("#live-words").text_content())
        assert set(Served.asked) == {"GET /report.html", "HEAD /report.html"}
        page.click("#reload")
        page.wait_for_selector(".name:has-text('Study report!')")
        assert "still running" in str(page.locator("#live-words").text_content())
        assert opened.messages == []


def test_a_running_page_may_ask_no_other_server(browser: Any, address: str) -> None:
    with Opened(browser, address) as opened:
        refused = opened.page.evaluate(
            "fetch('http://127.0.0.1:9/').then(() => false, (error) => error.name === 'TypeError')"
        )
        assert refused
        opened.page.evaluate(
            """() => { const script = document.createElement("script");
                script.textContent = "window.injected = true";
                document.head.append(script); }"""
        )
        assert opened.page.evaluate("window.injected") is None
        policed = [text for text in opened.messages if "Content Security Policy" in text]
        assert len(policed) >= 2


def test_a_server_that_is_gone_is_said(browser: Any, address: str) -> None:
    with Opened(browser, address, has_clock=True) as opened:
        page = opened.page
        opened.context.set_offline(True)
        for _ in range(8):
            assert "still running" in str(page.locator("#live-words").text_content())
            page.clock.run_for(15_000)
            page.wait_for_timeout(50)
        page.wait_for_selector("#live-words:has-text('does not answer any more')")
        failed = len(opened.requests)
        page.clock.run_for(60_000)
        assert len(opened.requests) == failed
