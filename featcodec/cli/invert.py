"""featcodec invert: the privacy audit. A trained RecNet makes pictures from bitstreams or features."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.attacked import expand_attacked, letterbox_and_plates_options, match_attacked, plate_audit
from featcodec.cli.console import complain, print_json, print_table, progress
from featcodec.cli.option_values import bottleneck_label, device_for, join_cluster, load_codec_for, read_side_infos
from featcodec.cli.options import (
    cluster_option,
    ignore_exif_option,
    json_option,
    model_options,
    networks_option,
    overwrite_option,
    sources_argument,
    workers_option,
)
from featcodec.cli.plates import plate_line, plate_summary, plates_json

if TYPE_CHECKING:
    from featcodec.privacy.attack import Attack
    from featcodec.privacy.attack_files import Attacked
    from featcodec.privacy.attack_results import AttackResult
    from featcodec.system.paths import Source

AUTO = "auto"
_MEASURES = ("psnr", "edge_psnr")
_ATTACKS = ("", "latent_")


@click.command("invert")
@sources_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the reconstructions (.png). Its folder side-by-side shows them beside their originals.",
)
@click.option(
    "--recnet",
    type=click.Path(path_type=Path),
    default=Path(AUTO),
    show_default=True,
    help="RecNet checkpoint (.safetensors), trained on this detector and bottleneck; or auto: the one that ships for "
    "these networks.",
)
@model_options
@click.option(
    "--originals",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Folder of the original images to compare with. They are matched by relative name. "
    "[default: SRC itself if it is images]",
)
@click.option(
    "--latent-recnet",
    type=click.Path(path_type=Path),
    default=None,
    help="Second RecNet, trained on this detector without a bottleneck; or auto: the one that ships. It attacks the "
    "uncompressed features of the originals, for comparison.",
)
@click.option(
    "--split",
    type=click.IntRange(0),
    help="If SRC is images: last detector layer that runs at the edge. Bitstreams store theirs. [default: the "
    "bottleneck's own, or 4]",
)
@letterbox_and_plates_options
@ignore_exif_option
@workers_option
@cluster_option
@networks_option
@overwrite_option
@json_option
def command(
    sources: tuple[str, ...],
    output: Path,
    recnet: Path,
    detector: str,
    bottleneck: str,
    layout: str,
    device: str,
    half: bool | None,
    originals: Path | None,
    latent_recnet: Path | None,
    split: int | None,
    image_size: int,
    square: bool,
    private: Path | None,
    plate_reader: Path,
    ignore_exif: bool,
    workers: int | None,
    cluster: str | None,
    networks: int | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Reconstruct pictures from bitstreams or features: how much of an image would an attacker see?

    SRC are bitstreams or images, but not both: files, folders (searched recursively) or glob patterns. Bitstreams are
    attacked as they are. For images, the uncompressed features are attacked (no clipping, quantization or VVC).

    If there are originals, the command prints the PSNR and edge-PSNR of each image and their means over images, in dB
    (lower is more private). It also saves each reconstruction beside its original. Both values are measured at the
    detector's resolution, without the letterbox's border. They are also in the file attack.csv of the output folder,
    which `featcodec report` reads.

    With --private, a network reads number plates, on the originals and on the reconstructions. Only plates that can be
    read on the originals count. The command prints the share of characters that are read (lower is more private).
    """

    from featcodec.privacy.attack import Attack
    from featcodec.privacy.attack_files import check_pictures
    from featcodec.privacy.attack_results import add_attack_results, check_attack_results

    device = device_for(cluster, device, workers, networks)
    files, are_streams = expand_attacked(sources)
    matched, unmatched = match_attacked(files, originals, are_streams=are_streams)
    if are_streams and split is not None:
        raise click.UsageError("--split is for images: bitstreams store their split")
    if are_streams and originals is None:
        _refuse_without_originals(latent_recnet, private)
    known = _with_original(files, unmatched, originals)
    check_pictures(known, output, matched, overwrite=overwrite)
    check_attack_results(output)
    plates = None if private is None else plate_audit(private, _given(plate_reader), known)
    side_infos = read_side_infos(source.path for source in known) if are_streams else {}
    join_cluster(cluster)
    weights = detector, bottleneck, layout, device, half
    codec = load_codec_for(
        side_infos.values(), *weights, split=split, image_size=image_size, square=square, restoration="none"
    )
    attack = Attack.load(codec, _given(recnet))
    latent = None
    if latent_recnet is not None:
        latent = Attack.load(codec.without_bottleneck(), _given(latent_recnet))
    done: list[Attacked] = []
    started = time.perf_counter()
    options = {"originals": matched, "latent": latent, "plates": plates, "ignore_exif": ignore_exif}
    outcomes = _outcomes(attack, known, output, options, workers, cluster, networks, overwrite=overwrite)
    with contextlib.closing(outcomes):
        for outcome in progress(outcomes, len(known), "invert"):
            if outcome.error is None:
                done.append(outcome)
            else:
                complain(outcome.error)
    if done:
        add_attack_results(output, _results(done, attack, output, matched, bottleneck))
    seconds = time.perf_counter() - started
    failed = len(files) - len(done)
    attacks = [name for name in _ATTACKS if any(_measured(outcome, name) for outcome in done)]
    _say_what_the_means_lack(done, attacks)
    summary = {} if plates is None else {"plates": plate_summary(done, plates.reader.config.alphabets)}
    if as_json:
        counts = {"inverted": len(done), "failed": failed, "seconds": round(seconds, 3), **summary}
        _print_json(done, attacks, counts, output)
    else:
        if attacks:
            _print_table(done, attacks)
        if summary:
            click.echo(plate_line(summary["plates"], "features" if codec.model.bottleneck is None else "bottleneck"))
        speed = f"{seconds:.1f} s ({len(done) / seconds:.1f} images/s)"
        click.echo(f"{len(done)} inverted, {failed} failed, {speed} -> {output}")
    return 1 if failed else 0


def _with_original(files: Sequence[Source], unmatched: set[Source], originals: Path | None) -> list[Source]:
    """The files that are not left out. Say why the others are."""
    from featcodec.errors import FeatcodecError

    for source in unmatched:
        complain(f"{source.path}: {originals} has no image of that name, or several; the file is left out")
    if len(unmatched) == len(files):
        raise FeatcodecError(f"{originals}: has no original for any of the {len(files)} files; check --originals")
    return [source for source in files if source not in unmatched]


def _outcomes(
    attack: Attack,
    sources: Sequence[Source],
    output: Path,
    options: Mapping[str, Any],
    workers: int | None,
    cluster: str | None,
    networks: int | None,
    *,
    overwrite: bool,
) -> Generator[Attacked, None, None]:
    """The outcomes of the attack on this machine, or on a cluster, in the order of the sources."""
    if cluster is None:
        from featcodec.privacy.attack_files import attack_files

        return attack_files(attack, sources, output, **options, workers=workers, overwrite=overwrite)
    from featcodec.cluster.invert import attack_on_cluster
    from featcodec.cluster.resources import Resources

    return attack_on_cluster(attack, sources, output, **options, resources=Resources.of_cluster(networks))


def _results(
    done: Sequence[Attacked], attack: Attack, output: Path, originals: Mapping[Path, Path], bottleneck: str
) -> Iterator[AttackResult]:
    """The rows of attack.csv."""
    from featcodec.networks.checkpoints import fingerprint
    from featcodec.privacy.attack_results import AttackResult

    label = "latent"
    if attack.codec.model.bottleneck is not None:
        label = bottleneck_label(bottleneck, attack.codec) or attack.codec.model.fingerprint.hex()[:8]
    codec, recnet = attack.codec.model.fingerprint.hex(), fingerprint(attack.recnet.state_dict()).hex()
    for outcome in done:
        picture = outcome.output.relative_to(output).as_posix()
        original = str(originals.get(outcome.source.path, ""))
        quality = _measured(outcome, "") or dict.fromkeys(_MEASURES, math.nan)
        yield AttackResult(picture, original, label, codec, recnet, outcome.qp, *quality.values())


def _refuse_without_originals(latent_recnet: Path | None, private: Path | None) -> None:
    if latent_recnet is not None:
        raise click.UsageError("--latent-recnet needs --originals: it attacks the features of the original images")
    if private is not None:
        raise click.UsageError("--private needs --originals: it says what is on the original images")


def _given(recnet: Path) -> Path | None:
    return None if recnet == Path(AUTO) else recnet


def _measured(outcome: Attacked, attack: str) -> dict[str, float]:
    """PSNR and edge-PSNR of an attack by their names in JSON; empty if the attack was not measured."""
    quality = outcome.latent_quality if attack else outcome.quality
    return {} if quality is None else {f"{attack}{name}": getattr(quality, name) for name in _MEASURES}


def _means(done: Sequence[Attacked], attacks: Sequence[str]) -> dict[str, float]:
    from featcodec.privacy.image_quality import mean_decibel

    return {
        f"{attack}{name}": mean_decibel(_measured(outcome, attack)[f"{attack}{name}"] for outcome in done)
        for attack in attacks
        for name in _MEASURES
    }


def _say_what_the_means_lack(done: Sequence[Attacked], attacks: Sequence[str]) -> None:
    for attack in attacks:
        for name in _MEASURES:
            values = [_measured(outcome, attack)[f"{attack}{name}"] for outcome in done]
            exact, undefined = sum(map(math.isinf, values)), sum(map(math.isnan, values))
            if exact:
                complain(f"note: exact, so infinite and not in the mean {_title(attack, name)}: {exact} images")
            if undefined:
                complain(f"note: below 3x3 pixels, so not in the mean {_title(attack, name)}: {undefined} images")


def _title(attack: str, name: str) -> str:
    return f"{attack.replace('_', ' ')}{'edge-' if name.startswith('edge') else ''}PSNR"


def _print_table(done: Sequence[Attacked], attacks: Sequence[str]) -> None:
    columns = [_title(attack, name) for attack in attacks for name in _MEASURES]
    rows = []
    for outcome in done:
        values = [value for attack in attacks for value in _measured(outcome, attack).values()]
        rows.append((outcome.source.relative.as_posix(), values))
    rows.append((f"mean of {len(done)}", list(_means(done, attacks).values())))
    print_table(
        "dB; lower is more private",
        ["image", *columns],
        ([name, *(f"{value:.2f}" for value in values)] for name, values in rows),
    )


def _print_json(done: Sequence[Attacked], attacks: Sequence[str], counts: Mapping[str, Any], output: Path) -> None:
    def finite(values: dict[str, float]) -> dict[str, float | None]:
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    files = []
    for outcome in done:
        entry: dict[str, Any] = {"source": str(outcome.source.path), "output": str(outcome.output)}
        if outcome.side_by_side is not None:
            entry["side_by_side"] = str(outcome.side_by_side)
        for attack in attacks:
            entry.update(finite(_measured(outcome, attack)))
        if outcome.plates is not None:
            entry["plates"] = plates_json(outcome.plates)
        files.append(entry)
    print_json({**counts, **finite(_means(done, attacks)), "output": str(output), "files": files})
