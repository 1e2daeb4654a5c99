"""What is shown of text with hidden characters, and what is kept of text that no file takes."""

import unicodedata

import pytest

from torchstudy.visible import on_one_line, storable, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]8;;http://x\x07", "\\x1b]8;;http://x\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066\u200b\u200e\ufeff", "\\u2066\\u200b\\u200e\\ufeff"),
        ("a\0b\tc\rd", "a\\x00b\\tc\\rd"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800\udcff", "\\ud800\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_hidden_characters_become_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["", " ", "é漢 e\u0301", "😀", "a\u00a0b", "[bold]", "C:\\x1b"])
def test_other_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_lines_stay_lines_unless_they_must_be_one() -> None:
    assert visible("a\nb\x1b") == "a\nb\\x1b"
    assert on_one_line("a\nb\x1b") == "a\\nb\\x1b"


def test_no_character_reaches_a_terminal_as_a_control() -> None:
    everything = visible("".join(map(chr, [*range(0x11000), *range(0xE0000, 0xE0200)])))
    left = {unicodedata.category(letter) for letter in set(everything) - {"\n"}}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_what_no_file_takes_becomes_escapes_and_all_else_stays() -> None:
    assert storable("caf\udce9\0\ud800") == "caf\\xe9\\x00\\ud800"
    kept = "\x1b[2J\u202e😀\n\t</script>"
    assert storable(kept) == kept
    assert storable("a\0b") == "a\\x00b"
