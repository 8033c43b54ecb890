"""Upload a file or a folder to the bucket `team`: `to_s3.py SOURCE KEY`."""

import sys
from pathlib import Path

import boto3

source, key = Path(sys.argv[1]), sys.argv[2]
bucket = boto3.client("s3")
for file in [source] if source.is_file() else sorted(source.rglob("*")):
    if file.is_file():
        below = "" if file == source else f"/{file.relative_to(source)}"
        bucket.upload_file(str(file), "team", f"{key}{below}")
