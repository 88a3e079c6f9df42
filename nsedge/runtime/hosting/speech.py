"""Models that write what is said: the loops that hear and write, and what such a model holds."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from nsedge.api import Listen, ModelInfo, ModelStats, Request, Transcribe
from nsedge.api.sampling import seed_of
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import GoldenSpeech, Speech, SpeechVariant
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.audio.coming import ComingSound, TurnRule
from nsedge.runtime.audio.recording import Recording
from nsedge.runtime.audio.voice import Voice
from nsedge.runtime.decode.beams import ByCount
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.searching import begin
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting import golden_speech, speech_parts
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.admission import too_many
from nsedge.runtime.hosting.conditioned import ConditionedModel, Told, variant_of
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.hosting.speech_loop import SpeechLoop
from nsedge.runtime.hosting.speech_parts import SpeechBundle, SpeechParts
from nsedge.runtime.hosting.speech_work import SpeechWork, Writing
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.speech.asks import Decode, Detect
from nsedge.runtime.speech.live import LiveTranscript
from nsedge.runtime.speech.rules import Rules
from nsedge.runtime.speech.transcript import Transcript
from nsedge.runtime.text.detokenizer import silent

SOUND = "nsedge.runtime.audio.sound"
"""Imported with the first recording: its libraries are for nothing else."""
PUSHED = "nsedge.runtime.audio.pushed"
STRETCH = 4.0
"""How often its quiet time a step may take: nobody reads a transcript token by token."""
WHOLE_S = 30.0
"""A recording of one window keeps its pauses, unless they are asked to go."""
GOLDEN_RECORDINGS = 1
"""Of a bundle's, that are heard before it is ready."""


class SpeechModel(ConditionedModel[Speech, SpeechParts]):
    """A speech model in memory."""

    variant: SpeechVariant
    loop: SpeechLoop

    def __init__(
        self, *, bundle: SpeechBundle, variant: SpeechVariant, host: Host, opening: Opening
    ) -> None:
        """Load `variant`, warm it up and check its golden recordings; nothing runs yet. Raises as
        `ConditionedModel` does."""
        super().__init__(
            bundle=bundle,
            variant=variant,
            host=host,
            opening=opening,
            capacity=bundle.manifest.context_length,
        )
        self.loop = SpeechLoop(
            hearing=self.parts,
            rows=self.slots,
            tokens=self.parts.tokens,
            waiting=host.settings.max_queue,
            seat=host.arbiter(variant.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            name=f"speech-{bundle.name}",
        )
        self.engine = self.make_engine(
            deliver=self.loop.written,
            end_ids=(self.parts.tokens.end,),
            stretch=STRETCH,
        )
        self.loop.use(self)

    def open_parts(self, bundle: Bundle[Any], told: Told) -> SpeechParts:
        """Open the graphs, and what reads sound and writes text."""
        return speech_parts.open_parts(bundle, self.variant, self.host.settings, told)

    def check_golden(self, bundle: Bundle[Any]) -> None:
        """Raises BundleInvalid where the golden recordings are not written."""
        parts = self.parts
        samples = bundle.golden("transcribe", GoldenSpeech)[:GOLDEN_RECORDINGS]
        golden_speech.check(
            samples,
            folder=bundle.path,
            hear=lambda window: parts.run(parts.features(window), 0),
            runner=parts.executor,
            rules=Rules(parts.tokens),
            variant=self.variant,
        )
        if parts.aligner is not None:
            for sample in samples:
                parts.aligner.run(sample.prompt_ids, sample.continuation_ids, 0)
            parts.aligner.forget()

    # What its loop asks for.

    def write(self, writing: Writing, wanted: Detect | Decode, number: int) -> None:
        """Have a text written, of what its work has heard."""
        work, start, end = writing.work, self.parts.tokens.start, self.parts.tokens.end
        prompt: tuple[int, ...] = (start,)
        most = 1
        if isinstance(wanted, Decode):
            prompt, most = wanted.prompt, wanted.max_tokens
        writing.job = Job(
            request_id=work.request_id,
            sequence=Sequence(
                prompt_ids=prompt,
                limits=Limits(max_tokens=most, end_ids=frozenset((end,))),
                submitted_s=work.submitted_s,
                priority=work.request.priority,
                deadline_s=work.deadline_s,
                memory=work.row,
                marked=len(prompt) - 1 - prompt[::-1].index(start),
            ),
            row=_sampled(work, wanted, number),
            text=silent(),
            emit=lambda event: self.loop.saw(writing, event),
            looks=writing.look,
        )
        if isinstance(wanted, Decode) and wanted.beams > 1:
            enough = max(1, round(wanted.beams * wanted.patience))
            begin(writing.job, ByCount(beams=wanted.beams, enough=enough), beams=wanted.beams)
        self.engine.submit(writing.job)

    def cancel(self, writing: Writing) -> None:
        """End a text before its time."""
        if writing.job is not None:
            self.engine.cancel(writing.job)

    # What hosted models do.

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Accepted[SpeechWork]:
        """Read the recording's head, and queue it."""
        work = Accepted(
            host=self.host,
            reader=self.host.reader,
            request=request,
            emit=emit,
            make=lambda: self._make(request, submitted_s),
            queue=lambda job: self.loop.submit(job, emit),
            cancel=self.loop.cancel,
        )
        work.begin()
        return work

    def close(self) -> None:
        """End the loops, once nobody uses it."""
        super().close()
        self.loop.use(None)  # nothing of it may stay until garbage is next collected

    def info(self) -> ModelInfo:
        """What clients are told."""
        return dataclasses.replace(super().info(), languages=self.manifest.languages)

    def stats(self) -> ModelStats:
        """What the loops did and do."""
        return self.loop.stats(self.engine_stats())

    def _make(self, request: Request, submitted_s: float) -> SpeechWork:
        """Open a recording; on the reader's thread.

        Raises:
            UnsupportedTask: it asks for something else than a transcript.
            InvalidMedia: it is no sound.
            InvalidParameter: the model does not do what is asked for.
        """
        task = request.task
        if isinstance(task, Listen):
            return self._listen(request, task, submitted_s)
        if not isinstance(task, Transcribe):
            raise UnsupportedTask(f"a speech model does not {task.name}", param="model")
        if task.beams > self.slots:
            raise too_many(task.beams, self.slots)
        sound: Any = importlib.import_module(SOUND).Sound(task.media.data)
        is_short = sound.seconds is not None and sound.seconds <= WHOLE_S
        keeps = is_short and not task.vad
        recording = Recording(sound, voice=self._voice(task), keeps_pauses=keeps)
        transcript = Transcript(
            request_id=request.request_id,
            task=task,
            tokens=self.parts.tokens,
            codec=self.parts.codec,
            timeline=recording.timeline,
            seconds=sound.seconds,
        )
        return SpeechWork(
            request=request,
            transcript=transcript,
            recording=recording,
            audio=sound,
            submitted_s=submitted_s,
        )

    def _listen(self, request: Request, task: Listen, submitted_s: float) -> SpeechWork:
        """Begin to hear sound that comes; raises as `_make`."""
        if task.word_timestamps and self.parts.aligner is None:
            raise InvalidParameter("the model tells no times of words", param="word_timestamps")
        pushed: Any = importlib.import_module(PUSHED)
        rule = TurnRule(
            threshold=task.threshold, silence_s=task.silence_s, padding_s=task.padding_s
        )
        decoding = pushed.Pushed(task.form, task.rate, task.channels)
        sound = ComingSound(task.feed, decoding, self._voice(task), rule)
        transcript = LiveTranscript(
            request_id=request.request_id,
            task=task,
            tokens=self.parts.tokens,
            codec=self.parts.codec,
        )
        work = SpeechWork(
            request=request,
            transcript=transcript,
            recording=sound,
            audio=sound,
            coming=sound,
            submitted_s=submitted_s,
        )
        task.feed.came = lambda: self.loop.sound_came(work)
        return work

    def _voice(self, task: Transcribe | Listen) -> Voice | None:
        """What tells where somebody speaks, where that is wanted.

        Raises:
            InvalidParameter: it is, and nothing tells it.
        """
        session = self.parts.voice
        if session is None:
            if task.vad:
                raise InvalidParameter("the model has no voice detector", param="vad")
            return None
        return None if task.vad is False else session.listen()


def _sampled(work: SpeechWork, wanted: Detect | Decode, number: int) -> SamplerRow:
    """How one of several texts of a window is drawn."""
    if isinstance(wanted, Detect):
        return SamplerRow(SamplingParams(temperature=0.0))
    task = work.request.task
    seed = task.seed if isinstance(task, Transcribe) else None
    return SamplerRow(
        SamplingParams(temperature=wanted.temperature),
        seed=seed_of(seed, number),
        logprobs=0,
        rule=wanted.rules,
    )


def open_speech(bundle: SpeechBundle, host: Host, opening: Opening) -> SpeechModel:
    """Bring `bundle` into memory.

    Raises:
        BundleInvalid: where a file was altered or cannot be loaded, or the golden recordings are
            not written.
        DeviceUnavailable: where none of its variants runs on the wanted device.
    """
    variant = variant_of(bundle, host.settings)
    with memory.blocks_of_their_own():
        return SpeechModel(bundle=bundle, variant=variant, host=host, opening=opening)
