"""Golden prompts before a model is ready, with a model of arithmetic."""

from __future__ import annotations

import pytest

from nsedge.bundle.causal_lm import Fidelity, GoldenPrompt, GraphIo, KvLayout, Variant
from nsedge.errors import BundleInvalid
from nsedge.runtime.hosting import golden
from tests.unit.rig import RowModel, continuation

PROMPTS = ((1, 2, 3), (4, 5), (6, 7, 8, 9), (10,))
LENGTHS = (3, 7, 1, 40)


def prompt(ids: tuple[int, ...], tokens: int) -> GoldenPrompt:
    said = tuple(continuation(ids, tokens, ignore_end=True))
    return GoldenPrompt(text="", prompt_ids=ids, continuation_ids=said, logprobs=(0.0,) * tokens)


def variant(top1: float | None) -> Variant:
    fidelity = Fidelity(
        positions=1, kl=0, top1=top1 or 0, perplexity=1, perplexity_fp32=1, text_sha256="0" * 64
    )
    return Variant(
        name="cpu",
        device="cpu",
        scheme="none",
        graph="model.onnx",
        io=GraphIo(),
        kv=KvLayout(layers=1, heads=1, head_dim=1),
        fidelity=None if top1 is None else fidelity,
    )


def check(model: RowModel, *, top1: float | None = None, capacity: int = 64) -> golden.Agreement:
    prompts = [prompt(ids, tokens) for ids, tokens in zip(PROMPTS, LENGTHS, strict=True)]
    return golden.check(
        prompts, model, variant=variant(top1), slots=len(model.rows), capacity=capacity
    )


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_what_was_recorded_is_said_again_whatever_the_rows(slots: int, contiguous: bool) -> None:
    found = check(RowModel(slots, contiguous=contiguous))
    assert found.tokens == sum(min(each, golden.TOKENS) for each in LENGTHS)
    assert found.agreed == found.tokens


def test_a_model_that_says_otherwise_is_refused_with_figures() -> None:
    model = RowModel(4, contiguous=True)
    model.says = lambda tokens: 5
    with pytest.raises(BundleInvalid, match=r"golden prompts here: \d of 19 tokens agree, 100%"):
        check(model)


def test_a_variant_is_held_to_what_it_was_at_export() -> None:
    calls = iter(range(1000))
    model = RowModel(4, contiguous=True)
    honest = model.says
    model.says = lambda tokens: honest(tokens) if next(calls) % 3 else 5
    assert 0.5 < check(model, top1=0.7).share < 0.8
    calls = iter(range(1000))
    with pytest.raises(BundleInvalid, match="98% did when it was exported"):
        check(model, top1=0.98)


def test_a_prompt_that_does_not_fit_is_left_out() -> None:
    model = RowModel(4, contiguous=True)
    assert check(model, capacity=10).tokens == 3 + 7 + 1
    assert check(model, capacity=1).share == 1.0
