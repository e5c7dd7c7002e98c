r"""Waiting and its tails: what a load adds to the time of a request.

An instance that works on one thing at a time with service time S and utilisation rho lets a request wait
:math:`W = \rho E[S] (1 + C^2) / (2 (1 - \rho))` in the mean (Pollaczek and Khinchine, for Poisson arrivals); the tail
of the wait falls as :math:`\rho e^{-\rho w / W}` (exact for exponential service, the heavy-traffic limit otherwise).
Source: Kleinrock, Queueing Systems, volume 1, 1975, sections 5.6 and 5.7.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MOST_BUSY = 0.99  # above it the mean wait says nothing: the load is refused by the utilisation itself


def mean_wait(utilisation: Any, service_s: Any, variation: float) -> Any:
    """Mean seconds in the queue; `variation` is the coefficient of variation of the service time."""
    busy = np.clip(utilisation, 0.0, _MOST_BUSY)
    return busy * service_s * (1.0 + variation * variation) / (2.0 * (1.0 - busy))


def wait_quantile(utilisation: Any, wait_s: Any, quantile: float) -> Any:
    """Seconds that this share of the requests wait at most, given the mean wait."""
    busy = np.clip(utilisation, 1e-12, _MOST_BUSY)
    return np.maximum(np.log(busy / (1.0 - quantile)), 0.0) * wait_s / busy


def occupancy_quantile(mean: Any, most: Any, quantile_sigmas: float = 2.326) -> Any:
    """Sequences in flight that are exceeded 1 % of the time about a mean, at most `most`: nearly Poisson."""
    return np.minimum(mean + quantile_sigmas * np.sqrt(np.maximum(mean, 0.0)), np.maximum(most, mean))
