"""A made-up patient, in every place where a client can put one: files, requests, headers, paths."""

import io
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import jwt
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from benchmarks.serving_stage import INFER, Server, binary_body, json_body, message
from serving.oip.messages import SERVICE, pb
from tests.serving.dicom.files import dicom, radiograph
from tests.small_bundle import draw_png

NAME, PATIENT, BORN, ADDRESS = "Zyxwvutz^Quirina", "PID-7730412", "19311107", "Kumquatweg 77"
WORDS = (NAME, "Zyxwvutz", "Quirina", PATIENT, "7730412", BORN, "1931-11-07", ADDRESS, "Kumquatweg")
TEXT = f"{NAME} {PATIENT} {BORN} 1931-11-07 {ADDRESS}"
_TAGS: dict[str, Any] = {
    "PatientName": NAME,
    "PatientID": PATIENT,
    "PatientBirthDate": BORN,
    "PatientAddress": ADDRESS,
    "PatientComments": TEXT,
    "StudyDescription": NAME,
    "AccessionNumber": PATIENT[:16],
    "ReferringPhysicianName": NAME,
}
_WRONG_TAGS: tuple[dict[str, Any], ...] = (
    {"BodyPartExamined": "ZYXWVUTZ QUIRINA"},
    {"Modality": "QUIRINA"},
    {"PhotometricInterpretation": "ZYXWVUTZ"},
    {"PresentationIntentType": "FOR QUIRINA"},
    {"BitsStored": 99},
    {"Rows": 19311},
    {"WindowCenter": None, "WindowWidth": None},
)


def files() -> Iterator[bytes]:
    """Views that are read, and such as are not."""
    image, info = Image.open(io.BytesIO(draw_png(90, 40))), PngInfo()
    png, jpeg = io.BytesIO(), io.BytesIO()
    info.add_text("Comment", TEXT)
    info.add_itxt("Author", NAME, zip=True)
    image.save(png, "PNG", pnginfo=info)
    exif = Image.Exif()
    exif[0x010E] = TEXT
    image.save(jpeg, "JPEG", comment=TEXT.encode(), exif=exif)
    for file in (png.getvalue(), jpeg.getvalue()):
        yield file
        yield file[: len(file) // 2]
    pixels = radiograph()
    shallow = (pixels // 16).astype("u1")
    whole = [dicom(pixels, ExplicitVRLittleEndian, **_TAGS)]
    whole.append(dicom(shallow, JPEGBaseline8Bit, **_TAGS))
    whole += [dicom(pixels, **_TAGS, **wrong) for wrong in _WRONG_TAGS]
    whole.append(whole[0].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.7730412.1.1\0"))
    whole.append(dicom(shallow, JPEGBaseline8Bit, frame=TEXT.encode(), **_TAGS))
    for file in whole:
        yield file
        yield file.replace(b"US", b"ZY", 1)
        yield file[:-100]
        yield file[: len(file) // 9]
    yield TEXT.encode()


def documents() -> Iterator[bytes]:
    """Requests in JSON that name the patient in each of their places."""
    view = draw_png(90, 40)
    yield json_body([view], id=TEXT)
    yield json_body([view], id=TEXT, parameters={"patient": TEXT, TEXT: 1})
    yield json_body([view], parameters={"body_part": NAME})
    yield json_body([view], parameters={"timeout": TEXT})
    yield json_body([view], [NAME])
    yield json_body([view])[:-30] + TEXT.encode()
    whole = json.loads(json_body([view]))
    for key, value in {"name": NAME, "datatype": NAME, "shape": [NAME], "data": [TEXT]}.items():
        yield json.dumps({"inputs": [whole["inputs"][0] | {key: value}]}).encode()
    yield json.dumps({"inputs": TEXT, "patient": TEXT}).encode()
    yield json.dumps({"inputs": [whole["inputs"][0] | {"parameters": {"a": [TEXT]}}]}).encode()
    yield TEXT.encode()


def headers() -> Iterator[dict[str, str]]:
    """Headers that name the patient."""
    for name in (
        "User-Agent", "Referer", "Cookie", "X-Request-Id", "X-Patient", "Content-Type", "Baggage",
        "Content-Encoding", "Inference-Header-Content-Length", "Traceparent", "X-Forwarded-For",
        "Origin", "Accept", "Expect",
    ):  # fmt: skip
        yield {name: TEXT}
    yield {"Tracestate": f"hospital={PATIENT}", "Traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    yield {TEXT.replace(" ", "-").replace("^", "-"): "1"}


def credentials() -> Iterator[str]:
    """Tokens that name the patient, none of them good."""
    yield f"Bearer {PATIENT}"
    yield f"Basic {TEXT}"
    for claims in ({"sub": NAME, "iss": PATIENT}, {"iss": "hospital", "sub": TEXT, "exp": 1}):
        yield "Bearer " + jwt.encode(claims, "a secret of thirty-two bytes or more")


def answers(server: Server, token: str) -> Iterator[bytes]:
    """Ask everything over REST, as far as the client's rate lets it; every answer as text."""
    right = {"Authorization": f"Bearer {token}"}
    view, extra = binary_body([draw_png(90, 40)])
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        for file in files():
            body, more = binary_body([file])
            yield _told(client.post(INFER, content=body, headers=right | more))
            yield _told(client.post(INFER, content=json_body([file]), headers=right))
        for body in documents():
            yield _told(client.post(INFER, content=body, headers=right))
        for some in headers():
            with suppress(httpx.HTTPError):
                yield _told(client.post(INFER, content=view, headers=right | extra | some))
        for wrong in credentials():
            sent = {"Authorization": wrong} | extra
            yield _told(client.post(INFER, content=view, headers=sent))
        yield _told(client.post(INFER, content=view, headers=extra))
        place = quote(TEXT)
        for path in (f"/{place}", f"/v2/models/{place}", f"/v2/models/bonexray/versions/{place}",
                     f"/v2/models/{place}/infer", f"{INFER}?patient={place}", "/v2?x=" + place,
                     f"/v1/models/{place}:predict"):  # fmt: skip
            yield _told(client.get(path, headers=right))
            yield _told(client.post(path, content=view, headers=right | extra))
            yield _told(client.request("PATIENT", path, headers=right))
    yield from _no_http(server)


def _told(answer: httpx.Response) -> bytes:
    """Headers and body, without what is given back by definition."""
    text = b"\n".join(name + b": " + value for name, value in answer.headers.raw)
    try:
        document = answer.json()
    except ValueError:
        return text + answer.content
    if answer.is_success and isinstance(document, dict):
        document.pop("id", None)
    return text + json.dumps(document, ensure_ascii=False).encode()


def _no_http(server: Server) -> Iterator[bytes]:
    """What no server of HTTP understands."""
    for text in (f"{TEXT}\r\n\r\n", f"GET /{TEXT} HTTP/1.1\r\n\r\n",
                 f"GET / HTTP/1.1\r\n{TEXT}\r\n\r\n", f"\x16\x03\x01{TEXT}\r\n\r\n",
                 f"POST {INFER} HTTP/1.1\r\nContent-Length: {PATIENT}\r\n\r\n",
                 f"POST {INFER} HTTP/1.1\r\nContent-Length: 900\r\n\r\n{TEXT}"):  # fmt: skip
        with socket.create_connection((server.host, server.port), timeout=2) as connection:
            connection.sendall(text.encode())
            with suppress(OSError):
                yield connection.recv(65536)


def answers_of_grpc(server: Server, token: str) -> Iterator[bytes]:
    """The same over gRPC: details and trailers of errors, and answers but for their id."""
    right = (("authorization", f"Bearer {token}"),)
    view = draw_png(90, 40)
    asked: list[tuple[Any, tuple[tuple[str, str], ...]]]
    asked = [(message([file]), right) for file in files()]
    asked += [(message([view]), (("authorization", wrong),)) for wrong in credentials()]
    asked += [(message([view]), (*right, (name, TEXT))) for name in ("x-patient", "traceparent")]
    for field in ("model_name", "model_version", "id"):
        asked.append((message([view]), right))
        setattr(asked[-1][0], field, TEXT)
    asked.append((message([view], [NAME]), right))
    for field in ("name", "datatype"):
        asked.append((message([view]), right))
        setattr(asked[-1][0].inputs[0], field, TEXT)
    asked.append((message([view]), right))
    asked[-1][0].parameters["body_part"].string_param = TEXT
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        for request, metadata in asked:
            try:
                answer = infer(request, metadata=metadata, timeout=30)
                answer.ClearField("id")
                yield str(answer).encode()
            except grpc.RpcError as error:
                yield f"{error.code()} {error.details()} {error.trailing_metadata()}".encode()
