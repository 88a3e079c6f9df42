"""Ollama's options: each mapped, harmless, told, or refused by its name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsedge.api import Mirostat, Sampling
from nsedge.errors import InvalidParameter
from nsedge.web.doors.ollama.options import read_options


def read(options: Any) -> tuple[Sampling, list[str]]:
    return read_options(msgspec.json.encode(options))


def test_no_options() -> None:
    assert read_options(b"") == (Sampling(clip_max_tokens=False), [])
    assert read(None)[1] == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"top_k": 40, "min_p": 0.1}, {"top_k": 40, "min_p": 0.1}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"repeat_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repeat_last_n": 64, "typical_p": 0.5}, {"penalty_last_n": 64, "typical_p": 0.5}),
        ({"mirostat": 2, "mirostat_tau": 3.0}, {"mirostat": Mirostat(tau=3.0)}),
        ({"presence_penalty": 1, "frequency_penalty": 2}, {"presence_penalty": 1.0}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": None}),
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"num_predict": 5}, {"max_tokens": 5, "clip_max_tokens": True}),
        ({"num_predict": -1}, {"max_tokens": None}),
        ({"num_predict": -2}, {"max_tokens": None}),
        ({"num_predict": 0}, {"max_tokens": None}),
    ],
)
def test_options_that_are_mapped(options: Any, wanted: dict[str, Any]) -> None:
    sampling, passed = read(options)
    assert {name: getattr(sampling, name) for name in wanted} == wanted
    assert passed == []


def test_what_changes_no_answer_is_left_out_and_the_rest_of_it_told() -> None:
    harmless = {"num_gpu": 1, "num_thread": 8, "use_mmap": True, "num_keep": 4, "numa": False}
    neutral = {"tfs_z": 1.0, "typical_p": 1, "mirostat": 0, "mirostat_tau": 5.0}
    assert read({**harmless, **neutral})[1] == []
    assert read({"num_ctx": 8192, "warmth": 1})[1] == ["options.num_ctx", "options.warmth"]


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        ({"mirostat": 1}, "options.mirostat", "mirostat 1 is not supported; 2 is"),
        ({"tfs_z": 0.5}, "options.tfs_z", "tfs_z"),
        ({"penalize_newline": False}, "options.penalize_newline", "penalize_newline"),
        ({"temperature": -1}, "options.temperature", "temperature must be"),
        ({"temperature": "hot"}, "options.temperature", "Expected `float"),
        ({"repeat_penalty": 0}, "options.repeat_penalty", "repeat_penalty must be above 0"),
        ({"num_predict": 2**40}, "options.num_predict", "num_predict must be at least 1"),
        ({"stop": [""]}, "options.stop", "a stop string's length"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(options: Any, param: str, told: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read(options)
    assert caught.value.param == param
    assert told in caught.value.message
    assert caught.value.message.startswith("options: ")
