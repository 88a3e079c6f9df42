"""Models that make vectors of texts and of pictures, which compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Activation, Classify, Embed, Input, Label, Media, Request, Score
from nsedge.api.labels import PLACE
from nsedge.bundle.dual_encoder import (
    GOLDEN_PICTURES,
    DualEncoder,
    GoldenPicture,
    TextTower,
)
from nsedge.bundle.encoder import GoldenVector
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import read_tokenizer
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.encode.embed_work import CosineWork, EmbedWork
from nsedge.runtime.encode.match_work import MatchWork
from nsedge.runtime.encode.rows import Picture, Row
from nsedge.runtime.encode.work import EncodeWork
from nsedge.runtime.graph.dual_encoder import DualEncoderSession, TowerFacts
from nsedge.runtime.hosting.encoding import MAX_ROWS, EncodeModel, wanted_variant
from nsedge.runtime.hosting.golden_scores import activated
from nsedge.runtime.hosting.golden_vectors import judge
from nsedge.runtime.hosting.headed import best
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.text.reader import QUERY_FIRST, TextReader
from nsedge.runtime.vision.levels import pattern
from nsedge.runtime.vision.reader import PictureReader

DualBundle = Bundle[DualEncoder]


class DualEncoderModel(EncodeModel[DualEncoder, DualEncoderSession]):
    """A dual encoder in memory, with its loop. Its variant is the tower for texts; the one for
    pictures has the same name."""

    variant: TextTower
    most_waiting = 1024
    """Since pictures wait decoded: 150 MB at 224 x 224 pixels."""

    def open_session(self, bundle: Bundle[Any], threads: int) -> DualEncoderSession:
        """Open both graphs, the tokenizer, and what prepares pictures."""
        manifest = self.manifest
        self._texts = TextReader(
            read_tokenizer(bundle.file(manifest.tokenizer.file)),
            context_length=manifest.context_length,
            vocab_size=manifest.vocab_size,
        )
        self._pictures = PictureReader(
            manifest.steps, max_pixels=self.host.settings.max_picture_pixels
        )
        return DualEncoderSession(
            bundle.path,
            self.variant,
            manifest.image_tower(self.variant.name),
            facts=TowerFacts.of(manifest),
            threads=threads,
        )

    def warm_up(self, tokens: int) -> None:
        """Run the largest batches of both, and short texts."""
        super().warm_up(tokens)
        pictures = min(MAX_ROWS, max(1, tokens // self.manifest.patches))
        self.session.run([self._pattern(0)] * pictures)

    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Hold the vectors of golden texts and pictures to those of fp32."""
        texts = bundle.golden("embed", GoldenVector)
        found = self.session.run([sample.ids for sample in texts])
        wanted = [sample.vector for sample in texts]
        judge(found, wanted, variant=self.variant, name=self.name)
        pictures = bundle.golden(GOLDEN_PICTURES, GoldenPicture)
        found = self.session.run([self._pattern(sample.pattern) for sample in pictures])
        wanted = [sample.vector for sample in pictures]
        image = self.manifest.image_tower(self.variant.name)
        judge(found, wanted, variant=image, name=self.name, what="pictures")

    def input_of(self, ids: list[int]) -> tuple[int, ...]:
        """The tokens themselves."""
        return tuple(ids)

    def work_of(self, request: Request, submitted_s: float) -> EncodeWork:
        """Read a request's texts and pictures; on a reader's thread.

        Raises:
            UnsupportedTask: it asks for something else than vectors, scores and labels.
            InvalidParameter: a field that says nothing to this model, or unknown tokens.
            InvalidMedia: a picture that is none, or damaged.
            MessageTooLarge: a picture has too many pixels.
            ContextExceeded: a text is too long.
        """
        task = request.task
        if isinstance(task, Embed):
            return self._embedding(request, task, submitted_s)
        if isinstance(task, Classify):
            return self._matching(request, task, submitted_s)
        if isinstance(task, Score):
            return CosineWork(
                request=request,
                inputs=self._texts.read(
                    (task.query, *task.documents), truncate=task.truncate, naming=QUERY_FIRST
                ),
                width=self.manifest.dimensions,
                submitted_s=submitted_s,
            )
        raise UnsupportedTask(f"this model does not {task.name}", param="model")

    def _embedding(self, request: Request, task: Embed, submitted_s: float) -> EmbedWork:
        width = self.manifest.dimensions
        if task.dimensions is not None and task.dimensions > width:
            raise InvalidParameter(
                f"dimensions must be at most {width}, not {task.dimensions}", param="dimensions"
            )
        return EmbedWork(
            request=request,
            inputs=self._read(task.inputs, truncate=task.truncate),
            dimensions=task.dimensions or width,
            width=width,
            normalised=True,
            submitted_s=submitted_s,
        )

    def _matching(self, request: Request, task: Classify, submitted_s: float) -> MatchWork:
        if task.aggregation is not None:
            raise InvalidParameter(
                "aggregation is for models that label tokens", param="aggregation"
            )
        if not task.labels:
            raise InvalidParameter("this model has no labels of its own: name some", param="labels")
        inputs = [one for one in task.inputs if isinstance(one, str | Media)]
        if len(inputs) < len(task.inputs):
            raise InvalidParameter("this model reads no pairs of texts", param="inputs")
        prompt = self.manifest.prompt if task.prompt is None else task.prompt
        texts = [prompt.replace(PLACE, label) for label in task.labels]
        return MatchWork(
            request=request,
            candidates=self._texts.read(texts, truncate=task.truncate),
            inputs=self._read(inputs, truncate=task.truncate),
            find=lambda _, cosines: self._labels(task, cosines),
            width=self.manifest.dimensions,
            submitted_s=submitted_s,
        )

    def _labels(self, task: Classify, cosines: NDArray[np.float32]) -> tuple[Label, ...]:
        """The labels of an input by its cosines to the candidates."""
        likelihood = self.manifest.likelihood
        own = Activation(likelihood.function)
        logits = np.asarray(likelihood.scale * cosines + likelihood.bias, np.float32)
        scores = activated(logits, own if task.activation is None else task.activation)
        top_k = task.top_k or len(task.labels)
        return tuple(
            Label(label=task.labels[at], score=float(scores[at])) for at in best(scores, top_k)
        )

    def _read(self, inputs: Sequence[Input], *, truncate: bool) -> list[Row]:
        """The token ids of each text, and each picture as the graph takes it."""
        texts = [one for one in inputs if not isinstance(one, Media)]
        ids = iter(self._texts.read(texts, truncate=truncate))
        return [
            self._picture(self._pictures.read(one, number)) if isinstance(one, Media) else next(ids)
            for number, one in enumerate(inputs)
        ]

    def _picture(self, pixels: NDArray[np.uint8]) -> Picture:
        return Picture(pixels, self.manifest.patches)

    def _pattern(self, number: int) -> Picture:
        return self._picture(pattern(number, *self.manifest.steps.size))


def open_dual_encoder(bundle: DualBundle, host: Host, opening: Opening) -> DualEncoderModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden vectors do not
            come.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = wanted_variant(bundle, host.settings)
    return DualEncoderModel(bundle=bundle, variant=variant, host=host, opening=opening)
