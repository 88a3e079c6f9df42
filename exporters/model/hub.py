"""Where a model comes from: a folder here, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from exporters.errors import ExportError
from exporters.model.source import Source
from nsedge.printable import escaped

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
BUNDLE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
WANTED = ["*.json", "*.safetensors", "*.jinja", "README.md", "LICENSE", "vocab.txt"]
UNWANTED = ["[!0-9]*/*", "[0-9]*/[!c]*", "*/*/*", "consolidated*", "*.index.fp*"]
"""Sub-directories and second copies of the weights; a folder that begins with a number is a module
of sentence-transformers (`1_Pooling`), whose config.json says how vectors are made."""


PIPELINE = "model_index.json"
"""What the repository of a model of pictures has, whose parts are in sub-directories."""
PIPELINE_WANTED = [
    *(PIPELINE, "README.md", "LICENSE", "*/config.json", "*/*.safetensors", "*/*.index.json"),
    *("tokenizer*/*", "scheduler/*"),
]
PIPELINE_UNWANTED = [
    *("safety_checker/*", "image_encoder/*", "feature_extractor/*", "*/*/*"),
    *("*.fp16.*", "*.non_ema.*", "*.onnx*"),
]


def find_source(path_or_id: str, revision: str | None) -> Source:
    """The model folder at a path, or a hub's repository fetched into the hub's own cache.

    Raises:
        ExportError: there is nothing of that name, or the hub cannot be reached.
    """
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ExportError("--revision is for the hub; this is a folder")
        return Source(folder=path.absolute(), origin=escaped(path.absolute().name))
    if path.exists() or not HUB_ID.fullmatch(path_or_id):
        raise ExportError(f"{path_or_id}: neither a model folder nor a hub's ORG/NAME")
    return _fetch(path_or_id, revision)


def bundle_name(text: str, *, exact: bool) -> str:
    """`text` itself, or a name from the last part of a path or hub id.

    Raises:
        ExportError: no bundle may be called so.
    """
    if exact:
        name = text
    else:
        last = Path(text).expanduser().absolute().name.lower()
        name = re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:128]
    if not BUNDLE_NAME.fullmatch(name):
        raise ExportError(
            f"{text!r} is no name for a bundle (lower case, digits, . _ -); give one with --name"
        )
    return name


def _fetch(repository: str, revision: str | None) -> Source:
    index = fetch_files(repository, revision, [PIPELINE])
    if (index / PIPELINE).is_file():
        folder = fetch_files(repository, index.name, PIPELINE_WANTED, PIPELINE_UNWANTED)
    else:
        folder = fetch_files(repository, revision, WANTED, UNWANTED)
    return Source(folder=folder, origin=repository, revision=folder.name)


def fetch_files(
    repository: str, revision: str | None, wanted: list[str], unwanted: list[str] | None = None
) -> Path:
    """Files of a repository, in the hub's own cache: a folder that is called as the commit.

    Raises:
        ExportError: the hub cannot be reached, or does not give them.
    """
    from huggingface_hub import snapshot_download  # slow: only for what is on the hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted
        )
    except LocalEntryNotFoundError as error:
        raise ExportError(
            f"{repository}: the hub cannot be reached and the model is not in its cache;"
            " give a local folder instead"
        ) from error
    except (OSError, *HfHubHTTPError.__bases__) as error:  # those of the HTTP client it stands on
        first = str(error).strip().splitlines()[0]
        raise ExportError(f"{repository}: {first}") from error
    return Path(folder)
