"""Generated code: where it lives, and how drift is found."""

from pathlib import Path

import pytest

from proto import generate

SOURCE = 'syntax = "proto3";\npackage demo;\nmessage Ping { string text = 1; }\n'
USER = (
    'syntax = "proto3";\npackage demo;\nimport "agent/v1/ping.proto";\n'
    "service S { rpc Call(Ping) returns (Ping); }\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """The sources, and the directory for their modules."""
    proto, gen = tmp_path / "proto", tmp_path / "gen"
    for name, text in (("agent/v1/ping", SOURCE), ("agent/v1/user", USER), ("other/x", SOURCE)):
        path = proto / f"{name}.proto"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("Ping {", "Pong {") if name == "other/x" else text)
    gen.mkdir()
    generate.generate(proto, gen)
    return proto, gen


def test_modules_import_each_other_below_proto_gen(tree: tuple[Path, Path]) -> None:
    text = (tree[1] / "agent/v1/user_pb2.py").read_text()
    assert "from proto.gen.agent.v1 import ping_pb2" in text
    assert "from agent." not in text
    assert "proto.gen.agent.v1" in (tree[1] / "agent/v1/user_pb2.pyi").read_text()


def test_only_the_agents_services_get_grpc_stubs(tree: tuple[Path, Path]) -> None:
    assert (tree[1] / "agent/v1/user_pb2_grpc.py").exists()
    assert not (tree[1] / "other/x_pb2_grpc.py").exists()


def test_the_same_sources_give_the_same_files(tree: tuple[Path, Path], tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    generate.generate(tree[0], again)
    assert generate.compare(tree[1], again) == []


def test_stale_missing_and_orphaned_files_are_distinguished(
    tree: tuple[Path, Path], tmp_path: Path
) -> None:
    edited = tmp_path / "edited"
    edited.mkdir()
    generate.generate(tree[0], edited)
    (edited / "other/x_pb2.py").unlink()
    (edited / "agent/v1/ping_pb2.pyi").write_text("")
    (edited / "agent/v1/gone_pb2.py").write_text("")
    assert generate.compare(tree[1], edited) == [
        "missing: other/x_pb2.py",
        "no source: agent/v1/gone_pb2.py",
        "stale: agent/v1/ping_pb2.pyi",
    ]


def test_a_source_that_protoc_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text("syntax = 'nonsense'")
    (tmp_path / "gen").mkdir()
    with pytest.raises(generate.GenerateError, match=r"bad\.proto"):
        generate.generate(tmp_path, tmp_path / "gen")
