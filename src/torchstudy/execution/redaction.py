"""What may be shown of a database's URL: everything but its secrets."""

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

HIDDEN = "***"
_SECRET_NAME = r"[\w.-]*(?:pass|pwd|secret|token)[\w.-]*"
_IN_QUERY = re.compile(rf"(?i)(?<![\w.-])({_SECRET_NAME})(\s*=\s*)('[^']*'|[^\s&;'\"]+)")
_IN_AUTHORITY = re.compile(r"(://[^\s:/?#@]*):(\S*)@")
_WITHOUT_SCHEME = re.compile(r"(?<!\S)([^\s:/@]+):(?!//)(\S+)@")


def redacted(text: str) -> str:
    """`text` without what looks like a password in a URL or in `password=...`.

    A password may hold `/`, `:` and `@` unescaped: everything up to the last `@` of a word is it.
    """
    hidden = _IN_QUERY.sub(rf"\1\2{HIDDEN}", text)
    for pattern in (_IN_AUTHORITY, _WITHOUT_SCHEME):
        hidden = pattern.sub(rf"\1:{HIDDEN}@", hidden)
    return hidden


def shown(url: "URL") -> str:
    """The URL for a message."""
    return without_secrets(url, url.render_as_string(hide_password=True))


def without_secrets(url: "URL", text: str) -> str:
    """What a driver said of `url`, less the secrets in it, however they are written there."""
    for secret in _secrets(url):
        text = text.replace(secret, HIDDEN)
    return redacted(text)


def _secrets(url: "URL") -> list[str]:
    values = [str(url.password)] if url.password else []
    for name, value in url.query.items():
        if re.fullmatch(f"(?i){_SECRET_NAME}", name):
            values += [value] if isinstance(value, str) else list(value)
    spellings = (str, unquote, quote_plus, quote)
    return [spelled(value) for value in values if value for spelled in spellings]
