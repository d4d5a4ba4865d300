"""What a predictor can hold: a PyTorch network, an exported file, an ensemble.

The predictor itself is in the folder above.
"""
