"""featcodec audit: several attacks on a bottleneck and on latent coding, and the worst case of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.attacked import expand_attacked, letterbox_and_plates_options, match_attacked, plate_audit
from featcodec.cli.audit_tables import (
    audited_json,
    print_attacks,
    print_worst_case,
    say_what_the_means_lack,
    say_which_attacks_failed,
    summary_json,
    sums_of,
)
from featcodec.cli.console import complain, note_all, print_json, progress
from featcodec.cli.option_values import read_side_infos
from featcodec.cli.options import (
    ignore_exif_option,
    json_option,
    model_options,
    overwrite_option,
    profile_option,
    sources_argument,
    workers_option,
)
from featcodec.privacy.measures import MEASURES
from featcodec.privacy.worst_case import ATTACKS

if TYPE_CHECKING:
    from featcodec.cli.audit_setup import Setup
    from featcodec.privacy.audit import Audited
    from featcodec.privacy.audit_results import AuditResult
    from featcodec.privacy.plates import PlateAudit
    from featcodec.privacy.readers import Reader
    from featcodec.system.paths import Source

AUTO = Path("auto")


@click.command("audit")
@sources_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the table audit.csv, the reconstructions (.png, one folder per side and attack), and the folder "
    "side-by-side, which shows them beside their originals.",
)
@click.option(
    "--attack",
    "attacks",
    type=click.Choice(ATTACKS),
    multiple=True,
    help="recnet: the paper's attacker. strong: a larger one that knows the QP. gradient: gradient descent on the "
    "picture, without training. direct: the plate reader that reads the tensor itself, with --private. May be "
    "repeated. [default: all that have their checkpoint]",
)
@click.option(
    "--recnet",
    "recnets",
    type=click.Path(path_type=Path),
    multiple=True,
    help="RecNet checkpoint (.safetensors) of either side and either kind, instead of the one that ships. May be "
    "repeated.",
)
@click.option(
    "--direct-reader",
    "direct_readers",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Direct reader from `featcodec train direct-reader` of either side, instead of the one that ships. May be "
    "repeated.",
)
@click.option(
    "--gradient-steps",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Steps of the attack gradient, on either side.",
)
@model_options
@click.option(
    "--qp",
    type=click.IntRange(0, 63),
    default=None,
    help="If SRC is images: code them at this QP on both sides. [default: attack the uncompressed tensors]",
)
@profile_option
@click.option(
    "--originals",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Folder of the original images, needed for bitstreams. They are matched by relative name. "
    "[default: SRC itself if it is images]",
)
@letterbox_and_plates_options
@click.option(
    "--points",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV file of `featcodec sweep`: append one row per side and attack with the means. If the file has the row of "
    "a sweep that coded the same images in the same way, rate and accuracy are copied from it.",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    default=None,
    help="COCO annotation file of the sweep in --points. It names the data set.",
)
@ignore_exif_option
@workers_option
@overwrite_option
@json_option
def command(
    sources: tuple[str, ...],
    output: Path,
    qp: int | None,
    originals: Path | None,
    private: Path | None,
    plate_reader: Path,
    points: Path | None,
    annotations: Path | None,
    ignore_exif: bool,
    workers: int | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Attack images through the bottleneck and through latent coding: how much does the strongest attacker see?

    SRC are images or bitstreams, but not both: files, folders (searched recursively) or glob patterns. Both sides get
    the same images and the same attacks. For images, the uncompressed tensors are attacked, or with --qp the decoded
    ones. Bitstreams are attacked as they are; beside them, their originals are coded directly at the same QP.

    The command prints the worst case first: for each score the strongest attack on each side, and the difference. A
    higher value means that the attacker sees more. An attack without its checkpoint is left out on both sides, with a
    note. `featcodec report --attack DIR` shows the pictures.
    """
    from featcodec.cli.audit_points import AuditTable
    from featcodec.cli.audit_setup import codecs_of, set_up
    from featcodec.privacy.attack_pictures import is_stream
    from featcodec.privacy.audit import Audit
    from featcodec.privacy.audit_files import audit_files
    from featcodec.privacy.audit_results import add_audit_results, check_audit_results
    from featcodec.privacy.worst_case import worst_cases

    known, matched, failed = _sources(sources, originals, qp)
    check_audit_results(output)
    table = None if points is None else AuditTable.open(points, annotations, known, ignore_exif=ignore_exif)
    plates = None if private is None else plate_audit(private, None if plate_reader == AUTO else plate_reader, known)
    readers = _readers(plates)
    side_infos = read_side_infos(source.path for source in known if is_stream(source))
    codecs = codecs_of(options, side_infos.values(), coded=bool(side_infos) or qp is not None)
    setup = set_up(codecs, options, None if plates is None else plates.details)
    audit = Audit(setup.sides, output, readers, qp, ignore_exif, overwrite)
    audit.check(known, matched)
    done: list[Audited] = []
    started = time.perf_counter()
    with contextlib.closing(audit_files(audit, known, matched, workers=workers)) as outcomes:
        for outcome in progress(outcomes, len(known), "audit"):
            if outcome.error is None:
                done.append(outcome)
            else:
                complain(outcome.error)
    seconds = time.perf_counter() - started
    if done:
        add_audit_results(output, _results(done, setup, output))
    failed += len(known) - len(done)
    sums = sums_of(done)
    means = {key: {name: score.mean for name, score in scores.items()} for key, scores in sums.items()}
    cases = worst_cases(means, audit.measures)
    note_all(say_which_attacks_failed(sums, done, setup.sides))
    note_all(say_what_the_means_lack(sums, len(done), audit.measures))
    if table is not None and not failed:
        table.append(setup, means, qp)
    if as_json:
        counts = {"audited": len(done), "failed": failed, "seconds": round(seconds, 3), "output": str(output)}
        tables = summary_json(cases, sums, setup.sides, audit.measures)
        print_json({**counts, **tables, "files": [audited_json(outcome) for outcome in done]})
    else:
        if done:
            print_worst_case(cases, setup.sides)
            print_attacks(sums, done, setup.sides, audit.measures)
        click.echo(f"{len(done)} audited, {failed} failed, {seconds:.1f} s -> {output}")
    return 1 if failed else 0


def _sources(
    arguments: Sequence[str], originals: Path | None, qp: int | None
) -> tuple[list[Source], dict[Path, Path], int]:
    """The sources with an original, their originals, and how many have none."""
    from featcodec.errors import FeatcodecError

    files, are_streams = expand_attacked(arguments)
    if are_streams and originals is None:
        raise click.UsageError("bitstreams need --originals: the scores compare with the original images")
    if are_streams and qp is not None:
        raise click.UsageError("--qp is for images; bitstreams have theirs")
    matched, unmatched = match_attacked(files, originals, are_streams=are_streams)
    for source in unmatched:
        complain(f"{source.path}: {originals} has no image of that name, or several; the file is left out")
    if len(unmatched) == len(files):
        raise FeatcodecError(f"{originals}: has no original for any of the {len(files)} files; check --originals")
    return [source for source in files if source not in unmatched], matched, len(unmatched)


def _readers(plates: PlateAudit | None) -> list[Reader]:
    """The readers that can run here. Says what the others need."""
    from featcodec.privacy.optional_readers import optional_readers
    from featcodec.privacy.similarity import STRUCTURE, Similarity

    similarity = Similarity()
    if not set(STRUCTURE) <= set(similarity.measures):
        complain("note: SSIM and MS-SSIM are left out; install featcodec[audit] for them")
    optional, missing = optional_readers(None if plates is None else plates.details)
    note_all(missing)
    # In the order of the measures: LPIPS is a score of whole pictures.
    readers: list[Reader] = [similarity, *([] if plates is None else [plates]), *optional]
    return sorted(readers, key=lambda reader: MEASURES.index(reader.measures[0]))


def _results(done: Sequence[Audited], setup: Setup, output: Path) -> Iterator[AuditResult]:
    """The rows of audit.csv."""
    from featcodec.privacy.audit_results import AuditResult

    sides = {side.name: side for side in setup.sides}
    for outcome in done:
        for made in outcome.reconstructions:
            side = sides[made.side]
            yield AuditResult(
                picture="" if made.output is None else made.output.relative_to(output).as_posix(),
                image=outcome.source.name.as_posix(),
                original=str(outcome.original),
                side=made.side,
                label=side.label,
                attack=made.attack,
                fingerprint=side.codec.model.fingerprint.hex(),
                attacker=setup.weights.get((made.side, made.attack), ""),
                qp=outcome.qp,
                scores=made.scores,
            )
