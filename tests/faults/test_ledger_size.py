"""Looking at a large ledger reads what is shown, not everything."""

import pandas as pd
import pytest

from torchstudy import printing


def test_a_table_with_more_lines_than_anybody_reads_shows_the_last_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(printing, "MOST_LINES", 3)
    table = pd.DataFrame({"trial": range(1000, 1005), "seconds": 1.5})
    printing.print_frame(table)
    said = capsys.readouterr().out
    assert [number for number in range(1000, 1005) if str(number) in said] == [1002, 1003, 1004]
    assert said.endswith("the last 3 of 5 rows (--format csv has all)\n")
    printing.print_frame(table.head(3))
    assert "--format csv" not in capsys.readouterr().out
