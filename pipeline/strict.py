"""A tree of parsed YAML as frozen dataclasses, strictly.

Annotations say what is allowed: ``Annotated[int, Bounds(1)]``, ``Annotated[str, "regex"]``,
``Literal``, tuples, maps and dataclasses. Unknown, missing, mistyped and out-of-range keys are
refused with their path, what was got and what was expected.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


class ParamsError(ValueError):
    """A params file that can't be used: names the key, what was found and what was expected."""


@dataclass(frozen=True)
class Bounds:
    """A closed interval of allowed numbers; with a ``step``, those divisible by it alone."""

    low: float = -math.inf
    high: float = math.inf
    step: int = 0

    def __str__(self) -> str:
        """Say the interval in words."""
        steps = f" and divisible by {self.step}" if self.step else ""
        if self.high == math.inf:
            return f"at least {self.low:g}{steps}"
        return f"from {self.low:.10g} to {self.high:.10g}{steps}"

    def allow(self, value: float) -> bool:
        """Whether a number is one of those."""
        return self.low <= value <= self.high and not (self.step and value % self.step)


# What values are allowed, by name.
Count = Annotated[int, Bounds(1)]
Whole = Annotated[int, Bounds(0)]
Seed = Annotated[int, Bounds(0, 2**32 - 1)]  # what all generators take
Fraction = Annotated[float, Bounds(0, 1)]
Positive = Annotated[float, Bounds(1e-12)]
NonNegative = Annotated[float, Bounds(0)]
Name = Annotated[str, r"[A-Za-z0-9][A-Za-z0-9_-]*"]


def _wrong(at: str, value: Any, expected: str) -> ParamsError:
    return ParamsError(f"{at or 'top level'}: got {value!r}, expected {expected}")


def parse(kind: Any, value: Any, at: str) -> Any:
    """Turn parsed YAML into ``kind``, or raise with the path ``at``."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(parse(args[0], value, at), args[1], at)
    if origin is Literal:
        if not any(value == option and type(value) is type(option) for option in args):
            raise _wrong(at, value, "one of " + ", ".join(map(str, args)))
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(at, value, "a list")
        return tuple(parse(args[0], item, f"{at}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(at, value, "a map")
        return {parse(args[0], k, f"{at} (key)"): parse(args[1], v, f"{at}.{k}")
                for k, v in value.items()}  # fmt: skip
    if dataclasses.is_dataclass(kind):
        return _section(kind, value, at)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _wrong(at, value, {"str": "text", "int": "a whole number", "float": "a number",
                                 "bool": "true or false"}[kind.__name__])  # fmt: skip
    if kind is float and not math.isfinite(value):
        raise _wrong(at, value, "a finite number")
    return value


def _bounded(value: Any, limit: Any, at: str) -> Any:
    if isinstance(limit, Bounds) and not limit.allow(value):
        raise _wrong(at, value, f"a number {limit}")
    if isinstance(limit, str) and not re.fullmatch(limit, value):
        raise _wrong(at, value, f"a name of letters, digits, - and _ ({limit})")
    return value


def _section(kind: type, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(at, value, "a map")
    hints = get_type_hints(kind, include_extras=True)
    dotted = f"{at}." if at else ""
    if unknown := sorted(str(key) for key in value if key not in hints):
        raise ParamsError(f"{dotted}{unknown[0]}: unknown key, expected some of {', '.join(hints)}")
    if missing := [key for key in hints if key not in value]:
        raise ParamsError(f"{dotted}{missing[0]}: missing key, expected {_say(hints[missing[0]])}")
    return kind(**{key: parse(hint, value[key], dotted + key) for key, hint in hints.items()})


def _say(kind: Any) -> str:
    """Name a type for a person."""
    if get_origin(kind) is Annotated:
        inner, limit = get_args(kind)[:2]
        return f"{_say(inner)} {limit}" if isinstance(limit, Bounds) else _say(inner)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "a list" if get_origin(kind) is tuple else "a map")
