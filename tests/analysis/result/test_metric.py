import pytest

from slm_energy.analysis.result.metric import Metric


@pytest.mark.parametrize(
    ("name", "heading", "unit", "scale"),
    [
        ("energy/per_output_token_j", "Energy per output token", "mJ/token", 1e3),
        ("energy_estimated/total_j", "Total energy of all passes (estimated)", "J", 1),
        ("energy/cpu_package_j", "CPU package energy", "J", 1),
        ("energy/prefill_per_request_j", "Prefill energy per request", "J", 1),
        ("latency/tpot_p95_s", "TPOT p95", "ms", 1e3),
        ("time/serve_s", "Serve time", "s", 1),
        ("throughput/requests_per_s", "Requests/s", "1/s", 1),
        ("memory/gpu_peak_mb", "GPU peak memory", "MB", 1),
        ("thermal/cpu_start_c", "CPU start temperature", "°C", 1),
        ("quality/pass_at_1", "Pass rate", "%", 100),
        ("quality/agreement", "Agreement with the reference engine", "%", 100),
    ],
)
def test_a_metric_has_a_readable_name_and_unit(name, heading, unit, scale):
    metric = Metric(name=name)
    assert (metric.heading, metric.unit, metric.scale) == (heading, unit, scale)


@pytest.mark.parametrize(
    ("name", "higher_is_better"),
    [
        ("throughput/requests_per_s", True),
        ("quality/agreement", True),
        ("quality/pass_at_1", True),
        ("energy/per_output_token_j", False),
        ("latency/first_byte_s", False),
    ],
)
def test_throughput_and_quality_are_gains_and_all_else_is_a_cost(name, higher_is_better):
    assert Metric(name=name).higher_is_better is higher_is_better
