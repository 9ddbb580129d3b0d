"""Credentials where docker keeps them, in the test's own home."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path


def auth_entry(user: str, password: str = "secret") -> dict[str, str]:
    """Return an entry of `auths`."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def basic(user: str, password: str = "secret") -> str:
    """Return the header that these credentials become."""
    return "Basic " + auth_entry(user, password)["auth"]


def write_config(**members) -> Path:
    """Write ~/.docker/config.json."""
    path = Path(os.environ["HOME"]) / ".docker/config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(members))
    return path


def log_in(*keys: str, user: str = "user") -> Path:
    """Write ~/.docker/config.json with one account for these keys."""
    return write_config(auths={key: auth_entry(user) for key in keys})
