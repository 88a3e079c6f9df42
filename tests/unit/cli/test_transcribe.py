"""`nsedge transcribe` against the fake service behind a real door."""

from __future__ import annotations

import io
import json
import struct
import types

import pytest

from nsedge.__main__ import main
from nsedge.api import Listen, Transcribe
from nsedge.cli.exits import ExitStatus


@pytest.fixture
def speech(tmp_path):
    path = tmp_path / "speech.wav"
    path.write_bytes(b"one two")
    return str(path)


def test_a_line_a_segment(daemon, speech, capsys):
    assert main(["transcribe", speech]) == 0
    said = capsys.readouterr()
    assert said.out == "one\ntwo\n"
    assert said.err.startswith("2.0 s of sound in ")
    assert said.err.endswith(" s · en\n")


def test_a_line_a_word(daemon, speech, capsys):
    assert main(["transcribe", "--words", "--quiet", speech]) == 0
    assert capsys.readouterr() == ("0.00\t0.50\tone\n1.00\t1.50\ttwo\n", "")


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("--srt", "1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n"),
        ("--vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none\n\n"),
    ],
)
def test_subtitles(daemon, speech, capsys, form, begins):
    assert main(["transcribe", form, speech]) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_json_is_an_object_a_file(daemon, speech, capsys):
    assert main(["transcribe", "--json", "--words", speech, speech]) == 0
    said = capsys.readouterr()
    first, second = (json.loads(line) for line in said.out.splitlines())
    assert first == second
    assert said.err == ""
    segments = first.pop("segments")
    assert first == {"file": speech, "language": "en", "duration_s": 2.0, "text": "one two"}
    assert [one["text"] for one in segments] == [" one", " two"]
    assert segments[1]["words"][0]["start_s"] == 1.0
    assert "request_id" not in segments[0]


def test_standard_input_is_a_file(daemon, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"from a pipe")))
    assert main(["transcribe", "-"]) == 0
    assert capsys.readouterr().out == "from\na\npipe\n"


def test_every_flag_is_passed_on(daemon, speech):
    flags = ["--language", "German", "--translate", "--prompt", "So", "--temperature", "0.8"]
    flags += ["--seed", "7", "--no-vad", "--priority", "batch", "--deadline", "60"]
    flags += ["--beams", "5", "--patience", "1.5"]
    assert main(["transcribe", "--quiet", *flags, speech]) == 0
    request = daemon.requests[-1]
    task = request.task
    assert isinstance(task, Transcribe)
    assert (task.language, task.translate, task.prompt) == ("de", True, "So")
    assert (task.temperatures, task.seed, task.vad) == ((0.8, 1.0), 7, False)
    assert (task.beams, task.patience) == (5, 1.5)
    assert (request.priority, request.deadline_s) == ("batch", 60.0)


def test_files_are_shown_in_order_and_none_sinks_another(daemon, tmp_path, capsys):
    names = []
    for number in range(10):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(f"said {number}".encode() if number != 3 else b"")
        names.append(str(path))
    names.insert(5, str(tmp_path / "missing.wav"))
    assert main(["transcribe", "--quiet", *names]) == ExitStatus.FAILURE
    said = capsys.readouterr()
    assert said.err == (
        f"nsedge: {names[3]} is empty\nnsedge: {names[5]}: No such file or directory\n"
    )
    heads = [line for line in said.out.splitlines() if line.startswith("==>")]
    there = [name for at, name in enumerate(names) if at not in (3, 5)]
    assert heads == [f"==> {name} <==" for name in there]


def test_what_cannot_be_is_told_in_a_line(daemon, speech, capsys):
    assert main(["transcribe", "--json", "--srt", speech]) == ExitStatus.USAGE
    assert main(["transcribe", "--language", "klingon", speech]) == ExitStatus.USAGE
    assert main(["transcribe", "--model", "none", speech]) == ExitStatus.FAILURE
    assert main(["transcribe", "/nowhere/at/all.wav"]) == ExitStatus.FAILURE
    daemon.tasks = ("chat",)
    assert main(["transcribe", speech]) == ExitStatus.FAILURE
    told = capsys.readouterr()
    assert "--json is no subtitles" in told.out
    lines = told.err.splitlines()
    assert len(lines) == 4
    assert "language must be a code such as en" in lines[0]
    assert "no model 'none'" in lines[1]
    assert "/nowhere/at/all.wav: No such file" in lines[2]
    assert "no model here transcribes" in lines[3]


def test_a_failure_says_whose_it_was(daemon, speech, capsys):
    daemon.fail_after = 2
    assert main(["transcribe", "--quiet", speech, speech]) == ExitStatus.FAILURE
    said = capsys.readouterr()
    assert said.err == f"nsedge: {speech}: the fake broke off as told\n" * 2


def samples(data):
    """What a recorder writes: a WAV header that tells no length, and samples."""
    form = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + form + b"data\xff\xff\xff\xff"
    return types.SimpleNamespace(buffer=io.BytesIO(head + data))


def test_sound_is_written_while_it_comes(daemon, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", samples(b"one two. three"))
    assert main(["transcribe", "--live", "--language", "de", "-"]) == 0
    said = capsys.readouterr()
    assert said.out == "one two. three\n"
    task = daemon.requests[-1].task
    assert isinstance(task, Listen)
    assert (task.form, task.rate, task.channels, task.language) == ("s16le", 16_000, 1, "de")


def test_samples_alone_and_other_forms_of_output(daemon, capsys, monkeypatch):
    raw = types.SimpleNamespace(buffer=io.BytesIO(b"one two"))
    monkeypatch.setattr("sys.stdin", raw)
    assert main(["transcribe", "--live", "--raw", "8000", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["text"], len(told["segments"])) == ("-", "one two", 1)
    assert daemon.requests[-1].task.rate == 8000
    monkeypatch.setattr("sys.stdin", samples(b"one"))
    assert main(["transcribe", "--live", "--srt"]) == 0
    assert "one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "a FILE is missing"),
        (["--live", "x.wav"], "--live hears standard input alone"),
        (["--microphone", "-"], "--microphone is heard alone"),
        (["--raw", "8000", "-"], "--raw is of what --live hears"),
        (["--live", "--seed", "1"], "--seed is of recordings"),
    ],
)
def test_what_cannot_be_heard_so_is_told(daemon, capsys, words, why):
    assert main(["transcribe", *words]) == ExitStatus.USAGE
    assert why in capsys.readouterr().err


def test_a_recorder_that_writes_something_else_is_told(daemon, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"fLaC" * 20)))
    assert main(["transcribe", "--live", "-"]) != 0
    assert "sound that comes is WAV" in capsys.readouterr().err
