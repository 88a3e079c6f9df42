"""A machine on which nsedge was installed as docs/systemd.md says, with the starter model."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import starter_bundle
from tests.systemd.machine import Machine, booted, why_not

__all__ = ["starter_bundle"]

CHECKOUT = Path(__file__).parents[2]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PREFIX, LIBRARIES, INTERPRETER = "/opt/nsedge", "/opt/libraries", "/opt/python"
SETTINGS = """home = "/var/lib/nsedge"
[core]
endpoint = "ipc:///run/nsedge/nsedge.sock"
drain_s = 20
[engine]
slots = 4
context_tokens = 1024
threads = 1
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nsedge as it is shipped, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    left_out = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("nsedge", "exporters", "systemd"):
        shutil.copytree(CHECKOUT / name, source / name, symlinks=True, ignore=left_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-q", "-w", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def machine(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    """Booted once; skipped where that cannot be."""
    if (lacking := why_not()) is not None:
        pytest.skip(lacking)
    bundle: Path = request.getfixturevalue("starter_bundle")
    wheel: Path = request.getfixturevalue("wheel")
    binds = {
        Path(sysconfig.get_paths()["purelib"]): LIBRARIES,
        wheel.parent: "/opt/wheel",
        CHECKOUT / "systemd": "/opt/checkout/systemd",
        CHECKOUT / ".locks": "/opt/checkout/.locks",
        Path(__file__).parent: "/opt/tests",
        bundle: f"/var/lib/nsedge/bundles/{bundle.name}",
    }
    system = Path(f"/usr/bin/{VERSION}")
    if not system.exists():
        binds[Path(sys.base_prefix)] = INTERPRETER
    with booted(tmp_path_factory.mktemp("machine"), binds) as machine:
        python = str(system) if system.exists() else f"{INTERPRETER}/bin/{VERSION}"
        _install(machine, python, f"/opt/wheel/{wheel.name}")
        yield machine


def _install(machine: Machine, python: str, wheel: str) -> None:
    """By the script for plain machines, with the libraries that are here instead of an index: they
    have the versions that the lock file names, or nothing can be installed."""
    unprivileged = machine.run("setpriv", "--reuid=65534", python, "-c", "", check=False)
    if unprivileged.returncode:
        pytest.skip(f"services cannot run this Python: {unprivileged.stderr}")
    machine.run(python, "-m", "venv", "--without-pip", PREFIX)
    machine.write(f"{PREFIX}/lib/{VERSION}/site-packages/libraries.pth", LIBRARIES)
    machine.write("/etc/nsedge/nsedge.toml", SETTINGS)
    machine.run(
        *("/opt/checkout/systemd/install.sh", "--no-start", wheel),
        PYTHON=python,
        PIP_NO_INDEX="1",
    )
    machine.write(
        "/etc/systemd/system/nsedge-web.service.d/libraries.conf",
        f"[Service]\nBindReadOnlyPaths={LIBRARIES}\n",
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("useradd", "--groups", "nsedge", "friend")
    machine.run("useradd", "stranger")


@pytest.fixture
def daemon(machine: Machine) -> Iterator[Machine]:
    """The machine with both services up, started anew."""
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "start", "nsedge.socket", "nsedge-web.socket")
    machine.run("systemctl", "restart", "nsedge.service", "nsedge-web.service")
    yield machine
    machine.run("systemctl", "stop", "nsedge.service", "nsedge-web.service", check=False)
