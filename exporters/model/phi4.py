"""What the folder of a Phi-4-multimodal says, as transformers lays it out: crops, sound, adapters
by what a prompt holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from exporters.errors import Refused
from exporters.model.files import Json, is_count, read_object, shown
from exporters.model.pictures import SETTINGS_FILE, WHOLE_FILE
from exporters.model.source import read_tokenizer
from exporters.model.vision_lm import VisionSource
from nsedge.bundle.hearing import SoundFeatures, SoundPrompt
from nsedge.bundle.pictures import PictureSteps, Resize
from nsedge.bundle.vision_lm import CroppedPicture, PicturePrompt, Pictures
from nsedge.runtime.audio.samples import RATE

ARCHITECTURE = "Phi4MultimodalForCausalLM"
MODEL_TYPE = "phi4_multimodal"
ADAPTERS = {"image": "vision-lora", "audio": "speech-lora"}
"""By the kind of media, where peft keeps the adapter."""
CUBIC = 3
"""The filter that makes the whole of a picture, by Pillow's number."""
PROCESSORS = {
    "image_processor_type": ("Phi4MultimodalImageProcessor", "Phi4MMImageProcessor"),
    "feature_extractor_type": ("Phi4MultimodalFeatureExtractor", "Phi4MMAudioFeatureExtractor"),
}
PICTURE_DEFAULTS: Json = {
    "size": {"height": 448, "width": 448},
    "patch_size": 14,
    "dynamic_hd": 36,
    "do_rescale": True,
    "do_normalize": True,
    "resample": CUBIC,
}
SOUND_DEFAULTS: Json = {
    "feature_size": 80,
    "sampling_rate": RATE,
    "hop_length": 160,
    "n_fft": 512,
    "win_length": 400,
    "preemphasis": 0.97,
    "audio_compression_rate": 8,
    "audio_downsample_rate": 1,
    "audio_feat_stride": 1,
    "mel_min_frequency": 0,
    "mel_max_frequency": 7690,
}
"""What transformers' processors do where a file does not say."""
CHUNK_ROWS = 500
"""Rows that the encoder of sound takes together, which its code says and no file."""
WHOLE_CHUNK = -1


@dataclass(frozen=True, kw_only=True)
class PhiSource(VisionSource):
    """The folder of such a model. Its decoder's configuration is the whole model's."""

    def check_architecture(self) -> None:
        """Refuse what has no form here.

        Raises:
            Refused: with the reason.
        """
        if self.architecture() != ARCHITECTURE:
            raise Refused(f"{self.architecture()} has no form here; {ARCHITECTURE} has one")
        audio, path = self.part("audio_config"), self.folder / "config.json"
        if audio.get("chunk_size", WHOLE_CHUNK) != WHOLE_CHUNK:
            raise Refused(f"{path}: sound in streamed chunks has no form here")
        if audio.get("downsample_rate", 1) != 1:
            raise Refused(f"{path}: a downsample_rate of sound has no form here")

    @cached_property
    def processors(self) -> Json:
        """What the files say of pictures and sound, all in one.

        Raises:
            Refused: it is of other processors.
        """
        path = self.folder / SETTINGS_FILE
        stated: Json = read_object(path) if path.is_file() else {}
        whole = self.folder / WHOLE_FILE
        for part in read_object(whole).values() if whole.is_file() else ():
            stated = {**(part if isinstance(part, dict) else {}), **stated}
        for field, known in PROCESSORS.items():
            named = stated.get(field)
            if named is not None and str(named).removesuffix("Fast") not in known:
                raise Refused(f"{path}: {field} {shown(named)} has no form here")
        return stated

    def prompt(self) -> PicturePrompt:
        """How a picture stands in a prompt; raises as `VisionSource.prompt`."""
        number, token = self._stands("vision_config", "image_token_id", "a picture's")
        return PicturePrompt(marker="<|image_{n}|>", token=token, token_id=number)

    def sound_prompt(self) -> SoundPrompt:
        """How sound stands in a prompt; raises as `VisionSource.prompt`."""
        number, token = self._stands("audio_config", "audio_token_id", "a sound's")
        return SoundPrompt(marker="<|audio_{n}|>", token=token, token_id=number)

    def _stands(self, part: str, field: str, whose: str) -> tuple[int, str]:
        path, number = self.folder / "config.json", self.part(part).get(field)
        if not is_count(number):
            raise Refused(f"{path}: no {part}.{field} says which token stands there")
        token = read_tokenizer(self.tokenizer_file).id_to_token(number)
        if token is None:
            raise Refused(f"{path}: the tokenizer has no token {number}, {whose}")
        return number, token

    def steps(self) -> PictureSteps:
        """How a crop is prepared; raises as `crops`."""
        return self.crops().steps

    def pictures(self, rows: int) -> Pictures:
        """How pictures are cut; raises as `crops`."""
        return self.crops()

    def crops(self) -> CroppedPicture:
        """How pictures are cut.

        Raises:
            Refused: what has no form here.
        """
        settings = PICTURE_DEFAULTS | {k: v for k, v in self.processors.items() if v is not None}
        vision, path = self.part("vision_config"), self.folder / SETTINGS_FILE
        side, patch = vision.get("crop_size", 448), vision.get("patch_size", 14)
        size = settings["size"]
        sides = [size.get("height"), size.get("width")] if isinstance(size, Mapping) else [size]
        wanted = [vision.get("image_size", 448), *sides]
        if any(one != side for one in wanted) or settings["patch_size"] != patch:
            raise Refused(f"{path}: crops of {shown(size)} are not as the encoder takes them")
        for field, done in (("do_rescale", "rescaled"), ("do_normalize", "normalised")):
            if not settings[field]:
                raise Refused(f"{path}: pictures that are not {done} have no form here")
        if settings["resample"] != CUBIC:
            raise Refused(f"{path}: resample {shown(settings['resample'])} has no form here")
        try:
            return msgspec.convert(
                {
                    "layout": "crops",
                    "steps": PictureSteps(
                        # Bilinear, whatever `resample` says: that is of the whole.
                        resize=Resize(height=side, width=side, filter="bilinear"),
                        rescale=settings.get("rescale_factor", 1 / 255),
                        mean=_levels(settings.get("image_mean", 0.5)),
                        std=_levels(settings.get("image_std", 0.5)),
                    ),
                    "rows": (side // (2 * patch)) ** 2 + 2,
                    "patch": patch,
                    "most": settings["dynamic_hd"],
                },
                CroppedPicture,
                from_attributes=True,
            )
        except (TypeError, ValueError, ZeroDivisionError) as error:  # msgspec's are such, too
            raise Refused(f"{path}: {error}") from error

    @cached_property
    def _sound(self) -> Json:
        return SOUND_DEFAULTS | {k: v for k, v in self.processors.items() if v is not None}

    def features(self) -> SoundFeatures:
        """How sound becomes features.

        Raises:
            Refused: what has no form here.
        """
        settings, path = self._sound, self.folder / SETTINGS_FILE
        known = {"audio_downsample_rate": 1, "audio_feat_stride": 1, "sampling_rate": RATE}
        for field, one in known.items():
            if settings[field] != one:
                raise Refused(f"{path}: {field} {shown(settings[field])} has no form here")
        audio = self.part("audio_config")
        stride = audio.get("time_reduction", 8)
        stated = settings["audio_compression_rate"], settings["feature_size"]
        if stated != (stride, audio.get("input_size", 80)):
            raise Refused(f"{path}: features of sound are not as the encoder takes them")
        try:
            return msgspec.convert(
                {
                    "filters": "mel_filters.bin",
                    "bins": settings["feature_size"],
                    "sampling_rate": settings["sampling_rate"],
                    "fft_size": settings["n_fft"],
                    "window": settings["win_length"],
                    "hop": settings["hop_length"],
                    "preemphasis": settings["preemphasis"],
                    "stride": stride,
                    "chunk_rows": CHUNK_ROWS,
                },
                SoundFeatures,
            )
        except ValueError as error:  # msgspec's are such, too
            raise Refused(f"{path}: {error}") from error

    def mel_range(self) -> tuple[float, float]:
        """Lowest and highest frequency of the mel filters, in Hz.

        Raises:
            Refused: one is no number.
        """
        return self._frequency("mel_min_frequency"), self._frequency("mel_max_frequency")

    def _frequency(self, field: str) -> float:
        stated = self._sound[field]
        if isinstance(stated, bool) or not isinstance(stated, int | float):
            path = self.folder / SETTINGS_FILE
            raise Refused(f"{path}: {field} {shown(stated)} is no frequency")
        return float(stated)

    def notes(self) -> tuple[str, ...]:
        """What of the source is left aside that changes answers, or tokens."""
        if self.adapters():
            return super().notes()
        missing = " and ".join(ADAPTERS.values())
        return (*super().notes(), f"no {missing} in the folder: media go through the base alone")

    def adapters(self) -> dict[str, Path]:
        """The folders of the adapters by the kind of media; of both, or of none.

        Raises:
            Refused: one is missing.
        """
        folders = {kind: self.folder / name for kind, name in ADAPTERS.items()}
        there = {kind: folder for kind, folder in folders.items() if folder.is_dir()}
        if there and len(there) < len(folders):
            missing = ", ".join(str(folders[kind]) for kind in folders if kind not in there)
            raise Refused(f"an adapter is missing: {missing}")
        return there


def _levels(stated: Any) -> tuple[Any, ...]:
    return tuple(stated) if isinstance(stated, list | tuple) else (stated,) * 3
