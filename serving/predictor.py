"""The study analysis as a KServe model: Open Inference Protocol in, Open Inference Protocol out.

A request is one study: the tensor `image` holds its n views, each a whole PNG or JPEG file as
base64. Knows no route and no socket.
"""

import asyncio
import base64
import binascii
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import RequestedOutput
from PIL import Image

from bonexray.analysis import (
    StudyAnswer,
    judge_study,
    load_network,
    read_views,
    run_network,
    try_network,
)
from bonexray.bundle import Bundle
from bonexray.errors import BundleError

MODEL_NAME = "bonexray"
MAX_VIEWS = 16
DISCLAIMER = (
    "Research use only; not a medical device. "
    "Abnormal is MURA's label, not a diagnosis of fracture."
)
_INPUT_NAME = "image"
_GREY_PX = 256
_OUTPUT_TYPES: tuple[dict[str, Any], ...] = (
    {"name": "study_probability", "datatype": "FP64", "shape": [1]},
    {"name": "study_verdict", "datatype": "BYTES", "shape": [1]},
    {"name": "view_probability", "datatype": "FP64", "shape": [-1]},
    {"name": "view_body_part", "datatype": "BYTES", "shape": [-1]},
    {"name": "view_refusal", "datatype": "BYTES", "shape": [-1]},
    {"name": "view_cam", "datatype": "FP32", "shape": [-1, -1, -1]},
)


class RequestError(InvalidInput):  # type: ignore[misc]  # kserve is not typed
    """A request that does not hold what it must. Its message never repeats the request."""


class BonexrayModel(Model):  # type: ignore[misc]  # kserve is not typed
    """One bundle that reads studies."""

    def __init__(self, bundle: Bundle, version: str, threads: int, shared: bool = False) -> None:
        """Keep what `load` and `warm` need; the model is not ready before.

        Args:
            bundle: what is served.
            version: its version in the registry.
            threads: CPU threads of the network, and how many studies are read at a time.
            shared: whether the network's threads are those of `share_threads`.
        """
        super().__init__(MODEL_NAME)
        self.version = version
        self._bundle = bundle
        self._threads = threads
        self._shared = shared
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="study")

    def load(self) -> bool:
        """Load the network, which is not ready before `warm`. Raises BundleError."""
        self._network = load_network(self._bundle, None if self._shared else self._threads)
        return True

    def warm(self) -> None:
        """Let each reader read a grey view, from file to answer: the first study does not wait.

        Raises:
            BundleError: the network does not keep the bundle's contract, or no answer can be made.
        """
        try_network(self._network, self._bundle)
        study = InferRequest(MODEL_NAME, [InferInput(_INPUT_NAME, [1], "BYTES", [grey_view()])])
        try:
            starts_s = [time.perf_counter()] * self._threads
            list(self._readers.map(self._read_study, [study] * self._threads, starts_s))
        except ArithmeticError as error:
            raise BundleError(f"of a grey view: {error}") from error
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """What `GET /v2/models/bonexray` says of the input."""
        return [{"name": _INPUT_NAME, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """What `GET /v2/models/bonexray` says of the outputs."""
        return list(_OUTPUT_TYPES)

    async def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """Read one study in a thread of its own, so that health checks are answered meanwhile.

        Raises:
            RequestError: the request does not hold one study.
            ImageError: a view is not an image we accept.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, self._read_study, payload, time.perf_counter()
        )

    def _read_study(self, request: InferRequest, started_s: float) -> InferResponse:
        requested = requested_outputs(request)
        claimed = claimed_part(request, self._bundle.info.body_parts)
        decoding_s = time.perf_counter()
        images = read_views(views_of(request), self._bundle.info.image)
        decoded_s = time.perf_counter()
        outputs = run_network(self._network, images)
        inferred_s = time.perf_counter()
        answer = judge_study(outputs, self._bundle, claimed)
        return InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            model_version=self.version,
            infer_outputs=output_tensors(answer),
            requested_outputs=requested,
            parameters={
                **self._identity(),
                "decode_ms": _milliseconds(decoded_s - decoding_s),
                "inference_ms": _milliseconds(inferred_s - decoded_s),
                "total_ms": _milliseconds(time.perf_counter() - started_s),
            },
        )

    def _identity(self) -> dict[str, Any]:
        points = self._bundle.info.operating_points
        return {
            "model_version": self.version,
            "bundle_digest": self._bundle.digest,
            "answer_id": f"{self._bundle.digest[:16]}-{uuid.uuid4().hex}",
            "negative_below": points.high_sensitivity,
            "positive_from": points.high_specificity,
            "disclaimer": DISCLAIMER,
        }


def grey_view() -> str:
    """What is read to see whether reading works: a PNG as base64."""
    file = BytesIO()
    Image.new("L", (_GREY_PX, _GREY_PX), 128).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def views_of(request: InferRequest) -> list[bytes]:
    """The encoded images of a request.

    Raises:
        RequestError: names the field that is not what it should be, or the view's number.
    """
    if len(request.inputs) != 1:
        raise RequestError(f"inputs: {len(request.inputs)} tensors, expected one, {_INPUT_NAME!r}")
    tensor: InferInput = request.inputs[0]
    if tensor.name != _INPUT_NAME:
        raise RequestError(f"inputs[0].name: expected {_INPUT_NAME!r}")
    if tensor.datatype != "BYTES":
        raise RequestError("inputs[0].datatype: expected 'BYTES'")
    if (tensor.parameters or {}).get("content_type", "base64") != "base64":
        raise RequestError("inputs[0].parameters.content_type: expected 'base64'")
    num_views = len(tensor.data)
    if not 1 <= num_views <= MAX_VIEWS:
        raise RequestError(f"inputs[0].data: {num_views} views, expected 1 to {MAX_VIEWS}")
    if tensor.shape != [num_views]:
        raise RequestError(f"inputs[0].shape: expected [{num_views}], the length of data")
    return [_decode_base64(text, number) for number, text in enumerate(tensor.data, start=1)]


def claimed_part(request: InferRequest, body_parts: Sequence[str]) -> str | None:
    """The body part that a request says the study shows; None when it says nothing.

    Raises:
        RequestError: it is none that the model knows.
    """
    claimed = (request.parameters or {}).get("body_part")
    if claimed is not None and claimed not in body_parts:
        raise RequestError(f"parameters.body_part: expected one of {', '.join(body_parts)}")
    return claimed


def requested_outputs(request: InferRequest) -> list[RequestedOutput]:
    """The outputs that a request asks for; none named means all of them.

    Only the names are taken over: a wish for binary tensors is not granted, the answer is JSON.

    Raises:
        RequestError: an output that this model does not have.
    """
    known = [output["name"] for output in _OUTPUT_TYPES]
    requested = request.request_outputs or []
    for position, output in enumerate(requested):
        if output.name not in known:
            raise RequestError(f"outputs[{position}].name: expected one of {', '.join(known)}")
    return [RequestedOutput(output.name) for output in requested]


def output_tensors(answer: StudyAnswer) -> list[InferOutput]:
    """The answer as the tensors that `get_output_types` announces."""
    num_views = len(answer.view_probabilities)
    data: dict[str, tuple[list[int], list[Any]]] = {
        "study_probability": ([1], [answer.study_probability]),
        "study_verdict": ([1], [answer.study_verdict]),
        "view_probability": ([num_views], answer.view_probabilities.tolist()),
        "view_body_part": ([num_views], list(answer.view_body_parts)),
        "view_refusal": ([num_views], list(answer.view_refusals)),
        "view_cam": (list(answer.view_cams.shape), answer.view_cams.ravel().tolist()),
    }
    return [
        InferOutput(
            name=output["name"],
            datatype=output["datatype"],
            shape=data[output["name"]][0],
            data=data[output["name"]][1],
        )
        for output in _OUTPUT_TYPES
    ]


def _decode_base64(text: object, number: int) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        pass  # the cause would repeat parts of the view
    raise RequestError(f"view {number}: not base64")


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
