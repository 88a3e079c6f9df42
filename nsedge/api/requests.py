"""A request: a task for a model, and how it is to be scheduled."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.api.models import check_keep_alive
from nsedge.api.priority import Priority
from nsedge.api.tasks import Task
from nsedge.errors import InvalidParameter

MAX_DEADLINE_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A task for `model`. `request_id` is the client's own label, echoed in every event.

    `deadline_s`: seconds from admission after which the request fails (deadline_exceeded), wherever
    it stands; None is no deadline. `keep_alive_s`: idle seconds after which its model leaves memory
    from then on; infinite is never, 0 at once, None changes nothing. `traceparent`: the
    caller's W3C trace context, for the log and as the parent of the daemon's spans.
    """

    request_id: str
    model: str
    task: Task
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None
    traceparent: str | None = None

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        self.task.check()
        if self.deadline_s is not None and not 0.0 < self.deadline_s <= MAX_DEADLINE_S:
            raise InvalidParameter(
                f"deadline_s must be above 0 and at most {MAX_DEADLINE_S:g}, not {self.deadline_s}",
                param="deadline_s",
            )
        check_keep_alive(self.keep_alive_s)
