"""What a request is refused with where its answer cannot be held to a grammar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from nsedge.api import (
    Chat,
    Constraint,
    Generate,
    Message,
    Request,
    Role,
    Sampling,
    Tool,
    ToolChoice,
)
from nsedge.bundle.causal_lm import CausalLm
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidParameter
from nsedge.runtime.hosting.admission import guide_of, make_job
from nsedge.runtime.structure.structure import Structure
from nsedge.runtime.text.detokenizer import Detokenizer
from nsedge.runtime.text.prompt import PromptReader
from tests.unit.bundles import TEMPLATE, edit_manifest, tokenizer, write_bundle

THOUGHT = "{% if false %}<think></think>{% endif %}"
GOOD: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
BAD: dict[str, Any] = {"type": "object", "properties": {"city": {"not": {"type": "string"}}}}


@dataclass(frozen=True, kw_only=True)
class Held:
    """What reads prompts, and what makes guides, of one model."""

    prompts: PromptReader
    structure: Structure


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Held:
    made = tokenizer()
    bundle = Bundle.open(
        write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", template=TEMPLATE + THOUGHT)
    )
    end = made.token_to_id("<|end|>")
    structure = Structure(made, size=made.get_vocab_size(), end_ids=(end,))
    return Held(prompts=PromptReader(bundle.of_kind(CausalLm), made), structure=structure)


def tool(name: str, parameters: dict[str, Any], *, strict: bool = False) -> Tool:
    return Tool(function={"name": name, "parameters": parameters}, strict=strict)


def refusal(model: Held, **fields: Any) -> tuple[str | None, str]:
    """The param and the message that a chat is refused with."""
    task = Chat(messages=(Message(role=Role.USER, content="hi"),), **fields)
    task.check()
    with pytest.raises(InvalidParameter) as caught:
        guide_of(task, (1,), prompts=model.prompts, structure=model.structure)
    return caught.value.param, caught.value.message


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (BAD, 'Unimplemented keys: ["not"] (at #/properties/city)'),
        ({"properties": {"a": {"type": "strin"}}}, "Invalid type: strin (at #/properties/a)"),
        (
            {"properties": {"a": {"$ref": "#/x"}}},
            "Pointer '/x' does not exist (at #/properties/a)",
        ),
    ],
)
def test_the_tool_whose_schema_cannot_be_held_is_named(
    model: Held, schema: dict[str, Any], why: str
) -> None:
    expected = ("tools", f"tools[1].function.parameters: {why}")
    forced = {"tool_choice": ToolChoice.REQUIRED}
    assert refusal(model, tools=(tool("a", GOOD), tool("b", schema)), **forced) == expected
    by_name = {**forced, "tool_name": "b"}
    assert refusal(model, tools=(tool("a", BAD), tool("b", schema)), **by_name) == expected
    free = (tool("a", BAD), tool("b", schema, strict=True))  # that of `a` holds nothing
    assert refusal(model, tools=free) == expected


def test_beside_tools_or_a_thought_a_bad_schema_of_the_answer_is_told_as_its_own(
    model: Held,
) -> None:
    own = Constraint.json_schema(BAD)
    why = 'Unimplemented keys: ["not"] (at #/properties/city)'
    expected = ("constraint", f"constraint (json_schema): {why}")
    assert refusal(model, tools=(tool("a", GOOD, strict=True),), constraint=own) == expected
    assert refusal(model, constraint=own) == expected
    assert refusal(model, constraint=own, split_reasoning=True) == expected


def test_tools_that_are_too_much_together_are_told_so(model: Held) -> None:
    """Each compiles; the bound is that of all of them."""
    fields = {f"field{i}": {"type": "integer"} for i in range(600)}
    large = {"type": "object", "properties": fields}
    tools = tuple(tool(f"t{i}", large) for i in range(20))
    param, message = refusal(model, tools=tools, tool_choice=ToolChoice.REQUIRED)
    assert (param, message) == (
        "tools",
        "tools: each schema can be held to, all of them together cannot; name fewer",
    )


@dataclass(frozen=True, kw_only=True)
class Writing(Held):
    """What a job is made for, besides."""

    manifest: CausalLm
    detokenizer: Detokenizer
    capacity: int = 64


@pytest.mark.parametrize(("ignore_eos", "ends"), [(False, True), (True, False)])
def test_the_text_of_a_gap_has_ends_of_its_own(
    tmp_path: Path, *, ignore_eos: bool, ends: bool
) -> None:
    made = tokenizer()
    marks = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>")
    made.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    folder = write_bundle(tmp_path / "tiny")
    edit_manifest(folder, vocab_size=made.get_vocab_size())
    bundle = Bundle.open(folder).of_kind(CausalLm)
    size = made.get_vocab_size()
    model: Any = Writing(
        prompts=PromptReader(bundle, made),
        structure=Structure(made, size=size, end_ids=bundle.manifest.eos_token_ids),
        manifest=bundle.manifest,
        detokenizer=Detokenizer(made),
    )
    sampling = Sampling(ignore_eos=ignore_eos, stop_token_ids=(3,))
    file = made.token_to_id("<|file_sep|>")
    for task, wanted in (
        (Generate(text="a", suffix="b", sampling=sampling), ends),
        (Generate(text="a", sampling=sampling), False),
    ):
        request = Request(request_id="r", model="tiny", task=task)
        job = make_job(request, model, prompt_ids=(1,), submitted_s=0.0, emit=lambda _: None)
        assert job.sequence.ends_with(file) is wanted
        assert job.sequence.ends_with(3)
