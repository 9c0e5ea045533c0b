#!/usr/bin/env bash
# A short run of every fuzz target: smoke.sh CARGO_FUZZ SECONDS_EACH
# Without a sanitizer: the crate forbids `unsafe`, what is looked for are panics and broken invariants.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo_fuzz=$1 seconds=$2
export RUSTUP_TOOLCHAIN=nightly
export CARGO_PROFILE_RELEASE_DEBUG=false
log=$(mktemp)
trap 'rm -f "$log"' EXIT

"$cargo_fuzz" fuzz build --fuzz-dir tests/fuzz --sanitizer none
for target in $("$cargo_fuzz" fuzz list --fuzz-dir tests/fuzz); do
    if ! "$cargo_fuzz" fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" -- \
        -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs without a finding"
done
