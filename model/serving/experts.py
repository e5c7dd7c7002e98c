"""provisional."""

from model.matmul import matmul


def grouped_matmul(chip, form, rows, active, n, k):
    return matmul(chip, form, rows / active, n, k, active)
