#!/usr/bin/env python3
"""What the agent costs a machine, as the table of the README: tests/footprint.py BINARY [SECONDS [EMULATOR...]]

Starts BINARY against an S3 server and an HTTP receiver of its own on loopback, lets it collect and deliver 1,000 objects of
60 records, then watches it for SECONDS (60) between two polls. Reads /proc only; needs Python's standard library alone.
With an emulator of another machine (qemu-aarch64-static -L /usr/aarch64-linux-gnu) it says only what that does not change:
the binary's size and what is written to disk.
"""

import gzip
import http.server
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

OBJECTS, RECORDS = 1000, 60
DAY = time.gmtime(time.time() - 86400)
FOLDER = "AWSLogs/111122223333/CloudTrail/us-east-1/" + time.strftime("%Y/%m/%d/", DAY)
NAME = "111122223333_CloudTrail_us-east-1_{}_{:016x}.json.gz"
KEYS = sorted(
    FOLDER + NAME.format(time.strftime("%Y%m%d", DAY) + f"T{n // 60 % 24:02}{n % 12 * 5:02}Z", n) for n in range(OBJECTS)
)


def records(key):
    chance = random.Random(key)
    for n in range(RECORDS):
        noise = f"{chance.getrandbits(3200):0800x}"
        yield (
            f'{{"eventVersion":"1.08","eventID":"{chance.getrandbits(128):032x}","eventTime":"2026-01-01T00:00:00Z",'
            f'"eventName":"PutObject","awsRegion":"us-east-1","requestParameters":{{"n":{n},"noise":"{noise}"}}}}'
        )


BODIES = {key: gzip.compress(('{"Records":[' + ",".join(records(key)) + "]}").encode(), 1, mtime=0) for key in KEYS}
RECORD_BYTES = sum(len(record) for key in KEYS for record in records(key))


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lists = 0

    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if "list-type" in query:
            Server.lists += 1
            return self.answer(200, listing(query).encode())
        body = BODIES.get(urllib.parse.unquote(url.path).split("/", 2)[2])
        return self.answer(200, body) if body else self.answer(404)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200)


def listing(query):
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = max(query.get("start-after", ""), query.get("continuation-token", ""))
    most = int(query.get("max-keys", 1000))
    entries, last, cut = [], "", False
    for key in KEYS:
        rest = key[len(prefix):]
        name = prefix + rest.split(delimiter)[0] + delimiter if delimiter and delimiter in rest else key
        if not key.startswith(prefix) or key <= after or name <= after or name == last:
            continue
        if len(entries) == most:
            cut = True
            break
        last = name
        if name == key:
            entries.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(BODIES[key])}</Size><ETag>&quot;{hash(key) & 0xFFFFFFFF:x}&quot;</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        else:
            entries.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
    more = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if cut else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>footprint</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>{'true' if cut else 'false'}</IsTruncated>"
        + "".join(entries) + more + "</ListBucketResult>"
    )


def tasks(pid, name, pattern):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/{name}") as file:
                total += sum(int(number) for number in re.findall(pattern, file.read(), re.M))
        except FileNotFoundError:
            pass  # a thread that has ended
    return total


def switches(pid):
    # Who sleeps gives the core up by itself, once for each time that it was woken.
    return tasks(pid, "status", r"^voluntary_ctxt_switches:\s+(\d+)")


def by_thread(pid):
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/status") as file:
                text = file.read()
        except FileNotFoundError:
            continue
        name = re.search(r"^Name:\s+(.*)$", text, re.M).group(1)
        count = sum(int(number) for number in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M))
        found[task] = (name, count)
    return found


def field(pid, name, key):
    with open(f"/proc/{pid}/{name}") as file:
        return int(re.search(rf"^{key}:\s+(\d+)", file.read(), re.M).group(1))


def main():
    binary, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    emulator = sys.argv[3:]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    with tempfile.TemporaryDirectory() as home:
        os.umask(0o077)
        with open(f"{home}/secret", "w") as file:
            file.write("a-secret-of-the-footprint")
        with open(f"{home}/trailspool.toml", "w") as file:
            file.write(f"""
[agent]
state_dir = "{home}/state"
status_listen = "127.0.0.1:0"
[[source]]
name = "prod"
bucket = "footprint"
region = "us-east-1"
endpoint = "http://127.0.0.1:{port}"
path_style = true
start = "all"
unfiltered = true
[source.credentials]
method = "iam-user"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_key_file = "{home}/secret"
[[output]]
name = "siem"
kind = "http"
url = "http://127.0.0.1:{port}/"
""")
        environment = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
        with open(f"{home}/log", "w") as log:
            agent = subprocess.Popen(
                [*emulator, binary, "run", "--config", f"{home}/trailspool.toml"], stdout=log, stderr=log, env=environment
            )
        try:
            watch(binary, agent, home, seconds, emulator)
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(60)


def watch(binary, agent, home, seconds, emulator):
    def page():
        found = re.search(r"status page: (http://\S+)", open(f"{home}/log").read())
        return found and found.group(1)

    deadline = time.monotonic() + 300
    while not page():
        if agent.poll() is not None or time.monotonic() > deadline:
            sys.exit("the agent does not run:\n" + open(f"{home}/log").read())
        time.sleep(0.1)
    while True:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page() + "status.json") as answer:
            status = json.load(answer)
        source, output = status["sources"][0], status["outputs"][0]
        if source["objects"]["collected"] == OBJECTS and output["records"]["waiting"] == 0:
            break
        if time.monotonic() > deadline:
            sys.exit("not everything was collected and delivered:\n" + json.dumps(status, indent=1))
        time.sleep(0.2)
    pid = agent.pid
    peak = field(pid, "status", "VmHWM")
    time.sleep(15)  # cursors, ledger and connections come to rest
    lists = Server.lists
    before = (switches(pid), tasks(pid, "schedstat", r"^(\d+)"), time.monotonic(), by_thread(pid))
    time.sleep(seconds)
    span = time.monotonic() - before[2]
    wakes, cpu = switches(pid) - before[0], tasks(pid, "schedstat", r"^(\d+)") - before[1]
    if Server.lists != lists:
        sys.exit("a poll came into the measured time: measure less than refresh_minutes")
    for task, (name, count) in sorted(by_thread(pid).items()):
        was = before[3].get(task, (name, 0))[1]
        if count > was:
            print(f"# thread {name}: {count - was} wake-ups", file=sys.stderr)
    rss, pss = field(pid, "status", "VmRSS"), field(pid, "smaps_rollup", "Pss")
    written = field(pid, "io", "write_bytes")
    rows = [
        ("binary", f"{os.path.getsize(binary) / 1e6:.2f} MB"),
        ("peak resident memory", f"{peak / 1024:.1f} MiB"),
        ("resident memory, idle", f"{rss / 1024:.1f} MiB ({pss / 1024:.1f} MiB proportional)"),
        ("CPU, idle", f"{cpu / span / 1e7:.4f} % of a core"),
        ("wake-ups, idle", f"{wakes / span:.2f} a second"),
        ("written to disk", f"{written / RECORD_BYTES:.3f} x the bytes of the records"),
    ]
    if emulator:
        rows = [row for row in rows if row[0] in ("binary", "written to disk")]
    print("| what | measured |\n|---|---|")
    for what, value in rows:
        print(f"| {what} | {value} |")


main()
