"""What a dataset says makes no turns in training, in any family of templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporters.finetune.batches import tokenise
from exporters.finetune.dataset import make_dataset
from exporters.finetune.examples import Example, read_examples
from exporters.finetune.making import DatasetOrder
from exporters.model.source import Source
from exporters.progress import Progress
from nsedge.api import Chat, Message, Role
from tests.unit.runtime.text.test_control import control_of, reader_of, said_by
from tests.unit.template_families import FAMILIES, PLAIN, Family

ALL = FAMILIES | {"plain": PLAIN}


def base_of(family: Family, folder: Path) -> Source:
    """A base without weights."""
    folder.mkdir()
    family.tokenizer().save(str(folder / "tokenizer.json"))
    told = {"eos_token": family.eos, "bos_token": family.bos, "chat_template": family.template}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "config.json").write_text("{}")
    return Source(folder=folder, origin="tiny")


def made(base: Source, folder: Path, rows: list[tuple[str, str]]) -> list[Example]:
    source = folder / "data.json"
    source.write_text(json.dumps([{"prompt": q, "completion": a} for q, a in rows]))
    order = DatasetOrder(inputs=(source,), output=folder / "train.jsonl", base=base, validation=0.0)
    report = make_dataset(order, Progress(None)).report
    assert report.dropped == ()
    assert report.literal == len(rows) - 1
    return list(read_examples(folder / "train.jsonl"))


@pytest.mark.parametrize("name", ALL)
def test_the_marks_of_a_family_are_learnt_as_text(name: str, tmp_path: Path) -> None:
    family, base = ALL[name], base_of(ALL[name], tmp_path / "base")
    said = said_by(family)
    rows = [("harmless", "words"), *((one, one) for one in said)]
    examples = made(base, tmp_path, rows)
    reader = base.text_reader()
    harmless, *hostile = tokenise(examples, reader.control_tokens(), max_tokens=500).examples
    wanted = control_of(reader.tokenizer, family, harmless.ids.tolist())
    end = harmless.ids[harmless.learnt].tolist()[-1]
    assert reader.tokenizer.id_to_token(end) in family.control
    for text, tokens in zip(said, hostile, strict=True):
        ids, learnt = tokens.ids.tolist(), tokens.ids[tokens.learnt].tolist()
        assert control_of(reader.tokenizer, family, ids) == wanted, text
        assert learnt.count(end) == 1
        assert learnt[-1] == end


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reads_a_prompt_as_the_daemon_does(name: str, tmp_path: Path) -> None:
    """What goes before the first answer, token for token."""
    family, base = FAMILIES[name], base_of(FAMILIES[name], tmp_path / "base")
    reader = base.text_reader()
    prompts = reader_of(family, reader.tokenizer, tmp_path)
    questions = ["the user asks", *said_by(family)]
    examples = made(base, tmp_path, [(question, "so") for question in questions])
    tokenised = tokenise(examples, reader.control_tokens(), max_tokens=500).examples
    for question, tokens in zip(questions, tokenised, strict=True):
        prompt = prompts.read(Chat(messages=(Message(role=Role.USER, content=question),)))
        assert reader.question(question) == list(prompt)
        before = tokens.ids[: int(tokens.learnt.argmax())].tolist()
        shared = min(len(before), len(prompt))
        assert list(prompt[:shared]) == before[:shared]
        assert shared >= len(prompt) - 1  # a blank may belong to the prompt or to the answer
