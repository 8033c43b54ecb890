"""What a switch of champions costs those who ask; measured by `benchmarks.release`.

Serves a copy of a bundle, signed with a fresh key, and switches to another that differs in a field
of `bundle.json`, while requests are sent at a steady rate, whether answered or not.
"""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from bonexray.artifacts import write_json
from bonexray.bundle import INFO_FILE
from bonexray.sealed import seal
from bonexray.store import BundleStore, Champion
from serving.signature import make_keys, sign_bundle

_AROUND_S = 5.0
"""Before and after the switch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Of one request."""

    sent_s: float
    took_s: float
    version: str
    """Empty when the request failed."""


def prepare(bundle: Path, folder: Path) -> BundleStore:
    """A store that serves the bundle as version 1 and holds another as version 2, both signed."""
    (folder / "keys").mkdir()
    make_keys(folder / "keys/release.key", folder / "keys/release.pub")
    store = BundleStore(folder / "release")
    other = of_another_commit(bundle, folder / "other")
    for version, source in (("2", other), ("1", bundle)):
        digest = store.add(source)
        store.signature(digest).parent.mkdir(exist_ok=True)
        signature = sign_bundle(store.folder(digest), folder / "keys/release.key", [])
        store.signature(digest).write_text(signature, encoding="utf-8")
        write_json(folder / f"{version}.json", {"digest": digest})
        store.set_champion(Champion(model_name="bonexray", version=version, digest=digest))
    return store


def of_another_commit(bundle: Path, other: Path) -> Path:
    """Write a bundle that answers as another does, under another digest."""
    shutil.copytree(bundle, other)
    info = json.loads((other / INFO_FILE).read_text())
    info["provenance"]["code_commit"] = "0" * 40
    write_json(other / INFO_FILE, info)
    seal(other)
    return other


def point(store: BundleStore, version: str) -> None:
    """Make a version that `prepare` put there the champion."""
    digest = json.loads((store.root.parent / f"{version}.json").read_text())["digest"]
    store.set_champion(Champion(model_name="bonexray", version=version, digest=digest))


@contextmanager
def served(store: BundleStore) -> Iterator[str]:
    """The URL of `python -m serving` on the store."""
    command = [sys.executable, "-m", "serving", "--store", str(store.root), "--port", "0"]
    command += ["--grpc-port", "0", "--metrics-port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+:\d+", server.stdout.readline())
        try:
            if found is None:
                raise SystemExit("switch: the server did not start")
            yield found[0]
        finally:
            server.terminate()


def study(size: int) -> dict[str, Any]:
    """A request of one grey and noisy view."""
    pixels = np.random.default_rng(3).integers(0, 256, (size, size), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = [base64.b64encode(file.getvalue()).decode()]
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": data}]}


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> Answer:
    """Send one request; that it failed is an answer too."""
    sent_s = time.perf_counter()
    try:
        response = await client.post(f"{url}/v2/models/bonexray/infer", json=body)
        version = response.json()["parameters"]["model_version"] if response.is_success else ""
    except httpx.HTTPError:
        version = ""
    return Answer(sent_s=sent_s, took_s=time.perf_counter() - sent_s, version=version)


async def steady(
    url: str, store: BundleStore, count: int, rate: float, keeping: bool
) -> tuple[float, list[Answer]]:
    """Ask at a rate, switch to version 2 halfway; the moment of that, and every answer."""
    body = study(256)
    limits = httpx.Limits(max_keepalive_connections=16 if keeping else 0)
    tasks, switched_s = [], 0.0
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as client:
        start_s = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(start_s + number / rate - time.perf_counter(), 0))
            if number == count // 2:
                await asyncio.to_thread(point, store, "2")
                switched_s = time.perf_counter()
            tasks.append(asyncio.create_task(ask(client, url, body)))
        answers = await asyncio.gather(*tasks)
    return switched_s, answers


def switch_figures(switched_s: float, answers: list[Answer]) -> dict[str, float]:
    """What the answers say of the switch: the moment of the first by version 2."""
    failed = sum(answer.version == "" for answer in answers)
    first_s = min((a.sent_s for a in answers if a.version == "2"), default=float("nan"))
    # From the pointer on, the successor loads on the same cores.
    before = [a.took_s for a in answers if a.sent_s < switched_s]
    around = [a.took_s for a in answers if abs(a.sent_s - first_s) < _AROUND_S]
    p99_before, p99_around = np.percentile(before, 99), np.percentile(around, 99)
    return {
        "switch_requests": len(answers),
        "switch_failed": failed,
        "switch_seconds": first_s - switched_s,
        "switch_p99_before_ms": 1000 * float(p99_before),
        "switch_p99_around_ms": 1000 * float(p99_around),
        "switch_p99_ratio": float(p99_around / p99_before),
    }
