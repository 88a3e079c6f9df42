"""A throw-away machine with a real systemd: this one's root file system under an overlay that is
forgotten, in a container whose process 1 is systemd."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

BOOT_S = 60.0
COMMAND_S = 120.0
POLL_S = 0.1
BOOTED = ("running", "degraded")
NSPAWN = "systemd-nspawn"
_BOOT = 'mount --bind / "$0" && exec "$@"'


def why_not() -> str | None:
    """What is missing here for a machine; None where one can be booted."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if shutil.which(NSPAWN) is None:
        return "no systemd-nspawn here (Debian: apt install systemd-container)"
    return None


class Machine:
    """A booted machine, and how to do things in it."""

    def __init__(self, init: int) -> None:
        self._init = init

    def run(
        self,
        *words: str,
        check: bool = True,
        timeout_s: float = COMMAND_S,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root.

        Raises:
            AssertionError: it fails, and `check` is true; with all that it said.
        """
        done = subprocess.run(
            self._command(words, variables),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout}\n{done.stderr}"
            raise AssertionError(f"{words} ended with {done.returncode}:\n{said}")
        return done

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command as root, with its output in a pipe."""
        return subprocess.Popen(
            self._command(words, variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit logged, and what systemd said of it."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file, and make its directories."""
        subprocess.run(
            self._command(("sh", "-c", 'mkdir -p "${0%/*}" && cat >"$0"', path), {}),
            input=text,
            text=True,
            check=True,
        )

    def until(self, truth: Callable[[], object], *, within_s: float, what: str) -> None:
        """Wait for `truth`.

        Raises:
            AssertionError: it does not come true.
        """
        deadline_s = time.monotonic() + within_s
        while not truth():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {within_s:g} s: {what}")
            time.sleep(POLL_S)

    def _command(self, words: tuple[str, ...], variables: Mapping[str, str]) -> list[str]:
        own = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"]
        given = [f"{name}={value}" for name, value in variables.items()]
        enter = ["nsenter", "-t", str(self._init), "-a"]
        return [*enter, "env", "-i", "--chdir=/", *own, *given, *words]


@contextlib.contextmanager
def booted(folder: Path, binds: Mapping[Path, str]) -> Iterator[Machine]:
    """Boot a machine that sees the keys of `binds` read-only at their values; `folder` is its own.

    Raises:
        AssertionError: it does not come up.
    """
    root = folder / "root"
    root.mkdir()
    console = folder / "console"
    with console.open("wb") as output:
        container = subprocess.Popen(
            # The mount ends with the namespace, however this ends.
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, str(root)]
            + [NSPAWN, "--quiet", "--register=no", "--keep-unit", "--volatile=overlay"]
            + ["--link-journal=no", f"--uuid={secrets.token_hex(16)}", "-D", str(root)]
            + [f"--bind-ro={path}:{place}" for path, place in binds.items()]
            + ["--boot", "--console=pipe", "systemd.unit=basic.target"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    init = 0
    try:
        init = _wait_for_boot(container, console)
        yield Machine(init)
    finally:
        for pid in (init, container.pid):
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        container.wait()


def _wait_for_boot(container: subprocess.Popen[bytes], console: Path) -> int:
    """The process that is 1 in there."""
    deadline_s = time.monotonic() + BOOT_S
    state = ""
    while time.monotonic() < deadline_s and container.poll() is None:
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
        if children.split():
            init = int(children.split()[0])
            asked = Machine(init).run("systemctl", "is-system-running", check=False)
            state = asked.stdout.strip()
            if state in BOOTED:
                return init
        time.sleep(POLL_S)
    said = console.read_text(errors="replace")[-2000:]
    raise AssertionError(f"systemd did not come up ({state}):\n{said}")
