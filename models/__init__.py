"""Network definitions; weights live elsewhere."""
