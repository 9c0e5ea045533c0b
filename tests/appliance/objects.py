"""Puts CloudTrail log objects into a folder that an S3 server serves, and prints the records that they hold.

    objects.py BUCKET-FOLDER FIRST COUNT [RECORD-BYTES]    objects FIRST to FIRST + COUNT - 1, of five records each
"""
import datetime, gzip, json, os, random, sys

folder, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
size = int(sys.argv[4]) if len(sys.argv) > 4 else 500
day = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=12)
path = f"{folder}/AWSLogs/111122223333/CloudTrail/us-east-1/{day:%Y/%m/%d}"
os.makedirs(path, exist_ok=True)
for n in range(first, first + count):
    # Of which gzip makes half: neither nothing, nor the same.
    chance = random.Random(n)
    records = [
        json.dumps({"eventVersion": "1.08", "eventID": f"{n}-{i}", "eventName": "PutObject",
                    "padding": f"{chance.getrandbits(4 * size):0{size}x}"}, separators=(",", ":"))
        for i in range(5)
    ]
    name = f"111122223333_CloudTrail_us-east-1_{day:%Y%m%d}T{day:%H%M}Z_{n:016}.json.gz"
    # Whole at once: a listing must not meet half of it.
    with open(f"{folder}/.next", "wb") as file:
        file.write(gzip.compress(('{"Records":[' + ",".join(records) + "]}").encode(), 1, mtime=0))
    os.rename(f"{folder}/.next", f"{path}/{name}")
    print("\n".join(records))
