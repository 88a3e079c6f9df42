"""Every message of the protocol as a type; docs/protocol.md holds the same tables, and a test
holds the two together.

A message is a msgpack map whose `type` is its tag. Fields that equal their default are left out;
unknown ones are ignored by clients, and refused where they ask for something (see `unknown`).
"""

from __future__ import annotations

from nsedge.ipc.messages.base import SESSION_BYTES, Id
from nsedge.ipc.messages.events import (
    Activity,
    ArtifactPending,
    ArtifactReady,
    ChoiceFailed,
    ChoiceFinished,
    Committed,
    Delta,
    Failed,
    Fillings,
    Finished,
    Labels,
    Language,
    Loading,
    MediaRead,
    Picture,
    Preview,
    Progress,
    PromptLogprobs,
    ReasoningDelta,
    Scores,
    Segment,
    Started,
    ToolCallDelta,
    Vectors,
)
from nsedge.ipc.messages.queries import (
    Alias,
    Describe,
    Detokenize,
    HealthQuery,
    Load,
    ModelsQuery,
    ReadPrompt,
    Reload,
    Reply,
    StatsQuery,
    Unload,
    UsageQuery,
)
from nsedge.ipc.messages.requests import (
    Asked,
    Audio,
    Cancel,
    Caption,
    Chat,
    Classify,
    Credit,
    Embed,
    Fill,
    Generate,
    Imagine,
    Listen,
    MediaPart,
    MediaPut,
    MediaReady,
    Message,
    Score,
    TextPart,
    Transcribe,
)
from nsedge.ipc.messages.sessions import Bye, Hello, Ping, Pong, Welcome

Command = Load | Unload | Reload | Alias
Question = ReadPrompt | Detokenize | Describe
Query = ModelsQuery | StatsQuery | HealthQuery | UsageQuery | Question | Command
Asking = Generate | Chat | Embed | Classify | Fill | Score | Transcribe | Caption | Listen | Imagine
DataMessage = Hello | Asking | Audio | Credit | MediaPut | Query | Cancel | Bye
ControlMessage = Cancel | Ping | HealthQuery
ClientMessage = DataMessage | Ping

AnyDelta = Delta | ReasoningDelta | ToolCallDelta
Text = PromptLogprobs | AnyDelta | ChoiceFinished | ChoiceFailed
Speech = Language | Segment | Activity | Committed
Found = Vectors | Scores | Labels | Fillings
Made = Picture | Preview | Progress | ArtifactPending | ArtifactReady
Result = MediaRead | Text | Found | Speech | Made
EventMessage = Loading | Started | Result | Finished | Failed
ServerMessage = Welcome | EventMessage | Credit | MediaReady | Reply | Pong

__all__ = [
    "SESSION_BYTES",
    "Activity",
    "Alias",
    "AnyDelta",
    "ArtifactPending",
    "ArtifactReady",
    "Asked",
    "Asking",
    "Audio",
    "Bye",
    "Cancel",
    "Caption",
    "Chat",
    "ChoiceFailed",
    "ChoiceFinished",
    "Classify",
    "ClientMessage",
    "Command",
    "Committed",
    "ControlMessage",
    "Credit",
    "DataMessage",
    "Delta",
    "Describe",
    "Detokenize",
    "Embed",
    "EventMessage",
    "Failed",
    "Fill",
    "Fillings",
    "Finished",
    "Generate",
    "HealthQuery",
    "Hello",
    "Id",
    "Imagine",
    "Labels",
    "Language",
    "Listen",
    "Load",
    "Loading",
    "MediaPart",
    "MediaPut",
    "MediaRead",
    "MediaReady",
    "Message",
    "ModelsQuery",
    "Picture",
    "Ping",
    "Pong",
    "Preview",
    "Progress",
    "PromptLogprobs",
    "Query",
    "Question",
    "ReadPrompt",
    "ReasoningDelta",
    "Reload",
    "Reply",
    "Result",
    "Score",
    "Scores",
    "Segment",
    "ServerMessage",
    "Started",
    "StatsQuery",
    "TextPart",
    "ToolCallDelta",
    "Transcribe",
    "Unload",
    "UsageQuery",
    "Vectors",
    "Welcome",
]
