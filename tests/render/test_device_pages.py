"""Pages that lie on the device already are rendered where they lie, as copies of them are."""

import numpy as np
import pytest
import torch
from made_packs import drawn_pack, made_images, one_view

from aqqua.render.device_pages import render_device_pages
from aqqua.render.reference import render_reference
from aqqua.render.triton import render_triton

P = 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FEW = {"locals": 1, "max_tokens": (4, 2), "min_tokens": (2, 2), "blur_sigma_px": (0.1, 0.5)}


def pages_of(images: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(image.copy()).to(DEVICE) for image in images]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_bits_are_those_of_copied_pages(channels):
    images = made_images(2, np.uint8, True)[:2] + made_images(3, np.uint16, False)[:2]
    pack = drawn_pack(images, P, **FEW)
    got = render_device_pages(pack, pages_of(images), P, channels)
    assert torch.equal(got, render_triton(pack, images, P, channels, device=DEVICE))
    torch.testing.assert_close(got.cpu(), render_reference(pack, images, P, channels), atol=1e-5, rtol=0)


def test_first_views_and_bfloat16():
    images = made_images(4, np.uint8, False)[:2]
    pack = drawn_pack(images, P, **FEW)
    options = {"first_views": 2, "dtype": torch.bfloat16}
    got = render_device_pages(pack, pages_of(images), P, 1, **options)
    assert torch.equal(got, render_triton(pack, images, P, 1, device=DEVICE, **options))


def test_what_is_not_as_planned_is_refused():
    image = made_images(5, np.uint8, False)[0][:20, :20]
    pack = one_view(image, (1, 1))
    page = torch.from_numpy(image.copy()).to(DEVICE)
    for wrong in (page.to(torch.float32), torch.cat([page, page], dim=1)[:, ::2]):
        with pytest.raises(ValueError, match="page 0 must be contiguous uint8 or uint16 on"):
            render_device_pages(pack, [wrong], P, 1)
    with pytest.raises(ValueError, match="image 0 must be uint8"):
        render_device_pages(pack, [page[:-1]], P, 1)
    with pytest.raises(ValueError, match="one image per plan entry"):
        render_device_pages(pack, [page, page], P, 1)
