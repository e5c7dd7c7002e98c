"""How often a job is stopped, and what share of its time does useful work.

A job is stopped when any piece that it runs on fails: rates add up over the pieces, and failures arrive with an
exponential law. It then restarts from its last checkpoint. The expected time of a segment of work between two
checkpoints is exact under that law (J. T. Daly, "A higher order estimate of the optimum checkpoint interval for
restart dumps", Future Generation Computer Systems 22, 2006, equations 9 to 13), so the shares stay between 0 and 1
however short the time between failures becomes.

Every function broadcasts: `packages` and the bytes of a checkpoint may be numbers or arrays of any common shape, and
results have that shape. Rates are per second, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from model.cost import Parts
from model.layout import Array
from model.powers import power

if TYPE_CHECKING:
    from model.system import System

IntervalRule = Literal["optimal", "daly", "young", "fixed"]
Shortage = Literal["shrink", "wait"]

_DAY_S = 86400.0
_NEVER = 1e-30  # failures per second, below which nothing fails: once in 10^22 years
_LEAST = 1e-18  # of the MTBF: a shorter stop of a checkpoint is next to nothing
_NEWTON_STEPS = 5  # quadratic from above: five reach nine digits from anywhere


@dataclass(frozen=True, slots=True)
class Operation:
    """How a cluster is run: what fails, what a failure costs, what stands by."""

    name: str
    chip_failure_rate: float  # of one package with its memory, per second: failures that stop a job
    software_failure_rate: float  # interruptions that no piece of equipment causes, per package of the job
    part_failure_factor: float  # multiplies the rates of failure of the machine's parts
    removed_share: float  # of failures of equipment after which it is taken out for repair
    repair_s: float  # until it is back
    detection_s: float  # from the failure until it is noticed and located
    reschedule_s: float  # until processes run on sound equipment again
    warm_up_s: float  # of communicators, compilation and caches, beside the loading of the checkpoint
    asynchronous: bool  # a checkpoint blocks only while it is copied to the host, and is written behind the next steps
    copy_bandwidth: float  # of one package into its host, while the job waits
    storage_bandwidth: float  # of one package to and from where checkpoints survive a failure
    interval_rule: IntervalRule = "optimal"
    interval_s: float = 0.0  # of rule "fixed"
    spare_share: float = 0.0  # packages that stand by, per package of the job
    shortage: Shortage = "shrink"  # a job with too few packages goes on with those left, or waits
    jitter: float = 0.0  # relative standard deviation of a rank's step
    slow_share: float = 0.0  # of packages that are slow and not yet found
    slow_loss: float = 0.0  # of speed, of such a package
    reference_ranks: int = 1024  # size up to which step times hold the waiting for the slowest rank already


@dataclass(frozen=True, slots=True)
class FailureParts(Parts):
    """Interruptions of a job per second, by what causes them."""

    chips: Any  # packages with their memory
    hosts: Any  # processors, memory, boards, drives, power supplies
    switches: Any
    optics: Any
    cables: Any
    nics: Any
    software: Any  # and what nobody could explain


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Seconds of a job's checkpoints."""

    blocking_s: Any  # that the job stands still for one
    lag_s: Any  # from then until it would survive a failure
    load_s: Any  # to read it back
    interval_s: Any  # of work between two


@dataclass(frozen=True, slots=True)
class Availability(Parts):
    """Shares of the time that a job holds its machine; they add up to 1."""

    useful: Any
    stragglers: Any  # waiting for the slowest rank, beyond what step times hold already
    checkpointing: Any
    rework: Any  # work done again, and work that no checkpoint kept
    restart: Any  # detection, rescheduling, loading, warm-up
    shortage: Any  # of sound equipment

    @property
    def goodput(self) -> Array:
        """Share of the time that does useful work, in [0, 1]."""
        return np.asarray(self.useful)


# ------------------------------------------------------------------------------------------------- what fails
_CAUSES = {
    **{"chip": "chips", "host": "hosts", "board": "hosts", "storage": "hosts", "rack": "hosts"},
    **{"switch": "switches", "optics": "optics", "cable": "cables", "nic": "nics"},
}


def _rates(system: System) -> dict[str, Any]:
    """Interruptions per second that one package of a job brings with it, by cause."""
    operation = system.operation
    rates: dict[str, Any] = dict.fromkeys(("chips", *_CAUSES.values(), "software"), 0.0)
    if operation is None:
        return rates
    rates["chips"] = operation.chip_failure_rate
    rates["software"] = operation.software_failure_rate
    for part in system.parts:
        each = part.count / part.per_packages * part.failure_rate
        rates[_CAUSES[part.group]] += each * operation.part_failure_factor
    return rates


def failures(system: System, packages: Any) -> FailureParts:
    """Interruptions per second of a job on `packages` packages, by cause; all zero without a record of operation.

    Rates of independent pieces add up: a synchronous job stops with any of them.
    """
    rates = {cause: np.asarray(rate * packages, dtype=float) for cause, rate in _rates(system).items()}
    return FailureParts(**{cause: np.where(rate < _NEVER, 0.0, rate) for cause, rate in rates.items()})


def mtbf(system: System, packages: Any) -> Array:
    """Mean seconds between interruptions of a job; infinite where nothing fails."""
    return _over(1.0, failures(system, packages).total)


def _over(amount: Any, rate: Any) -> Array:
    """An amount over a rate; infinite where the rate is nothing, or as good as nothing."""
    amount, rate = np.broadcast_arrays(np.asarray(amount, dtype=float), np.asarray(rate, dtype=float))
    with np.errstate(over="ignore"):
        return np.asarray(np.divide(amount, rate, out=np.full(rate.shape, np.inf), where=rate > 0))


# ------------------------------------------------------------------------------------------------ checkpoints
def young_interval(blocking_s: Any, rate: Any) -> Array:
    """Seconds of work between checkpoints after J. W. Young (CACM 17, 1974): sqrt(2 blocking MTBF)."""
    return np.asarray(np.sqrt(_over(2.0 * np.asarray(blocking_s, dtype=float), rate)))


def daly_interval(blocking_s: Any, rate: Any) -> Array:
    """Seconds of work between checkpoints after Daly 2006, equation 37; the MTBF where blocking is twice that."""
    young = young_interval(blocking_s, rate)
    half = np.asarray(np.multiply(blocking_s, rate)) / 2.0  # blocking over twice the MTBF
    finite = np.where(np.isfinite(young), young, 0.0)
    higher = finite * (1.0 + np.sqrt(half) / 3.0 + half / 9.0) - blocking_s
    return np.where(np.isfinite(young), np.where(half < 1.0, higher, _over(1.0, rate)), np.inf)


def optimal_interval(blocking_s: Any, rate: Any) -> Array:
    """Seconds of work between checkpoints that lose the least under `availability`'s law.

    The work u per MTBF solves -ln(1 - u) - u = blocking/MTBF (Daly 2006, equation 14, there with Lambert's function).
    Newton's method on that convex function, from above; Young's interval where blocking is next to nothing.
    """
    blocking_s, rate = np.broadcast_arrays(np.asarray(blocking_s, dtype=float), np.asarray(rate, dtype=float))
    delta = blocking_s * rate
    near = np.clip(delta, _LEAST, 20.0)
    work = np.minimum(np.sqrt(2.0 * near), -np.expm1(-1.0 - near))
    for _ in range(_NEWTON_STEPS):
        work = work - (-np.log1p(-work) - work - near) * (1.0 - work) / work
    work = np.where(delta > 20.0, -np.expm1(-1.0 - delta), work)
    return np.where(delta < _LEAST, young_interval(blocking_s, rate), _over(work, rate))


def _interval(operation: Operation, blocking_s: Any, rate: Any) -> Array:
    if operation.interval_rule == "fixed":
        return np.asarray(operation.interval_s)
    rules = {"optimal": optimal_interval, "daly": daly_interval, "young": young_interval}
    return rules[operation.interval_rule](blocking_s, rate)


def checkpointing(system: System, packages: Any, checkpoint_bytes: Any, step_s: Any = 1.0) -> Checkpointing:
    """Times of a job's checkpoints.

    Parameters
    ----------
    system
        With a record of operation.
    packages
        Of the job.
    checkpoint_bytes
        Of one rank: its share of weights and optimizer state.
    step_s
        Seconds of a step: the interval is a step at least, and no shorter than a checkpoint takes to be safe.

    Raises
    ------
    ValueError
        Where the system has no record of operation.

    Notes
    -----
    The copy to the host goes at the record's bandwidth, or at what the host's link achieves where that is less.
    """
    operation = system.operation
    if operation is None:
        raise ValueError(f"{system.name} has no record of operation")
    per_package = np.asarray(checkpoint_bytes) * system.chip.ranks_per_package
    copy = np.asarray(operation.copy_bandwidth)
    if system.host is not None:
        link = system.host.link_bandwidth * system.host.achieved_fraction * system.chip.ranks_per_package
        copy = np.minimum(copy, link)
    stored_s = per_package / operation.storage_bandwidth
    blocking_s = per_package / copy if operation.asynchronous else stored_s
    lag_s = stored_s if operation.asynchronous else np.zeros_like(stored_s)
    given = _interval(operation, blocking_s, failures(system, packages).total)
    least = np.maximum(np.maximum(step_s, lag_s), 1e-6)
    return Checkpointing(blocking_s, lag_s, stored_s, np.maximum(given, least))


# ----------------------------------------------------------------------------------------------------- spares
def _poisson(mean: Any, spares: Any) -> tuple[Array, Array]:
    """Probability of more than `spares` at a time, and how many more on average, of a Poisson number."""
    pairs = np.asarray(mean, dtype=float) + 1j * np.floor(np.asarray(spares, dtype=float))
    different, place = np.unique(pairs, return_inverse=True)  # many layouts have the same size
    mean, spares = different.real, different.imag
    log_mean = np.log(np.maximum(mean, 1e-300))
    at_most, fewer = np.zeros(mean.shape), np.zeros(mean.shape)
    log_factorial = 0.0
    for number in range(int(spares.max(initial=0)) + 1):
        log_factorial += np.log(max(number, 1))
        weight = np.exp(number * log_mean - mean - log_factorial)
        at_most += np.where(number <= spares, weight, 0.0)
        fewer += np.where(number < spares, weight, 0.0)
    more = np.clip(1.0 - at_most, 0.0, 1.0)
    missing = np.clip(mean * (1.0 - fewer) - spares * more, 0.0, mean)
    return more[place].reshape(pairs.shape), missing[place].reshape(pairs.shape)


def broken_share(system: System, whole_packages: Any = None) -> Array:
    """Share of the groups of `whole_packages` packages that cannot be used at a time, as equipment is being repaired.

    A failure of a chip, host or NIC takes out one fault domain (a node, a tray, a cube), which comes back after the
    time of a repair; network equipment is mended in place. Domains of a group under repair are a Poisson number (the
    stationary law of independent repairs, whatever the law of their length). A group stands out as many of them as it
    has spare packages of its own. None: a unit where it has spare packages, and else a fault domain.
    """
    operation = system.operation
    if operation is None:
        return np.asarray(0.0)
    domain = system.fault_domain_packages or system.unit_packages
    whole = np.asarray(_whole(system) if whole_packages is None else whole_packages, dtype=float)
    rates = _rates(system)
    equipment = rates["chips"] + rates["hosts"] + rates["nics"]
    under_repair = whole * equipment * operation.removed_share * operation.repair_s
    own_spares = system.spare_packages * whole / system.unit_packages / domain
    return _poisson(under_repair, own_spares + 1e-9)[0]


def _whole(system: System) -> int:
    return system.unit_packages if system.spare_packages else system.fault_domain_packages or system.unit_packages


def shortage(
    system: System, packages: Any, *, spares: Any = None, whole_packages: Any = None, replica_packages: Any = 1.0
) -> Array:
    """Share of a job's work that is lost as too few groups of packages are whole.

    Parameters
    ----------
    system
        With a record of operation; without one nothing is lost.
    packages
        Of the job.
    spares
        Packages that stand by; None: the record's share of `packages`. Only whole groups of them count.
    whole_packages
        Packages that must be whole together, as those of the groups that a layout keeps inside a rack; a fault domain
        at least. None: as `broken_share` says.
    replica_packages
        Packages that a job gives up at once as it shrinks: those of a data-parallel replica.

    Notes
    -----
    Broken groups are a Poisson number. A job that waits stands still while they are more than the spares; a job that
    shrinks loses those that are missing, rounded up to a replica. Spares that wait do not fail.
    """
    operation = system.operation
    packages = np.asarray(packages, dtype=float)
    if operation is None:
        return np.zeros(packages.shape)
    standing_by = packages * operation.spare_share if spares is None else np.asarray(spares, dtype=float)
    given = np.asarray(_whole(system) if whole_packages is None else whole_packages, dtype=float)
    whole = np.minimum(given, packages)
    broken = broken_share(system, whole_packages)
    more, missing = _poisson(np.ceil(packages / whole) * broken, standing_by / whole + 1e-9)
    if operation.shortage == "wait":
        return more
    lost = missing * whole + more * np.maximum(0.0, np.asarray(replica_packages) - whole)
    return np.asarray(np.minimum(1.0, lost / packages))


def spares_needed(system: System, packages: Any, probability: float = 0.01, whole_packages: Any = None) -> Array:
    """Fewest packages that must stand by for a shortage to be no more likely than `probability` at any time.

    In whole groups of `whole_packages`, as `shortage` takes them; none where the system has no record of operation.
    """
    packages = np.asarray(packages, dtype=float)
    whole = np.minimum(_whole(system) if whole_packages is None else whole_packages, packages)
    mean = np.ceil(packages / whole) * broken_share(system, whole_packages)
    needed = np.zeros(mean.shape)
    while (short := _poisson(mean, needed)[0] > probability).any():
        needed = needed + short
    return np.asarray(needed * whole)


# ------------------------------------------------------------------------------------------------- stragglers
def slow_down(system: System, packages: Any) -> Array:
    """Factor on a step's time of waiting for the slowest rank, over what step times hold already; 1 or more.

    The largest of N normal deviations is sigma sqrt(2 ln N) for large N (extreme value theory), and one slow package
    slows all: that happens with probability 1 - (1 - share)^N. Measured step times, which the cost model is fitted
    to, hold both at their own size: only what is beyond the record's `reference_ranks` counts.
    """
    operation = system.operation
    if operation is None:
        return np.ones(np.shape(packages))
    ranks_per_package = system.chip.ranks_per_package

    def expected(ranks: Any) -> Array:
        spread = operation.jitter * np.sqrt(2.0 * np.log(np.maximum(ranks, 1.0)))
        found = 1.0 - power(1.0 - np.asarray(operation.slow_share), ranks / ranks_per_package)
        slow = operation.slow_loss / (1.0 - np.asarray(operation.slow_loss))
        return np.asarray((1.0 + spread) * (1.0 + slow * found))

    ranks = np.asarray(packages, dtype=float) * ranks_per_package
    return np.maximum(1.0, expected(ranks) / expected(np.asarray(operation.reference_ranks, dtype=float)))


# ----------------------------------------------------------------------------------------------- availability
def availability(
    system: System,
    packages: Any,
    checkpoint_bytes: Any,
    *,
    step_s: Any = 1.0,
    spares: Any = None,
    whole_packages: Any = None,
    replica_packages: Any = 1.0,
) -> Availability:
    """Where the time of a long job goes.

    Parameters
    ----------
    system
        A machine; without a record of operation all time is useful.
    packages
        Of the job.
    checkpoint_bytes
        Of one rank: its share of weights and optimizer state.
    step_s
        Seconds of a step, the shortest interval between checkpoints.
    spares, whole_packages, replica_packages
        As `shortage` takes them.

    Notes
    -----
    With M the MTBF, x = (interval + blocking)/M and R the restart with the lag of an asynchronous checkpoint, a
    segment takes M e^(R/M) (e^x - 1) seconds on average (Daly 2006, equation 13; a restart may fail too). Its split is
    exact: the share e^(-R/M) is spent in attempts, of these x/(e^x - 1) in the one that succeeds, which is work and
    checkpoint; the other attempts are rework. The share 1 - e^(-R/M) is restarts, and rework for what the lag loses:
    a failure while the last checkpoint is under way falls back to the one before, which costs the lag on average.
    Stragglers are taken from the useful share, and a shortage from all of the time.
    """
    operation = system.operation
    if operation is None:
        one = np.ones(np.broadcast_shapes(*map(np.shape, (packages, checkpoint_bytes, step_s))))
        nothing = np.zeros(one.shape)
        return Availability(one, nothing, nothing, nothing, nothing, nothing)
    rate = np.asarray(failures(system, packages).total, dtype=float)
    times = checkpointing(system, packages, checkpoint_bytes, step_s)
    restart_s = operation.detection_s + operation.reschedule_s + operation.warm_up_s + times.load_s
    back_s = restart_s + times.lag_s
    with np.errstate(over="ignore", invalid="ignore"):
        attempt = np.where(rate > 0, rate * (times.interval_s + times.blocking_s), 0.0)
        kept = np.where(attempt > 0, attempt / np.expm1(np.where(attempt > 0, attempt, 1.0)), 1.0)
    running = np.exp(-rate * back_s)
    work = running * kept / (1.0 + times.blocking_s / times.interval_s)
    stopped = -np.expm1(-rate * back_s)
    lagging = np.divide(times.lag_s, back_s, out=np.zeros(np.shape(back_s)), where=np.asarray(back_s) > 0)
    missing = shortage(
        system, packages, spares=spares, whole_packages=whole_packages, replica_packages=replica_packages
    )
    held = 1.0 - missing
    useful = held * work / slow_down(system, packages)
    return Availability(
        useful=useful,
        stragglers=held * work - useful,
        checkpointing=held * (running * kept - work),
        rework=held * (running * (1.0 - kept) + stopped * lagging),
        restart=held * stopped * (1.0 - lagging),
        shortage=missing,
    )


def useful_rate(tokens_per_s: Any, goodput: Any) -> Array:
    """Tokens per second that a job makes over weeks: those of an undisturbed step, times the goodput."""
    return np.asarray(np.multiply(tokens_per_s, goodput))


def days_to_train(tokens: Any, tokens_per_s: Any, goodput: Any) -> Array:
    """Days for a number of tokens at an undisturbed rate and a goodput; infinite where nothing is done."""
    return _over(tokens, useful_rate(tokens_per_s, goodput)) / _DAY_S
