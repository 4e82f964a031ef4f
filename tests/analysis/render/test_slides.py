import io

from PIL import Image

from slm_energy.analysis.render import figures
from slm_energy.analysis.render.files import RenderedFiles, with_slides
from slm_energy.analysis.render.slides import TALLEST, slides
from slm_energy.analysis.result.report import Report
from slm_energy.svg import WIDTH, Picture, standalone


def test_figures_are_also_a_png_and_a_pdf(report: Report) -> None:
    measured, estimated = report.deciding
    drawn = {
        "figures/a.svg": standalone(figures.strip(report, measured)).encode(),
        "figures/b.svg": standalone(figures.strip(report, estimated)).encode(),
        "figures/c.svg": standalone(figures.pareto(report, report.pareto[0])).encode(),
    }
    whole = with_slides(RenderedFiles(contents=drawn | {"report.md": b"#"}, failures=()))
    assert whole.failures == ()
    assert len(whole.contents) == 3 * 3 + 1
    for stem in "abc":
        assert whole.contents[f"figures/{stem}.pdf"].startswith(b"%PDF-")
        picture = Image.open(io.BytesIO(whole.contents[f"figures/{stem}.png"]))
        assert picture.width > 1.9 * WIDTH
        lowest, highest = picture.convert("L").getextrema()
        assert isinstance(lowest, int)
        assert lowest < 80  # something is drawn
        assert highest == 255  # on white


def test_a_figure_that_fits_no_page_is_none() -> None:
    drawn = standalone(Picture(WIDTH, TALLEST + 1, "tall", "").svg())
    assert slides(drawn) == {}
