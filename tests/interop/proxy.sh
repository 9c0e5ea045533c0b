#!/bin/bash
# Collects through a real forward proxy with the real binary: from a TLS server with a CA of its own (CONNECT) and from
# a plain one, with and without a password, from the configuration and from the environment; and shows by the proxy's
# log what went through it and what did not.
#   tests/interop/proxy.sh PATH-OF-S3S-FS
# Needs squid, stunnel and openssl (Debian: squid, stunnel4, openssl) and python3.
set -euo pipefail
server=${1:?usage: $0 PATH-OF-S3S-FS}
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin
cargo build --quiet --bin trailspool
agent=${CARGO_TARGET_DIR:-target}/debug/trailspool
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY

dir=$(mktemp -d)
chmod 755 "$dir"
pids=()
# Squid first: it logs what it still has. What has already ended cannot be ended again.
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

read -r plain tls open locked < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in sockets))')

wait_for() { # PORT WHAT LOG
    for _ in $(seq 100); do
        if python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1)" 2>/dev/null; then
            return
        fi
        sleep 0.1
    done
    echo "$2 did not start:" >&2
    cat "$3" >&2
    exit 69
}

# The bucket: 30 objects of two records each, in a folder that the S3 server serves.
python3 - "$dir/s3/acme-cloudtrail" <<'PYTHON'
import datetime, gzip, json, os, sys
day = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=12)
folder = f"{sys.argv[1]}/AWSLogs/111122223333/CloudTrail/us-east-1/{day:%Y/%m/%d}"
os.makedirs(folder)
for n in range(30):
    records = [{"eventID": f"{n}-{i}", "eventName": "GetObject"} for i in range(2)]
    name = f"111122223333_CloudTrail_us-east-1_{day:%Y%m%d}T{day:%H%M}Z_{n:016}.json.gz"
    with gzip.open(f"{folder}/{name}", "wb") as file:
        file.write(json.dumps({"Records": records}).encode())
PYTHON
"$server" --access-key AKIAIOSFODNN7EXAMPLE --secret-key interop-secret --host 127.0.0.1 --port "$plain" \
    "$dir/s3" >"$dir/s3.log" 2>&1 &
pids+=($!)

# A CA, a certificate for a name that only the proxy can resolve, and TLS in front of the S3 server.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/O=Acme Ltd/CN=Acme interop CA" \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=s3.proxied.test" \
    -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
printf 'subjectAltName = DNS:s3.proxied.test\n' >"$dir/san"
openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
    -extfile "$dir/san" -out "$dir/server.pem" 2>/dev/null
cat >"$dir/stunnel.conf" <<STUNNEL
foreground = yes
pid =
[s3]
accept = 127.0.0.1:$tls
connect = 127.0.0.1:$plain
cert = $dir/server.pem
key = $dir/server.key
STUNNEL
stunnel "$dir/stunnel.conf" >"$dir/stunnel.log" 2>&1 &
pids+=($!)

# The proxy: one port open, one with a password; it alone knows the servers' names.
mkdir -m 777 "$dir/squid"
printf 'alice:%s\n' "$(openssl passwd -apr1 'se cret@1')" >"$dir/passwords"
printf '127.0.0.1 s3.proxied.test forbidden.proxied.test\n' >"$dir/hosts"
cat >"$dir/squid.conf" <<SQUID
http_port 127.0.0.1:$open name=open
http_port 127.0.0.1:$locked name=locked
auth_param basic program /usr/lib/squid/basic_ncsa_auth $dir/passwords
acl at_open myportname open
acl users proxy_auth REQUIRED
acl forbidden dstdomain forbidden.proxied.test
http_access deny forbidden
http_access allow at_open
http_access allow users
http_access deny all
hosts_file $dir/hosts
cache deny all
visible_hostname interop
access_log stdio:$dir/squid/access.log
cache_log $dir/squid/cache.log
cache_store_log none
netdb_filename none
pid_filename $dir/squid/pid
coredump_dir $dir/squid
shutdown_lifetime 0 seconds
SQUID
chmod 644 "$dir/passwords" "$dir/hosts" "$dir/squid.conf"
squid -N -f "$dir/squid.conf" >"$dir/squid.log" 2>&1 &
pids+=($!)
wait_for "$plain" s3s-fs "$dir/s3.log"
wait_for "$tls" stunnel "$dir/stunnel.log"
wait_for "$open" squid "$dir/squid.log"
wait_for "$locked" squid "$dir/squid.log"

printf interop-secret >"$dir/secret"
chmod 600 "$dir/secret"

collect() { # NAME CODE ENDPOINT LINES-OF-THE-SOURCE [VARIABLE=VALUE…]: runs the agent on a state of its own
    local name=$1 code=$2 endpoint=$3 lines=$4 got=0
    shift 4
    cat >"$dir/$name.toml" <<TOML
[agent]
state_dir = "$dir/$name"
status_listen = ""
fetches_in_flight = 2
[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-east-1"
start = "all"
endpoint = "$endpoint"
path_style = true
$lines
  [source.credentials]
  method = "iam-user"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_key_file = "$dir/secret"
[[output]]
name = "out"
kind = "file"
path = "$dir/$name.ndjson"
TOML
    : >"$dir/squid/access.log"
    env "$@" "$agent" run --once --timeout 60 --config "$dir/$name.toml" >"$dir/$name.log" 2>&1 || got=$?
    if [ "$got" -ne "$code" ]; then
        echo "$name: exit code $got instead of $code" >&2
        cat "$dir/$name.log" "$dir/squid/access.log" >&2
        exit 1
    fi
    if grep -q -e 'se cret' -e 'se%20cret' -e interop-secret "$dir/$name.log"; then
        echo "$name: a password is in the log" >&2
        exit 1
    fi
    echo "ok: $name"
}
fail() {
    echo "$*" >&2
    cat "$dir/squid/access.log" >&2
    exit 1
}
whole() { # NAME: all 60 records came
    [ "$(sort -u "$dir/$1.ndjson" | wc -l)" -eq 60 ] || fail "$1: not every record came"
}
says() { # NAME WORDS
    grep -qF -- "$2" "$dir/$1.log" || { cat "$dir/$1.log" >&2; fail "$1: it does not say: $2"; }
}
proxied() { # PATTERN: how many lines of the proxy's log match
    grep -cE -- "$1" "$dir/squid/access.log" || true
}

secure=https://s3.proxied.test:$tls
trusted="ca_file = \"$dir/ca.pem\""

collect tunnel_with_password 0 "$secure" "$trusted
proxy = \"http://alice:se%20cret%401@127.0.0.1:$locked\""
whole tunnel_with_password
tunnels=$(proxied "TCP_TUNNEL/200 .* CONNECT s3.proxied.test:$tls alice ")
# Two fetches and a poll at a time, some forty requests: connections are kept.
{ [ "$tunnels" -ge 1 ] && [ "$tunnels" -le 8 ]; } || fail "$tunnels tunnels instead of a few"

collect tunnel_from_environment 0 "$secure" "$trusted" HTTPS_PROXY="http://127.0.0.1:$open"
whole tunnel_from_environment
[ "$(proxied "TCP_TUNNEL/200 .* CONNECT s3.proxied.test:$tls - ")" -ge 1 ] || fail "no tunnel"

collect plain_with_password 0 "http://s3.proxied.test:$plain" "proxy = \"http://alice:se%20cret%401@127.0.0.1:$locked\""
whole plain_with_password
[ "$(proxied " GET http://s3.proxied.test:$plain/acme-cloudtrail/.* alice ")" -ge 31 ] || fail "not every request is there"

collect wrong_password 78 "$secure" "$trusted
proxy = \"http://alice:se%20cret@127.0.0.1:$locked\""
says wrong_password "does not accept the user name and password (407)"

collect no_password 78 "$secure" "$trusted
proxy = \"http://127.0.0.1:$locked\""
says no_password "asks for a user name and a password (407)"

collect forbidden 78 "https://forbidden.proxied.test:$tls" "$trusted
proxy = \"http://127.0.0.1:$open\""
says forbidden "does not let the connection through (403 Forbidden): allow CONNECT to forbidden.proxied.test:$tls"

collect unknown_issuer 78 "$secure" "proxy = \"http://127.0.0.1:$open\""
says unknown_issuer 'its issuer is "Acme interop CA" (Acme Ltd)'
says unknown_issuer '`ca_file`'

# This machine and the metadata services are reached directly, whatever the configuration and the environment say.
collect loopback 0 "http://127.0.0.1:$plain" "proxy = \"http://127.0.0.1:$open\"" HTTP_PROXY="http://127.0.0.1:$open"
whole loopback
[ "$(proxied .)" -eq 0 ] || fail "loopback was asked for through the proxy"

: >"$dir/squid/access.log"
sed -e "s#^endpoint = .*#endpoint = \"http://169.254.169.254\"#; s#$dir/loopback#$dir/metadata#" \
    "$dir/loopback.toml" >"$dir/metadata.toml"
# What is there, if anything, is not S3: only that the proxy did not hear of it counts.
HTTP_PROXY="http://127.0.0.1:$open" "$agent" run --once --timeout 5 --config "$dir/metadata.toml" >/dev/null 2>&1 || true
[ "$(proxied .)" -eq 0 ] || fail "a metadata address was asked for through the proxy"
echo "ok: metadata"
