"""Export networks to files (ONNX, OpenVINO, torch.export) or to folders for publishing, and check the exports."""
