#!/usr/bin/env bash
# What must hold of a packages' binary: tests/appliance/binary.sh TARGET, after cross/dist.sh TARGET.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:?usage: $0 TARGET}
binary=target/$target/dist/trailspool

size=$(stat -c %s "$binary")
echo "$binary: $size bytes"
[ "$size" -le 5000000 ] || { echo "more than 5,000,000 bytes" >&2; exit 1; }

# What a build for tests has, and no path of the machine that built it.
forbidden=$(strings -a "$binary" | grep -e TRAILSPOOL_WEDGE -e "$PWD" -e "${CARGO_HOME:-$HOME/.cargo}" || true)
[ -z "$forbidden" ] || { echo "in the binary: $forbidden" >&2; exit 1; }
strings -a target/ci/trailspool-wedge | grep TRAILSPOOL_WEDGE >/dev/null || { echo "the check finds nothing anywhere" >&2; exit 1; }

# The list of its dependencies, by cargo-auditable: zlib-compressed JSON in a section of its own.
section=$(mktemp)
trap 'rm -f "$section"' EXIT
objcopy --dump-section .dep-v0="$section" "$binary" /dev/null 2>/dev/null ||
    aarch64-linux-gnu-objcopy --dump-section .dep-v0="$section" "$binary" /dev/null
python3 - "$section" <<'PYTHON'
import json, sys, zlib
packages = json.loads(zlib.decompress(open(sys.argv[1], "rb").read()))["packages"]
assert {"trailspool", "hyper", "rustls"} <= {package["name"] for package in packages}
print(f"carries the list of its {len(packages)} packages")
PYTHON
