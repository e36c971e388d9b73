"""An immutable record: what a frozen keyword-only dataclass is, without the price of making one.

``@dataclass`` compiles each class's methods as it is imported: 0.85 ms a class, 45 ms with the modules it brings in, on
a command that has about a hundred. Type checkers read a Record as a dataclass (PEP 681); at run time its methods are
the six below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # typing has it from 3.11 on; at run time it only marks the class

    def dataclass_transform(**_: bool) -> Any:  # noqa: D103 - the name is typing's
        return lambda cls: cls


Self = TypeVar("Self", bound="Record")
_new: Final = object.__new__
_set: Final = object.__setattr__


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Base of every description: fields by annotation, defaults by assignment, equality and hash by value.

    An instance holds the fields that it was given; the others are the class's own attributes. ``all_fields()`` has all.
    """

    __fields__: ClassVar[tuple[str, ...]] = ()
    __names__: ClassVar[frozenset[str]] = frozenset()
    __required__: ClassVar[frozenset[str]] = frozenset()
    __defaults__: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")]
        cls.__fields__ = (*cls.__fields__, *own)
        cls.__names__ = frozenset(cls.__fields__)
        cls.__defaults__ = {**cls.__defaults__, **{name: vars(cls)[name] for name in own if name in vars(cls)}}
        cls.__required__ = cls.__names__.difference(cls.__defaults__)

    def __init__(self, **values: Any) -> None:
        if not (self.__required__ <= values.keys() and self.__names__.issuperset(values)):
            self._refuse(values)
        _set(self, "__dict__", values)

    def _refuse(self, values: dict[str, Any]) -> NoReturn:
        unknown = [name for name in values if name not in self.__fields__]
        missing = [name for name in self.__fields__ if name not in values and name not in self.__defaults__]
        raise TypeError(f"{type(self).__name__}: unknown fields {unknown}, missing fields {missing}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return type(self) is type(other) and self.all_fields() == other.all_fields()

    def __hash__(self) -> int:
        values = vars(self)  # those without a default tell most apart; equality looks at all
        return hash(tuple([values[name] for name in self.__required__]))

    def __repr__(self) -> str:
        values, defaults = self.all_fields(), self.__defaults__
        differ = [name for name in self.__fields__ if name not in defaults or values[name] != defaults[name]]
        return f"{type(self).__name__}({', '.join(f'{name}={values[name]!r}' for name in differ)})"

    def all_fields(self) -> dict[str, Any]:
        """Every field with its value."""
        return {**self.__defaults__, **vars(self)}

    def replace(self: Self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            TypeError: a name that is not a field.
        """
        if not self.__names__.issuperset(changes):
            self._refuse({**vars(self), **changes})
        return made(type(self), {**vars(self), **changes})


def made(kind: type[Self], fields: dict[str, Any]) -> Self:
    """A record that holds ``fields``, which somebody else has checked."""
    record = _new(kind)
    _set(record, "__dict__", fields)
    return record
