"""Models that see, of real shapes: what their encoder takes, and what a second turn about the same
picture costs beside the first, through the daemon.

The weights are random (`bench.eyes_shapes`). Of each shape and variant: seconds that a picture
takes its encoder, alone and in fours; memory that is expected before it loads, and that it holds;
and for pictures that were not seen before, the time to the first token of a question about one
(decoding, encoding and reading of the prompt in it), and of a question after the answer, whose
prompt begins with the same picture.

    python -m bench.eyes [--shapes tower,decoder] [--variants cpu-int8,cpu-fp32] [--rounds 5]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.eyes_shapes import CONTEXT, LETTERS, SHAPES, Made, bundle_of
from bench.pictures import pictures
from bench.report import Noise, chosen_of, emit, machine
from exporters.cache import Cache, cache_root
from exporters.meaning.serving import client_of
from exporters.progress import Progress
from nsedge.api import Delta, Finished, Media, MediaPart, Message, Role, Sampling, TextPart, Usage
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import VisionLm
from nsedge.ipc.client import Client
from nsedge.runtime.graph.image_encoders import PictureSession, open_image_encoder
from nsedge.runtime.hosting.kinds import expected
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.vision.levels import pattern

TOKENS = 16
"""Of each answer."""
ANSWER = Sampling(temperature=0.0, max_tokens=TOKENS, min_tokens=TOKENS, allowed_token_ids=LETTERS)
QUESTIONS = ("What is this, and who is in it?", "And what is the weather like?")
TOGETHER = 4


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question: seconds to the first token of its answer, the answer, and what it took."""

    first_s: float
    text: str
    usage: Usage


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--shapes", default="tower,decoder", help=f"of {', '.join(SHAPES)}")
    made.add_argument("--variants", default="cpu-int8,cpu-fp32", help="variants of each")
    made.add_argument("--rounds", type=int, default=5, help="pictures that are asked about")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(measure(options), options.json)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All shapes in all variants."""
    cache, told = Cache(cache_root(), Progress(sys.stderr)), {}
    for name in options.shapes.split(","):
        made = bundle_of(SHAPES[name], cache, options.variants)
        told[name] = {
            "about": SHAPES[name].about,
            "export_s": round(made.export_s, 1),
            "variants": {
                variant: _variant(made, variant, rounds=options.rounds)
                for variant in options.variants.split(",")
            },
        }
    return {
        "bench": "eyes",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "options": chosen_of(options),
        "shapes": told,
    }


def _variant(made: Made, variant: str, *, rounds: int) -> dict[str, Any]:
    bundle = Bundle.open(made.bundle).of_kind(VisionLm)
    noise = Noise()
    settings = EngineSettings(variants={bundle.name: variant}, context_tokens=CONTEXT)
    files = bundle.manifest.files.items()
    told = {
        "files_bytes": sum(each.bytes for name, each in files if name.startswith(f"{variant}/")),
        "expected_bytes": expected(made.bundle, settings).host,
        **_encoder(bundle, variant),
        **_turns(made.bundle, variant, rounds=rounds),
    }
    return told | {"others_cores": round(noise.others(), 2)}


def _encoder(bundle: Bundle[VisionLm], variant: str) -> dict[str, float]:
    """Seconds a picture, without a daemon."""
    manifest = bundle.manifest
    decoder = next(one for one in manifest.variants if one.name == variant)
    encoder = manifest.image_encoder(decoder)
    session = open_image_encoder(
        bundle.file(encoder.graph),
        encoder,
        pictures=manifest.processors.pictures,
        hidden=manifest.hidden_size,
        threads=usable_cores(),
    )
    seen = [pattern(number, *session.size) for number in range(TOGETHER)]
    told = {}
    for count in (1, TOGETHER):
        took_s, cpu_s = _timed(session, seen[:count])
        told[f"encode_{count}_s"] = round(took_s / count, 4)
        told[f"encode_{count}_cpu_s"] = round(cpu_s / count, 4)
    return told


def _timed(session: PictureSession, seen: Sequence[Any]) -> tuple[float, float]:
    """Seconds, and seconds of processor time, which others on the machine disturb less."""
    session.see(seen)
    took, cpu = [], []
    for _ in range(3):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        session.see(seen)
        took.append(time.perf_counter() - began_s)
        cpu.append(time.process_time() - began_cpu_s)
    return statistics.median(took), statistics.median(cpu)


def _turns(bundle: Path, variant: str, *, rounds: int) -> dict[str, Any]:
    """First and second turns about `rounds` pictures."""
    with client_of(bundle, variant=variant) as client:
        model = client.models()[0].name
        ask(client, model, [_said("Hello.")])
        turns = [two_turns(client, model, jpeg) for jpeg in pictures(rounds)]
        stats = client.stats().models[model]
    first = [one.first_s for one, _ in turns]
    second = [two.first_s for _, two in turns]
    shares = [two.usage.cached_tokens / two.usage.prompt_tokens for _, two in turns]
    held = stats.memory
    return {
        "held_bytes": 0 if held is None else held.weights_bytes + held.arena_bytes,
        "pictures": rounds,
        "encoded": stats.images,
        "media_tokens": turns[0][0].usage.media_tokens,
        "first_turn_s": round(statistics.median(first), 4),
        "second_turn_s": round(statistics.median(second), 4),
        "second_of_first": round(float(np.median(np.divide(second, first))), 4),
        "cached_share": round(statistics.median(shares), 3),
    }


def two_turns(client: Client, model: str, jpeg: bytes) -> tuple[Turn, Turn]:
    """A question about a picture, and another after its answer."""
    seen = MediaPart(media=Media(type="image/jpeg", data=jpeg))
    asked = [Message(role=Role.USER, content=(seen, TextPart(text=QUESTIONS[0])))]
    first = ask(client, model, asked)
    again = [*asked, Message(role=Role.ASSISTANT, content=first.text), _said(QUESTIONS[1])]
    return first, ask(client, model, again)


def ask(client: Client, model: str, messages: list[Message]) -> Turn:
    """The answer to a conversation.

    Raises:
        RuntimeError: it has none.
    """
    began_s, first_s, text = time.perf_counter(), 0.0, ""
    for event in client.chat(model, messages, sampling=ANSWER):
        if isinstance(event, Delta):
            first_s = first_s or time.perf_counter() - began_s
            text += event.text
        if isinstance(event, Finished):
            return Turn(first_s=first_s, text=text, usage=event.usage)
    raise RuntimeError("a stream ended without its last event")


def _said(text: str) -> Message:
    return Message(role=Role.USER, content=text)


if __name__ == "__main__":
    main()
