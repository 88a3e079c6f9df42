"""Models that write what is said: the loops that hear and write, and what such a model holds."""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable
from typing import Any

from nsedge import native
from nsedge.api import Listen, ModelInfo, ModelMemory, ModelState, ModelStats, Request, Transcribe
from nsedge.api.sampling import seed_of
from nsedge.bundle.speech import GoldenSpeech, SpeechVariant
from nsedge.errors import InvalidParameter, UnsupportedTask
from nsedge.runtime.audio.coming import ComingSound, TurnRule
from nsedge.runtime.audio.recording import Recording
from nsedge.runtime.audio.voice import Voice
from nsedge.runtime.decode.beams import ByCount
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.searching import begin
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting import golden_speech, speech_parts
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.admission import too_many
from nsedge.runtime.hosting.conditioned import least_bytes, variant_of
from nsedge.runtime.hosting.hosted import Host, Opening
from nsedge.runtime.hosting.speech_loop import SpeechLoop
from nsedge.runtime.hosting.speech_parts import SpeechBundle
from nsedge.runtime.hosting.speech_work import SpeechWork, Writing
from nsedge.runtime.hosting.warming import largest_steps
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.machine.arbiter import Rank
from nsedge.runtime.machine.footprint import Growth
from nsedge.runtime.settings import PrefixReuse
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


class SpeechModel:
    """A speech model in memory."""

    def __init__(
        self, *, bundle: SpeechBundle, variant: SpeechVariant, host: Host, opening: Opening
    ) -> None:
        """Load `variant`, warm it up and check its golden recordings; the loops do not run yet.

        Raises:
            BundleInvalid: where a file was altered or cannot be loaded, or the golden recordings
                are not written.
            DeviceUnavailable: where the variant's provider is not the one in use.
        """
        self.name = bundle.name
        self._manifest = bundle.manifest
        self._variant = variant
        self._host = host
        self._slots = host.settings.slots
        memory.trim()  # what others freed must not go while this one is measured
        growth = Growth(opening.elsewhere)
        self._parts = speech_parts.open_parts(
            bundle,
            variant,
            host.settings,
            lambda share: opening.told(ModelState.LOADING, share),
        )
        opening.told(ModelState.WARMING, 1.0)
        self._weights_bytes = growth.take()
        self._warm_up(bundle)
        self._arena_bytes = growth.take()
        memory.detach(bundle.path)  # nothing that is done to its files reaches it from here on
        self._weights_bytes += growth.take()
        self._loop = SpeechLoop(
            hearing=self._parts,
            rows=self._slots,
            tokens=self._parts.tokens,
            waiting=host.settings.max_queue,
            seat=host.arbiter(variant.device).seat(Rank.OTHERS),
            deliver=host.deliver,
            clock=host.clock,
            name=f"speech-{bundle.name}",
        )
        self._engine = self._make_engine()
        self._loop.use(self)

    def _warm_up(self, bundle: SpeechBundle) -> None:
        """Run the largest steps and a golden recording; give back the pages that they wrote."""
        parts = self._parts
        plans = largest_steps(
            slots=self._slots,
            capacity=self._manifest.context_length,
            chunk_tokens=self._host.settings.prefill_chunk_tokens,
            context_tokens=self._manifest.context_length,
        )
        with native.rehearsing():  # memory is all that is wanted of them
            for plan in plans:
                parts.executor.run(plan)
        samples = bundle.golden("transcribe", GoldenSpeech)[:GOLDEN_RECORDINGS]
        golden_speech.check(
            samples,
            folder=bundle.path,
            hear=lambda window: parts.run(parts.features(window), 0),
            runner=parts.executor,
            rules=Rules(parts.tokens),
            variant=self._variant,
        )
        if parts.aligner is not None:
            for sample in samples:
                parts.aligner.run(sample.prompt_ids, sample.continuation_ids, 0)
            parts.aligner.forget()
        parts.executor.forget_caches()
        parts.memory.forget()

    def _make_engine(self) -> Engine:
        settings = self._host.settings
        ragged = self._variant.io.segments is not None
        policy = Policy(
            max_waiting=settings.max_queue,
            chunk_tokens=settings.prefill_chunk_tokens,
            prefix_reuse=PrefixReuse.OFF,  # what a row holds is about one window
            stretch=STRETCH,
            drafts=False,
            mixed=ragged,
        )
        slots = Slots(count=settings.slots, contiguous=not ragged)
        return Engine(
            runner=self._parts.executor,
            scheduler=Scheduler(slots=slots, policy=policy),
            sampler=Sampler(end_ids=(self._parts.tokens.end,)),
            deliver=self._loop.written,
            clock=self._host.clock,
            turn=self._host.arbiter(self._variant.device).seat(Rank.OTHERS),
            name=f"engine-{self.name}",
        )

    # What its loop asks for.

    def write(self, writing: Writing, wanted: Detect | Decode, number: int) -> None:
        """Have a text written, of what its work has heard."""
        work, start, end = writing.work, self._parts.tokens.start, self._parts.tokens.end
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
            emit=lambda event: self._loop.saw(writing, event),
            looks=writing.look,
        )
        if isinstance(wanted, Decode) and wanted.beams > 1:
            enough = max(1, round(wanted.beams * wanted.patience))
            begin(writing.job, ByCount(beams=wanted.beams, enough=enough), beams=wanted.beams)
        self._engine.submit(writing.job)

    def cancel(self, writing: Writing) -> None:
        """End a text before its time."""
        if writing.job is not None:
            self._engine.cancel(writing.job)

    # What hosted models do.

    def start(self) -> None:
        """Let the loops run."""
        self._engine.start()
        self._loop.start()

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Accepted[SpeechWork]:
        """Read the recording's head, and queue it."""
        work = Accepted(
            host=self._host,
            reader=self._host.reader,
            request=request,
            emit=emit,
            make=lambda: self._make(request, submitted_s),
            queue=lambda job: self._loop.submit(job, emit),
            cancel=self._loop.cancel,
        )
        work.begin()
        return work

    def prompt_reader(self) -> None:
        """None: it has no prompts."""
        return

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """Have the engine call `answer` between two steps."""
        self._engine.ask(answer)
        return True

    def close(self) -> None:
        """End the loops, once nobody uses it."""
        self._loop.stop()
        self._engine.stop()
        self._loop.use(None)  # nothing of it may stay until garbage is next collected

    def measure(self) -> tuple[ModelMemory, Amount]:
        """What it holds now, and what of that the budget is held to: weights, arena, and at least
        one window with a full context."""
        kv, heard = self._parts.executor.kv_bytes(), self._parts.memory.held()
        held = ModelMemory(
            weights_bytes=self._weights_bytes,
            kv_bytes=kv.resident + heard.resident,
            arena_bytes=self._arena_bytes,
            kv_reserved_bytes=kv.reserved + heard.reserved,
        )
        least = least_bytes(self._variant, self._manifest.context_length)
        return held, Amount(held.weights_bytes + held.arena_bytes + max(held.kv_bytes, least))

    def cache_bytes(self) -> int:
        """What its caches hold of the host's memory; from any thread."""
        return self._parts.executor.kv_bytes().resident + self._parts.memory.held().resident

    def info(self) -> ModelInfo:
        """What clients are told."""
        created = datetime.datetime.fromisoformat(self._manifest.provenance.created)
        return ModelInfo(
            name=self.name,
            kind=self._manifest.kind,
            state=ModelState.READY,
            created=int(created.timestamp()),
            variant=self._variant.name,
            provider=self._parts.executor.provider,
            context_tokens=self._manifest.context_length,
            slots=self._slots,
            tasks=self._manifest.tasks,
            languages=self._manifest.languages,
        )

    def stats(self) -> ModelStats:
        """What the loops did and do."""
        capacity = self._manifest.context_length
        return self._loop.stats(self._engine.stats(slots=self._slots, capacity=capacity))

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
        if task.beams > self._slots:
            raise too_many(task.beams, self._slots)
        sound: Any = importlib.import_module(SOUND).Sound(task.media.data)
        is_short = sound.seconds is not None and sound.seconds <= WHOLE_S
        keeps = is_short and not task.vad
        recording = Recording(sound, voice=self._voice(task), keeps_pauses=keeps)
        transcript = Transcript(
            request_id=request.request_id,
            task=task,
            tokens=self._parts.tokens,
            codec=self._parts.codec,
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
        if task.word_timestamps and self._parts.aligner is None:
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
            tokens=self._parts.tokens,
            codec=self._parts.codec,
        )
        work = SpeechWork(
            request=request,
            transcript=transcript,
            recording=sound,
            audio=sound,
            coming=sound,
            submitted_s=submitted_s,
        )
        task.feed.came = lambda: self._loop.sound_came(work)
        return work

    def _voice(self, task: Transcribe | Listen) -> Voice | None:
        """What tells where somebody speaks, where that is wanted.

        Raises:
            InvalidParameter: it is, and nothing tells it.
        """
        session = self._parts.voice
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
