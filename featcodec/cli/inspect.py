"""featcodec inspect: what stands in a bitstream."""

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
    """Show the side info of bitstreams and where their bytes go. Needs no weights.

    SRC are .266 files, folders (searched recursively) or glob patterns.
    """
    from featcodec.bitstream import STREAM_SUFFIX
    from featcodec.errors import BitstreamError
    from featcodec.paths import expand_sources

    described = []
    files = expand_sources(sources, frozenset({STREAM_SUFFIX}), "bitstreams")
    for path in (source.path for source in files):
        try:
            described.append(describe(path))
        except BitstreamError as error:
            complain(f"{error}" if str(path) in str(error) else f"{path}: {error}")
    if as_json:
        print_json(described)
    else:
        for entry in described:
            rows = [(name.replace("_", " "), _text(value)) for name, value in entry.items() if name != "file"]
            print_table(entry["file"], ("field", "value"), rows)
    return 0 if len(described) == len(files) else 1


def describe(path: Path) -> dict[str, Any]:
    """Everything that stands in a bitstream file, as plain values."""
    from featcodec import bitstream
    from featcodec.rate import bits_per_pixel

    data = bitstream.read_file(path)
    header, _ = bitstream.unpack(data)
    bytes_by_use = bitstream.breakdown(data)
    fields = {**asdict(header), "fingerprint": header.fingerprint.hex(), "qp": None if header.is_raw else header.qp}
    size = (len(data), header.original_width, header.original_height)
    height, width = header.mosaic_shape
    return {
        "file": str(path),
        "format_version": bitstream.VERSION,
        "coded_as": "raw samples" if header.is_raw else "VVC intra picture",
        **fields,
        "mosaic_width": width,
        "mosaic_height": height,
        **{f"{name}_bytes": value for name, value in asdict(bytes_by_use).items()},
        "total_bytes": len(data),
        "bpp": round(bits_per_pixel([size]), 6),
    }


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
