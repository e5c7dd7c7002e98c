"""The report of a run: one page that opens anywhere, written at the end of every run.

    write("runs/first_study-02a68b9ef5")    # writes report.html into the folder

scan       one look at every row: which are shown
view       one comparison: its rows in words, and how its designs are told apart
pareto     the front of two quantities
stacks     where time and memory go
grid       the best for each pair of degrees
scaling    throughput, power and energy against the size of the cluster
parallel   what good layouts have in common
tornado    what a result rests on
sources    the assumptions and where they come from
errors     how far predictions were from measurements
nothing    why nothing fits
pages      all of them in order
"""

from sweep.report.pages import FILE, report, sections, write, write_finished

__all__ = ["FILE", "report", "sections", "write", "write_finished"]
