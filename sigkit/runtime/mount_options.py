"""The options of a mount in config.json: which are the mount's own, which say how it is attached, which go to the file system."""

from __future__ import annotations

from sigkit import limits
from sigkit.errors import InvalidConfig, UnsupportedConfig
from sigkit.runtime import syscalls as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.strict import Cursor

# Name: attributes set, attributes cleared.
_ATTRIBUTES = {
    "ro": (kernel.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, kernel.MOUNT_ATTR_RDONLY),
    "nosuid": (kernel.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, kernel.MOUNT_ATTR_NOSUID),
    "nodev": (kernel.MOUNT_ATTR_NODEV, 0),
    "dev": (0, kernel.MOUNT_ATTR_NODEV),
    "noexec": (kernel.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, kernel.MOUNT_ATTR_NOEXEC),
    "nodiratime": (kernel.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, kernel.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (kernel.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, kernel.MOUNT_ATTR_NOSYMFOLLOW),
    # The three are values of one field, so the field is cleared first.
    "noatime": (kernel.MOUNT_ATTR_NOATIME, kernel.MOUNT_ATTR__ATIME),
    "strictatime": (kernel.MOUNT_ATTR_STRICTATIME, kernel.MOUNT_ATTR__ATIME),
    "relatime": (0, kernel.MOUNT_ATTR__ATIME),
    "atime": (0, kernel.MOUNT_ATTR__ATIME),
    "norelatime": (0, kernel.MOUNT_ATTR__ATIME),
    "nostrictatime": (0, kernel.MOUNT_ATTR__ATIME),
}
_BELOW = {
    "rro": kernel.MOUNT_ATTR_RDONLY,
    "rnosuid": kernel.MOUNT_ATTR_NOSUID,
    "rnodev": kernel.MOUNT_ATTR_NODEV,
    "rnoexec": kernel.MOUNT_ATTR_NOEXEC,
    "rnosymfollow": kernel.MOUNT_ATTR_NOSYMFOLLOW,
}
_PROPAGATION = {
    "private": kernel.MS_PRIVATE,
    "rprivate": kernel.MS_PRIVATE | kernel.MS_REC,
    "slave": kernel.MS_SLAVE,
    "rslave": kernel.MS_SLAVE | kernel.MS_REC,
    "unbindable": kernel.MS_UNBINDABLE,
    "runbindable": kernel.MS_UNBINDABLE | kernel.MS_REC,
}
# Named, because a file system would refuse them in words that say nothing, or worse, a bind mount would drop them.
_REFUSED = ("shared", "rshared", "idmap", "ridmap", "tmpcopyup", "copy-symlink", "remount", "mand", "sync", "dirsync", "async")
_IGNORED = ("defaults", "silent", "loud", "iversion", "noiversion", "nomand", "lazytime", "nolazytime")
# Of devpts: since Linux 4.7 every mount is its own instance.
_OBSOLETE = ("newinstance",)


class MountOptions:
    """Parsed options of one mount."""

    __slots__ = ("add", "below", "bind", "data", "propagation", "recursive", "remove")

    def __init__(self) -> None:
        self.add = self.remove = self.below = self.propagation = 0
        self.bind = self.recursive = False
        self.data: tuple[tuple[str, str | None], ...] = ()


def parse_options(mount: Cursor) -> MountOptions:
    """Parse `options` (and the type `bind`) of one mount.

    Raises:
        InvalidConfig: an option that the mount cannot have.
        UnsupportedConfig: an option that this runtime does not do.
    """
    options = MountOptions()
    kind = mount.find("type")
    options.bind = kind is not None and kind.text() in {"bind", "rbind"}
    options.recursive = kind is not None and kind.text() == "rbind"
    found = mount.find("options")
    data: list[tuple[str, str | None]] = []
    rest: list[Cursor] = []
    for item in () if found is None else found.items(limits.RUNTIME_ITEMS):
        name = item.text()
        if "\0" in name or not name:
            raise InvalidConfig("an empty option, or one with a NUL character", place=item.at())
        if name in {"bind", "rbind"}:
            options.bind = True
            options.recursive = options.recursive or name == "rbind"
        elif name in _ATTRIBUTES:
            add, remove = _ATTRIBUTES[name]
            options.add = options.add & ~remove | add
            options.remove = options.remove & ~add | remove
        elif name in _BELOW:
            options.below |= _BELOW[name]
        elif name in _PROPAGATION:
            options.propagation = _PROPAGATION[name]
        elif name.partition("=")[0] in _REFUSED:
            raise UnsupportedConfig(
                f"the mount option {name[:80]!r} is not supported by sigkit-runtime", place=item.at(), remedy="remove it"
            )
        elif name not in _IGNORED and name not in _OBSOLETE:
            key, equals, value = name.partition("=")
            data.append((key, value if equals else None))
            rest.append(item)
    if options.bind and rest:
        raise InvalidConfig("a bind mount has no such option", place=rest[0].at(), got=rest[0].text()[:80])
    options.data = tuple(data)
    return options


def known_options() -> tuple[str, ...]:
    """Return the options that a mount may have, besides its file system's own."""
    return tuple(sorted({*_ATTRIBUTES, *_BELOW, *_PROPAGATION, *_IGNORED, "bind", "rbind"}))
