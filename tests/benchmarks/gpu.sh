#!/usr/bin/env bash
# Speed and memory of training steps on one GPU, in at most 8 minutes; `--cpu` rehearses it on tiny models.
#
#   pip install -e '.[test,kernels]' && bash tests/benchmarks/gpu.sh | tee gpu.md
#   bash tests/benchmarks/gpu.sh --cpu
#
# Prints the GPU and the versions of all packages that matter, then a row for each case, with what `plan` predicts.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv,noheader
exec timeout --signal=INT 480 "${PYTHON:-python}" tests/benchmarks/gpu_steps.py "$@"
