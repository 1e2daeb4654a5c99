"""The README's Python blocks run, in order, as a reader would run them."""

import re
import subprocess
import sys
from pathlib import Path

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
def test_a_study_runs_from_standard_input_as_a_notebook_would(tmp_path: Path) -> None:
    """Slow: it starts worker processes. The family is defined where no worker can import it."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (tiny,) = (block for block in blocks if "class TinyNet" in block)
    code = tiny + "\nprint(list(results.trials['status']))\n"
    done = subprocess.run(
        [sys.executable, "-"],
        cwd=tmp_path,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "['completed', 'completed']" in done.stdout
