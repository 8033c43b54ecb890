"""`benchmarks.serving --long`: files and requests spoilt at random, and a long steady load.

Hypothesis draws what is spoilt. The decoders run in a process of their own, whose death is a find;
a running server is asked the same and more, and must stay the same process.
"""

import asyncio
import io
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from benchmarks.serving_load import saturate
from benchmarks.serving_stage import INFER, ROOT, Stage, binary_body, http_request, serve
from serving.oip.errors import BadRequestError
from serving.oip.json_form import HEADER_LENGTH
from serving.reading import decode_view
from serving.studies import AskedView
from tests.serving.dicom.files import ENCODERS, NATIVE, dicom, radiograph
from tests.small_bundle import draw_png

_HANG_S = 5.0
_EXAMPLES = 200
_SIZE = 224
_CONCURRENCY = 20
_SETTLED = 0.1
"""Share of the load after which memory is first looked at."""
_LENGTHS = (0, 1, 127, 255, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def fuzz(stage: Stage, minutes: float) -> dict[str, float]:
    """What spoilt files and requests did, in so many minutes each."""
    decoders = [sys.executable, "-m", "benchmarks.serving_fuzz", str(minutes)]
    done = subprocess.run(decoders, cwd=ROOT, capture_output=True, text=True)
    print(f"  decoders: {done.stdout.strip()} {done.stderr.strip()[-500:]}")
    figures = {"fuzz_decoder_crashes": float(done.returncode != 0)}
    if done.returncode == 0:
        files, slowest_s = done.stdout.split()
        figures |= {"fuzz_decoder_files": float(files), "fuzz_decoder_slowest_s": float(slowest_s)}
    return figures | fuzz_server(stage, minutes)


def fuzz_server(stage: Stage, minutes: float) -> dict[str, float]:
    """Ask a server with spoilt files, and with spoilt headers of the binary form."""
    slow, faults, slowest_s = 0, 0, 0.0
    with serve(stage.small) as server, httpx.Client(trust_env=False, timeout=60) as client:
        before = server.worker()

        def ask(body: bytes, headers: dict[str, str]) -> None:
            nonlocal slow, faults, slowest_s
            start_s = time.perf_counter()
            try:
                status = client.post(server.url + INFER, content=body, headers=headers).status_code
            except httpx.HTTPError as error:
                print(f"  server: {type(error).__name__}: {error}")
                status = 599
            took_s = time.perf_counter() - start_s
            slowest_s = max(slowest_s, took_s)
            slow, faults = slow + (took_s > _HANG_S), faults + (status >= 500)

        requests = st.one_of(
            spoilt(originals()).map(lambda file: binary_body([file])), spoilt_requests()
        )
        asked = for_minutes(minutes, requests, lambda request: ask(*request))
        crashed = server.worker() != before
    return {
        "fuzz_server_requests": asked,
        "fuzz_server_crashes": float(crashed),
        "fuzz_server_5xx": faults,
        "fuzz_server_hangs": slow,
        "fuzz_server_slowest_s": slowest_s,
    }


def for_minutes(minutes: float, drawn: st.SearchStrategy[Any], use: Callable[[Any], None]) -> int:
    """Draw and use for so long; returns how many were drawn."""
    until_s, count = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < until_s:

        @seed(count)
        @settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn)
        def run(value: Any) -> None:
            use(value)

        run()
        count += _EXAMPLES
    return count


def originals() -> list[bytes]:
    """Sound files of every format and transfer syntax."""
    pixels = radiograph(48, 40)
    shallow = (pixels // 16).astype(np.uint8)
    files = [draw_png(90, 40)]
    for kind, mode in (("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "1")):
        file = io.BytesIO()
        Image.fromarray(shallow).convert(mode).save(file, kind)
        files.append(file.getvalue())
    for syntax in (*NATIVE, *ENCODERS):
        files.append(dicom(shallow if syntax == JPEGBaseline8Bit else pixels, syntax))
    return files


@st.composite
def spoilt(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """A sound file with bytes changed, lengths replaced, cut, doubled or cut off."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        # Headers are where decoders go wrong, and pixels are most of a file.
        at = at if draw(st.booleans()) else at % 400
        how = draw(st.sampled_from(["byte", "length", "cut", "copy", "end"]))
        end = at + draw(st.integers(1, 64))
        if how == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "length":
            order = draw(st.sampled_from(["little", "big"]))
            width = draw(st.sampled_from([2, 4]))
            value = draw(st.sampled_from(_LENGTHS)) % 256**width
            data[at : at + width] = value.to_bytes(width, order)
        elif how == "cut":
            del data[at:end]
        elif how == "copy":
            data[at:at] = data[at:end]
        else:
            del data[at:]
    return bytes(data)


@st.composite
def spoilt_requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """The binary form with its JSON, its length or its elements spoilt."""
    body, headers = binary_body([draw_png(90, 40)])
    body = draw(spoilt([body, body[: int(headers[HEADER_LENGTH]) + 8]]))
    length = draw(
        st.one_of(
            st.just(headers[HEADER_LENGTH]),
            st.sampled_from(_LENGTHS).map(str),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
        )
    )
    return body, {HEADER_LENGTH: length}


def soak(stage: Stage, minutes: float) -> dict[str, float]:
    """Twenty clients at a time, for so long: what memory the server gained."""
    with serve(stage.store) as server:
        requests = [http_request(*binary_body([view])) for view in stage.views]
        address = (server.host, server.port)
        first_s = 60 * minutes * _SETTLED
        replies = asyncio.run(saturate(address, requests, _CONCURRENCY, first_s))
        before = server.rss_mb()
        replies += asyncio.run(saturate(address, requests, _CONCURRENCY, 60 * minutes - first_s))
        growth = server.rss_mb() - before
    return {
        "soak_minutes": minutes,
        "soak_requests": len(replies),
        "soak_growth_mb": growth,
        "soak_failed": sum(reply.status != 200 for reply in replies),
    }


def main(minutes: str) -> None:
    """The process of the decoders: prints how many files, and seconds of the slowest."""
    slowest_s = 0.0

    def read(file: bytes) -> None:
        nonlocal slowest_s
        start_s = time.perf_counter()
        with suppress(BadRequestError):
            decode_view(AskedView(data=file, claimed_part=""), 1, _SIZE)
        slowest_s = max(slowest_s, time.perf_counter() - start_s)

    print(for_minutes(float(minutes), spoilt(originals()), read), round(slowest_s, 3))


if __name__ == "__main__":
    main(sys.argv[1])
