"""Whether a backup may go on: not while the stack that it is of may be served.

Two processes that answer for one log fork it at the next entry, however many each has now. That the original is served is certain where its
key answers under the stack's URL. That it is not is certain only where nobody can be reached there, where a gateway has nobody behind it,
or where another log or another site answers: whatever else comes is no answer, and the backup waits until there is one. An original that
cannot be reached from this machine is known to its owner alone.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from sigkit.errors import CheckpointNotSigned, OriginalServed, OriginalUnknown, Place, SigkitError
from sigkit.net.address import Deadline
from sigkit.net.session import Call, Session
from sigkit.net.url import Url
from sigkit.services.stack.keys import load_log_key
from sigkit.text import counted
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.trust.root import Window
from sigkit.trust.write import log_of

if TYPE_CHECKING:
    from sigkit.net.url import Origin
    from sigkit.services.stack.layout import StackConfig
    from sigkit.tlog.checkpoint import Checkpoint

_CONNECT_S: Final = 3.0  # most often nothing is there; the resolver's own time comes on top
_ANSWER_S: Final = 10.0  # four attempts
_CHECKPOINT_BYTES: Final = 64 * 2**10
_CHECKPOINT: Final = "/api/v2/checkpoint"
_OK: Final = 200
_NOT_HERE: Final = frozenset({404, 410, 502})  # another site; and what a gateway says that reaches nobody (RFC 9110 section 15.6.3)


def refuse_while_original_answers(directory: str, config: StackConfig, head: Checkpoint) -> None:
    """Let a backup not go on while the stack that it is of answers under the same URL, or may do so.

    Args:
        directory: of the backup.
        config: of the stack.
        head: the backup's newest tree.

    Raises:
        OriginalServed: (UNAVAIL) it does.
        OriginalUnknown: (UNAVAIL) somebody answers, and who it is cannot be told.
    """
    if not _is_anybody_at(config.origin):
        return
    url = Url(config.origin, _CHECKPOINT)
    try:
        there = _ask_for_size(directory, config, url, head.origin)
    except SigkitError as err:
        raise OriginalUnknown(
            f"whether the stack that this is a backup of is still served cannot be told: {err.problem}",
            place=Place.operator(directory),
            expected=f"this log, another one, 404, or nobody at {url}",
            got=err.got,
            remedy="stop the original, and let nobody answer at that URL until this one is served; "
            "for TLS by a private authority name its certificate before the command: SSL_CERT_FILE=CA.pem",
        ) from err
    if there is not None:
        raise OriginalServed(
            "the stack that this is a backup of is still served: the two would fork its log",
            place=Place.operator(directory),
            got=f"{counted(there, 'entry', 'entries')} at {config.url}, {head.size} in the backup",
            remedy="use that one; if it has to go, stop it and copy its directory, or make another backup of it",
        )


def _is_anybody_at(origin: Origin) -> bool:
    """Tell whether anybody takes connections there."""
    try:
        socket.create_connection((origin.host, origin.port), _CONNECT_S).close()
    except OSError:
        return False
    return True


def _ask_for_size(directory: str, config: StackConfig, url: Url, origin: str) -> int | None:
    """Return how many entries this log says to have; none where another log or no log answers.

    Raises:
        SigkitError: no answer, or none that says which it is.
    """
    with Session() as session, session.send(Call("GET", url, Deadline(_ANSWER_S))) as reply:
        if reply.status in _NOT_HERE:
            return None
        if reply.status != _OK:
            raise OriginalUnknown("an answer that says nothing of it", place=url.place(), got=f"HTTP status {reply.status}")
        raw = reply.read_all(_CHECKPOINT_BYTES).decode("utf-8", "replace")
    key = load_log_key(directory).public
    log = log_of(config.url, key, Window(None, None), config.name)
    try:
        return verify_checkpoint(raw, key, log.log_id, origin, url.place()).checkpoint.size
    except CheckpointNotSigned:
        return None
