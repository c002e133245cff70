"""Video data: manifests, frame sampling, decoding, datasets, loaders, and generated videos."""
