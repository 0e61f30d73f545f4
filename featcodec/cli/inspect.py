"""featcodec inspect: what is in a bitstream."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from featcodec.cli.console import complain, print_json, print_table
from featcodec.cli.options import json_option, sources_argument


@click.command("inspect")
@sources_argument
@json_option
def command(sources: tuple[str, ...], as_json: bool) -> int:
    """Show the side info of bitstreams and where their bytes go, per file and in all. Needs no weights.

    SRC are .266 or .265 files, shards (.tar), folders (searched recursively), glob patterns or addresses (s3://BUCKET/FOLDER).
    """
    from featcodec.bitstream import STREAM_SUFFIXES
    from featcodec.errors import BitstreamError
    from featcodec.system.paths import expand_sources

    described = []
    files = expand_sources(sources, STREAM_SUFFIXES, "bitstreams", in_shards=True)
    for path in (source.path for source in files):
        try:
            described.append(describe(path))
        except BitstreamError as error:
            complain(f"{error}" if str(path) in str(error) else f"{path}: {error}")
    if as_json:
        print_json(described)
    else:
        for entry in described:
            print_table(entry["file"], ("field", "value"), field_rows(entry))
        if described:
            files_in_words = "1 file" if len(described) == 1 else f"{len(described)} files"
            print_table(files_in_words, ("bytes of", "in all", "per file", "share"), byte_rows(described))
    return 0 if len(described) == len(files) else 1


def describe(path: Path) -> dict[str, Any]:
    """Everything that is in a bitstream file, as plain values.

    `tensors` has the channels, height and width of each tensor, and its stride (pixels of the letterboxed image per
    sample). The fields `channels`, `feature_height` and `feature_width` are those of the first, finest tensor.
    """
    from featcodec import bitstream
    from featcodec.bitstream.rate import bits_per_pixel

    data = bitstream.read_file(path)
    side_info, stream = bitstream.unpack(data)
    standard = bitstream.nal.standard_of_stream(stream).name
    bytes_by_use = bitstream.breakdown(data)
    fields = {
        **asdict(side_info),
        "fingerprint": side_info.fingerprint.hex(),
        "qp": None if side_info.is_raw else side_info.qp,
    }
    # `tensors` has them all.
    del fields["further"]
    tensors = [
        {"channels": channels, "height": height, "width": width, "stride": side_info.letterboxed_width // width}
        for channels, height, width in side_info.tensors
    ]
    size = (len(data), side_info.original_width, side_info.original_height)
    height, width = side_info.frame_shape
    return {
        "file": str(path),
        "format_version": bitstream.format_version(data),
        "coded_as": "raw samples" if side_info.is_raw else f"{standard} intra picture",
        **fields,
        "tensors": tensors,
        "frame_width": width,
        "frame_height": height,
        **{f"{name}_bytes": value for name, value in asdict(bytes_by_use).items()},
        "total_bytes": len(data),
        "bpp": round(bits_per_pixel([size]), 6),
    }


def field_rows(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields of a file as rows of texts: name and value. Several tensors have a row each; one is in the other rows.

    Args:
        entry: a result of `describe`.
    """
    rows = []
    for name, value in entry.items():
        if name == "tensors":
            several = value if len(value) > 1 else []
            rows += [(f"tensor {number}", _tensor_text(each)) for number, each in enumerate(several, 1)]
        elif name != "file":
            rows.append((name.replace("_", " "), _text(value)))
    return rows


def byte_rows(described: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Where the bytes of some files go, as rows of texts: the use, bytes in all, bytes per file, share of all bytes.

    Args:
        described: at least one result of `describe`.
    """
    whole = sum(entry["total_bytes"] for entry in described)
    rows = []
    for part in ("slice_data", "parameter_sets", "side_info", "start_codes", "total"):
        size = sum(entry[f"{part}_bytes"] for entry in described)
        rows.append((part.replace("_", " "), str(size), f"{size / len(described):.1f}", f"{100 * size / whole:.2f} %"))
    return rows


def _tensor_text(tensor: dict[str, int]) -> str:
    return f"{tensor['channels']} channels of {tensor['width']}x{tensor['height']}, stride {tensor['stride']}"


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
