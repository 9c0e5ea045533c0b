"""What the collections from moto's servers have in common: a server, objects as CloudTrail writes them, a configuration."""

import datetime
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import boto3

ACCOUNT, REGION = "123456789012", "us-east-1"  # moto's own account
DAY = datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=1)
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "secret"


class Moto:
    """A server of its own process on a free port; what it says goes into `log`."""

    def __init__(self, server, log):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.log, self.endpoint = log, f"http://127.0.0.1:{port}"
        with log.open("wb") as out:
            self.process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out)
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"moto_server did not start:\n{log.read_text(errors='replace')}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def client(self, service):
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION,
                            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY)

    def check_authorisation(self):
        """After 0 more requests moto checks them."""
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", data=b"0",
                                         headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(request).read()

    def log_size(self):
        return self.log.stat().st_size

    def requests(self, since=0):
        """Method and path of each request that was logged."""
        lines = self.log.read_bytes()[since:].decode(errors="replace").splitlines()
        return [line.split('"')[1].rsplit(" ", 1)[0] for line in lines if line.count('"') >= 2]


def log_object(prefix, number, minute, records):
    """The key and the bytes of an object with these records, stamped in this minute of yesterday."""
    folder = f"{prefix}AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{DAY:%Y/%m/%d}"
    stamp = f"{DAY:%Y%m%d}T{minute // 60 % 24:02}{minute % 60:02}Z"
    key = f"{folder}/{ACCOUNT}_CloudTrail_{REGION}_{stamp}_{number:016}.json.gz"
    return key, gzip.compress(('{"Records":[' + ",".join(records) + "]}").encode(), 6, mtime=0)


def private(path, text):
    """A file that only its owner reads."""
    path.write_text(text)
    os.chmod(path, 0o600)
    return str(path)


def configure(home, source, credentials=None, output=None):
    """Writes `home/trailspool.toml`; the parts are keys of their tables. Without an output records go to
    `home/out.ndjson`."""
    keys = {"method": "iam-user", "access_key_id": ACCESS_KEY}
    credentials = credentials or {**keys, "secret_key_file": private(home / "secret", SECRET_KEY)}
    output = output or {"kind": "file", "path": str(home / "out.ndjson")}
    (home / "trailspool.toml").write_text("\n".join([
        "[agent]", *lines({"state_dir": str(home / "state"), "status_listen": ""}),
        "[[source]]", *lines({"name": "moto", "region": REGION, **source}),
        "[source.credentials]", *lines(credentials),
        "[[output]]", *lines({"name": "out", **output}), ""]))


def lines(table):
    # A basic string of TOML is one of JSON, as are these numbers and booleans.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
