"""Phase one: a tile network learned from labelled tiles."""
