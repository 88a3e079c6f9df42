"""The installed units under a real systemd: they start, answer, drain, reload, hang and recover."""

from __future__ import annotations

import pytest

from tests.systemd.machine import Machine

pytestmark = pytest.mark.systemd
MODEL = "smollm2-135m-instruct"
NSEDGE = "/opt/nsedge/bin/nsedge"
ENDPOINT = "ipc:///run/nsedge/nsedge.sock"
QUESTION = (NSEDGE, "run", "--quiet", MODEL, "--temperature", "0", "Name the capital of France.")


def as_user(name: str, *words: str) -> tuple[str, ...]:
    return ("runuser", "-u", name, "--", *words)


def test_a_client_is_answered_once_the_units_are_ready(daemon: Machine) -> None:
    assert daemon.show("nsedge.service", "ActiveState") == "active"
    assert MODEL in daemon.show("nsedge.service", "StatusText")
    said = daemon.run(*as_user("friend", *QUESTION), NSEDGE_ENDPOINT=ENDPOINT)
    assert "Paris" in said.stdout
