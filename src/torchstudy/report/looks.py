"""How families and statuses look: colour, symbol and dash, so that no one needs to see colour."""

from dataclasses import dataclass

from torchstudy.records import Status

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "star", "hexagon", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
COLORS = 6  # --family-0 to --family-5 in style.css
CLASS_SYMBOLS = (*SYMBOLS, "x", "triangle-down", "pentagon")
CLASS_COLORS = 10  # --class-0 to --class-9 in style.css
HEAT = tuple(zip((0, 0.01, 0.1, 0.4, 1), (f"var(--heat-{n})" for n in range(5)), strict=True))
"""Where in a share of 0 to 1 which colour stands: small shares are told apart."""

STATUS_WORDS = {
    Status.COMPLETED: "completed",
    Status.STOPPED: "stopped by the search",
    Status.PAUSED: "paused",
    Status.RUNNING: "running",
    Status.DIVERGED: "diverged",
    Status.OUT_OF_MEMORY: "out of memory",
    Status.TIMED_OUT: "timed out",
    Status.CRASHED: "crashed",
}
PATTERNS = {
    Status.DIVERGED: "/",
    Status.OUT_OF_MEMORY: "x",
    Status.TIMED_OUT: "|",
    Status.CRASHED: "\\",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The look of one family; colours are custom properties, so a figure fits both themes."""

    index: int
    symbol: str
    dash: str
    color: str
    soft: str


def look(index: int) -> Look:
    """The look of the family at this place in the study's declaration."""
    color = index % COLORS
    return Look(
        index=color,
        symbol=SYMBOLS[index % len(SYMBOLS)],
        dash=DASHES[index % len(DASHES)],
        color=f"var(--family-{color})",
        soft=f"var(--family-{color}-soft)",
    )


def looks_of(families: list[str]) -> dict[str, Look]:
    """The look of every family."""
    return {family: look(index) for index, family in enumerate(families)}


def class_look(index: int) -> Look:
    """The look of the class at this place: a hundred pairs of colour and symbol."""
    color, turn = index % CLASS_COLORS, index // CLASS_COLORS
    return Look(
        index=color,
        symbol=CLASS_SYMBOLS[(index + turn) % len(CLASS_SYMBOLS)],
        dash="solid",
        color=f"var(--class-{color})",
        soft=f"var(--class-{color})",
    )


def status_words(status: str) -> str:
    """A status as it is read: `out of memory` for `out_of_memory`."""
    return STATUS_WORDS[Status(status)]


def status_color(status: str) -> str:
    """The custom property that holds a status's colour."""
    return f"var(--status-{status.replace('_', '-')})"


def pattern(status: str) -> str:
    """The hatching of a failed status, empty for others."""
    return PATTERNS.get(Status(status), "")
