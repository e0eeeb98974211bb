#!/bin/sh
# What a GPU gives Culling, in one go of at most 12 minutes: where the student's nodes run, golden frames, frames/s, swaps, teacher,
# training and memory; then, with the time that is left, trains the bundled pair. Most telling parts first.
#
#   tests/bench/gpu.sh [--out DIR] [--minutes N] [--parts a,b,...] [--model FILE.onnx] [--wheels DIR] [--data DIR] [--pack DIR] [--dry]
#   tests/bench/gpu.sh --gather DIR [--python 3.12] [--skip NAME]... [--data DIR] [--piece 48]
#
#   --out DIR      where everything is written (runs/gpu): PART.txt, PART.json, PART.gpu.csv, and a line for each part in summary.txt
#   --minutes N    budget (9); a part that needs more than is left is skipped, and one that takes longer is stopped
#   --parts a,b    only these, in this order
#   --model FILE   a student as ONNX; else the two bundled ones, exported first
#   --wheels DIR   what --gather wrote, or a folder of wheels: an environment is made of it, without a network
#   --data DIR     to train the pair on (what --gather packed): labels/*.jsonl, whose sources lie below DIR; judge/NAME.jsonl with its
#                  video beside it, to measure by; resnet18.safetensors and resnet50.safetensors to start from, else the bundled pair
#   --pack DIR     at the end, write all results but checkpoints there as an archive, in pieces of 15 MiB
#   --dry          the same parts in tiny sizes on the CPU, to see that the script works; no figure says anything about a GPU
#   --gather DIR   beforehand, with a network: pack what such a machine lacks (tests/bench/gpu_carry.py)
#
# The exit code is 0 if all parts that ran were ok, 1 if one failed, 2 if the words were wrong. Without --wheels, PYTHON
# (.venv/bin/python) runs it; with it, PYTHON (python3) makes the environment.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
known="machine export placement golden speed graphs-free graphs-fixed edge teacher train reloads swap tensorrt overhead memory pair"

usage() { sed -n '2,/^set -u/{s/^# \{0,1\}//p;}' "$0"; }
fail() { echo "gpu.sh: $1" >&2; exit 2; }
whole() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
now() { date +%s; }

# Seconds that a part needs at least, and may take at most, on a GPU; a dry one is not begun with less than 5.
bounds() {
    case $1 in
        machine) echo 0 30 ;;
        export) echo 20 150 ;;
        placement | golden | graphs-free | graphs-fixed | overhead) echo 15 60 ;;
        speed | edge) echo 45 150 ;;
        teacher | train | memory | reloads) echo 25 90 ;;
        swap) echo 60 200 ;;
        tensorrt) echo 60 150 ;;
        pair) echo 90 3600 ;;
    esac
}

# The parts. Each is run by this script in a process of its own, so that it can be stopped.

part_machine() {
    if command -v nvidia-smi >/dev/null; then nvidia-smi; else echo "nvidia-smi: not there"; fi
    "$PYTHON" - <<'PROBE'
import os
import platform

import onnxruntime as ort
import torch

print(f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores")
print(f"torch {torch.__version__}, cuda {torch.cuda.is_available()}, onnxruntime {ort.__version__}")
print("onnxruntime's providers:", ", ".join(ort.get_available_providers()))
PROBE
}

part_export() {
    if [ "$DRY" = 1 ]; then
        culling export --weights cloud/weights/yolox-nano.safetensors --out "$OUT/yolox-nano.onnx"
    else
        culling export --out "$OUT/student.onnx" &&
            culling export --weights cloud/weights/yolox-nano.safetensors --out "$OUT/yolox-nano.onnx"
    fi
}

part_placement() { gpu placement $(models); }
part_golden() { if [ "$DRY" = 1 ]; then gpu golden $(models) --frames 2; else gpu golden $(models) --frames 24; fi; }
part_speed() {
    if [ "$DRY" = 1 ]; then gpu speed $(models) --cameras 1,2 --frames 4 --rounds 1; else gpu speed $(models) --frames 96; fi
}
part_graphs_free() { gpu graphs $(models) --sizes free --frames "$few"; }
part_graphs_fixed() { gpu graphs $(models) --sizes fixed --frames "$few"; }
part_tensorrt() { gpu tensorrt $(models) --frames 64 --cache "$OUT/tensorrt-cache"; }
part_edge() {
    if [ "$DRY" = 1 ]; then bench edge --model "$(student)" --cameras 1,2 --frames 8 --rounds 1
    else bench edge --model "$(student)" --cameras 1,4,16 --frames 480 --rounds 2; fi
}
part_teacher() {
    if [ "$DRY" = 1 ]; then bench teacher --frames 1 --batch 1 --rounds 1; else bench teacher --frames 64 --batch 8; fi
}
part_train() {
    if [ "$DRY" = 1 ]; then bench train --steps 1 --batch 1 --rounds 1; else bench train --steps 30 --batch 16 --rounds 3; fi
}
part_swap() {
    if [ "$DRY" = 1 ]; then bench swap --model "$(student)" --swaps 2 --rounds 1
    else bench swap --model "$(student)" --swaps 12 --rounds 2; fi
}
part_reloads() { if [ "$DRY" = 1 ]; then gpu reloads "$(student)" --count 4; else gpu reloads "$(student)" --count 50; fi; }
part_overhead() {
    if [ "$DRY" = 1 ]; then bench overhead --model "$(student)" --frames 16 --rounds 1; else bench overhead --model "$(student)"; fi
}
part_memory() {
    if [ "$DRY" = 1 ]; then bench memory edge --model "$(student)" --cameras 2 --frames 2 --fps 2
    else bench memory edge --model "$(student)" --cameras 16 --frames 60 --fps 10; fi
}

# The pair at short sides of 480 and more. How far the time reaches is not known beforehand: the rate stays up until the last
# fifth, which is trained after that, from the checkpoint. One that was stopped goes on where the same --out has its checkpoint.
part_pair() {
    if [ "$DRY" = 1 ]; then
        mkdir -p "$OUT/dry/labels" && cp common/clip/campus.mp4 "$OUT/dry/" &&
            "$PYTHON" tests/bench/gpu.py labels "$OUT/dry/labels/campus.jsonl" --model "$(student)" || return 1
        DATA=$OUT/dry
    fi
    [ -d "$DATA/labels" ] || { echo "no labels to learn from: give --data DIR"; return 3; }
    mkdir -p "$OUT/pair"
    ended=0
    half=$(((DEADLINE - $(now)) / 2))
    train_one student "$half" --batch "$batch" --lr 0.02 || ended=1
    train_one teacher $((DEADLINE - $(now) - 10)) --batch "$batch" --lr 0.01 --frozen 2 || ended=1
    return $ended
}

train_one() { # KIND SECONDS FLAGS...
    kind=$1 seconds=$2
    shift 2
    file=$OUT/pair/$kind.safetensors checkpoint=$OUT/pair/$kind.checkpoint
    trunk=$DATA/resnet18.safetensors
    [ "$kind" = student ] || trunk=$DATA/resnet50.safetensors
    [ -f "$trunk" ] || trunk=cloud/weights/$kind.safetensors
    for labelled in "$DATA"/labels/*.jsonl; do set -- "$@" --labels "$labelled"; done
    set -- "$@" --images "$DATA" --init "$trunk" --out "$file" --checkpoint-every "$every"
    if [ "$DRY" = 1 ]; then set -- "$@" --canvas 96x96
    else
        set -- "$@" --canvas 640x480 --canvas 768x576 --processes 8 --mosaic 0.3 --fill 0.3 --stretch 0.2 --tilt 0.1 --colour 0.2 \
            --noise 0.1 --paste 0.2 --balance 0.1 --average 0.998
    fi
    [ "$DRY" = 0 ] || [ "$seconds" -le 40 ] || seconds=40
    echo "$kind: from $trunk, $seconds s"
    if [ -f "$file" ]; then echo "$kind: is there already"; return 0; fi
    timeout -k 5 $((seconds * 7 / 10)) "$PYTHON" -m culling.common.cli pretrain "$kind" "$@" --steps 1000000 --cooldown 1
    reached=$("$PYTHON" tests/bench/gpu.py step "$checkpoint")
    echo "$kind: $reached steps at full rate"
    [ "$reached" -gt 0 ] || return 1
    last=$((reached / 5 + 1))
    culling pretrain "$kind" "$@" --steps $((reached + last)) --cooldown "$last" || return 1
    ls -l "$file"
    for judged in "$DATA"/judge/*.jsonl; do
        [ -f "$judged" ] || continue
        for video in "${judged%.jsonl}".mp4 "${judged%.jsonl}".avi; do
            [ -f "$video" ] || continue
            for weights in "$file" "cloud/weights/$kind.safetensors"; do
                culling evaluate --model "$weights" --video "$video" --labels "$judged"
            done
        done
    done
}

# What they share

culling() { "$PYTHON" -m culling.common.cli "$@"; }
gpu() { kind=$1; shift; "$PYTHON" tests/bench/gpu.py "$kind" "$@" --json "$OUT/$PART.json" $dry; }
bench() { culling bench "$@" --json >"$OUT/$PART.json" && "$PYTHON" tests/bench/gpu.py show "$OUT/$PART.json" $dry; }
models() { if [ -n "$MODEL" ]; then echo "$MODEL"; else ls "$OUT"/student.onnx "$OUT"/yolox-nano.onnx 2>/dev/null; fi; }
student() { models | head -n 1; }

if [ "${1:-}" = --inside ]; then
    PART=$2
    cd "$root" || exit 1
    if [ "$DRY" = 1 ]; then dry=--dry few=4 batch=1 every=1; else dry= few=200 batch=16 every=15; fi
    "part_$(echo "$PART" | tr - _)"
    exit $?
fi

# What is asked for

OUT=runs/gpu MINUTES=9 PARTS= MODEL= WHEELS= DATA= PACK= DRY=0
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --gather) [ $# -ge 2 ] || fail "--gather DIR: name a folder"; shift; exec "${PYTHON:-python3}" "$here/gpu_carry.py" gather "$@" ;;
        --dry) DRY=1; shift; continue ;;
        --out | --minutes | --parts | --model | --wheels | --data | --pack) [ $# -ge 2 ] || fail "$1: needs a value" ;;
        *) fail "$1: unknown; see --help" ;;
    esac
    case $1 in
        --out) OUT=$(whole "$2") ;;
        --minutes) MINUTES=$2 ;;
        --parts) PARTS=$(echo "$2" | tr , ' ') ;;
        --model) MODEL=$(whole "$2") ;;
        --wheels) WHEELS=$(whole "$2") ;;
        --data) DATA=$(whole "$2") ;;
        --pack) PACK=$(whole "$2") ;;
    esac
    shift 2
done
budget=$(awk -v n="$MINUTES" 'BEGIN { if (n !~ /^[0-9]+(\.[0-9]+)?$/ || n > 12) exit 1; printf "%d", 60 * n }') ||
    fail "--minutes $MINUTES: expected a number up to 12"
for one in $PARTS; do
    case " $known " in *" $one "*) ;; *) fail "--parts $one: expected some of $known" ;; esac
done
[ -z "$MODEL" ] || [ -f "$MODEL" ] || fail "--model $MODEL: no such file"
OUT=$(whole "$OUT")
DEADLINE=$(($(now) + budget))

# The run

mkdir -p "$OUT" || exit 1
note() { echo "$*" | tee -a "$OUT/summary.txt"; } # a later call adds to it
[ "$DRY" = 0 ] || note "DRY: on the CPU, in tiny sizes; no figure says anything about a GPU"
failed=0 exported=0

if [ -n "$WHEELS" ]; then
    begun=$(now)
    if PYTHON=$("${PYTHON:-python3}" "$here/gpu_carry.py" ready "$WHEELS" "$OUT/machine"); then
        note "environment ok $(($(now) - begun))"
    else
        note "environment failed $(($(now) - begun))"
        exit 1
    fi
    [ -n "$DATA" ] || [ ! -d "$OUT/machine/packed/data" ] || DATA=$OUT/machine/packed/data
else
    [ -n "${PYTHON:-}" ] || { PYTHON=python3; [ ! -x "$root/.venv/bin/python" ] || PYTHON=$root/.venv/bin/python; }
fi
export PYTHON OUT MODEL DATA DRY DEADLINE PYTHONUNBUFFERED=1

sample() { # what the GPU does, twice a second, until it is killed
    exec nvidia-smi --query-gpu=utilization.gpu,utilization.memory,memory.used,power.draw --format=csv,noheader,nounits -lms 500
}

used() { # what those samples say, from the first to the last at which the GPU did anything
    awk -F', *' 'NF >= 4 { l = $3; if (!seen) f = $3; seen = 1; if ($3 > g) g = $3; if ($1 > m) m = $1
        if ($1 > 0 || n) { n++; u += $1; p += $4 } if ($1 > 0) { N = n; U = u; P = p } }
        END { if (N) printf "GPU: busy %.0f %% of the time between its first work and its last (at most %.0f), %.0f W\n", U / N, m, P / N
            if (seen) printf "GPU: memory %.0f MiB at first, %.0f at most, %.0f at last\n", f, g, l }' "$1"
}

run_part() {
    set -- "$1" $(bounds "$1")
    part=$1 least=$2 most=$3 left=$((DEADLINE - $(now)))
    if [ "$DRY" = 1 ] && [ "$least" -gt 5 ]; then least=5; fi
    if [ "$left" -le "$least" ]; then
        note "$part skipped 0 (it needs more than $least s, $left are left)"
        return
    fi
    case $part in
        machine | export | teacher | train) ;;
        *) [ -n "$(models)" ] || { note "$part skipped 0 (there is no student: export did not make one)"; return; } ;;
    esac
    [ "$most" -le "$left" ] || most=$left
    begun=$(now) sampler=
    if [ "$DRY" = 0 ] && command -v nvidia-smi >/dev/null; then
        sample >"$OUT/$part.gpu.csv" 2>/dev/null &
        sampler=$!
    fi
    timeout -k 5 "$most" sh "$here/gpu.sh" --inside "$part" >"$OUT/$part.txt" 2>&1
    code=$?
    if [ -n "$sampler" ]; then
        kill "$sampler" 2>/dev/null
        wait "$sampler" 2>/dev/null
        used "$OUT/$part.gpu.csv" >>"$OUT/$part.txt"
    fi
    tail -n 24 "$OUT/$part.txt"
    took=$(($(now) - begun))
    case $code in
        0) note "$part ok $took" ;;
        3) note "$part skipped $took ($(tail -n 1 "$OUT/$part.txt"))" ;;
        124 | 137) note "$part failed $took (stopped after $most s)"; failed=1 ;;
        *) note "$part failed $took (exit code $code)"; failed=1 ;;
    esac
}

for one in ${PARTS:-$known}; do
    case $one in
        export) [ "$exported" = 0 ] || continue; exported=1 ;;
        machine | teacher | train) ;;
        *) [ -n "$(models)" ] || [ "$exported" = 1 ] || { exported=1; run_part export; } ;;
    esac
    if [ "$one" = export ] && [ -n "$(models)" ]; then note "export skipped 0 (the students are there)"; else run_part "$one"; fi
done

if [ -n "$PACK" ]; then
    mkdir -p "$PACK"
    (cd "$OUT" && tar czf - --exclude='*.checkpoint' --exclude=./machine --exclude='*.onnx' --exclude=./tensorrt-cache --exclude=./dry .) |
        split -b 15M - "$PACK/results.tar.gz."
    note "packed: cat $(basename "$PACK")/results.tar.gz.* | tar xz"
fi
exit $failed
