"""The cost model: what one step of a model's work costs on a design. Pure functions of arrays."""
