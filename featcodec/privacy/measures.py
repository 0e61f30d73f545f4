"""The scores of an audit, in the order in which they are shown. Without torch.

All are means over images, or shares of what can be recognised on the originals.
"""

from __future__ import annotations

import math

from featcodec.privacy.readers import Measure

PSNR = Measure("psnr", "PSNR, dB", is_share=False)
EDGE_PSNR = Measure("edge_psnr", "edge-PSNR, dB", is_share=False)
SSIM = Measure("ssim", "SSIM", is_share=False)
MS_SSIM = Measure("ms_ssim", "MS-SSIM", is_share=False)
LPIPS = Measure("lpips", "LPIPS", is_share=False, rises=False)
PLATE_CHARACTERS = Measure("plate_characters", "characters read on plates")
OCR_CHARACTERS = Measure("ocr_characters", "characters read on plates by rapidocr")
FACES = Measure("faces", "faces found")

MEASURES = (PSNR, EDGE_PSNR, SSIM, MS_SSIM, LPIPS, PLATE_CHARACTERS, OCR_CHARACTERS, FACES)

_ABSENT = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def title_of(measure: Measure) -> str:
    """Return the words for a heading. Without a remark, a higher value means that the attacker sees more."""
    return measure.title if measure.rises else f"{measure.title} (lower: sees more)"


def written(measure: Measure, value: float) -> str:
    """Write a score for people: "20.43", "0.412" or "14.7 %"; a dash for NaN."""
    if math.isnan(value):
        return _ABSENT
    return f"{100 * value:.1f} %" if measure.is_share else f"{value:.{_digits(measure)}f}"


def written_difference(measure: Measure, value: float) -> str:
    """Write the difference of two scores for people, with its sign; a dash for NaN."""
    if math.isnan(value):
        return _ABSENT
    if measure.is_share:
        return f"{100 * value:+.1f} points".replace("-", _MINUS)
    return f"{value:+.{_digits(measure)}f}".replace("-", _MINUS)


def _digits(measure: Measure) -> int:
    return 2 if measure.title.endswith("dB") else 3
