"""The figures of the report as SVG, drawn by matplotlib, for light and dark backgrounds.

Texts stay texts. The colours of ink and grid are CSS variables, and each figure has its own style inside. So a figure
follows light and dark mode even when it is a separate image. The colours of the curves differ clearly on both
backgrounds, and for most people with colour vision deficiency (the palette of Okabe and Ito).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from featcodec.evaluation.bd import upper_envelope
from featcodec.evaluation.curves import CurvePoint
from featcodec.evaluation.report.frontier import PAPER, SCORES
from featcodec.evaluation.report.frontier import frontier as frontier_points
from featcodec.evaluation.report.study import Series, Study

_INK, _GRID = "#123456", "#123457"
"""Placeholders, replaced in the finished SVG."""
_STYLE = (
    "<style>:root{--figure-ink:#333;--figure-grid:#e2e2e2}"
    "@media(prefers-color-scheme:dark){:root{--figure-ink:#ccc;--figure-grid:#3a3a3a}}</style>"
)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#8f5fbf")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SIZE = 5.6, 3.9
_LONGEST_LABEL = 40
_AXES = {"ap50": "AP50, %", "ap": "AP, %"}
_RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "featcodec",
    "font.size": 11,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
}


def rate_accuracy(study: Study) -> str | None:
    """Draw Fig. 4a: bits per pixel against accuracy, with the 95 % intervals that were measured.

    Returns:
        an SVG document, or None if nothing was measured.
    """
    if not study.series:
        return None

    def draw(axes: Any) -> None:
        axes.set_xscale("log")
        for series, look in _looks(study.series):
            points = series.curve.points
            axes.plot([one.rate for one in points], [one.accuracy for one in points], **look)
            if study.metric == "ap50":
                _draw_intervals(axes, points, look["color"])
        detector = study.detector
        if detector is not None:
            level = float(detector[study.metric])
            axes.axhline(level, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"uncoded detector {level:.1f}", (0.01, level), xycoords=("axes fraction", "data"),
                xytext=(0, 3), textcoords="offset points", fontsize=9.5,
            )  # fmt: skip
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("bits per pixel of the original image, logarithmic")

    return _figure(study, draw)


def privacy_accuracy(study: Study) -> str | None:
    """Draw Fig. 4b: the attacker's PSNR on decoded tensors against accuracy.

    Returns:
        an SVG document, or None if no attack was measured.
    """
    if not any(_attacked(series) for series in study.series):
        return None

    def draw(axes: Any) -> None:
        for series, look in _looks(study.series):
            points = _attacked(series)
            if points:
                axes.plot([one.psnr for one in points], [one.accuracy for one in points], **look)
        axes.set_xlabel("attacker's PSNR, dB (lower is more private)")

    return _figure(study, draw)


def frontier(study: Study) -> str | None:
    """Draw what each bottleneck costs in accuracy against what it takes from the strongest attack, uncompressed.

    Returns:
        an SVG document, or None if no bottleneck was attacked without compression.
    """
    points = frontier_points(study)
    if not points:
        return None

    def draw(axes: Any, score: str, name: str) -> None:
        for index, point in enumerate((*points, PAPER) if study.metric == "ap50" else points):
            if score not in point.scores:
                continue
            look = {"marker": _MARKERS[index % len(_MARKERS)], "color": _COLOURS[index % len(_COLOURS)]}
            if point is PAPER:
                look = {"marker": "*", "color": _INK}
            axes.plot(
                [point.scores[score]], [point.accuracy], linestyle="", markersize=8, label=_legible(point.label), **look
            )
        axes.plot([0], [0], linestyle="", marker="+", markersize=9, color=_INK, label="no bottleneck")
        axes.set_xlabel(f"change of the attacker's {name}, dB")
        axes.margins(0.12)

    panels = [partial(draw, score=score, name=name) for score, name in SCORES.items()]
    return _drawn(panels, f"change of {_AXES[study.metric].replace('%', 'points')}", (1.4 * _SIZE[0], 1.2 * _SIZE[1]))


def _looks(series: Sequence[Series]) -> list[tuple[Series, dict[str, Any]]]:
    """Choose the colour and the marker of each curve. Anchors are dashed."""
    return [
        (
            one,
            {
                "color": _COLOURS[index % len(_COLOURS)],
                "marker": _MARKERS[index % len(_MARKERS)],
                "markersize": 4.5,
                "linewidth": 1.3 if one.is_anchor else 2,
                "linestyle": "--" if one.is_anchor else "-",
                "label": _legible(one.label),
            },
        )
        for index, one in enumerate(series)
    ]


def _legible(label: str) -> str:
    """Return a label for a figure: printable, not too long, and not like "_...", which matplotlib hides."""
    text = "".join(character if character.isprintable() else " " for character in label)
    if len(text) > _LONGEST_LABEL:
        text = text[: _LONGEST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def _attacked(series: Series) -> list[CurvePoint]:
    """Return the points of the upper envelope that have a PSNR. BD-PSNR uses the same points."""
    return [point for point in upper_envelope(series.curve.points) if point.psnr is not None]


def _draw_intervals(axes: Any, points: Sequence[CurvePoint], colour: str) -> None:
    known = [point for point in points if point.row.get("ap50_low") and point.row.get("ap50_high")]
    if known:
        axes.vlines(
            [point.rate for point in known],
            [float(point.row["ap50_low"]) for point in known],
            [float(point.row["ap50_high"]) for point in known],
            color=colour, linewidth=1, alpha=0.4,
        )  # fmt: skip


def _figure(study: Study, draw: Any) -> str:
    return _drawn([draw], _AXES[study.metric])


def _drawn(panels: Sequence[Any], y_label: str, size: tuple[float, float] = _SIZE) -> str:
    """Draw panels side by side, with one y axis and one legend."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        # The program that shows the figure uses its own fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        for axes, draw in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            draw(axes)
            axes.grid(visible=True, linewidth=0.7)
            axes.set_axisbelow(True)
        figure.axes[0].set_ylabel(y_label)
        if len(panels) > 1:  # single points may be anywhere, also under a legend
            handles = figure.axes[-1].get_legend_handles_labels()
            figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)
        else:
            figure.axes[-1].legend(loc="lower right", frameon=False, fontsize=9.5)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(_INK, "var(--figure-ink, #333)").replace(_GRID, "var(--figure-grid, #ddd)")
    svg = re.sub(r' width="[\d.]+pt"', "", re.sub(r' height="[\d.]+pt"', "", svg, count=1), count=1)
    return re.sub(r"(<svg[^>]*>)", lambda match: match[1] + _STYLE, svg, count=1)
