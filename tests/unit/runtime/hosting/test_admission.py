"""What a request is refused with where its answer cannot be held to a grammar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from nsedge.api import (
    Chat,
    Constraint,
    Dry,
    Generate,
    Message,
    Mirostat,
    Request,
    Role,
    SamplerStep,
    Sampling,
    Tool,
    ToolChoice,
    Xtc,
)
from nsedge.bundle.causal_lm import CausalLm
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidParameter
from nsedge.runtime.decode.sampling.params import SamplingParams
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
    slots: int = 4


def writing(bundle: Bundle[CausalLm], made: Tokenizer) -> Any:
    size, manifest = made.get_vocab_size(), bundle.manifest
    return Writing(
        prompts=PromptReader(bundle, made),
        structure=Structure(made, size=size, end_ids=manifest.eos_token_ids),
        manifest=manifest,
        detokenizer=Detokenizer(made),
    )


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
    model = writing(bundle, made)
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


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        ({"beams": 5}, "beams"),
        ({"temperature": 0.7}, "temperature"),
        ({"top_k": 3}, "top_k"),
        ({"top_p": 0.9}, "top_p"),
        ({"min_keep": 2}, "min_keep"),
        ({"xtc": Xtc(probability=0.5)}, "xtc"),
        ({"mirostat": Mirostat()}, "mirostat"),
        ({"dry": Dry(multiplier=0.5)}, "dry"),
        ({"samplers": (SamplerStep.TOP_K,)}, "samplers"),
        ({"constraint": Constraint.json_object()}, "constraint"),
    ],
)
def test_what_beams_cannot_be_asked_with_is_refused_by_name(
    tmp_path: Path, sampling: dict[str, Any], param: str
) -> None:
    made = tokenizer()
    model = writing(Bundle.open(write_bundle(tmp_path / "tiny")).of_kind(CausalLm), made)
    constraint = sampling.get("constraint")
    fields = {name: value for name, value in sampling.items() if name != "constraint"}
    task = Generate(text="a", sampling=Sampling(**{"beams": 4} | fields), constraint=constraint)
    request = Request(request_id="r", model="m", task=task)
    with pytest.raises(InvalidParameter) as refused:
        make_job(request, model, prompt_ids=(1, 2), submitted_s=0.0, emit=lambda event: None)
    assert refused.value.param == param


def test_a_bundle_that_advises_to_draw_is_searched_all_the_same(tmp_path: Path) -> None:
    made = tokenizer()
    folder = write_bundle(tmp_path / "tiny")
    advice = {"temperature": 0.6, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2}
    edit_manifest(folder, generation_defaults=advice)
    model = writing(Bundle.open(folder).of_kind(CausalLm), made)
    neutral = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "xtc": Xtc(probability=0.0)}
    sampling = Sampling(beams=3, n=2, prompt_lookup=True, **neutral)
    request = Request(request_id="r", model="m", task=Generate(text="a", sampling=sampling))
    job = make_job(request, model, prompt_ids=(1, 2), submitted_s=0.0, emit=lambda event: None)
    assert job.search is not None
    assert job.search.count == 2
    assert len(job.sequence.beams) == 3
    assert job.family is None
    assert job.sequence.lookup is None
    assert job.row.params == SamplingParams(temperature=0.0, repetition_penalty=1.2)
