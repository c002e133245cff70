"""Run exported files with ONNX Runtime, OpenVINO and PyTorch."""
