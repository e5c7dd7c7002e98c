"""What a run leaves behind: written so that it survives any interruption, read so that damage is seen.

places      files of this machine or of a URL
parts       the rows that one task keeps, as Parquet
manifest    what is done
claims      one process at a time
folder      a run's folder, made of these
data_set    its rows as a whole, and their digest
"""

from sweep.store.data_set import digest, fingerprint, load, read_row, row_numbers
from sweep.store.folder import FACTS, RunFolder, find_run, is_finished, kept_catalogue, parts_of
from sweep.store.parts import DamagedPartError, part_name, read_part, rows_in, table, write_part
from sweep.store.places import Place, place

__all__ = [
    "FACTS",
    "DamagedPartError",
    "Place",
    "RunFolder",
    "digest",
    "find_run",
    "fingerprint",
    "is_finished",
    "kept_catalogue",
    "load",
    "part_name",
    "parts_of",
    "place",
    "read_part",
    "read_row",
    "row_numbers",
    "rows_in",
    "table",
    "write_part",
]
