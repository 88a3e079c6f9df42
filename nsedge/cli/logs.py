"""The log on standard error: an event a line, as text or as JSON."""

from __future__ import annotations

import datetime
import json
import logging
import sys

from nsedge.printable import escaped, escaped_json

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, *, as_json: bool) -> None:
    """Send everything at `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO nsedge.core.service: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_word(value)}" for key, value in _fields(record).items())
        said = escaped(record.getMessage())
        head = f"{_time(record)} {record.levelname} {record.name}: {said}{fields}"
        if not record.exc_info:
            return head
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([head, *map(escaped, trace)])


class JsonLines(logging.Formatter):
    """One object: time, level, logger, message, the record's own fields, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return escaped_json(json.dumps(line, default=str, ensure_ascii=False))


def _word(value: object) -> str:
    """A value on a line of text: what a client chose must not make up fields, or lines."""
    text = str(value)
    one_word = not isinstance(value, str) or " " not in text
    return text if one_word and text.isprintable() else json.dumps(text, ensure_ascii=True)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields that the caller gave as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"
