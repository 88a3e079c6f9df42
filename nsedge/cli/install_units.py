"""`nsedge install-units`: the systemd units, user, directories and settings file of the daemon."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.config import reader as config
from nsedge.errors import ConfigInvalid, NsedgeError
from nsedge.process import console

PREFIX = "/opt/nsedge"
"""Where the units as they come say that nsedge is."""
PLACES = {
    ".service": "etc/systemd/system",
    ".socket": "etc/systemd/system",
    ".sysusers": "etc/sysusers.d",
    ".tmpfiles": "etc/tmpfiles.d",
    ".toml": "etc/nsedge",
}
SOCKETS = ("nsedge.socket", "nsedge-web.socket")
SERVICES = ("nsedge.service", "nsedge-web.service")
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""Folders that the units' processes do not see, or see another of."""
WAITS_FOR_RELOAD = 253
"""The first systemd that knows Type=notify-reload."""
ANSWER_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file, and whether it is new, as it was before, or left to the person who changed it."""

    path: Path
    state: str


def run(loaded: config.Loaded, options: argparse.Namespace) -> int:
    """Write the files; on a running system, make user and directories, and start where asked to.

    Raises:
        ConfigInvalid: nsedge is installed where units cannot reach it.
        NsedgeError: systemd refuses something.
    """
    live = options.root == Path("/")
    prefix = program_prefix(Path(sys.prefix), Path(sys.base_prefix)) if live else Path(PREFIX)
    if live and os.geteuid() != 0:
        raise NsedgeError("units are root's to install: run this with sudo")
    base = Path(sys.base_prefix) if live else Path("/usr")
    written = write(options.root, prefix=prefix, base=base, systemd=_version() if live else 0)
    if live:
        _call("systemd-sysusers", "nsedge.conf")
        _call("systemd-tmpfiles", "--create", "nsedge.conf")
        _call("systemctl", "daemon-reload")
        if options.now:
            _call("systemctl", "enable", *SOCKETS, *SERVICES)
            _call("systemctl", "restart", *SERVICES)
    if options.json:
        output.say_json({"files": [{"path": str(w.path), "state": w.state} for w in written]})
    else:
        console.say(*(f"{one.state:9} {one.path}" for one in written))
        if live and not options.now:
            console.say(f"next: systemctl enable --now {' '.join((*SOCKETS, *SERVICES))}")
    return ExitStatus.OK


def program_prefix(prefix: Path, base: Path) -> Path:
    """`prefix`, where units can reach it and the interpreter at `base`.

    Raises:
        ConfigInvalid: they cannot; the message says what to do.
    """
    for path in (prefix, base):
        hidden = next((top for top in HIDDEN if path.is_relative_to(top)), None)
        if hidden is not None:
            raise ConfigInvalid(
                f"{path} is below {hidden}, which services do not see: install nsedge in {PREFIX}"
                " with a Python of the system (systemd/install.sh does that)"
            )
    return prefix


def write(root: Path, *, prefix: Path, base: Path, systemd: int) -> list[Written]:
    """Write every file below `root`. Settings that are there stay as they are.

    - prefix, base: where nsedge is, and the interpreter that it runs on.
    - systemd: the version to write for, 0 where it is not known.
    """
    done = []
    for name, text in sorted(sources().items()):
        suffix = Path(name).suffix
        target = name if suffix in (".service", ".socket", ".toml") else f"{Path(name).stem}.conf"
        path = root / PLACES[suffix] / target
        if suffix == ".service":
            text = adapted(text, prefix=prefix, base=base, systemd=systemd)
        done.append(_put(path, text, keep=suffix == ".toml"))
    return done


def sources() -> dict[str, str]:
    """The files that come with nsedge, by name."""
    folder = resources.files("nsedge") / "units"
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if Path(entry.name).suffix in PLACES
    }


def adapted(text: str, *, prefix: Path, base: Path, systemd: int) -> str:
    """A unit for nsedge in `prefix`, on an interpreter in `base`, and for that systemd."""
    seen = f"BindReadOnlyPaths={prefix}"
    if not base.is_relative_to("/usr") and base != prefix:
        seen += f" {base}"
    text = text.replace(f"BindReadOnlyPaths={PREFIX}", seen).replace(PREFIX, str(prefix))
    if systemd >= WAITS_FOR_RELOAD:
        text = text.replace("Type=notify\n", "Type=notify-reload\n")
        text = re.sub(r"^ExecReload=.*\n", "", text, flags=re.MULTILINE)
    return text


def _put(path: Path, text: str, *, keep: bool) -> Written:
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    if before is not None and (keep or before == text):
        return Written(path=path, state="kept" if before != text else "unchanged")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return Written(path=path, state="written")


def _version() -> int:
    """The running systemd's version.

    Raises:
        NsedgeError: there is none.
    """
    if not Path("/run/systemd/system").is_dir():
        raise NsedgeError("this machine was not booted with systemd; --root DIR only writes files")
    found = re.match(r"systemd (\d+)", _call("systemctl", "--version"))
    return int(found[1]) if found else 0


def _call(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or f"status {error.returncode}"
        raise NsedgeError(f"`{' '.join(words)}` failed: {' '.join(said.split())}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NsedgeError(f"`{' '.join(words)}` failed: {error}") from error
    return done.stdout
