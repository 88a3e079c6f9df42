"""Thoughts of the real model, with a template that begins them: it was not trained to think, so
that the few tokens it may use are those that end a thought."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.daemon import free_port
from exporters.bundle.starter import NAME
from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import open_causal_lm
from tests.integration.test_access_real import up
from tests.integration.test_client_doors_real import asked, records

pytestmark = pytest.mark.integration

TEMPLATE = """\
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- set said = message['content'] %}
{%- if '</think>' in said %}{%- set said = said.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{{- said + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is not defined or enable_thinking %}{{ '<think>\\n' }}{%- endif %}
{%- endif %}"""
TURNS = [{"role": "user", "content": "How many?"}]
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": "42"}}}
SEEDS = range(8)
FEW = SEEDS[:2]
"""Enough for what holds of any text."""


@pytest.fixture(scope="module")
def thinking_bundle(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter with another template."""
    manifest = open_causal_lm(starter_bundle).manifest
    folder = tmp_path_factory.mktemp("thinking") / NAME
    template = manifest.chat_template
    assert template is not None
    for name in manifest.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name != template:
            (folder / name).symlink_to(starter_bundle / name)
    (folder / template).write_text(TEMPLATE, encoding="utf-8")
    entry = FileEntry(sha256=sha256_of(folder / template), bytes=len(TEMPLATE.encode()))
    files = manifest.files | {template: entry}
    write_manifest(folder, msgspec.structs.replace(manifest, files=files))
    return folder


@pytest.fixture(scope="module")
def port(thinking_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with up(
        tmp_path_factory.mktemp("thoughts"),
        NSEDGE_MODELS_LOAD=str(thinking_bundle.resolve()),
        NSEDGE_WEB_PORT=str(port),
    ):
        yield port


@pytest.fixture(scope="module")
def few(port: int) -> list[int]:
    """The tokens of the mark that ends a thought, of a word, and of the answer."""
    found: set[int] = set()
    for text in ("</think>", " so", "\n\n", '"42"'):
        answer: Any = asked(port, "/tokenize", {"content": text}).json
        found |= {*answer["tokens"]}
    return sorted(found)


def body_of(few: list[int], seed: int, **more: Any) -> dict[str, Any]:
    return {
        "model": NAME,
        "messages": TURNS,
        "seed": seed,
        "temperature": 1.0,
        "top_k": 0,
        "allowed_token_ids": few,
        "max_tokens": 400,
        "response_format": FORM,
    } | more


def said(port: int, body: dict[str, Any]) -> Any:
    answer = asked(port, "/v1/chat/completions", body)
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body)["choices"][0]


def test_a_thought_comes_apart_and_the_answer_fits_behind_it(port: int, few: list[int]) -> None:
    ended = 0
    for seed in SEEDS:
        choice = said(port, body_of(few, seed))
        message = choice["message"]
        assert "</think>" not in (message.get("reasoning_content") or "")
        if choice["finish_reason"] == "stop":
            ended += 1
            assert message["content"] == '"42"'
        else:
            assert (choice["finish_reason"], message["content"]) == ("length", "")
        if seed not in FEW:
            continue
        answer = asked(port, "/v1/chat/completions", body_of(few, seed, stream=True))
        deltas = [one["choices"][0]["delta"] for one in records(answer)]
        for name in ("reasoning_content", "content"):
            told = "".join(delta.get(name) or "" for delta in deltas)
            assert told == (message.get(name) or "")
    assert ended


def test_it_stays_in_the_text_where_it_is_asked_to(port: int, few: list[int]) -> None:
    for seed in FEW:
        apart = said(port, body_of(few, seed, response_format=None))["message"]
        text = said(port, body_of(few, seed, response_format=None, reasoning_format="none"))
        whole = text["message"]["content"]
        assert "reasoning_content" not in text["message"]
        assert whole.strip().startswith((apart.get("reasoning_content") or "").strip())
        assert whole.endswith(apart["content"] or "")


def test_a_template_that_is_told_not_to_think(port: int, few: list[int]) -> None:
    for told in ({"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False}):
        prompt: Any = asked(port, "/apply-template", {"messages": TURNS, **told}).json["prompt"]
        assert prompt.endswith("<|im_start|>assistant\n")
        choice = said(port, body_of(few, 0, **told))
        assert choice["message"]["content"] == '"42"'
        assert not choice["message"].get("reasoning_content")


def test_responses_and_ollama_tell_thoughts_their_way(port: int, few: list[int]) -> None:
    body = {name: value for name, value in body_of(few, 0).items() if name != "messages"}
    del body["response_format"], body["max_tokens"]
    for seed in FEW:
        wanted = said(port, body_of(few, seed, response_format=None))["message"]
        answer = asked(
            port,
            "/v1/responses",
            body | {"seed": seed, "input": "How many?", "max_output_tokens": 400},
        )
        items: Any = answer.json["output"]
        thoughts = [item for item in items if item["type"] == "reasoning"]
        told = "".join(part["text"] for item in thoughts for part in item["content"])
        assert told == (wanted.get("reasoning_content") or "")
    options = {"temperature": 0, "num_predict": 8}
    chat = {"model": NAME, "messages": TURNS, "options": options, "stream": False}
    thinking: Any = asked(port, "/api/chat", chat).json["message"]
    assert thinking["thinking"]
    assert thinking["content"] == ""
    plain: Any = asked(port, "/api/chat", chat | {"think": False}).json["message"]
    assert "thinking" not in plain
    assert plain["content"]
