"""Models that write text and see pictures: a text model, and the encoder whose rows stand in its
prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from nsedge.api import Chat, ModelMemory, ModelStats, Request
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.mode_adapters import mode_of
from nsedge.bundle.vision_lm import VisionLm
from nsedge.runtime.decode.conditioning import Floats, Medium, PromptMedia
from nsedge.runtime.decode.job import Job
from nsedge.runtime.delivery import Emit
from nsedge.runtime.encode.sight_work import SightWork
from nsedge.runtime.hosting import text
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.eyes import Eyes, Senses, names_of, sight_of
from nsedge.runtime.hosting.hosted import Host, Opening, Work
from nsedge.runtime.hosting.text import TextModel, wanted_variant
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.text.sight import Shown

VisionBundle = Bundle[VisionLm]
ENCODER_TOKEN_BYTES = 64 << 10
"""What a batch takes of memory for each patch in it (CLIP's ViT-L/14 takes 47 KB); of a small
encoder no more than its weights."""


class VisionModel(TextModel):
    """A bundle in memory that writes text and sees."""

    def __init__(
        self, *, bundle: VisionBundle, variant: Variant, host: Host, opening: Opening
    ) -> None:
        """Load `variant` and the encoder beside it; raises what `TextModel` does."""
        self.senses = Senses.of(bundle, host.settings)
        super().__init__(
            bundle=bundle,
            variant=variant,
            host=host,
            opening=opening,
            sight=sight_of(bundle.manifest, self.senses),
        )
        growth = Growth(opening.elsewhere)
        self.eyes = Eyes(bundle, variant, host, senses=self.senses)
        self._modes = self.addons.attach_modes(bundle.manifest.adapters)
        memory.detach(bundle.path)  # nothing that is done to its files reaches it from here on
        self._weights_bytes += growth.take()

    def start(self) -> None:
        """Let engine and encoder run."""
        super().start()
        self.eyes.start()

    def accept(
        self, request: Request, emit: Emit, *, submitted_s: float, adapter: str | None = None
    ) -> Work:
        """Read the prompt, have its pictures encoded, and queue it."""
        task = request.task
        if not isinstance(task, Chat) or not any(message.media for message in task.messages):
            return super().accept(request, emit, submitted_s=submitted_s, adapter=adapter)
        seen = _Seen(self, request, task, emit, submitted_s=submitted_s, adapter=adapter)
        work = Accepted(
            host=self._host,
            reader=self._host.media_reader,
            request=request,
            emit=emit,
            make=seen.work,
            queue=seen.submit,
            cancel=seen.cancel,
        )
        work.begin()
        return work

    @property
    def sees_within(self) -> bool:
        """Whether the tokens of a picture see each other."""
        media = self.variant.io.media
        return media is not None and media.blocks is not None

    def adapter_for(self, shown: Sequence[Shown]) -> str | None:
        """The key of the model's own adapter for a prompt with these media; None for none."""
        mode = mode_of({one.media.kind for one in shown})
        return None if mode is None else self._modes.get(mode)

    def close(self) -> None:
        """End encoder and engine, once nobody uses it."""
        self.eyes.stop()
        super().close()

    def stats(self) -> ModelStats:
        """What the engine did and does, and how many pictures were encoded for it."""
        return dataclasses.replace(super().stats(), images=self.eyes.images)

    def measure(self) -> tuple[ModelMemory, Amount]:
        """As a text model's, with the rows of pictures that are kept among its caches."""
        held, claimed = super().measure()
        rows = self.eyes.cache
        held = dataclasses.replace(
            held,
            kv_bytes=held.kv_bytes + rows.bytes,
            kv_reserved_bytes=held.kv_reserved_bytes + rows.most_bytes,
        )
        return held, claimed + Amount(rows.bytes)

    def cache_bytes(self) -> int:
        """What its caches hold of the host's memory; from any thread."""
        return super().cache_bytes() + self.eyes.cache.bytes


class _Seen:
    """A request with pictures: read, encoded, then a job of the engine."""

    def __init__(
        self,
        model: VisionModel,
        request: Request,
        task: Chat,
        emit: Emit,
        *,
        submitted_s: float,
        adapter: str | None,
    ) -> None:
        self._model, self._request, self._task, self._emit = model, request, task, emit
        self._submitted_s, self._adapter = submitted_s, adapter
        self._job: Job | None = None

    def work(self) -> SightWork:
        """Read the prompt, and after it is known to fit, the pictures. Raises why it is refused."""
        model = self._model
        ids, shown = model.prompts.look(self._task)
        media = PromptMedia.of(
            ids,
            (
                Medium(
                    key=name,
                    places=one.places,
                    grid=one.grid,
                    audio_s=model.senses.seconds(one.media),
                )
                for name, one in zip(names_of(shown), shown, strict=True)
            ),
            together=model.sees_within,
        )
        job = self._job = make_job(
            self._request,
            model,
            prompt_ids=ids,
            submitted_s=self._submitted_s,
            emit=self._emit,
            adapter=self._adapter or model.adapter_for(shown),
            media=media,
        )

        def go_on(rows: Sequence[Floats], new: Iterable[tuple[str, Floats]]) -> None:
            media.fill(rows)
            for name, made in new:
                model.eyes.cache.put(name, made)
            model.engine.submit(job)

        return model.eyes.work(self._request, shown, go_on=go_on, submitted_s=self._submitted_s)

    def submit(self, work: SightWork) -> None:
        """Have the pictures encoded, then the prompt read."""
        self._model.eyes.submit(work, self._emit)

    def cancel(self, work: SightWork) -> None:
        """End it wherever it stands. The engine is asked by the encoder's loop, so that it is not
        asked before it has the job."""
        self._model.eyes.cancel(work)
        job = self._job
        if job is not None:
            self._model.eyes.ask(lambda: self._model.engine.cancel(job))


def open_vision(bundle: VisionBundle, host: Host, opening: Opening) -> VisionModel:
    """Bring `bundle` into memory; raises what `open_text` does."""
    variant = wanted_variant(bundle, host.settings)
    with memory.blocks_of_their_own():
        return VisionModel(bundle=bundle, variant=variant, host=host, opening=opening)


def expected(bundle: VisionBundle, settings: EngineSettings) -> Amount:
    """What `bundle` can be expected to claim, before it was ever loaded: what `text.expected` says,
    what a batch takes its encoder of pictures, and the matrices of its own adapters.

    Raises:
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    manifest, files = bundle.manifest, bundle.manifest.files
    graph = manifest.image_encoder(wanted_variant(bundle, settings)).graph
    encoder = sum(each.bytes for name, each in files.items() if name.startswith(graph))
    more = min(encoder, ENCODER_TOKEN_BYTES * settings.embed_batch_tokens)
    if manifest.adapters is not None:
        more += sum(files[name].bytes for name in manifest.adapters.matrices.values())
    told = text.expected(bundle, settings)
    return Amount(told.host + more, told.device)
