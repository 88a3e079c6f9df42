"""The tokenizers that are known by name: where they are, what they must be, fetched and checked."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

from exporters.cache import home, new_directory
from exporters.errors import ExportError
from exporters.model.files import read_object, shown
from exporters.model.hub import fetch_files
from exporters.model.source import TOKENIZER_SETTINGS, read_tokenizer
from exporters.model.wordpiece import VOCABULARY_FILE, lowers, word_pieces
from nsedge.bundle.files import sha256_of

SHELF_FILE = Path(__file__).parents[1] / "data" / "tokenizers.toml"
TOKENIZER_FILE = "tokenizer.json"
RECORD_FILE = "fetched.json"
PLACE = "tokenizers"
DEFAULT_REVISION = "main"
WANTED = (TOKENIZER_FILE, TOKENIZER_SETTINGS, VOCABULARY_FILE)
EXACT, SPACED = "exact", "spaced"


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tokenizer that is known; the fields are told in the file."""

    name: str
    repository: str
    revision: str = DEFAULT_REVISION
    licence: str
    gated: bool
    tokens: int
    special: tuple[str, ...]
    round_trip: str
    lowercase: bool = True


class _Text(msgspec.Struct, frozen=True):
    text: str


class _Shelf(msgspec.Struct, frozen=True):
    tokenizer: tuple[Known, ...]
    text: tuple[_Text, ...]


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched: from which repository, at which commit; the SHA-256 of the tokenizer that
    is kept, and of which file it was made."""

    repository: str
    commit: str
    made_of: str
    sha256: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a tokenizer."""

    name: str
    tokens: int
    added: int
    fetched: Fetched
    failures: tuple[str, ...]


def shelf() -> tuple[Known, ...]:
    """All that are known."""
    return _read().tokenizer


def known(name: str) -> Known:
    """The tokenizer of that name.

    Raises:
        ExportError: there is none.
    """
    for one in shelf():
        if one.name == name:
            return one
    names = ", ".join(one.name for one in shelf())
    raise ExportError(f"no tokenizer {shown(name)} is known; there are {names}")


def place_of(name: str) -> Path:
    """Where a fetched one lies."""
    return home() / PLACE / name


def fetched(name: str) -> Fetched | None:
    """What is there of it."""
    path = place_of(name) / RECORD_FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fetched)
    except msgspec.MsgspecError as error:
        raise ExportError(f"{path}: {error}; fetch it anew") from error


def fetch(wanted: Known, revision: str | None = None) -> Fetched:
    """Fetch a tokenizer from the hub, and keep it as tokenizer.json.

    Raises:
        ExportError: it cannot be had, or is no tokenizer.
    """
    folder = fetch_files(wanted.repository, revision or wanted.revision, list(WANTED))
    own, lines = folder / TOKENIZER_FILE, folder / VOCABULARY_FILE
    if own.is_file():
        made_of, tokenizer = own, read_tokenizer(own)
    elif lines.is_file():
        settings = folder / TOKENIZER_SETTINGS
        stated = read_object(settings).get("do_lower_case") if settings.is_file() else None
        lowercase = lowers(stated, folder, unsaid=wanted.lowercase)
        made_of, tokenizer = lines, word_pieces(lines, lowercase=lowercase)
    else:
        raise ExportError(f"{wanted.repository}: neither {TOKENIZER_FILE} nor {VOCABULARY_FILE}")
    place = place_of(wanted.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(place) as kept:
        tokenizer.save(str(kept / TOKENIZER_FILE))
        record = Fetched(
            repository=wanted.repository,
            commit=folder.name,
            made_of=made_of.name,
            sha256=sha256_of(kept / TOKENIZER_FILE),
        )
        (kept / RECORD_FILE).write_bytes(msgspec.json.encode(record))
    return record


def verify(wanted: Known) -> Verdict:
    """Check a tokenizer that was fetched: its file, size, special tokens, and round trips.

    Raises:
        ExportError: it was not fetched.
    """
    record = fetched(wanted.name)
    if record is None:
        raise ExportError(
            f"{wanted.name} is not here; nsedge-export tokenizers fetch {wanted.name}"
        )
    path = place_of(wanted.name) / TOKENIZER_FILE
    if not path.is_file() or sha256_of(path) != record.sha256:
        raise ExportError(f"{path} was altered since it was fetched; fetch it anew")
    tokenizer = read_tokenizer(path)
    tokens = tokenizer.get_vocab_size(with_added_tokens=False)
    failures = []
    if tokens != wanted.tokens:
        failures.append(f"{tokens} tokens, not {wanted.tokens}")
    failures += [
        f"no token {shown(token)}"
        for token in wanted.special
        if tokenizer.token_to_id(token) is None
    ]
    failures += filter(None, (_trip(tokenizer, wanted, one.text) for one in _read().text))
    return Verdict(
        name=wanted.name,
        tokens=tokens,
        added=tokenizer.get_vocab_size(with_added_tokens=True) - tokens,
        fetched=record,
        failures=tuple(failures),
    )


def _trip(tokenizer: Tokenizer, wanted: Known, text: str) -> str | None:
    """What is wrong with `text` once it was encoded and decoded; None where nothing is."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    back = tokenizer.decode(ids, skip_special_tokens=False)
    if wanted.round_trip == EXACT:
        same = back == text
    elif wanted.round_trip == SPACED:
        same = back.removeprefix(" ") == text
    else:
        same = tokenizer.encode(back, add_special_tokens=False).ids == ids
    return None if same else f"{shown(text)} comes back as {shown(back)}"


def _read() -> _Shelf:
    return msgspec.convert(tomllib.loads(SHELF_FILE.read_text(encoding="utf-8")), _Shelf)
