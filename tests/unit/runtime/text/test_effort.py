"""How hard to think, as templates take it; what one has no place for is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsedge.api import Chat, Message, Role
from nsedge.errors import InvalidParameter
from nsedge.runtime.text.effort import Effort
from nsedge.runtime.text.template import template_environment
from tests.tool_templates import TEMPLATES
from tests.unit.runtime.text.test_prompt import reader

LEVELS = (
    "{%- macro system() %}{%- if reasoning_effort is not defined %}"
    '{%- set reasoning_effort = "medium" %}{%- endif %}'
    '{{- "Reasoning: " + reasoning_effort }}{%- endmacro %}{{ system() }}'
)
SWITCH = "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}"
BOTH = "{{ enable_thinking }} {{ reasoning_effort in ['high', 'max'] }}"
PLAIN = "{{ messages[0].content }} reasoning_effort thinking"
THINKS = "<think></think>{{ messages[0].content }}"


def told(template: str, effort: str | None) -> dict[str, Any]:
    return Effort.of(template_environment().parse(template), template).variables(effort)


@pytest.mark.parametrize(
    ("template", "effort", "variables"),
    [
        (LEVELS, None, {}),
        (LEVELS, "high", {"reasoning_effort": "high"}),
        (SWITCH, "none", {"thinking": False}),
        (SWITCH, "minimal", {"thinking": True}),
        (TEMPLATES["qwen3"], "none", {"enable_thinking": False}),
        (TEMPLATES["qwen3"], "high", {"enable_thinking": True}),
        (BOTH, "max", {"enable_thinking": True, "reasoning_effort": "max"}),
        (BOTH, "none", {"enable_thinking": False}),
        (PLAIN, "none", {}),
    ],
)
def test_a_template_is_told_what_it_knows(
    template: str, effort: str | None, variables: dict[str, Any]
) -> None:
    assert told(template, effort) == variables


@pytest.mark.parametrize(
    ("template", "effort", "why"),
    [
        (LEVELS, "none", "knows low, medium, high, not none"),
        (LEVELS, "max", "knows low, medium, high, not max"),
        (BOTH, "minimal", "knows low, medium, high, max, not minimal"),
        (PLAIN, "low", "has no place for it"),
        (THINKS, "none", "has no place for it"),
    ],
)
def test_what_it_does_not_know_is_refused(template: str, effort: str, why: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        told(template, effort)
    assert refused.value.param == "reasoning_effort"
    assert refused.value.message.startswith("reasoning_effort: this model's chat template ")
    assert refused.value.message.endswith(why)


def test_a_prompt_says_it_and_an_argument_of_the_template_goes_first(tmp_path: Path) -> None:
    read = reader(tmp_path, template=LEVELS)
    asked = (Message(role=Role.USER, content="hi"),)
    assert read.rendered(Chat(messages=asked, reasoning_effort="low")) == "Reasoning: low"
    both = Chat(
        messages=asked, reasoning_effort="low", template_arguments={"reasoning_effort": "high"}
    )
    assert read.rendered(both) == "Reasoning: high"
