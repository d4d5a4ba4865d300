"""The one inference path: image in any form -> `PanopticResult`."""
