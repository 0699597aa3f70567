"""Files of results: refused where they are of another kind or of a newer version, and never half-written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from apportion import ApportionError, Attribution, Interactions, Pairwise
from apportion.core._files import read_result, write_atomically, write_result
from apportion.core._picture import Picture
from apportion.diffusion import ConceptInteractions

RESULTS = {
    "apportion": Attribution,
    "apportion-pairwise": Pairwise,
    "apportion-interactions": Interactions,
    "apportion-concepts": ConceptInteractions,
}


@pytest.mark.parametrize(("key", "kind"), RESULTS.items(), ids=RESULTS)
def test_a_newer_version_and_another_kind_are_refused(key: str, kind: type, tmp_path: Path) -> None:
    newer = write_result(tmp_path / "newer", key, {"version": 99}, {"scores": torch.zeros(1)})
    with pytest.raises(ApportionError, match="has format 99; this apportion reads up to 1: update apportion"):
        kind.load(newer)  # type: ignore[attr-defined]
    other = write_result(tmp_path / "other", "something", {"version": 1}, {"scores": torch.zeros(1)})
    with pytest.raises(ApportionError, match=f"but not .*; give one that {kind.__name__}.save wrote"):
        kind.load(other)  # type: ignore[attr-defined]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    picture = Picture(pixels=torch.ones(2, 3, 3, dtype=torch.uint8), owner=torch.arange(6).reshape(2, 3), label="one")
    turned = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    path = write_result(tmp_path / "found", "key", {"version": 1, "name": "x"}, {"scores": turned}, [picture])
    header, tensors, pictures = read_result(path, "key", version=1, what="it", by="this")
    assert header["name"] == "x"
    assert list(tensors) == ["scores"]
    assert torch.equal(tensors["scores"], turned)
    assert pictures[0].label == "one"
    assert torch.equal(pictures[0].owner, picture.owner)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(ApportionError, match="there is no folder"):
        write_atomically(tmp_path / "none" / "file", b"content")
