"""The statistics: numbers in, results out. Knows no study, no table and no store.

paired             the default comparison: cells within rounds
max_t              its p-values, adjusted for all pairs of a family
decision           from a ratio and its interval to a verdict
effect_size        ratios, t intervals, Cliff's delta, Vargha-Delaney
power              how many rounds find how small a difference
diagnostics        drift, outliers, distributions
conventional       Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn with Holm
welch              independent samples; `games_howell` for more than two
factorial_anova    effects of the factors
pareto             trade-offs between metrics
"""
