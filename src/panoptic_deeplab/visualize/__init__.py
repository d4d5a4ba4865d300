"""Pictures: overlays, raw maps, mosaics, curves, the HTML report.

Nothing here measures or predicts.
"""
