"""Progress objects exactly as Docker's clients draw their bars from. Pure."""

import time
from collections.abc import Callable
from typing import Any

Say = Callable[[dict[str, Any]], None]
_WIDTH = 50  # characters of a bar
_INTERVAL = 0.1  # seconds between two lines of one bar
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def message(text: str, id: str = "") -> dict[str, Any]:
    return {"status": text, "id": id} if id else {"status": text}


def step(id: str, text: str) -> dict[str, Any]:
    """A state of one layer, without a bar."""
    return {"status": text, "progressDetail": {}, "id": id}


def bar(id: str, text: str, current: int, total: int) -> dict[str, Any]:
    """A state of one layer with a bar. current and total in bytes; total 0 when it is not known."""
    detail = {"current": current, **({"total": total} if total else {})}
    return {"status": text, "progressDetail": detail, "progress": drawn(current, total), "id": id}


def drawn(current: int, total: int) -> str:
    """The bar as text, for clients that draw none themselves."""
    numbers = f"{human(current):>8}"
    if total <= 0:
        return numbers
    filled = min(current * 100 // total // 2, _WIDTH)
    if current <= total:
        numbers += f"/{human(total)}"
    return f"[{'=' * filled}>{' ' * (_WIDTH - filled)}] {numbers}"


def human(size: int) -> str:
    """Bytes with four significant digits in decimal units, as Docker writes them."""
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.4g}{_UNITS[unit]}"


class Pace:
    """Lets a line through when the last is long enough ago."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _INTERVAL
        return True
