"""What stands between a tower and the decoder: fewer tokens, a norm, and a map to the decoder's width."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from txcalc import architecture as arch
from txcalc.reference.embeddings import Projection
from txcalc.reference.norms import optional_norm


class Connector(nn.Module):
    """A tower's output [B, S, D] -> [B, tokens, width of the decoder]."""

    def __init__(self, connector: arch.Connector) -> None:
        super().__init__()
        self.pool = connector.pool
        self.norm = optional_norm(connector.norm)
        self.projections = nn.Sequential(*(Projection(each) for each in connector.projections))
        self.norm_after = optional_norm(connector.norm_after)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """[B, S, D] -> [B, S / pool^2, width of the decoder]."""
        if self.pool > 1:
            side = int(x_BSD.shape[1] ** 0.5)
            grid_BDHW = x_BSD.transpose(1, 2).unflatten(-1, (side, side))
            x_BSD = F.avg_pool2d(grid_BDHW, self.pool).flatten(2).transpose(1, 2)
        projected: Tensor = self.norm_after(self.projections(self.norm(x_BSD)))
        return projected
