"""The run folder on disk: checkpoints written whole, read back whole or refused, and `best`, a model folder.

What is in a checkpoint is the `state.TrainingState` of the loop; model folders as such are in `weights/folder.py`.
"""
