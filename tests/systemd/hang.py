"""Stop one thread of a process for good, as a driver that never returns would: the one that used
most of the processor in the last second. Ends when the process does.

usage: hang.py PID
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WAIT_ALL = 0x40000000
LOOK_S = 1.0


def used(pid: int) -> dict[int, int]:
    """Thread -> clock ticks it ran."""
    ticks = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        ticks[int(task.name)] = int(fields[11]) + int(fields[12])
    return ticks


def busiest(pid: int) -> int:
    """The thread that works hardest, and is not the first one."""
    before = used(pid)
    time.sleep(LOOK_S)
    after = used(pid)
    return max((each for each in after if each != pid), key=lambda t: after[t] - before.get(t, 0))


def main() -> None:
    pid = int(sys.argv[1])
    thread = busiest(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, thread, None, None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    print(f"thread {thread} is stopped", flush=True)
    while Path(f"/proc/{pid}").exists():
        with contextlib.suppress(ChildProcessError):  # whoever traces a thread has to bury it, too
            os.waitpid(thread, WAIT_ALL | os.WNOHANG)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
