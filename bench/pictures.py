"""Vectors of pictures: the daemon over its socket, beside transformers in this process.

The model has the shape of CLIP ViT-B/32 and random weights, which take as long as trained ones. The
pictures are JPEGs of 512 x 480, decoded and prepared by each contender itself. Told are pictures a
second, and seconds of processor time a picture, which others on the machine disturb less.

    python -m bench.pictures [--rounds 3] [--pictures 64] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import io
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import transformers
from PIL import Image

from bench.report import Noise, chosen_of, emit, machine, own_cpu_s
from bench.rounds import QUIET_CORES, Rounds, Schedule, interleave, paired_ratio
from exporters.bundle.orders import variants_named
from exporters.cache import Cache, cache_root
from exporters.dual_encoder.build import DualOrder, export_dual_encoder
from exporters.meaning.serving import client_of
from exporters.meaning.small_clip import SPECIAL, tokenizer_of
from exporters.model.source import Source
from exporters.progress import Progress
from exporters.trace.quiet import quiet
from nsedge.api import Media
from nsedge.runtime.machine.cores import usable_cores

NAME = "clip-vit-b32-shape"
VARIANTS = ("cpu-int8-b64", "cpu-fp32")
PEER = "transformers"
BATCH = 32
"""Pictures that transformers runs at once, and that a request to the daemon has."""
WIDTH, HEIGHT = 512, 480
SEED = 3


@dataclass(frozen=True)
class Speed:
    """In one round: pictures a second, and seconds of processor time a picture."""

    per_s: float
    cpu_s: float


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--rounds", type=int, default=3, help="interleaved rounds that count")
    made.add_argument("--extra", type=int, default=3, help="rounds to replace disturbed ones")
    made.add_argument("--pictures", type=int, default=64, help="of each contender in a round")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders, round after round."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    folder = cache.get("bench-clip", {"name": NAME}, title="Making random weights", make=_write)
    order = DualOrder(
        source=Source(folder=folder, origin=NAME), variants=variants_named(",".join(VARIANTS))
    )
    place = cache.root / "bench-bundles" / NAME
    bundle = export_dual_encoder(order, place, name=NAME, cache=cache, replace=True).bundle
    jpegs = pictures(options.pictures)
    torch.set_num_threads(usable_cores())
    contenders: dict[str, Callable[[], Awaitable[Speed]]] = {
        variant: partial(_ours, bundle, variant, jpegs) for variant in VARIANTS
    }
    contenders[PEER] = partial(_theirs, folder, jpegs)
    rounds = await interleave(
        contenders, Schedule(rounds=options.rounds, extra=options.extra), Noise
    )
    return {
        "bench": "pictures",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "peers": {"transformers": transformers.__version__, "torch": torch.__version__},
        "options": chosen_of(options),
        "quiet_cores": QUIET_CORES,
        "others_cores": [round(one, 2) for one in rounds.noise()],
        "speed": {name: _told(rounds, name) for name in contenders},
    }


def _told(rounds: Rounds[Speed], name: str) -> dict[str, float]:
    found = rounds.of(name)
    peers = [one.cpu_s for one in rounds.of(PEER)]
    return {
        "per_s": round(statistics.median(one.per_s for one in found), 2),
        "cpu_s": round(statistics.median(one.cpu_s for one in found), 4),
        "peer_cpu_s_ratio": round(paired_ratio(peers, [one.cpu_s for one in found]), 2),
    }


async def _ours(bundle: Path, variant: str, jpegs: Sequence[bytes]) -> Speed:
    def ask() -> Speed:
        media = [Media(type="image/jpeg", data=jpeg) for jpeg in jpegs]
        with client_of(bundle, variant=variant) as client:
            client.embed(bundle.name, media[:BATCH]).embeddings()

            def embed() -> None:
                under_way = [
                    client.embed(bundle.name, media[begin : begin + BATCH])
                    for begin in range(0, len(media), BATCH)
                ]
                for events in under_way:
                    events.embeddings()

            return _timed(embed, len(jpegs))

    return await asyncio.to_thread(ask)


async def _theirs(folder: Path, jpegs: Sequence[bytes]) -> Speed:
    def ask() -> Speed:
        with quiet():
            model = transformers.CLIPModel.from_pretrained(folder).eval()
            prepare = transformers.CLIPImageProcessor.from_pretrained(folder)

        def embed(some: Sequence[bytes]) -> None:
            for begin in range(0, len(some), BATCH):
                images = [Image.open(io.BytesIO(one)) for one in some[begin : begin + BATCH]]
                pixels = prepare(images=images, return_tensors="pt")
                with torch.inference_mode():
                    model.get_image_features(**pixels)

        embed(jpegs[:BATCH])
        return _timed(partial(embed, jpegs), len(jpegs))

    return await asyncio.to_thread(ask)


def _timed(embed: Callable[[], None], count: int) -> Speed:
    """`embed`, of `count` pictures. The daemon works in this process, too, and in its children."""
    began_s, cpu_s = time.perf_counter(), own_cpu_s()
    embed()
    took_s, took_cpu_s = time.perf_counter() - began_s, own_cpu_s() - cpu_s
    return Speed(per_s=count / took_s, cpu_s=took_cpu_s / count)


def pictures(count: int) -> list[bytes]:
    """JPEGs: a photograph, brighter or darker, and turned."""
    file = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    photograph = Image.open(file).convert("RGB").resize((WIDTH, HEIGHT))
    random, made = np.random.default_rng(SEED), []
    for _ in range(count):
        turned = photograph.rotate(float(random.uniform(-20, 20)))
        levels = np.clip(np.asarray(turned) * random.uniform(0.5, 1.3), 0, 255)
        jpeg = io.BytesIO()
        Image.fromarray(levels.astype(np.uint8)).save(jpeg, "JPEG", quality=90)
        made.append(jpeg.getvalue())
    return made


def _write(folder: Path) -> None:
    """The model, its processor and a small tokenizer."""
    torch.manual_seed(SEED)
    words = ["boat", "train"]
    vocabulary = len(SPECIAL) + len(words)
    text = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    with quiet():
        transformers.CLIPModel(transformers.CLIPConfig(text_config=text)).save_pretrained(folder)
        transformers.CLIPImageProcessor().save_pretrained(folder)
    tokenizer_of(words).save(str(folder / "tokenizer.json"))
    settings = {"pad_token": "[PAD]", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
