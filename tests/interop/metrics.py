"""A real agent's /metrics, read by the parser of Prometheus's own Python client, and held against what was put.

The agent collects from moto's S3: whole objects and a broken one, with rules that remove records, into two outputs of
which one does not answer; so nearly every series has a value.

    python3 metrics.py MOTO_SERVER TRAILSPOOL
"""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from moto_lab import Moto, configure, log_object

BUCKET, OBJECTS = "acme-metrics", 40


def main(moto_server, trailspool):
    with tempfile.TemporaryDirectory() as folder, Moto(moto_server, pathlib.Path(folder) / "moto.log") as moto:
        home = pathlib.Path(folder)
        expected = fill(moto)
        address = f"127.0.0.1:{free_port()}"
        settings(home, moto.endpoint, address)
        with open(home / "log", "wb") as log:
            agent = subprocess.Popen([trailspool, "run", "--config", home / "trailspool.toml"], stderr=log)
        try:
            page, kind = settled(agent, f"http://{address}", home)
        finally:
            agent.terminate()
            agent.wait()
    if kind != "text/plain; version=0.0.4; charset=utf-8":
        sys.exit(f"/metrics has the content type {kind!r}")
    read(page, expected)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fill(moto):
    """Puts the objects, the first of them broken, and returns what is to become of the records of the others."""
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    fates = Counter(duplicate=0, quarantined=0)
    for number in range(OBJECTS):
        ids = range(number % 5)
        key, body = log_object("", number, 300 + 5 * number, [f'{{"eventID":"{number}-{n}"}}' for n in ids])
        s3.put_object(Bucket=BUCKET, Key=key, Body=body if number else b"not gzip")
        fates.update("dropped" if n == 3 else "kept" for n in ids)
    return fates


def settings(home, endpoint, address):
    configure(home, {"bucket": BUCKET, "start": "all", "unfiltered": True, "endpoint": endpoint,
                     "exclude": ['"eventID":"[0-9]+-3"']}, output={"name": "file", "kind": "file", "path": str(home / "out")})
    path = home / "trailspool.toml"
    silent = f'[[output]]\nname = "silent"\nkind = "http"\nurl = "http://127.0.0.1:{free_port()}/"\n'
    path.write_text(path.read_text().replace('status_listen = ""', f'status_listen = "{address}"') + silent)


def settled(agent, address, home):
    """The metrics and their content type, when everything is collected and delivered and the other output has failed."""
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and agent.poll() is None:
        try:
            with browser.open(f"{address}/status.json") as answer:
                status = json.load(answer)
        except OSError:
            time.sleep(0.1)
            continue
        objects = status["sources"][0]["objects"]
        waiting = {output["name"]: output["records"]["waiting"] for output in status["outputs"]}
        if objects["collected"] + objects["quarantined"] == OBJECTS and waiting["file"] == 0 and waiting["silent"] > 0:
            with browser.open(f"{address}/metrics") as answer:
                page, kind = answer.read().decode(), answer.headers["Content-Type"]
            if "trailspool_output_error{" in page:
                return page, kind
        time.sleep(0.1)
    sys.exit("the agent did not collect everything:\n" + (home / "log").read_text())


def read(page, expected):
    families = list(text_string_to_metric_families(page))
    faults, series = [], Counter()
    for name, count in Counter(family.name for family in families).items():
        if count > 1:
            faults.append(f"{name} stands in {count} places")
    for family in families:
        if not family.documentation:
            faults.append(f"{family.name} has no HELP")
        if family.type not in ("counter", "gauge"):
            faults.append(f"{family.name} is of type {family.type}")
        for sample in family.samples:
            series[sample.name, tuple(sorted(sample.labels.items()))] += 1
            if family.type == "counter" and not sample.name.endswith("_total"):
                faults.append(f"the counter {sample.name} does not end with _total")
    faults += [f"{name}{dict(labels)} stands there {count} times" for (name, labels), count in series.items() if count > 1]
    value = {(s.name, s.labels.get("source") or s.labels.get("output"), s.labels.get("fate")): s.value
             for family in families for s in family.samples}
    wanted = {("trailspool_records_total", "moto", fate): count for fate, count in expected.items()}
    wanted["trailspool_objects_total", "moto", "collected"] = OBJECTS - 1
    wanted["trailspool_objects_total", "moto", "quarantined"] = 1
    wanted["trailspool_rule_drops_total", "moto", None] = expected["dropped"]
    wanted["trailspool_delivered_records_total", "file", None] = expected["kept"]
    wanted["trailspool_output_backlog_records", "silent", None] = expected["kept"]
    faults += [f"{name} is {value.get(name)} instead of {count}" for name, count in wanted.items() if value.get(name) != count]
    if faults:
        sys.exit("\n".join(faults) + "\n\n" + page)
    print(f"metrics: {len(families)} families, {len(series)} series, read by prometheus_client")


if __name__ == "__main__":
    main(*sys.argv[1:])
