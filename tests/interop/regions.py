#!/usr/bin/env python3
"""Holds the table of regions against botocore's data.

usage: regions.py TRAILSPOOL

Compares `TRAILSPOOL regions --tsv` with the botocore that this Python imports:
* the regions are those of partitions.json, with the same labels and partitions;
* the plain endpoints are those of botocore's endpoint rules;
* FIPS and dual-stack endpoints are those that endpoints.json names for a region, and a few more that are
  listed below. The rules would not do for these: they spell a name for every region.
"""

import gzip
import json
import os
import subprocess
import sys

import botocore
from botocore.endpoint_provider import EndpointProvider

DATA = os.path.join(os.path.dirname(botocore.__file__), "data")

# What exists without being named in endpoints.json, and who says so.
BEYOND = {
    # used by registry.k8s.io; endpoints.json was not extended for these regions
    ("ap-east-2", "s3-dualstack"),
    ("ap-southeast-6", "s3-dualstack"),
    # Storage Gateway User Guide, "Network and firewall requirements"
    ("us-gov-east-1", "s3-fips-dualstack"),
    ("us-gov-west-1", "s3-fips-dualstack"),
}

VARIANTS = {
    "s3-fips": ("s3", {"fips"}),
    "s3-dualstack": ("s3", {"dualstack"}),
    "s3-fips-dualstack": ("s3", {"fips", "dualstack"}),
    "sqs-fips": ("sqs", {"fips"}),
    "sts-fips": ("sts", {"fips"}),
}


def load(name):
    path = os.path.join(DATA, name)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    with gzip.open(path + ".gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def named(endpoints, partition, service, region, tags):
    """The host that endpoints.json names for exactly this region and variant."""
    services = next((p["services"] for p in endpoints["partitions"] if p["partition"] == partition), {})
    for variant in services.get(service, {"endpoints": {}})["endpoints"].get(region, {}).get("variants", []):
        if set(variant["tags"]) == tags:
            return variant["hostname"]
    return ""


def main():
    output = subprocess.run([sys.argv[1], "regions", "--tsv"], check=True, capture_output=True, text=True).stdout
    header, *lines = output.splitlines()
    columns = header.split("\t")
    rows = {line.split("\t")[0]: dict(zip(columns, line.split("\t"), strict=True)) for line in lines}

    partitions, endpoints = load("partitions.json"), load("endpoints.json")
    versions = {"s3": "2006-03-01", "sqs": "2012-11-05", "sts": "2011-06-15"}
    rules = {
        service: EndpointProvider(load(f"{service}/{version}/endpoint-rule-set-1.json"), partitions)
        for service, version in versions.items()
    }
    wrong = []

    def expect(region, what, ours, theirs):
        if ours != theirs:
            wrong.append(f"{region} {what}: the table says {ours!r}, botocore {theirs!r}")

    known = {
        region: (partition["id"], facts["description"])
        for partition in partitions["partitions"]
        for region, facts in partition["regions"].items()
        if not region.endswith("-global")
    }
    for region in sorted(known.keys() | rows.keys()):
        expect(region, "exists", region in rows, region in known)
    checked = 0
    for region, row in rows.items():
        partition, label = known.get(region, ("", ""))
        expect(region, "partition", row["partition"], partition)
        expect(region, "label", row["label"], label)
        for column in columns[3:]:
            service, tags = VARIANTS.get(column, (column, set()))
            parameters = {"Region": region, "UseFIPS": "fips" in tags, "UseDualStack": "dualstack" in tags}
            if tags and (region, column) not in BEYOND:
                theirs = named(endpoints, partition, service, region, tags)
            else:
                theirs = rules[service].resolve_endpoint(**parameters).url.removeprefix("https://")
            expect(region, column, row[column], theirs)
            checked += 1
    print(f"{len(rows)} regions, {checked} endpoints, botocore {botocore.__version__}: {len(wrong)} differences")
    print("".join(f"  {line}\n" for line in wrong), end="")
    sys.exit(1 if wrong or not checked else 0)


if __name__ == "__main__":
    main()
