"""Learning from labelled pixels: samples and fits."""
