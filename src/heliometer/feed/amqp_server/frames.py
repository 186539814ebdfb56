"""Frames in and out; their contents are coded by pamqp."""

import struct
from collections.abc import Iterator

from pamqp import commands, constants, frame, header
from pamqp.base import Frame

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.model import EXCHANGE
from heliometer.feed.queue import Message

PROTOCOL = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = (
    constants.FRAME_METHOD,
    constants.FRAME_HEADER,
    constants.FRAME_BODY,
    constants.FRAME_HEARTBEAT,
)
OVERHEAD = 8
"""Bytes of a frame around its payload."""
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_HEAD = struct.Struct(">BHI")
_INDEX = struct.Struct(">I")
_ACK = struct.Struct(">BHIIQBB")
_ACK_INDEX = commands.Basic.Ack.index


class Inbox:
    """Cuts what arrives into frames. ``largest`` is the most that one may have, in bytes."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self._bytes = bytearray()

    def put(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self._bytes += data

    def greeting(self) -> bool | None:
        """Whether the client speaks this protocol; ``None`` while that is unknown."""
        given = bytes(self._bytes[: len(PROTOCOL)])
        if given == PROTOCOL:
            del self._bytes[: len(PROTOCOL)]
            return True
        return None if PROTOCOL.startswith(given) else False

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Type, channel and all bytes of each frame that is there. Raises Fault."""
        at, data = 0, self._bytes
        try:
            while len(data) - at >= _HEAD.size:
                kind, channel, size = _HEAD.unpack_from(data, at)
                if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
                    raise Fault(faults.FRAME_ERROR, f"there is no frame type {kind}")
                if size + OVERHEAD > self.largest:
                    raise Fault(
                        faults.FRAME_ERROR,
                        f"a frame of {size + OVERHEAD} bytes is larger than {self.largest}",
                    )
                end = at + size + OVERHEAD
                if len(data) < end:
                    return
                if data[end - 1] != constants.FRAME_END:
                    raise Fault(faults.FRAME_ERROR, "a frame does not end where it should")
                start, at = at, end
                yield kind, channel, bytes(data[start:end])
        finally:
            del data[:at]


def ack_of(data: bytes) -> tuple[int, bool] | None:
    """Tag and ``multiple`` of a Basic.Ack, the commonest frame by far; ``None`` for any other."""
    if len(data) == _ACK.size:
        _, _, _, index, tag, bits, _ = _ACK.unpack(data)
        if index == _ACK_INDEX:
            return tag, bool(bits & 1)
    return None


def method_of(data: bytes) -> Frame:
    """Decode the method in a frame. Raises Fault."""
    if len(data) < _HEAD.size + _INDEX.size + 1:
        raise Fault(faults.SYNTAX_ERROR, "a method frame has no method")
    (index,) = _INDEX.unpack_from(data, _HEAD.size)
    if index not in commands.INDEX_MAPPING:
        raise Fault(
            faults.COMMAND_INVALID, f"there is no method {index & 0xFFFF} of class {index >> 16}"
        )
    try:
        _, _, found = frame.unmarshal(data)
    except Exception as error:  # whatever a decoder meets in bytes from anywhere
        raise Fault(
            faults.SYNTAX_ERROR,
            f"the arguments of method {index & 0xFFFF} of class {index >> 16} cannot be read",
        ) from error
    assert isinstance(found, Frame)
    return found


def encode(method: Frame, channel: int) -> bytes:
    """The bytes of a frame that carries the method."""
    return frame.marshal(method, channel)


class Envelope:
    """Packs messages for one channel and consumer; what is the same in all is coded once."""

    def __init__(self, channel: int, consumer_tag: str, frame_max: int) -> None:
        self._channel = channel
        self._body_max = frame_max - OVERHEAD
        tag_at = _HEAD.size + _INDEX.size + 1 + len(consumer_tag.encode())
        content = header_frame(channel, 0)
        size_at = _HEAD.size + 4
        # A delivery's tag and the size of its body are all that differs.
        self._content = content[size_at + 8 :]
        self._before = b""
        self._between = []
        for redelivered in (False, True):
            method = encode(
                commands.Basic.Deliver(consumer_tag, 0, redelivered, EXCHANGE, ""), channel
            )
            self._before = method[:tag_at]
            self._between.append(method[tag_at + 8 :] + content[:size_at])
        self._number = struct.Struct(">Q").pack

    def pack(self, tag: int, message: Message) -> list[bytes]:
        """The frames of a delivery, in pieces."""
        size = len(message.body)
        return [
            self._before,
            self._number(tag),
            self._between[message.redelivered],
            self._number(size),
            self._content,
            *body_frames(self._channel, message.body, self._body_max),
        ]


def header_frame(channel: int, size: int) -> bytes:
    """The content header of a message of ``size`` bytes."""
    properties = commands.Basic.Properties(content_type="application/json", delivery_mode=2)
    return frame.marshal(header.ContentHeader(0, size, properties), channel)


def body_frames(channel: int, body: bytes, most: int) -> list[bytes]:
    """A body in frames of at most that many bytes of it each, in pieces."""
    if len(body) <= most:
        return [_HEAD.pack(BODY, channel, len(body)), body, constants.FRAME_END_CHAR]
    pieces: list[bytes] = []
    for at in range(0, len(body), most):
        part = body[at : at + most]
        pieces += (_HEAD.pack(BODY, channel, len(part)), part, constants.FRAME_END_CHAR)
    return pieces
