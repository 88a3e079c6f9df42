"""The fp32 graph of a model folder: exported, cleaned, and held to PyTorch."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from exporters.errors import ExportError, Refused
from exporters.graph.graph import Graph
from exporters.graph.records import GRAPH_FILE, ReferenceRecord
from exporters.graph.together import see_within_pictures
from exporters.measure.recorded import LOGITS_FILE, difference_from_recorded
from exporters.measure.runner import Media, Runner, log_softmax
from exporters.model.environment import unknown_architecture
from exporters.model.files import shown
from exporters.model.source import Source
from exporters.trace.clean import clean
from exporters.trace.decoder_export import export_raw
from exporters.trace.quiet import quiet
from exporters.trace.signature import RAW_FILE
from nsedge.bundle.causal_lm import GraphIo, KvLayout, MediaIo

MAX_DIFFERENCE = 2e-3
"""Log-probability (nats) that the graph may differ from PyTorch by: fp32 sums in another order."""
RECORDED_ROOM = 2048
"""Tokens of a recorded prompt that are compared."""
UNFIT = {
    "missing_keys": "are missing",
    "mismatched_keys": "have other shapes than the configuration says",
    "unexpected_keys": "are none of this architecture's: they would be left out",
}
"""What transformers tells of weights that it did not load, or made up."""
TOLD, LONGEST_REASON = 3, 300
"""Names in a message, and characters of a library's."""
CHECK_SEED = 20
CHECK_LENGTHS = (23, 11, 31)
CHECK_STEPS = 4
CHECK_BORDER = 7
"""Of the two pieces of a row, which may be within media."""
CHECK_MEDIA = (3, 4, 5, 6, 7, 8)
"""Places of tokens that rows of media stand for, where a graph takes some."""
MIN_CONTEXT = max(CHECK_LENGTHS) + CHECK_STEPS


def make_reference(source: Source, out: Path, *, max_context: int) -> None:
    """Write the fp32 graph, its weights and `ReferenceRecord` to the directory `out`.

    Raises:
        Refused: the architecture cannot be exported.
        ExportError: the graph does not compute what PyTorch does.
    """
    with quiet():
        model = load_model(source)
    write_reference(model, source, out, max_context=max_context)


def write_reference(
    model: Any, source: Source, out: Path, *, max_context: int, media: MediaIo | None = None
) -> None:
    """The same of a model that is loaded. media: names for rows in the place of tokens, where
    there may be some."""
    text = model.config.get_text_config()
    kv = kv_layout(text)
    context = context_length(text, max_context)
    if context < MIN_CONTEXT:
        raise Refused(f"a context of {context} tokens is too short; at least {MIN_CONTEXT}")
    try:
        io, nodes = export_clean(model, out, kv=kv, context=context, media=media)
    except ExportError:
        raise
    except Exception as error:  # whatever a model's own code raises while it is traced
        name = type(model).__name__
        raise Refused(f"{name} cannot be traced: {_told(error)}") from error
    difference = compare(model, out / GRAPH_FILE, io=io, kv=kv)
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the exported graph differs from PyTorch by {difference:.2g} nats")
    recorded = difference_from_recorded(
        Runner(out / GRAPH_FILE, io=io, kv=kv, capacity=min(context, RECORDED_ROOM)), source.folder
    )
    if recorded is not None and not recorded <= MAX_DIFFERENCE:
        raise ExportError(
            f"the exported graph differs by {recorded:.2g} nats from the logits that came with the"
            f" model ({LOGITS_FILE}); at most {MAX_DIFFERENCE:g}"
        )
    ReferenceRecord(
        io=io,
        kv=kv,
        context_length=context,
        vocab_size=model.get_output_embeddings().weight.shape[0],
        nodes=dict(nodes),
        difference=difference,
        recorded_difference=recorded,
    ).write(out)


def load_model(source: Source) -> Any:
    """The model in PyTorch as `transformers` builds it, every weight its own.

    Raises:
        Refused: transformers cannot build it, or not of these weights.
    """
    check_architecture(_config(source))
    return load_weights(source, AutoModelForCausalLM)


def load_weights(
    source: Source, kind: Any, *, matters: Callable[[str], bool] = lambda name: True
) -> Any:
    """A model in PyTorch by one of transformers' classes, each weight that `matters` its own.

    Raises:
        Refused: transformers cannot build it, or not of these weights.
    """
    try:
        model, loaded = kind.from_pretrained(
            source.folder,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a model's own code raises
        raise Refused(f"{source.folder} cannot be loaded: {_told(error)}") from error
    for found, reason in UNFIT.items():
        if names := sorted(filter(matters, map(str, loaded[found]))):
            raise Refused(f"{source.folder}: {_first(names)} {reason}")
    return model.eval()


def _first(names: list[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"the weights {', '.join(map(shown, names[:TOLD]))}{more}"


def _told(error: Exception) -> str:
    """An error of a library's in a line that is not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:LONGEST_REASON]}"


def export_clean(
    model: Any, out: Path, *, kv: KvLayout, context: int, media: MediaIo | None = None
) -> tuple[GraphIo, Counter[str]]:
    """Export through Optimum, clean, and write the graph; its names and what it consists of."""
    raw = Path(tempfile.mkdtemp(dir=out))
    try:
        io = export_raw(model, raw, kv=kv, positions=context, media=media)
        graph = Graph.load(raw / RAW_FILE)
        nodes = clean(graph)
        if media is not None and media.blocks is not None:
            see_within_pictures(graph, io, media.blocks)
        graph.save(out / GRAPH_FILE)
    finally:
        shutil.rmtree(raw)
    return io, nodes


def _config(source: Source) -> Any:
    try:
        return AutoConfig.from_pretrained(
            source.folder, trust_remote_code=False, local_files_only=True
        )
    except (ValueError, KeyError, OSError) as error:
        raise unknown_architecture(source, transformers.__version__) from error
    except Exception as error:  # what a configuration's own code raises of odd values
        path = source.folder / "config.json"
        raise Refused(f"{path} cannot be read by transformers: {_told(error)}") from error


def check_architecture(config: Any) -> None:
    """Refuse, from the configuration alone, a model whose attention cannot be exchanged.

    Raises:
        Refused: with the reason.
    """
    known = AutoModelForCausalLM._model_mapping
    if type(config) not in known:
        raise Refused(f"{config.model_type} is no causal LM that transformers knows")
    model_class = known[type(config)]
    if not getattr(model_class, "_supports_attention_backend", False):
        raise Refused(f"{model_class.__name__} does not let its attention be exchanged")
    if getattr(model_class, "_is_stateful", False):
        raise Refused(f"{model_class.__name__} keeps a state that is no key and value cache")


def kv_layout(config: Any) -> KvLayout:
    """The cache of a model, from its text configuration.

    Raises:
        Refused: its layers differ in what they cache.
    """
    try:
        heads = config.num_attention_heads
        return KvLayout(
            layers=config.num_hidden_layers,
            heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
    except RuntimeError as error:  # transformers 5 so answers what differs between layers
        raise Refused(f"{config.model_type}: its layers have heads of several sizes") from error


def context_length(config: Any, most: int) -> int:
    """Positions that the graph's tables hold.

    Longrope and dynamic scaling switch tables beyond the original length, which fixed tables
    cannot: the original length is the limit there.
    """
    length = min(int(config.max_position_embeddings), most)
    for scaling in _rope_scalings(config):
        if scaling.get("rope_type", scaling.get("type")) in ("longrope", "su", "dynamic"):
            original = getattr(config, "original_max_position_embeddings", None)
            original = scaling.get("original_max_position_embeddings", original)
            length = min(length, int(original or length))
    return length


def _rope_scalings(config: Any) -> list[dict[str, Any]]:
    """How rotary frequencies are scaled: in transformers 5 by layer type, where types differ."""
    stated = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return [stated, *(each for each in stated.values() if isinstance(each, dict))]


def compare(model: Any, graph: Path, *, io: GraphIo, kv: KvLayout) -> float:
    """Greatest difference in log-probability (nats) between the graph and eager PyTorch.

    Three rows of unequal length are read in chunks straight into their slots, then go on
    together, as the daemon runs them. Where tokens may be rows of media, some are.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    random = np.random.default_rng(CHECK_SEED)
    rows = [random.integers(0, vocabulary, length + CHECK_STEPS) for length in CHECK_LENGTHS]
    width = 0 if io.media is None else model.get_input_embeddings().weight.shape[1]
    media = random.standard_normal((len(CHECK_MEDIA), width)).astype(np.float32)
    places = [_positions(random, len(row), io) for row in rows]
    together = io.media is not None and io.media.blocks is not None
    wanted = [
        _torch_log_probs(model, row, media, at, together=together)
        for row, at in zip(rows, places, strict=True)
    ]
    border = CHECK_MEDIA[-1] + 1 if together else CHECK_BORDER
    runner = Runner(graph, io=io, kv=kv, capacity=MIN_CONTEXT, rows=len(rows))
    worst = 0.0
    for i, (row, length) in enumerate(zip(rows, CHECK_LENGTHS, strict=True)):
        for begin, end in ((0, border), (border, length)):
            placed = _between(media, begin, end) if width else None
            at = places[i]
            where = None if at is None else at[:, None, begin:end]
            block = (CHECK_MEDIA[0], CHECK_MEDIA[-1]) if together and not begin else None
            logits = runner.forward(
                row[None, begin:end], row=i, media=placed, positions=where, block=block
            )
            got = log_softmax(logits[0])
            worst = max(worst, float(np.abs(got - wanted[i][begin:end]).max()))
    for _ in range(CHECK_STEPS):
        lengths = runner.lengths.copy()
        ids = np.array([[row[n]] for row, n in zip(rows, lengths, strict=True)])
        own = [at[:, n] for at, n in zip(places, lengths, strict=True) if at is not None]
        where = np.stack(own, axis=1)[..., None] if own else None
        got = log_softmax(runner.forward(ids, positions=where)[:, 0])
        for i, n in enumerate(lengths):
            worst = max(worst, float(np.abs(got[i] - wanted[i][n]).max()))
    return worst


def _between(media: NDArray[np.float32], begin: int, end: int) -> Media:
    """The rows that stand for tokens `begin` to `end`, and where among these."""
    rows = [row for row, place in enumerate(CHECK_MEDIA) if begin <= place < end]
    places = [(0, CHECK_MEDIA[row] - begin) for row in rows]
    return media[rows], np.array(places, np.int64).reshape(-1, 2)


def _positions(random: np.random.Generator, tokens: int, io: GraphIo) -> NDArray[np.int64] | None:
    """Positions [axes, tokens] of any order, where there are several axes."""
    if io.position_axes == 1:
        return None
    return random.integers(0, MIN_CONTEXT, (io.position_axes, tokens))


def _torch_log_probs(
    model: Any,
    row: NDArray[np.int64],
    media: NDArray[np.float32],
    positions: NDArray[np.int64] | None,
    *,
    together: bool,
) -> NDArray[np.float32]:
    with torch.no_grad(), quiet():
        read = {"input_ids": torch.from_numpy(row)[None]}
        if positions is not None:
            read["position_ids"] = torch.from_numpy(positions)[:, None]
        if media.size:
            embedded = model.get_input_embeddings()(read["input_ids"])
            embedded[0, list(CHECK_MEDIA)] = torch.from_numpy(media)
            del read["input_ids"]
            read["inputs_embeds"] = embedded
            if together:
                read["attention_mask"] = _masks_together(model, len(row))
        logits = model(**read, use_cache=False).logits[0]
    result: NDArray[np.float32] = torch.log_softmax(logits.float(), dim=-1).numpy()
    return result


def _masks_together(model: Any, tokens: int) -> dict[str, torch.Tensor]:
    """What is added to scores where the tokens of media see each other, by the kind of layer."""
    query, key = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
    within = torch.zeros(tokens, dtype=torch.bool)
    within[list(CHECK_MEDIA)] = True
    both, causal = within[:, None] & within[None], key <= query
    window = int(model.config.get_text_config().sliding_window or tokens)
    kinds = {"full_attention": causal, "sliding_attention": causal & (key > query - window)}
    return {
        kind: torch.zeros(1, 1, tokens, tokens).masked_fill(
            ~(seen | both), torch.finfo(torch.float32).min
        )
        for kind, seen in kinds.items()
    }
