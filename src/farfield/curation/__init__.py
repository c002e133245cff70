"""Build and check manifests: annotation formats, index, subset, download, prepare, verify, near-duplicates."""
