"""How much each factor matters."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats

from slm_energy.analysis.result.design import Factor
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.factorial_anova import effects

ENGINE = Factor(key="engine.name", name="engine", levels=("torch", "onnx", "jit"))
MODEL = Factor(key="model.name", name="model", levels=("small", "large"))


def lab(rounds=5, missing=(), seed=0, levels=None):
    """A block of small / large x torch / onnx / jit with an interaction, and its cells' levels."""
    generator = np.random.default_rng(seed)
    levels = levels or [
        {"model.name": m, "engine.name": e} for m in ("small", "large") for e in ENGINE.levels
    ]
    logs = np.array([
        np.log(3) * (row["model.name"] == "large")
        - 0.5 * (row["engine.name"] == "onnx")
        + 0.2 * (row == {"model.name": "large", "engine.name": "jit"})
        for row in levels
    ])  # fmt: skip
    values = np.exp(
        logs
        + generator.normal(0, 0.05, (rounds, len(levels)))
        + generator.normal(0, 1, (rounds, 1))
    )
    for row, column in missing:
        values[row, column] = np.nan
    return Block(cells=tuple(map(str, range(len(levels)))), values=values), levels


def run(data, factors=(MODEL, ENGINE)):
    return effects(*data, factors, Rule(draws=999))


@pytest.mark.parametrize("missing", [(), ((0, 0), (1, 3), (4, 5))])
def test_the_tests_are_type_two_of_statsmodels(missing):
    block, levels = lab(missing=missing)
    result, left_out = run((block, levels))
    rows = [
        {"y": np.log(block.values[r, c]), "round": str(r), "m": levels[c]["model.name"],
         "e": levels[c]["engine.name"]}
        for r, c in np.argwhere(~np.isnan(block.values))
    ]  # fmt: skip
    fit = smf.ols("y ~ C(round) + C(m, Sum) * C(e, Sum)", pd.DataFrame(rows)).fit()
    table = sm.stats.anova_lm(fit, typ=2)
    names = {"model": "C(m, Sum)", "engine": "C(e, Sum)", "round": "C(round)",
             "model x engine": "C(m, Sum):C(e, Sum)"}  # fmt: skip
    assert left_out == []
    assert [effect.term for effect in result.effects] == ["model", "engine", "model x engine",
                                                          "round"]  # fmt: skip
    for effect in result.effects:
        theirs = table.loc[names[effect.term]]
        assert effect.df == theirs["df"]
        assert effect.f == pytest.approx(theirs["F"], rel=1e-9)
        assert effect.p == pytest.approx(theirs["PR(>F)"], abs=0.1)  # where noise is equal
    assert result.r_squared == pytest.approx(fit.rsquared, abs=1e-9)
    assert result.df_residual == fit.df_resid
    small = next(each for each in result.effects[0].levels if each.level == "small")
    assert np.log(small.ratio) == pytest.approx(
        abs(fit.params["C(m, Sum)[S.large]"]) * -1, abs=1e-9
    )
    ends = sorted(np.abs(fit.conf_int().loc["C(m, Sum)[S.large]"]))
    assert sorted(np.abs(np.log([small.low, small.high]))) == pytest.approx(ends, abs=0.01)


def test_levels_are_ratios_to_their_geometric_mean():
    levels = run(lab(rounds=20))[0].effects[1].levels
    ratios = {each.level: each.ratio for each in levels}
    assert np.prod(list(ratios.values())) == pytest.approx(1)
    assert ratios["onnx"] / ratios["torch"] == pytest.approx(np.exp(-0.5), rel=0.05)


def test_missing_combinations_leave_the_interaction_out():
    five = lab()[1][:-1]
    result, left_out = run(lab(levels=five))
    assert [effect.term for effect in result.effects] == ["model", "engine", "round"]
    assert [(out.name, out.scope) for out in left_out] == [("model x engine", "factor")]
    assert "some combinations of levels have no trial" in left_out[0].reason


def test_a_factor_that_follows_another_is_not_guessed():
    pairs = [{"model.name": "small", "engine.name": "torch"},
             {"model.name": "large", "engine.name": "onnx"}]  # fmt: skip
    result, left_out = run(lab(levels=pairs))
    assert [effect.term for effect in result.effects] == ["model", "round"]
    assert left_out[0].name == "engine"
    assert "confounded with other factors" in left_out[0].reason


def test_rounds_that_hold_one_model_each_tell_no_model_from_a_round():
    missing = [(r, c) for r in range(4) for c in range(6) if (c < 3) == (r < 2)]
    result, left_out = run(lab(rounds=4, missing=missing))
    assert "model" in [out.name for out in left_out]
    assert "engine" in [effect.term for effect in result.effects]


@pytest.mark.parametrize(
    ("rounds", "factors", "reason"),
    [
        (5, (), "no factor varies over the cells that have a value"),
        (1, (MODEL, ENGINE), "there are no more trials than terms"),
    ],
)
def test_what_cannot_be_fitted_says_why(rounds, factors, reason):
    result, _ = run(lab(rounds=rounds), factors)
    assert (result.effects, result.reason) == ((), reason)


def test_the_interval_of_a_level_is_satterthwaites_of_its_cells_variances():
    """Of two cells with independent values it is Welch's, about half of their difference."""
    generator = np.random.default_rng(1)
    x, y = np.exp(generator.normal(0, 0.01, 6)), np.exp(generator.normal(0.1, 0.2, 9))
    block = Block(cells=("x",) * 6 + ("y",) * 9, values=np.concatenate([x, y])[None])
    levels = [{"engine.name": cell} for cell in block.cells]
    result, _ = effects(block, levels, (ENGINE,), Rule(draws=999))
    first = result.effects[0].levels[0]
    welch = stats.ttest_ind(np.log(x), np.log(y), equal_var=False)
    ends = welch.confidence_interval(0.95)
    assert np.log([first.low, first.high]) == pytest.approx([ends.low / 2, ends.high / 2])
    assert result.effects[0].p == pytest.approx(welch.pvalue, abs=0.05)
    assert result.effects[0].unequal_noise


def test_one_value_per_cell_shows_no_noise_of_its_own():
    """Then all cells are taken to be equally noisy, and p is that of F."""
    levels = [{"engine.name": e} for e in ("torch", "torch", "onnx", "onnx")]
    block = Block(cells=tuple("abcd"), values=np.array([[1.0, 1.1, 2.0, 2.1]]))
    [engine] = effects(block, levels, (ENGINE,), Rule())[0].effects
    assert engine.p == pytest.approx(stats.f.sf(engine.f, 1, 2))
    assert not engine.unequal_noise
