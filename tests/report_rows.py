"""What a report is made of: the rows of sweeps, with round numbers, and attack folders with small pictures."""

from __future__ import annotations

from pathlib import Path

from pictures import save_texture

from featcodec.evaluation.points import COLUMNS, PointFile
from featcodec.privacy.attack_results import AttackResult, add_attack_results

DETECTOR, COMPACT = "ab" * 8, "c0" * 8
USUAL, NARROW, WIDE = ("-3", "3"), ("-1.5", "1.5"), ("-6", "6")

Points = tuple[tuple[str, str, str], ...]
"""(QP or quality, bpp, AP50) each."""

CURVES: dict[str, Points] = {
    "compact": (("34", "0.4", "58.8"), ("38", "0.2", "55.5"), ("40", "0.1", "50"), ("42", "0.05", "41")),
    "latent": (("34", "0.9", "59.5"), ("38", "0.5", "56"), ("40", "0.3", "51"), ("42", "0.15", "40")),
    "input-vvc": (("30", "0.6", "58"), ("34", "0.35", "53.5"), ("38", "0.2", "45")),
    "input-jpeg": (("20", "0.3", "30"), ("80", "1.5", "57")),
}


def append(path: Path, **values: str) -> None:
    """A row of `featcodec sweep` with these values; what is needed and not given is plausible."""
    row = {
        **dict.fromkeys(COLUMNS, ""),
        **{"fingerprint": DETECTOR, "image_size": "512", "dataset": "da" * 8, "images": "64", "version": "0.1.0"},
        **{"bytes": "20000", "header_bytes": "1000", "slice_bytes": "19000"},
        **dict.fromkeys(("front_end_seconds", "encode_seconds", "decode_seconds", "back_end_seconds"), "1.25"),
        **values,
    }
    if "ap" not in values:
        row["ap"] = row["ap50"] and f"{max(0.0, float(row['ap50']) - 20):.9g}"
    PointFile(path).append(row)


def append_curve(
    path: Path, name: str, points: Points | None = None, clip: tuple[str, str] | None = None, **values: str
) -> None:
    """One of `CURVES`, or other points under its name."""
    clip = clip or {"compact": USUAL, "latent": ("-0.2786", "3")}.get(name, ("", ""))
    common = {"method": name, "clip_low": clip[0], "clip_high": clip[1], "codec": "ffmpeg", "preset": "faster"}
    if name == "compact":
        common |= {"method": "bottleneck", "bottleneck": name, "fingerprint": COMPACT}
    for parameter, bpp, ap50 in CURVES[name] if points is None else points:
        where = "quality" if name == "input-jpeg" else "qp"
        append(path, **{**common, where: parameter, "bpp": bpp, "ap50": ap50, **values})


def append_uncoded(path: Path) -> None:
    """The detector alone, behind the bottleneck, and direct features as 8-bit samples."""
    measured = {"psnr": "20.25", "edge_psnr": "25.5", "recnet": "11" * 8, "ap50_low": "55.25", "ap50_high": "66.75"}
    append(path, method="uncoded", bpp="23", ap50="60.125", ap="40.5", **measured)
    measured = {"psnr": "18.5", "edge_psnr": "25.25", "recnet": "22" * 8}
    compact = {"bottleneck": "compact", "fingerprint": COMPACT}
    append(path, method="uncoded", bpp="7", ap50="58.5", ap="41", **compact, **measured)
    append(
        path, method="latent", codec="none", clip_low="-0.2786", clip_high="3", bits="8", bpp="6", ap50="60", ap="40"
    )


def make_points(path: Path) -> Path:
    """20 rows: the uncoded ones (1-3), four curves (4-16) with PSNR on ours, the first one with other clip ranges."""
    append_uncoded(path)
    for name, points in CURVES.items():
        for number, point in enumerate(points):
            ours = name in ("compact", "latent")
            psnr = {"psnr": str((17 if name == "compact" else 19) - number), "edge_psnr": "22"} if ours else {}
            append_curve(path, name, (point,), **psnr)
    append_curve(path, "compact", (("34", "0.8", "58"), ("42", "0.4", "54")), NARROW)
    append_curve(path, "compact", (("34", "0.2", "56"), ("42", "0.01", "20")), WIDE)
    return path


def make_attack(folder: Path, originals: Path, label: str, names: tuple[str, ...] = ("a", "b"), qp: str = "") -> Path:
    """An output folder of `featcodec invert`, 48x32 pixels per picture; the originals are of twice that size."""
    results = []
    for number, name in enumerate(names):
        original = save_texture(originals / f"{name}.png", 96, 64, seed=number)
        save_texture(folder / f"{name}.png", 48, 32, seed=number + len(label))
        psnr, edge_psnr = 15.126 + number, 20.5
        results.append(AttackResult(f"{name}.png", str(original), label, COMPACT, "22" * 8, qp, psnr, edge_psnr))
    add_attack_results(folder, results)
    return folder
