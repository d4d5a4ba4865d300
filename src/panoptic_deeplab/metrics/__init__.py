"""PQ, mIoU and AP of anybody's predictions: they know results and truth only."""
