"""Answers as messages on channels, as gpt-oss writes them: OpenAI's harmony format.

    <|channel|>analysis<|message|>A thought.<|end|>
    <|start|>assistant<|channel|>commentary to=functions.sun <|constrain|>json<|message|>{}<|call|>
    <|start|>assistant<|channel|>final<|message|>Text.<|return|>

What is said on `analysis` is a thought, what goes to a function a call of it, and all else text.
The prompt has begun the first message. An answer that begins as none is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nsedge.runtime.text.answer.parts import CallPiece, Part, Said, Thought, joined
from nsedge.runtime.text.answer.reading import NoCall, check_name
from nsedge.runtime.text.answer.scanner import JsonScanner, NotJson
from nsedge.runtime.text.answer.thoughts import half_mark

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
END, RETURN, CALL = "<|end|>", "<|return|>", "<|call|>"
FUNCTIONS = "functions."
MAX_HEADER = 512
_ENDS = (END, RETURN, CALL, START, CHANNEL)
_END = re.compile("|".join(map(re.escape, _ENDS)))
_BEGINS = (CHANNEL, START, "to=")
"""What the header of a message begins with, but for blanks."""
_ON = re.compile(rf"{re.escape(CHANNEL)}\s*(\w*)")
_TO = re.compile(r"\bto=([^\s<]+)")
_BETWEEN = "\n"
"""Between two messages of one kind."""


class ChannelReader:
    """Reads one answer as it grows; any split of it gives the same parts, put together."""

    def __init__(
        self,
        *,
        new_id: Callable[[], str],
        calls: bool,
        split: bool,
        parallel: bool = True,
        is_forced: bool = False,
        is_begun: bool = False,
    ) -> None:
        """calls: whether there are tools; without, what is said to a function is text. split:
        thoughts are told apart; else they are text, marks included. is_begun: the prompt ends
        within a message. The others are as in `CallReader` and `AnswerReader`."""
        self._new_id = new_id
        self._calls = calls
        self._split = split
        self._parallel = parallel
        self._is_forced = is_forced
        self._held = ""
        self._in_header = not is_begun
        self._say: Callable[[str], list[Part]] = self._text
        """What becomes of the message that is read."""
        self._close: Callable[[], list[Part]] = list
        self._scanner: JsonScanner | None = None
        """Of the arguments of a call that are not whole yet."""
        self._is_blank = True
        """Nothing but blanks was there of them, or is there behind them."""
        self._kinds: set[type] = set()
        """What messages there were."""
        self._count = 0
        self.is_full = False
        """The one call is made that there may be."""

    @property
    def has_called(self) -> bool:
        """Whether a call was made, and the last one was not cut off within its arguments."""
        return self._count > 0 and self._scanner is None

    def push(self, text: str) -> list[Part]:
        """Read on; the parts that are certain now."""
        self._held += text
        parts: list[Part] = []
        while not self.is_full and self._step(parts):
            pass
        return joined(parts)

    def end(self) -> list[Part]:
        """The answer is whole: what was held back. The header of a message that was cut off is no
        part of it."""
        held, self._held = self._held, ""
        if self.is_full or (self._in_header and self._may_be_header(held)):
            return []
        parts = self._say(held)
        if self._is_forced:
            parts = [part for part in parts if not isinstance(part, Said)]
        return joined(parts)

    def _step(self, parts: list[Part]) -> bool:
        """Read a header or a piece of a message; whether there may be more."""
        if not self._held:
            return False
        if self._in_header:
            return self._header(parts)
        found = _END.search(self._held)
        if found is None:
            certain = half_mark(self._held, _ENDS)
            said, self._held = self._held[:certain], self._held[certain:]
            parts += self._say(said)
            return False
        parts += self._say(self._held[: found.start()])
        parts += self._close()
        begins = found[0] in (START, CHANNEL)
        self._held = self._held[found.start() if begins else found.end() :]
        self._in_header = True
        self._say, self._close = self._text, list
        return True

    def _header(self, parts: list[Part]) -> bool:
        header, mark, rest = self._held.partition(MESSAGE)
        if not mark:
            header = header[: half_mark(header, (MESSAGE,))]
        if not self._may_be_header(header):
            self._in_header = False  # it is text, without a header
            return True
        if not mark:
            return False
        self._held, self._in_header = rest, False
        self._open(header, parts)
        return True

    def _may_be_header(self, held: str) -> bool:
        bare = held.lstrip()
        if len(bare) > MAX_HEADER:
            return False
        return any(bare.startswith(begin) or begin.startswith(bare) for begin in _BEGINS)

    def _open(self, header: str, parts: list[Part]) -> None:
        """A message begins, on the channel and to whom its header says."""
        on, to = _ON.search(header), _TO.search(header)
        channel = on[1] if on else ""
        recipient = to[1] if to else ""
        name = recipient.removeprefix(FUNCTIONS)
        if self._calls and name != recipient and _is_name(name):
            self._scanner, self._is_blank = JsonScanner(), True
            parts.append(CallPiece(self._count, "", id=self._new_id(), name=name))
            self._count += 1
            self._say, self._close = self._argue, self._end_call
        elif channel == "analysis":
            parts += self._between(Thought)
            self._say = self._think
            if not self._split:
                parts.append(Said(f"{CHANNEL}analysis{MESSAGE}"))
                self._close = lambda: [Said(END)]
        else:
            parts += self._between(Said)

    def _between(self, kind: type) -> list[Part]:
        """What parts a message from one of its kind before."""
        is_first = kind not in self._kinds
        self._kinds.add(kind)
        if is_first or (kind is Thought and not self._split):
            return []
        return [Said(_BETWEEN) if kind is Said else Thought(_BETWEEN)]

    # What a message says.

    def _text(self, text: str) -> list[Part]:
        return [Said(text)] if text else []

    def _think(self, text: str) -> list[Part]:
        if not text:
            return []
        return [Thought(text) if self._split else Said(text)]

    def _argue(self, text: str) -> list[Part]:
        """More of the arguments of a call; what breaks their JSON, or follows it, is text."""
        scanner = self._scanner
        if self._is_blank:
            text = text.lstrip()
        if not text:
            return []
        self._is_blank = False
        if scanner is None:
            return self._text(text)
        try:
            at = scanner.feed(text, 0)
        except NotJson as error:
            at = error.at
            self._scanner = None
        given: list[Part] = [CallPiece(self._count - 1, text[:at])] if at else []
        if scanner.done:
            self._scanner, self._is_blank = None, True
            self.is_full = not self._parallel
        return given if self.is_full else given + self._argue(text[at:])

    def _end_call(self) -> list[Part]:
        """The message of a call ends; without arguments, it has none."""
        scanner, self._scanner = self._scanner, None
        if scanner is None or not self._is_blank:
            return []
        self.is_full = not self._parallel
        return [CallPiece(self._count - 1, "{}")]


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except NoCall:
        return False
    return True
