"""A request: a task for a model, and how it is to be scheduled."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.api.scheduling import Scheduling
from nsedge.api.tasks import Chat, Generate, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Scheduling):
    """A task for `model`. `request_id` is the client's own label, echoed in every event."""

    request_id: str
    model: str
    task: Task

    @property
    def choices(self) -> int:
        """How many answers it asks for."""
        return self.task.sampling.n if isinstance(self.task, Generate | Chat) else 1

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        self.task.check()
        Scheduling.check(self)
