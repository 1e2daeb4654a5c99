"""Who holds a study: a process that can be recognised as alive, gone, or out of sight."""

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, told apart from a later one with the same number by when it started.

    A number means nothing on another machine, after a reboot, or in another container, even one of
    the same host name: `boot` and `space` say where it counts. Earlier versions left them empty and
    gave no signs of life.
    """

    host: str
    pid: int
    started: str
    boot: str = ""  # of the kernel since it was started; empty where there is no such id
    space: str = ""  # the namespace of process numbers, on Linux
    beats: bool = False  # whether it keeps the time of its last sign of life in the ledger

    @classmethod
    def here(cls) -> "Owner":
        """This process."""
        started = _start_time(os.getpid())
        assert started is not None
        boot, space = _place()
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=started,
            boot=boot,
            space=space,
            beats=True,
        )

    @property
    def is_in_sight(self) -> bool:
        """Whether this process could see it: its number means the same here as there."""
        if self.boot:
            return (self.boot, self.space) == _place()
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended; never known of one out of sight."""
        if not self.is_in_sight:
            return False
        started = _start_time(self.pid)
        return not _exists(self.pid) if started is None else started != self.started


def _place() -> tuple[str, str]:
    """The boot and the namespace of this process; empty where there are none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, os.readlink("/proc/self/ns/pid")
    except OSError:
        return "", ""


def _start_time(pid: int) -> str | None:
    """When the process started, in a form that only compares equal for the same process.

    Empty for one that has ended and was not waited for; None for one that cannot be read.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return "" if fields[0] == "Z" else fields[19]  # field 22 of proc(5): starttime
    listed = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() or None


def _exists(pid: int) -> bool:
    """Whether there is such a process, though it may be hidden from this user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
