"""Figures as people read them in a terminal."""

import math


def duration(seconds: float | None) -> str:
    """``0:07``, ``12:30``, ``3:05:10``, ``2 d 03:05:10``; ``?`` where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def share(ratio: float | None) -> str:
    """``45%``; below a tenth with one decimal."""
    if ratio is None or not math.isfinite(ratio):
        return "?"
    return f"{ratio:.1%}" if 0 < ratio < 0.0995 else f"{ratio:.0%}"


def rate(per_second: float | None) -> str:
    """``1,234``, ``12.3``, ``0.12``: three digits at least."""
    if per_second is None or not math.isfinite(per_second):
        return "?"
    return f"{per_second:,.{0 if per_second >= 99.5 else 1 if per_second >= 9.95 else 2}f}"


def size(count: float | None) -> str:
    """Bytes: ``512 B``, ``1.2 MB``, ``3.4 GB``."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
