"""A process that decodes streams for `featcodec.video.isolated`: requests come in by stdin, replies go out by stdout.

A request is a header (bytes of the stream, height, width) and the stream. A reply is a status byte, a length, and the
samples of the frame or a message. The process ends when its stdin ends. It does not import torch.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

from featcodec.errors import BitstreamError, EncoderError
from featcodec.system.allocator import keep_blocks
from featcodec.video import VideoCodec, open_video_codec

REQUEST = struct.Struct(">QII")
REPLY = struct.Struct(">BQ")
READY, DECODED, REFUSED, BROKEN = range(4)

_OUT_OF_MEMORY = "its picture needs more memory than a worker may use; encode the image again"


def limit_memory(limit: int) -> None:
    """Let this process and its programs have so many bytes of address space, and write no core dump."""
    import resource  # noqa: PLC0415  (Windows does not have it, and codecs that do not isolate need no limit)

    for what, amount in ((resource.RLIMIT_AS, limit), (resource.RLIMIT_FSIZE, limit), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(what)
        resource.setrlimit(what, (amount if most == resource.RLIM_INFINITY else min(amount, most), most))


def serve(requests: BinaryIO, replies: BinaryIO, name: str, limit: int) -> None:
    """Decode until there are no more requests.

    Args:
        requests, replies: pipes.
        name: the video codec, `ffmpeg`, `vvenc` or `hevc`.
        limit: bytes of address space.
    """
    try:
        codec = open_video_codec(name)
    except EncoderError as error:
        _reply(replies, BROKEN, str(error).encode(errors="surrogateescape"))
        return
    limit_memory(limit)
    keep_blocks()
    _reply(replies, READY, b"")
    while header := requests.read(REQUEST.size):
        size, height, width = REQUEST.unpack(header)
        _reply(replies, *_decode(codec, requests.read(size), (height, width)))


def _decode(codec: VideoCodec, stream: bytes, shape: tuple[int, int]) -> tuple[int, bytes]:
    try:
        return DECODED, codec.decode(stream, shape).tobytes()
    except BitstreamError as error:
        return REFUSED, str(error).encode(errors="surrogateescape")
    except EncoderError as error:  # no fault of the stream, for example a full disk
        return BROKEN, str(error).encode(errors="surrogateescape")
    except MemoryError:
        return REFUSED, _OUT_OF_MEMORY.encode()


def _reply(replies: BinaryIO, status: int, content: bytes) -> None:
    replies.write(REPLY.pack(status, len(content)) + content)
    replies.flush()


def main() -> None:
    """Serve the process that started this one; the arguments are the video codec and the limit in bytes."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints stays out of the replies
    serve(sys.stdin.buffer, replies, sys.argv[-2], int(sys.argv[-1]))
