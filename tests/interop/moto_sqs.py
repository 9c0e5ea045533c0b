"""Collects by messages from moto's SQS and S3 with the real binary: every shape of message, notifications that S3 itself
sends (directly, by SNS, by raw SNS), a FIFO queue, the check, a sweep beside a queue, and three agents on one queue that
are killed again and again. The parts run at once: most of each is waiting for long polls.

    python3 moto_sqs.py MOTO_SERVER TRAILSPOOL
"""

import functools
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from moto_lab import ACCOUNT, REGION, Moto, configure, log_object

BUCKET = "acme-logs"
PREFIX = "trail of 100% ü + more/"


class Lab:
    """A bucket and its objects; each agent has a folder and a file of its own."""

    def __init__(self, home, moto, trailspool):
        self.home, self.moto, self.trailspool = home, moto, trailspool
        self.s3, self.sqs = moto.client("s3"), moto.client("sqs")
        self.s3.create_bucket(Bucket=BUCKET)
        self.numbers = iter(range(10**6))

    def queue(self, name, **attributes):
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return f"{self.moto.endpoint}/{ACCOUNT}/{name}", url, arn

    def put(self, bucket=BUCKET):
        """An object with three records; its key, its size and its records."""
        number = next(self.numbers)
        records = ['{"eventVersion":"1.08","eventID":"%d-%d","text":"a\\u003db"}' % (number, n) for n in range(3)]
        key, body = log_object(PREFIX, number, number // 60 * 60 + number % 12 * 5, records)
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        return key, len(body), records

    def configure(self, name, queue, method="sqs", bucket=BUCKET):
        home = self.home / name
        home.mkdir(exist_ok=True)
        source = {"bucket": f"{bucket}/{PREFIX}", "method": method, "queue_url": queue, "unfiltered": True,
                  "endpoint": self.moto.endpoint}
        configure(home, source if method == "sqs" else {**source, "start": "all"})
        return home

    def start(self, home, *arguments):
        log = (home / "log").open("ab")
        return subprocess.Popen([self.trailspool, "run", *arguments, "--config", home / "trailspool.toml"],
                                stdout=log, stderr=log)

    def once(self, home, *expected):
        """Runs until the queue is empty; each of the records must have arrived once."""
        process = self.start(home, "--once", "--timeout", "150")
        code = process.wait(timeout=180)
        arrived = written(home)
        if code != 0 or arrived != Counter(record for records in expected for record in records):
            sys.exit(f"{home.name}: ended with {code}, {sum(arrived.values())} records:\n{(home / 'log').read_text()}")

    def left(self, url):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)


def written(home):
    path = home / "out.ndjson"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def s3_event(*objects):
    return json.dumps({"Records": [
        {"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": REGION, "eventName": "ObjectCreated:Put",
         "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": BUCKET, "arn": f"arn:aws:s3:::{BUCKET}"},
                "object": {"key": urllib.parse.quote_plus(key, safe="/"), "size": size, "eTag": "x"}}}
        for key, size, _ in objects]})


def sns(message):
    return json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:t",
                       "Message": message, "Timestamp": "2026-11-23T12:00:00.000Z"})


def cloudtrail(*objects):
    return json.dumps({"s3Bucket": BUCKET, "s3ObjectKey": [key for key, _, _ in objects]}, ensure_ascii=False)


def event_bridge(found):
    return json.dumps({"version": "0", "detail-type": "Object Created", "source": "aws.s3", "region": REGION,
                       "detail": {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": found[0], "size": found[1]}}})


def every_shape(lab):
    queue, url, _ = lab.queue("shapes")
    objects = [lab.put() for _ in range(16)]
    bodies = [
        s3_event(objects[0]), s3_event(*objects[1:4]), sns(s3_event(*objects[4:6])), event_bridge(objects[6]),
        sns(event_bridge(objects[7])), cloudtrail(objects[8]), cloudtrail(*objects[9:12]), sns(cloudtrail(*objects[12:16])),
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}), "CloudTrail validation message.",
        s3_event(objects[0]), cloudtrail(objects[0]),
        s3_event((f"{objects[0][0][:-24]}{'9' * 16}.json.gz", 1, [])),  # it is gone
        "not a notice",
    ]
    for body in bodies:
        lab.sqs.send_message(QueueUrl=url, MessageBody=body)
    home = lab.configure("shapes", queue)
    lab.once(home, *(records for _, _, records in objects))
    if lab.left(url) or len(list((home / "state/quarantine").glob("*.aside"))) != 1:
        sys.exit(f"{lab.left(url)} messages are left, or the unreadable one is not set aside")
    print(f"moto sqs: {len(bodies)} messages of every shape, {len(objects)} objects, each once; no message is left")


def fifo(lab):
    queue, url, _ = lab.queue("shapes.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    objects = [lab.put() for _ in range(25)]
    for number, found in enumerate(objects):
        lab.sqs.send_message(QueueUrl=url, MessageBody=s3_event(found), MessageGroupId=str(number % 3))
    lab.once(lab.configure("fifo", queue), *(records for _, _, records in objects))
    if lab.left(url):
        sys.exit("messages of the FIFO queue are left")
    print(f"moto sqs: a FIFO queue of 3 groups: {len(objects)} objects, each once")


def told_by_s3(lab, bucket, raw):
    """S3 itself tells: the queue, or a topic that the queue subscribes to, in an envelope or raw."""
    lab.s3.create_bucket(Bucket=bucket)
    queue, url, arn = lab.queue(bucket)
    to = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    if raw:
        topics = lab.moto.client("sns")
        topic = topics.create_topic(Name=bucket)["TopicArn"]
        topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": raw})
        to = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    lab.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=to)
    objects = [lab.put(bucket) for _ in range(5)]
    if lab.left(url) < len(objects):
        sys.exit(f"moto does not tell {bucket}")
    lab.once(lab.configure(bucket, queue, bucket=bucket), *(records for _, _, records in objects))
    if lab.left(url):
        sys.exit(f"{bucket}: messages are left")
    print(f"moto sqs: notifications of moto's S3, {bucket}: {len(objects)} objects, each once")


def check(lab):
    queue, _, _ = lab.queue("checked", VisibilityTimeout="5", MessageRetentionPeriod="3600")
    for name, url, code, probe, words in [
        ("there", queue, 0, "queue-set-up", "MessageRetentionPeriod=1209600"),
        ("nowhere", f"{queue}-x", 78, "queue", "aws sqs get-queue-url --queue-name checked-x"),
    ]:
        home = lab.configure(name, url)
        done = subprocess.run([lab.trailspool, "check", "--json", "--config", home / "trailspool.toml"],
                              capture_output=True, text=True, timeout=60, check=False)
        findings = json.loads(done.stdout)["findings"]
        fixes = [f["fix"] for f in findings if f["probe"] == probe and f["level"] in ("warn", "fail")]
        if done.returncode != code or not any(words in fix for fix in fixes):
            sys.exit(f"check ended with {done.returncode}:\n{done.stdout}")
    print("moto sqs: the check asks a queue for its attributes, and names one that is not there")


def sweep(lab):
    """Every third message is lost: the sweep finds what they would have named."""
    lab.s3.create_bucket(Bucket="swept")
    queue, url, _ = lab.queue("swept")
    objects = [lab.put("swept") for _ in range(60)]
    for number, (key, size, _) in enumerate(objects):
        if number % 3:
            body = s3_event((key, size, [])).replace(f'"{BUCKET}"', '"swept"')
            lab.sqs.send_message(QueueUrl=url, MessageBody=body)
    home = lab.configure("swept", queue, method="sqs+sweep", bucket="swept")
    lab.once(home, *(records for _, _, records in objects))
    said = [line for line in (home / "log").read_text().splitlines() if "the sweep found" in line]
    if lab.left(url) or not said:
        sys.exit(f"{lab.left(url)} messages are left; the sweep said {said}")
    print(f"moto sqs: with a sweep {len(objects)} objects, each once; {said[0].split(': ', 1)[-1]}")


def scale_out(lab, agents=3, objects=600, kills=12):
    """Three agents on one queue, killed at random: every object reaches an output."""
    queue, url, _ = lab.queue("shared")
    expected = {}
    running = {}
    chance = random.Random(7)
    homes = [lab.configure(f"agent-{number}", queue) for number in range(agents)]
    for home in homes:
        running[home] = lab.start(home)
    told = 0
    killed = 0
    while killed < kills or told < objects:
        for _ in range(objects // kills):
            if told < objects:
                found = lab.put()
                expected[found[0]] = found[2]
                lab.sqs.send_message(QueueUrl=url, MessageBody=s3_event(found))
                told += 1
        victim = chance.choice(homes)
        time.sleep(chance.uniform(0, 0.4))  # to kill at another moment each time
        running[victim].send_signal(signal.SIGKILL)
        running[victim].wait()
        killed += 1
        running[victim] = lab.start(victim)

    def arrived():
        return [written(home) for home in homes]

    # What a killed agent held comes again after two minutes.
    until = time.time() + 200
    wanted = {record for records in expected.values() for record in records}
    while not wanted <= set().union(*arrived()) or lab.left(url):
        if time.time() > until:
            sys.exit(f"{len(wanted - set().union(*arrived()))} records did not arrive, {lab.left(url)} messages are left")
        time.sleep(0.5)
    for process in running.values():
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=60) != 0:
            sys.exit("an agent did not stop well")
    counts = arrived()
    several = sum(1 for records in expected.values() if sum(records[0] in count for count in counts) > 1)
    shares = [sum(1 for records in expected.values() if records[0] in count) for count in counts]
    if any(times > 1 + kills for count in counts for times in count.values()):
        sys.exit("an agent forwards a record more often than it was killed")
    print(f"moto sqs: {agents} agents on one queue, {killed} kills: all {told} objects arrived, {shares} by each, "
          f"{several} of them by more than one")


def main(moto_server, trailspool):
    with tempfile.TemporaryDirectory() as folder, Moto(moto_server, pathlib.Path(folder) / "moto.log") as moto:
        lab = Lab(pathlib.Path(folder), moto, trailspool)
        ways = [("direct", None), ("by-sns", "false"), ("by-sns-raw", "true")]
        parts = [every_shape, fifo, check, sweep, scale_out]
        parts += [functools.partial(told_by_s3, bucket=bucket, raw=raw) for bucket, raw in ways]
        with ThreadPoolExecutor(len(parts)) as pool:
            for part in [pool.submit(part, lab) for part in parts]:
                part.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
