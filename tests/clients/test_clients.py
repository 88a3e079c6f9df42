"""Clients that are not ours run their own first examples against a real daemon.

Each program below is a script of checks, run in an environment of its own; it prints the name of
every check that holds, and ends with an error at the first that does not.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.environments import HERE, PACKAGES, node_folder, python_of

INSTALL_S = 1800
LIMIT_S = 600
pytestmark = [pytest.mark.clients, pytest.mark.timeout(INSTALL_S + LIMIT_S)]
NODE = sorted(script.stem for script in (HERE / "node").glob("*.mjs") if script.stem != "checking")


def run(command: list[str], folder: Path, daemon: dict[str, str], least: int) -> None:
    """Run a program, which tells at least `least` checks."""
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean | daemon,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.split()) >= least


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_python_client(name: str, daemon: dict[str, str]) -> None:
    script = HERE / "python" / f"{name}_client.py"
    run([str(python_of(name)), str(script)], script.parent, daemon, least=4)


@pytest.mark.parametrize("name", NODE)
def test_a_node_client(name: str, daemon: dict[str, str]) -> None:
    folder = node_folder()
    run(["node", f"{name}.mjs"], folder, daemon, least=4)


def test_every_program_is_run() -> None:
    scripts = {script.stem for script in (HERE / "python").glob("*_client.py")}
    assert scripts == {f"{name}_client" for name in PACKAGES}
    assert NODE
