"""What the product must be fast and small at, measured: `make bench`."""
