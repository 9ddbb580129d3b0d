"""Requests and errors of the authorities' HTTP interfaces, in the form of gRPC's gateway, which their clients expect.

Source: grpc-gateway's runtime.DefaultHTTPErrorHandler; google/rpc/code.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.errors import SigkitError, UnavailError
from sigkit.services.exchange import FRESH, Answer, Request, json_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14


class GatewayError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, code: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def invalid(message: str) -> GatewayError:
    """Return the error for a request that is wrong."""
    return GatewayError(400, INVALID_ARGUMENT, message)


def failed(err: SigkitError, doing: str = "") -> GatewayError:
    """Return the error for what is no fault of the request: 503 where it may go better a moment later, else 500."""
    status, code = (503, UNAVAILABLE) if isinstance(err, UnavailError) else (500, INTERNAL)
    return GatewayError(status, code, f"{doing}{err.code} {err.problem}")


def gateway_answer(err: GatewayError) -> Answer:
    """Answer an error, which no cache keeps: the tile that is not there yet would not be there for its clients (RFC 9110 section 15.1)."""
    return json_answer(err.status, {"code": err.code, "message": err.message, "details": []}, (FRESH, *err.headers))


async def route(
    request: Request,
    handlers: Mapping[tuple[str, str], Callable[[Request], Awaitable[Answer]]],
    error_answer: Callable[[GatewayError], Answer] = gateway_answer,
) -> Answer:
    """Answer by the handler of method and path; HEAD is answered as GET is."""
    path = "/" + request.path.lstrip("/")  # a base URL with a slash at its end makes two
    method = "GET" if request.method == "HEAD" else request.method
    handler = handlers.get((method, path))
    try:
        if handler is None:
            known = [allowed for allowed, at in handlers if at == path]
            if known:
                raise GatewayError(405, UNIMPLEMENTED, f"method {', '.join(known)} only", (("Allow", ", ".join(known)),))
            raise GatewayError(404, NOT_FOUND, "Not Found")
        return await handler(request)
    except GatewayError as err:
        return error_answer(err)


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the request's body.

    Raises:
        GatewayError: it has, or promises, more bytes; no more than these were kept.
    """
    too_large = GatewayError(413, RESOURCE_EXHAUSTED, f"the body has more than {most_bytes} bytes")
    stated = request.headers.get("content-length", "0")
    if not (stated.isascii() and stated.isdecimal() and len(stated) < 19) or int(stated) > most_bytes:
        raise too_large
    raw = bytearray()
    async for piece in request.body:
        raw += piece
        if len(raw) > most_bytes:
            raise too_large
    return bytes(raw)
