"""One module a stage, and the rooms they share."""

SUBSETS = ("train", "val", "test")  # of a dataset
