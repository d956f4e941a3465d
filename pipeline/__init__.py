"""One module a stage, and the rooms they share."""
