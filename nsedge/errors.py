"""One error tree. Every error has a stable code, a message for people, and whether a retry helps.

    NsedgeError                  internal
    ├── InvalidRequest           invalid_request
    │   ├── BadMessage           bad_message
    │   ├── MessageTooLarge      message_too_large
    │   ├── UnsupportedVersion   unsupported_version
    │   ├── OutOfOrder           out_of_order
    │   ├── InvalidParameter     invalid_parameter
    │   ├── EmptyPrompt          empty_prompt
    │   ├── InvalidMedia         invalid_media
    │   ├── UnsupportedTask      unsupported_task
    │   └── ContextExceeded      context_exceeded
    ├── Forbidden                forbidden
    ├── UnknownModel             unknown_model
    ├── UnknownMedia             unknown_media
    ├── Unavailable              unavailable (retry)
    │   ├── QueueFull            queue_full (retry)
    │   ├── NotReady             not_ready (retry)
    │   ├── NotLoaded            not_loaded (retry)
    │   ├── InsufficientMemory   insufficient_memory (retry)
    │   ├── Draining             draining (retry)
    │   └── ConnectionLost       connection_lost (retry)
    ├── DeadlineExceeded         deadline_exceeded (retry)
    ├── SlowConsumer             slow_consumer
    ├── UploadStalled            upload_stalled (retry)
    ├── EngineFailure            engine_failure (retry)
    ├── ComputationFailure       computation_failure
    ├── ConstraintFailure        constraint_failure
    ├── DeviceUnavailable        device_unavailable
    ├── BundleInvalid            bundle_invalid
    └── ConfigInvalid            config_invalid

The tree knows no transport: each door maps codes to its own statuses, and a test walks the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar


class NsedgeError(Exception):
    """Something unforeseen, and the root of all others.

    `param` names the field at fault; `retry_after_s` hints when to try again; `figures` are numbers
    that the message tells, by name, for who words it anew.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        figures: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.figures = dict(figures or {})


class InvalidRequest(NsedgeError):
    """The request can never succeed as it stands."""

    code = "invalid_request"


class BadMessage(InvalidRequest):
    """A frame that is not a message of the protocol."""

    code = "bad_message"


class MessageTooLarge(InvalidRequest):
    """A message beyond the size limit."""

    code = "message_too_large"


class UnsupportedVersion(InvalidRequest):
    """The peer speaks a protocol version this side does not."""

    code = "unsupported_version"


class OutOfOrder(InvalidRequest):
    """A message that is legal in itself, but not at this point of the conversation."""

    code = "out_of_order"


class InvalidParameter(InvalidRequest):
    """A parameter out of range; `param` names it."""

    code = "invalid_parameter"


class EmptyPrompt(InvalidRequest):
    """There is nothing to continue."""

    code = "empty_prompt"


class InvalidMedia(InvalidRequest):
    """Sound, a picture or a film that cannot be read; the message says what is wrong with it."""

    code = "invalid_media"


class UnsupportedTask(InvalidRequest):
    """The model does not do what is asked for, though others may."""

    code = "unsupported_task"


class ContextExceeded(InvalidRequest):
    """Prompt, or prompt and max_tokens, do not fit the context."""

    code = "context_exceeded"


class Forbidden(NsedgeError):
    """The caller is known, and this is not open to them."""

    code = "forbidden"


class UnknownModel(NsedgeError):
    """No model of that name is served here."""

    code = "unknown_model"


class UnknownMedia(NsedgeError):
    """No media of that hash are here, or none that this caller sent: send them again."""

    code = "unknown_media"


class Unavailable(NsedgeError):
    """Not now; the same request may succeed later."""

    code = "unavailable"
    retryable = True


class QueueFull(Unavailable):
    """As many requests wait as may wait."""

    code = "queue_full"


class NotReady(Unavailable):
    """The daemon, or the model, is still starting."""

    code = "not_ready"


class NotLoaded(Unavailable):
    """The model is on disk, is not in memory, and may not be loaded by a request."""

    code = "not_loaded"


class InsufficientMemory(Unavailable):
    """The model does not fit the memory that the budget, or what is in use, leaves."""

    code = "insufficient_memory"


class Draining(Unavailable):
    """The daemon is stopping: it takes no new requests, and does not wait for all old ones."""

    code = "draining"


class ConnectionLost(Unavailable):
    """The connection went away before the request ended."""

    code = "connection_lost"


class DeadlineExceeded(NsedgeError):
    """The request did not end within the time that it gave itself."""

    code = "deadline_exceeded"
    retryable = True


class SlowConsumer(NsedgeError):
    """The reader fell so far behind that its stream was ended."""

    code = "slow_consumer"


class UploadStalled(NsedgeError):
    """No piece of an upload came for so long that it was dropped."""

    code = "upload_stalled"
    retryable = True


class EngineFailure(NsedgeError):
    """A step of the model failed, whatever was asked of it."""

    code = "engine_failure"
    retryable = True


class ComputationFailure(NsedgeError):
    """The model has no answer to this request: its step raises, or its logits are no numbers."""

    code = "computation_failure"


class ConstraintFailure(NsedgeError):
    """The answer cannot be held to its constraint any further; no other request is concerned."""

    code = "constraint_failure"


class DeviceUnavailable(NsedgeError):
    """The wanted execution provider is not the one in use."""

    code = "device_unavailable"


class BundleInvalid(NsedgeError):
    """A bundle that is damaged, incomplete, or of a format this release does not read."""

    code = "bundle_invalid"


class ConfigInvalid(NsedgeError):
    """A setting that is unknown, ill-typed or impossible; the message names file and key."""

    code = "config_invalid"


def tree(root: type[NsedgeError] = NsedgeError) -> Iterator[type[NsedgeError]]:
    """The root and every error below it, depth first."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def of_code(code: str) -> type[NsedgeError]:
    """The class that carries `code`; NsedgeError itself for a code this release does not know."""
    return next((cls for cls in tree() if cls.code == code), NsedgeError)
