#!/usr/bin/env bash
# The packaged agent on a whole machine: Debian 12 with systemd as PID 1 (systemd-nspawn), S3 and a receiver at the
# other end of a network link, a small data partition. Root only.
#   tests/appliance/run.sh DEB WEDGE-BINARY S3S-FS [ROOT-TAR]
# WEDGE-BINARY is built with the feature `wedge`. ROOT-TAR keeps the machine's root file system for the next run.
# Needs mmdebstrap, systemd-nspawn (systemd-container), mkfs.ext4, ip and python3.
#
# What a kill of the machine here leaves out is the loss of the page cache, and MemoryMax is not enforced where the host has
# no memory controller of cgroup v2: machine.sh beside this has both, with the package of arm64.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 DEB WEDGE-BINARY S3S-FS [ROOT-TAR]" >&2; exit 64; }
deb=$(readlink -f "$1") wedge=$(readlink -f "$2") server=$(readlink -f "$3")
root_tar=${4:-}
here=$(dirname "$(readlink -f "$0")")
[ "$(id -u)" = 0 ] || { echo "$0 must be run as root: it mounts, and boots a machine" >&2; exit 69; }
for program in mmdebstrap systemd-nspawn mkfs.ext4 ip nsenter setpriv python3; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || { echo "$0 needs $program" >&2; exit 69; }
done
export PATH=$PATH:/usr/sbin:/sbin

begun=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - begun)) "$*"; }
lab=$(mktemp -d /var/tmp/appliance.XXXXXX)
root=$lab/root data=$lab/data name=tsbox$$ pids=() nspawn= leader=
cleanup() {
    status=$?
    set +e
    if [ $status != 0 ] && [ -n "$leader" ]; then
        echo "--- the machine's journal of trailspool" >&2
        in_box journalctl -u trailspool -o short-monotonic --no-pager -n 60 >&2
        in_box systemctl status trailspool --no-pager -n 0 >&2
        tail -n 20 "$lab"/*.log >&2
    fi
    [ -n "$leader" ] && kill -KILL "$leader" 2>/dev/null
    [ -n "$nspawn" ] && kill -TERM "$nspawn" 2>/dev/null
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
    wait 2>/dev/null
    umount -l "$data" 2>/dev/null
    umount -l "$root" 2>/dev/null
    ip netns del "$name-box" 2>/dev/null
    ip netns del "$name-lan" 2>/dev/null
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
# Runs in the machine, as its root. Without the capabilities by which that root could reach the host: its clock is ours.
in_box() {
    nsenter -t "$leader" -m -u -i -n -p -- \
        setpriv --bounding-set=-sys_time,-sys_boot,-sys_module,-sys_rawio "$@"
}
property() { in_box systemctl show -P "$1" trailspool; }
until_true() { # SECONDS WHAT COMMAND…
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "not in time: $what"
        sleep 0.1
    done
}
is() { [ "$(property "$1")" = "$2" ]; }
journal_has() { in_box journalctl -u trailspool -o cat --no-pager | grep -- "$1" >/dev/null; }

make_root() { # the machine's root file system, in memory
    mkdir "$root" "$data"
    mount -t tmpfs -o size=900m,mode=755 "$name" "$root"
    if [ -z "$root_tar" ] || [ ! -s "$root_tar" ]; then
        say "a Debian root file system is made"
        mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,procps bookworm "$lab/root.tar" \
            >"$lab/mmdebstrap.log" 2>&1
        [ -z "$root_tar" ] || mv "$lab/root.tar" "$root_tar"
    fi
    tar -C "$root" -xf "${root_tar:-$lab/root.tar}"
    rm -f "$lab/root.tar"
    echo box >"$root/etc/hostname"
    rm -f "$root/etc/machine-id"
    : >"$root/etc/machine-id"
    systemctl --root="$root" -q mask console-getty.service getty@tty1.service systemd-networkd-wait-online.service
    mkdir -p "$root/var/lib/private" "$root/var/log/journal"
    # 64 MiB for the state of all services.
    truncate -s 64M "$lab/data.img"
    mkfs.ext4 -q -F -m 0 "$lab/data.img"
    mount -o loop "$lab/data.img" "$data"
    chmod 700 "$data"
}

make_network() { # box 10.77.0.2 ── 10.77.0.1 lan
    ip netns add "$name-box"
    ip netns add "$name-lan"
    ip link add "tsb$$" netns "$name-box" type veth peer name "tsl$$" netns "$name-lan"
    ip -n "$name-box" addr add 10.77.0.2/24 dev "tsb$$"
    ip -n "$name-lan" addr add 10.77.0.1/24 dev "tsl$$"
    for link in "$name-box tsb$$" "$name-lan tsl$$" "$name-box lo" "$name-lan lo"; do
        ip -n "${link% *}" link set "${link#* }" up
    done
}

make_lan() {
    mkdir -p "$lab/s3/acme-cloudtrail"
    : >"$lab/wanted" >"$lab/got"
    ip netns exec "$name-lan" "$server" --access-key AKIAIOSFODNN7EXAMPLE --secret-key appliance-s3cr3t \
        --host 10.77.0.1 --port 9000 "$lab/s3" >"$lab/s3.log" 2>&1 &
    pids+=($!)
    ip netns exec "$name-lan" python3 "$here/receiver.py" 10.77.0.1 8080 "$lab/got" "$lab/busy" \
        >"$lab/receiver.log" 2>&1 &
    pids+=($!)
    for port in 9000 8080; do
        until_true 90 "port $port of the lan" ip netns exec "$name-lan" \
            python3 -c "import socket; socket.create_connection(('10.77.0.1', $port), 1)" 2>/dev/null
    done
}

objects=0
more() { # COUNT [RECORD-BYTES]: new objects in the bucket
    python3 "$here/objects.py" "$lab/s3/acme-cloudtrail" "$objects" "$@" >>"$lab/wanted"
    objects=$((objects + $1))
}
all_arrived() { cmp -s <(sort -u "$lab/wanted") <(sort -u "$lab/got"); }
arrive() { # WHAT
    until_true 180 "all records at the receiver: $1" all_arrived
    say "ok: $1: $(wc -l <"$lab/wanted") records wanted, $(wc -l <"$lab/got") received, none missing, none invented"
}

boot() {
    systemd-nspawn -q -D "$root" -M "$name" --register=no --keep-unit --boot --link-journal=no --console=pipe \
        --network-namespace-path="/run/netns/$name-box" --bind="$data:/var/lib/private" \
        --kill-signal=SIGRTMIN+3 </dev/null >>"$lab/console.log" 2>&1 &
    nspawn=$!
    find_leader() {
        leader=$(pgrep -P "$nspawn" | tail -1) && [ "$(cat "/proc/$leader/comm" 2>/dev/null)" = systemd ]
    }
    until_true 90 "PID 1 of the machine" find_leader
    booted() { case $(in_box systemctl is-system-running 2>/dev/null) in running | degraded) ;; *) false ;; esac; }
    until_true 180 "the machine has booted" booted
    say "booted: $(in_box systemctl --version | head -1), virtualization $(in_box systemd-detect-virt)"
}

configure() { # REGION, so that the file differs from the one before
    cat >"$root/etc/trailspool/trailspool.toml" <<TOML
[agent]
status_listen = ""
[spool]
max_bytes = "1GiB"
[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-east-1"
start = "all"
endpoint = "http://10.77.0.1:9000"
path_style = true
unfiltered = true
refresh_minutes = 1
  [source.credentials]
  method = "iam-user"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_key_credential = "secret_key"
[[output]]
name = "siem"
kind = "http"
url = "http://10.77.0.1:8080/"
TOML
}

make_root
make_network
make_lan
more 40
boot

say "== the package is installed, and starts when it is told to"
cp "$deb" "$root/root/trailspool.deb"
in_box dpkg --force-depends -i /root/trailspool.deb >"$lab/dpkg.log" 2>&1 || fail "$(cat "$lab/dpkg.log")"
same "state after the installation" "$(property ActiveState)" inactive
in_box systemctl start trailspool 2>/dev/null || true
until_true 90 "a configuration that is not filled in ends the service" is ActiveState failed
same "exit code with the shipped configuration" "$(property ExecMainStatus)" 78
same "restarts of a service that cannot be configured" "$(property NRestarts)" 0
in_box systemctl reset-failed trailspool
configure
mkdir -p "$root/etc/credstore"
(umask 077 && printf appliance-s3cr3t >"$root/etc/credstore/secret_key")
in_box systemctl enable --now trailspool 2>"$lab/enable.log"
same "state when start returns" "$(property ActiveState)/$(property SubState)" active/running
arrive "the first pass"
same "records received twice" "$(sort "$lab/got" | uniq -d | wc -l)" 0

say "== the sandbox"
exposure=$(in_box systemd-analyze security trailspool --no-pager | sed -n 's/.*exposure level for trailspool.service: \([0-9.]*\).*/\1/p')
python3 -c "import sys; sys.exit(not float('$exposure') <= 1.2)" || fail "exposure $exposure is above 1.2"
say "ok: systemd-analyze security: exposure $exposure"
pid=$(property MainPID)
uid=$(in_box stat -c %u /var/lib/private/trailspool)
[ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ] || fail "the state belongs to $uid, which is no dynamic user"
say "ok: dynamic user $uid"
same "mode of the state directory" "$(in_box stat -c %a /var/lib/private/trailspool)" 700
same "core files" "$(in_box awk '/^Max core file size/ {print $5, $6}' "/proc/$pid/limits")" "0 0"
# Who may not be dumped, may not be looked into: its files in /proc are root's.
same "owner of its memory" "$(in_box stat -c %U "/proc/$pid/mem")" root

say "== the credential is its own"
credential=/run/credentials/trailspool.service/secret_key
in_box test -s "$credential" || fail "the credential is not where systemd puts it"
for other in 65534 1000; do
    in_box setpriv --reuid=$other --regid=$other --clear-groups cat "$credential" 2>/dev/null &&
        fail "user $other reads the credential"
done
in_box grep -rqa appliance-s3cr3t "/proc/$pid/environ" "/proc/$pid/cmdline" && fail "the secret is in /proc"
in_box journalctl --no-pager | grep appliance-s3cr3t >/dev/null && fail "the secret is in the journal"
grep -rqa appliance-s3cr3t "$data" && fail "the secret is on the data partition"
say "ok: no other user, no environment, no journal and no file of the state has it"

say "== reload"
in_box systemctl show -P StatusText trailspool | grep 'objects, .* records' >/dev/null || fail "no words: $(property StatusText)"
more 10
in_box systemctl reload trailspool
arrive "a reload begins a pass"
same "main PID after the reload" "$(property MainPID)" "$pid"
echo 'unknown = 1' >>"$root/etc/trailspool/trailspool.toml"
in_box systemctl reload trailspool
until_true 90 "the fault is told" journal_has "the new configuration is faulty, the old one stays"
same "state after a faulty reload" "$(property ActiveState)/$(property MainPID)" "active/$pid"
configure

say "== a clean stop"
in_box systemctl stop trailspool
same "result of the stop" "$(property Result)/$(property ExecMainCode)/$(property ExecMainStatus)" success/1/0

say "== a sealed credential"
if in_box systemd-creds setup >/dev/null 2>&1 && in_box sh -c '
    mkdir -p /etc/credstore.encrypted &&
    systemd-creds encrypt --with-key=host --name=secret_key /etc/credstore/secret_key \
        /etc/credstore.encrypted/secret_key' >"$lab/creds.log" 2>&1; then
    mv "$root/etc/credstore/secret_key" "$root/root/plain"
    mkdir -p "$root/etc/systemd/system/trailspool.service.d"
    printf '[Service]\nLoadCredential=\nLoadCredentialEncrypted=secret_key\n' \
        >"$root/etc/systemd/system/trailspool.service.d/sealed.conf"
    in_box systemctl daemon-reload
    more 5
    in_box systemctl start trailspool
    arrive "with LoadCredentialEncrypted"
    in_box systemctl stop trailspool
    rm "$root/etc/systemd/system/trailspool.service.d/sealed.conf"
    mv "$root/root/plain" "$root/etc/credstore/secret_key"
else
    fail "the credential could not be sealed: $(cat "$lab/creds.log")"
fi

say "== a stage that stands still ends in a restart"
install -m 755 "$wedge" "$root/usr/local/bin/trailspool-wedge"
mkdir -p "$root/etc/systemd/system/trailspool.service.d"
cat >"$root/etc/systemd/system/trailspool.service.d/wedge.conf" <<'UNIT'
[Service]
ExecStart=
ExecStart=/usr/local/bin/trailspool-wedge run
Environment=TRAILSPOOL_WEDGE=/var/lib/trailspool/wedge
WatchdogSec=4s
RestartSec=200ms
UNIT
in_box systemctl daemon-reload
more 40
echo storekeeper >"$data/trailspool/wedge"
in_box systemctl start trailspool
until_true 180 "systemd restarts it" is NRestarts 1
journal_has "storekeeper has stood still for" || fail "the stage did not name itself"
in_box journalctl -u trailspool -o cat --no-pager | grep 'Watchdog timeout' >/dev/null || fail "it was not the watchdog"
say "ok: $(in_box journalctl -u trailspool -o cat --no-pager | grep 'Watchdog timeout' | head -1)"
arrive "after the watchdog's restart"
same "restarts" "$(property NRestarts)" 1
in_box systemctl stop trailspool
rm -r "$root/etc/systemd/system/trailspool.service.d"
in_box systemctl daemon-reload

say "== the data partition fills up"
: >"$lab/busy"
# Room to start in, but not for 20 MB that the receiver does not take meanwhile.
free=$(df --output=avail -k "$data" | tail -1)
head -c $(((free - 6144) * 1024)) /dev/zero >"$data/ballast"
more 40 100000
in_box systemctl start trailspool
until_true 180 "it says that there is no room" journal_has "make room on the state directory's disk"
until_true 30 "it stays, and waits" is ActiveState active
say "ok: status: $(property StatusText | cut -c 1-160)"
rm "$data/ballast" "$lab/busy"
arrive "when there is room again"

say "== the power goes"
more 400
in_box systemctl reload trailspool
some_arrived() { [ "$(sort -u "$lab/got" | wc -l)" -gt "$1" ]; }
until_true 90 "collection is under way" some_arrived $((objects * 5 - 2000))
all_arrived && say "note: everything had arrived before the power went"
kill -KILL "$leader"
wait "$nspawn" 2>/dev/null || true
nspawn= leader=
boot
until_true 90 "it starts by itself" is ActiveState active
arrive "after the power came back"

say "== the package is removed"
in_box dpkg --purge trailspool >"$lab/dpkg.log" 2>&1 || fail "$(cat "$lab/dpkg.log")"
[ ! -e "$root/usr/bin/trailspool" ] && [ ! -e "$root/etc/trailspool" ] || fail "something is left of the package"
in_box systemctl poweroff
wait "$nspawn" 2>/dev/null || true
nspawn= leader=
say "all passed"
