#!/usr/bin/env bash
# The arm64 package on a whole arm64 machine that loses its power: qemu-system-aarch64 without help of the host's
# processor, Debian 12 with its own kernel and systemd as PID 1, cgroup v2, 256 MiB of memory, two disks; S3 and a
# receiver on the host, behind the machine's network. Root only.
#   tests/appliance/machine.sh DEB S3S-FS [ROOT-TAR]
# ROOT-TAR keeps the machine's root file system for the next run.
# Needs qemu-system-aarch64 (qemu-system-arm), mmdebstrap, mkfs.ext4, cpio, modprobe and depmod (kmod), systemctl and
# python3. Nothing of arm64 is run on the host: the machine installs the package itself.
#
# When qemu is killed, the machine's memory is gone with everything that had not reached its disks. What the disks have
# acknowledged without a flush stays: losing that, too, is what tests/spool_power_cut.rs is for.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 DEB S3S-FS [ROOT-TAR]" >&2; exit 64; }
deb=$(readlink -f "$1") server=$(readlink -f "$2")
root_tar=${3:-}
here=$(dirname "$(readlink -f "$0")")
[ "$(id -u)" = 0 ] || { echo "$0 must be run as root: it makes a root file system" >&2; exit 69; }
export PATH=$PATH:/usr/sbin:/sbin
for program in qemu-system-aarch64 mmdebstrap mkfs.ext4 cpio modprobe depmod systemctl systemd-sysusers python3; do
    command -v "$program" >/dev/null || { echo "$0 needs $program" >&2; exit 69; }
done

begun=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - begun)) "$*"; }
lab=$(mktemp -d /var/tmp/machine.XXXXXX)
root=$lab/root servers=() qemu=
cleanup() {
    status=$?
    set +e
    trap - EXIT
    if [ $status != 0 ]; then
        echo "--- the machine's console" >&2
        tail -n 30 "$lab/console" | tr -d '\r' >&2
        if running; then
            patience=60
            echo "--- the machine's journal of trailspool" >&2
            in_box journalctl -u trailspool -o short-monotonic --no-pager -n 60 >&2
            in_box systemctl status trailspool --no-pager -n 0 >&2
        fi
        tail -n 20 "$lab"/*.log >&2
    fi
    power_off
    [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null
    wait 2>/dev/null
    rm -rf --one-file-system "$lab"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "FAILED: $*" >&2; exit 1; }
same() { # WHAT IS WANTED
    [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
    say "ok: $1 ($2)"
}
until_true() { # SECONDS WHAT COMMAND…
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $what"
        [ -z "$qemu" ] || running || fail "the machine went down by itself"
        sleep 0.1
    done
}

# What the host says to the machine, and its answers, go through a serial port of their own: a line each.
patience=300
in_box() { # COMMAND…: runs in the machine, as its root; its output and its exit code
    local token=$BASHPID.$RANDOM deadline=$((SECONDS + patience)) answer='' part answered status output
    printf '%s %s\n' "$token" "${*@Q}" >&"$to_box"
    while :; do
        if IFS= read -r -t 5 part <&"$from_box"; then
            read -r answered status output <<<"$answer$part"
            [ "$answered" != "$token" ] || break
            answer=
        else
            answer+=$part
            running || fail "the machine went down by itself"
            [ $SECONDS -lt $deadline ] || fail "the machine does not answer to: $*"
        fi
    done
    base64 -d <<<"$output"
    return "$status"
}
make_voice() { # the machine's side of it
    cat >"$root/usr/local/sbin/host-says" <<'GUEST'
#!/bin/bash
exec 3<>/dev/vport?p1
while IFS=' ' read -r token line <&3; do
    output=$(bash -c "$line" 2>&1 </dev/null | base64 -w 0; exit "${PIPESTATUS[0]}")
    echo "$token $? $output" >&3
done
GUEST
    chmod 755 "$root/usr/local/sbin/host-says"
    printf '[Service]\nExecStart=/usr/local/sbin/host-says\nOOMScoreAdjust=-1000\n[Install]\nWantedBy=multi-user.target\n' \
        >"$root/etc/systemd/system/host-says.service"
}
property() { in_box systemctl show -P "$1" trailspool; }

make_root() {
    mkdir "$root"
    if [ -z "$root_tar" ] || [ ! -s "$root_tar" ]; then
        say "a Debian root file system for arm64 is made"
        # Packages are unpacked and not configured: that would run their scripts here.
        mmdebstrap --quiet --skip=check/qemu --variant=extract --architectures=arm64 \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --include=base-files,base-passwd,bash,busybox-static,coreutils,dash,debianutils,diffutils,dpkg,findutils,grep,gzip \
            --include=libc-bin,linux-image-cloud-arm64,mawk,mount,passwd,procps,sed,systemd,systemd-sysv,tar,util-linux \
            bookworm "$lab/root.tar" >"$lab/mmdebstrap.log" 2>&1
        [ -z "$root_tar" ] || mv "$lab/root.tar" "$root_tar"
    fi
    tar -C "$root" -xf "${root_tar:-$lab/root.tar}"
    rm -f "$lab/root.tar"
    kernel=$(basename "$root"/lib/modules/*)
    cp "$root/boot/vmlinuz-$kernel" "$lab/kernel"
    depmod -b "$root" "$kernel"

    # What the packages' scripts would have done.
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    systemd-sysusers --root="$root" >"$lab/sysusers.log" 2>&1
    echo box >"$root/etc/hostname"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    mkdir -p "$root/var/log/journal" "$root/usr/local/sbin"
    install -d -m 700 "$root/var/lib/private"
    make_voice
    # Emulated, each of these costs a second or more, and nothing here needs it.
    systemctl --root="$root" -q mask getty.target systemd-{random-seed,sysctl,update-utmp,update-utmp-runlevel}.service \
        systemd-{udevd,udev-trigger,modules-load}.service systemd-udevd-{control,kernel}.socket kmod-static-nodes.service \
        modprobe@{configfs,dm_mod,drm,efi_pstore,fuse,loop}.service {dev-hugepages,dev-mqueue}.mount \
        sys-{fs-fuse-connections,kernel-config,kernel-debug,kernel-tracing}.mount
    rm "$root"/lib/systemd/system-generators/*
    systemctl --root="$root" -q enable host-says.service
    systemctl --root="$root" -q set-default multi-user.target
}

make_initrd() { # drivers, disks and the network's address, so that the machine itself needs no udev
    local initrd=$lab/initrd.d module
    mkdir -p "$initrd"/{bin,dev,root}
    cp "$root/bin/busybox" "$initrd/bin/"
    {
        printf '#!/bin/busybox sh\nset -ex\n'
        modprobe -d "$root" -S "$kernel" -a --show-depends virtio_pci virtio_blk virtio_net virtio_console |
            awk '!seen[$2]++ {print $2}' |
            while read -r module; do
                cp "$module" "$initrd/"
                echo "busybox insmod /${module##*/}"
            done
        cat <<'GUEST'
busybox mount -t devtmpfs dev /dev
busybox mount -t ext4 -o noatime /dev/vda /root
busybox mount -t ext4 -o noatime /dev/vdb /root/var/lib/private
busybox mount -o move /dev /root/dev
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip addr add 10.0.2.15/24 dev eth0
exec busybox switch_root /root /sbin/init
GUEST
    } >"$initrd/init"
    chmod 755 "$initrd/init"
    (cd "$initrd" && find . | cpio --quiet -o -H newc) >"$lab/initrd"
}

make_disks() {
    truncate -s 700M "$lab/root.img"
    mkfs.ext4 -q -F -d "$root" "$lab/root.img"
    # 64 MiB for the state of all services.
    truncate -s 64M "$lab/data.img"
    mkfs.ext4 -q -F -m 0 "$lab/data.img"
    rm -rf --one-file-system "$root"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
make_lan() {
    s3_port=$(free_port) receiver_port=$(free_port)
    mkdir -p "$lab/s3/acme-cloudtrail"
    : >"$lab/wanted" >"$lab/got"
    "$server" --access-key AKIAIOSFODNN7EXAMPLE --secret-key appliance-s3cr3t --host 127.0.0.1 --port "$s3_port" \
        "$lab/s3" >"$lab/s3.log" 2>&1 &
    servers+=($!)
    python3 "$here/receiver.py" 127.0.0.1 "$receiver_port" "$lab/got" "$lab/busy" >"$lab/receiver.log" 2>&1 &
    servers+=($!)
    for port in "$s3_port" "$receiver_port"; do
        until_true 90 "port $port of the host" \
            python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null
    done
}
make_configuration() { # as files of the machine: the host is its 10.0.2.2
    cp "$deb" "$root/root/trailspool.deb"
    (umask 077 && printf appliance-s3cr3t >"$root/root/secret_key")
    cat >"$root/root/trailspool.toml" <<TOML
[spool]
max_bytes = "1GiB"
[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-east-1"
start = "all"
endpoint = "http://10.0.2.2:$s3_port"
path_style = true
unfiltered = true
  [source.credentials]
  method = "iam-user"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_key_credential = "secret_key"
[[output]]
name = "siem"
kind = "http"
url = "http://10.0.2.2:$receiver_port/"
TOML
}

objects=0
more() { # COUNT RECORD-BYTES: new objects in the bucket
    python3 "$here/objects.py" "$lab/s3/acme-cloudtrail" "$objects" "$@" >>"$lab/wanted"
    objects=$((objects + $1))
}
lines() { wc -l <"$lab/$1"; }
have_come() { [ "$(lines got)" -ge "$1" ]; } # LINES: with what came twice
all_received() { have_come "$(lines wanted)" && cmp -s <(sort -u "$lab/wanted") <(sort -u "$lab/got"); }
arrive() { # WHAT
    until_true 300 "all records at the receiver: $1" all_received
    say "ok: $1: $(lines wanted) records wanted, $(lines got) received, none missing, none invented"
}

running() { [ -n "$qemu" ] && kill -0 "$qemu" 2>/dev/null; }
power_off() {
    [ -n "$qemu" ] || return 0
    kill -KILL "$qemu" 2>/dev/null || true
    wait "$qemu" 2>/dev/null || true
    qemu=
}
power_on() {
    rm -f "$lab"/voice.*
    mkfifo "$lab/voice.in" "$lab/voice.out"
    exec {to_box}<>"$lab/voice.in" {from_box}<>"$lab/voice.out"
    # The kernel writes nothing to a disk for being old: what is not synced is lost.
    qemu-system-aarch64 -accel tcg -M virt -cpu cortex-a53 -m 256 -display none -monitor none -no-reboot \
        -kernel "$lab/kernel" -initrd "$lab/initrd" \
        -append "console=ttyAMA0 panic=-1 nokaslr kpti=off sysctl.vm.dirty_writeback_centisecs=0" \
        -drive "file=$lab/root.img,format=raw,if=virtio,cache=writeback" \
        -drive "file=$lab/data.img,format=raw,if=virtio,cache=writeback" \
        -netdev user,id=lan -device virtio-net-pci,netdev=lan,romfile= \
        -chardev "pipe,id=voice,path=$lab/voice" -device virtio-serial-pci -device virtserialport,chardev=voice,name=voice \
        -serial stdio </dev/null >>"$lab/console" 2>&1 &
    qemu=$!
}
boot() {
    power_on
    # The answer comes when everything has been started.
    state=$(in_box systemctl is-system-running --wait) || true
    [ "$state" = running ] || fail "booted to the state '$state': $(in_box systemctl --failed --no-legend)"
    say "booted: $(in_box uname -srm), $(in_box systemctl --version | head -1)"
}
# What is written here and not synced goes with the memory, unless the kernel wrote it for a reason of its own.
canary=/var/lib/private/canary
lose_power() { # WHEN
    power_off
    ! all_received || fail "everything had arrived before the power went"
    say "the power went $1: $(sort -u "$lab/got" | wc -l) of $(lines wanted) records were at the receiver"
}
come_back() {
    boot
    if in_box test -s $canary; then
        say "note: the kernel had written what nobody synced"
    else
        say "what was not synced is gone"
    fi
    same "state after the boot" "$(property ActiveState)/$(property NRestarts)" active/0
}

make_root
make_initrd
make_lan
make_configuration
make_disks
boot

say "== the package is installed, and collects"
# Only unpacked packages are no installed ones for dpkg.
in_box dpkg --force-depends -i /root/trailspool.deb >"$lab/dpkg.log" 2>&1 || fail "$(cat "$lab/dpkg.log")"
same "state after the installation" "$(property ActiveState)" inactive
say "installed: $(in_box trailspool --version | head -1)"
in_box install -D -m 600 /root/secret_key /etc/credstore/secret_key
in_box cp /root/trailspool.toml /etc/trailspool/trailspool.toml
more 1000 12000
in_box systemctl enable --now trailspool >"$lab/enable.log"
same "state when start returns" "$(property ActiveState)/$(property SubState)" active/running
in_box sync # all of the installation: the cuts are to find what the agent leaves to luck
arrive "the first pass"
cmp -s <(sort "$lab/wanted") <(sort "$lab/got") || fail "some came twice, though nothing was interrupted"

say "== the limit of its memory"
group=/sys/fs/cgroup$(property ControlGroup)
limit=$(property MemoryMax)
same "memory.max is the unit's MemoryMax" "$(in_box cat "$group/memory.max")" "$limit"
peak=$(in_box cat "$group/memory.peak")
[ "$peak" -lt "$limit" ] || fail "memory.peak is $peak"
same "the kernel took nothing back from it at the limit" "$(in_box cat "$group/memory.events" | awk '$1 == "max" {print $2}')" 0
say "memory.peak $((peak / 1024)) KiB of $((limit / 1024)); at last $(in_box cat "$group/memory.stat" |
    awk '$1 ~ /^(anon|file|kernel)$/ {printf "%s%s %d KiB", (n++ ? ", " : ""), $1, $2 / 1024}')"
say "of the process: $(in_box cat "/proc/$(property MainPID)/status" |
    awk '/^(VmHWM|VmRSS|RssAnon|RssFile):/ {printf "%s%s %d KiB", (n++ ? ", " : ""), $1, $2}')"
in_box systemd-run --quiet --unit=hog -p MemoryMax="$limit" -p MemorySwapMax=0 tail /dev/zero
hog_is_killed() { [ "$(in_box systemctl show -P Result hog)" = oom-kill ]; }
until_true 180 "whoever takes more is killed" hog_is_killed
say "ok: whoever takes more is killed"

say "== the watchdog"
same "the watchdog's time" "$(property WatchdogUSec)" 1min
petted() { [ "$(property WatchdogTimestampMonotonic)" -gt "$(property ActiveEnterTimestampMonotonic)" ]; }
until_true 180 "the agent pets it" petted
same "restarts" "$(property NRestarts)" 0

# status PATH: from the agent's status
status() {
    in_box trailspool status --json |
        python3 -c "import json, sys; status = json.load(sys.stdin); print(status$1)" 2>/dev/null
}
waiting() { status '["outputs"][0]["records"]["waiting"]'; }

say "== the power goes in the middle of a collection"
in_box sh -c "echo not synced >$canary"
more 1000 2000
in_box systemctl reload trailspool
until_true 180 "the collection is under way" have_come $(($(lines got) + 1000))
lose_power "in the middle of a collection"
come_back
arrive "after the first cut"

say "== the power goes while records wait in the spool, and again as soon as they are delivered"
: >"$lab/busy"
more 400 2000
in_box systemctl reload trailspool
all_wait() { [ "$(waiting)" = 2000 ]; }
until_true 300 "all records wait in the spool" all_wait
same "restarts" "$(property NRestarts)" 0
in_box sh -c "echo not synced >$canary"
lose_power "with 2000 records in the spool"
rm "$lab/busy"
more 400 2000
power_on
until_true 300 "it starts by itself and delivers" have_come $(($(lines got) + 100))
lose_power "in the middle of a delivery"
come_back
arrive "after the third cut"

say "== the books"
same "objects collected, each once" "$(status '["sources"][0]["objects"]["collected"]')" "$objects"
same "what was set aside" "$(in_box trailspool quarantine ls --json)" '{"version":1,"entries":[]}'
same "restarts" "$(property NRestarts)" 0
in_box systemctl stop trailspool
same "result of the stop" "$(property Result)/$(property ExecMainCode)/$(property ExecMainStatus)" success/1/0
in_box trailspool spool verify >"$lab/verify.log" || fail "spool verify: $?"
say "ok: spool verify: $(tail -n 1 "$lab/verify.log")"
say "all passed: $(sort "$lab/got" | uniq -d | wc -l) of $(lines wanted) records came more than once"
