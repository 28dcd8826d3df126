"""The training set: prepare, records, input pipeline, augmentation."""
