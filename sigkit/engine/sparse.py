"""Maps of sparse files in tar: where the stored pieces belong. Four forms are in use.

Old GNU (kind `S`: in the header and blocks behind it), PAX 0.0 (a record for each number), 0.1 (one record), 1.0 (text before the content).
A map is accepted only if its pieces lie in order, do not overlap, end within the file, and are together exactly what is stored.

Source: GNU tar manual, "Storing Sparse Files"; GNU tar `sparse.c`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sigkit import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol, TypeAlias

    from sigkit.engine.tar import Fail

    Piece: TypeAlias = tuple[int, int]  # offset in the file, length

    class Content(Protocol):
        """The content of the entry that is being read."""

        def read(self, size: int) -> bytes:
            """Return exactly `size` bytes, or refuse the entry."""
            ...


_BLOCK = 512


class SparseFile(NamedTuple):
    """A sparse file as its PAX records describe it; `name` is empty where they give none."""

    name: bytes
    pieces: tuple[Piece, ...]
    real_size: int


def parse_old(block: bytes, next_block: Callable[[], bytes], stored: int, fail: Fail) -> tuple[tuple[Piece, ...], int]:
    """Read the map of an old GNU sparse file from its header `block` and the extension blocks that follow.

    Returns:
        The pieces and the file's length.
    """
    numbers = _old_numbers(block[386:482], fail)
    more = block[482]
    while more:
        block_of_more = next_block()
        numbers += _old_numbers(block_of_more[:504], fail)
        more = block_of_more[504]
        if len(numbers) > 2 * limits.TAR_SPARSE_PIECES:
            fail("too many pieces of a sparse file")
    real_size = _old_number(block[483:495], fail)
    return _checked(numbers, stored, real_size, fail), real_size


def _old_numbers(data: bytes, fail: Fail) -> list[int]:
    numbers: list[int] = []
    for at in range(0, len(data), 24):
        if not data[at]:  # unused slots are zero, and they come last
            break
        numbers += (_old_number(data[at : at + 12], fail), _old_number(data[at + 12 : at + 24], fail))
    return numbers


def _old_number(field: bytes, fail: Fail) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 95) - 1)
    text = field.strip(b" \0")
    if text.translate(None, b"01234567"):
        fail("a malformed sparse map")
    return int(text or b"0", 8)


def parse_pax(records: Sequence[tuple[str, bytes]], content: Content, stored: int, fail: Fail) -> SparseFile:
    """Read the map of a PAX sparse file: from its records, or for form 1.0 from the start of its content.

    Args:
        records: all records of the entry whose key starts with `GNU.sparse.`, in order: form 0.0 repeats keys.
        content: the entry's content.
        stored: its size.
        fail: refuses the entry.
    """
    single = {key.removeprefix("GNU.sparse."): value for key, value in records}
    name = single.get("name", b"")
    if b"\0" in name or len(name) > limits.TAR_NAME_BYTES:
        fail("a malformed name")
    real_size = _decimal(single.get("realsize", single.get("size", b"")), fail)
    version = (single.get("major", b"0"), single.get("minor", b"0" if "map" not in single else b"1"))
    match version:
        case (b"1", b"0"):
            numbers, used = _map_in_content(content, fail)
            stored -= used
        case (b"0", b"1"):
            numbers = [_decimal(text, fail) for text in single.get("map", b"").split(b",")] if single.get("map") else []
        case (b"0", b"0"):
            numbers = _repeated(records, fail)
        case _:
            fail("an unknown form of sparse file", got=repr(version))
    if "numblocks" in single and 2 * _decimal(single["numblocks"], fail) != len(numbers):
        fail("a malformed sparse map")
    return SparseFile(name, _checked(numbers, stored, real_size, fail), real_size)


def _repeated(records: Iterable[tuple[str, bytes]], fail: Fail) -> list[int]:
    expected = "GNU.sparse.offset"
    numbers: list[int] = []
    for key, value in records:
        if key in {"GNU.sparse.offset", "GNU.sparse.numbytes"}:
            if key != expected:
                fail("a malformed sparse map")
            numbers.append(_decimal(value, fail))
            expected = "GNU.sparse.numbytes" if key == "GNU.sparse.offset" else "GNU.sparse.offset"
    return numbers


def _map_in_content(content: Content, fail: Fail) -> tuple[list[int], int]:
    """Read decimal lines (first their number of pairs), padded to whole blocks; return them and the bytes used."""
    data = bytearray()
    blocks = 0

    def line() -> int:
        nonlocal blocks
        while b"\n" not in data:
            if len(data) > 32:
                fail("a malformed sparse map")
            data.extend(content.read(_BLOCK))
            blocks += 1
        text, _, rest = data.partition(b"\n")
        data[:] = rest
        return _decimal(bytes(text), fail)

    pairs = line()
    if pairs > limits.TAR_SPARSE_PIECES:
        fail("too many pieces of a sparse file", got=str(pairs))
    numbers = [line() for _ in range(2 * pairs)]
    return numbers, blocks * _BLOCK


def _decimal(text: bytes, fail: Fail) -> int:
    if not text.isdigit() or len(text) > 19:
        fail("a malformed sparse map", got=repr(text[:40]))
    return int(text)


def _checked(numbers: Sequence[int], stored: int, real_size: int, fail: Fail) -> tuple[Piece, ...]:
    if len(numbers) % 2 or len(numbers) > 2 * limits.TAR_SPARSE_PIECES:
        fail("a malformed sparse map")
    pieces = tuple((numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2))
    end = 0
    for offset, length in pieces:
        if offset < end:
            fail("pieces of a sparse file overlap")
        end = offset + length
    if end > real_size:
        fail("a piece lies outside of its sparse file", expected=f"at most {real_size}", got=str(end))
    if sum(length for _, length in pieces) != stored:
        fail("a sparse map that does not describe what is stored", expected=str(stored))
    return pieces
