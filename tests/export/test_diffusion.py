"""Models of pictures: diffusers folders become bundles, and the daemon makes the pictures that
diffusers' own pipelines make of the same noise."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from exporters.__main__ import main
from exporters.diffusion.records import DiffusionRecord, session_of
from exporters.diffusion.trial import chunks_of
from exporters.errors import Refused
from exporters.model.diffusion import read_diffusion_shape, read_scheduler
from nsedge.api import (
    Finished,
    FinishReason,
    Loading,
    Media,
    ModelState,
    Picture,
    Preview,
    Progress,
    Started,
)
from nsedge.bundle.diffusion import Diffusion
from nsedge.bundle.manifest import Bundle
from nsedge.errors import ContextExceeded, InvalidMedia, InvalidParameter, UnsupportedTask
from nsedge.ipc.client import Client
from nsedge.runtime.diffusion.guidance import guided
from nsedge.runtime.diffusion.registry import NAMES, begin
from nsedge.runtime.graph.diffusion import Row
from nsedge.runtime.settings import EngineSettings
from tests.export.tiny_diffusion import write_sd, write_sdxl
from tests.export.tiny_dual_encoders import PHOTOGRAPH
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

Levels = NDArray[np.uint8]
VARIANTS = "cpu-fp32,cpu-int8-b64"
PROMPT, NEGATIVE = "a red circle on grey", "blue square"
OTHERS = {
    "pndm": diffusers.PNDMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
ENGINE = EngineSettings(threads=1, max_image_pixels=64 * 64, max_image_steps=60)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {"sd": write_sd(root / "sd"), "sdxl": write_sdxl(root / "sdxl")}


@pytest.fixture(scope="module")
def bundles(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, made = tmp_path_factory.mktemp("made"), {}
    for name, folder in folders.items():
        made[name] = root / name
        assert main(["model", str(folder), "--out", str(root / name), "--variants", VARIANTS]) == 0
    return made


@pytest.fixture(scope="module")
def client(bundles: dict[str, Path]) -> Iterator[Client]:
    with short_directory() as place:
        home = Home(place, ENGINE)
        home.store.mkdir()
        for name, bundle in bundles.items():
            shutil.copytree(bundle, home.store / name)
        with home.serving(), Client(home.endpoint) as client:
            yield client


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        "sd": diffusers.StableDiffusionPipeline.from_pretrained(folders["sd"]),
        "sdxl": diffusers.StableDiffusionXLPipeline.from_pretrained(folders["sdxl"]),
    }


def no_noise() -> NDArray[np.float32]:
    raise AssertionError("this scheduler draws nothing")


def levels_of(picture: Picture) -> Levels:
    with Image.open(io.BytesIO(picture.data)) as image:
        image.load()
        assert image.mode == "RGB"
        assert image.size == (picture.record.width, picture.record.height)
        return np.asarray(image)


def by_diffusers(
    pipeline: Any, seed: int, *, side: int = 32, output: str = "np", **asked: Any
) -> NDArray[Any]:
    """The picture of a pipeline, of the noise that the daemon draws by `seed`."""
    noise = np.random.default_rng(seed).standard_normal((4, side // 2, side // 2), np.float32)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        latents=torch.from_numpy(noise)[None],
        height=side,
        width=side,
        output_type=output,
        **asked,
    )
    return np.asarray(made.images[0])


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_the_graphs_are_within_1e_4_of_diffusers(name: str, bundles: dict[str, Path]) -> None:
    bundle = Bundle.open(bundles[name]).of_kind(Diffusion)
    recorded = bundle.manifest.components.denoiser.variants
    assert [one.name for one in recorded] == ["cpu-fp32", "cpu-int8-b64"]
    assert recorded[0].fidelity is not None
    assert recorded[1].fidelity is not None
    assert recorded[0].fidelity.psnr_db == 120.0
    assert recorded[1].fidelity.psnr_db > 40.0
    assert bundle.manifest.provenance.licence == ("MIT" if name == "sd" else "unknown")
    assert main(["verify", str(bundles[name])]) == 0


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_whole_picture_is_within_1e_3_of_diffusers(
    name: str, bundles: dict[str, Path], folders: dict[str, Path], pipelines: dict[str, Any]
) -> None:
    """In float, four steps with guidance, before levels are rounded."""
    wanted = by_diffusers(
        pipelines[name],
        11,
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=4,
        guidance_scale=6.0,
    )
    shape, root = read_diffusion_shape(folders[name]), bundles[name]
    manifest = Bundle.open(root).of_kind(Diffusion).manifest
    record = DiffusionRecord(
        text_ios=tuple(one.variants[0].io for one in manifest.components.text_encoders),
        denoiser_io=manifest.components.denoiser.variants[0].io,
        prompts=manifest.processors.prompts,
        latent_channels=4,
        latent_factor=2,
        scaling=manifest.scaling,
        shift=0.0,
        differences={},
        preview=((), (), ()),
    )
    session = session_of(root / "cpu-fp32", record, reference=root / "autoencoder")
    prompted, without = (
        session.read([chunks_of(root, record.prompts, text)]) for text in (PROMPT, NEGATIVE)
    )
    way = begin(shape.scheduler, 4)
    sample = np.random.default_rng(11).standard_normal((4, 16, 16), np.float32)
    sample = sample * np.float32(way.init_scale)
    while not way.is_done():
        given, timestep = way.scaled(sample), float(way.timesteps[way.at])
        rows = [Row(sample=given, timestep=timestep, prompted=one) for one in (without, prompted)]
        outputs = session.denoise(rows)
        sample = way.step(guided(outputs[0], outputs[1], 6.0), sample, no_noise)
    found = np.clip(session.decoded(sample) / 2 + 0.5, 0, 1).transpose(1, 2, 0)
    assert np.abs(found - wanted).max() <= 1e-3


@pytest.mark.parametrize(
    ("scheduler", "theirs", "more"),
    [
        (None, None, {}),
        ("ddim", "DDIMScheduler", {"clip_sample": False}),
        ("euler", "EulerDiscreteScheduler", {}),
        ("euler-karras", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("heun", "HeunDiscreteScheduler", {}),
        ("dpmpp-2m", "DPMSolverMultistepScheduler", {}),
        ("dpmpp-2m-karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("unipc", "UniPCMultistepScheduler", {}),
    ],
)
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_the_daemons_pictures_are_those_of_diffusers(
    name: str,
    scheduler: str | None,
    theirs: str | None,
    more: dict[str, Any],
    client: Client,
    pipelines: dict[str, Any],
) -> None:
    pipeline, own = pipelines[name], pipelines[name].scheduler
    if theirs is not None:
        pipeline.scheduler = getattr(diffusers, theirs).from_config(own.config, **more)
    try:
        wanted = by_diffusers(pipeline, 5, prompt=PROMPT, num_inference_steps=7, guidance_scale=4.0)
    finally:
        pipeline.scheduler = own
    made = client.imagine(name, PROMPT, steps=7, guidance=4.0, seed=5, scheduler=scheduler)
    (picture,) = made.collected().pictures
    apart = np.abs(levels_of(picture).astype(float) - wanted * 255)
    assert apart.max() <= 1.0


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_sizes_negative_prompts_and_rescaled_guidance(
    name: str, client: Client, pipelines: dict[str, Any]
) -> None:
    asked = {"guidance_rescale": 0.6, "guidance_scale": 8.0, "negative_prompt": NEGATIVE}
    wanted = by_diffusers(
        pipelines[name], 3, side=64, prompt=PROMPT, num_inference_steps=3, **asked
    )
    made = client.imagine(
        name,
        PROMPT,
        negative_prompt=NEGATIVE,
        width=64,
        height=64,
        steps=3,
        guidance=8.0,
        guidance_rescale=0.6,
        seed=3,
    )
    (picture,) = made.collected().pictures
    assert np.abs(levels_of(picture).astype(float) - wanted * 255).max() <= 1.0


def photograph(side: int) -> Image.Image:
    with Image.open(PHOTOGRAPH) as whole:
        return whole.convert("RGB").crop((0, 0, 512, 512)).resize((side, side))


def stripes(side: int) -> Image.Image:
    """A mask: light on the left, dark on the right."""
    levels = np.zeros((side, side), np.uint8)
    levels[:, : side // 2] = 255
    return Image.fromarray(levels)


def media(image: Image.Image) -> Media:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Media(type="image/png", data=file.getvalue())


@contextmanager
def noise_of(seed: int, shape: tuple[int, ...], *, encoded_first: bool) -> Iterator[None]:
    """Have diffusers draw what the daemon does: a picture's noise, then that of its encoding."""
    random = np.random.default_rng(seed)
    first, second = (random.standard_normal(shape, np.float32) for _ in "ab")
    draws = [second, first] if encoded_first else [first, second]
    coming = chain(draws, repeat(first))

    def draw(*unused: Any, **more: Any) -> torch.Tensor:
        return torch.from_numpy(next(coming))[None]

    modules = [
        "diffusers.models.autoencoders.vae",
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint",
    ]
    with ExitStack() as patched:
        for module in modules:
            patched.enter_context(patch(f"{module}.randn_tensor", draw))
        yield


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler", "heun", "dpmpp-2m", "unipc"])
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
def test_a_picture_is_gone_on_from_as_by_diffusers(
    strength: float, scheduler: str, client: Client, pipelines: dict[str, Any]
) -> None:
    own = pipelines["sd"]
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **{**own.components, "scheduler": OTHERS[scheduler].from_config(own.scheduler.config)},
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    with noise_of(4, (4, 16, 16), encoded_first=True):
        wanted = pipeline(
            prompt=PROMPT,
            image=photograph(32),
            strength=strength,
            num_inference_steps=8,
            guidance_scale=5.0,
            output_type="np",
        ).images[0]
    made = client.imagine(
        "sd",
        PROMPT,
        image=media(photograph(32)),
        strength=strength,
        steps=8,
        guidance=5.0,
        seed=4,
        scheduler=scheduler,
    ).collected()
    (picture,) = made.pictures
    assert np.abs(levels_of(picture).astype(float) - wanted * 255).max() <= 1.0
    assert picture.record.strength == strength
    assert picture.record.image == media(photograph(32)).sha256


@pytest.mark.parametrize("scheduler", ["pndm", "ddim", "euler", "unipc"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_a_mask_keeps_is_kept_as_by_diffusers(
    strength: float, scheduler: str, client: Client, pipelines: dict[str, Any]
) -> None:
    own = pipelines["sd"]
    # As its other pipelines have it, and so the bundle; this one takes the scheduler's default.
    options = {"clip_sample": False} if scheduler == "ddim" else {}
    other = OTHERS[scheduler].from_config(own.scheduler.config, **options)
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        **{**own.components, "scheduler": other},
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    with noise_of(6, (4, 16, 16), encoded_first=True):
        wanted = pipeline(
            prompt=PROMPT,
            image=photograph(32),
            mask_image=stripes(32),
            height=32,
            width=32,
            strength=strength,
            num_inference_steps=6,
            guidance_scale=5.0,
            output_type="np",
        ).images[0]
    made = client.imagine(
        "sd",
        PROMPT,
        image=media(photograph(32)),
        mask=media(stripes(32)),
        strength=strength,
        steps=6,
        guidance=5.0,
        seed=6,
        scheduler=scheduler,
    ).collected()
    (picture,) = made.pictures
    assert np.abs(levels_of(picture).astype(float) - wanted * 255).max() <= 1.0


def test_what_cannot_be_gone_on_from_is_named(client: Client) -> None:
    whole, broken = media(photograph(32)), Media(type="image/png", data=b"no picture")
    with pytest.raises(InvalidParameter, match=r"2 steps with a strength of 0.3 are no step"):
        client.imagine("sd", PROMPT, image=whole, strength=0.3, steps=2).collected()
    with pytest.raises(InvalidParameter, match="a mask is of an image"):
        client.imagine("sd", PROMPT, mask=whole).collected()
    for field in ("image", "mask"):
        with pytest.raises(InvalidMedia) as caught:
            client.imagine("sd", PROMPT, **{"image": whole, field: broken}).collected()
        assert caught.value.param == field


def test_without_guidance_the_prompt_alone_counts(
    client: Client, pipelines: dict[str, Any]
) -> None:
    wanted = by_diffusers(
        pipelines["sd"], 9, prompt=PROMPT, num_inference_steps=3, guidance_scale=1.0
    )
    made = client.imagine("sd", PROMPT, steps=3, guidance=1.0, seed=9).collected()
    (picture,) = made.pictures
    assert np.abs(levels_of(picture).astype(float) - wanted * 255).max() <= 1.0
    assert (made.usage.images, made.usage.steps) == (1, 4)  # PNDM's first step has two calls
    assert made.usage.prompt_tokens == len(pipelines["sd"].tokenizer(PROMPT).input_ids) - 2


def test_events_tell_of_every_step_and_of_what_a_picture_is_made_of(client: Client) -> None:
    events = client.imagine("sd", PROMPT, steps=6, scheduler="euler", seed=1, count=2)
    first, *told, end = [one for one in events if not isinstance(one, Loading)]
    assert isinstance(first, Started)
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.STOP
    steps = [one for one in told if isinstance(one, Progress)]
    assert [(one.done, one.total, one.unit) for one in steps] == [
        (number, 12.0, "step") for number in range(1, 13)
    ]
    pictures = [one for one in told if isinstance(one, Picture)]
    assert [(one.index, one.record.seed) for one in pictures] == [(0, 1), (1, 2)]
    record = pictures[0].record
    assert (record.model, record.scheduler, record.steps) == ("sd", "euler", 6)
    assert (record.guidance, record.licence) == (7.5, "MIT")
    assert len(record.digest) == 64
    with Image.open(io.BytesIO(pictures[0].data)) as image:
        image.load()
        assert image.text["parameters"].startswith(f"{PROMPT}\nSteps: 6, Sampler: euler")


def test_previews_show_what_a_picture_would_be(client: Client) -> None:
    events = list(
        client.imagine("sd", PROMPT, steps=7, scheduler="euler", seed=1, count=2, preview_every=3)
    )
    shown = [one for one in events if isinstance(one, Preview)]
    assert [(one.index, one.step) for one in shown] == [(0, 3), (1, 3), (0, 6), (1, 6)]
    for one in shown:
        with Image.open(io.BytesIO(one.data)) as image:
            assert image.size == (16, 16)
    assert len([one for one in events if isinstance(one, Picture)]) == 2


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("scheduler", NAMES)
def test_a_seed_makes_the_same_picture_in_any_company(
    scheduler: str, guidance: float, client: Client
) -> None:
    def ask(seed: int, **more: Any) -> Any:
        return client.imagine(
            "sd", PROMPT, steps=5, scheduler=scheduler, guidance=guidance, seed=seed, **more
        )

    (alone,) = ask(8).collected().pictures
    several = ask(7, count=3).collected().pictures
    beside = [ask(1), ask(8), client.imagine("sd", NEGATIVE, steps=9, seed=4)]
    again = [one.collected().pictures[0] for one in beside]
    assert several[1].data == alone.data
    assert again[1].data == alone.data
    assert again[0].data != alone.data


def test_without_a_seed_pictures_are_of_seeds_that_are_told(client: Client) -> None:
    first, second = (client.imagine("sd", PROMPT, steps=2).collected().pictures[0] for _ in "ab")
    assert first.record.seed != second.record.seed
    again = client.imagine("sd", PROMPT, steps=2, seed=first.record.seed).collected().pictures[0]
    assert again.data == first.data


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_long_prompt_is_read_in_pieces(name: str, client: Client) -> None:
    long = " ".join(["a red circle on grey, a blue square of green"] * 5)
    made = client.imagine(name, long, steps=2, seed=1).collected()
    short = client.imagine(name, long[:40], steps=2, seed=1).collected()
    assert made.usage.prompt_tokens > 36
    assert made.pictures[0].data != short.pictures[0].data
    with pytest.raises(ContextExceeded, match=r"prompt has \d+ tokens; the model reads 144"):
        client.imagine(name, long * 9, steps=2).collected()


def test_what_cannot_be_made_is_refused_by_name(client: Client) -> None:
    for asked, param, why in (
        ({"width": 33}, "width", "width must be a multiple of 4, not 33"),
        ({"width": 128, "height": 64}, "width", "has more than 4096 pixels"),
        ({"steps": 61}, "steps", r"at most 60 \(engine.max_image_steps\), not 61"),
        ({"scheduler": "plms"}, "scheduler", "no scheduler 'plms'; there are ddim"),
        ({"steps": 51, "scheduler": "lcm"}, "steps", "50 at most"),
        ({"guidance": -1.0}, "guidance", "at least 0"),
        ({"count": 17}, "count", "at most 16"),
    ):
        with pytest.raises(InvalidParameter, match=why) as caught:
            client.imagine("sd", PROMPT, **asked).collected()
        assert caught.value.param == param
    with pytest.raises(UnsupportedTask, match="sd does not generate; it does: imagine"):
        client.generate("sd", "x").collected()


def test_a_cancelled_picture_ends_between_two_steps(client: Client) -> None:
    stream = client.imagine("sd", PROMPT, steps=60, seed=1)
    events = iter(stream)
    for event in events:
        if isinstance(event, Progress) and event.done >= 3:
            break
    stream.cancel()
    *_, end = events
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.CANCELLED
    assert 3 <= end.usage.steps < 60
    assert end.usage.images == 0


def test_the_model_is_told_of(client: Client) -> None:
    client.imagine("sd", PROMPT, steps=1).collected()
    models = {one.name: one for one in client.models()}
    assert models["sd"].state is ModelState.READY
    assert (models["sd"].kind, models["sd"].tasks) == ("diffusion", ("imagine",))
    assert models["sd"].memory is not None
    assert models["sd"].memory.weights_bytes > 0


def test_an_altered_sample_is_not_served(bundles: dict[str, Path], tmp_path: Path) -> None:
    with short_directory() as place:
        home = Home(place, replace(ENGINE, variants={"sd": "cpu-int8-b64"}))
        home.store.mkdir()
        shutil.copytree(bundles["sd"], home.store / "sd")
        with home.serving(), Client(home.endpoint) as client:
            made = client.imagine("sd", PROMPT, steps=2, seed=2).collected()
            assert {one.name: one.variant for one in client.models()} == {"sd": "cpu-int8-b64"}
            assert len(made.pictures) == 1


def altered(folder: Path, part: str, **fields: Any) -> None:
    path = folder / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("part", "fields", "why"),
    [
        ("model_index.json", {"_class_name": "KandinskyPipeline"}, "KandinskyPipeline.*no form"),
        ("unet/config.json", {"in_channels": 9}, "in_channels 9 beside 4 of latents"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256 has no form"),
        ("unet/config.json", {"addition_embed_type": "image"}, "addition_embed_type"),
        ("vae/config.json", {"latents_mean": [0.0]}, "latents_mean has no form"),
        ("vae/config.json", {"_class_name": "VQModel"}, "VQModel.*AutoencoderKL has"),
        ("scheduler/scheduler_config.json", {"_class_name": "DEISScheduler"}, "DEIS.*no form"),
        ("scheduler/scheduler_config.json", {"use_beta_sigmas": True}, "use_beta_sigmas"),
        ("scheduler/scheduler_config.json", {"of_tomorrow": 1}, "of_tomorrow is no field"),
        ("scheduler/scheduler_config.json", {"beta_start": "x"}, "beta_start"),
        ("scheduler/scheduler_config.json", {"thresholding": True}, "has no thresholding"),
    ],
)
def test_what_has_no_form_is_refused_before_any_work(
    part: str, fields: dict[str, Any], why: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders["sd"], folder)
    altered(folder, part, **fields)
    with pytest.raises(Refused, match=why):
        read_diffusion_shape(folder)


def test_fields_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    told = {
        "_class_name": "DPMSolverMultistepScheduler",
        "_diffusers_version": "0.39.0",
        "lambda_min_clipped": float("-inf"),
        "solver_type": "logrho",
        "trained_betas": None,
        "use_beta_sigmas": False,
        "use_karras_sigmas": True,
    }
    path.write_text(json.dumps(told))
    config = read_scheduler(path)
    assert (config.scheduler, config.use_karras_sigmas) == ("dpm-multistep", True)
    assert (config.lambda_min_clipped, config.solver_type) == (None, None)


def test_other_schemes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for option in (["--scheme", "w8a8"], ["--kv", "int8"], ["--device", "cuda"]):
        out = ["--out", str(tmp_path / "out")]
        assert main(["model", str(folders["sd"]), *out, *option]) == 1
