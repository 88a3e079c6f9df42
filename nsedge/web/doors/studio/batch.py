"""Several ideas in one answer: each prompt by each model, of which none sinks another; pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from nsedge.api import Failed, Finished, Request, Result
from nsedge.web.answer_stream import Batch, StreamEncoder, json_text, settled
from nsedge.web.choices import Choice
from nsedge.web.doors.studio.shapes import BatchAnswer, EnsembleAnswer, IdeaObject, Vote
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE
from nsedge.web.logprobs import told

MAX_TITLE = 80
_encode = msgspec.json.Encoder().encode
Outcome = Choice | Refusal
Answer = BatchAnswer | EnsembleAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An idea to come: what is asked for it, or why it cannot be."""

    idea_id: str
    category: str
    model: str
    asked: Request | Refusal


def idea_of(plan: Plan, outcome: Outcome) -> IdeaObject:
    """What came of a plan, or why nothing did."""
    idea: IdeaObject = {
        "id": plan.idea_id,
        "title": "",
        "content": "",
        "category": plan.category,
        "model_used": plan.model,
        "generation_time": 0.0,
    }
    if isinstance(outcome, Refusal):
        idea["error"], idea["code"] = outcome.message, outcome.code
        return idea
    timings = outcome.finished.timings
    took_s = timings.queue_s + timings.prefill_s + timings.decode_s
    idea["title"], idea["content"] = title_of(outcome.text), outcome.text
    idea["generation_time"] = round(took_s, 6)
    return idea


def title_of(text: str) -> str:
    """The first line that says something, without its marks, cut to MAX_TITLE characters."""
    lines = (line.strip().strip("#*_>-\"' ") for line in text.splitlines())
    first = next(filter(None, lines), "")
    return first if len(first) <= MAX_TITLE else f"{first[: MAX_TITLE - 1].rstrip()}\u2026"


def answer_of(ideas: Sequence[IdeaObject], total_s: float) -> BatchAnswer:
    """All ideas, and figures of them. Times are in seconds."""
    well = [idea for idea in ideas if "error" not in idea]
    spent_s = sum(idea["generation_time"] for idea in well)
    return {
        "ideas": list(ideas),
        "total_count": len(ideas),
        "success_count": len(well),
        "failed_count": len(ideas) - len(well),
        "total_time": round(total_s, 6),
        "average_time": round(spent_s / len(well), 6) if well else 0.0,
    }


def mean_logprob(choice: Choice) -> float | None:
    """Of the tokens that were written, in nats; None where none was."""
    said = [token.logprob for token in told(choice.results) if token.logprob is not None]
    return sum(said) / len(said) if said else None


def likeliest(ideas: Sequence[IdeaObject], outcomes: Sequence[Outcome]) -> IdeaObject | None:
    """The answer of which its own model is surest, by the mean log-probability of its tokens: each
    has its own told; of equals, the one whose model was named first is chosen."""
    chosen, best = None, -math.inf
    for idea, outcome in zip(ideas, outcomes, strict=True):
        mean = mean_logprob(outcome) if isinstance(outcome, Choice) else None
        idea["mean_logprob"] = None if mean is None else round(mean, 6)
        if mean is not None and mean > best:
            chosen, best = idea, mean
    return chosen


def voted(ideas: Sequence[IdeaObject]) -> tuple[IdeaObject | None, list[Vote]]:
    """The answer that most models gave, whatever its case, spaces and marks at its ends, and all
    votes; where as many gave another, the one whose first model was named first."""
    votes: dict[str, list[IdeaObject]] = {}
    for idea in ideas:
        if "error" not in idea:
            votes.setdefault(_essence(idea["content"]), []).append(idea)
    ranked = sorted(votes.values(), key=len, reverse=True)
    counted: list[Vote] = [
        {
            "content": given[0]["content"],
            "count": len(given),
            "models": [idea["model_used"] for idea in given],
        }
        for given in ranked
    ]
    return (ranked[0][0] if ranked else None), counted


def _essence(text: str) -> str:
    words = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    while words and not words[-1].isalnum():
        words = words[:-1]
    start = next((at for at, one in enumerate(words) if one.isalnum()), 0)
    return words[start:]


class BatchStream(StreamEncoder):
    """How a batch goes on: a start, each idea when it is there or has failed, and the figures.

    Ideas of `plans` that cannot be are told at the start.

    - there: called with each idea that is there, before it is told.
    - gather: makes the whole answer of all ideas, in the order of `plans`; called once.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        there: Callable[[Plan, Choice], None],
        gather: Callable[[list[Outcome]], Answer],
    ) -> None:
        super().__init__()
        self._asked = [at for at, plan in enumerate(plans) if isinstance(plan.asked, Request)]
        self._plans = plans
        self._there = there
        self._gather = gather
        self._outcomes: dict[int, Outcome] = {
            at: plan.asked for at, plan in enumerate(plans) if isinstance(plan.asked, Refusal)
        }
        self._results: list[list[Result]] = [[] for _ in self._asked]
        self._begun = False

    def encode(self, batch: Batch) -> bytes:
        """The bytes that `batch` adds. The failure of one request ends none but its own."""
        pieces = [] if self._begun else [self.begin()]
        for index, event in batch:
            event = settled(event)
            if isinstance(event, Failed):
                # Without a request it is of them all.
                ended = [index] if event.request_id is not None else range(len(self._asked))
                pieces += [self._end(one, Refusal.of(event)) for one in ended]
            elif isinstance(event, Finished):
                choice = Choice(results=tuple(self._results[index]), finished=event)
                pieces.append(self._end(index, choice))
            elif isinstance(event, Result):
                self._results[index].append(event)
        if len(self._outcomes) == len(self._plans) and not self.ended:
            pieces.append(self._all())
        return b"".join(pieces)

    def begin(self) -> bytes:
        """The start, and the ideas that cannot be."""
        self._begun = True
        start = {"type": "start", "total_count": len(self._plans), "progress": 0.0}
        refused = [self._idea(at) for at in list(self._outcomes)]
        return b"".join([SSE.record(_encode(start)), *refused])

    def error(self, refusal: Refusal) -> bytes:
        return SSE.record(_encode({"type": "error", "message": refusal.message}))

    def _end(self, index: int, outcome: Outcome) -> bytes:
        at = self._asked[index]
        if at in self._outcomes:
            return b""
        self._outcomes[at] = outcome
        if isinstance(outcome, Choice):
            self._there(self._plans[at], outcome)
        return self._idea(at)

    def _idea(self, at: int) -> bytes:
        idea = idea_of(self._plans[at], self._outcomes[at])
        progress = round(len(self._outcomes) / len(self._plans), 4)
        return SSE.record(json_text({"type": "idea", "idea": idea, "progress": progress}))

    def _all(self) -> bytes:
        self.ended = True
        answer = self._gather([self._outcomes[at] for at in range(len(self._plans))])
        figures = {name: value for name, value in answer.items() if name != "ideas"}
        return SSE.record(json_text({"type": "complete", "progress": 1.0, **figures}))
