"""What training follows from: settings, order of the examples, and the tokens that are learnt."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from exporters.cache import Cache
from exporters.errors import ExportError
from exporters.finetune.batches import (
    NO_TARGET,
    Tokens,
    batches_of_step,
    check_ids,
    epoch_order,
    padded,
    tokenise,
)
from exporters.finetune.curve import Curve, Learnt, Measured, loss_line, warning
from exporters.finetune.device import threads_free
from exporters.finetune.examples import Example
from exporters.finetune.lineage import LINEAGE_FILE, read_adapter_lineage
from exporters.finetune.settings import Schedule, Settings, fitted, rate_at
from exporters.progress import Progress
from nsedge.runtime.machine.cores import CpuMeter, usable_cores
from nsedge.runtime.text.control import ControlTokens

SPECIAL = ["<|turn|>", "<|end|>"]


def byte_level(*, trimmed: bool) -> Tokenizer:
    """A token a byte, as GPT-2 maps them; `trimmed` leaves white space out of the offsets."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet, "Ġa", "Ġb"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "a"), ("Ġ", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def spoken(*turns: tuple[str, str]) -> Example:
    text, learn = "", []
    for role, words in turns:
        text += f"<|turn|>{role}\n"
        begin = len(text)
        text += f"{words}<|end|>"
        if role == "assistant":
            learn.append((begin, len(text)))
        text += "\n"
    return Example(row=1, messages=(), text=text, learn=tuple(learn))


@pytest.mark.parametrize("trimmed", [False, True])
def test_the_assistants_words_and_the_end_of_its_turns_are_learnt(trimmed: bool) -> None:
    tokenizer = byte_level(trimmed=trimmed)
    said = spoken(
        ("user", "hé a b"), ("assistant", " añ 東 b\n"), ("user", "so?"), ("assistant", "a ")
    )
    (tokens,) = tokenise([said], ControlTokens(tokenizer), max_tokens=500).examples
    wanted = tokens.ids[tokens.learnt].tolist()
    assert tokenizer.decode(wanted, skip_special_tokens=False) == " añ 東 b\n<|end|>a <|end|>"


@pytest.mark.parametrize("trimmed", [False, True])
def test_what_was_said_is_learnt_as_letters(trimmed: bool) -> None:
    tokenizer = byte_level(trimmed=trimmed)
    (example,) = [spoken(("user", "hé<|end|> a"), ("assistant", " a <|turn|> b<|end|>\n"))]
    marks = [(m.start(), m.end()) for m in re.finditer(r"<\|(turn|end)\|>", example.text)]
    literal = (marks[1], marks[4], marks[5])
    said = msgspec.structs.replace(example, literal=literal)
    (tokens,) = tokenise([said], ControlTokens(tokenizer), max_tokens=500).examples
    wanted = tokens.ids[tokens.learnt].tolist()
    assert tokenizer.decode(wanted, skip_special_tokens=False) == " a <|turn|> b<|end|>\n<|end|>"
    ends = [tokenizer.token_to_id(text) for text in SPECIAL]
    assert [number for number in wanted if number in ends] == [tokenizer.token_to_id("<|end|>")]
    assert [number for number in tokens.ids.tolist() if number in ends] == [0, 1, 0, 1]
    assert tokenizer.decode(tokens.ids.tolist(), skip_special_tokens=False) == said.text


def test_what_is_too_long_is_cut_and_what_then_teaches_nothing_is_dropped() -> None:
    tokenizer = byte_level(trimmed=False)
    rows = [
        spoken(("user", "a"), ("assistant", "b" * 50)),
        spoken(("user", "a" * 50), ("assistant", "b")),
        spoken(("user", "a"), ("assistant", "b")),
    ]
    tokenised = tokenise(rows, ControlTokens(tokenizer), max_tokens=30)
    assert (tokenised.cut, tokenised.dropped) == (1, 1)
    assert [len(tokens.ids) for tokens in tokenised.examples] == [30, 23]
    with pytest.raises(ExportError, match="knows only 100 tokens"):
        check_ids(tokenised, 100)


def test_a_batch_predicts_each_learnt_token_from_the_one_before() -> None:
    long = Tokens(ids=np.array([5, 6, 7, 8]), learnt=np.array([False, False, True, True]))
    short = Tokens(ids=np.array([9, 4]), learnt=np.array([False, True]))
    batch = padded([long, short])
    assert batch.ids.tolist() == [[5, 6, 7, 8], [9, 4, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    no = NO_TARGET
    assert batch.targets.tolist() == [[no, 7, 8, no], [4, no, no, no]]
    assert batch.learnt == 3


def test_an_epoch_sees_each_example_once_and_like_lengths_together() -> None:
    settings = Settings(batch=4, seed=7)
    lengths = np.random.default_rng(0).integers(5, 500, 61).tolist()
    order = epoch_order(lengths, settings, 0)
    assert sorted(i for batch in order for i in batch) == list(range(61))
    filled = sum(len(batch) * max(lengths[i] for i in batch) for batch in order)
    assert filled < 1.2 * sum(lengths)
    assert order == epoch_order(lengths, settings, 0)
    assert order != epoch_order(lengths, settings, 1)
    assert order != epoch_order(lengths, Settings(batch=4, seed=8), 0)


def test_the_steps_of_an_epoch_are_its_batches() -> None:
    settings = Settings(batch=2, accumulate=3)
    learnt = np.array([False, True])
    examples = [Tokens(ids=np.array([0, i]), learnt=learnt) for i in range(13)]
    assert settings.steps_an_epoch(13) == 3
    assert settings.total_steps(13) == 9
    for first in (1, 4):
        steps = [batches_of_step(examples, settings, step) for step in range(first, first + 3)]
        assert [len(step) for step in steps] == [3, 3, 1]
        seen = Counter(i for step in steps for batch in step for i in batch.ids[:, 1].tolist())
        assert seen == Counter(range(13))


@pytest.mark.parametrize(
    ("examples", "batch", "steps", "rate"),
    [
        (1, 1, 60, 4e-4),
        (12, 2, 60, 4e-4),
        (48, 8, 60, 4e-4),
        (160, 8, 60, 4e-4),
        (1000, 8, 375, 2e-4),
        (20_000, 8, 3750, 2e-4),
        (100_000, 8, 12_500, 2e-4),
    ],
)
def test_what_is_not_said_fits_the_examples(
    examples: int, batch: int, steps: int, rate: float
) -> None:
    found = fitted(Settings(), examples)
    assert (found.batch, found.learning_rate) == (batch, rate)
    assert found.total_steps(examples) == steps


def test_what_is_said_stays() -> None:
    said = Settings(epochs=1.0, batch=4, learning_rate=1e-5)
    assert fitted(said, 12, ()) == said
    assert fitted(said, 12, ["batch"]) == msgspec.structs.replace(said, batch=2)
    some = fitted(msgspec.structs.replace(said, steps=7), 12, ["epochs", "learning_rate"])
    assert (some.total_steps(12), some.epochs, some.learning_rate) == (7, 1.0, 4e-4)
    accumulated = fitted(Settings(accumulate=4), 48)
    assert (accumulated.batch, accumulated.total_steps(48)) == (2, 60)


def curve_of(training: tuple[float, float], *validation: float) -> Curve:
    held = [Measured(step=n, loss=loss) for n, loss in enumerate(validation)]
    return Curve(
        validation=held, examined=[Measured(step=n, loss=loss) for n, loss in enumerate(training)]
    )


def test_a_run_that_taught_nothing_is_told_plainly() -> None:
    assert warning(curve_of((4.0, 1.0), 4.0, 2.0)) is None
    assert warning(curve_of((4.0, 1.0))) is None
    assert "hardly moved" in str(warning(curve_of((4.0, 3.7), 4.0, 2.0)))
    assert "the training examples alone" in str(warning(curve_of((4.0, 1.0), 4.0, 4.1, 5.0)))


def test_the_losses_before_and_after_are_one_line() -> None:
    assert loss_line(curve_of((4.0, 1.0))) == (
        "loss: training 4.000 before, 1.000 after; validation: no examples"
    )
    assert loss_line(curve_of((4.0, 1.0), 5.0, 2.0, 2.5)) == (
        "loss: training 4.000 before, 1.000 after;"
        " validation 5.000 before, 2.000 after (2.500 at the end)"
    )


def test_the_learning_rate_rises_and_falls() -> None:
    def rates(schedule: Schedule, warmup: float) -> list[float]:
        settings = Settings(learning_rate=1.0, schedule=schedule, warmup=warmup)
        return [round(rate_at(settings, step, 8), 3) for step in range(1, 9)]

    assert rates(Schedule.LINEAR, 4) == [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2]
    assert rates(Schedule.CONSTANT, 0.25) == [0.5, *[1.0] * 7]
    cosine = rates(Schedule.COSINE, 0)
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == pytest.approx(0.5 * (1 + np.cos(np.pi / 9)), abs=1e-3)
    assert 0 < cosine[-1] < 0.05


def test_the_curve_knows_its_best_and_how_long_ago_it_was() -> None:
    curve = Curve()
    assert (curve.step, curve.best(), curve.without_better()) == (0, None, 0)
    curve.validation = [Measured(step=0, loss=0.1)]
    assert curve.best() is None
    curve.validation += [Measured(step=s, loss=x) for s, x in ((2, 3.0), (4, 2.0), (6, 2.0))]
    curve.training = [Learnt(step=6, loss=2.0, learning_rate=0.1, gradient=1.0)]
    best = curve.best()
    assert best is not None
    assert (curve.step, best.step, curve.without_better()) == (6, 4, 1)


@pytest.mark.parametrize("busy_share", [0.0, 1.0])
def test_threads_follow_the_cores_that_others_leave(busy_share: float, tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = iter([0.0, 10.0])

    def write_stat(busy: float) -> None:
        lines = [f"cpu{n} {int(busy)} 0 0 0 0 0 0 0 0 0" for n in os.sched_getaffinity(0)]
        (tmp_path / "stat").write_text("\n".join(lines))

    write_stat(0)
    meter = CpuMeter(
        proc=tmp_path,
        cgroups=tmp_path,
        clock=lambda: next(seconds),
        own=lambda: 0.0,
        own_nice=0,
    )
    write_stat(10 * ticks * busy_share)
    assert threads_free(meter) == (1 if busy_share else min(cores, usable_cores()))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"base": "\xff"}', b'{"base": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)
def test_a_damaged_lineage_is_told_in_a_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LINEAGE_FILE).write_bytes(content)
    with pytest.raises(ExportError, match=f"{tmp_path / LINEAGE_FILE}: ") as caught:
        read_adapter_lineage(tmp_path)
    assert "\n" not in str(caught.value)


def test_unfinished_work_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, Progress(None))
    with cache.unfinished("training", "key") as work:
        (work / "half").write_text("done")
    with cache.unfinished("training", "key") as work:
        assert (work / "half").read_text() == "done"
    with cache.unfinished("training", "other") as work:
        assert list(work.iterdir()) == []
