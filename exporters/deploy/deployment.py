"""Deploying a bundle, and going back.

Check, copy, load, try out, and only then switch: until the last step the alias stands for what it
stood for before, and so it does after a step that fails.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exporters.deploy import history
from exporters.deploy.history import Deployment, History
from exporters.deploy.store import Candidate, Store, examine
from exporters.deploy.targets import Target
from exporters.errors import ExportError
from exporters.progress import Progress
from nsedge.errors import ConnectionLost, NsedgeError
from nsedge.runtime.hosting.golden import Agreement
from nsedge.runtime.hosting.golden_scores import Closeness
from nsedge.runtime.hosting.golden_vectors import Nearness


class Step(enum.StrEnum):
    """What a deployment can fail in."""

    CHECK = "check"
    COPY = "copy"
    LOAD = "load"
    TRY_OUT = "try out"
    SWITCH = "switch"


class DeployFailed(ExportError):
    """A step failed; `before` is what the alias still stands for."""

    def __init__(self, step: Step, alias: str, before: str | None, reason: str) -> None:
        stands = "nothing yet" if before is None else before
        super().__init__(f"{step.value} failed: {reason}; {alias} still stands for {stands}")
        self.step = step


class SwitchUnclear(ExportError):
    """The connection broke while the alias was being switched."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to deploy, and how."""

    bundle: Path
    alias: str | None = None
    """None is the bundle's own name."""
    link: bool = False
    keep: int
    """Earlier versions of the alias that stay to go back to."""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What came of it."""

    alias: str
    model: str
    previous: str | None
    unchanged: bool = False
    copied: bool = False
    agreement: Agreement | Nearness | Closeness | None = None
    """Of the golden samples; None where nobody was asked."""
    removed: tuple[str, ...] = ()
    """Earlier versions that were taken out of the store."""


@dataclass(frozen=True, kw_only=True)
class Yard:
    """Where deployments happen."""

    store: Store
    target: Target
    progress: Progress
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def deploy(order: Order, yard: Yard) -> Deployed:
    """Have the bundle served under its alias.

    Raises:
        DeployFailed: naming the step; what the alias stood for, it stands for still.
        SwitchUnclear: it is not known whether the last step was done.
    """
    name = order.alias or order.bundle.name
    with _during(Step.CHECK, name, None), yard.progress.step(f"Checking {order.bundle}"):
        candidate = examine(order.bundle)
    alias = order.alias or candidate.bundle.manifest.name
    with yard.store.locked(yard.progress):
        before = yard.target.aliases().get(alias)
        with _during(Step.CHECK, alias, before):
            _check_alias(alias, yard)
            known = history.read(yard.store, alias)
        if before == candidate.served and yard.store.holds(candidate):
            return Deployed(alias=alias, model=before, previous=None, unchanged=True)
        with _during(Step.COPY, alias, before):
            copied = yard.store.add(candidate, link=order.link, progress=yard.progress)
        agreement = _take_over(candidate, before, yard=yard, known=known, copied=copied)
        if before is not None and before != candidate.served:
            _retire(before, yard)
        removed = _prune(alias, candidate.served, keep=order.keep, yard=yard)
    return Deployed(
        alias=alias,
        model=candidate.served,
        previous=before,
        copied=copied,
        agreement=agreement,
        removed=removed,
    )


def roll_back(alias: str, yard: Yard, *, version: str | None = None) -> Deployed:
    """Let the alias stand for what it stood for before, or for `version`.

    Raises:
        ExportError: there is nothing to go back to.
        DeployFailed: naming the step; what the alias stood for, it stands for still.
    """
    with yard.store.locked(yard.progress):
        before = yard.target.aliases().get(alias)
        if before is None:
            raise ExportError(f"{alias} stands for nothing: deploy a bundle first")
        known = history.read(yard.store, alias)
        goal = _earlier(known, before) if version is None else _meant(known, version)
        if goal == before:
            return Deployed(alias=alias, model=goal, previous=None, unchanged=True)
        try:
            with _during(Step.LOAD, alias, before):
                yard.target.bring(goal, instead=before)
            with _during(Step.SWITCH, alias, before):
                yard.target.switch(alias, goal)
        except DeployFailed:
            yard.target.drop(goal, instead=before)
            raise
        _retire(before, yard)
    return Deployed(alias=alias, model=goal, previous=before)


def _take_over(
    candidate: Candidate, before: str | None, *, yard: Yard, known: History, copied: bool
) -> Agreement | Nearness | Closeness | None:
    """Load, try out and switch; what fails leaves no trace."""
    model, alias, target = candidate.served, known.alias, yard.target
    in_use = frozenset(target.aliases().values())
    try:
        with _during(Step.LOAD, alias, before):
            target.bring(model, instead=before)
        with _during(Step.TRY_OUT, alias, before):
            agreement = target.try_out(candidate)
        with _during(Step.SWITCH, alias, before):
            deployed = yard.now().isoformat(timespec="seconds").replace("+00:00", "Z")
            previous = before if before != model else None
            new = Deployment(model=model, deployed=deployed, previous=previous)
            history.write(yard.store, known.after(new))
            target.switch(alias, model)
    except SwitchUnclear:
        raise
    except BaseException:
        _undo(model, before, yard=yard, known=known, remove=copied and model not in in_use)
        raise
    return agreement


def _undo(model: str, before: str | None, *, yard: Yard, known: History, remove: bool) -> None:
    """Take back what was done for a version that is not to be served."""
    yard.target.drop(model, instead=before)
    try:
        if remove:
            yard.store.remove(model)
        if history.read(yard.store, known.alias) != known:
            history.write(yard.store, known)
    except (ExportError, OSError) as error:
        yard.progress.note(f"{model} is left in {yard.store.folder}: {error}")


@contextmanager
def _during(step: Step, alias: str, before: str | None) -> Iterator[None]:
    """Say of an error in which step it was."""
    try:
        yield
    except (ConnectionLost, KeyboardInterrupt) as error:
        if step is Step.SWITCH:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else error.message
            raise SwitchUnclear(
                f"{step.value}: {why}; `nsedge-export versions {alias}` tells what {alias} stands"
                " for; deploying again does no harm"
            ) from error
        if isinstance(error, KeyboardInterrupt):
            raise
        raise DeployFailed(step, alias, before, error.message) from error
    except (ExportError, NsedgeError, OSError) as error:
        raise DeployFailed(step, alias, before, str(error)) from error


def _check_alias(alias: str, yard: Yard) -> None:
    if alias in yard.target.names():
        raise ExportError(
            f"{alias!r} is a model's own name, which no alias can have: choose another with --as,"
            f" or take that bundle out of {yard.store.folder}"
        )


def _retire(model: str, yard: Yard) -> None:
    """Let a replaced version leave memory; a bundle that is served by its own name stays."""
    if model in yard.store.versions():
        yard.target.retire(model)


def _prune(alias: str, current: str, *, keep: int, yard: Yard) -> tuple[str, ...]:
    """Take old versions of the alias out of the store, but for `keep` to go back to; what fails
    here can wait for the next time."""
    try:
        return _remove_old(history.read(yard.store, alias), current, keep=keep, yard=yard)
    except (ExportError, NsedgeError, OSError) as error:
        yard.progress.note(f"earlier versions were not removed: {error}")
        return ()


def _remove_old(known: History, current: str, *, keep: int, yard: Yard) -> tuple[str, ...]:
    kept = {current, *list(known.back_from(current))[:keep], *yard.target.aliases().values()}
    for other in history.read_all(yard.store):
        if other.alias != known.alias:
            kept |= {one.model for one in other.deployments}
    old = [one.model for one in known.deployments if one.model not in kept]
    removed = tuple(model for model in old if yard.target.at_rest(model))
    for model in removed:
        yard.store.remove(model)
    if removed:
        history.write(yard.store, known.without(removed))
    return removed


def _earlier(known: History, current: str) -> str:
    goal = next(known.back_from(current), None)
    if goal is None:
        raise ExportError(f"nothing is known that {known.alias} stood for before {current}")
    return goal


def _meant(known: History, version: str) -> str:
    """The deployed model that is called so, or whose version begins so."""
    models = [one.model for one in known.deployments]
    found = [
        model
        for model in models
        if version == model or model.rpartition(".")[2].startswith(version)
    ]
    if len(found) == 1:
        return found[0]
    some = "several" if found else "none"
    listed = ", ".join(found or models) or "there is none"
    raise ExportError(f"{some} of {known.alias}'s versions is meant by {version!r}: {listed}")
