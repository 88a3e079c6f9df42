"""Chat templates in bounds: what real ones do still works, and what never ends does not begin."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nsedge.runtime.text import template
from nsedge.runtime.text.template import ChatEnvironment, template_environment, weigh
from tests.fakes import FakeClock

TURNS = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "One</think>two"},
    {"role": "assistant", "content": "Two\nlines"},
    {"role": "user", "content": "x" * 1000},
]


def rendered(source: str, environment: ChatEnvironment | None = None, **variables: object) -> str:
    environment = environment or ChatEnvironment()
    given = {"messages": TURNS, "add_generation_prompt": True, **variables}
    return environment.render_bounded(environment.from_string(source), given)


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}<|end|>\n{% endfor %}",
        "{%- set ns = namespace(last=-1, text='') -%}{% for m in messages %}"
        "{%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif -%}"
        "{% set ns.text = ns.text + m.content[:3] %}{% endfor %}{{ ns.last ~ ns.text }}",
        "{% macro turn(m, end='!') %}{{ m.role | upper }}: {{ m.content }}{{ end }}{% endmacro %}"
        "{% for m in messages[1:] %}{{ turn(m, end='.' * 3) }}{% endfor %}",
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') "
        "| list | tojson }}",
        "{{ messages | map(attribute='role') | join(', ') }}{{ messages | length }}",
        "{{ messages[1].content.split('</think>')[-1].strip() | replace('t', 'T') }}",
        "{% set s %}{% for m in messages %}{{ loop.index }}{% endfor %}{% endset %}"
        "{{ s | indent }}",
        "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m }}{% endfor %}",
        "{{ '%s is %d' % ('x', 3) }}{{ '{:>8}'.format('a') }}{{ 2 ** 10 }}{{ 7 * 'ab' }}",
        "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ range(3) | sum }}",
        "{% with a = messages[0] %}{{ a.content }}{% endwith %}{{ [1, 2] + [3] }}",
        "{% for batch in messages | batch(2) %}{{ batch | length }}{% endfor %}"
        "{{ messages | groupby('role') | length }}{{ undefined_thing | default('none') }}",
        "{% for a in [[1, [2]], [3]] recursive %}{% if a is iterable %}{{ loop(a) }}"
        "{% else %}{{ a }}{% endif %}{% endfor %}",
    ],
)
def test_what_real_templates_do_comes_out_the_same(source: str) -> None:
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    expected = plain.from_string(source).render(messages=TURNS, add_generation_prompt=True)
    assert rendered(source) == expected


DOUBLING = "{{% set ns = namespace(s={start}) %}}{{% for i in range(99) %}}{step}{{% endfor %}}"
BOMBS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "text doubled by ~": DOUBLING.format(start="'x'", step="{% set ns.s = ns.s ~ ns.s %}"),
    "text doubled by +": DOUBLING.format(start="'x'", step="{% set ns.s = ns.s + ns.s %}"),
    "a list of itself twice": DOUBLING.format(start="[1]", step="{% set ns.s = [ns.s, ns.s] %}")
    + "{{ ns.s == ns.s }}",
    "a map of itself twice": DOUBLING.format(start="{}", step="{% set ns.s = {1: ns.s, 2: ns.s} %}")
    + "{{ ns.s | tojson }}",
    "a namespace in itself": "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "a number squared": DOUBLING.format(start="9", step="{% set ns.s = ns.s * ns.s %}"),
    "a block put into itself": "{% set ns = namespace(s='x') %}{% for i in range(99) %}"
    "{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}",
    "output without end": "{% for i in range(99999) %}{{ messages[3].content }}{% endfor %}",
    "the template's own words": "{% for i in range(99999) %}" + "word " * 99 + "{% endfor %}",
    "a loop that calls itself": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "text times a number": "{{ 'x' * 10 ** 10 }}",
    "a list times a number": "{{ ([1] * 10 ** 10) | length }}",
    "a number times text": "{{ 10 ** 10 * 'x' }}",
    "a power": "{{ 9 ** 9999 }}",
    "a rounding": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a width given elsewhere": "{{ '%*d' % (10 ** 10, 1) }}",
    "a wide format filter": "{{ '%1000000000d' | format(1) }}",
    "a wide format method": "{{ '{:>1000000000}'.format(1) }}",
    "a width in a width": "{{ '{:{}}'.format(1, 10 ** 10) }}",
    "a wide date": "{{ strftime_now('%1000000000d') }}",
    "a long chain": "{% set s = 'x' * 999999 %}{{ " + " ~ ".join(["s"] * 999) + " }}",
    "padding": "{{ 'x'.ljust(10 ** 10) }}",
    "tabs": "{{ '\\t'.expandtabs(10 ** 10) }}",
    "replacing": "{% set s = 'x' * 9999 %}{{ s.replace('x', s) }}",
    "replacing nothing": "{% set s = 'x' * 9999 %}{{ s | replace('', s) }}",
    "joining": "{% set s = 'x' * 9999 %}{{ range(9999) | join(s) }}",
    "joining letters": "{% set s = 'x' * 9999 %}{{ s.join(s) }}",
    "mapping": "{% set s = 'x' * 9999 %}{{ ([s] * 9999) | map('upper') | join }}",
    "indenting": "{% set s = '\n' * 99999 %}{{ s | indent('x' * 9999) }}",
    "deep JSON": "{{ messages | tojson(indent=10 ** 9) }}",
    "summing lists": "{{ ([[1] * 999] * 999) | sum(start=[]) }}",
    "nesting": DOUBLING.format(start="[]", step="{% set ns.s = [ns.s] %}"),
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_what_never_ends_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_STEPS", 100_000)
    monkeypatch.setattr(template, "MAX_WEIGHT", 4 * 2**20)
    with pytest.raises(jinja2.TemplateError):
        rendered(source, template_environment())


@pytest.mark.parametrize(
    "source",
    [
        "{{ lipsum(n=9) }}",
        "{{ 'x' | center(9) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
    ],
)
def test_what_is_not_for_templates_is_not_there(source: str) -> None:
    with pytest.raises((jinja2.TemplateError, TypeError), match=r".+"):
        rendered(source)


def test_processor_time_is_counted_and_each_rendering_begins_anew() -> None:
    clock = FakeClock()
    environment = ChatEnvironment(clock=clock)

    def slow(text: str) -> str:
        clock.advance(template.MAX_CPU_S * 0.6)
        return text

    environment.add_filter("slow", slow)
    assert rendered("{{ 'a' | slow }}", environment) == "a"
    assert rendered("{{ 'a' | slow }}", environment) == "a"
    with pytest.raises(SecurityError, match="takes too long"):
        rendered("{{ 'a' | slow | slow }}", environment)


def test_long_conversations_are_within_the_bounds() -> None:
    turns = [{"role": "user", "content": "x" * 1000}] * 1024
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    assert len(rendered(source, messages=turns)) == 1024 * 1008


def test_weight_counts_shared_parts_as_often_as_they_appear() -> None:
    part = ["xxxx"]
    assert weigh("abc") == 3
    item = template.ITEM_WEIGHT
    assert weigh([part, part]) == item + 2 * (item + item + 4)
    assert weigh({"a": "b"}) == item + 2 * (item + 1)
    with pytest.raises(SecurityError):
        weigh([part] * 10, most=20 * item)


def test_a_template_that_breaks_a_bound_is_an_invalid_request() -> None:
    environment = template_environment()
    compiled = environment.from_string("{{ 'x' * 10 ** 9 }}")
    with pytest.raises(jinja2.TemplateError, match="grows beyond"):
        environment.render_bounded(compiled, {})


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_text_comes_through_whole(texts: list[str]) -> None:
    turns = [{"role": "user", "content": text} for text in texts]
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert rendered(source, messages=turns) == "".join(texts)


def test_only_formats_are_held_to_their_widths() -> None:
    source = "{{ text.split('x')[0] }}{{ text.strip() }}"
    environment = template_environment()
    said = '{"a": {"b": 1}, "c": "%12345d"}'
    template = environment.from_string(source)
    assert environment.render_bounded(template, {"text": said}) == said * 2
