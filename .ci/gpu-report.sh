#!/usr/bin/env bash
# Figures of this machine's GPU: adapters, GPU tests, per-stage times, a minute of training, rendering.
#
# usage: gpu-report.sh KILN OUT [DATASET] [PEERS] [OBJECTS]
#   KILN     the release binary; a copy of the GPU tests named kiln-gpu-tests beside it (what `cargo test --release --test
#            gpu --no-run` builds) is run too
#   OUT      folder for the results; each is written as its step ends
#   DATASET  Blender-format folder (default: the built-in scene)
#   PEERS    folder with PyTorch programs to compare with, torch_train.py METHOD DATASET --seconds S --every S --device D,
#            run afterwards on the same data
#   OBJECTS  folder of objects to learn an initialisation from
# Each step has a time limit, and a failed one does not stop the rest.
set -u
kiln=$(realpath "$1"); out=$2; dataset=${3:-}; peers=${4:-}; objects=${5:-}
mkdir -p "$out"; out=$(realpath "$out")
failed=0

step() { # name seconds command...
    local name=$1 limit=$2; shift 2
    printf '== %s\n' "$name" >&2
    local start; start=$(date +%s)
    timeout "$limit" "$@" >"$out/$name.out" 2>"$out/$name.err"
    local code=$?
    printf '{"step":"%s","exit_code":%d,"seconds":%d}\n' "$name" "$code" "$(($(date +%s) - start))" | tee -a "$out/steps.jsonl" >&2
    [ "$code" -eq 0 ] || { failed=1; tail -n 3 "$out/$name.err" >&2; }
}

: >"$out/steps.jsonl"
step devices 60 "$kiln" devices --json
tests=$(dirname "$kiln")/kiln-gpu-tests
[ -x "$tests" ] && step gpu-tests 240 env KILN_REQUIRE_GPU=1 "$tests" --test-threads 1
step bench 120 "$kiln" bench --json --method ngp
step bench-nerf 120 "$kiln" bench --json --method nerf
step bench-kilonerf 120 "$kiln" bench --json --method kilonerf
step bench-meta 120 "$kiln" bench --json --stage meta --method learnit
if [ -n "$dataset" ]; then
    step train 180 "$kiln" train "$dataset" --out "$out/run" --force --method ngp --seconds 60 --json
    step train-nerf 180 "$kiln" train "$dataset" --out "$out/run-nerf" --force --method nerf --seconds 60 --eval-views 5 --json
    step distill 240 "$kiln" distill "$out/run" --out "$out/run-kilonerf" --force --distill-steps 2000 --seconds 120 --json
    step render 180 "$kiln" bench --json --render "$out/run-nerf" "$out/run" "$out/run-kilonerf"
    step images 120 "$kiln" render "$out/run" --turntable 8 --out "$out/orbit.gif" --channels rgb,normal
    [ -n "$peers" ] && step peer 200 python3 "$peers/torch_train.py" ngp "$dataset" --seconds 60 --every 30 --device cuda
else
    step demo 240 "$kiln" demo --out "$out/demo" --json
fi
if [ -n "$objects" ]; then
    step meta 300 "$kiln" meta "$objects" --out "$out/meta" --force --method learnit --seconds 180 --json
    step meta-eval 240 "$kiln" meta-eval "$out/meta" --objects 5 --steps 0,32,512 --json
fi
exit "$failed"
