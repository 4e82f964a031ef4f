from slm_energy.extras import missing


def test_the_first_module_that_is_not_installed_is_named_with_its_extra() -> None:
    assert missing("onnx", "json", "no_such_module", "nor_this") == (
        "no_such_module: pip install 'slm-energy[onnx]'"
    )


def test_nothing_is_missing_where_every_module_is_installed() -> None:
    assert missing("onnx", "json", "numpy") is None
