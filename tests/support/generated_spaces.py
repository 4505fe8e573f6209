"""Search spaces drawn at random, as a specification spells them: every valid kind of parameter, at its edges."""

from __future__ import annotations

from typing import Any

import numpy as np

MAGNITUDES = (0.0, 1e-300, 1e-8, 0.01, 0.1, 0.3, 1.0, 7.0, 1e6, 1e99)
WHOLE = (0, 1, 2, 3, 10, 1000, 2**31, 2**52 - 10**6)
STEPS = (0.1, 0.25, 1.0, 1e-6, 3.0)
CHOICES: tuple[bool | int | float | str, ...] = (True, False, 0, 1, 3, 0.5, 1.5, "", "sgd", "1", "true", "a long text")


def space(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """One to five parameters of `extra`; some are active only beside some values of an earlier one."""
    drawn: dict[str, dict[str, Any]] = {}
    for index in range(rng.integers(1, 6)):
        parameter = [_float, _int, _categorical][rng.integers(3)](rng)
        if drawn and rng.random() < 0.4:
            other = list(drawn)[rng.integers(len(drawn))]
            parameter["when"] = {other: _condition(drawn[other], rng)}
        drawn[f"extra.p{index}"] = parameter
    return drawn


def _float(rng: np.random.Generator) -> dict[str, Any]:
    low = float(rng.choice(MAGNITUDES)) * (1 if rng.random() < 0.7 else -1)
    width = [0.0, abs(low) * 1e-8, abs(low) * 0.1 + 1e-3, 1.0, 1e9, 1e99][rng.integers(6)]
    parameter: dict[str, Any] = {"type": "float", "low": low, "high": low + max(width, abs(low) * 2e-9 if width else 0)}
    kind = rng.random()
    if kind < 0.3 and low > 0:
        parameter["log"] = True
    elif kind < 0.6 and 1e-9 < abs(low) < 1e3:
        parameter["step"] = step = float(rng.choice(STEPS))
        parameter["high"] = round(low + step * int(rng.integers(0, 6)), 9)
    return parameter


def _int(rng: np.random.Generator) -> dict[str, Any]:
    low = int(rng.choice(WHOLE)) * (1 if rng.random() < 0.7 else -1)
    parameter: dict[str, Any] = {"type": "int", "low": low, "high": low + int(rng.choice([0, 0, 1, 2, 9, 10**6]))}
    kind = rng.random()
    if kind < 0.3 and 0 < low < 2**31:
        parameter["log"] = True
    elif kind < 0.6:
        parameter["step"] = step = int(rng.choice([1, 2, 5, 1000]))
        parameter["high"] = low + step * int(rng.integers(0, 6))
    return parameter


def _categorical(rng: np.random.Generator) -> dict[str, Any]:
    count = int(rng.integers(1, 5))
    drawn: list[bool | int | float | str] = []
    for index in rng.permutation(len(CHOICES)):
        value = CHOICES[index]
        if len(drawn) < count and not any(value == other for other in drawn):
            drawn.append(value)
    return {"type": "categorical", "choices": drawn}


def _condition(parameter: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """A condition that some value of the parameter passes."""
    if parameter["type"] == "categorical":
        return {"in": parameter["choices"][: 1 + rng.integers(len(parameter["choices"]))]}
    return [{"ge": parameter["low"]}, {"le": parameter["low"]}, {"eq": parameter["high"]}][rng.integers(3)]
