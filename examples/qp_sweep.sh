#!/usr/bin/env bash
# Rate-accuracy points over QPs, from the three commands alone.
#
#   [BOTTLENECK=none] examples/qp_sweep.sh IMAGES ANNOTATIONS.json WEIGHTS.pt [QP...]
set -euo pipefail
images=$1 annotations=$2 detector=$3
shift 3
featcodec=$(command -v featcodec || echo .venv/bin/featcodec)
[ $# -gt 0 ] || set -- 34 36 38 40 42 44
for qp in "$@"; do
    out=out-sweep/qp$qp
    "$featcodec" encode "$images" -o "$out/streams" --detector "$detector" --bottleneck "${BOTTLENECK:-auto}" --qp "$qp" >&2
    "$featcodec" decode "$out/streams" -o "$out/detections.json" --detector "$detector" --overwrite >&2
    printf 'QP %s  ' "$qp"
    "$featcodec" evaluate "$out/detections.json" --annotations "$annotations" --streams "$out/streams"
done
