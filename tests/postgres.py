"""Databases for tests of the ledger: a SQLite file, or a schema on a PostgreSQL server of ours."""

import atexit
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

KINDS = ("sqlite", "postgresql")
USERS = ("postgres", "nobody")  # the server refuses to be run by root
PROGRAMS = "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin"
QUICK = {"fsync": "off", "listen_addresses": "", "shared_buffers": "8MB", "max_connections": 30}


_numbers = itertools.count(1)


def new_url(kind: str, folder: Path) -> str:
    """The URL of an empty database; skips the test where the kind is not at hand."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'studies.sqlite'}"
    server, name = _shared_server(), f"own{next(_numbers)}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{name}"


@functools.cache
def _shared_server() -> str:
    """One server for all tests of a process, gone when it ends (2 s to start)."""
    stack = ExitStack()
    url = stack.enter_context(server())
    atexit.register(stack.close)
    return url


def _programs() -> Path:
    """The folder with `initdb` and `pg_ctl`; skips the test where there is none."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    for pattern in PROGRAMS:
        found += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    folder = next((place for place in found if (place / "pg_ctl").exists()), None)
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    return folder


@contextmanager
def server() -> Iterator[str]:
    """A server of its own behind a socket; its URL without a database, as `?host=FOLDER`."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    programs, folder = _programs(), Path(tempfile.mkdtemp(prefix="pg-"))
    user = next((name for name in USERS if _is_user(name)), None) if os.getuid() == 0 else None
    as_user = {"user": user, "extra_groups": []} if user else {}

    def call(program: str, *words: str) -> None:
        subprocess.run(
            [programs / program, *words],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            **as_user,
        )

    if user:
        shutil.chown(folder, user)
    options = " ".join(f"-c {name}={value!r}" for name, value in QUICK.items())
    data = str(folder / "data")
    try:
        call("initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8")
        call("pg_ctl", "-D", data, "-w", "-l", "log", "-o", f"{options} -k {folder}", "start")
        try:
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_user(name: str) -> bool:
    import pwd

    return any(entry.pw_name == name for entry in pwd.getpwall())
