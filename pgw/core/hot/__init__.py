"""The hot state: what many processes share and may lose at any time, on Redis or in this process."""
