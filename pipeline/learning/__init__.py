"""From stored frames and fields to scores: sampling, volumes, augmentation, training."""
