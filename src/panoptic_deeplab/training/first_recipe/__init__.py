"""The recipe that `data init` writes for a labeled set, and the advice of `data check`: nothing of it trains a network.

`advice.py` derives settings from what was measured of the set, `budget.py` times a few steps, `write.py` puts both into
a file.
"""
