"""Looks into an ONNX file before a runtime does: a file can ask for other files, for loops, for strange operators.

Only the structure is read, without the library onnx, which an edge need not have. The format is protobuf's: each field
is a key (number and kind), then a number, or a length and so many bytes
(https://protobuf.dev/programming-guides/encoding; numbers of fields: onnx/onnx.proto3).
"""

from __future__ import annotations

from collections.abc import Iterator

from featcodec.errors import WeightsError

MAX_ONNX_BYTES = 512 << 20
"""The largest networks of YOLO take 350 MB."""
_MAX_NODES = 20_000
_MAX_VARINT = 10

# ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto: the fields that are looked into.
_GRAPH, _OPSET, _FUNCTIONS, _TRAINING = 7, 8, 25, 20
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_GRAPHS = (6, 11)
_ATTRIBUTE_SPARSE = (22, 23)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_OPSET_DOMAIN = 1
_STANDARD_DOMAINS = (b"", b"ai.onnx")

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def check_onnx(data: bytes) -> None:
    """Refuse what no file of `featcodec export` holds.

    Args:
        data: the bytes of a file, at most `MAX_ONNX_BYTES`.

    Raises:
        WeightsError: it is not an ONNX file, is damaged, or holds numbers in other files, graphs in operators (loops,
            branches), functions, or operators that are not ONNX's own. The message names the cause without the file.
    """
    try:
        _check_model(memoryview(data))
    except (IndexError, UnicodeDecodeError) as error:
        raise WeightsError(f"is not an ONNX file, or is damaged ({error})") from None


def _check_model(model: memoryview) -> None:
    graphs = 0
    for number, value in _fields(model):
        if number in (_FUNCTIONS, _TRAINING):
            raise WeightsError("holds functions or training, which no exported network does")
        if number == _OPSET:
            _check_domain(value, _OPSET_DOMAIN)
        if number == _GRAPH:
            graphs += 1
            _check_graph(_message(value))
    if graphs != 1:
        raise WeightsError("is not an ONNX file, or is damaged (it holds no graph)")


def _check_graph(graph: memoryview) -> None:
    nodes = 0
    for number, value in _fields(graph):
        if number == _NODE:
            nodes += 1
            _check_node(_message(value))
        elif number == _INITIALIZER:
            _check_tensor(_message(value))
        elif number == _SPARSE_INITIALIZER:
            raise WeightsError("holds sparse weights, which no exported network does")
        if nodes > _MAX_NODES:
            raise WeightsError(f"holds over {_MAX_NODES} operators, which no exported network does")


def _check_node(node: memoryview) -> None:
    _check_domain(node, _DOMAIN)
    for number, value in _fields(node):
        if number == _ATTRIBUTE:
            for part, content in _fields(_message(value)):
                if part in _ATTRIBUTE_GRAPHS:
                    raise WeightsError("holds an operator with a graph in it, which no exported network does")
                if part in _ATTRIBUTE_SPARSE:
                    raise WeightsError("holds sparse weights, which no exported network does")
                if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _check_tensor(_message(content))


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise WeightsError("keeps weights in other files, which no exported network does")


def _check_domain(message: memoryview | int, number: int) -> None:
    for found, value in _fields(_message(message)):
        if found == number and bytes(_message(value)) not in _STANDARD_DOMAINS:
            name = bytes(_message(value))[:40].decode(errors="replace")
            raise WeightsError(f"needs operators of {name!r}, which no exported network does")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise IndexError("a number where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message: number, and the number or the bytes that it holds.

    Raises:
        IndexError: the message ends within a field, or has a field of no known kind.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, -1)
        if kind == _BYTES:
            length, at = _varint(message, at)
        if length < 0 or length > len(message) - at:
            raise IndexError("a field reaches beyond its end")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_VARINT):
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise IndexError("a number without an end")
