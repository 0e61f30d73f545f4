"""The data that training reads: labelled and unlabelled images, augmented and in batches."""
