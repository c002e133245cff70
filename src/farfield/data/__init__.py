"""From manifest to batch: frame sampling, datasets, samplers, crops, augmentation, LightningDataModule."""
