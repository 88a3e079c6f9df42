"""Keep-alives as people write them."""

from __future__ import annotations

import math

import pytest

from nsedge.api import ToolFormat
from nsedge.api.models import keep_alive_of
from nsedge.config.pairs import keep_alives, named, tool_formats
from nsedge.config.reader import Override, load
from nsedge.errors import ConfigInvalid, InvalidParameter


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0),
        (90.5, 90.5),
        (-1, math.inf),
        (math.inf, math.inf),
        ("300", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("-1m", math.inf),
        (" Forever ", math.inf),
        ("now", 0.0),
    ],
)
def test_what_is_a_keep_alive(written: str | float, seconds: float) -> None:
    assert keep_alive_of(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "5 minutes", "m", "--1", math.nan])
def test_what_is_none(written: str | float) -> None:
    with pytest.raises(InvalidParameter) as caught:
        keep_alive_of(written)
    assert caught.value.param == "keep_alive"


def settings(*pairs: tuple[str, str]):
    overrides = [Override(flag="--set", key=key, text=text) for key, text in pairs]
    return load({"HOME": "/h"}, overrides=overrides).settings.models


def test_settings_of_models() -> None:
    models = settings(
        ("models.keep_alive", "600"),
        ("models.keep_alives", "big=1m,small=forever"),
        ("models.aliases", "gpt-4o=small"),
        ("models.variants", "small=cpu-fp32"),
        ("models.tool_formats", "big=llama"),
    )
    assert named(models.variants) == {"small": "cpu-fp32"}
    assert tool_formats(models) == {"big": ToolFormat.LLAMA}
    assert models.keep_alive == 600.0
    assert keep_alives(models) == {"big": 60.0, "small": math.inf}
    assert named(models.aliases) == {"gpt-4o": "small"}
    assert settings().keep_alive == "forever"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("models.keep_alive", "-1"),
        ("models.keep_alive", "soon"),
        ("models.keep_alives", "big"),
        ("models.keep_alives", "big=soon"),
        ("models.aliases", "=x"),
        ("models.variants", "cpu-fp32"),
        ("models.tool_formats", "big=xml"),
        ("models.memory_bytes", "-1"),
    ],
)
def test_settings_that_cannot_be(key: str, text: str) -> None:
    with pytest.raises(ConfigInvalid, match=key):
        settings((key, text))
