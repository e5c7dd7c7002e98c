"""Serving: what a forward pass of an inference instance costs, and what a stream of requests makes of it."""
