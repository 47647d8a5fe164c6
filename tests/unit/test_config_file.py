"""config.yaml: defaults without a file, and each mistake in it is reported."""

from pathlib import Path

import pytest

from shim.config import Config, load_config, parse_config
from shim.errors import InvalidArgument


def test_no_file_at_the_usual_place_means_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPAN_CONFIG", raising=False)
    monkeypatch.setattr("shim.config.DEFAULT_PATH", "/nonexistent/config.yaml")
    assert load_config() == Config()


def test_a_file_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="/nonexistent/a: no such configuration file"):
        load_config("/nonexistent/a")
    monkeypatch.setenv("SAMPAN_CONFIG", "/nonexistent/b")
    with pytest.raises(InvalidArgument, match="/nonexistent/b"):
        load_config()


def test_values_are_taken_and_the_rest_stays_default(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("vcpus: 2\nimage_dir: /img\nagent_timeout_s: 30\n")
    config = load_config(str(path))
    assert (config.vcpus, config.image_dir, config.agent_timeout_s) == (2, "/img", 30.0)
    assert config.memory_mib == Config().memory_mib
    assert config.kernel_path == "/img/vmlinux"


@pytest.mark.parametrize(
    ("text", "jail"), [("on", "on"), ("off", "off"), ("'on'", "on"), ("require", "require")]
)
def test_a_jail_is_on_or_off_in_yamls_words_too(text: str, jail: str) -> None:
    assert parse_config(f"jail: {text}", "f").jail == jail


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_is_fine(text: str) -> None:
    assert parse_config(text, "f") == Config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vcpu: 2", "f: unknown key 'vcpu'; known are "),
        ("vcpus: 0", "f: vcpus: expected a whole number from 1 to 255, is 0"),
        ("vcpus: true", "f: vcpus: expected a whole number"),
        ("vcpus: '2'", "f: vcpus: expected a whole number from 1 to 255, is '2'"),
        ("vcpus: 64", "f: vcpus: 64 is above max_vcpus, 32"),
        ("memory_mib: 1.5", "f: memory_mib: expected a whole number"),
        ("max_memory_mib: 512", "f: memory_mib: 1024 is above max_memory_mib, 512"),
        ("image_dir: images", "f: image_dir: expected an absolute path, is 'images'"),
        ("kernel: 7", "f: kernel: expected an absolute path, is 7"),
        ("vhost_net: true", "f: vhost_net: expected one of auto, never, is True"),
        ("host_namespaces: host", "f: host_namespaces: expected one of refuse, guest"),
        ("jail: maybe", "f: jail: expected one of on, require, log, off, is 'maybe'"),
        ("log_level: loud", "f: log_level: expected one of debug, info"),
        ("agent_timeout_s: 0", "f: agent_timeout_s: expected a number of seconds"),
        ("vmm_command: ls", "f: vmm_command: expected a list of words"),
        ('kernel_arguments: "a\\nb"', "f: kernel_arguments: expected one line of text"),
        ("- a", "f: expected keys and values"),
        ("a: [", "f: "),
        ("7: 8", "f: unknown key 7"),
    ],
)
def test_a_mistake_names_file_key_and_value(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_config(text, "f")
    assert said in str(caught.value)


def test_yaml_is_not_imported_for_defaults() -> None:
    """Its import takes as long as everything else in the module, at each start."""
    import subprocess
    import sys

    code = (
        "import shim.config, sys; shim.config.DEFAULT_PATH = '/nonexistent';"
        "shim.config.load_config(); sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env={}).returncode == 0
