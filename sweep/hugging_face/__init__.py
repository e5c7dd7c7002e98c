"""A Hugging Face `config.json` as a model of the catalogue.

families   which architectures are read, and how each differs; which are refused, and why
config     the file: read safely, its keys by any of their names
shape      the keys of a family as shapes of the cost model
record     the shapes as a file of the catalogue, with their parameters counted
"""
