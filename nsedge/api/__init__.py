"""The vocabulary every room shares: what a client asks, what it sees, and who answers.

A client sends a `Request` with a task, and sees `Event`s.
"""

from nsedge.api.constraint import Constraint, ConstraintKind
from nsedge.api.events import (
    AnyDelta,
    ArtifactPending,
    ArtifactReady,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Loading,
    Progress,
    PromptLogprobs,
    ReasoningDelta,
    Result,
    Scores,
    Segment,
    Sink,
    Started,
    Timings,
    ToolCallDelta,
    Usage,
    Vectors,
    is_terminal,
)
from nsedge.api.logprobs import Logprobs, TokenLogprob
from nsedge.api.media import Media
from nsedge.api.messages import MediaPart, Message, Part, Role, TextPart
from nsedge.api.models import (
    AliasResult,
    LoadOutcome,
    LoadResult,
    LoadWish,
    ModelInfo,
    ModelMemory,
    ModelState,
    ModelStats,
    ModelTimes,
    ModelUsage,
    Recommendation,
    ResidencyStats,
    UsageReport,
)
from nsedge.api.priority import Priority
from nsedge.api.prompts import ModelCard, PromptQuestion, PromptReading
from nsedge.api.requests import Request
from nsedge.api.sampling import Sampling
from nsedge.api.scheduling import Scheduling
from nsedge.api.service import Health, HealthStatus, Service, Stats, Ticket
from nsedge.api.steps import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Xtc
from nsedge.api.tasks import Chat, Embed, Generate, Task
from nsedge.api.tools import Tool, ToolCall, ToolChoice
from nsedge.telemetry.histogram import Histogram

__all__ = [
    "AdaptiveP",
    "AliasResult",
    "AnyDelta",
    "ArtifactPending",
    "ArtifactReady",
    "Chat",
    "Constraint",
    "ConstraintKind",
    "Delta",
    "Dry",
    "DynamicTemperature",
    "Embed",
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "Generate",
    "Health",
    "HealthStatus",
    "Histogram",
    "LoadOutcome",
    "LoadResult",
    "LoadWish",
    "Loading",
    "Logprobs",
    "Media",
    "MediaPart",
    "Message",
    "Mirostat",
    "ModelCard",
    "ModelInfo",
    "ModelMemory",
    "ModelState",
    "ModelStats",
    "ModelTimes",
    "ModelUsage",
    "Part",
    "Priority",
    "Progress",
    "PromptLogprobs",
    "PromptQuestion",
    "PromptReading",
    "ReasoningDelta",
    "Recommendation",
    "Request",
    "ResidencyStats",
    "Result",
    "Role",
    "SamplerStep",
    "Sampling",
    "Scheduling",
    "Scores",
    "Segment",
    "Service",
    "Sink",
    "Started",
    "Stats",
    "Task",
    "TextPart",
    "Ticket",
    "Timings",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "Usage",
    "UsageReport",
    "Vectors",
    "Xtc",
    "is_terminal",
]
