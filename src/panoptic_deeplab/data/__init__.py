"""From files to batches: `source` (raw labels) -> `dataset` (transformed + targets) -> `loader` (batches)."""
