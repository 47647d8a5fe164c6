"""Kernel configurations: their values, and whether a requested option was kept."""

import pytest

from image import tuned
from image.errors import FormatError
from image.kconfig import check_config, find_dropped, parse_config


def test_options_values_and_refusals_are_read() -> None:
    text = '# why\n\nCONFIG_SMP=y\nCONFIG_LSM="landlock,yama"\n# CONFIG_VT is not set\n'
    assert parse_config(text, "x") == {"SMP": "y", "LSM": '"landlock,yama"', "VT": "n"}


@pytest.mark.parametrize("line", ["SMP=y", "CONFIG_SMP", "CONFIG_SMP=", "CONFIG_SMP = y"])
def test_a_line_that_is_no_option_is_named(line: str) -> None:
    with pytest.raises(FormatError, match=r"x:2: no option of a kernel: '"):
        parse_config(f"# why\n{line}\n", "x")


def test_an_option_that_is_there_twice_is_named() -> None:
    with pytest.raises(FormatError, match="x:2: CONFIG_SMP is there twice"):
        parse_config("CONFIG_SMP=y\n# CONFIG_SMP is not set\n", "x")


def test_what_was_taken_is_not_dropped() -> None:
    assert find_dropped({"SMP": "y", "VT": "n"}, {"SMP": "y", "PCI": "y"}) == []


def test_every_dropped_option_is_named_with_what_it_became() -> None:
    wanted = {"SMP": "y", "NO_SUCH": "y", "VT": "n", "NET": "y"}
    with pytest.raises(FormatError) as refused:
        check_config(wanted, {"SMP": "y", "VT": "y", "NET": "m"}, "tuned.config")
    assert str(refused.value) == (
        "tuned.config: the kernel's build dropped CONFIG_NO_SUCH=y (it is n), "
        "CONFIG_VT=n (it is y), CONFIG_NET=y (it is m)"
    )


def test_the_tuned_configuration_has_one_module_that_waits_for_a_network() -> None:
    """The other modules that the agent loads are built in; an unused interface stays
    hidden."""
    options = parse_config(tuned.CONFIG_FILE.read_text(), "tuned.config")
    assert [name for name, value in options.items() if value == "m"] == ["VIRTIO_NET"]


def test_every_group_of_the_tuned_configuration_says_why_it_is_there() -> None:
    groups = tuned.CONFIG_FILE.read_text().split("\n\n")[1:]
    assert len(groups) > 10
    assert [group.splitlines()[0] for group in groups if not group.startswith("# ---")] == []
