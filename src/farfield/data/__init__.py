"""From a manifest to batches: frame sampling, datasets, samplers, crops, augmentation, LightningDataModule."""
