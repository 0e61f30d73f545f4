"""What training reads: labelled and unlabelled images, augmented, in batches."""
