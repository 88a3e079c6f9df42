"""Which model is asked for next.

Two predictors over the same history. `ByScore` ranks by the score alone. `ByPatterns` mixes four
experts (score, hour of the day, what follows what, plain frequency), each trusted by how well it
foretold the requests so far: the fixed-share forecaster of Herbster and Warmuth (Machine Learning
32, 1998), which finds the best expert and changes its mind when the habits change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from nsedge.runtime.residency.usage import HOURS, History, priority_score

SHARE = 0.02
"""How much of the trust is dealt out evenly anew at each request."""
DOUBT = 0.05
"""The share of each expert's word that is spread evenly over all models: nothing is impossible."""
NEAR_HOUR = 0.5
"""What a use in the hour before or after counts, beside one in this hour."""

Shares = dict[str, float]
"""Model -> likelihood; they sum to 1 where there is any model."""


class Predictor(Protocol):
    """Foretells from a history.

    least: the likelihood from which on a model is worth loading before it is asked for.
    """

    least: float

    def likelihoods(self, history: History, *, now_s: float, hour: int) -> Shares:
        """How likely each known model is the next other than the one used last."""
        ...

    def learn(self, history: History, name: str, *, now_s: float, hour: int) -> None:
        """`name` is asked for; `history` does not know yet."""
        ...


class ByScore:
    """usage_count * max(0.1, 1 - idle / 3600), and nothing else."""

    least = 0.0

    def likelihoods(self, history: History, *, now_s: float, hour: int) -> Shares:
        """The scores, scaled to sum to 1."""
        return _scaled(_by_score(history, now_s, hour))

    def learn(self, history: History, name: str, *, now_s: float, hour: int) -> None:
        """A score has nothing to learn."""


class ByPatterns:
    """A mixture of experts, trusted by what they foretold."""

    least = 0.25

    def likelihoods(self, history: History, *, now_s: float, hour: int) -> Shares:
        """The experts' words, each weighed by its trust."""
        trust = _trust(history)
        words = {name: _word(expert, history, now_s, hour) for name, expert in EXPERTS.items()}
        return {
            model: sum(trust[name] * words[name][model] for name in EXPERTS)
            for model in history.models
        }

    def learn(self, history: History, name: str, *, now_s: float, hour: int) -> None:
        """Trust those more that held `name` likelier. A request for the model of the one before
        tells nothing of what comes next, and a new model none could foretell."""
        if name not in history.models or name == history.last:
            return
        trust = _trust(history)
        for expert, says in EXPERTS.items():
            trust[expert] *= _word(says, history, now_s, hour)[name]
        even = SHARE / len(EXPERTS)
        history.weights = {
            expert: even + (1.0 - SHARE) * weight for expert, weight in _scaled(trust).items()
        }


PREDICTORS: dict[str, Callable[[], Predictor]] = {"score": ByScore, "patterns": ByPatterns}


def ranked(likelihoods: Mapping[str, float], absent: Iterable[str] = ()) -> list[str]:
    """The models, likeliest first; those of equal likelihood by name. `absent` are left out."""
    left_out = set(absent)
    return sorted(
        (name for name in likelihoods if name not in left_out),
        key=lambda name: (-likelihoods[name], name),
    )


def _by_score(history: History, now_s: float, hour: int) -> Shares:
    return {
        name: priority_score(record.count, now_s - record.last_used_s)
        for name, record in history.models.items()
    }


def _by_hour(history: History, now_s: float, hour: int) -> Shares:
    near = ((hour, 1.0), ((hour - 1) % HOURS, NEAR_HOUR), ((hour + 1) % HOURS, NEAR_HOUR))
    return {
        name: sum(record.hours[at] * weight for at, weight in near)
        for name, record in history.models.items()
    }


def _by_follower(history: History, now_s: float, hour: int) -> Shares:
    before = history.models.get(history.last or "")
    followers = {} if before is None else before.followed_by
    return {name: float(followers.get(name, 0)) for name in history.models}


def _by_count(history: History, now_s: float, hour: int) -> Shares:
    return {name: float(record.count) for name, record in history.models.items()}


Expert = Callable[[History, float, int], Shares]
EXPERTS: dict[str, Expert] = {
    "score": _by_score,
    "hour": _by_hour,
    "follower": _by_follower,
    "count": _by_count,
}


def _word(expert: Expert, history: History, now_s: float, hour: int) -> Shares:
    """What an expert says of the models other than the last, with a doubt."""
    said = expert(history, now_s, hour)
    if len(said) > 1 and history.last in said:
        said[history.last] = 0.0
    even = 1.0 / max(1, len(said))
    return {name: DOUBT * even + (1.0 - DOUBT) * share for name, share in _scaled(said).items()}


def _trust(history: History) -> Shares:
    return _scaled({name: max(0.0, history.weights.get(name, 1.0)) for name in EXPERTS})


def _scaled(shares: Shares) -> Shares:
    total = sum(shares.values())
    if total <= 0.0:
        return dict.fromkeys(shares, 1.0 / max(1, len(shares)))
    return {name: share / total for name, share in shares.items()}
