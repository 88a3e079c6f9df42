"""The clients of a daemon, and every type their users meet: import from here."""

from nsedge.api import (
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Health,
    HealthStatus,
    Message,
    ModelInfo,
    ModelState,
    ModelStats,
    Role,
    Sampling,
    Started,
    Stats,
    Timings,
    Usage,
)
from nsedge.errors import NsedgeError
from nsedge.ipc.aio import AsyncClient
from nsedge.ipc.curve import ClientCurve, KeyPair
from nsedge.ipc.sync import Client, Events
from nsedge.stream import EventStream

__all__ = [
    "AsyncClient",
    "Client",
    "ClientCurve",
    "Delta",
    "Event",
    "EventStream",
    "Events",
    "Failed",
    "FinishReason",
    "Finished",
    "Health",
    "HealthStatus",
    "KeyPair",
    "Message",
    "ModelInfo",
    "ModelState",
    "ModelStats",
    "NsedgeError",
    "Role",
    "Sampling",
    "Started",
    "Stats",
    "Timings",
    "Usage",
]
