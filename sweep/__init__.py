"""Everything that moves: study files, search, workers, results, reports and the command line."""
