"""Gets credentials in every way that moto can serve, and collects with them, by the real binary.

Two servers: one for S3 and instance metadata, and one for STS that checks signatures, session tokens, IAM policies and
roles' trust policies with their external ids. (moto cannot check signatures of listings: it decodes the slashes of a
prefix first. s3s_fs.sh has a server that can. And the keys that its metadata service gives are nobody's.)

    python3 moto_creds.py MOTO_SERVER TRAILSPOOL
"""

import contextlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from moto_lab import ACCOUNT, Moto, configure, log_object, private

BUCKET = "acme-logs"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/trail-reader"
RECORD = '{"eventVersion":"1.08","eventID":"1","eventName":"GetObject"}'
DONE, DENIED = 0, 77


class Lab:
    def __init__(self, home, s3, sts, trailspool):
        self.home, self.s3, self.sts, self.trailspool = home, s3, sts, trailspool
        self.runs = 0

    def collect(self, credentials, code=DONE, says="", **environment):
        """Runs with these credentials; what it wrote to standard error."""
        self.runs += 1
        home = self.home / str(self.runs)
        home.mkdir()
        configure(home, {"bucket": BUCKET, "start": "all", "endpoint": self.s3.endpoint},
                  {"sts_endpoint": self.sts.endpoint, **credentials}, {"kind": "stdout"})
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
    key, body = log_object("", 1, 12 * 60, [RECORD])
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)


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
            "secret_key_file": private(lab.home / "secret", secret)}
    role = {"assume_role": ROLE, "external_id": "acme-7"}
    lab.collect({**user, **role})
    lab.collect({**user, **role, "external_id": "other"}, DENIED, "the role's trust policy")
    lab.collect({**user, **role, "assume_role": f"{ROLE}-x"}, DENIED, "the role does not exist")
    wrong = private(lab.home / "wrong", "x" * 40)
    lab.collect({**user, **role, "secret_key_file": wrong}, DENIED, "does not belong to access key")
    lab.collect({**user, **role, "access_key_id": "AKIANOBODY0000000000"}, DENIED, "is not known")
    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": lab.s3.endpoint}
    lab.collect({"method": "ec2-role", **role}, DENIED, "is not known", **metadata)

    environment = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    lab.collect({"method": "default", **role}, **environment)

    document = json.dumps({"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret})
    printed = private(lab.home / "printed", document)
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": private(
            lab.home / "credentials", f"[user]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"),
        "AWS_CONFIG_FILE": private(lab.home / "config", f"""
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
credential_process = cat {shlex.quote(printed)}
"""),
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
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = pathlib.Path(folder)
        s3, sts = (stack.enter_context(Moto(moto_server, home / f"{name}.log")) for name in ("s3", "sts"))
        lab = Lab(home, s3, sts, trailspool)
        fill(s3)
        from_the_instance(lab)
        key, secret = people(sts)
        sts.check_authorisation()
        with_authorisation(lab, key, secret)


if __name__ == "__main__":
    main(*sys.argv[1:])
