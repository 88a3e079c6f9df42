"""The sections on what is served: the models, and the bounds of each one's engine."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from nsedge.config.fields import Section, number, text


class Models(Section, frozen=True, kw_only=True):
    """The models that are served, and which of them are held in memory."""

    load: Annotated[
        tuple[str, ...],
        text(
            "Bundles to load at the start, by name or alias in HOME/bundles or by path; empty is"
            " every one there, as far as they fit, but for versions that no alias stands for.",
            "a list of names or absolute paths",
        ),
    ] = ()
    pin: Annotated[
        tuple[str, ...],
        text(
            "Models to load at the start and to keep, by name or alias: neither evicted nor"
            " unloaded for being idle.",
            "a list of names",
        ),
    ] = ()
    on_demand: Annotated[
        bool,
        Meta(description="Let a request load a model of HOME/bundles that is not in memory."),
    ] = True
    memory_bytes: Annotated[
        int,
        number(
            "Memory for all models together; 0 is nine tenths of what is free at the start.",
            0,
            2**50,
        ),
    ] = 0
    device_memory_bytes: Annotated[
        int, number("Memory of a GPU for all models together; 0 is all there is.", 0, 2**50)
    ] = 0
    keep_alive: Annotated[
        float | Literal["forever"],
        text(
            "Seconds without a request after which a model leaves memory.", 'seconds, or "forever"'
        ),
    ] = "forever"
    keep_alives: Annotated[
        tuple[str, ...],
        text(
            "Models, by name or alias, with a keep-alive of their own.",
            "a list of NAME=TIME: 300, 5m, now, forever",
        ),
    ] = ()
    variants: Annotated[
        tuple[str, ...],
        text(
            "Models, by name, that run in another variant than the first that can run here, such as"
            " cpu-fp32; a model that has no such variant does not load.",
            "a list of NAME=VARIANT",
        ),
    ] = ()
    tool_formats: Annotated[
        tuple[str, ...],
        text(
            "Models, by name, whose chat template does not tell how they write tool calls.",
            "a list of NAME=FORM: hermes, llama, mistral, phi, functionary, parameters",
        ),
    ] = ()
    aliases: Annotated[
        tuple[str, ...],
        text(
            "Further names for models. One that is given at run time holds over restarts, until it"
            " is changed here.",
            "a list of ALIAS=NAME",
        ),
    ] = ()
    preload_top: Annotated[
        int,
        number(
            "How many of the models likeliest to be asked for next are loaded while nothing runs,"
            " where they fit without any other leaving; 0 is none.",
            0,
            1024,
        ),
    ] = 2
    preload_share: Annotated[
        float,
        number("The share of all models' memory that models nobody asked for may hold.", 0, 1),
    ] = 0.25
    preload_idle_s: Annotated[
        float, number("Seconds without a request before one of them is loaded.", 0, 86400)
    ] = 2.0
    predictor: Annotated[
        Literal["patterns", "score"],
        Meta(
            description="What foretells: patterns of hour, order and frequency, or the score of"
            " use and recency alone."
        ),
    ] = "patterns"
    signers: Annotated[
        tuple[str, ...],
        text(
            "Public keys (minisign's) of which one must have signed each bundle; empty asks for no"
            " signature.",
            "a list of public keys",
        ),
    ] = ()


class Engine(Section, frozen=True, kw_only=True):
    """The bounds of each model's engine."""

    slots: Annotated[int, number("Requests that run at once.", 1, 1024)] = 16
    context_tokens: Annotated[
        int,
        number("Prompt and output of one request; less where the model holds less.", 16, 2**20),
    ] = 4096
    prefill_chunk_tokens: Annotated[
        int, number("Prompt tokens read at once; fewer while other requests decode.", 1, 65536)
    ] = 128
    prefix_reuse: Annotated[
        Literal["off", "exact", "full"],
        Meta(
            description="Let prompts go on from what earlier ones with the same beginning left:"
            " exact, where that changes no text; or full, from their output always, which may be"
            " rounded another way."
        ),
    ] = "exact"
    step_stretch: Annotated[
        float,
        number(
            "How often its quiet time 99 of 100 tokens may take while other prompts are read.",
            1,
            100,
        ),
    ] = 2.0
    burst_s: Annotated[
        float,
        number("Seconds for which prompts that meet an engine at rest together go first.", 0, 3600),
    ] = 4.0
    max_queue: Annotated[int, number("Requests that may wait for a slot.", 0, 10**6)] = 16384
    embed_batch_tokens: Annotated[
        int,
        number(
            "Tokens that an encoder runs at once, padding among them; a picture counts as its"
            " patches.",
            16,
            2**20,
        ),
    ] = 4096
    max_picture_pixels: Annotated[
        int,
        number("Pixels of one picture, as it comes and as it is resized.", 1, 2**31),
    ] = 64_000_000
    max_video_frames: Annotated[
        int,
        number("Frames of one film that a request may have a model look at.", 1, 4096),
    ] = 64
    max_video_s: Annotated[float, number("Seconds that one film may be long.", 0.1, 86400)] = 3600.0
    video_decode_s: Annotated[
        float, number("Seconds that decoding one film may take.", 0.1, 3600)
    ] = 60.0
    max_image_pixels: Annotated[
        int,
        number(
            "Pixels of a picture that is made; 0 is as many as the model's own size has. What the"
            " largest takes is measured as the model loads.",
            0,
            2**28,
        ),
    ] = 0
    max_image_steps: Annotated[
        int, number("Steps of denoising that a request for a picture may ask for.", 1, 1000)
    ] = 150
    image_batch: Annotated[
        int,
        number(
            "Pictures of the model's own size that are denoised in one run; one with guidance"
            " counts as two, one that is larger or smaller by its pixels.",
            1,
            64,
        ),
    ] = 4
    picture_cache_bytes: Annotated[
        int,
        number(
            "Bytes that each model which sees keeps of what its encoder made of pictures, so that"
            " the same picture is not encoded again.",
            0,
            2**48,
        ),
    ] = 256 << 20
    threads: Annotated[
        int,
        number("Threads of the model; 0 follows the cores that quota and others leave.", 0, 1024),
    ] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="Where models run; auto takes the first variant that can run here."),
    ] = "auto"
