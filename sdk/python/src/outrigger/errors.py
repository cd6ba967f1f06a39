"""What can go wrong: every call of this package raises nothing but `OutriggerError` and its kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Detail = TypeVar("Detail", bound=Message)


@dataclass(frozen=True)
class Violation:
    """A field of a request that the sidecar does not accept."""

    field: str
    """Its name in the proto, such as `weight`."""
    description: str
    """The value, and what is accepted."""


class OutriggerError(Exception):
    """A call failed, and has changed nothing unless it says so."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class Unavailable(OutriggerError):
    """The sidecar is not there, or did not answer in time; in the latter case it may have done what was asked."""

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        super().__init__(message, code)


class DeadlineExceeded(Unavailable, TimeoutError):
    """There was no answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, grpc.StatusCode.DEADLINE_EXCEEDED)


class NotFound(OutriggerError):
    """The sidecar knows nothing of that name."""

    def __init__(self, message: str, kind: str = "", name: str = "") -> None:
        super().__init__(message, grpc.StatusCode.NOT_FOUND)
        self.kind = kind
        """`cluster`, `backend` or `lease`."""
        self.name = name


class InvalidArgument(OutriggerError, ValueError):
    """The sidecar does not accept what was asked for."""

    def __init__(self, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message, grpc.StatusCode.INVALID_ARGUMENT)
        self.violations = violations


class Exhausted(OutriggerError):
    """A table of the sidecar is full, or changes come too fast."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.retry_after = retry_after
        """In how many seconds there is room for another change; `None`: a table is full."""


class Denied(OutriggerError):
    """The sidecar does not know who calls (`UNAUTHENTICATED`), or does not allow it (`PERMISSION_DENIED`)."""


def from_rpc(error: grpc.aio.AioRpcError) -> OutriggerError:
    """The same as one of the kinds above."""
    code = error.code()
    message = error.details() or code.name
    status = _status(error)
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(message)
        case grpc.StatusCode.NOT_FOUND:
            resource = _detail(status, error_details_pb2.ResourceInfo)
            return NotFound(message, resource.resource_type, resource.resource_name)
        case grpc.StatusCode.INVALID_ARGUMENT:
            fields = _detail(status, error_details_pb2.BadRequest).field_violations
            return InvalidArgument(message, tuple(Violation(v.field, v.description) for v in fields))
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            retry = _detail(status, error_details_pb2.RetryInfo)
            after = retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None
            return Exhausted(message, after)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return Denied(message, code)
        case _:
            return OutriggerError(message, code)


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is looked at
    except ValueError:
        # What the details say is not what the status says, so they are of no use.
        status = None
    return status or status_pb2.Status()


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail:
    """The detail of that kind, or an empty one."""
    detail = kind()
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            packed.Unpack(detail)
            break
    return detail
