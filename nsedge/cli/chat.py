"""`nsedge chat MODEL`: a conversation at the terminal."""

from __future__ import annotations

import argparse
import importlib.util
import sys

from nsedge.api import MediaPart, Message, Role, Sampling
from nsedge.cli import answer, output, showing
from nsedge.cli.constraining import constraint_of
from nsedge.cli.exits import ExitStatus
from nsedge.cli.sampling import sampling_of
from nsedge.cli.scheduling import scheduling_of
from nsedge.config.reader import Loaded
from nsedge.errors import ConnectionLost, NsedgeError, UnknownModel
from nsedge.ipc import reach
from nsedge.ipc.client import Client
from nsedge.process import console

WELCOME = (
    "/exit or Ctrl-D leaves, /reset forgets, Ctrl-C cancels an answer; drag in pictures, recordings"
    " and films"
)
PROMPT = "> "

if importlib.util.find_spec("readline") is not None:
    import readline  # noqa: F401  # input() then edits lines and remembers them


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Talk until /exit, or the end of input."""
    sampling, media = sampling_of(options), showing.shown(options)
    with reach.to_core(loaded.settings) as client:
        _check_model(client, options.model)
        by_hand = sys.stdin.isatty()
        if by_hand and not options.json:
            console.note(WELCOME)
        talk = Conversation(client, options, sampling, media)
        while (line := _read_line()) is not None and line != "/exit":
            if by_hand:
                line = _without_files(line, talk, options)
            if line == "/reset":
                talk.reset()
            elif line.startswith("/"):
                console.note(f"no command {line}: {WELCOME}")
            elif line:
                talk.ask(line)
    return ExitStatus.OK


class Conversation:
    """The turns so far; `media` stand before the first that the user says, and what is shown
    before the next."""

    def __init__(
        self,
        client: Client,
        options: argparse.Namespace,
        sampling: Sampling,
        media: tuple[MediaPart, ...],
    ) -> None:
        self._client = client
        self._options = options
        self._sampling = sampling
        self._media = media
        self._constraint = constraint_of(options)
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system message."""
        self._shown: tuple[MediaPart, ...] = ()
        system = self._options.system
        self.messages = [] if system is None else [Message(role=Role.SYSTEM, content=system)]

    def show(self, media: tuple[MediaPart, ...]) -> None:
        """Put media before what is said next."""
        self._shown += media

    def ask(self, text: str) -> None:
        """Show the answer to `text`; a turn that failed is not remembered.

        Raises:
            ConnectionLost: the core went away.
        """
        options = self._options
        first = all(one.role is Role.SYSTEM for one in self.messages)
        said = showing.content((self._media if first else ()) + self._shown, text)
        self._shown = ()
        asked = [*self.messages, Message(role=Role.USER, content=said)]
        try:
            with self._client.chat(
                options.model,
                asked,
                sampling=self._sampling,
                constraint=self._constraint,
                **scheduling_of(options),
            ) as events:
                shown = answer.show(events, as_json=options.json, quiet=options.quiet)
        except ConnectionLost:
            raise
        except NsedgeError as error:
            self._tell(error)
        else:
            self.messages = [*asked, Message(role=Role.ASSISTANT, content=shown.text)]

    def _tell(self, error: NsedgeError) -> None:
        if self._options.json:
            output.say_json({"error": {"code": error.code, "message": error.message}})
        else:
            console.note(f"nsedge: {error.message} (/reset forgets the conversation)")


def _without_files(line: str, talk: Conversation, options: argparse.Namespace) -> str:
    """The rest of a line whose paths of media are shown with it, or with the next where it says
    nothing else."""
    try:
        text, media = showing.dragged(line, options)
    except NsedgeError as error:
        console.note(f"not sent: {error.message}")
        return ""
    talk.show(media)
    for part in media:
        console.note(f"with {part.place}{'' if text else ': what of it?'}")
    return text


def _check_model(client: Client, name: str) -> None:
    served = [known for model in client.models() for known in (model.name, *model.aliases)]
    if name not in served:
        raise UnknownModel(f"no model {name!r} here; served: {', '.join(served) or 'none'}")


def _read_line() -> str | None:
    """The next line without its blanks; "" where Ctrl-C threw it away or it is no text, None at
    the end."""
    try:
        return console.text_of(input(PROMPT if sys.stdin.isatty() else "")).strip()
    except KeyboardInterrupt:
        console.note("")
        return ""
    except ValueError as error:
        console.note(f"not sent: {error}")
        return ""
    except EOFError:
        return None
