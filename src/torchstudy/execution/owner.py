"""Who holds a study: a process that can be recognised as alive or gone."""

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, told apart from a later one with the same number by when it started."""

    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> "Owner":
        """This process."""
        started = _start_time(os.getpid())
        assert started is not None
        return cls(host=socket.gethostname(), pid=os.getpid(), started=started)

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended; never known of another host."""
        return self.host == socket.gethostname() and _start_time(self.pid) != self.started


def _start_time(pid: int) -> str | None:
    """When the process started, in a form that only compares equal for the same process."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else fields[19]  # field 22 of proc(5): starttime
    listed = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() or None
