#!/usr/bin/env bash
# Packs the binary that cross/dist.sh built: systemd/package.sh TARGET makes, below target/packages,
#   trailspool_VERSION_ARCHITECTURE.deb    for Debian 12 and newer
#   trailspool-VERSION-TARGET.tar.gz       for images that are read-only: the same tree, to be unpacked at /
# The same binary gives the same packages, byte for byte. Needs cargo-deb (target/ci/bin or PATH), and
# qemu-user-static where the binary is for another machine.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: systemd/package.sh TARGET}
export PATH=$PWD/target/ci/bin:$PATH
if [ -e .git ]; then
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
fi
binary=target/$target/dist/trailspool
version=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"name":"trailspool","version":"\([^"]*\)".*/\1/')
packages=$PWD/target/packages
mkdir -p "$packages"
# Cargo.toml names one place for what is made below, whatever the target.
exec 9>"$packages/.lock"
flock 9

# The newest glibc that the binary asks for, against what the package says.
glibc=$(objdump -T "$binary" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1 || true)
if [ -n "$glibc" ] && [ "$(printf 'GLIBC_2.36\n%s\n' "$glibc" | sort -V | tail -1)" != GLIBC_2.36 ]; then
    echo "$binary asks for $glibc, which the package's depends in Cargo.toml does not say" >&2
    exit 1
fi

# The manual and the completions come from the binary itself.
case $target in
"$(rustc -vV | sed -n 's/^host: //p')") emulator= ;;
aarch64-*) emulator="qemu-aarch64-static -L /usr/aarch64-linux-gnu" ;;
*) emulator=${EMULATOR:?what runs a program for "$target"} ;;
esac
mkdir -p "$packages/share"
$emulator "$binary" man | gzip -9n >"$packages/share/trailspool.8.gz"
for shell in bash zsh fish; do
    $emulator "$binary" completion $shell >"$packages/share/completion.$shell"
done

cargo deb --locked --quiet --no-build --no-strip --profile dist --target "$target" --output "$packages/" >/dev/null

# The tar is the package's tree: one list of files, in Cargo.toml.
deb=$(ls -t "$packages"/trailspool_*.deb | head -1)
rm -r "$packages/share"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
dpkg-deb -x "$deb" "$tree"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -C "$tree" -c . |
    gzip -9n >"$packages/trailspool-$version-$target.tar.gz"
echo "$deb"
echo "$packages/trailspool-$version-$target.tar.gz"
