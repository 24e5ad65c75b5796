"""Phase two: samples of a scene and the patch network learned from them."""
