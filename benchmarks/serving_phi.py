"""The made-up patient of `benchmarks.serving_patient`, searched in all that a server tells.

Told is: its log, its page of metrics, the spans that it exports, its audit files, the headers and
bodies of its answers. The protocol's `id` is given back by definition.
"""

import base64
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.parse import quote

import httpx

from benchmarks.serving_patient import WORDS, answers, answers_of_grpc
from benchmarks.serving_stage import ROOT, Stage, serve
from serving.guard.clients import Scope
from serving.guard.tokens import add_client, new_token

_COLLECTOR = str(ROOT / "tests/serving/watch/collector.py")
_PER_MINUTE = 200
_EXPORTED_S = 1.0
_FORMS = {
    form
    for word in WORDS
    for form in (word, quote(word), base64.b64encode(word.encode()).decode().rstrip("="))
}


def measure(stage: Stage) -> dict[str, float]:
    """Ask in every way, then search."""
    folder = stage.folder / "phi"
    folder.mkdir()
    token, client = new_token("benchmark", [Scope.INFER, Scope.READ], None)
    add_client(folder / "clients.json", client)
    flags = ("--clients", str(folder / "clients.json"), "--audit", str(folder / "audit"))
    spans = folder / "spans.jsonl"
    with collector(spans) as url:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        with serve(
            stage.small, *flags, environment=environment, requests_per_minute=_PER_MINUTE
        ) as server:
            came = [*answers_of_grpc(server, token), *answers(server, token)]
            told = {"answers": b"\n".join(came)}
            told["metrics"] = httpx.get(server.metrics, trust_env=False).content
        time.sleep(_EXPORTED_S)
    told["log"] = server.said.read_bytes()
    told["spans"] = spans.with_suffix(".bytes").read_bytes()
    told["audit"] = b"\n".join(file.read_bytes() for file in (folder / "audit").iterdir())
    found = {place: hits(text) for place, text in told.items()}
    for place, words in found.items():
        print(f"  {place:<10}{len(told[place]):>9,} bytes; found {words or 'nothing'}")
    figures = {f"phi_bytes_{place}": float(len(text)) for place, text in told.items()}
    hit = float(sum(map(len, found.values())))
    return {"phi_hits": hit, "phi_requests": float(len(came))} | figures


def hits(text: bytes) -> list[str]:
    """The words of the patient that stand in a text, in whatever case."""
    lower = text.lower()
    return sorted(form for form in _FORMS if form.lower().encode() in lower)


@contextmanager
def collector(spans: Path) -> Iterator[str]:
    """The URL of a collector that writes what it is sent."""
    with Popen([sys.executable, _COLLECTOR, str(spans)], stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
