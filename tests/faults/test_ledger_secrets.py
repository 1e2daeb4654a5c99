"""No password of a storage URL is printed, written, or given to whatever trains."""

import logging
import pickle
from contextlib import closing
from pathlib import Path

import pytest
from tests.command import optimize, write_study
from tests.postgres import new_url

from torchstudy.errors import StorageError, StudyError, TorchstudyError
from torchstudy.execution.executor import InlineExecutor
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.redaction import redacted

SECRET = "Kanarien/v0gel:1@x"
QUOTED = "Kanarien%2Fv0gel%3A1%40x"
FORMS = (SECRET, QUOTED, "Kanarien", "v0gel")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w:/x@host:5/db?a=b", "postgresql://me:***@host:5/db?a=b"),
        ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("x://h/d?password=pw&sslmode=require", "x://h/d?password=***&sslmode=require"),
        ("x://h/d?user=me&sslpassword=p%20w", "x://h/d?user=me&sslpassword=***"),
        ("dbname=d password='p w' host=h", "dbname=d password=*** host=h"),
        ("x://h?access_token=pw&PWD=pw", "x://h?access_token=***&PWD=***"),
        ("me:pw@host", "me:***@host"),
        ("--storage=x://me:pw@h/d", "--storage=x://me:***@h/d"),
        ("sqlite:////reports/studies.sqlite", "sqlite:////reports/studies.sqlite"),
        ("a trial at epoch 3: learning_rate=0.1", "a trial at epoch 3: learning_rate=0.1"),
    ],
)
def test_secrets_are_taken_out_and_the_rest_is_left(given: str, shown: str) -> None:
    assert redacted(given) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{QUOTED}@/db?host=/nowhere",
        f"postgresql+psycopg://me@/db?host=/nowhere&password={QUOTED}",
        f"postgresql+psycopg://me@/db?host=/nowhere&sslpassword={QUOTED}",
        f"postgresql+psycopg://me@/db?host=/nowhere&port={QUOTED}&password={QUOTED}",
        f"postgresql+psycopg://me:{QUOTED}@/db?host=/nowhere&no_such_option={QUOTED}",
        f"nosuch+driver://me:{QUOTED}@host/db",
        f"postgresql+nosuch://me:{QUOTED}@host/db?password={QUOTED}",
        f"postgresql://me:{SECRET}@host:port/db",
        f"me:{SECRET}@host",
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_no_message_about_a_storage_that_cannot_be_used_has_a_secret(
    url: str, read_only: bool
) -> None:
    with pytest.raises((StorageError, StudyError)) as caught:
        Ledger(url, read_only=read_only)
    error: BaseException | None = caught.value
    assert isinstance(error, TorchstudyError)
    assert not [form for form in FORMS if form in str(error)]
    assert error.__suppress_context__


def test_nothing_that_a_run_prints_writes_or_sends_has_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_url("postgresql", tmp_path).replace("tester@", f"tester:{QUOTED}@")
    url += f"&sslpassword={QUOTED}"
    sent: list[bytes] = []
    submit = InlineExecutor.submit

    def seen(self: InlineExecutor, job: object, attempt: int) -> None:
        import cloudpickle

        sent.append(cloudpickle.dumps(job))
        submit(self, job, attempt)  # type: ignore[arg-type]

    monkeypatch.setattr(InlineExecutor, "submit", seen)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    write_study(tmp_path, "tiny")
    said = []
    words = ("run", "tiny", "--executor", "inline"), ("status",), ("list",), ("best", "tiny")
    for line in (*words, ("table", "tiny", "--format", "json"), ("report", "tiny")):
        ended = optimize(*line, "--storage", url)
        assert ended.exit_code == 0, ended.output
        said.append(ended.output)
    assert len(sent) >= 4
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    with closing(Ledger(url, read_only=True)) as ledger:
        (state,) = ledger.studies()
        kept = pickle.dumps((state, ledger.trainings("tiny"), ledger.epochs("tiny")))
    everything = b"\n".join([*(text.encode() for text in said), *written, *sent, kept])
    everything += caplog.text.encode()
    assert not [form for form in FORMS if form.encode() in everything]
