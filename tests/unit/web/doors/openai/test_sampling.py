"""Bodies -> requests: how tokens are chosen, by whatever name."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Sampling, Xtc
from nsedge.errors import InvalidParameter
from nsedge.web.doors.openai.bodies import ChatBody
from nsedge.web.other_fields import HARMLESS, NEUTRAL
from tests.unit.web.doors.openai.asking import chat, completion

EDKYPMXT = (
    SamplerStep.PENALTIES,
    SamplerStep.DRY,
    SamplerStep.TOP_K,
    SamplerStep.TYPICAL_P,
    SamplerStep.TOP_P,
    SamplerStep.MIN_P,
    SamplerStep.XTC,
    SamplerStep.TEMPERATURE,
)


def test_every_sampling_field_is_taken_over() -> None:
    (request,) = chat(
        temperature=0,
        top_p=0.9,
        presence_penalty=-1,
        frequency_penalty=0.5,
        logit_bias={"12": -100, "7": 1.5},
        seed=3,
        stop=["a", "b"],
        max_completion_tokens=9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        min_tokens=2,
        ignore_eos=True,
        clip_max_tokens=True,
    )
    assert request.task.sampling == Sampling(
        temperature=0.0,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=-1.0,
        frequency_penalty=0.5,
        logit_bias={12: -100.0, 7: 1.5},
        seed=3,
        stop=("a", "b"),
        max_tokens=9,
        min_tokens=2,
        ignore_eos=True,
        clip_max_tokens=True,
    )


STEPS = {
    "typical_p": 0.9,
    "top_n_sigma": 1.5,
    "min_keep": 2,
    "penalty_last_n": 64,
    "no_repeat_ngram_size": 3,
    "allowed_token_ids": [1, 2],
    "banned_token_ids": [3],
    "bad_words": ["sorry"],
    "stop_token_ids": [4],
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 2,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
    "dry_multiplier": 0.8,
    "dry_base": 2,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 256,
    "dry_sequence_breakers": ["."],
    "mirostat": 2,
    "mirostat_tau": 4,
    "mirostat_eta": 0.2,
    "adaptive_target": 0.5,
    "adaptive_decay": 0.8,
    "samplers": ["top_k", "typ_p", "temp"],
}


@pytest.mark.parametrize("route", [chat, completion])
def test_every_step_is_taken_over(route: Any) -> None:
    (request,) = route(**STEPS, max_tokens=5)
    assert request.task.sampling == Sampling(
        max_tokens=5,
        typical_p=0.9,
        top_n_sigma=1.5,
        min_keep=2,
        penalty_last_n=64,
        no_repeat_ngram_size=3,
        allowed_token_ids=(1, 2),
        banned_token_ids=(3,),
        bad_words=("sorry",),
        stop_token_ids=(4,),
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
        samplers=(SamplerStep.TOP_K, SamplerStep.TYPICAL_P, SamplerStep.TEMPERATURE),
    )


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"beams": 4}, {"beams": 4}),
        ({"num_beams": 4, "n": 2, "temperature": 0}, {"beams": 4, "n": 2, "temperature": 0.0}),
        ({"use_beam_search": True, "n": 3}, {"beams": 3, "n": 3, "temperature": 0.0}),
        ({"use_beam_search": True, "beams": 4}, {"beams": 4, "temperature": 0.0}),
        ({"use_beam_search": True}, {"temperature": 0.0}),
        ({"use_beam_search": False, "top_k": 3}, {"top_k": 3}),
        (
            {"beams": 2, "length_penalty": 0.5, "early_stopping": "never"},
            {"beams": 2, "length_penalty": 0.5, "early_stopping": "never"},
        ),
        ({"beams": 2, "early_stopping": True}, {"beams": 2, "early_stopping": True}),
        ({"length_penalty": 1, "early_stopping": False}, {}),
    ],
)
@pytest.mark.parametrize("route", [chat, completion])
def test_beams_are_asked_for_as_in_transformers_and_vllm(
    route: Any, fields: dict[str, Any], wanted: dict[str, Any]
) -> None:
    (request,) = route(**fields, max_tokens=5)
    assert request.task.sampling == Sampling(max_tokens=5, **wanted)


def test_best_of_is_how_many_beams_there_are_in_a_search() -> None:
    (request,) = completion(use_beam_search=True, best_of=4, n=2, max_tokens=5, stream=True)
    assert request.task.sampling == Sampling(beams=4, n=2, temperature=0.0, max_tokens=5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"beams": 0}, "beams"),
        ({"beams": 65}, "beams"),
        ({"num_beams": 65}, "num_beams"),
        ({"beams": 2, "num_beams": 3}, "beams"),
        ({"beams": 2, "n": 3}, "n"),
        ({"use_beam_search": False, "beams": 2}, "use_beam_search"),
        ({"use_beam_search": True, "n": 2, "temperature": 1.0}, "temperature"),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"early_stopping": True}, "early_stopping"),
        ({"beams": 2, "length_penalty": 11.0}, "length_penalty"),
        ({"beams": 2, "early_stopping": "always"}, "early_stopping"),
    ],
)
def test_beams_that_cannot_be_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_neutral_values_of_llama_cpps_clients_ask_for_nothing() -> None:
    neutral = {
        "top_k": -1,
        "top_n_sigma": None,
        "dynatemp_range": 0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0,
        "mirostat": 0,
        "adaptive_target": -1,
    }
    details = {name: STEPS[name] for name in STEPS if name.partition("_")[0] in ("xtc", "dry")}
    details |= {"dynatemp_exponent": 1, "mirostat_tau": 5, "adaptive_decay": 0.9}
    assert chat(**{**details, **neutral}) == chat(top_k=0)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"repeat_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repeat_last_n": 0}, {"penalty_last_n": 0}),
        ({"samplers": "edkypmxt"}, {"samplers": EDKYPMXT}),
        ({"samplers": ["Top-K", "min-p"]}, {"samplers": EDKYPMXT[2:3] + EDKYPMXT[5:6]}),
        ({"samplers": []}, {"samplers": ()}),
        (
            {"logit_bias": [[5, 1.5], [7, False], [9, -2]]},
            {"logit_bias": {5: 1.5, 9: -2.0}, "banned_token_ids": (7,)},
        ),
        (
            {"logit_bias": {"5": 1.5, "7": False}, "banned_token_ids": [1]},
            {"logit_bias": {5: 1.5}, "banned_token_ids": (1, 7)},
        ),
    ],
)
def test_other_names_and_forms(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    (request,) = chat(**fields)
    assert {name: getattr(request.task.sampling, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"mirostat": 1}, "mirostat", "mirostat 1 is not supported; 2 is, and 0 is off"),
        ({"samplers": ["tfs_z"]}, "samplers", "samplers: 'tfs_z' is none of penalties, dry"),
        ({"samplers": "kif"}, "samplers", "samplers: 'i' is none of e, d, s, k"),
        ({"samplers": "kk"}, "samplers", "samplers has top_k twice"),
        ({"repeat_penalty": 0}, "repeat_penalty", "repeat_penalty must be above 0.0"),
        ({"repeat_last_n": -2}, "repeat_last_n", "repeat_last_n must be at least -1"),
        (
            {"repeat_penalty": 1.1, "repetition_penalty": 1.2},
            "repetition_penalty",
            "repeat_penalty 1.1 and repetition_penalty 1.2 differ",
        ),
        ({"xtc_probability": 2}, "xtc_probability", "xtc_probability must be at least 0.0"),
        ({"dry_multiplier": 1, "dry_base": 0.5}, "dry_base", "dry_base must be at least 1.0"),
        ({"dynatemp_range": -1}, "dynatemp_range", "dynatemp_range must be at least 0.0"),
        ({"adaptive_target": 1.5}, "adaptive_target", "adaptive_target must be"),
        ({"mirostat": 2, "mirostat_tau": -1}, "mirostat_tau", "mirostat_tau must be"),
        ({"mirostat_eta": 2}, "mirostat_eta", "mirostat_eta must be at least 0.0"),
        ({"xtc_threshold": 2}, "xtc_threshold", "xtc_threshold must be at least 0.0"),
        ({"dry_sequence_breakers": [""]}, "dry_sequence_breakers", "a sequence breaker's length"),
        ({"logit_bias": [["Hello", 1]]}, "logit_bias", "logit_bias[0] must begin with a token id"),
        ({"logit_bias": [[5, 10**400]]}, "logit_bias", "logit_bias[5] must be at least -100.0"),
        ({"logit_bias": [[5, True]]}, "logit_bias", "logit_bias[0] must be a number, or false"),
        ({"logit_bias": [[5, "x"]]}, "logit_bias", "logit_bias[0] must be a number, or false"),
        ({"logit_bias": [[5]]}, "logit_bias", "logit_bias"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "allowed_token_ids entries"),
        ({"bad_words": [""]}, "bad_words", "a bad word's length"),
    ],
)
def test_steps_that_cannot_be_are_refused_by_name(
    fields: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        chat(**fields)
    assert told in caught.value.message
    assert (caught.value.param or "").partition("[")[0] == param


def test_null_is_absent() -> None:
    fields = {*ChatBody.__struct_fields__, *NEUTRAL, *HARMLESS} - {"model", "messages"}
    assert chat(**dict.fromkeys(fields)) == chat()


def test_fields_that_change_no_answer_are_taken() -> None:
    assert chat(user="u", store=True, service_tier="auto", metadata={"a": [1]}) == chat()
    others = HARMLESS - set(ChatBody.__struct_fields__)
    assert chat(**dict.fromkeys(others, "x")) == chat()
