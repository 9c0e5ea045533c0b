#!/usr/bin/env bash
# The arm64 binary at work, under qemu's user emulation: cross/qemu.sh S3S-FS
#  1. the tests of the cores, built for arm64: the splitter's NEON masks, the decoder, signatures, frames;
#  2. a collection by target/aarch64-unknown-linux-gnu/dist/trailspool from an S3 server (cross/collect.sh).
# After cross/dist.sh aarch64-unknown-linux-gnu. Needs qemu-aarch64-static (qemu-user-static), the C library of
# gcc-aarch64-linux-gnu, and python3.
set -euo pipefail
server=$(readlink -f "${1:?usage: cross/qemu.sh S3S-FS}")
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
emulator="qemu-aarch64-static -L /usr/aarch64-linux-gnu"

# In a folder of their own: cargo's other work on the project need not wait.
RUSTC=$PWD/target/ci/debian-rust/bin/rustc \
    CARGO_TARGET_DIR=$PWD/target/ci/arm64 CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator PROPTEST_CASES=16 \
    cargo test --locked --quiet --lib --target $target -- \
    decode:: select:: spool::frame aws::sigv4 deliver::batch deliver::format discover::key pulse watchdog

cross/collect.sh $target target/$target/dist/trailspool "$server"
