"""One reader for each format of labeled sets; a new one is a file here and its name in `data/sources.py` and
`config/data.py`, and a function in `data/recognize/` if `data init` shall know it.

A reader extends the base of `common/` that is nearest: `ListedSource` or `ItemSource` (`listed.py`), `DrawnSource`
where annotations are shapes (`drawn.py`), `LabelToolSource` where people drew outlines (`label_tools.py`), or
`FolderSource` (`folder.py`) where only the folders have other names; each says which methods are left to fill in.
"""
