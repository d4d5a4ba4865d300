"""The network: images -> `RawMaps`. Knows no data set, label, loss or file."""
