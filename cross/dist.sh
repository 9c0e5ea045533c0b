#!/usr/bin/env bash
# Builds the binary of the packages: cross/dist.sh TARGET, on a Debian machine and without containers.
# The outcome is target/TARGET/dist/trailspool. It depends on the commit and the toolchain alone, not on the folder, and
# carries the list of its dependencies when cargo-auditable is there (target/ci/bin or PATH).
#
# The machine's own target takes the toolchain that is there. aarch64-unknown-linux-gnu on amd64 takes Debian's rustc with
# its standard library for arm64, unpacked below target/ci by debian_rust.sh, and needs gcc-aarch64-linux-gnu.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: cross/dist.sh TARGET}
export PATH=$PWD/target/ci/bin:$PATH
host=$(rustc -vV | sed -n 's/^host: //p')

if [ -e .git ]; then
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
fi
# Packed relocations want glibc 2.36, which Debian 12 has.
size="-C link-arg=-Wl,-z,pack-relative-relocs"
# Paths of this machine belong into no binary.
export RUSTFLAGS="--remap-path-prefix=$PWD=/trailspool --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo $size"
export CFLAGS="-ffile-prefix-map=$PWD=/trailspool -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"

case $target in
"$host")
    # rustc links by its own lld there, which can keep one of several functions that are the same.
    [ "$target" != x86_64-unknown-linux-gnu ] || RUSTFLAGS+=" -C link-arg=-Wl,--icf=all"
    ;;
aarch64-unknown-linux-gnu)
    rust=$PWD/target/ci/debian-rust
    [ -x "$rust/bin/rustc" ] || cross/debian_rust.sh "$rust" arm64
    export RUSTC=$rust/bin/rustc
    RUSTFLAGS+=" --remap-path-prefix=$rust=/rust"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
    ;;
*)
    echo "cross/dist.sh builds for $host and aarch64-unknown-linux-gnu; for $target see the README, \"Cross\"" >&2
    exit 64
    ;;
esac

if command -v cargo-auditable >/dev/null; then
    cargo auditable build --locked --profile dist --bin trailspool --target "$target"
else
    cargo build --locked --profile dist --bin trailspool --target "$target"
fi
