"""Runtime engines: one contract (`base`), shared decoding (`decode`), a folder for each runtime."""
