"""What the scripts here share: a copy of the working tree in a folder of its own, a fresh environment, commands that are shown, a limit."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the watch of this working tree, whatever ftlab is installed
CONTROL = Path("/sys/fs/cgroup")

from ftlab.course.watch import Watch  # noqa: E402


class Failed(Exception):
    """A step did not do what it should; the sentence says which."""


def copy_of_tree(folder: Path) -> Path:
    """The files that git knows or would take, as they are now: what a clone of the next commit would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def fresh_environment(folder: Path) -> Path:
    """A new virtual environment; returns its folder of programs."""
    step("a fresh environment", [sys.executable, "-m", "venv", str(folder)])
    return folder / "bin"


def clean_variables(programs: Path, home: Path) -> dict[str, str]:
    """The variables of a session that knows nothing of this one: programs first, a home of its own, no settings of ftlab or of Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FTLAB_", "PYTHON", "VIRTUAL_ENV", "OMP_", "JUPYTER"))
    }
    # an index that cannot be reached is asked once and not again
    return kept | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "PIP_RETRIES": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def step(what: str, command: list[str], **options) -> None:
    """Run one command to its end, saying what it is for and how long it took.

    Raises:
        Failed: it did not end well.
    """
    started = time.monotonic()
    print(f"· {what} …", flush=True)
    done = subprocess.run(command, **options)
    if done.returncode:
        raise Failed(f"{what}: expected exit status 0, found {done.returncode} ({' '.join(command)})")
    print(f"  done in {time.monotonic() - started:.0f} s", flush=True)


class Limit:
    """A hard limit on the memory of all processes that are started within it, together.

    A control group of the kernel where we may make one (`kind` "control group"): memory that would pass it is refused, files that were
    read are dropped first, and then a process is killed. Elsewhere the resident memory of the processes is watched, and they are killed
    once it is passed (`kind` "watch"). Their peak is that of the watch in both cases.
    """

    def __init__(self, group: Path | None, watch: Watch) -> None:
        self.group, self.watch = group, watch
        self.kind = "control group" if group else "watch"

    def enter(self) -> None:
        """Called in a process between fork and exec: from then on it and its children count."""
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def passed(self) -> bool:
        """Whether anything was killed for its memory."""
        if not self.group:
            return self.watch.killed
        name = "memory.events" if (self.group / "memory.events").exists() else "memory.oom_control"
        counts = dict(line.split() for line in (self.group / name).read_text().splitlines())
        return int(counts["oom_kill"]) > 0


@contextmanager
def hard_limit(limit_mb: float) -> Iterator[Limit]:
    """A limit for the processes that call its `enter`."""
    group = _control_group(limit_mb)
    with Watch(limit_mb=0 if group else limit_mb) as watch:
        try:
            yield Limit(group, watch)
        finally:
            if group:
                _remove(group)


def _remove(group: Path, seconds: float = 10) -> None:
    """Remove a control group as soon as its last process has ended."""
    last = time.monotonic() + seconds
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > last:
                raise
            time.sleep(0.2)


def _control_group(limit_mb: float) -> Path | None:
    """A new control group, of version 1 or 2, or None where it is not ours to make."""
    for parent, names in (
        (CONTROL / "memory", ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")),
        (CONTROL, ("memory.max",)),
    ):
        group = parent / f"ftlab-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name in names:
                (group / name).write_text(str(int(limit_mb * 1e6)))
            if len(names) == 1 and (group / "memory.swap.max").exists():
                (group / "memory.swap.max").write_text("0")
            return group
        except OSError:
            group.rmdir()
    return None
