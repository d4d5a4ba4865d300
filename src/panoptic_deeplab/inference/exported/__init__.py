"""Files of exported models: what they say of themselves, how they are opened and run.

They are written by `export/`.
"""
