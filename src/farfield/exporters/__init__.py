"""Export networks to ONNX, OpenVINO, torch.export and hub folders, checked for parity."""
