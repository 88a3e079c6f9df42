"""What a bundle is opened to: a session with its memory, and what reads prompts and writes text.

Whatever is parsed is held to its hash before. The weights are hashed beside, on a core that would
wait otherwise; nothing is run before they are found right.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nsedge.api import ToolFormat
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.manifest import TextBundle
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.hosting.trust import Hashes
from nsedge.runtime.structure.structure import Structure
from nsedge.runtime.text.detokenizer import Detokenizer
from nsedge.runtime.text.prompt import PromptReader
from nsedge.runtime.text.sight import Sight


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model that nothing was run on yet."""

    executor: Executor
    prompts: PromptReader
    detokenizer: Detokenizer
    structure: Structure


def open_checked(
    bundle: TextBundle,
    variant: Variant,
    source: Source,
    told: Callable[[float], None],
    *,
    tool_format: ToolFormat | None = None,
    sight: Sight | None = None,
) -> Opened:
    """Open `variant`, which `source` describes, and compare the hashes of all that it is made of;
    `told` hears the share that was read, 0 to 1. tool_format: how the model writes calls, where
    its template does not tell. sight: how pictures stand in prompts, where it sees. Where it fails,
    nothing stays open.

    Raises:
        BundleInvalid: naming the file that was altered, before any other fault; or a file that
            cannot be loaded.
        DeviceUnavailable: where the variant's provider is not the one in use.
    """
    hashes = Hashes(bundle, variant.graph, told)
    hashes.check_parsed()
    # Hashing and opening a session leave the interpreter to others; reading a tokenizer does not.
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="opening") as pool:
        checking = pool.submit(hashes.check_weights)
        opening = pool.submit(open_executor, source)
        try:
            try:
                tokenizer = read_tokenizer(bundle.file(bundle.manifest.tokenizer.file))
                prompts = PromptReader(bundle, tokenizer, tool_format=tool_format, sight=sight)
                detokenizer = Detokenizer(tokenizer)
                ends, size = bundle.manifest.eos_token_ids, bundle.manifest.vocab_size
                structure = Structure(tokenizer, size=size, end_ids=ends)
            finally:
                checking.result()
        except BaseException:
            del opening  # this frame lives as long as the error does, and a session must not
            raise
        return Opened(
            executor=opening.result(),
            prompts=prompts,
            detokenizer=detokenizer,
            structure=structure,
        )
