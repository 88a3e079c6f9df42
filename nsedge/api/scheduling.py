"""How a request is to be scheduled, whatever its task.

A field that is added here, in both types, is `Request`'s and the Python clients'; the ZeroMQ
message (`ipc.messages.requests.Asked`), the HTTP body (`web.request_fields.SchedulingBody`) and the
command line (`cli.arguments.scheduling_of`) name it once each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypedDict, cast

from nsedge.api.models import check_keep_alive
from nsedge.api.priority import Priority
from nsedge.errors import InvalidParameter

MAX_DEADLINE_S = 1e9


class SchedulingFields(TypedDict, total=False):
    """The fields of `Scheduling` as keyword arguments."""

    priority: Priority
    deadline_s: float | None
    keep_alive_s: float | None
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """When a request runs, and what follows from it.

    - priority: who goes first where not all can run.
    - deadline_s: seconds from admission after which the request fails (deadline_exceeded), wherever
      it stands; None is no deadline.
    - keep_alive_s: idle seconds after which its model leaves memory from then on; infinite is
      never, 0 at once, None changes nothing.
    - traceparent: the caller's W3C trace context, for the log and as the parent of the daemon's
      spans.
    """

    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None
    traceparent: str | None = None

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        if self.deadline_s is not None and not 0.0 < self.deadline_s <= MAX_DEADLINE_S:
            raise InvalidParameter(
                f"deadline_s must be above 0 and at most {MAX_DEADLINE_S:g}, not {self.deadline_s}",
                param="deadline_s",
            )
        check_keep_alive(self.keep_alive_s)


_NAMES = tuple(field.name for field in fields(Scheduling))


def scheduling_of(source: object) -> SchedulingFields:
    """What `source`, which has these fields, says of scheduling."""
    return cast(SchedulingFields, {name: getattr(source, name) for name in _NAMES})
