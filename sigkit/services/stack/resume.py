"""Whether a backup may go on: not while the stack that it is of answers with more.

Its log forks at the next entry if entries were answered after it was made. That they were is certain where the stack that it is of still
answers; where nothing answers, its owner alone can know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.errors import OriginalServed, Place, SigkitError
from sigkit.net.address import Deadline
from sigkit.net.session import Call, Session
from sigkit.net.url import Url
from sigkit.services.stack.cores import load_log_key
from sigkit.text import counted
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.trust.root import Window
from sigkit.trust.write import log_of

if TYPE_CHECKING:
    from sigkit.services.stack.layout import StackConfig
    from sigkit.tlog.checkpoint import Checkpoint

_ASK_S: Final = 3.0  # most often nothing is there; the resolver's own time comes on top
_CHECKPOINT_BYTES: Final = 64 * 2**10
_CHECKPOINT: Final = "/api/v2/checkpoint"


def refuse_if_original_has_more(directory: str, config: StackConfig, head: Checkpoint) -> None:
    """Let a backup not go on while the stack that it is of answers under the same URL with entries that the backup does not have.

    Args:
        directory: of the backup.
        config: of the stack.
        head: the backup's newest tree.

    Raises:
        OriginalServed: (UNAVAIL) it does.
    """
    there = _ask_for_size(directory, config, head.origin)
    if there is not None and there > head.size:
        raise OriginalServed(
            "the stack that this is a backup of still answers, and its log has entries that are not in the backup",
            place=Place.operator(directory),
            got=f"{counted(there, 'entry', 'entries')} at {config.url}, {head.size} in the backup",
            remedy="use that one; if it has to go, stop it and copy its directory, or make another backup of it",
        )


def _ask_for_size(directory: str, config: StackConfig, origin: str) -> int | None:
    """Return how many entries this log, and no other, says to have under the stack's URL; none where it does not answer."""
    key = load_log_key(directory).public
    try:
        with Session() as session, session.send(Call("GET", Url(config.origin, _CHECKPOINT), Deadline(_ASK_S), attempts=1)) as reply:
            raw = reply.read_all(_CHECKPOINT_BYTES).decode("utf-8", "replace")
        log = log_of(config.url, key, Window(None, None), config.name)
        return verify_checkpoint(raw, key, log.log_id, origin, Place(config.url)).checkpoint.size
    except SigkitError:  # nobody is there, or another
        return None
