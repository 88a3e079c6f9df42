"""The command line's grammar."""

from __future__ import annotations

import pytest

from nsedge.api import Priority, Sampling
from nsedge.cli.arguments import parse
from nsedge.cli.exits import ExitStatus
from nsedge.cli.sampling import sampling_of
from nsedge.config import reader as config
from nsedge.config.declared import KEYS
from nsedge.errors import InvalidParameter
from nsedge.version import VERSION


def said(*words: str) -> dict[str, str]:
    return {each.key: each.text for each in parse(words).overrides}


def refusal(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == ExitStatus.USAGE
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_flags_stand_for_settings():
    words = ("up", "--slots", "4", "--port", "4000", "--home", "/srv/n", "--set", "log.level=debug")
    assert said(*words) == {
        "engine.slots": "4",
        "web.port": "4000",
        "home": "/srv/n",
        "log.level": "debug",
    }


def test_the_flag_typed_is_remembered():
    invocation = parse(["serve", "--slots", "4", "--set", "web.port=1"])
    assert [each.flag for each in invocation.overrides] == ["--slots", "--set"]


@pytest.mark.parametrize("command", ["up", "serve", "web"])
def test_every_flag_names_a_setting_there_is(command, capsys):
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    flags = [word for word in capsys.readouterr().out.split() if word.startswith("--")]
    values = {"--config", "--set", "--help", "--json", "--until-eof"}
    settings = [flag.strip(",]") for flag in flags if flag.strip(",]") not in values]
    assert len(settings) >= 5
    for flag in settings:
        (override,) = parse([command, flag, "x"]).overrides
        assert override.key in KEYS


def test_settings_may_stand_before_the_command():
    invocation = parse(["--config", "/f", "--set", "web.port=1", "web", "--port", "2"])
    assert [each.text for each in invocation.overrides] == ["1", "2"]
    assert str(invocation.config) == "/f"
    assert str(parse(["--config", "/f", "web", "--config", "/g"]).config) == "/g"


def test_json_of_a_server_is_its_log():
    assert said("serve", "--json") == {"log.json": "true"}
    assert said("models", "--json") == {}
    assert parse(["models", "--json"]).json


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "COMMAND"),
        (("fly",), "fly"),
        (("run",), "MODEL"),
        (("run", "m", "--temperatur", "1"), "--temperatur"),
        (("run", "m", "--temp", "1"), "--temp"),
        (("run", "m", "--top-k", "many"), "many"),
        (("run", "m", "--logit-bias", "7"), "'7' is not ID=N"),
        (("run", "m", "--logit-bias", "a=b"), "a=b"),
        (("serve", "--set", "engine.slots"), "KEY=VALUE"),
        (("models", "--slots", "3"), "no flag --slots"),
        (("moddels",), "'moddels' is none of up, serve, "),
        (("moddels",), "; did you mean models?; see nsedge --help"),
        (("keys", "ad", "me"), "did you mean add?; see nsedge keys --help"),
        (("run", "m", "--systm", "hi"), "nsedge run: no flag --systm; did you mean --system?"),
        (("stats", "now"), "nsedge stats: 'now' is a word too many"),
        (("run", "m", "--priority", "soon"), "'soon' is none of interactive, normal, batch"),
        (("run", "m", "--temperature", "hot"), "'hot' is no number"),
        (("run", "m", "--max-tokens", "1.5"), "'1.5' is no whole number"),
    ],
)
def test_a_mistake_is_told_in_one_line(capsys, words, told):
    assert told in refusal(capsys, *words)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"nsedge {VERSION}\n"


def test_sampling_flags_become_a_value():
    words = "run m --temperature 0.5 --top-k 40 --seed 7 --stop A --stop B --logit-bias 5=-2.5"
    options = parse([*words.split(), "--max-tokens", "9", "--ignore-eos", "hello"]).options
    assert sampling_of(options) == Sampling(
        temperature=0.5,
        top_k=40,
        seed=7,
        stop=("A", "B"),
        logit_bias={5: -2.5},
        max_tokens=9,
        ignore_eos=True,
    )
    assert options.prompt == ["hello"]


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        ("m one two", ["one", "two"]),
        ("m --seed 1 one two", ["one", "two"]),
        ("m one --seed 1 two", ["one", "two"]),
        ("--seed 1 m one", ["one"]),
        ("m --seed 1 -- -one --two", ["-one", "--two"]),
        ("m one -- -two", ["one", "-two"]),
        ("m --seed 1", []),
    ],
)
def test_flags_may_stand_among_the_words_of_a_prompt(words, prompt):
    options = parse(["run", *words.split()]).options
    assert (options.model, options.prompt) == ("m", prompt)


def test_without_sampling_flags_the_models_defaults_stand():
    assert sampling_of(parse(["chat", "m"]).options) == Sampling()


def test_sampling_out_of_range_is_refused_before_any_connection():
    with pytest.raises(InvalidParameter, match="top_p"):
        sampling_of(parse(["run", "m", "--top-p", "3"]).options)


def test_flags_reach_the_settings():
    invocation = parse(["serve", "--models", "a,b", "--device", "cpu"])
    settings = config.load({"HOME": "/h"}, overrides=invocation.overrides).settings
    assert settings.models.load == ("a", "b")
    assert settings.engine.device == "cpu"


def test_priority_and_deadline_of_a_request(capsys):
    options = parse(["run", "m", "hi", "--priority", "batch", "--deadline", "2.5"]).options
    assert (options.priority, options.deadline) == (Priority.BATCH, 2.5)
    options = parse(["chat", "m"]).options
    assert (options.priority, options.deadline) == (Priority.NORMAL, None)
    assert "--priority" in refusal(capsys, "run", "m", "hi", "--priority", "urgent")
