"""Reconstruction losses."""

from .spectral import MultiResolutionSTFTLoss, a_weighting_gain

__all__ = ["MultiResolutionSTFTLoss", "a_weighting_gain"]
