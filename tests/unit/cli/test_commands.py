"""Commands against the fake service behind a real door."""

from __future__ import annotations

import io
import json

import pytest

from nsedge.__main__ import main
from nsedge.cli.exits import ExitStatus
from nsedge.version import VERSION
from tests.fakes import MODEL
from tests.unit.bundles import edit_manifest, write_bundle
from tests.unit.cli.said import objects

pytestmark = pytest.mark.usefixtures("home")


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
