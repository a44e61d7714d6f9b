"""Classifier-free guidance."""

import pytest
import torch

from star_hf.flow import classifier_free_guidance


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 7.5])
def test_guidance_is_linear_in_the_scale(scale):
    unconditional, conditional = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(classifier_free_guidance(unconditional, conditional, scale), expected)


def test_guidance_refuses_different_shapes():
    with pytest.raises(ValueError, match="unconditional"):
        classifier_free_guidance(torch.zeros(1, 5, 4), torch.zeros(2, 5, 4), 3.0)
