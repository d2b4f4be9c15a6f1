"""The page of pictures shows what there is."""

import re

from tests.servers import ROOT

GALLERY = ROOT / "docs/gallery"


def test_each_picture_of_the_gallery_is_there_and_shown():
    shown = re.findall(r"\(gallery/([\w-]+)\.png\)", GALLERY.with_suffix(".md").read_text())
    assert sorted(shown) == sorted(path.stem for path in GALLERY.glob("*.png"))
    painted = (ROOT / "bench/gallery/__main__.py").read_text()
    assert [name for name in shown if f'"{name}"' not in painted] == []
