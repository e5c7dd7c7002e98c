"""A step as a timeline that Perfetto and Chrome's tracing page open.

orders     in which order each stage of a pipeline works through its passes
timing     when each pass starts, so that the idle time is that of the cost model
lanes      slices on lanes, written as Chrome's trace events
training   a training step; serving   the passes of instances
"""
