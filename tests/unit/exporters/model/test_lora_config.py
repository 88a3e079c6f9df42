"""adapter_config.json: one line that names the field, whatever is wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from exporters.errors import ExportError, Refused
from exporters.model.lora_config import CONFIG_FILE, FIELDS, Start, read_lora_config

WHOLE = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "base_model_name_or_path": "org/model"}


def written(folder: Path, content: dict[str, Any] | str | bytes) -> Path:
    text = json.dumps(content) if isinstance(content, dict) else content
    (folder / CONFIG_FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_what_is_there_is_read(tmp_path: Path) -> None:
    told = {
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {r"layers\.1\..*": 9},
        "use_rslora": True,
        "init_lora_weights": "pissa",
        "target_modules": ["q_proj"],
        "use_dora": False,
        "arrow_config": None,
        "some_future_field": False,
    }
    config = read_lora_config(written(tmp_path, WHOLE | told))
    assert (config.rank, config.alpha, config.base) == (4, 6.0, "org/model")
    assert config.rank_of("model.layers.0.self_attn.q_proj") == 2
    assert config.rank_of("model.layers.0.self_attn.k_proj") == 4
    assert config.scale_of("layers.0.q_proj") == pytest.approx(6 / math.sqrt(2))
    assert config.scale_of("layers.1.k_proj") == pytest.approx(9 / 2)
    assert config.start is Start.PISSA
    assert set(config.merged_only) == {"init_lora_weights"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora_alpha": ...}, "no lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha is None, not a number"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', not a number"),
        ({"lora_alpha": True}, "lora_alpha is True, not a number"),
        ({"lora_alpha": math.nan}, "lora_alpha is nan, not a finite number"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000000"),
        ({"lora_alpha": [[1]]}, r"lora_alpha is \[\[1\]\], not a number"),
        ({"r": ...}, "no r"),
        ({"r": 0}, "r is 0, not a whole number of at least 1"),
        ({"r": -4}, "r is -4"),
        ({"r": 4.0}, "r is 4.0"),
        ({"rank_pattern": [4]}, r"rank_pattern is \[4\], not an object"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern is 0, not a whole number"),
        ({"rank_pattern": {"(": 4}}, r"rank_pattern: '\(' is no pattern"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern is 'x', not a number"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes', not true or false"),
        ({"use_dora": 1}, "use_dora is 1, not true or false"),
        ({"lora_bias": {}}, r"lora_bias is \{\}, not true or false"),
        ({"bias": "some"}, "bias is 'some', not none, all or lora_only"),
        ({"bias": ["all"]}, "bias is"),
        ({"modules_to_save": "lm_head"}, "modules_to_save is 'lm_head', not a list of names"),
        ({"layer_replication": [[0, 2, 3]]}, "layer_replication is"),
        ({"layer_replication": [[2, 2]]}, "layer_replication is"),
        ({"layer_replication": 5}, "layer_replication is 5"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path is 7, not a text"),
        ({"init_lora_weights": 3}, "init_lora_weights is 3"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    fields = {key: value for key, value in (WHOLE | changes).items() if value is not ...}
    with pytest.raises(ExportError, match=reason) as caught:
        read_lora_config(written(tmp_path, fields))
    assert str(caught.value).startswith(f"{tmp_path / CONFIG_FILE}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no JSON"),
        ("{'r': 4}", "no JSON"),
        ('{"r": 4', "no JSON"),
        ("[1, 2]", "not a JSON object"),
        ("7", "not a JSON object"),
        (b'{"r": "\xff"}', "not UTF-8: invalid start byte at byte 7"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nests too deep"),
        ('{"lora_alpha": ' + "9" * 5000 + "}", "no JSON"),
    ],
)
def test_what_is_no_configuration_is_told_in_a_line(
    content: str | bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=reason) as caught:
        read_lora_config(written(tmp_path, content))
    assert "is an adapter?" in str(caught.value) or f"is {tmp_path} an adapter?" in str(
        caught.value
    )


def test_a_folder_without_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"No such file or directory; is .* an adapter"):
        read_lora_config(tmp_path)


REASONS = {name: why for name, why in FIELDS.items() if isinstance(why, str)}


@pytest.mark.parametrize("field", [*REASONS, "some_future_field"])
def test_kinds_that_cannot_be_used_are_refused_by_name(field: str, tmp_path: Path) -> None:
    for value in (True, {"tokens": [1]}, [5], "x"):
        with pytest.raises(Refused, match=f"an adapter with '{field}' cannot be used: ") as caught:
            read_lora_config(written(tmp_path, WHOLE | {field: value}))
        assert str(caught.value).endswith(REASONS.get(field, "what it does is not known here"))
    for off in (None, False, [], {}):
        read_lora_config(written(tmp_path, WHOLE | {field: off}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; of adapters only LORA can be used"),
        ({"peft_type": None}, "peft_type is None"),
        ({"init_lora_weights": "pissa_niter_16"}, "drawn at random then; convert it"),
        ({"init_lora_weights": "corda"}, "data that is not there"),
        ({"init_lora_weights": "lora_ga"}, "data that is not there"),
        ({"init_lora_weights": "loftq"}, "its base was quantised then"),
        ({"init_lora_weights": "sunrise"}, "'sunrise', which is not known here"),
        (
            {"init_lora_weights": "olora", "layer_replication": [[0, 2]]},
            "layer_replication with init_lora_weights olora",
        ),
    ],
)
def test_kinds_that_are_refused_with_the_reason(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=reason):
        read_lora_config(written(tmp_path, WHOLE | changes))


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal", "MiCA"])
def test_ways_to_begin_that_leave_the_base_as_it_is(start: object, tmp_path: Path) -> None:
    config = read_lora_config(written(tmp_path, WHOLE | {"init_lora_weights": start}))
    assert config.start is Start.NOTHING
    assert config.merged_only == {}
