"""Build and check data sets: read annotations, write manifests (CSV lists of videos), download, transcode, verify."""
