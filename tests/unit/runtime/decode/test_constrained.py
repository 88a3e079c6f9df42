"""Rows held to a grammar: alone, in company, interrupted, guessed, and failing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nsedge.api import Constraint, Delta, Failed, Finished, Priority
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from nsedge.runtime.settings import PrefixReuse
from nsedge.runtime.structure.grammars import Grammars
from nsedge.runtime.structure.guide import Guide
from tests.unit.rig import END, GREEDY, VOCAB, Rig, continuation, next_token
from tests.unit.runtime.structure.vocabularies import letters

TOKENIZER = letters()
GRAMMARS = Grammars(TOKENIZER, size=VOCAB, end_ids=(END,))
RECORD = Constraint.json_schema(
    {
        "type": "object",
        "properties": {
            "identifier": {"type": "integer", "minimum": 0, "maximum": 99999},
            "colour": {"enum": ["red", "green", "blue"]},
            "note": {"type": "string", "maxLength": 6},
        },
        "required": ["identifier", "colour", "note"],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False},
    }
)
FIXED = Constraint.lark('start: /[a-z]/ "the same every time" /[0-9]/ "until the end" /[a-z]/')


def text_of(ids: list[int]) -> str:
    return "".join(chr(0x20 + token - 1) for token in ids if token != END)


def alone(prompt: tuple[int, ...], constraint: Constraint, max_tokens: int = 200) -> list[int]:
    """What a row says that takes the said token where it may come, else the first that may."""
    guide, tokens, said = GRAMMARS.guide(constraint), list(prompt), list[int]()
    while len(said) < max_tokens and not guide.done:
        guide.fill()
        bits = np.unpackbits(guide.mask().view(np.uint8), count=VOCAB, bitorder="little")
        wish = next_token(tokens)
        said.append(wish if bits[wish] else int(np.flatnonzero(bits)[0]))
        tokens.append(said[-1])
        if said[-1] == END:
            break
        guide.accept(said[-1])
    return said


def ending(rig: Rig, name: str) -> Finished | Failed:
    end = rig.events[name][-1]
    assert isinstance(end, Finished | Failed)
    return end


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("constraint", [RECORD, FIXED], ids=["record", "fixed"])
def test_an_answer_fits_its_grammar_and_ends_with_it(mixed: bool, constraint: Constraint) -> None:
    rig = Rig(mixed=mixed)
    job = rig.submit("a", (5, 6, 7), 200, guide=GRAMMARS.guide(constraint))
    rig.run()
    said = job.sequence.output_ids
    assert said == alone((5, 6, 7), constraint)
    assert END not in said
    end = ending(rig, "a")
    assert isinstance(end, Finished)
    assert (end.reason, end.stop, end.usage.completion_tokens) == ("stop", None, len(said))
    if constraint is RECORD:
        assert list(json.loads(text_of(said))) == ["identifier", "colour", "note"]


@pytest.mark.parametrize("mixed", [True, False])
def test_forced_tokens_take_no_step_of_their_own(mixed: bool) -> None:
    rig = Rig(mixed=mixed)
    job = rig.submit("a", (5, 6, 7), 200, guide=GRAMMARS.guide(FIXED))
    rig.run()
    assert re.fullmatch(
        r"[a-z]the same every time\duntil the end[a-z]", text_of(job.sequence.output_ids)
    )
    # The prompt, its first letter's leap, the digit's leap; a check holds eight tokens at most.
    assert rig.model.runs <= (4 if mixed else 7)
    assert len(job.sequence.output_ids) == 35


def rows(rig: Rig) -> dict[str, tuple[Job, list[int]]]:
    """Rows with and without a grammar, and what each says alone."""
    held = {"h0": RECORD, "h1": FIXED, "h2": RECORD}
    jobs = {}
    for number, (name, constraint) in enumerate(held.items()):
        prompt = (5, 6, 7, number)
        guide = GRAMMARS.guide(constraint)
        jobs[name] = rig.submit(name, prompt, 200, guide=guide), alone(prompt, constraint)
    for number in range(3):
        prompt = (9, 8, number)
        job = rig.submit(f"f{number}", prompt, 30, ignore_end=True)
        jobs[f"f{number}"] = job, continuation(prompt, 30, ignore_end=True)
    return jobs


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("reuse", [PrefixReuse.OFF, PrefixReuse.FULL])
@pytest.mark.parametrize("slots", [2, 6])
def test_company_changes_nobodys_text(mixed: bool, reuse: PrefixReuse, slots: int) -> None:
    rig = Rig(slots=slots, mixed=mixed, prefix_reuse=reuse)
    expected = rows(rig)
    rig.run()
    for name, (job, said) in expected.items():
        assert job.sequence.output_ids == said, name


@pytest.mark.parametrize("mixed", [True, False])
def test_an_interrupted_row_goes_on_where_it_was(mixed: bool) -> None:
    rig = Rig(slots=1, mixed=mixed)
    guide = GRAMMARS.guide(RECORD)
    job = rig.submit("a", (5, 6, 7), 200, guide=guide, priority=Priority.BATCH)
    for _ in range(6):
        rig.step()
    assert job.sequence.output_ids
    rig.submit("b", (1, 2), 3, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.scheduler.preemptions == 1
    assert job.sequence.output_ids == alone((5, 6, 7), RECORD)


@pytest.mark.parametrize("mixed", [True, False])
def test_guesses_are_held_to_the_grammar(mixed: bool) -> None:
    said = alone((5, 6, 7), RECORD)
    prompt = (5, 6, 7, *said, 5, 6, 7)  # what it says may stand in the prompt, or go wrong there
    rig = Rig(mixed=mixed)
    job = rig.submit("a", prompt, 200, guide=GRAMMARS.guide(RECORD), lookup=True)
    rig.run()
    assert job.sequence.output_ids == alone(prompt, RECORD)


def test_max_tokens_cut_an_answer_off_within_forced_tokens_too() -> None:
    for limit in (1, 2, 7, 20, 21, 34):
        rig = Rig(mixed=True)
        job = rig.submit("a", (5, 6), limit, guide=GRAMMARS.guide(FIXED))
        rig.run()
        end = ending(rig, "a")
        assert isinstance(end, Finished)
        assert end.reason == "length"
        assert job.sequence.output_ids == alone((5, 6), FIXED)[:limit]


def test_a_stop_string_ends_an_answer_wherever_it_stands() -> None:
    rig = Rig(mixed=True)
    stop = "".join(chr(0x100 + TOKENIZER.token_to_id(letter)) for letter in "same")
    job = rig.submit("a", (5, 6), 200, guide=GRAMMARS.guide(FIXED), stop=(stop,))
    rig.run()
    end = ending(rig, "a")
    assert isinstance(end, Finished)
    assert (end.reason, end.stop) == ("stop", stop)
    assert text_of(job.sequence.output_ids)[1:] == "the same"


def test_min_tokens_keep_an_answer_going_as_long_as_anything_can_follow() -> None:
    for least, most in ((12, 100), (12, 5)):
        rig = Rig()
        rig.model.says = lambda tokens: END
        held = GRAMMARS.guide(Constraint.regex(f"a{{1,{most}}}"))
        job = rig.submit("a", (5, 6), 50, guide=held, min_tokens=least)
        rig.run()
        assert text_of(job.sequence.output_ids) == "a" * min(least - 1, most)
        assert ending(rig, "a").reason == "stop"  # type: ignore[union-attr]


def test_an_end_that_is_ignored_does_not_come_while_anything_else_can() -> None:
    rig = Rig()
    rig.model.says = lambda tokens: END
    held = GRAMMARS.guide(Constraint.regex("a{1,9}"), may_end=False)
    job = rig.submit("a", (5, 6), 50, guide=held, ignore_end=True)
    rig.run()
    assert text_of(job.sequence.output_ids) == "a" * 9
    assert ending(rig, "a").reason == "stop"  # type: ignore[union-attr]


class Broken(Guide):
    """Fails after so many tokens, as a matcher does that takes too long."""

    def __init__(self, tokens: int) -> None:
        guide = GRAMMARS.guide(RECORD)
        super().__init__(guide.matcher, guide.mask())
        self._left = tokens

    def accept(self, token_id: int) -> None:
        self._left -= 1
        if not self._left:
            self.matcher.consume_token(VOCAB + 10_000)
        super().accept(token_id)


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_a_grammar_that_fails_fails_its_row_alone(mixed: bool, tokens: int) -> None:
    rig = Rig(slots=7, mixed=mixed)
    broken = rig.submit("x", (5, 6, 7, 8), 200, guide=Broken(tokens))
    expected = rows(rig)
    rig.run()
    end = ending(rig, "x")
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("constraint_failure", False)
    assert "\n" not in end.message
    assert len(broken.sequence.output_ids) == tokens - 1
    for name, (job, said) in expected.items():
        assert job.sequence.output_ids == said, name


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_allowed_tokens_that_the_grammar_has_not_are_the_requests_fault(
    mixed: bool, n: int
) -> None:
    rig = Rig(slots=7, mixed=mixed)
    row = SamplerRow(GREEDY, rules=TokenRules(allowed=(END + 1,)), vocabulary=VOCAB)
    guides = [GRAMMARS.guide(Constraint.regex("a{9}")) for _ in range(n)]
    rig.submit("x", (5, 6, 7, 8), 200, n=n, row=row, guide=guides)
    expected = rows(rig)
    rig.run()
    end = ending(rig, "x")
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("invalid_parameter", False)
    assert end.message == "no token may come next under allowed_token_ids and the grammar"
    for name, (job, said) in expected.items():
        assert job.sequence.output_ids == said, name


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("slots", [1, 3, 8])
def test_choices_have_grammars_of_their_own(mixed: bool, slots: int) -> None:
    """The tokens that the first ones leave out of steps change nothing for those that follow."""
    prompt, n = (5, 6, 7, 8, 9), 7
    random = SamplingParams(temperature=1.0)

    def rig_of(slots: int) -> Rig:
        rig = Rig(slots=slots, mixed=mixed)
        rig.model.logits_after = lambda tokens: 3.0
        return rig

    rig = rig_of(slots)
    guides = [GRAMMARS.guide(FIXED) for _ in range(n)]
    rig.submit("a", prompt, 200, n=n, params=random, seed=3, guide=guides)
    rig.run()
    assert rig.engine.stats(slots=slots, capacity=99).prompt_tokens == len(prompt)
    said = []
    for choice in range(n):
        lone = rig_of(1)
        job = lone.submit(
            "a", prompt, 200, params=random, seed=3 + choice, guide=GRAMMARS.guide(FIXED)
        )
        lone.run()
        deltas = [e for e in rig.events["a"] if isinstance(e, Delta) and e.choice == choice]
        said.append([token for delta in deltas for token in delta.token_ids])
        assert said[-1] == job.sequence.output_ids
        assert re.fullmatch("[a-z]the same every time[0-9]until the end[a-z]", text_of(said[-1]))
    assert len({text_of(ids) for ids in said}) > 1
