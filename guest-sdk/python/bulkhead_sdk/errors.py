"""What can go wrong, typed.

Every exception here is an `Error`: the failure of one request. Raised out of a handler it becomes the answer. Any *other* exception
that leaves a handler is a defect of the driver: it ends the incarnation with its traceback, and the host starts the next one.
"""

from __future__ import annotations

from .abi import CloseReason, Outlook, Quality, types

_MAX_MESSAGE = 4 * 1024
_MAX_TRACE = 64 * 1024

_WORDS = {
    CloseReason.REQUESTED: "closed by this driver",
    CloseReason.BY_PEER: "closed by the peer",
    CloseReason.RESET: "reset by the peer",
    CloseReason.REFUSED: "refused",
    CloseReason.TIMED_OUT: "timed out",
    CloseReason.UNREACHABLE: "peer unreachable",
    CloseReason.DENIED: "not granted by the operator",
    CloseReason.TLS_FAILED: "TLS handshake failed",
    CloseReason.HEARTBEAT_LOST: "heartbeat lost",
    CloseReason.HOST_STOPPING: "the host is stopping",
    CloseReason.BY_OPERATOR: "reset by the operator",
    CloseReason.PATH_GONE: "this machine's own address or interface is gone",
}


class Error(Exception):
    """Why a request failed: what the host hands to whoever asked."""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        quality: Quality = Quality.BAD,
        trace: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """One sentence for an operator."""
        self.code = code
        """The protocol's own code, where it has one."""
        self.quality = quality
        """What kind of failure it is, for whoever asked; and what becomes of a group's tags when its poll ends with this error. The
        host is told `BAD` where it is none of the bad ones."""
        self.trace = trace
        """For the driver's author, where there is more to say."""

    def to_abi(self) -> types.Error:
        """As the host takes it."""
        trace = None if self.trace is None else cut(self.trace, _MAX_TRACE)
        quality = self.quality if self.quality.value >= Quality.BAD.value else Quality.BAD
        return types.Error(quality, self.code, cut(self.message, _MAX_MESSAGE), trace)


class NotSupported(Error):
    """This driver cannot do that."""

    def __init__(self, what: str) -> None:
        super().__init__(f"this driver does not support {what}", quality=Quality.BAD_NOT_SUPPORTED)


class Closed(Error):
    """A stream has ended, or was not there to begin with."""

    def __init__(self, reason: CloseReason | None, outlook: Outlook = Outlook.REDIALLING) -> None:
        words = "not open yet" if reason is None else _WORDS[reason]
        if outlook is Outlook.GIVEN_UP:
            words += ", and the attempts are spent"
        super().__init__(f"connection down: {words}", quality=Quality.BAD_NOT_CONNECTED)
        self.reason = reason
        """Why it ended; `None` while the first dial is still under way."""
        self.outlook = outlook
        """Whether it is worth waiting for the next."""


class TlsDeclined(Error):
    """The host did not begin TLS. There is a stream still, in plain."""

    def __init__(self, why: str) -> None:
        super().__init__(f"TLS was not begun: {why}", quality=Quality.BAD_CONFIGURATION)


class NotDurable(Error):
    """Samples were handed on, and the host does not tell whether they are durable."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not known to be durable: {why}", quality=Quality.BAD_NOT_SUPPORTED)


class Elapsed(Error):
    """The time was up first."""

    def __init__(self) -> None:
        super().__init__("no answer in time", quality=Quality.BAD_TIMEOUT)


class TooLong(Error):
    """More was asked for, or came before the delimiter, than the reader allows."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"more than {most} bytes where a shorter message was due",
            quality=Quality.BAD_NO_COMMUNICATION,
        )


def cut(text: str, most: int) -> str:
    """As much of a text as the host takes, in bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
