"""Why a request is not answered, in the words of both protocols. No message repeats the request.

RequestError
  ├── BadRequestError      400  INVALID_ARGUMENT
  ├── UnauthorisedError    401  UNAUTHENTICATED
  ├── ForbiddenError       403  PERMISSION_DENIED
  ├── NotFoundError        404  NOT_FOUND
  ├── TooLargeError        413  RESOURCE_EXHAUSTED
  ├── EncodingError        415  UNIMPLEMENTED
  ├── BusyError            429  RESOURCE_EXHAUSTED
  ├── ClientLeftError      499  CANCELLED
  ├── NotReadyError        503  UNAVAILABLE
  └── DeadlineError        504  DEADLINE_EXCEEDED
"""

from typing import ClassVar


class RequestError(Exception):
    """A request that is not answered."""

    status: ClassVar[int]
    """Of HTTP."""
    grpc_code: ClassVar[str]
    """Name of a `grpc.StatusCode`."""

    def headers(self) -> dict[str, str]:
        """What an HTTP answer says besides."""
        return {}


class BadRequestError(RequestError):
    """A request that does not hold what it must."""

    status = 400
    grpc_code = "INVALID_ARGUMENT"


class UnauthorisedError(RequestError):
    """A request without a credential that is known here."""

    status = 401
    grpc_code = "UNAUTHENTICATED"

    def headers(self) -> dict[str, str]:
        """RFC 6750, section 3."""
        return {"WWW-Authenticate": 'Bearer realm="bonexray"'}


class ForbiddenError(RequestError):
    """A known client that may not do this."""

    status = 403
    grpc_code = "PERMISSION_DENIED"


class NotFoundError(RequestError):
    """A model or a version that is not here."""

    status = 404
    grpc_code = "NOT_FOUND"


class TooLargeError(RequestError):
    """A body that is larger than what is read."""

    status = 413
    grpc_code = "RESOURCE_EXHAUSTED"


class EncodingError(RequestError):
    """A body in a form that is not unpacked here."""

    status = 415
    grpc_code = "UNIMPLEMENTED"


class BusyError(RequestError):
    """More is asked than can be answered in time."""

    status = 429
    grpc_code = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Say why, and in how many seconds it is worth to ask again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """RFC 9110, section 10.2.3: whole seconds."""
        return {"Retry-After": str(max(1, round(self.retry_after_s + 0.5)))}


class ClientLeftError(RequestError):
    """A client that did not wait for the end of its own request. The status is that of nginx."""

    status = 499
    grpc_code = "CANCELLED"


class NotReadyError(RequestError):
    """A server that does not answer now, and may soon."""

    status = 503
    grpc_code = "UNAVAILABLE"


class DeadlineError(RequestError):
    """An answer that would have come too late, and was not made."""

    status = 504
    grpc_code = "DEADLINE_EXCEEDED"


def let_go(error: BaseException | None) -> None:
    """Take the tracebacks from an error that was answered, and from its causes.

    Their frames hold the request, and by way of a future the error again: such a circle is there
    until garbage is collected, which among few and large requests is too late.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
