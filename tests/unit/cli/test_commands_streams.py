"""Commands whose input, output or terminal fails them, and Ctrl-C."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys

import pytest

from nsedge.__main__ import main
from nsedge.cli.exits import ExitStatus
from tests.fake_daemon import fake_daemon
from tests.fakes import MODEL, FakeService
from tests.unit.cli.said import objects

pytestmark = pytest.mark.usefixtures("home")


def spawn(*words: str | bytes, stdin: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nsedge", *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serving_without_a_bundle_says_how_to_make_one():
    with spawn("serve") as process:
        said, told = process.communicate(timeout=60)
    assert process.returncode == ExitStatus.FAILURE
    assert said == ""
    assert told.startswith("nsedge: no bundle in ")
    assert told.endswith("`nsedge-export starter` makes one\n")


@pytest.mark.parametrize("flag", ["models.load", "models.pin"])
def test_a_model_that_the_settings_name_and_is_not_there_is_a_wrong_setting(flag):
    with spawn("serve", "--set", f"{flag}=none") as process:
        said, told = process.communicate(timeout=60)
    assert process.returncode == ExitStatus.USAGE
    assert said == ""
    assert told.count("\n") == 1
    assert told.startswith(f"nsedge: {flag}: no bundle at ")


def test_an_output_that_takes_nothing_is_told(daemon):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nsedge", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == ExitStatus.FAILURE
    assert done.stderr == "nsedge: standard output: No space left on device\n"


COMMANDS = [
    ["run", MODEL, "é ☀"],
    ["run", "--json", MODEL, "é ☀"],
    ["run", "é☀", "x"],
    ["run", "--json", "é☀", "x"],
    ["run", "--é☀"],
    ["chat", "é☀"],
    ["models"],
    ["models", "--json"],
    ["stats"],
    ["usage"],
    ["load", MODEL],
    ["load", "é☀"],
    ["unload", MODEL],
    ["reload", MODEL],
    ["alias", "é☀", MODEL],
    ["top", "--once", "--interval", "0.1"],
    ["doctor"],
    ["keys", "add", "é☀"],
    ["keys", "list"],
    ["models", "--config", "/é☀"],
    ["--help"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_terminal_that_knows_no_such_character_gets_another(words, daemon, monkeypatch):
    daemon.aliases = {"é☀", "a\x1b[31mb"}
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    said, told = out.buffer.getvalue().decode(), err.buffer.getvalue().decode()
    assert "\x1b" not in said + told
    assert said if status == ExitStatus.OK or "doctor" in words else said + told
    if words[:2] == ["run", MODEL]:
        assert said == "? ?\n"
    if words[:3] == ["run", "--json", MODEL]:
        assert "".join(event.get("text", "") for event in objects(said)) == "é ☀"


def test_a_prompt_that_is_no_text_is_refused(daemon):
    with spawn("run", MODEL, stdin=subprocess.PIPE) as process:
        process.stdin.buffer.write(b"a \xff b")
        said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (ExitStatus.USAGE, "")
    assert told == (
        "nsedge: the prompt on standard input is not text: byte 0xff after 2 characters is no"
        " text\n"
    )


def test_an_argument_that_is_no_text_is_refused(daemon):
    with spawn("run", MODEL, b"a \xff b") as process:
        said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (ExitStatus.USAGE, "")
    assert told.startswith("nsedge: an argument is not text: byte 0xff after 2 characters")
    assert told.count("\n") == 1


def test_a_line_of_a_chat_that_is_no_text_is_not_sent(daemon):
    with spawn("chat", "--quiet", MODEL, stdin=subprocess.PIPE) as process:
        process.stdin.buffer.write(b"a \xff b\nmore\n")
        said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "more\n")
    assert told == "not sent: byte 0xff after 2 characters is no text\n"
    assert daemon.accepted == 1


@pytest.mark.parametrize("words", [["run", MODEL, "x"], ["models", "--json"], ["--help"]])
def test_an_output_that_was_closed_is_told(words, daemon):
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "nsedge", *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == ExitStatus.FAILURE
    assert done.stderr == "nsedge: standard output is closed\n"


@pytest.mark.parametrize("words", [["doctor"], ["run", "nope", "x", "--json"], ["--help"]])
def test_an_output_without_a_reader_ends_quietly(words, daemon):
    with spawn(*words) as process:
        process.stdout.close()
        told = process.stderr.read()
        assert (process.wait(60), told) == (ExitStatus.CLOSED_OUTPUT, "")


def test_figures_that_nobody_reads_cost_no_answer(daemon):
    with spawn("run", MODEL, "one two") as process:
        process.stderr.close()
        assert process.stdout.read() == "one two\n"
        assert process.wait(60) == ExitStatus.OK


def test_an_alias_with_control_characters_is_refused(daemon, capsys):
    assert main(["alias", "a\x1b[31mb", MODEL]) == ExitStatus.USAGE
    said = capsys.readouterr()
    assert said == ("", "nsedge: an alias has no control characters: 'a\\x1b[31mb'\n")
    assert not daemon.aliases


def test_ctrl_c_cancels_the_request(home):
    service = FakeService(pace_s=0.01, repeat=10_000)
    with fake_daemon(home, service):
        with spawn("run", MODEL, "again ") as process:
            assert process.stdout.read(5) == "again"
            process.send_signal(signal.SIGINT)
            said, told = process.communicate(timeout=60)
        assert process.returncode == ExitStatus.INTERRUPTED
        assert said.endswith("\n")
        assert told.endswith("cancelled\n")
    assert service.cancelled == 1


def test_a_closed_output_ends_quietly_and_cancels(home):
    service = FakeService(pace_s=0.01, repeat=10_000)
    with fake_daemon(home, service):
        with spawn("run", MODEL, "again ") as process:
            assert process.stdout.read(5) == "again"
            process.stdout.close()
            told = process.stderr.read()
            assert process.wait(20) == ExitStatus.CLOSED_OUTPUT
        assert told == ""
    assert service.cancelled == 1


def test_ctrl_c_in_a_chat_ends_the_answer_and_not_the_talk(home):
    service = FakeService(pace_s=0.01, repeat=10_000)
    with fake_daemon(home, service):
        process = subprocess.Popen(
            [sys.executable, "-m", "nsedge", "chat", "--json", MODEL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            process.stdin.write("hello \n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["type"] == "started"
            process.send_signal(signal.SIGINT)
            said, told = process.communicate("/exit\n", timeout=60)
        assert process.returncode == 0, told
        assert json.loads(said.splitlines()[-1])["reason"] == "cancelled"
