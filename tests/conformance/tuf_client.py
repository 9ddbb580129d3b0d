"""The client that theupdateframework/tuf-conformance drives, over sigkit's own; how it is run stands in docs/trust.md.

The suite looks for `root.json`, `timestamp.json` and so on by these names, so the newest root is copied there.

Source: tuf-conformance CLIENT-CLI.md.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sigkit.errors import Place, SigkitError
from sigkit.net.session import Session
from sigkit.trust.mirror import NetMirror
from sigkit.trust.tuf import Client


class Directories:
    """Keeps metadata in one directory and targets in another."""

    def __init__(self, metadata: Path, targets: Path) -> None:
        self._metadata = metadata
        self._targets = targets

    def _path(self, name: str) -> Path:
        if name.startswith("target-"):
            return self._targets / name
        if name.endswith(".root.json"):
            return self._metadata / "root_history" / name
        return self._metadata / name.removeprefix("role-")

    def load(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def save(self, name: str, raw: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        if name.endswith(".root.json"):
            (self._metadata / "root.json").write_bytes(raw)

    def place(self, name: str) -> Place:
        return Place(str(self._path(name)))


def main() -> int:
    parser = argparse.ArgumentParser()
    for option in ("--metadata-url", "--metadata-dir", "--target-dir", "--target-base-url"):
        parser.add_argument(option, default="")
    parser.add_argument("--target-name", action="append", default=[])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    asked = parser.parse_args()
    metadata = Path(asked.metadata_dir)
    if asked.command == "init":
        (metadata / "root_history").mkdir()
        for name in ("root.json", "root_history/pinned.json"):
            (metadata / name).write_bytes(Path(asked.trusted_root).read_bytes())
        return 0
    pinned = (metadata / "root_history/pinned.json").read_bytes()
    cache = Directories(metadata, Path(asked.target_dir))
    with Session() as session:
        mirror = NetMirror(session, asked.metadata_url, Place.operator("--metadata-url"), asked.target_base_url)
        try:
            client = Client(pinned, Place(asked.metadata_dir), cache, mirror, datetime.now(UTC))
            client.refresh()
            for name in asked.target_name:
                client.target(name)
        except SigkitError as err:
            sys.stderr.write(f"{err}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
