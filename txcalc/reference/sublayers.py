"""From the description of a sublayer to its module; a new kind is one case here."""

from __future__ import annotations

from txcalc import architecture as arch
from txcalc.reference.attention import CrossAttention, SelfAttention
from txcalc.reference.convolution import ShortConvolution, TokenConvolution
from txcalc.reference.delta import GatedDeltaNet
from txcalc.reference.experts import MixtureOfExperts
from txcalc.reference.feed_forward import FeedForward
from txcalc.reference.gated_recurrence import RealGatedRecurrence
from txcalc.reference.latent_attention import LatentAttention
from txcalc.reference.linear_attention import FourierMixing, LinearAttention
from txcalc.reference.side_streams import LowRankResidual, PerLayerInput
from txcalc.reference.state_space import Mamba, Mamba2
from txcalc.reference.sublayer import Sublayer
from txcalc.reference.support import NOT_BUILT_KINDS, unbuilt


def make_sublayer(sublayer: arch.Sublayer) -> Sublayer:
    """The module that computes a sublayer.

    Raises:
        RequestError: something that is described and not built yet (see ``support``).
    """
    match sublayer:
        case arch.SelfAttention():
            return SelfAttention(sublayer)
        case arch.LatentAttention():
            return LatentAttention(sublayer)
        case arch.CompressedAttention() | arch.RelativeAttention() | arch.LinearMap():
            raise unbuilt(NOT_BUILT_KINDS[type(sublayer)])
        case arch.CrossAttention():
            return CrossAttention(sublayer)
        case arch.FeedForward():
            return FeedForward(sublayer)
        case arch.MixtureOfExperts():
            return MixtureOfExperts(sublayer)
        case arch.Mamba():
            return Mamba(sublayer)
        case arch.Mamba2():
            return Mamba2(sublayer)
        case arch.GatedDeltaNet():
            return GatedDeltaNet(sublayer)
        case arch.LinearAttention():
            return LinearAttention(sublayer)
        case arch.RealGatedRecurrence():
            return RealGatedRecurrence(sublayer)
        case arch.ShortConvolution():
            return ShortConvolution(sublayer)
        case arch.TokenConvolution():
            return TokenConvolution(sublayer)
        case arch.FourierMixing():
            return FourierMixing(sublayer)
        case arch.PerLayerInput():
            return PerLayerInput(sublayer)
        case arch.LowRankResidual():
            return LowRankResidual(sublayer)
