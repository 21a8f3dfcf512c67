"""Which pool the options of `GkeCodeExecutor` mean, or which setting of the server to use instead.

A pod of its own for each run may have any shape. A warm sandbox has been started before, so its
shape is its pool's: an option that is no limit of one run chooses a pool, or is an error that names
the setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

SHAPE: Final = {
    "image": "pools.NAME.pod.image, or pools.NAME.rootfs on one machine",
    "cpu_requested": "pools.NAME.pod.cpus_requested",
    "mem_requested": "pools.NAME.pod.memory_requested",
    "cpu_limit": "pools.NAME.cpus",
    "mem_limit": "pools.NAME.limits.max.memory",
}
"""What a pool decides, and by which setting."""

ELSEWHERE: Final = {
    "namespace": "is the server's: backend.kubernetes.namespace",
    "kubeconfig_path": "is the server's: backend.kubernetes.kubeconfig",
    "kubeconfig_context": "is the server's: the current context of backend.kubernetes.kubeconfig",
    "sandbox_gateway_name": "has no counterpart: give the server's address as address=...",
    "sandbox_template": "is a pool: its pods are pools.NAME.pod..., and pool='NAME' takes it",
}
"""What only the server knows, and where."""

DOCUMENT: Final = "docs/configuration.md of Sandpool"

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d{1,2}|[mkMGTPE]|[KMGTPE]i)?")
_UNITS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(option: str, text: str) -> Decimal:
    """What Kubernetes means by "500m", "0.5", "512Mi" or "1e9". Raises ValueError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{option}={text!r} is no quantity of Kubernetes, such as 500m or 512Mi")
    number, unit = match[1], match[2] or ""
    if unit[:1] in "eE" and unit[1:] and unit != "Ei":
        return Decimal(number + unit)
    return Decimal(number) * _UNITS[unit]


def pool_of(pool: str, pools: Mapping[str, str], shape: Mapping[str, str]) -> str:
    """The pool for what was given of `SHAPE`; raises ValueError where `pools` has none for it."""
    if not shape:
        return pool
    wanted = _normal(shape)
    for key, name in pools.items():
        if _normal(_parse(key)) == wanted:
            return name
    key = " ".join(v if option == "image" else f"{option}={v}" for option, v in shape.items())
    settings = "".join(f"\n  {option}={shape[option]!r}: {SHAPE[option]}" for option in shape)
    raise ValueError(
        f"no pool is named for {key!r}. A sandbox is as its pool is, and was started before. "
        f"Configure one on the server ({DOCUMENT}):{settings}\n"
        f"and name it: pools={{{key!r}: 'NAME'}}; or leave these options out for the default pool"
    )


def misplaced(given: Mapping[str, Any]) -> list[str]:
    """A sentence about each option that was given and that only the server knows."""
    told = [
        f"{option}={given[option]!r} {where} ({DOCUMENT})"
        for option, where in ELSEWHERE.items()
        if given.get(option) is not None
    ]
    if given.get("executor_type") not in (None, "job"):
        told.append(
            f"executor_type={given['executor_type']!r} has no counterpart: all code runs in warm "
            "gVisor sandboxes of a pool, which pool='NAME' chooses"
        )
    return told


def _parse(key: str) -> dict[str, str]:
    """The options of a key such as "python:3.11-slim cpu_limit=2"."""
    options: dict[str, str] = {}
    for word in key.split():
        name, separator, value = word.partition("=")
        if not separator:
            name, value = "image", word
        if name not in SHAPE or name in options:
            raise ValueError(
                f"pools: {key!r} is not one image, {', '.join([*SHAPE][1:])}, or some of them"
            )
        options[name] = value
    return options


def _normal(shape: Mapping[str, str]) -> dict[str, str | Decimal]:
    return {
        option: value if option == "image" else quantity(option, value)
        for option, value in shape.items()
    }
