"""What an encoder of a model makes of patterns, how near that is to fp32, and what the decoder
says after it, as files of a stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporters.encoder.outputs import DIGITS, cosines
from exporters.measure.fidelity import measure
from exporters.measure.runner import Runner
from exporters.vision_lm.records import Golden, ImageTrial
from nsedge.bundle.causal_lm import Fidelity
from nsedge.bundle.encoder import VectorFidelity
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.vision_lm import GoldenPicture, Pictures
from nsedge.runtime.decode.positions import Block, Positions
from nsedge.runtime.graph.image_encoders import PictureSession
from nsedge.runtime.vision.levels import pattern

GOLDEN_NAME = "golden.json"
TRIAL_NAME = "trial.json"
GOLDEN_PATTERNS = range(4)
FIDELITY_PATTERNS = range(4, 20)
SEEN_PATTERNS = range(4, 12)
"""Those that texts follow."""

Floats = NDArray[np.float32]
Grid = tuple[int, int]


class Patterned(Protocol):
    """An encoder that is given patterns."""

    def sample(self, number: int) -> Floats:
        """What it makes of the pattern of that number: float32 [rows, hidden]."""
        ...

    def pattern_bytes(self, number: int) -> bytes:
        """What tells that pattern from others."""
        ...


@dataclass(frozen=True)
class OfPictures:
    """An encoder of pictures."""

    session: PictureSession

    def sample(self, number: int) -> Floats:
        """What it makes of a pattern."""
        return self.session.see([pattern(number, *self.session.size)])[0]

    def pattern_bytes(self, number: int) -> bytes:
        """The pattern."""
        return pattern(number, *self.session.size).tobytes()


def write_golden(session: Patterned, out: Path) -> None:
    """Write what the fp32 graph in a session makes of the golden patterns."""
    golden = tuple(
        GoldenPicture(pattern=number, vector=tuple(round(float(x), DIGITS) for x in vector))
        for number, vector in zip(GOLDEN_PATTERNS, means(session, GOLDEN_PATTERNS), strict=True)
    )
    (out / GOLDEN_NAME).write_bytes(msgspec.json.encode(golden))


def read_golden(folder: Path) -> Golden:
    """What `write_golden` wrote to `folder`."""
    return msgspec.json.decode((folder / GOLDEN_NAME).read_bytes(), type=Golden)


def means(session: Patterned, numbers: Iterable[int]) -> Floats:
    """The mean of the rows of each pattern: [patterns, hidden]."""
    return np.stack([rows.mean(axis=0) for rows in seen(session, numbers)])


def seen(session: Patterned, numbers: Iterable[int]) -> list[Floats]:
    """The rows [rows, hidden] of the patterns of these numbers, each by itself."""
    return [session.sample(number) for number in numbers]


def write_trial(
    session: Patterned,
    out: Path,
    *,
    exact: Patterned,
    golden: Golden,
    told: dict[str, Fidelity],
) -> None:
    """Write how near an encoder is to the `exact` one; `told`: by decoder, how near both are
    together."""
    trial = image_trial(session, exact, golden=golden, told=told)
    (out / TRIAL_NAME).write_bytes(msgspec.json.encode(trial))


def read_trial(folder: Path) -> ImageTrial:
    """What `write_trial` wrote to `folder`."""
    return msgspec.json.decode((folder / TRIAL_NAME).read_bytes(), type=ImageTrial)


def image_trial(
    session: Patterned,
    exact: Patterned,
    *,
    golden: Golden,
    told: dict[str, Fidelity],
) -> ImageTrial:
    """How near the rows of `session` are to those of the `exact` one."""
    near = [
        cosines(wanted, found)
        for wanted, found in zip(
            seen(exact, FIDELITY_PATTERNS), seen(session, FIDELITY_PATTERNS), strict=True
        )
    ]
    digest = hashlib.sha256()
    for number in FIDELITY_PATTERNS:
        digest.update(session.pattern_bytes(number))
    return ImageTrial(
        fidelity=VectorFidelity(
            texts=len(near),
            cosine=round(float(np.concatenate(near).mean()), 6),
            cosine_least=round(float(np.concatenate(near).min()), 6),
            text_sha256=digest.hexdigest(),
        ),
        golden=golden_cosine(session, golden),
        seen=told,
    )


def golden_cosine(session: Patterned, golden: Golden) -> float:
    """The least cosine to a golden picture."""
    wanted = np.array([one.vector for one in golden], np.float32)
    found = means(session, [one.pattern for one in golden])
    return round(float(cosines(wanted, found).min()), 6)


class Beside:
    """A decoder that reads a pattern before each passage."""

    def __init__(
        self, runner: Runner, rows: Sequence[Floats], token_id: int, grid: Grid | None
    ) -> None:
        """rows: what its encoder makes of each pattern; token_id: what stands for one of them;
        grid: the rows and columns that these are, where that tells their positions."""
        self._runner = runner
        self._rows = rows
        self._token_id = token_id
        self._blocks = [] if grid is None else [Block(place=0, rows=grid[0], columns=grid[1])]
        self.capacity = runner.capacity - max(map(len, rows))
        """Tokens of a passage."""
        self._next = 0

    def log_probs(self, ids: list[int]) -> Floats:
        """Log-probabilities [len(ids), V] after each token of a passage that follows the next of
        the patterns."""
        rows = self._rows[self._next % len(self._rows)]
        self._next += 1
        all_ids = [self._token_id] * len(rows) + ids
        positions = None
        if self._blocks:
            positions = Positions.of(len(all_ids), self._blocks).of_prompt
        return self._runner.log_probs(all_ids, len(rows), media=rows, positions=positions)


def grid_of_patterns(pictures: Pictures) -> Grid | None:
    """The rows and columns that come of a pattern, where that tells positions."""
    return pictures.grid if isinstance(pictures, PatchedPicture) else None


def fidelity_seen(
    exact: tuple[Runner, Patterned],
    found: tuple[Runner, Patterned],
    passages: Sequence[Sequence[int]],
    *,
    token_id: int,
    grid: Grid | None,
    text_sha256: str,
) -> Fidelity:
    """How near a decoder and its encoder are to the exact ones, over what follows patterns."""
    wanted, got = (
        Beside(runner, seen(session, SEEN_PATTERNS), token_id, grid)
        for runner, session in (exact, found)
    )
    return measure(wanted, got, passages, text_sha256=text_sha256)
