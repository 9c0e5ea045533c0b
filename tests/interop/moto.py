"""Collects from moto's S3 with the real binary and compares, byte for byte, what arrived with what was put.

Two passes: a second one after late objects of an older label, which must bring those and nothing else. Keys with
blanks, signs and umlauts in the prefix; more keys than fit into one page of a listing.

    python3 moto.py MOTO_SERVER TRAILSPOOL
"""

import pathlib
import subprocess
import sys
import tempfile
from collections import Counter

from moto_lab import ACCOUNT, DAY, REGION, Moto, configure, log_object

BUCKET, FOLDER = "acme-logs", "trail of 100% ü + more"
OBJECTS = 1100  # more than a page of 1,000


def records_of(number):
    text = '{"eventVersion":"1.08","eventID":"%d-%d","eventName":"GetObject","amount":1.688560107857E9,"text":"a\\u003db"}'
    return [text % (number, index) for index in range(number % 5)]


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
    with tempfile.TemporaryDirectory() as folder, Moto(moto_server, pathlib.Path(folder) / "moto.log") as moto:
        check(pathlib.Path(folder), moto, trailspool)


def check(home, moto, trailspool):
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    expected = Counter()

    def put(number, minute):
        records = records_of(number)
        key, body = log_object(f"{FOLDER}/", number, minute, records)
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        expected.update(records)

    for number in range(OBJECTS):
        put(number, 300 + 5 * (number % 100))
    digest = f"{FOLDER}/AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/{DAY:%Y/%m/%d}/digest.json.gz"
    s3.put_object(Bucket=BUCKET, Key=digest, Body=b"never to be fetched")

    configure(home, {"bucket": f"{BUCKET}/{FOLDER}", "start": "all", "unfiltered": True, "endpoint": moto.endpoint})
    for late in (0, 20):
        for number in range(OBJECTS, OBJECTS + late):
            put(number, 5)
        arrived = run(trailspool, home)
        if arrived != expected:
            sys.exit(f"lost: {len(expected - arrived)}, too many: {len(arrived - expected)}")
    print(f"moto: {OBJECTS + 20} objects, {sum(expected.values())} records, each once and byte for byte")


if __name__ == "__main__":
    main(*sys.argv[1:])
