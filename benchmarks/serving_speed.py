"""How fast the endpoint is beside what it is made of: decoding and ONNX Runtime, on the same cores.

The client shares the cores with the server: what it took of them stands beside the ratio.
"""

import asyncio
import http.client
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice

import grpc
import numpy as np
import psutil

from benchmarks.serving_load import Reply, arrive, goodput, saturate
from benchmarks.serving_stage import (
    INFER,
    Server,
    Stage,
    binary_body,
    http_request,
    json_body,
    message,
    serve,
)
from bonexray.analysis import Precision, choose_precision, load_network, run_network
from bonexray.images import normalise, read_square
from serving.oip.messages import SERVICE, pb
from serving.setup import usable_cores

OUTPUTS = ("study_probability", "study_verdict", "view_probability")
CORES = usable_cores()
_WARM = 30
_ASKED = 200
_ROUNDS, _ROUND_S = 3, 7.0
_STEADY_S = 7.0
_SATURATION = 0.7
_DEADLINE_S = 2.0
_OVERLOAD, _OVERLOAD_S = 3.0, 12.0


def measure(stage: Stage) -> dict[str, float]:
    """All figures of speed, on a server of its own."""
    figures = network_speed(stage)
    with serve(stage.store) as server:
        figures["ready_seconds"] = server.ready_s
        figures |= overhead(stage, server)
        figures |= throughput(stage, server)
        figures |= steady(stage, server)
        figures["memory_mb"] = server.rss_mb()  # after thousands of requests
    return figures | overload(stage)


def bare(stage: Stage, precision: Precision | None = None) -> Callable[[bytes], object]:
    """Decoding and the network, and nothing else: on the caller's thread."""
    bundle = stage.bundle
    session = load_network(bundle, 1, precision=precision or choose_precision(bundle, "int8"))
    spec = bundle.info.image
    return lambda view: run_network(session, normalise(read_square(view, spec.size)[None], spec))


def binary_requests(stage: Stage) -> list[bytes]:
    """Of one view each, in the binary form."""
    return [http_request(*binary_body([view], OUTPUTS)) for view in stage.views]


def network_speed(stage: Stage) -> dict[str, float]:
    """The served precision and FP32 in turns, on one thread, without decoding."""
    precision = choose_precision(stage.bundle, "int8")
    sessions = [load_network(stage.bundle, 1, precision=kind) for kind in (precision, "fp32")]
    spec = stage.bundle.info.image
    image = normalise(read_square(stage.views[0], spec.size)[None], spec)
    took_ms = turns([lambda s=s: run_network(s, image) for s in sessions], 150)  # type: ignore[misc]
    served, fp32 = (statistics.median(times) for times in took_ms)
    return {"network_ms": served, "network_fp32_ms": fp32, "fastest_vs_ort_fp32": fp32 / served}


def turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Milliseconds of each call, called in turns: what disturbs the machine disturbs all."""
    took_ms: list[list[float]] = [[] for _ in calls]
    for number in range(_WARM + rounds):
        for call, times in zip(calls, took_ms, strict=True):
            start_s = time.perf_counter()
            call()
            if number >= _WARM:
                times.append(1000 * (time.perf_counter() - start_s))
    return took_ms


def overhead(stage: Stage, server: Server) -> dict[str, float]:
    """What a request takes beyond decoding and network, at the median, one after the other."""
    alone, views = bare(stage), stage.views[:8]
    connection = http.client.HTTPConnection(server.host, server.port)
    channel = grpc.insecure_channel(server.grpc)
    infer = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )

    def post(body: bytes, headers: dict[str, str]) -> None:
        connection.request("POST", INFER, body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"overhead: status {answer.status}")

    binary = cycle([binary_body([view], OUTPUTS) for view in views])
    as_json = cycle([json_body([view], OUTPUTS) for view in views])
    messages, files = cycle([message([view], OUTPUTS) for view in views]), cycle(views)
    took_ms = turns(
        [
            lambda: alone(next(files)),
            lambda: post(*next(binary)),
            lambda: post(next(as_json), {}),
            lambda: infer(next(messages)),
        ],
        _ASKED,
    )
    connection.close()
    channel.close()
    base, rest, rest_json, over_grpc = (statistics.median(times) for times in took_ms)
    return {
        "bare_ms": base,
        "overhead_ms_rest": rest - base,
        "overhead_ms_rest_json": rest_json - base,
        "overhead_ms_grpc": over_grpc - base,
    }


def loop(call: Callable[[bytes], object], views: Sequence[bytes], seconds: float) -> float:
    """Views a second, by as many threads as there are cores."""
    until_s, counts = time.perf_counter() + seconds, [0] * CORES

    def work(number: int) -> None:
        for view in islice(cycle(views), number, None):
            if time.perf_counter() >= until_s:
                return
            call(view)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CORES)]
    start_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start_s)


def throughput(stage: Stage, server: Server) -> dict[str, float]:
    """The saturated server beside bare loops on the same cores, in turns; medians of ratios.

    The time of the cores that an answer takes is told too: it hardly depends on who else uses them.
    """
    alone, fp32, worker = bare(stage), bare(stage, "fp32"), server.worker()
    requests, address = binary_requests(stage), (server.host, server.port)
    rates, ratios, ratios_fp32, taken, cpu_ratios = [], [], [], [], []
    for _ in range(_ROUNDS):
        cpu_s = time.process_time()
        before = loop(alone, stage.views, _ROUND_S / 2)
        bare_cpu_s = (time.process_time() - cpu_s) / (before * _ROUND_S / 2)
        cpu_s, start_s, worker_s = time.process_time(), time.perf_counter(), cpu_of(worker)
        replies = asyncio.run(saturate(address, requests, 2 * CORES, _ROUND_S))
        spent_s = time.process_time() - cpu_s
        taken.append(spent_s / CORES / (time.perf_counter() - start_s))
        cpu_ratios.append(bare_cpu_s / ((cpu_of(worker) - worker_s) / len(replies)))
        after = loop(alone, stage.views, _ROUND_S / 2)
        slow = loop(fp32, stage.views, _ROUND_S / 2)
        rates.append(goodput(replies, _DEADLINE_S))
        ratios.append(rates[-1] / ((before + after) / 2))
        ratios_fp32.append(rates[-1] / slow)
    client = statistics.median(taken)
    return {
        "peak_per_second": statistics.median(rates),
        "throughput_vs_bare": statistics.median(ratios),
        "throughput_client_share": client,
        "throughput_vs_bare_of_what_is_left": statistics.median(ratios) / (1 - client),
        "throughput_vs_bare_by_cpu_time": statistics.median(cpu_ratios),
        "throughput_vs_bare_fp32": statistics.median(ratios_fp32),
    }


def cpu_of(process: psutil.Process) -> float:
    """Seconds of the cores that it has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


def steady(stage: Stage, server: Server) -> dict[str, float]:
    """The tail at 70 % of saturation: evenly spaced, and as clients that know not of each other.

    Saturation is found anew before each: others may use the machine too. Medians of a few rounds.
    """
    requests, address = binary_requests(stage), (server.host, server.port)
    draw, ratios, p50s = np.random.default_rng(1), [], []
    for _ in range(_ROUNDS):
        peak = goodput(asyncio.run(saturate(address, requests, 2 * CORES, _STEADY_S)), _DEADLINE_S)
        rate = _SATURATION * peak
        even = np.arange(int(rate * _STEADY_S)) / rate
        poisson = np.cumsum(draw.exponential(1 / rate, len(even)))
        for after_s in (even, poisson):
            took_ms = latencies_ms(asyncio.run(arrive(address, requests, after_s.tolist())))
            p50, p99 = np.percentile(took_ms, [50, 99])
            ratios.append(float(p99 / p50))
            p50s.append(float(p50))
    return {
        "p99_over_p50": statistics.median(ratios[::2]),
        "p50_ms_at_70_percent": statistics.median(p50s[::2]),
        "p99_over_p50_poisson": statistics.median(ratios[1::2]),
    }


def overload(stage: Stage) -> dict[str, float]:
    """Three times what can be answered, with a deadline of two seconds."""
    with serve(stage.store, deadline_s=_DEADLINE_S) as server:
        requests, address = binary_requests(stage), (server.host, server.port)
        peak = goodput(asyncio.run(saturate(address, requests, 2 * CORES, _ROUND_S)), _DEADLINE_S)
        rate = _OVERLOAD * peak
        after_s = (np.arange(int(rate * _OVERLOAD_S)) / rate).tolist()
        cpu_s = time.process_time()
        replies = asyncio.run(arrive(address, requests, after_s))
        client = (time.process_time() - cpu_s) / _OVERLOAD_S / CORES
    sent_away = [reply for reply in replies if reply.status == 429]
    accepted = latencies_ms(replies)
    return {
        "overload_goodput": goodput(replies, _DEADLINE_S) / peak,
        "overload_client_share": client,
        "overload_p99_vs_deadline": float(np.percentile(accepted, 99)) / 1000 / _DEADLINE_S,
        "overload_share_429": len(sent_away) / len(replies),
        "overload_429_without_retry_after": sum(not reply.retry_after for reply in sent_away),
        "overload_other": sum(reply.status not in (200, 429) for reply in replies),
    }


def latencies_ms(replies: Sequence[Reply]) -> list[float]:
    """Of those that were answered."""
    return [1000 * reply.took_s for reply in replies if reply.status == 200]
