"""What the further searches of a study are called: in the ledger, in folders, to a reader."""

INFIX = "/repeats/"  # no user's study has such a name; and it is a path below the study's folder


def repeat_name(study: str, number: int) -> str:
    """The name of a study's search of this number; the first has the study's own."""
    return study if number == 1 else f"{study}{INFIX}{number}"


def repeat_of(name: str) -> tuple[str, int]:
    """The study that a name belongs to, and which of its searches it is."""
    study, _, number = name.partition(INFIX)
    return study, int(number or 1)


def repeat_prefix(study: str) -> str:
    """What the names of all searches of a study but the first begin with."""
    return f"{study}{INFIX}"


def repeat_title(study: str, number: int) -> str:
    """The study, and which of its searches it is if it is not the first: `digits, repeat 2`."""
    return study if number == 1 else f"{study}, repeat {number}"


def repeat_words(number: int, repeats: int) -> str:
    """`, repeat 2 of 3`; nothing where there is one."""
    return f", repeat {number} of {repeats}" if repeats > 1 else ""
