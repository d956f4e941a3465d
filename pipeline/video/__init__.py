"""Decoding, storing and moving pictures: media, store, camera, TV-L1 flow."""
