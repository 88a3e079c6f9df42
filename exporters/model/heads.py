"""What the folder of a model with a head says of it: what it labels, or which mask it fills."""

from __future__ import annotations

from typing import Any

from exporters.errors import Refused
from exporters.model.encoder_families import Family
from exporters.model.files import is_count, read_object, shown
from exporters.model.source import TOKENIZER_SETTINGS, Source, read_tokenizer
from nsedge.api import Activation
from nsedge.bundle.headed import (
    AnyHead,
    MaskedLm,
    SequenceClassification,
    TokenClassification,
)

MASKED = "ForMaskedLM"
SEQUENCE = "ForSequenceClassification"
TOKENS = "ForTokenClassification"
SUFFIXES = (MASKED, SEQUENCE, TOKENS)
SPECIAL_TOKENS = "special_tokens_map.json"
IDENTITIES = ("Identity", "torch.nn.modules.linear.Identity")
SIGMOIDS = ("Sigmoid", "torch.nn.modules.activation.Sigmoid")
"""How sentence-transformers names what its cross-encoders end in."""


def has_head(family: Family, architecture: str) -> bool:
    """Whether the class ends in a head that is exported."""
    return architecture in {family.stem + suffix for suffix in SUFFIXES}


def read_head(source: Source) -> AnyHead:
    """The head of a model that has one.

    Raises:
        Refused: it is not told in full, or it is more than one.
        ExportError: a file is damaged.
    """
    architecture = source.architecture()
    if architecture.endswith(MASKED):
        return _masked(source)
    labels = _labels(source)
    if architecture.endswith(TOKENS):
        return TokenClassification(labels=labels)
    return SequenceClassification(labels=labels, activation=_activation(source, len(labels)))


def _masked(source: Source) -> MaskedLm:
    mask = special_token(source, "mask_token")
    if mask is None:
        raise Refused(f"{source.folder / TOKENIZER_SETTINGS}: no mask_token")
    number = read_tokenizer(source.tokenizer_file).token_to_id(mask)
    if number is None:
        raise Refused(f"{source.tokenizer_file}: no token {shown(mask)}, which stands for a mask")
    return MaskedLm(mask=mask, mask_token_id=number)


def special_token(source: Source, name: str) -> str | None:
    """A special token, as tokenizer_config.json tells it, or special_tokens_map.json.

    Raises:
        Refused: it is no text.
        ExportError: a file is damaged.
    """
    token = source.tokenizer_config.get(name)
    path = source.folder / SPECIAL_TOKENS
    if token is None and path.is_file():
        token = read_object(path).get(name)
    text = token.get("content") if isinstance(token, dict) else token
    if text is not None and not isinstance(text, str):
        raise Refused(f"{source.folder}: {name} must be a text, not {shown(token)}")
    return text


def _labels(source: Source) -> tuple[str, ...]:
    path, stated = source.folder / "config.json", source.config.get("id2label")
    if stated is None:
        count = source.config.get("num_labels", 2)
        if not is_count(count) or not count:
            raise Refused(f"{path}: num_labels must be a whole number above 0, not {shown(count)}")
        return tuple(f"LABEL_{at}" for at in range(count))
    if not isinstance(stated, dict) or not stated:
        raise Refused(f"{path}: id2label must tell labels by their numbers, not {shown(stated)}")
    labels = [stated.get(str(at)) for at in range(len(stated))]
    for at, label in enumerate(labels):
        if not isinstance(label, str) or not label.isprintable() or not label:
            raise Refused(f"{path}: id2label has no name for {at}: {shown(label)}")
    return tuple(map(str, labels))


def _activation(source: Source, labels: int) -> Activation:
    """As transformers' pipeline chooses, unless sentence-transformers' settings say otherwise."""
    stated = _cross_encoder(source.config)
    if stated is not None:
        if stated in IDENTITIES:
            return Activation.NONE
        if stated in SIGMOIDS:
            return Activation.SIGMOID
        raise Refused(f"{source.folder / 'config.json'}: the activation {shown(stated)} is unknown")
    kind = source.config.get("problem_type")
    if kind == "regression":
        return Activation.NONE
    if kind == "multi_label_classification" or labels == 1:
        return Activation.SIGMOID
    return Activation.SOFTMAX


def _cross_encoder(config: dict[str, Any]) -> Any:
    """What sentence-transformers' cross-encoders end in, where the configuration says so."""
    own = config.get("sentence_transformers")
    if isinstance(own, dict) and own.get("activation_fn") is not None:
        return own["activation_fn"]
    return config.get("sbert_ce_default_activation_function")
