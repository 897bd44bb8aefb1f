"""What a run shows: progress, finished cells, failures, why something is made again."""
