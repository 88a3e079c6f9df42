"""What an alias stood for before: which version came after which, kept in the store.

Which one it stands for now is the daemon's to say, so that a run that was killed between two steps
leaves nothing that contradicts itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from exporters.deploy.store import Store
from exporters.errors import ExportError
from nsedge.process.state_file import encode, replace_file


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version that an alias was given: what it is called, when (ISO 8601, UTC), and after
    which."""

    model: str
    deployed: str
    previous: str | None


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The deployments of an alias, each model once."""

    alias: str
    deployments: tuple[Deployment, ...] = ()

    def find(self, model: str) -> Deployment | None:
        """When it was last deployed."""
        return next((one for one in self.deployments if one.model == model), None)

    def after(self, deployment: Deployment) -> History:
        """With another deployment; an earlier one of the same model is forgotten."""
        others = self.without([deployment.model]).deployments
        return History(alias=self.alias, deployments=(*others, deployment))

    def without(self, models: Iterable[str]) -> History:
        """Without the deployments of these."""
        gone = frozenset(models)
        kept = tuple(one for one in self.deployments if one.model not in gone)
        return History(alias=self.alias, deployments=kept)

    def back_from(self, model: str) -> Iterator[str]:
        """What stood before `model`, the nearest first; each once, and never `model`."""
        seen = {model}
        found = self.find(model)
        while found is not None and found.previous is not None and found.previous not in seen:
            seen.add(found.previous)
            yield found.previous
            found = self.find(found.previous)


def read(store: Store, alias: str) -> History:
    """The history of an alias; empty where it has none.

    Raises:
        ExportError: the file is damaged.
    """
    path = store.own / f"{alias}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=History)
    except FileNotFoundError:
        return History(alias=alias)
    except msgspec.DecodeError as error:
        raise ExportError(f"{path} is damaged ({error}): repair it, or delete it") from error


def read_all(store: Store) -> tuple[History, ...]:
    """Every history in the store. Raises ExportError for a damaged one."""
    return tuple(read(store, path.stem) for path in sorted(store.own.glob("*.json")))


def write(store: Store, history: History) -> None:
    """Keep a history. Raises OSError; the one before is there still."""
    replace_file(store.own / f"{history.alias}.json", encode(history))
