"""How sure a result is, and what it rests on: numbers of the catalogue as distributions, and what they do to results.

distributions  how uncertain a number is, from its range or the kind of its source
points         what is drawn together, and the machine at many points at once
model_error    what is wrong beside the numbers
contenders     a design at work with the best of its layouts
propagation    bands, and the probability of being the best
sensitivity    which numbers matter
flips          the value at which one design overtakes another
"""

from sweep.uncertainty.contenders import (
    Contender,
    Deployed,
    cluster_contender,
    serving_contender,
    training_contender,
    values,
)
from sweep.uncertainty.distributions import Distribution
from sweep.uncertainty.flips import Flip, flips
from sweep.uncertainty.model_error import ModelError, model_error
from sweep.uncertainty.points import Column, Number
from sweep.uncertainty.propagation import Assessment, Band, Standing, assess
from sweep.uncertainty.sensitivity import NOT_KNOWN, Influence, Share, influences, share_on, spread_of, variance_shares

__all__ = [
    "NOT_KNOWN",
    "Assessment",
    "Band",
    "Column",
    "Contender",
    "Deployed",
    "Distribution",
    "Flip",
    "Influence",
    "ModelError",
    "Number",
    "Share",
    "Standing",
    "assess",
    "cluster_contender",
    "flips",
    "influences",
    "model_error",
    "serving_contender",
    "share_on",
    "spread_of",
    "training_contender",
    "values",
    "variance_shares",
]
