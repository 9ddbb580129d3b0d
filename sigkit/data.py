"""Frozen value types that cost next to nothing to define.

`@dataclass(frozen=True, slots=True)` generates and compiles code for each class, and a cold `sigkit verify` meets about 70 of them
(docs/decisions/006 has the figures). NamedTuple is cheap too, but two of its types with equal fields compare equal and an empty one
is false: a verdict must not depend on that.

A class whose values are made often gets an `__init__` of its own then, as a dataclass has from the start: a process that verifies many
bundles makes thousands of them, a cold one a few of each.

Type checkers see a frozen dataclass (PEP 681). The module of such a class has `from __future__ import annotations`.
"""

from __future__ import annotations

from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Callable[[type], type]:  # `typing` costs 4 ms, and `sigkit-runtime` starts with this
        """Return a decorator that changes nothing: only type checkers read the mark."""
        return lambda cls: cls


NOTHING: Mapping[str, Any] = MappingProxyType({})  # the default of a mapping that nobody can add to

_SHOWN_BYTES = 32
_OFTEN = 48  # values of one class; more than a cold verification makes
_store = object.__setattr__


@dataclass_transform(frozen_default=True)
class DataType(type):
    """Makes the annotated names of a class its fields, in order."""

    __match_args__: tuple[str, ...]
    _defaults: dict[str, Any]
    _made: list[int]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> DataType:
        """Make a class whose slots are its annotated names."""
        names = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in names if field in namespace}
        namespace["__slots__"] = namespace["__match_args__"] = names
        cls = super().__new__(mcs, name, bases, namespace)
        cls._defaults = defaults
        cls._made = [0]  # in a list: a class that is written to forgets where its attributes are
        return cls


class Data(metaclass=DataType):
    """Base of value types: fields by annotation, frozen, equal only to the same type with equal fields.

    Mappings take part in equality and not in the hash. A class derived from this one is not derived from again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the checker knows the fields by PEP 681
        cls = type(self)
        names = cls.__match_args__
        cls._made[0] += 1
        if cls._made[0] == _OFTEN:
            _give_own_init(cls)
        if len(args) == len(names) and not kwargs:  # the usual way, of which a verification takes dozens
            for name, value in zip(names, args, strict=True):
                _store(self, name, value)
            return
        values = dict(zip(names, args, strict=False))
        given = len(values)
        values.update(kwargs)
        if given < len(args) or given + len(kwargs) > len(values):
            raise TypeError(f"{cls.__name__}: a field is given twice, or there are more than {len(names)} values")
        for name in names:
            if name in values:
                _store(self, name, values.pop(name))
            elif name in cls._defaults:
                _store(self, name, cls._defaults[name])
            else:
                raise TypeError(f"{cls.__name__}: {name} is missing")
        if values:
            raise TypeError(f"{cls.__name__} has no field {', '.join(values)}")

    def _values(self) -> tuple[Any, ...]:
        names = type(self).__match_args__
        return tuple([getattr(self, name) for name in names])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *(value for value in self._values() if not isinstance(value, (dict, MappingProxyType)))))

    def __repr__(self) -> str:
        names = type(self).__match_args__
        shown = (f"{name}={_show(value)}" for name, value in zip(names, self._values(), strict=True))
        return f"{type(self).__name__}({', '.join(shown)})"


def _give_own_init(cls: DataType) -> None:
    """Compile an `__init__` with the fields as its parameters, if a function can have them in this order."""
    names, defaults = cls.__match_args__, cls._defaults
    if list(names) != sorted(names, key=lambda name: name in defaults):
        return
    scope: dict[str, Any] = {f"_default_{name}": value for name, value in defaults.items()}
    scope |= {f"_store_{name}": getattr(cls, name).__set__ for name in names}
    parameters = ", ".join(["self", *(f"{name}=_default_{name}" if name in defaults else name for name in names)])
    stores = "; ".join(f"_store_{name}(self, {name})" for name in names) or "pass"
    exec(f"def __init__({parameters}): {stores}", scope)  # noqa: S102 - of the names in our own source, as dataclasses does
    type.__setattr__(cls, "__init__", scope["__init__"])


def _show(value: object) -> str:
    if isinstance(value, bytes) and len(value) > _SHOWN_BYTES:
        return f"<{len(value)} bytes>"
    return repr(value)
