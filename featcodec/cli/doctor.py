"""featcodec doctor: check this machine."""

from __future__ import annotations

from dataclasses import asdict

import rich_click as click

from featcodec.cli.console import print_json, print_table
from featcodec.cli.options import json_option


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Check the video codecs, weights and devices of this machine. Each video codec codes a test picture."""
    from featcodec.cli.examination import examine

    checks = list(examine())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table("", ("", "status", "detail"), [(check.topic, check.status, check.detail) for check in checks])
    return 1 if any(check.status == "broken" for check in checks) else 0
