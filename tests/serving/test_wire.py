"""What a request says of its tensors is small; what it would unpack to may not be."""

import json

import pytest

from serving.oip.errors import BadRequestError
from serving.oip.json_form import read_request
from serving.oip.messages import pb
from serving.oip.rpc import read_request as read_message
from serving.oip.wire import parse_message
from serving.studies import INPUTS, read_studies


def field(number, content):
    """A field of protobuf with a length."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def tensor(shape, contents=b""):
    return field(5, field(1, b"study") + field(2, b"INT32") + field(3, shape) + contents)


BOMBS = {
    "millions of inputs": field(5, b"") * 5_000_000,
    "millions of outputs": field(6, b"") * 5_000_000,
    "millions of raw contents": field(7, b"") * 5_000_000,
    "millions of parameters": field(4, field(1, b"a")) * 2_000_000,
    "millions of texts": tensor(b"\1", field(5, field(8, b"") * 5_000_000)),
    "millions of dimensions": tensor(b"\1" * 10_000_000),
    "millions of numbers": tensor(b"\1", field(5, field(2, b"\0" * 10_000_000))),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_message_that_would_unpack_to_many_times_its_size_is_refused(bomb):
    with pytest.raises(BadRequestError, match="the message holds more than 10,000 fields"):
        parse_message(BOMBS[bomb], pb.ModelInferRequest)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        b"\x2a\x05ab",
        field(1, b"\xff"),
        b"\x80" * 5,
        field(5, field(3, b"\x80")),
        b"\x0b" * 100,
    ],
    ids=["no field", "cut short", "no UTF-8", "no end", "no end within", "open groups"],
)
def test_bytes_that_are_no_message_are_told_without_repeating_them(data):
    with pytest.raises(BadRequestError, match=r"^the message is no ModelInferRequest$"):
        parse_message(data, pb.ModelInferRequest)


def test_a_message_is_parsed_as_the_library_does_with_what_is_unknown_in_it():
    message = pb.ModelInferRequest(model_name="bonexray", id="1", raw_input_contents=[b"\0" * 300])
    message.parameters["timeout"].int64_param = 1 << 40
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1 << 40])
    message.inputs.add(name="x", datatype="FP32").contents.fp32_contents.extend([0.5] * 1000)
    data = message.SerializeToString() + field(99 & 15, b"later") + b"\x98\x06\x01"
    assert parse_message(data, pb.ModelInferRequest) == pb.ModelInferRequest.FromString(data)


def as_json(shape):
    tensor = {"name": "study", "datatype": "INT32", "shape": shape, "data": [0]}
    return read_request(json.dumps({"inputs": [tensor]}).encode(), None, INPUTS)


def as_bytes(shape):
    parameters = {"binary_data_size": 4}
    tensor = {"name": "study", "datatype": "INT32", "shape": shape, "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return read_request(head + bytes(4), str(len(head)), INPUTS)


def as_message(shape):
    message = pb.ModelInferRequest()
    entry = message.inputs.add(name="study", datatype="INT32", shape=shape)
    entry.contents.int_contents.append(0)
    return read_message(message)


@pytest.mark.parametrize("form", [as_json, as_bytes, as_message])
@pytest.mark.parametrize("shape", [[1] * 33, [1 << 62] * 100_000], ids=["ones", "huge"])
def test_more_dimensions_than_an_array_has_are_refused(form, shape):
    with pytest.raises(BadRequestError, match=r"inputs\[0\].shape: \d+ dimensions, expected at"):
        form(shape)
    assert form([1] * 32).inputs[0].shape == (1,) * 32


@pytest.mark.parametrize("shape", [[1], [8_000_000]])
def test_elements_of_no_length_are_counted_before_they_are_made(shape):
    parameters = {"binary_data_size": 32_000_000}
    tensor = {"name": "image", "datatype": "BYTES", "shape": shape, "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(BadRequestError, match=r"more elements of data|more than 100,000 elements"):
        read_request(head + bytes(32_000_000), str(len(head)), INPUTS)


def test_millions_of_study_numbers_for_one_view_are_refused():
    sizes = [5, 4_000_000]
    head = json.dumps(
        {
            "inputs": [
                {"name": name, "datatype": kind, "shape": [count],
                 "parameters": {"binary_data_size": size}}
                for name, kind, count, size in zip(
                    ("image", "study"), ("BYTES", "INT32"), (1, 1_000_000), sizes, strict=True
                )
            ]
        }
    ).encode()  # fmt: skip
    request = read_request(head + b"\1\0\0\0a" + bytes(4_000_000), str(len(head)), INPUTS)
    with pytest.raises(BadRequestError, match="1 numbers from 0 on"):
        read_studies(request, 64, [])


@pytest.mark.parametrize("length", ["0" * 5000, "9" * 5000, "-1", "\xb2", ""])
def test_a_header_length_that_is_no_number_within_the_body_is_refused(length):
    with pytest.raises(BadRequestError, match="expected a number from 0 to 2"):
        read_request(b"{}", length, INPUTS)
