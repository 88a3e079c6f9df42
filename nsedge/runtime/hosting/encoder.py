"""Models that make vectors of texts."""

from __future__ import annotations

from typing import Any

from nsedge.api import Embed, Media, Request, Score
from nsedge.bundle.encoder import Encoder, EncoderVariant, GoldenVector
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.encode.embed_work import CosineWork, EmbedWork
from nsedge.runtime.encode.work import EncodeWork
from nsedge.runtime.graph.encoder import EncoderSession
from nsedge.runtime.hosting.encoding import EncodeModel, wanted_variant
from nsedge.runtime.hosting.golden_vectors import judge
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.text.reader import QUERY_FIRST, TextReader

TextEncoder = Bundle[Encoder]


class EncoderModel(EncodeModel[Encoder, EncoderSession]):
    """An encoder in memory, with its loop."""

    variant: EncoderVariant

    def open_session(self, bundle: Bundle[Any], threads: int) -> EncoderSession:
        """Open the graph and the tokenizer."""
        manifest = self.manifest
        self._reader = TextReader(
            read_tokenizer(bundle.file(manifest.tokenizer.file)),
            context_length=manifest.context_length,
            vocab_size=manifest.vocab_size,
        )
        return EncoderSession(
            bundle.file(self.variant.graph),
            self.variant,
            threads=threads,
            pad_id=manifest.pad_token_id,
            dimensions=manifest.dimensions,
        )

    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Hold the vectors of golden texts to those of fp32."""
        golden = bundle.golden("embed", GoldenVector)
        vectors = self.session.run([sample.ids for sample in golden])
        wanted = [sample.vector for sample in golden]
        judge(vectors, wanted, variant=self.variant, name=bundle.name)

    def input_of(self, ids: list[int]) -> list[int]:
        """The tokens themselves."""
        return ids

    def work_of(self, request: Request, submitted_s: float) -> EncodeWork:
        """Read a request's texts; on the reader's thread.

        Raises:
            UnsupportedTask: it asks for something else than vectors and scores, or of media.
            InvalidParameter: dimensions that the model does not have, or unknown tokens.
            ContextExceeded: a text is too long.
        """
        task, width = request.task, self.manifest.dimensions
        if isinstance(task, Score):
            return CosineWork(
                request=request,
                inputs=self._reader.read(
                    (task.query, *task.documents), truncate=task.truncate, naming=QUERY_FIRST
                ),
                width=width,
                submitted_s=submitted_s,
            )
        if not isinstance(task, Embed):
            raise UnsupportedTask(f"an encoder does not {task.name}", param="model")
        if task.dimensions is not None and task.dimensions > width:
            raise InvalidParameter(
                f"dimensions must be at most {width}, not {task.dimensions}", param="dimensions"
            )
        texts = [one for one in task.inputs if not isinstance(one, Media)]
        if len(texts) < len(task.inputs):
            raise UnsupportedTask(f"{self.name} reads texts, and takes no media", param="inputs")
        return EmbedWork(
            request=request,
            inputs=self._reader.read(texts, truncate=task.truncate),
            dimensions=task.dimensions or width,
            width=width,
            normalised=self.manifest.normalised,
            submitted_s=submitted_s,
        )


def open_encoder(bundle: TextEncoder, host: Host, opening: Opening) -> EncoderModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden vectors do not
            come.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = wanted_variant(bundle, host.settings)
    return EncoderModel(bundle=bundle, variant=variant, host=host, opening=opening)
