"""How text that came with data is shown and kept: nothing in it is obeyed, nothing is lost."""

import unicodedata

# Control and format characters (escape codes, marks that turn the direction of text, letters of no
# width), halves of characters, private and unassigned ones, separators of lines and paragraphs.
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def visible(text: str) -> str:
    """`text` with every hidden character as an escape (`\\x1b`, `\\u202e`); line ends stay.

    For terminals and pages. A name that holds a backslash is not told from an escape: tables and
    the ledger hold the exact text.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def on_one_line(text: str) -> str:
    """As `visible`, with line ends as escapes too: what is one line stays one."""
    return visible(text).replace("\n", "\\n")


def storable(text: str) -> str:
    """`text` as every file and database takes it: halves of characters and NUL become escapes.

    The bytes of a file name that are not UTF-8 become `\\xff` escapes.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(map(_kept, text))
    return text.replace("\0", "\\x00")


def _shown(letter: str) -> str:
    if letter == "\n" or unicodedata.category(letter) not in HIDDEN:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def _kept(letter: str) -> str:
    if letter == "\0":
        return "\\x00"
    if not "\ud800" <= letter <= "\udfff":
        return letter
    is_byte = "\udc80" <= letter <= "\udcff"  # how Python reads a byte that is not UTF-8
    return f"\\x{ord(letter) - 0xDC00:02x}" if is_byte else f"\\u{ord(letter):04x}"
