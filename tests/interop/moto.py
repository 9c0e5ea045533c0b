"""Collects from moto's S3 with the real binary and compares, byte for byte, what arrived with what was put.

Two passes: a second one after late objects of an older label, which must bring those and nothing else. Keys with
blanks, signs and umlauts in the prefix; more keys than fit into one page of a listing.

    python3 moto.py MOTO_SERVER TRAILSPOOL
"""

import datetime
import gzip
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

import boto3

BUCKET, FOLDER = "acme-logs", "trail of 100% ü + more"
ACCOUNT, REGION = "111122223333", "us-east-1"
DAY = datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=1)
OBJECTS = 1100  # more than a page of 1,000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("moto_server did not start")


def log_object(number, minute):
    name = f"{ACCOUNT}_CloudTrail_{REGION}_{DAY:%Y%m%d}T{minute // 60:02}{minute % 60:02}Z_{number:016}.json.gz"
    key = f"{FOLDER}/AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{DAY:%Y/%m/%d}/{name}"
    records = [
        '{"eventVersion":"1.08","eventID":"%d-%d","eventName":"GetObject","amount":1.688560107857E9,"text":"a\\u003db"}'
        % (number, index)
        for index in range(number % 5)
    ]
    body = gzip.compress(('{"Records":[' + ",".join(records) + "]}").encode(), 6, mtime=0)
    return key, body, records


def run(trailspool, home):
    done = subprocess.run(
        [trailspool, "run", "--once", "--timeout", "120", "--config", home / "trailspool.toml"],
        capture_output=True, text=True, timeout=150, check=False,
    )
    if done.returncode != 0:
        sys.exit(f"trailspool ended with {done.returncode}:\n{done.stderr}")
    print(*[line for line in done.stderr.splitlines() if line.startswith("books:")], sep="\n")
    return Counter((home / "out.ndjson").read_text().splitlines())


def main(moto_server, trailspool):
    with tempfile.TemporaryDirectory() as folder:
        home, port = pathlib.Path(folder), free_port()
        server = subprocess.Popen([moto_server, "-H", "127.0.0.1", "-p", str(port)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            check(home, port, trailspool)
        finally:
            server.terminate()
            server.wait()


def check(home, port, trailspool):
    endpoint = f"http://127.0.0.1:{port}"
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=REGION,
                      aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="secret")
    s3.create_bucket(Bucket=BUCKET)
    expected = Counter()

    def put(number, minute):
        key, body, records = log_object(number, minute)
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        expected.update(records)

    for number in range(OBJECTS):
        put(number, 300 + 5 * (number % 100))
    digest = f"{FOLDER}/AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/{DAY:%Y/%m/%d}/digest.json.gz"
    s3.put_object(Bucket=BUCKET, Key=digest, Body=b"never to be fetched")

    secret = home / "secret"
    secret.write_text("secret")
    os.chmod(secret, 0o600)
    (home / "trailspool.toml").write_text(f"""
[agent]
state_dir = {json.dumps(str(home / "state"))}
status_listen = ""
[[source]]
name = "moto"
bucket = {json.dumps(f"{BUCKET}/{FOLDER}")}
region = "{REGION}"
start = "all"
unfiltered = true
endpoint = "{endpoint}"
  [source.credentials]
  method = "iam-user"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_key_file = {json.dumps(str(secret))}
[[output]]
name = "file"
kind = "file"
path = {json.dumps(str(home / "out.ndjson"))}
""")
    for late in (0, 20):
        for number in range(OBJECTS, OBJECTS + late):
            put(number, 5)
        arrived = run(trailspool, home)
        if arrived != expected:
            sys.exit(f"lost: {len(expected - arrived)}, too many: {len(arrived - expected)}")
    print(f"moto: {OBJECTS + 20} objects, {sum(expected.values())} records, each once and byte for byte")


if __name__ == "__main__":
    main(*sys.argv[1:])
