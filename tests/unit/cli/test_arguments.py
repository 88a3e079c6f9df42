"""The command line's grammar."""

from __future__ import annotations

import pytest

from nsedge.api import (
    AdaptiveP,
    Dry,
    DynamicTemperature,
    Mirostat,
    Priority,
    SamplerStep,
    Sampling,
    Xtc,
)
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


def test_a_search_has_its_flags():
    words = "run m --beams 4 --length-penalty 0.5 --early-stopping never"
    wanted = Sampling(beams=4, length_penalty=0.5, early_stopping="never")
    assert sampling_of(parse(words.split()).options) == wanted
    stops = parse(["run", "m", "--beams", "2", "--early-stopping", "true"]).options
    assert sampling_of(stops) == Sampling(beams=2, early_stopping=True)


def test_every_step_has_its_flags():
    words = (
        "run m --typical-p 0.9 --top-n-sigma 1.5 --min-keep 2 --penalty-last-n 64"
        " --no-repeat-ngram-size 3 --dynatemp-range 0.5 --dynatemp-exponent 2 --xtc-probability 0.5"
        " --xtc-threshold 0.2 --dry-multiplier 0.8 --dry-base 2 --dry-allowed-length 3"
        " --dry-penalty-last-n 256 --mirostat 2 --mirostat-tau 4 --mirostat-eta 0.2"
        " --adaptive-target 0.5 --adaptive-decay 0.8 --stop-token 7 --bad-word sorry --ban-token 8"
        " --allow-token 1 --allow-token 2 --samplers top_k,temp --dry-sequence-breaker ."
    )
    assert sampling_of(parse(words.split()).options) == Sampling(
        typical_p=0.9,
        top_n_sigma=1.5,
        min_keep=2,
        penalty_last_n=64,
        no_repeat_ngram_size=3,
        dynamic_temperature=DynamicTemperature(range=0.5, exponent=2.0),
        xtc=Xtc(probability=0.5, threshold=0.2),
        dry=Dry(
            multiplier=0.8,
            base=2.0,
            allowed_length=3,
            penalty_last_n=256,
            sequence_breakers=(".",),
        ),
        mirostat=Mirostat(tau=4.0, eta=0.2),
        adaptive_p=AdaptiveP(target=0.5, decay=0.8),
        stop_token_ids=(7,),
        bad_words=("sorry",),
        banned_token_ids=(8,),
        allowed_token_ids=(1, 2),
        samplers=(SamplerStep.TOP_K, SamplerStep.TEMPERATURE),
    )


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("kt", (SamplerStep.TOP_K, SamplerStep.TEMPERATURE)),
        ("temperature", (SamplerStep.TEMPERATURE,)),
        ("top-k,typ_p", (SamplerStep.TOP_K, SamplerStep.TYPICAL_P)),
        ("", ()),
    ],
)
def test_an_order_is_names_or_letters(text, steps):
    assert sampling_of(parse(["run", "m", "--samplers", text]).options).samplers == steps


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--samplers top_k,tfs", "'tfs' is none of"),
        ("--samplers kz", "'z' is none of"),
        ("--mirostat 1", "mirostat 1 is not supported; 2 is"),
        ("--xtc-probability 3", "xtc_probability must be at least 0.0"),
        ("--dry-multiplier 1 --dry-base 0", "dry_base must be at least 1.0"),
    ],
)
def test_steps_that_cannot_be_are_refused_by_the_flags_name(capsys, words, told):
    with pytest.raises((InvalidParameter, SystemExit)) as caught:
        sampling_of(parse(["run", "m", *words.split()]).options)
    assert told in f"{caught.value} {capsys.readouterr().err}"


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
