"""What is computed in a step: a model, a sequence length and a number format."""

from __future__ import annotations

from dataclasses import dataclass

from model.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Training:
    """One optimizer step over sequences of `sequence` tokens; the batch belongs to the layout."""

    architecture: Architecture
    sequence: int
    number_format: str = "bf16"  # of the matmuls of the layers; a name in model.chip.FORMATS
    expert_imbalance: float = 1.0  # rows of the busiest expert rank over the mean
    frozen_weights: bool = False  # low-rank adapters: no weight gradients, gradient traffic or optimizer state
    document: float = 0.0  # tokens of each document packed into a sequence, which attends to itself only; 0: not packed

    @property
    def attended(self) -> float:
        """Tokens that attend to one another: a document's where sequences are packed, else the sequence's."""
        return float(min(self.document or self.sequence, self.sequence))
