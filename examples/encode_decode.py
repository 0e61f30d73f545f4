"""The Python API on drawn street scenes: encode, decode, filter and draw detections. Needs no photographs.

    python examples/encode_decode.py

Everything that the script writes goes into the folder out-example.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from featcodec import FeatureCodec, bits_per_pixel

folder = Path("out-example")
subprocess.run(
    [sys.executable, "-m", "featcodec", "scenes", "-o", folder / "scenes", "-n", "3", "--overwrite"], check=True
)
images = sorted((folder / "scenes/images").glob("*.png"))

# The detector `scenes` and its bottleneck come with featcodec. For photographs, use the detector `yolov5n`.
codec = FeatureCodec.load("scenes")

# One image: a path, a PIL image or an array. The result is the bytes of one .266 file.
data = codec.encode(images[0], qp=38)
(folder / "scene.266").write_bytes(data)

# The decoder needs only the bytes. It finds the networks that the stream was made with.
decoder = FeatureCodec.for_stream(data)
detections = decoder.decode(data)
print(detections)

# Detections can be filtered by score and by class, indexed, iterated over and drawn.
sure = detections.filter(0.5)
print(f"{len(sure)} of {len(detections)} boxes have a score of 0.5 or more; the best is a {detections[0].name}")
for box in sure.filter(names=["car", "pedestrian"]):
    left, top, right, bottom = box.xyxy
    print(f"{box.name:12s} {box.score:.2f}  ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f})")
Image.fromarray(sure.draw(images[0])).save(folder / "boxes.png")

# The same detector without any coding.
print(f"without coding, {len(codec.detect(images[0]).filter(0.5))} boxes have a score of 0.5 or more")

# A list of images, at several QPs. A higher QP needs fewer bits.
for qp in (30, 38, 46):
    streams = codec.encode(images, qp=qp)
    found = codec.decode(streams)
    rate = bits_per_pixel((len(each), boxes.width, boxes.height) for each, boxes in zip(streams, found, strict=True))
    print(f"QP {qp}: {rate:.4f} bits per pixel, {sum(len(boxes.filter(0.5)) for boxes in found)} boxes")

print(f"written: {folder / 'scene.266'}, {folder / 'boxes.png'}")
