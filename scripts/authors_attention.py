"""Attention layers computed as in their authors' papers and code, for benchmarks, extended to video (b c t h w).

The parameters have the names of `farfield.layers`, so that both compute the same function with one state dict.

    DualByAuthors          Fu et al., "Dual Attention Network for Scene Segmentation", CVPR 2019, section 3
    CrissCrossByAuthors    Huang et al., "CCNet", ICCV 2019, section 3.2
    ObjectContextByAuthors Yuan, Chen, Wang, "Object-Contextual Representations", ECCV 2020, section 3
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PositionByAuthors(nn.Module):
    """DANet's position attention module, through its n x n map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv3d(channels, channels // 8, 1), nn.Conv3d(channels, channels // 8, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, *size = x.shape
        query = self.query(x).view(b, c // 8, -1).permute(0, 2, 1)
        attention = torch.bmm(query, self.key(x).view(b, c // 8, -1)).softmax(-1)
        out = torch.bmm(self.value(x).view(b, c, -1), attention.permute(0, 2, 1))
        return self.gamma * out.view(b, c, *size) + x


class DualByAuthors(nn.Module):
    """DANet's position and channel attention modules, with one residual in place of two (`identity_at_init`)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position = PositionByAuthors(channels)
        self.gamma_c = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2)
        energy = torch.bmm(rows, rows.permute(0, 2, 1))
        attention = (energy.max(-1, keepdim=True)[0].expand_as(energy) - energy).softmax(-1)
        return self.position(x) + self.gamma_c * torch.bmm(attention, rows).view_as(x)


class CrissCrossByAuthors(nn.Module):
    """CCNet's criss-cross attention: for each axis, features permuted and copied to one batch of lines."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv3d(channels, channels // 8, 1), nn.Conv3d(channels, channels // 8, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):  # recurrence: one pass per axis connects all positions
            x = self._once(x)
        return x

    def _once(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        energies = []
        for axis in (2, 3, 4):
            energy = torch.bmm(_lines(query, axis), _lines(key, axis).permute(0, 2, 1))
            if axis > 2:
                length = x.shape[axis]
                energy = energy - torch.diag(torch.full((length,), torch.inf, device=x.device))
            energies.append(_from_lines(energy, x, axis))
        attention = torch.cat(energies, 1).softmax(1).split(list(x.shape[2:]), dim=1)
        out = sum(
            _from_lines(torch.bmm(_lines(part, axis), _lines(value, axis)), x, axis)
            for axis, part in zip((2, 3, 4), attention, strict=True)
        )
        return self.gamma * out + x


class ObjectContextByAuthors(nn.Module):
    """OCRNet's soft object regions and object attention, by convolutions and batched matrix products."""

    def __init__(self, channels: int, num_regions: int) -> None:
        super().__init__()
        inner = channels // 2
        self.regions = nn.Conv3d(channels, num_regions, 1)
        self.phi, self.rho = _transform(channels, inner), _transform(inner, channels)
        self.psi, self.delta = _transform(channels, inner, 1), _transform(channels, inner, 1)
        self.g = _transform(2 * channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, *size = x.shape
        probabilities = self.regions(x).view(b, -1, x[0, 0].numel()).softmax(2)
        proxy = torch.matmul(probabilities, x.view(b, c, -1).permute(0, 2, 1)).permute(0, 2, 1)
        query = self.phi(x).view(b, c // 2, -1).permute(0, 2, 1)
        key, value = self.psi(proxy), self.delta(proxy).permute(0, 2, 1)
        relation = ((c // 2) ** -0.5 * torch.matmul(query, key)).softmax(-1)
        context = torch.matmul(relation, value).permute(0, 2, 1).contiguous().view(b, c // 2, *size)
        z = self.g(torch.cat([x, self.rho(context)], 1))
        return x + self.gamma * (z - x)


def _transform(channels: int, out: int, ndim: int = 3) -> nn.Sequential:
    conv, norm = {1: (nn.Conv1d, nn.BatchNorm1d), 3: (nn.Conv3d, nn.BatchNorm3d)}[ndim]
    return nn.Sequential(conv(channels, out, 1, bias=False), norm(out), nn.ReLU())


def _lines(x: Tensor, axis: int) -> Tensor:
    """Return all lines along an axis as one batch (lines, length, c), copied."""
    others = [a for a in (2, 3, 4) if a != axis]
    return x.permute(0, *others, axis, 1).contiguous().view(-1, x.shape[axis], x.shape[1])


def _from_lines(lines: Tensor, x: Tensor, axis: int) -> Tensor:
    """Invert `_lines`, for positions of x."""
    others = [a for a in (2, 3, 4) if a != axis]
    split = lines.view(len(x), *(x.shape[a] for a in others), x.shape[axis], -1)
    return split.movedim(-1, 1).movedim(-1, axis)
