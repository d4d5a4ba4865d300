"""Pictures: overlays, raw maps, mosaics, curves, the HTML report."""
