"""The README's Python blocks run, in order, as a reader would run them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_blocks_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    """Slow: it trains. As a script without a guard, so that worker processes are part of it."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 6
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "best_valid_accuracy" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "reports" / "tiny" / "report.html").exists()


@pytest.mark.slow
def test_a_study_runs_where_its_family_is_in_no_file_as_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: it starts worker processes. They find no module that they could import it from."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (tiny,) = (block for block in blocks if "class TinyNet" in block)
    cell: dict[str, Any] = {"__name__": "__main__"}  # as what is typed there says that it is
    exec(compile(tiny, "<cell>", "exec"), cell)
    assert cell["TinyNet"].__module__ == "__main__"
    assert cell["results"].trials["status"].tolist() == ["completed", "completed"]
