#!/usr/bin/env bash
# Debian's rustc-web with standard libraries for other architectures, unpacked into a folder of its own: nothing is
# installed, and a rustup that is there is not touched. cross/debian_rust.sh FOLDER ARCHITECTURE...
# The architectures must be known to dpkg (dpkg --add-architecture arm64, apt-get update). Takes about 600 MB.
set -euo pipefail
folder=${1:?usage: cross/debian_rust.sh FOLDER ARCHITECTURE...}
shift
own=$(dpkg --print-architecture)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)

mkdir -p "$folder/debs"
folder=$(cd "$folder" && pwd)
cd "$folder/debs"
# rustc's own libraries as Debian names them, whatever their versions are today.
packages=(rustc-web "libstd-rust-web-dev:$own")
libraries=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances rustc-web |
    grep -E '^(libstd-rust-web-[0-9]|libllvm|libxml2|libz3|libedit|libbsd|libmd0|libffi|libicu|libzstd|libtinfo|liblzma)' |
    grep -v ':' | sort -u)
packages+=($libraries)
for architecture; do packages+=("libstd-rust-web-dev:$architecture"); done
apt-get download -q "${packages[@]}" >/dev/null
for package in *.deb; do dpkg -x "$package" "$folder"; done
cd "$folder" && rm -rf debs

mkdir -p "$folder/bin"
libraries=$folder/usr/lib/$multiarch:$folder/lib/$multiarch
for tool in rustc rustdoc; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/%s --sysroot %s/usr "$@"\n' \
        "$libraries" "$folder" "$tool" "$folder" >"$folder/bin/$tool"
    chmod +x "$folder/bin/$tool"
done
"$folder/bin/rustc" --version
ls "$folder/usr/lib/rustlib"
