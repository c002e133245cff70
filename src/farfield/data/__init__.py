"""Load batches of clips from manifests: frame sampling, datasets, samplers, crops, augmentation, data modules."""
