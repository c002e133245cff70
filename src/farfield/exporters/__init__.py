"""Export networks to ONNX, OpenVINO, torch.export and folders to publish, and compare exports with the network."""
