r"""Image and tag patterns: the one specification of globs in sigkit (CVE-2021-41087: two programs read `**` and `[!a]` differently).

- A pattern is matched against the whole canonical name, component by component: `registry.example/acme/app` has three.
- `*` inside a component stands for any run of characters, also none, but never for `/`.
- `**` is a component of its own and stands for one or more whole components.
- Everything else is literal. `? [ ] { } ! \` are refused when the policy is loaded; there is no escape and no other syntax.
- Names get docker.io's defaults as references do; where a wildcard leaves the registry open to guessing, the pattern is refused.

The most specific pattern wins, whatever the order of the rules. Patterns are compared component by component from the left: a literal
component beats one with `*`, among those with `*` more literal characters beat fewer, `**` is last, and a longer pattern beats its own
beginning. With equal images a tag pattern beats none. Two rules with equally specific patterns that can match one name: an error at load.

Matching is linear in the name for each `*` (Connaisseur#1407: a pattern must not cost more than the name is worth).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit.data import Data
from sigkit.errors import MalformedPolicy, Place
from sigkit.oci.reference import DOCKER_HUB, fold_registry, parse_reference, parse_repository

if TYPE_CHECKING:
    from sigkit.oci.reference import Repository

ANY_COMPONENTS: Final = "**"
PATTERN_CHARACTERS: Final = 1024  # as long as the longest reference

_PATH_PATTERN = re.compile(r"[a-z0-9._*-]+")
_REGISTRY_PATTERN = re.compile(r"[A-Za-z0-9.:*-]+|\[[0-9a-fA-F:]+\](?::[0-9]+)?")
_TAG_PATTERN = re.compile(r"[A-Za-z0-9_.*-]{1,128}")
_FOREIGN = re.compile(r"[?\[\]{}!\\^$+()|,]")

ComponentRank: TypeAlias = tuple[int, int]
Rank: TypeAlias = tuple[tuple[ComponentRank, ...], ComponentRank]

_NO_TAGS: Final = (-1, 0)


class ImagePattern(Data):
    """A pattern over repositories: as written, and its canonical components, the registry first."""

    text: str
    components: tuple[str, ...]

    def match(self, repository: Repository) -> bool:
        """Tell whether the whole name matches."""
        return match_components(self.components, (repository.registry, *repository.path.split("/")))

    def rank(self) -> tuple[ComponentRank, ...]:
        """Return what patterns are compared by: the greater, the more specific."""
        return tuple(component_rank(component) for component in self.components)

    def is_literal(self) -> bool:
        """Tell whether it names one repository only."""
        return not any("*" in component for component in self.components)

    def __str__(self) -> str:
        return self.text


class Scope(Data):
    """What a rule is about: image patterns, and tag patterns or none. None stand for every reference, with or without a tag."""

    images: tuple[ImagePattern, ...]
    tags: tuple[str, ...] = ()

    def rank_for(self, repository: Repository, tag: str | None) -> Rank | None:
        """Return how specifically this scope matches, or None when it does not.

        Args:
            tag: None for a reference with a digest: a tag beside a digest is not looked up, so no tag pattern may rely on it.
        """
        images = [image.rank() for image in self.images if image.match(repository)]
        if not images:
            return None
        if not self.tags:
            return max(images), _NO_TAGS
        tags = [] if tag is None else [component_rank(pattern) for pattern in self.tags if match_text(pattern, tag)]
        return (max(images), max(tags)) if tags else None

    def label(self) -> str:
        """Name the scope for people: its patterns as written."""
        images = ", ".join(image.text for image in self.images)
        return f"{images} (tags {', '.join(self.tags)})" if self.tags else images


def parse_image_pattern(text: str, place: Place) -> ImagePattern:
    """Parse an image pattern and bring it to the canonical name that references have.

    Raises:
        MalformedPolicy: (PARSE) other wildcards, `**` beside other characters, a tag, or a registry left to guessing.
        MalformedReference: (REF) a literal part that no name can have.
    """
    if not text or len(text) > PATTERN_CHARACTERS:
        raise MalformedPolicy(f"an image pattern has 1 to {PATTERN_CHARACTERS} characters", place=place)
    if "*" not in text:
        if ":" in text.rpartition("/")[2]:
            raise _tagged(text, place)
        repository = parse_reference(text, place).repository
        return ImagePattern(text, (repository.registry, *repository.path.split("/")))
    if text == ANY_COMPONENTS:
        return ImagePattern(text, (ANY_COMPONENTS,))
    components = _with_registry(text, place)
    for component in components[1:]:
        _check_component(component, place)
    return ImagePattern(text, components)


def parse_tag_pattern(text: str, place: Place) -> str:
    """Parse a tag pattern: a tag in which `*` stands for any run of characters.

    Raises:
        MalformedPolicy: (PARSE) it has characters that no tag has.
    """
    _refuse_foreign(text, place)
    if not _TAG_PATTERN.fullmatch(text):
        raise MalformedPolicy("malformed tag pattern", place=place, expected="letters, digits, _ . - and *", got=text)
    return text


def _with_registry(text: str, place: Place) -> tuple[str, ...]:
    first, slash, rest = text.partition("/")
    if not slash or not (first in {ANY_COMPONENTS, "localhost"} or "." in first or ":" in first):
        if "*" in first and not (slash and first == ANY_COMPONENTS):
            raise MalformedPolicy(
                "the pattern does not say which registry it means",
                place=place,
                got=text,
                remedy=f"write {DOCKER_HUB}/{text if slash else 'library/' + text} for Docker Hub, or **/{text} for any registry",
            )
        first, rest = DOCKER_HUB, text
    if first == ANY_COMPONENTS:
        return (first, *rest.split("/"))
    if "[" not in first:
        _refuse_foreign(first, place)
    if not _REGISTRY_PATTERN.fullmatch(first):
        raise MalformedPolicy("malformed registry in a pattern", place=place, expected="host, host:port or [IPv6]:port, with *", got=first)
    if "*" in first:
        _check_stars(first, place)
        registry = fold_registry(first.lower())
    else:
        registry = parse_repository(f"{first}/x", place).registry
    if registry == DOCKER_HUB and "/" not in rest and rest != ANY_COMPONENTS:
        rest = f"library/{rest}"
    return (registry, *rest.split("/"))


def _check_component(component: str, place: Place) -> None:
    if component == ANY_COMPONENTS:
        return
    if component != component.lower():
        raise MalformedPolicy(
            "repositories have no upper-case letters", place=place, got=component, remedy=f"did you mean {component.lower()} ?"
        )
    _refuse_foreign(component, place)
    if ":" in component or "@" in component:
        raise _tagged(component, place)
    if not _PATH_PATTERN.fullmatch(component):
        raise MalformedPolicy("malformed component in a pattern", place=place, expected="a-z 0-9 . _ - and *", got=component)
    _check_stars(component, place)


def _check_stars(component: str, place: Place) -> None:
    if ANY_COMPONENTS in component:
        raise MalformedPolicy(
            "`**` stands alone between slashes", place=place, got=component, remedy="write * for characters inside one component"
        )


def _tagged(got: str, place: Place) -> MalformedPolicy:
    return MalformedPolicy(
        "an image pattern has neither tag nor digest", place=place, got=got, remedy="put tag patterns under `tags:` of the rule"
    )


def _refuse_foreign(text: str, place: Place) -> None:
    if found := _FOREIGN.search(text):
        raise MalformedPolicy(f"{found[0]!r} has no meaning in a pattern", place=place, expected="literal characters, * and **", got=text)


def match_text(pattern: str, text: str) -> bool:
    """Match one component: `*` is any run of characters, all else literal."""
    head, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, tail = rest
    if len(text) < len(head) + len(tail) or not text.startswith(head) or not text.endswith(tail):
        return False
    position, end = len(head), len(text) - len(tail)
    for part in middle:  # the leftmost place of each part leaves most for the others
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def match_components(pattern: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """Match whole names: `**` is one or more components."""
    states = {0}  # how many components of the pattern are used up
    for component in name:
        following: set[int] = set()
        for state in states:
            if state and pattern[state - 1] == ANY_COMPONENTS:
                following.add(state)  # the `**` before takes one more
            if state < len(pattern) and (pattern[state] == ANY_COMPONENTS or match_text(pattern[state], component)):
                following.add(state + 1)
        states = following
    return len(pattern) in states


def overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether some name matches both patterns."""
    todo, seen = [(0, 0)], set[tuple[int, int]]()
    while todo:
        i, j = todo.pop()
        if (i, j) == (len(one), len(other)):
            return True
        if (i, j) in seen:
            continue
        seen.add((i, j))
        # Each side either moves on to its next component or, behind a `**`, stays there for one more.
        mine = [(i + 1, one[i])] if i < len(one) else []
        theirs = [(j + 1, other[j])] if j < len(other) else []
        mine += [(i, ANY_COMPONENTS)] if i and one[i - 1] == ANY_COMPONENTS else []
        theirs += [(j, ANY_COMPONENTS)] if j and other[j - 1] == ANY_COMPONENTS else []
        todo += [(a, b) for a, x in mine for b, y in theirs if ANY_COMPONENTS in (x, y) or overlap_text(x, y)]
    return False


def overlap_text(one: str, other: str) -> bool:
    """Tell whether some component matches both patterns."""
    todo, seen = [(0, 0)], set[tuple[int, int]]()
    while todo:
        i, j = todo.pop()
        if (i, j) in seen:
            continue
        seen.add((i, j))
        if (i, j) == (len(one), len(other)):
            return True
        x, y = one[i : i + 1], other[j : j + 1]
        if x == "*":
            todo += [(i + 1, j)] + ([(i, j + 1)] if y else [])
        if y == "*":
            todo += [(i, j + 1)] + ([(i + 1, j)] if x else [])
        if x and x == y:
            todo.append((i + 1, j + 1))
    return False


def component_rank(component: str) -> ComponentRank:
    """Return what components, and tag patterns, are compared by: literal, then more literal characters, then fewer, then `**`."""
    if component == ANY_COMPONENTS:
        return 0, 0
    if "*" in component:
        return 1, len(component) - component.count("*")
    return 2, 0
