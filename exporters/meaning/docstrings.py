"""What functions do in a sentence, and what their documentation goes on to say: pairs of texts that
belong together, read from Python's own library and numpy's."""

from __future__ import annotations

import importlib
import inspect
import random
import re
from collections.abc import Iterator
from types import ModuleType

import msgspec

MODULES = (
    *("argparse", "ast", "asyncio", "bisect", "calendar", "cmd", "codecs", "collections"),
    *("concurrent.futures", "configparser", "contextlib", "csv", "datetime", "decimal"),
    *("difflib", "email.message", "fractions", "functools", "gettext", "gzip", "hashlib"),
    *("heapq", "html", "http.client", "http.cookies", "imaplib", "inspect", "ipaddress"),
    *("itertools", "json", "locale", "logging", "logging.handlers", "lzma", "mailbox", "math"),
    *("mimetypes", "multiprocessing", "os", "os.path", "pathlib", "pickle", "pprint", "random"),
    *("re", "sched", "secrets", "selectors", "shelve", "shlex", "shutil", "smtplib", "socket"),
    *("socketserver", "sqlite3", "ssl", "statistics", "string", "struct", "subprocess", "tarfile"),
    *("tempfile", "textwrap", "threading", "time", "traceback", "types", "typing", "unittest"),
    *("unittest.mock", "urllib.parse", "urllib.request", "uuid", "warnings", "weakref", "zipfile"),
    *("numpy", "numpy.fft", "numpy.linalg", "numpy.ma", "numpy.polynomial", "numpy.random"),
)
LEAST_WORDS, MOST_WORDS = 5, 40
SEED = 5
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_HEADING = re.compile(r"\n(Parameters|Returns|Attributes|Methods|Examples)\n-+\n.*", re.DOTALL)


class Pair(msgspec.Struct, frozen=True):
    """The first sentence of a docstring, and what follows."""

    question: str
    document: str


def read_pairs() -> list[Pair]:
    """All that can be found, none twice, in a fixed order without one."""
    found: dict[str, Pair] = {}
    for name in MODULES:
        for text in _docstrings(importlib.import_module(name)):
            pair = _pair(text)
            if pair is not None:
                found.setdefault(pair.question, pair)
    documents = {pair.document: pair for pair in found.values()}
    pairs = sorted(documents.values(), key=lambda pair: pair.question)
    random.Random(SEED).shuffle(pairs)
    return pairs


def _docstrings(module: ModuleType) -> Iterator[str]:
    """Those of a module's functions and classes, and of what these have."""
    for _, thing in sorted(vars(module).items()):
        if isinstance(thing, ModuleType):
            continue
        inner = vars(thing).values() if inspect.isclass(thing) else ()
        for one in (thing, *inner):
            text = getattr(one, "__doc__", None)
            if callable(one) and isinstance(text, str):
                yield inspect.cleandoc(text)


def _pair(text: str) -> Pair | None:
    """None where the text is too short to be two."""
    plain = _HEADING.sub("", text)
    sentences = _SENTENCE.split(" ".join(plain.split()), maxsplit=1)
    if len(sentences) != 2:
        return None
    first, rest = (" ".join(part.split()[:MOST_WORDS]) for part in sentences)
    if min(len(first.split()), len(rest.split())) < LEAST_WORDS:
        return None
    return Pair(first, rest)
