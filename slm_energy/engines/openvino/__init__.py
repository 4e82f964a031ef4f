"""OpenVINO: the engine, its session and its export."""
