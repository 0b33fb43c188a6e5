"""Intervals: how far a measured share may be from the true one."""

import math

_Z = 1.959964  # 95 % of a normal distribution are within so many standard deviations


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval (0…1) of a share of which ``hits`` of ``count`` is an estimate; 0…1 if ``count`` is 0.

    Unlike the estimate ± its standard error it stays inside 0…1 and holds for small counts, too (E. B. Wilson 1927,
    "Probable inference, the law of succession, and statistical inference").

    >>> low, high = wilson_interval(7010, 10_000)
    >>> f"{low:.3f} to {high:.3f}"
    '0.692 to 0.710'
    """
    spread = _Z * math.sqrt(hits * (count - hits) / max(1, count) + _Z * _Z / 4)
    middle, whole = hits + _Z * _Z / 2, count + _Z * _Z
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)
