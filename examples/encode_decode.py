"""One image through the Python API: encode, decode, and what the coding changed.

.venv/bin/python examples/encode_decode.py IMAGE [WEIGHTS.pt]
"""

from __future__ import annotations

import sys
from pathlib import Path

from featcodec import FeatureCodec
from featcodec.bitstream.rate import bits_per_pixel
from featcodec.images.reading import read_image

if len(sys.argv) < 2:
    sys.exit(__doc__)
image = read_image(Path(sys.argv[1]))
codec = FeatureCodec.load(sys.argv[2] if len(sys.argv) > 2 else "yolov5n")

data = codec.encode(image, qp=38)
detections = codec.decode(data)

height, width = image.shape[:2]
print(f"{width}x{height} pixels, {len(data)} bytes, {bits_per_pixel([(len(data), width, height)]):.4f} bpp")
for title, found in (("uncoded detector:", codec.detect(image)), ("from the bitstream:", detections)):
    print(title)
    for box, score, class_id in zip(found.xyxy, found.scores, found.class_ids, strict=True):
        if score >= 0.4:
            print(f"  {found.names[class_id]:15s} {score:.2f}  {box.round().astype(int).tolist()}")
