"""Messages of protobuf out of their bytes, unless they would unpack to many times their size.

https://protobuf.dev/programming-guides/encoding: an empty element takes two bytes there, and a
hundred in memory.
"""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from serving.oip.errors import BadRequestError

_MAX_FIELDS = 10_000
"""Of a message and those within it, packed numbers apart."""
_MAX_PACKED_BYTES = 4_000_000
"""Of packed numbers: a million FP32."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def parse_message(data: bytes, kind: Any) -> Any:
    """A message of the class `kind`.

    Raises:
        BadRequestError: the bytes are no such message, or one that would unpack to too much. The
            error never repeats them.
    """
    try:
        _refuse_bomb(data, kind.DESCRIPTOR)
        return kind.FromString(data)
    except (DecodeError, IndexError):
        raise BadRequestError(f"the message is no {kind.DESCRIPTOR.name}") from None


def _refuse_bomb(data: bytes, kind: Descriptor) -> None:
    """Count what is in a message without unpacking it. Raises IndexError where it is cut short."""
    fields, packed = 0, 0
    within: list[tuple[int, int, Descriptor]] = [(0, len(data), kind)]
    while within:
        at, end, kind = within.pop()
        while at < end:
            fields += 1
            key, at = _read_varint(data, at)
            size = _FIXED_BYTES.get(key & 7, 0)
            if key & 7 == _VARINT:
                _, at = _read_varint(data, at)
            elif key & 7 == _LENGTH:
                size, at = _read_varint(data, at)
                field = kind.fields_by_number.get(key >> 3)
                if field is not None and field.message_type is not None:
                    within.append((at, min(at + size, end), field.message_type))
                elif field is not None and field.type not in _TEXTS:
                    packed += size
            at += size
            if fields > _MAX_FIELDS or packed > _MAX_PACKED_BYTES:
                raise BadRequestError(
                    f"the message holds more than {_MAX_FIELDS:,} fields or {_MAX_PACKED_BYTES:,} "
                    "bytes of typed contents; send large tensors in raw_input_contents"
                )


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, least significant first, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128 or shift > 63:
            return value, at
