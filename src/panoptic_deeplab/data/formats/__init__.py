"""One reader for each format of labeled sets; a new one is a file here and its name in `data/sources.py` and
`config/data.py`.

A reader extends the base that is nearest: `ListedSource` or `ItemSource` (`listed.py`), `DrawnSource` where annotations
are shapes (`drawn.py`), `LabelToolSource` where people drew outlines (`label_tools.py`), or `FolderSource` where only
the folders have other names (`mask_folders.py`); each says which methods are left to fill in.
"""
