"""The statistics: numbers in, results out. Knows no study, no table and no store.

comparison         what a comparison takes and gives
paired             the default comparison: cells within rounds
independent        the comparison of repetitions that are not rounds
max_t              draws of all pairs of a family, within rounds
independent_max_t  the same for repetitions that are not rounds
simultaneous       p-values and intervals from the draws, for all pairs at once
cell_variances     how noisy each cell is
decision           from a ratio and its simultaneous interval to a verdict
effect_size        t intervals, Cliff's delta, Vargha-Delaney
pass_rate          pass rates: intervals, McNemar's test, paired differences
per_solved         what the choice of tasks adds to the error of joules per solved task
power              the chance of a verdict, and rounds needed
settling           how many more rounds bring a verdict
population         configurations over models in general
diagnostics        distributions, verdicts that rest on outliers
outliers           trials too far from what their cell and round make of them
leave_one_out      verdicts that rest on one round
drift              slopes over rounds, place, time and temperature
conventional       Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn with Holm; `letters` for them
welch              two independent samples; `games_howell` for more
autocorrelation    what rounds are worth that resemble their neighbours
factorial_anova    effects of the factors
unequal_noise      their tests and intervals
pareto             trade-offs between metrics
"""
