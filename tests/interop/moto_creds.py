"""Gets credentials in every way that moto can serve, and collects with them, by the real binary.

Two servers: one for S3 and instance metadata, and one for STS that checks signatures, session tokens, IAM policies and
roles' trust policies with their external ids. (moto cannot check signatures of listings: it decodes the slashes of a
prefix first. s3s_fs.sh has a server that can. And the keys that its metadata service gives are nobody's.)

    python3 moto_creds.py MOTO_SERVER TRAILSPOOL
"""

import datetime
import gzip
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3

BUCKET, ACCOUNT, REGION = "acme-logs", "123456789012", "us-east-1"  # moto's own account
ROLE = f"arn:aws:iam::{ACCOUNT}:role/trail-reader"
RECORD = '{"eventVersion":"1.08","eventID":"1","eventName":"GetObject"}'
DONE, DENIED = 0, 77


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Moto:
    def __init__(self, server, log):
        port = free_port()
        self.log, self.endpoint = log, f"http://127.0.0.1:{port}"
        with log.open("wb") as out:
            self.process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out)
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("moto_server did not start")

    def client(self, service):
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION,
                            aws_access_key_id="AKIASETUP", aws_secret_access_key="secret")

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

    def stop(self):
        self.process.terminate()
        self.process.wait()


def private(path, text):
    path.write_text(text)
    os.chmod(path, 0o600)
    return path


class Lab:
    def __init__(self, home, s3, sts, trailspool):
        self.home, self.s3, self.sts, self.trailspool = home, s3, sts, trailspool
        self.runs = 0

    def collect(self, credentials, code=DONE, says="", **environment):
        """Runs with these credentials; what it wrote to standard error."""
        self.runs += 1
        home = self.home / str(self.runs)
        home.mkdir()
        table = "\n".join(f"  {key} = {json.dumps(value)}" for key, value in credentials.items())
        (home / "trailspool.toml").write_text(f"""
[agent]
state_dir = {json.dumps(str(home / "state"))}
status_listen = ""
[[source]]
name = "moto"
bucket = "{BUCKET}"
region = "{REGION}"
start = "all"
endpoint = "{self.s3.endpoint}"
  [source.credentials]
  sts_endpoint = "{self.sts.endpoint}"
{table}
[[output]]
name = "out"
kind = "stdout"
""")
        done = subprocess.run(
            [self.trailspool, "run", "--once", "--timeout", "60", "--config", home / "trailspool.toml"],
            capture_output=True, text=True, timeout=90, check=False,
            env={"PATH": os.environ["PATH"], **environment},
        )
        expected = f"{RECORD}\n" if code == DONE else ""
        if done.returncode != code or done.stdout != expected or says not in done.stderr:
            sys.exit(f"{credentials}: ended with {done.returncode}, wrote {done.stdout!r} and\n{done.stderr}")
        print(f"moto: {', '.join(credentials.values())}: {'collected' if code == DONE else 'refused: ' + says}")
        return done.stderr


def fill(moto):
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    day = datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=1)
    name = f"{ACCOUNT}_CloudTrail_{REGION}_{day:%Y%m%d}T1200Z_{1:016}.json.gz"
    key = f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{day:%Y/%m/%d}/{name}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(f'{{"Records":[{RECORD}]}}'.encode()))


def people(moto):
    """A user that may assume two roles: one asks for an external id, the other may assume it, too."""
    iam = moto.client("iam")

    def statement(action, **more):
        return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, **more}]})

    user, session = f"arn:aws:iam::{ACCOUNT}:user/collector", f"arn:aws:sts::{ACCOUNT}:assumed-role/hop/trailspool"
    iam.create_user(UserName="collector")
    assume = statement("sts:AssumeRole", Resource=[ROLE, f"arn:aws:iam::{ACCOUNT}:role/hop"])
    iam.put_user_policy(UserName="collector", PolicyName="p", PolicyDocument=assume)
    trust = statement("sts:AssumeRole", Principal={"AWS": [user, session]},
                      Condition={"StringEquals": {"sts:ExternalId": "acme-7"}})
    iam.create_role(RoleName="trail-reader", AssumeRolePolicyDocument=trust)
    trust = statement("sts:AssumeRole", Principal={"AWS": user})
    iam.create_role(RoleName="hop", AssumeRolePolicyDocument=trust)
    iam.put_role_policy(RoleName="hop", PolicyName="p", PolicyDocument=assume)
    key = iam.create_access_key(UserName="collector")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def from_the_instance(lab):
    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": lab.s3.endpoint}
    since = lab.s3.log_size()
    lab.collect({"method": "ec2-role"}, **metadata)
    roles = "/latest/meta-data/iam/security-credentials/"
    expected = ["PUT /latest/api/token", f"GET {roles}", f"GET {roles}default-role"]
    if lab.s3.requests(since)[:3] != expected:
        sys.exit(f"not by IMDSv2: {lab.s3.requests(since)[:3]}")
    lab.collect({"method": "default"}, **metadata)
    if lab.sts.requests().count("POST /"):
        sys.exit("STS was asked for nothing")
    lab.collect({"method": "ec2-role", "assume_role": ROLE, "external_id": "acme-7"}, **metadata)
    if lab.sts.requests().count("POST /") != 1:
        sys.exit("the role was not assumed once")


def with_authorisation(lab, key, secret):
    user = {"method": "iam-user", "access_key_id": key,
            "secret_key_file": str(private(lab.home / "secret", secret))}
    role = {"assume_role": ROLE, "external_id": "acme-7"}
    lab.collect({**user, **role})
    lab.collect({**user, **role, "external_id": "other"}, DENIED, "the role's trust policy")
    lab.collect({**user, **role, "assume_role": f"{ROLE}-x"}, DENIED, "the role does not exist")
    wrong = str(private(lab.home / "wrong", "x" * 40))
    lab.collect({**user, **role, "secret_key_file": wrong}, DENIED, "does not belong to access key")
    lab.collect({**user, **role, "access_key_id": "AKIANOBODY0000000000"}, DENIED, "is not known")
    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": lab.s3.endpoint}
    lab.collect({"method": "ec2-role", **role}, DENIED, "is not known", **metadata)

    environment = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    lab.collect({"method": "default", **role}, **environment)

    document = json.dumps({"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret})
    printed = private(lab.home / "printed", document)
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": str(private(
            lab.home / "credentials", f"[user]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")),
        "AWS_CONFIG_FILE": str(private(lab.home / "config", f"""
[profile reader]
role_arn = {ROLE}
external_id = acme-7
source_profile = user
[profile twice]
role_arn = {ROLE}
external_id = acme-7
source_profile = hop
[profile hop]
role_arn = arn:aws:iam::{ACCOUNT}:role/hop
source_profile = user
[profile tool]
credential_process = cat {shlex.quote(str(printed))}
""")),
    }
    lab.collect({"method": "profile", "profile": "reader"}, **files)
    lab.collect({"method": "profile", "profile": "twice"}, **files)  # the second request has a session token
    lab.collect({"method": "default"}, AWS_PROFILE="reader", **files)
    lab.collect({"method": "profile", "profile": "tool", **role}, **files)
    os.chmod(lab.home / "credentials", 0o644)
    said = lab.collect({"method": "profile", "profile": "reader"}, DENIED, "chmod 600", **files)
    if secret in said:
        sys.exit("a secret was printed")


def main(moto_server, trailspool):
    with tempfile.TemporaryDirectory() as folder:
        home, servers = pathlib.Path(folder), []
        try:
            for name in ("s3", "sts"):
                servers.append(Moto(moto_server, home / f"{name}.log"))
            lab = Lab(home, *servers, trailspool)
            fill(lab.s3)
            from_the_instance(lab)
            key, secret = people(lab.sts)
            lab.sts.check_authorisation()
            with_authorisation(lab, key, secret)
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
