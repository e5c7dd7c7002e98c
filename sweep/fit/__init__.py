"""Constants of training fitted to published runs, and how far the fit carries: see `python -m sweep.fit`."""
