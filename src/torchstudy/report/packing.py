"""How a page carries megabytes in one file without loosening its security policy."""

import base64
import gzip
import hashlib
import json
from typing import Any

from plotly.offline import get_plotlyjs


def packed(text: str) -> str:
    """The text as base64 of gzip; the same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode("ascii")


def packed_json(value: Any) -> str:
    """A JSON value, packed; keys are sorted, and NaN is refused (ValueError)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return packed(text.replace("<", "\\u003c"))


def plotly_script() -> str:
    """The source of plotly.js as it came with the plotly package."""
    return str(get_plotlyjs())


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
