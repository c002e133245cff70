"""Export networks to files (ONNX, OpenVINO, torch.export) or to folders to publish, and check the exports."""
