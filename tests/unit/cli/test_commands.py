"""Commands against the fake service behind a real door."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from nsedge.__main__ import main
from nsedge.api import Delta, MediaRead
from nsedge.cli.exits import ExitStatus
from nsedge.version import VERSION
from tests.fake_daemon import fake_daemon
from tests.fakes import DIMENSIONS, MASK, MODEL, FakeService, vector
from tests.unit.bundles import edit_manifest, write_bundle


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "NSEDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_ENDPOINT", f"ipc://{tmp_path}/core.sock")
    return tmp_path


@pytest.fixture
def daemon(home):
    service = FakeService()
    with fake_daemon(home, service):
        yield service


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_streams_the_text_and_tells_the_figures(daemon, capsys):
    assert main(["run", MODEL, "one two", "three"]) == 0
    said = capsys.readouterr()
    assert said.out == "one two three\n"
    assert said.err.startswith("3 + 3 tokens · first token ")
    assert said.err.endswith(" stop\n")


def test_quiet_tells_no_figures(daemon, capsys):
    assert main(["run", "--quiet", "--raw", MODEL, "one"]) == 0
    assert capsys.readouterr() == ("one\n", "")


def test_run_tells_each_event_as_json(daemon, capsys):
    assert main(["run", "--json", MODEL, "one two"]) == 0
    events = objects(capsys.readouterr().out)
    assert [event["type"] for event in events] == ["started", "delta", "delta", "finished"]
    usage = {"prompt_tokens": 2, "completion_tokens": 2, "cached_tokens": 0}
    assert events[-1]["usage"] == {
        **usage,
        "audio_s": 0.0,
        "images": 0,
        "steps": 0,
        "media_tokens": 0,
    }
    assert set(events[-1]["seen"]) == {"first_token_s", "tokens_per_s"}


def test_the_prompt_comes_from_standard_input(daemon, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert main(["run", MODEL]) == 0
    assert capsys.readouterr().out == "from a pipe\n"


def test_an_empty_prompt_is_refused(daemon, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert main(["run", MODEL]) == ExitStatus.USAGE
    assert capsys.readouterr().err == "nsedge: the prompt on standard input is empty\n"


def test_an_unknown_model_is_refused(daemon, capsys):
    assert main(["run", "nope", "x"]) == ExitStatus.FAILURE
    assert capsys.readouterr().err == "nsedge: no model 'nope' here\n"


def test_an_error_as_json(daemon, capsys):
    assert main(["run", "--json", "nope", "x"]) == ExitStatus.FAILURE
    (told,) = objects(capsys.readouterr().out)
    assert told["error"]["code"] == "unknown_model"


def test_a_stream_that_breaks_off_ends_its_line(daemon, capsys):
    daemon.fail_after = 1
    assert main(["run", MODEL, "one two"]) == ExitStatus.FAILURE
    said = capsys.readouterr()
    assert said.out == "one\n"
    assert said.err == "nsedge: the fake broke off as told\n"


def test_a_system_message_and_raw_exclude_each_other(daemon, capsys):
    assert main(["run", "--raw", "--system", "s", MODEL, "x"]) == ExitStatus.USAGE
    assert "--raw" in capsys.readouterr().err


def test_models_and_stats(daemon, capsys):
    assert main(["models"]) == main(["stats"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].split()[:5] == ["echo", "ready", "-", "-", "0"]
    assert "0 requests accepted" in said
    assert main(["models", "--json"]) == main(["stats", "--json"]) == 0
    models, stats = objects(capsys.readouterr().out)
    assert models["models"][0]["name"] == MODEL
    assert stats["models"][MODEL]["waiting"] == 0


def test_a_model_that_does_not_chat_may_continue_a_text(daemon, capsys):
    daemon.tasks = ("generate",)
    assert main(["run", MODEL, "x"]) == ExitStatus.FAILURE
    hint = "--raw has it continue the prompt as a plain text"
    assert capsys.readouterr().err == f"nsedge: {MODEL} does not chat; {hint}\n"
    assert main(["run", MODEL, "--raw", "--quiet", "x"]) == 0
    daemon.tasks = ("embed",)
    assert main(["run", MODEL, "x"]) == ExitStatus.FAILURE
    assert capsys.readouterr().err == f"nsedge: {MODEL} does not chat\n"


def test_models_are_loaded_and_unloaded(daemon, capsys):
    daemon.loaded = False
    words = ["load", MODEL, "--keep-alive", "5m", "--pin", "--exclusive", "--no-wait"]
    assert main([*words, "--priority", "interactive"]) == 0
    assert capsys.readouterr().out == f"{MODEL}: loaded\n"
    (wish,) = daemon.wishes
    assert (wish.keep_alive_s, wish.pin, wish.exclusive, wish.wait) == (300.0, True, True, False)
    assert main(["load", MODEL]) == main(["reload", MODEL]) == 0
    assert "already loaded" in capsys.readouterr().out
    assert main(["unload", MODEL]) == main(["unload", "--all"]) == 0
    assert capsys.readouterr().out == f"{MODEL}\nnothing was in memory\n"
    assert main(["unload"]) == ExitStatus.USAGE
    with pytest.raises(SystemExit, match="2"):
        main(["load", MODEL, "--keep-alive", "soon"])
    assert main(["load", "no-such-model"]) == ExitStatus.FAILURE


def test_aliases_and_usage(daemon, capsys):
    assert main(["alias", "nick", MODEL]) == main(["run", "--quiet", "nick", "x"]) == 0
    assert capsys.readouterr().out == f"nick -> {MODEL}\nx\n"
    assert main(["usage"]) == 0
    told = capsys.readouterr().out
    assert f"worth having in memory, by score: {MODEL} (100%)" in told
    assert main(["usage", "--json"]) == main(["alias", "nick", "--json"]) == 0
    usage, alias = objects(capsys.readouterr().out)
    assert usage["models"][MODEL]["priority_score"] == 0.5
    assert alias == {"alias": "nick", "model": None, "unkept": None}


def test_what_is_not_kept_over_a_restart_is_told(daemon, capsys):
    daemon.unkept = "No space left on device"
    assert main(["alias", "nick", MODEL]) == 0
    assert capsys.readouterr() == (
        f"nick -> {MODEL}\n",
        "nsedge: this holds until the daemon stops, but is not kept over a restart:"
        " No space left on device\n",
    )
    assert main(["usage", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["unkept"] == "No space left on device"
    assert (
        said.err == "nsedge: these figures are not kept over a restart: No space left on device\n"
    )


def test_run_says_that_its_model_is_loading(daemon, capsys):
    daemon.load_steps = 3
    assert main(["run", MODEL, "x"]) == 0
    assert capsys.readouterr().err.startswith(f"loading {MODEL} ...\n")
    assert main(["run", "--json", MODEL, "x"]) == 0
    events = objects(capsys.readouterr().out)
    assert [event["type"] for event in events][:4] == ["loading"] * 3 + ["started"]


@pytest.mark.parametrize("words", [["models"], ["stats"], ["run", MODEL, "x"], ["chat", MODEL]])
def test_no_daemon_is_told_at_once(words, capsys):
    assert main(words) == ExitStatus.UNAVAILABLE
    told = capsys.readouterr().err
    assert "start one with `nsedge up`" in told
    assert told.count("\n") == 1


def test_a_fault_in_the_settings_ends_every_command(home, capsys):
    (home / "n.toml").write_text("[core]\nendpont = 'x'\n", encoding="utf-8")
    assert main(["models", "--config", str(home / "n.toml")]) == ExitStatus.USAGE
    told = capsys.readouterr().err
    assert told == (
        f"nsedge: {home}/n.toml: core.endpont: no such setting; did you mean core.endpoint?\n"
    )


def converse(monkeypatch, *lines: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return main(["chat", "--quiet", MODEL])


def test_chat_goes_on_turn_by_turn(daemon, capsys, monkeypatch):
    assert converse(monkeypatch, "one two", "", "/reset", "/what", "three", "/exit", "four") == 0
    said = capsys.readouterr()
    assert said.out == "one two\nthree\n"
    assert said.err.startswith("no command /what")
    assert daemon.accepted == 2


def test_chat_outlives_a_failed_turn(daemon, capsys, monkeypatch):
    daemon.max_requests = 0
    assert converse(monkeypatch, "one", "two") == 0
    assert capsys.readouterr().err.count("the queue is full (/reset forgets") == 2


def test_chat_with_an_unknown_model_says_which_there_are(daemon, capsys):
    assert main(["chat", "nope"]) == ExitStatus.FAILURE
    assert capsys.readouterr().err == "nsedge: no model 'nope' here; served: echo\n"


def test_doctor_tells_each_fault_and_what_to_do(daemon, capsys):
    assert main(["doctor", "--json"]) == ExitStatus.FAILURE
    (report,) = objects(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["python"]["state"] == "ok"
    assert checks["bundles"]["state"] == "fault"
    assert f"not of this release, {VERSION}" in checks["core"]["remedy"]
    assert checks["model"]["detail"] == "echo: ready, fake on none"
    settings = {each["key"]: each["from"] for each in report["settings"]}
    assert settings["core.endpoint"] == "NSEDGE_ENDPOINT"
    assert settings["web.port"] == "default"


def test_doctor_says_what_each_door_asks_for(home, monkeypatch, capsys):
    main(["doctor", "--json"])
    (report,) = objects(capsys.readouterr().out)
    (access,) = [check for check in report["checks"] if check["name"] == "access"]
    assert access["detail"] == (
        "socket mode 0600; HTTP at 127.0.0.1 asks for nothing, in clear text"
    )
    monkeypatch.setenv("NSEDGE_WEB_KEYS", str(home / "none.json"))
    main(["doctor", "--json"])
    (report,) = objects(capsys.readouterr().out)
    told, fault = [check for check in report["checks"] if check["name"] == "access"]
    assert "asks for an API key" in told["detail"]
    assert fault["state"] == "fault"
    assert "none.json: No such file" in fault["detail"]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({}, "tiny: whole; cpu (cpu); "),
        ({"format_version": 99}, "format version 99; this release reads 1 and 2"),
        ({"vocab_size": 260}, "tokenizer.json: the tokenizer knows 260 '<|system|>', and"),
        ({"generation_defaults": {"repetition_penalty": 0}}, "repetition_penalty must be above 0"),
    ],
)
def test_doctor_says_of_a_bundle_whether_it_can_be_served(home, capsys, changes, detail):
    edit_manifest(write_bundle(home / "bundles" / "tiny"), **changes)
    main(["doctor", "--json"])
    (report,) = objects(capsys.readouterr().out)
    (check,) = [check for check in report["checks"] if check["name"] == "bundle"]
    assert check["state"] == ("fault" if changes else "ok")
    assert detail in check["detail"]
    assert ("update nsedge" in str(check["remedy"])) == ("format_version" in changes)


def test_doctor_without_a_daemon_says_so(capsys):
    assert main(["doctor"]) == ExitStatus.FAILURE
    said = capsys.readouterr().out
    assert "fault  core         not running" in said
    assert "`nsedge serve`" in said
    assert "CPUExecutionProvider" in said


def test_doctor_does_not_take_a_provider_for_a_gpu(monkeypatch, capsys):
    monkeypatch.setenv("NSEDGE_ENGINE_DEVICE", "cuda")
    monkeypatch.setattr("nsedge.runtime.graph.cuda.device_count", lambda: 0)
    assert main(["doctor", "--json"]) == ExitStatus.FAILURE
    (report,) = objects(capsys.readouterr().out)
    (device,) = [check for check in report["checks"] if check["name"] == "device"]
    assert device["state"] == "fault"
    assert "CUDAExecutionProvider" in device["detail"]


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


def test_embed_gives_a_line_of_numbers_for_each_text(daemon, capsys, monkeypatch, tmp_path):
    assert main(["embed", MODEL, "one", "two words"]) == 0
    said = capsys.readouterr()
    wanted = [np.frombuffer(vector(text), "<f4").tolist() for text in ("one", "two words")]
    assert [json.loads(line) for line in said.out.splitlines()] == wanted
    assert said.err.startswith(f"2 x {DIMENSIONS} numbers of ")
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo words\n"))
    out = tmp_path / "vectors.npy"
    assert main(["embed", MODEL, "--quiet", "--out", str(out), "--dimensions", "2"]) == 0
    assert capsys.readouterr() == ("", "")
    assert np.load(out).tolist() == [
        np.frombuffer(vector(text, 2), "<f4").tolist() for text in ("one", "two words")
    ]
    assert main(["embed", "--json", MODEL, "one"]) == 0
    assert objects(capsys.readouterr().out) == [{"index": 0, "embedding": wanted[0]}]


def test_embed_tells_what_it_cannot(daemon, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert main(["embed", MODEL]) == ExitStatus.USAGE
    assert main(["embed", MODEL, "a", "--out", str(tmp_path / "no" / "file")]) == ExitStatus.FAILURE
    assert main(["embed", MODEL, "a", "--dimensions", "0"]) == ExitStatus.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "standard input holds no text" in lines[0]
    assert "No such file" in lines[1]
    assert "dimensions must be at least 1" in lines[2]


def test_classify_gives_a_line_of_labels_for_each_text(daemon, capsys, monkeypatch):
    assert main(["classify", MODEL, "one", "two"]) == 0
    said = capsys.readouterr()
    assert said.out == "long 0.7500\tshort 0.2500\n" * 2
    assert said.err.startswith("2 texts of ")
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
    assert main(["classify", MODEL, "--json", "--top-k", "1", "--activation", "softmax"]) == 0
    (told,) = objects(capsys.readouterr().out)
    assert told == {"index": 0, "labels": [{"label": "long", "score": 0.75}]}
    with pytest.raises(SystemExit, match="2"):
        main(["classify", MODEL, "x", "--aggregation", "some"])
    assert "is none of none, simple, first, average, max" in capsys.readouterr().err


def test_classify_gives_a_line_for_each_span(daemon, capsys):
    assert main(["classify", MODEL, "Marta", "--aggregation", "first", "--quiet"]) == 0
    assert capsys.readouterr() == ("0\t0-5\tPER\t0.7500\tMarta\n", "")


def test_rerank_puts_the_best_first(daemon, capsys):
    assert main(["rerank", MODEL, "which?", "a", "ccc", "bb", "--top", "2"]) == 0
    said = capsys.readouterr()
    assert said.out == "3.0000\tccc\n2.0000\tbb\n"
    assert said.err.startswith("3 documents of ")
    assert main(["rerank", MODEL, "which?", "a", "--json"]) == 0
    assert objects(capsys.readouterr().out) == [{"index": 0, "score": 1.0, "document": "a"}]


def test_fill_gives_a_line_for_each_mask(daemon, capsys):
    assert main(["fill", MODEL, f"a {MASK} and {MASK}", "--top-k", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == "t0 0.5000\tt1 0.5000\n" * 2
    assert main(["fill", MODEL, f"a {MASK}", "--top-k", "1", "--json"]) == 0
    (told,) = objects(capsys.readouterr().out)
    assert told == {"index": 0, "masks": [[{"token_id": 0, "token": " t0", "score": 0.5}]]}


@pytest.fixture
def shown(tmp_path):
    picture, sound = tmp_path / "quay.png", tmp_path / "said.wav"
    picture.write_bytes(b"\x89PNG\r\n")
    sound.write_bytes(b"RIFF")
    return str(picture), str(sound)


def test_run_shows_pictures_and_recordings_in_their_order(daemon, shown, capsys):
    picture, sound = shown
    read = MediaRead(
        request_id="x", place=sound, media_type="audio/unknown", task="transcribe", model="ears",
        text="so it is", took_s=0.5,
    )  # fmt: skip
    asked = "Well? audio/unknown=4 image/png=6"
    daemon.shows[asked] = (
        read,
        Delta(request_id="x", seq=0, text="Yes.", token_ids=(1,)),
    )
    assert main(["run", MODEL, "--audio", sound, "--image", picture, "Well?"]) == 0
    said = capsys.readouterr()
    assert said.out == "Yes.\n"
    assert said.err.startswith(f"{sound}: so it is (ears)\n")
    (message,) = daemon.requests[-1].task.messages
    assert [one.place for one in message.content[:2]] == [sound, picture]
    assert main(["run", "--quiet", MODEL, "--audio", sound, "--image", picture, "Well?"]) == 0
    assert capsys.readouterr().err == ""


def test_chat_shows_them_with_the_first_question(daemon, shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n/reset\nthree\n"))
    assert main(["chat", MODEL, "--image", shown[0], "--system", "s"]) == 0
    counts = [
        [len(message.media) for message in request.task.messages] for request in daemon.requests
    ]
    assert counts == [[0, 1], [0, 1, 0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--image", "none.png"], "nsedge: none.png: No such file or directory\n"),
        (["--audio", "none.wav"], "nsedge: none.wav: No such file or directory\n"),
        (["--image", "empty"], "nsedge: empty is no PNG, JPEG, GIF, WebP or BMP\n"),
        (["--audio", "empty"], "nsedge: empty is empty\n"),
        (["--video", "empty"], "nsedge: empty is no MP4, MOV, WebM, GIF or WebP\n"),
        (["--frames", "3"], "nsedge: --frames is of films: name one by --video\n"),
        (["--raw", "--audio", "empty"], "nsedge: --image, --audio and --video need the chat"),
    ],
)
def test_what_cannot_be_shown_is_told(daemon, tmp_path, monkeypatch, capsys, flags, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    assert main(["run", MODEL, *flags, "x"]) != 0
    assert capsys.readouterr().err.startswith(told)
    assert not daemon.requests
