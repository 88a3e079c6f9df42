"""What `export` writes and `package` reads: graphs by variant, and what a bundle says of them.

DIR/
  export.json          `Exported`
  model/               the model folder's small files
  VARIANT/model.onnx   and its weights, native form and scales, where it has them
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from exporters.bundle.build import Export
from exporters.bundle.package import Product
from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import ExportError
from exporters.graph.records import DATA_FILE, GRAPH_FILE, NATIVE_FILE, Exported
from exporters.model.source import SMALL_FILES, Source
from exporters.outputs import is_finished, output_directory, read_output, stage_key

STAGE = "export"
EXPORT_FILE = "export.json"
MODEL_FOLDER = "model"


def write_export(export: Export, out: Path, *, cache: Cache, replace: bool) -> tuple[bool, Product]:
    """Make what `export` orders and put it at `out`; False where the same is there already.

    Raises:
        Refused: the model cannot be exported, or not in one of the variants, which is named.
        ExportError: something else failed, or another thing is at `out`.
    """
    key = stage_key({"of": cache.key(export.inputs), "code": code_digest(__name__)})
    if is_finished(out, STAGE, key):
        return False, read_export(out)
    known = read_output(out)
    if out.exists() and not replace and (known is None or known.stage != STAGE):
        raise ExportError(f"{out} is there already and is another thing; --force replaces it")
    product = export.product({})
    with output_directory(out, STAGE, key, replace=replace) as folder:
        _write(product, folder)
    return True, product


def _write(product: Product, folder: Path) -> None:
    model = folder / MODEL_FOLDER
    model.mkdir()
    for name in SMALL_FILES:
        own = product.source.tokenizer_file.name == name
        path = product.source.tokenizer_file if own else product.source.folder / name
        if path.is_file():
            (model / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, model / name)
    for variant in product.exported.variants:
        target = folder / variant.name
        target.mkdir()
        native = () if variant.native is None else (NATIVE_FILE,)
        scales = () if variant.kv.scales is None else (variant.kv.scales,)
        for name in (GRAPH_FILE, DATA_FILE, *native, *scales):
            shutil.copyfile(product.folders[variant.name] / name, target / name)
    text = msgspec.json.format(msgspec.json.encode(product.exported), indent=1)
    (folder / EXPORT_FILE).write_bytes(text + b"\n")


def read_export(folder: Path) -> Product:
    """What is at `folder`, whole.

    Raises:
        ExportError: it is no finished export, or a file of it was altered since.
    """
    known = read_output(folder)
    if known is None or known.stage != STAGE:
        raise ExportError(f"{folder} is nothing that export wrote; run nsedge-export export first")
    if not is_finished(folder, STAGE, known.key):
        raise ExportError(f"{folder}: a file is missing or was altered; export again")
    try:
        exported = msgspec.json.decode((folder / EXPORT_FILE).read_bytes(), type=Exported)
    except msgspec.DecodeError as error:
        raise ExportError(f"{folder / EXPORT_FILE}: {error}; export again") from error
    source = Source(
        folder=folder / MODEL_FOLDER, origin=exported.origin, revision=exported.revision
    )
    folders = {variant.name: folder / variant.name for variant in exported.variants}
    return Product(exported=exported, source=source, folders=folders)
