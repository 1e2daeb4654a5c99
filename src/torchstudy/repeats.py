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


def choice_words(study: str, number: int | None, begun: int) -> str:
    """Of which of several searches an answer is, given the number that was asked for, if any.

    Nothing where there is one search.
    """
    if begun < 2:
        return ""
    if number is not None:
        return f"{study}: search {number} of {begun}"
    others = "--repeat 2 is the other" if begun == 2 else f"--repeat 2 to {begun} are the others"
    return f"{study}: the first of {begun} searches, not chosen for its score; {others}"


def kept_words(asked: int, begun: int) -> str:
    """That there are more searches than are asked for; nothing where there are not."""
    if begun <= asked:
        return ""
    which = "the first" if asked == 1 else f"the first {asked}"
    return (
        f"{begun} searches are there; all are kept and counted, and {which} "
        f"{'is' if asked == 1 else 'are'} gone on with (--repeats {begun} goes on with all)"
    )


def repeat_words(number: int, repeats: int) -> str:
    """`, repeat 2 of 3`; nothing where there is one."""
    return f", repeat {number} of {repeats}" if repeats > 1 else ""
