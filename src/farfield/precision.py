"""What a network computes in. A leaf: the server's own process imports it, and no PyTorch."""

from typing import Literal

Precision = Literal["float32", "bfloat16", "float16"]
