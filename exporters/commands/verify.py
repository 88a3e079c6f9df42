"""`nsedge-export verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.answer import FAILURE, SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.caption import verify_caption_bundle
from exporters.commands.diffusion import verify_diffusion_bundle
from exporters.commands.dual_encoder import verify_dual_bundle
from exporters.commands.options import add_json, add_thresholds
from exporters.commands.speech import verify_speech_bundle
from exporters.commands.vectors import verify_encoder_bundle
from exporters.commands.vision_lm import with_sight


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("verify", help="check hashes, golden samples and fidelity")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--text",
        type=Path,
        help="a plain text to measure over, too (of an encoder, a text a line); the fp32 graph is"
        " needed",
    )
    parser.add_argument(
        "--answers", action="store_true", help="let fp32 and each variant answer our prompts"
    )
    parser.add_argument(
        "--prompts", type=Path, help="prompts to answer instead of ours, one a line"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write report.md and report.json there"
    )
    add_thresholds(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Check the bundle."""
    from exporters.bundle.verify import Question, verify_bundle
    from exporters.commands.report import verify_lines, verify_result
    from exporters.measure.build_report import write_report
    from exporters.measure.thresholds import read_overrides
    from nsedge.bundle.caption import Caption
    from nsedge.bundle.diffusion import Diffusion
    from nsedge.bundle.dual_encoder import DualEncoder
    from nsedge.bundle.encoder import Encoder
    from nsedge.bundle.headed import HeadedEncoder
    from nsedge.bundle.manifest import Bundle
    from nsedge.bundle.speech import Speech
    from nsedge.bundle.vision_lm import VisionLm

    path = arguments.bundle.expanduser().absolute()
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    if isinstance(manifest, Encoder | HeadedEncoder):
        encoder = Bundle(bundle.path, manifest, bundle.name)
        return verify_encoder_bundle(encoder, arguments, cache)
    if isinstance(manifest, DualEncoder):
        dual = Bundle(bundle.path, manifest, bundle.name)
        return verify_dual_bundle(dual, arguments, cache)
    if isinstance(manifest, Speech):
        return verify_speech_bundle(Bundle(bundle.path, manifest, bundle.name), arguments, cache)
    if isinstance(manifest, Caption):
        return verify_caption_bundle(Bundle(bundle.path, manifest, bundle.name), arguments, cache)
    if isinstance(manifest, Diffusion):
        return verify_diffusion_bundle(Bundle(bundle.path, manifest, bundle.name), arguments)
    question = Question(
        text=arguments.text,
        prompts=arguments.prompts,
        answers=arguments.answers,
        overrides=read_overrides(arguments.threshold),
    )
    verdict = verify_bundle(path, cache, question)
    if arguments.report is not None:
        write_report(verdict, arguments.report.expanduser().absolute(), bundle=path)
    status = SUCCESS if verdict.passed else FAILURE
    told, files = str(path), len(bundle.manifest.files)
    result = verify_result(verdict, bundle=told, files=files)
    answer: Answer = result, verify_lines(verdict, bundle=told, files=files), status
    if isinstance(manifest, VisionLm):
        sees = Bundle(bundle.path, manifest, bundle.name)
        return with_sight(sees, answer, arguments, cache)
    return answer
