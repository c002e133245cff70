"""What people have to a manifest: index, subset, download, prepare, verify, near-duplicates."""
