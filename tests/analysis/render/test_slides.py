import io

from PIL import Image

from slm_energy.analysis.render.files import files, with_slides
from slm_energy.analysis.result.report import Report
from slm_energy.svg import WIDTH


def test_every_figure_is_also_a_png_and_a_pdf(report: Report) -> None:
    whole = with_slides(files(report))
    assert whole.failures == ()
    svgs = {name for name in whole.contents if name.endswith(".svg")}
    for name in svgs:
        stem = name.removesuffix("svg")
        assert whole.contents[stem + "pdf"].startswith(b"%PDF-")
        picture = Image.open(io.BytesIO(whole.contents[stem + "png"]))
        assert picture.width > 1.9 * WIDTH
        lowest, highest = picture.convert("L").getextrema()
        assert lowest < 80  # something is drawn
        assert highest == 255  # on white


def test_a_figure_that_cannot_be_drawn_costs_only_itself(report: Report) -> None:
    made = files(report)
    made.contents["figures/other.svg"] = (
        b'<svg height="9"><line class="unknown" x1="1" x2="2" y1="1" y2="2"/></svg>'
    )
    whole = with_slides(made)
    [failure] = whole.failures
    assert "figures/other.svg" in failure.sentence()
    assert "figures/other.png" not in whole.contents
    assert "figures/trade-off-1.png" in whole.contents
