"""Networks for other programs to run: ONNX, OpenVINO, torch.export; compared with the network before a file counts."""
