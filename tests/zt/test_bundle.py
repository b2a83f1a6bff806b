"""Files of a bundle are found by their paths, alone and by folder."""

from dataclasses import replace

import pytest

from zt.bundle import Bundle, CompiledFile

# In the order of text: "-" and "." come before "/", "0" after it.
PATHS = (
    "decisions.json",
    "envoy-other/a.yaml",
    "envoy.yaml",
    "envoy/a/lds.yaml",
    "envoy/a/rds.yaml",
    "envoy/ab/lds.yaml",
    "envoy0/a.yaml",
    "spire/server.conf",
)
# However they come.
BUNDLE = Bundle("hanzo-k8s", tuple(CompiledFile(path, path) for path in reversed(PATHS)))


@pytest.mark.parametrize(
    ("folder", "paths"),
    [
        ("envoy", PATHS[3:6]),
        ("envoy/a", PATHS[3:5]),
        ("envoy-other", PATHS[1:2]),
        ("spire", PATHS[7:]),
        ("decisions.json", ()),
        ("admission", ()),
        ("zz", ()),
    ],
)
def test_what_is_below_a_folder(folder: str, paths: tuple[str, ...]) -> None:
    assert [file.path for file in BUNDLE.under(folder)] == list(paths)


def test_files_are_in_the_order_of_their_paths() -> None:
    assert tuple(file.path for file in BUNDLE.files) == PATHS
    more = replace(BUNDLE, files=(*BUNDLE.files, CompiledFile("envoy/a/more.yaml", "")))
    assert more.file("envoy/a/more.yaml") in more.under("envoy/a")


def test_a_file_by_its_path() -> None:
    assert [BUNDLE.file(path).path for path in PATHS] == list(PATHS)


@pytest.mark.parametrize("path", ["envoy", "envoy/a", "spire/server.con", "zz"])
def test_a_file_that_is_not_there(path: str) -> None:
    with pytest.raises(KeyError, match=path):
        BUNDLE.file(path)
