"""How much memory a process takes together with everything it starts; and, where a limit is given, the end of those that pass it."""

import threading
from typing import Any

STEP_S = 0.05  # between two looks


class Watch:
    """Peak memory of a process's children and theirs, while the block runs: `with Watch() as watch: …; watch.peak_mb`.

    Resident memory is summed over the processes, so that a page which two of them share counts twice: the sum is never too low for
    that. A peak between two looks is seen where the system keeps each process's own (Linux).

    Args:
        pid: the process whose children are watched; this one if not given. It does not count itself.
        limit_mb: children are killed once the sum is above it; 0 means never.
    """

    def __init__(self, pid: int | None = None, limit_mb: float = 0) -> None:
        self.pid, self.limit_mb = pid, limit_mb
        self.peak_mb = 0.0
        self.killed = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._done.set()
        self._thread.join()

    def _look_on(self) -> None:
        import psutil

        watched = psutil.Process(self.pid)
        while not self._done.wait(STEP_S):
            try:
                children = watched.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            self.peak_mb = max(self.peak_mb, sum(map(_resident_mb, children)), *map(_own_peak_mb, children), 0.0)
            if self.limit_mb and self.peak_mb > self.limit_mb:
                self.killed = True
                for child in children:
                    _kill(child)


def _resident_mb(process: Any) -> float:
    import psutil

    try:
        return process.memory_info().rss / 1e6
    except psutil.Error:  # it has just ended
        return 0.0


def _own_peak_mb(process: Any) -> float:
    """The process's own peak so far, 0 where the system does not keep it."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as lines:
            return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)
    except OSError:
        return 0.0


def _kill(process: Any) -> None:
    import psutil

    try:
        process.kill()
    except psutil.Error:
        pass
