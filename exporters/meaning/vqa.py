"""Whether a small model that sees, fine-tuned, merged, exported and served, answers questions about
pictures that it has not seen.

It goes the way that users go: the rows of a file with pictures to examples, a projector and a LoRA
learnt from them, merged, exported, and asked over the socket of a daemon in a process of its own.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from exporters.bundle.orders import variants_named
from exporters.cache import Cache
from exporters.code import code_digest
from exporters.finetune.adapters import Adapter
from exporters.finetune.dataset import make_dataset
from exporters.finetune.device import Place, Precision
from exporters.finetune.making import DatasetOrder
from exporters.finetune.merge import Order as MergeOrder
from exporters.finetune.merge import merge
from exporters.finetune.settings import Settings
from exporters.finetune.train import Order as TrainOrder
from exporters.finetune.train import train
from exporters.meaning import small_clip, small_vlm
from exporters.meaning.easy_vqa import WHEEL, read_pictures
from exporters.meaning.fitting import Course
from exporters.meaning.questions import Asked, blind_share, read_questions, usual_share
from exporters.meaning.results import Answered, MeasuredAnswers, trained
from exporters.meaning.serving import client_of_process
from exporters.model.source import Source
from exporters.model.vision_lm import VisionSource
from exporters.model.vision_sources import vision_source
from exporters.vision_lm.build import export_vision_lm
from nsedge.api import Media, MediaPart, Message, Role, Sampling, TextPart
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import Client
from nsedge.ipc.sync import Events

NAME = "small-vlm"
ORIGIN = "small-vlm, trained on easy-vqa"
VARIANTS = "cpu-int8,cpu-fp32"
LIMITS = {"kl": 1.0, "top1": 0.0, "golden": 0.0}
"""English is far from what such a model has read: of it, it is sure of nothing."""
AT_ONCE = 16
SEED = 5
TURNS = 4
"""Questions about a picture that stand in a row of the dataset, one after the other."""
LONGEST_ANSWER = 8
THREADS = 1
"""Two wait for each other more than they work, in a model as small as this."""


@dataclass(frozen=True, kw_only=True)
class VqaCourse:
    """How the parts are trained: the eyes, the decoder on words, then both together.

    - pictures: those that are learnt from; None: all. steps: of fine-tuning.
    - questions: those that are asked, of pictures not learnt from.
    - demanded: the share of them to be answered right.
    """

    eyes: Course
    words: Course
    pictures: int | None
    steps: int
    questions: int
    demanded: float
    batch: int = 32


SHORT = VqaCourse(
    eyes=small_clip.SHORT,
    words=Course(steps=300, demanded=0.6),
    pictures=1000,
    steps=150,
    questions=400,
    demanded=0.8,
)
WHOLE_COURSE = VqaCourse(
    eyes=small_clip.WHOLE_COURSE,
    words=Course(steps=1500, demanded=0.9),
    pictures=None,
    steps=600,
    questions=1000,
    demanded=0.9,
)


def measure(cache: Cache, course: VqaCourse, *, most: int | None = None) -> MeasuredAnswers:
    """Train, fine-tune, merge, export, serve, and ask questions of the test pictures, at most
    `most`.

    Raises:
        ExportError: the pictures cannot be had, or a step of the way fails.
    """
    torch.set_num_threads(THREADS)
    base, words_s = _base(cache, course)
    learnt = read_questions(cache, "train")
    merged, tuned_s = _tuned(cache, base, learnt[: course.pictures], course)
    questions = _some(
        read_questions(cache, "test"), min(course.questions, most or course.questions)
    )
    answers = [answer for _, _, answer in questions]
    before = _bundle(cache, base, f"{NAME}-base-{course.words.steps}")
    after = _bundle(cache, merged, f"{NAME}-{course.steps}")
    took = None if words_s is None or tuned_s is None else round(words_s + tuned_s, 1)
    return MeasuredAnswers(
        words_steps=course.words.steps,
        steps=course.steps,
        batch=course.batch,
        train_cpu_s=took,
        demanded=course.demanded,
        questions=len(questions),
        usual=round(usual_share(answers), 4),
        blind=round(blind_share(learnt, [(asked, answer) for _, asked, answer in questions]), 4),
        before=_ask(before, "cpu-fp32", questions).right,
        found=tuple(
            _ask(after, variant.name, questions) for variant in Bundle.open(after).manifest.variants
        ),
    )


def _base(cache: Cache, course: VqaCourse) -> tuple[Path, float | None]:
    """The folder of a model whose decoder has read and whose eyes have seen, each by itself."""
    took: list[float] = []

    def make_eyes(folder: Path) -> None:
        shown = read_pictures(cache, "train")
        small_clip.train(shown, course.eyes, folder, tell=cache.progress.note)

    eyes = trained(
        cache,
        course.eyes,
        "exporters.meaning.small_clip",
        title=f"Training a small CLIP in {course.eyes.steps} steps",
        make=make_eyes,
    )

    def make(folder: Path) -> None:
        began_s = time.process_time()
        asked = read_questions(cache, "train")
        small_vlm.train(asked, eyes, course.words, folder, tell=cache.progress.note)
        took.append(time.process_time() - began_s)

    inputs = {
        "pictures": WHEEL.sha256,
        "eyes": course.eyes.steps,
        "steps": course.words.steps,
        "batch": course.words.batch,
        "code": code_digest("exporters.meaning.small_vlm", "exporters.meaning.small_clip"),
    }
    title = f"Teaching a small decoder in {course.words.steps} steps"
    folder = cache.get("meaning", inputs, title=title, make=make)
    return folder, took[0] if took else None


def _tuned(
    cache: Cache, base: Path, asked: Sequence[Asked], course: VqaCourse
) -> tuple[Path, float | None]:
    """The folder of the model, fine-tuned on what is asked about pictures; and the seconds of
    processor time that training took."""
    work = cache.root / "meaning-work" / f"{NAME}-{course.steps}"
    source = vision_source(Source(folder=base, origin=ORIGIN))
    rows = _write_rows(work, asked)
    dataset = DatasetOrder(
        inputs=(rows,), output=work / "train.jsonl", base=source, validation=0.02, replace=True
    )
    make_dataset(dataset, cache.progress)
    settings = Settings(
        rank=16,
        learning_rate=3e-3,
        steps=course.steps,
        batch=course.batch,
        evaluate=max(1, course.steps // 4),
        dropout=0.0,
        seed=SEED,
    )
    order = TrainOrder(
        source=source,
        dataset=work / "train.jsonl",
        settings=settings,
        place=Place(device="cpu", precision=Precision.FP32, name="CPU"),
        threads=THREADS,
    )
    began_s = time.process_time()
    learnt = train(order, work / "adapter", cache=cache, replace=True)
    took_s = time.process_time() - began_s if learnt.facts is not None else None
    adapter = Adapter(folder=work / "adapter", name=NAME)
    merging = MergeOrder(source=source, adapters=(adapter,))
    merged = merge(merging, work / "merged", cache=cache, replace=True)
    return merged.folder, took_s


def _write_rows(work: Path, asked: Sequence[Asked]) -> Path:
    """A file of rows, each a conversation about a picture, which lies in a file beside it."""
    (work / "pictures").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    lines = []
    for number, one in enumerate(asked):
        name = f"pictures/{number}.png"
        (work / name).write_bytes(one.shown.png)
        order = random.permutation(len(one.questions))
        for begin in range(0, len(order), TURNS):
            some = [one.questions[at] for at in order[begin : begin + TURNS]]
            lines.append(json.dumps({"messages": _messages(name, some)}))
    path = work / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _messages(picture: str, questions: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    messages: list[dict[str, object]] = []
    for question, answer in questions:
        parts: list[dict[str, str]] = [] if messages else [{"type": "image", "image": picture}]
        messages.append({"role": "user", "content": [*parts, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": answer})
    return messages


def _bundle(cache: Cache, folder: Path, name: str) -> Path:
    source: VisionSource = vision_source(Source(folder=folder, origin=ORIGIN))
    report = export_vision_lm(
        source,
        cache.root / "meaning-bundles" / name,
        variants=variants_named(VARIANTS),
        context=small_vlm.CONTEXT,
        name=name,
        cache=cache,
        overrides=LIMITS,
        replace=True,
    )
    return report.text.bundle


Question = tuple[Media, str, str]
"""A picture, what is asked about it, and the answer."""


def _some(asked: Sequence[Asked], count: int) -> list[Question]:
    """So many of the questions, drawn by a seed."""
    every = [
        (Media(type="image/png", data=one.shown.png), question, answer)
        for one in asked
        for question, answer in one.questions
    ]
    chosen = np.random.default_rng(SEED).permutation(len(every))[:count]
    return [every[at] for at in chosen]


def _ask(bundle: Path, variant: str, questions: Sequence[Question]) -> Answered:
    with client_of_process(bundle, variant=variant) as client:
        right = sum(said == answer for said, answer in _said(client, bundle.name, questions))
    return Answered(variant=variant, right=round(right / len(questions), 4))


def _said(client: Client, model: str, questions: Sequence[Question]) -> Iterator[tuple[str, str]]:
    """What is said to each question, and the answer; several are asked at once."""
    greedy = Sampling(temperature=0.0, max_tokens=LONGEST_ANSWER)
    waiting = deque[tuple[Events, str]]()
    coming = iter(questions)
    while True:
        while len(waiting) < AT_ONCE and (one := next(coming, None)) is not None:
            media, question, answer = one
            content = (MediaPart(media=media), TextPart(text=question))
            turns = [Message(role=Role.USER, content=content)]
            waiting.append((client.chat(model, turns, sampling=greedy), answer))
        if not waiting:
            return
        events, answer = waiting.popleft()
        yield events.collected().text.strip(), answer
