#!/usr/bin/env bash
# Prints rate and accuracy at several QPs, with the commands encode, decode and evaluate only.
#
#   examples/qp_sweep.sh [IMAGES ANNOTATIONS.json DETECTOR [QP...]]
#
# Without arguments, the script draws 24 street scenes and uses the detector `scenes`, which comes with featcodec.
# BOTTLENECK: name or checkpoint, or none to code the features directly (default: what ships for the detector).
# OUT: output folder (default: out-sweep). Use a new folder for other images or another bottleneck.
set -euo pipefail
featcodec=$(command -v featcodec || echo .venv/bin/featcodec)
out=${OUT:-out-sweep}
if [ $# -eq 0 ]; then
    [ -e "$out/scenes/annotations.json" ] || "$featcodec" scenes -o "$out/scenes" -n 24 --seed 7 >&2
    set -- "$out/scenes/images" "$out/scenes/annotations.json" scenes
fi
[ $# -ge 3 ] || { sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2; exit 2; }
images=$1 annotations=$2
networks=(--detector "$3" --bottleneck "${BOTTLENECK:-auto}")
shift 3
[ $# -gt 0 ] || set -- 34 36 38 40 42 44
for qp in "$@"; do
    work=$out/qp$qp
    "$featcodec" encode "$images" -o "$work/streams" "${networks[@]}" --qp "$qp" >&2
    "$featcodec" decode "$work/streams" -o "$work/detections.json" "${networks[@]}" --annotations "$annotations" \
        --overwrite >&2
    printf 'QP %s  ' "$qp"
    "$featcodec" evaluate "$work/detections.json" --annotations "$annotations" --streams "$work/streams"
done
