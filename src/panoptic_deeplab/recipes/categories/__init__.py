"""Category tables (JSON)."""
