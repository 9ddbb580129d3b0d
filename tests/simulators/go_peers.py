"""The programs that `.ci/go-peers` builds, found by name."""

from __future__ import annotations

import os
from pathlib import Path


def find(name: str) -> Path | None:
    """Return the binary of a peer, in the version that was built last."""
    root = Path(os.environ.get("SIGKIT_GO_PEERS") or "/var/cache/sigkit-peers/go")
    built = sorted((root / name).glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)
    return built[-1] if built else None
