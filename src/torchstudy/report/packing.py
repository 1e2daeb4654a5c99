"""How a page carries megabytes in one file without loosening its security policy."""

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The official bundle of all that a report draws, a third of the complete plotly.js, and of the
# version that the plotly package has: `npm pack plotly.js-cartesian-dist-min@VERSION`, then its
# plotly-cartesian.min.js through gzip.compress(..., compresslevel=9, mtime=0).
PLOTLY = Path(__file__).parent / "assets" / "plotly-cartesian.min.js.gz"


def packed(text: str) -> str:
    """The text as base64 of gzip; the same text gives the same bytes."""
    return _base64(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def json_text(value: Any) -> str:
    """A JSON value as a page may hold it; keys are sorted, and NaN is refused (ValueError)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def json_object(texts: Mapping[str, str]) -> str:
    """The JSON object of values that are `json_text` already, as that would write it."""
    pairs = (f"{json_text(name)}:{text}" for name, text in sorted(texts.items()))
    return f"{{{','.join(pairs)}}}"


def packed_plotly() -> str:
    """plotly.js, packed as it lies beside this file."""
    return _base64(PLOTLY.read_bytes())


@functools.cache
def plotly_script() -> str:
    """The source of plotly.js as a page runs it."""
    return gzip.decompress(PLOTLY.read_bytes()).decode()


def script_hash(source: str) -> str:
    """The source expression that lets a policy run exactly this inline script."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def policy(scripts: list[str], *, asks_its_server: bool = False) -> str:
    """A Content-Security-Policy: these inline scripts run, nothing is fetched.

    plotly.js sets inline styles, and saves pictures through data and blob addresses. A page that
    looks for a newer one may ask the server that it came from, and no other.
    """
    allowed = " ".join(script_hash(source) for source in scripts)
    asking = "connect-src 'self'; " if asks_its_server else ""
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; {asking}base-uri 'none'; form-action 'none'"
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
