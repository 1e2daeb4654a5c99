"""Pages of some sections: drawing all of them takes a second."""

import pytest

from torchstudy.analysis.tables import Results
from torchstudy.report import page


def drawn(results: Results, *anchors: str) -> str:
    """The page as HTML, with these sections alone."""
    sections = [section for section in page.SECTIONS if section.anchor in anchors]
    assert len(sections) == len(anchors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "SECTIONS", sections)
        return page.render(results)
