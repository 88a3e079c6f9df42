"""Gemma 3 that sees: the tokens of a picture see each other, in pieces of any size, alone and
beside others, as transformers has it."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from exporters.__main__ import main
from exporters.errors import Refused
from exporters.model.gemma3 import GemmaSource
from nsedge.api import Chat, Message, PromptQuestion, Role, TextPart
from nsedge.runtime.settings import PrefixReuse
from tests.export.tiny_gemma3 import (
    BEGIN,
    END,
    IMAGE_TOKEN,
    ROWS,
    image_processor,
    make_gemma3,
    write_gemma3_folder,
)
from tests.export.vision_rig import (
    GREEDY,
    LOOSE,
    PICTURES,
    TOKENS,
    said,
    serving,
    tokens_of,
)

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

FORMS = ("cpu-fp32", "cpu-int8")
QUESTIONS = [
    [said(PICTURES[0], "What is this?")],
    [said("See", PICTURES[1], "and", PICTURES[2], "tell them apart, and then from", PICTURES[0])],
    [said("No picture at all, and so many words that the window is left behind.")],
    [
        said(PICTURES[2], "Here?"),
        said("A ball.", role=Role.ASSISTANT),
        said("And here?", PICTURES[0]),
    ],
]


class ByTransformers:
    """The model and its processor, as transformers has them."""

    def __init__(self, folder: Path) -> None:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
            folder,
            extra_special_tokens={"image_token": IMAGE_TOKEN, "boi_token": BEGIN, "eoi_token": END},
        )
        ids = tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, BEGIN, END])
        self.model = make_gemma3(tuple(ids))
        self.processor = transformers.Gemma3Processor(
            image_processor(),
            tokenizer,
            chat_template=(folder / "chat_template.jinja").read_text(),
            image_seq_length=ROWS,
        )

    def read(self, *turns: Message) -> Any:
        """What the processor makes of a conversation."""
        told = [
            {
                "role": str(turn.role),
                "content": [
                    {"type": "text", "text": part.text}
                    if isinstance(part, TextPart)
                    else {"type": "image"}
                    for part in turn.content
                ],
            }
            for turn in turns
        ]
        text = self.processor.apply_chat_template(told, add_generation_prompt=True)
        images = [Image.open(io.BytesIO(one.data)) for turn in turns for one in turn.media]
        return self.processor(
            text=text,
            images=images or None,
            return_tensors="pt",
            return_mm_token_type_ids=True,
            add_special_tokens=False,
        )

    def answer(self, *turns: Message, together: bool = True) -> list[int]:
        """The tokens of the greedy answer; without `together` no token sees one behind it."""
        read = self.read(*turns)
        if not together:
            del read["token_type_ids"]
        with torch.no_grad():
            made = self.model.generate(
                **read, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
            )
        return made[0, read["input_ids"].shape[1] :].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gemma3_folder(tmp_path_factory.mktemp("models") / "Tiny-Gemma-3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles") / "tiny"


@pytest.fixture
def bundle(folder: Path, made: Path, own_places: None) -> Path:
    """Made within a test, whose places it is made in."""
    if not made.exists():
        options = ("--name", "tiny", "--out", str(made), "--variants", ",".join(FORMS), *LOOSE)
        assert main(["model", str(folder), *options]) == 0
    return made


def test_answers_are_those_of_transformers(folder: Path, bundle: Path) -> None:
    reference = ByTransformers(folder)
    wanted = [reference.answer(*turns) for turns in QUESTIONS]
    assert len({tuple(tokens) for tokens in wanted}) == len(wanted)
    assert wanted[1] != reference.answer(*QUESTIONS[1], together=False)
    with serving(bundle, "cpu-fp32") as (client, _):
        for turns, tokens in zip(QUESTIONS, wanted, strict=True):
            question = PromptQuestion(model="tiny", task=Chat(messages=tuple(turns)))
            ids = reference.read(*turns)["input_ids"][0].tolist()
            assert list(client.read_prompt(question).token_ids) == ids
            assert tokens_of(client.chat("tiny", turns, sampling=GREEDY)) == tokens
        # Together, and going on from what is cached.
        asked = [client.chat("tiny", turns, sampling=GREEDY) for turns in QUESTIONS]
        assert [tokens_of(one) for one in asked] == wanted


@pytest.mark.parametrize("form", FORMS)
def test_company_and_pieces_change_no_answer(form: str, bundle: Path) -> None:
    many = [*QUESTIONS, [said("Again?", PICTURES[1])], [said("Words alone, many of them.")]]
    with serving(bundle, form, prefix_reuse=PrefixReuse.OFF) as (client, _):
        alone = [tokens_of(client.chat("tiny", turns, sampling=GREEDY)) for turns in many]
    # Pieces of 5 tokens would end within pictures, which have 16: none does.
    small = {"prefill_chunk_tokens": 5, "prefix_reuse": PrefixReuse.OFF}
    with serving(bundle, form, **small) as (client, _):
        asked = [client.chat("tiny", turns, sampling=GREEDY) for turns in [*many, *many]]
        assert [tokens_of(one) for one in asked] == [*alone, *alone]


def test_a_prompt_goes_on_behind_a_picture_or_within_it(bundle: Path) -> None:
    first = [said(PICTURES[0], "What is this? Tell me about it at some length.")]
    again = [*first, said("A woman.", role=Role.ASSISTANT), said("Is she?")]
    other = [said(PICTURES[0], "And where?")]
    with serving(bundle, "cpu-fp32", prefix_reuse=PrefixReuse.OFF) as (client, _):
        alone = [tokens_of(client.chat("tiny", one, sampling=GREEDY)) for one in (again, other)]
    with serving(bundle, "cpu-fp32", prefix_reuse=PrefixReuse.FULL) as (client, _):
        client.chat("tiny", first, sampling=GREEDY).collected()
        for turns, wanted in zip((again, other), alone, strict=True):
            assert tokens_of(client.chat("tiny", turns, sampling=GREEDY)) == wanted
            assert client.chat("tiny", turns, sampling=GREEDY).collected().usage.cached_tokens


def test_a_bundle_verifies(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()  # it may have been made just now
    assert main(["verify", str(bundle), *LOOSE, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)["pictures"]["after_pictures"]
    assert set(after) == set(FORMS)
    for name, found in after.items():
        assert found["kl"] < (1e-6 if name == "cpu-fp32" else 1e-2)


def test_capped_logits_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    stated = json.loads((copy / "config.json").read_text())
    stated["text_config"]["final_logit_softcapping"] = 30.0
    (copy / "config.json").write_text(json.dumps(stated))
    with pytest.raises(Refused, match=r"a final_logit_softcapping of 30\.0 has no form here"):
        GemmaSource(folder=copy, origin="tiny").check_architecture()


def test_pan_and_scan_is_refused_wherever_it_is_told(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    settings = copy / "preprocessor_config.json"
    told = {"image_processor": json.loads(settings.read_text()) | {"do_pan_and_scan": True}}
    settings.unlink()
    (copy / "processor_config.json").write_text(json.dumps(told))
    with pytest.raises(Refused, match=r"processor_config\.json: do_pan_and_scan has no form"):
        GemmaSource(folder=copy, origin="tiny").steps()


@pytest.mark.parametrize(
    ("name", "changes", "options", "reason"),
    [
        ("preprocessor_config.json", {"do_pan_and_scan": True}, (), "do_pan_and_scan has no form"),
        ("config.json", {"boi_token_index": 99999}, (), "boi_token_index 99999 names no token"),
        ("config.json", {}, ("--variants", "cpu-int8-kv8"), "no form in a cache of int8"),
        ("preprocessor_config.json", {"size": {"height": 16, "width": 16}}, (), "as 16 x 16, and"),
    ],
)
def test_what_has_no_form_is_refused(
    name: str,
    changes: dict[str, Any],
    options: tuple[str, ...],
    reason: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    stated = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(stated | changes))
    assert main(["model", str(copy), *options]) == 1
    assert re.search(reason, " ".join(capsys.readouterr().err.split()))
