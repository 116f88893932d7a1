"""Where hardware profiles lie, how one extends another, and TOML as text: files and trees, before any schema."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekd.errors import ProfileError, unknown
from edgekd.profile_extension import Extension, Tree, compare, extend

WHEEL_FOLDER = Path(__file__).parent / "_hw_profiles"
CHECKOUT_FOLDER = Path(__file__).parent.parent / "hw_profiles"
LARGEST_BYTES = 2**20  # of a profile


def profile_names() -> list[str]:
    """Return the names of the profiles that come with edgekd, sorted."""
    return sorted(path.stem for path in _shipped().glob("*.toml"))


def locate(name_or_path: str, beside: Path | None = None) -> Path:
    """Return the file of a profile: a path has a suffix or a slash, a bare name is looked for `beside` and among ours.

    Raises:
        ProfileError: no profile of that name (with the nearest one).
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        return (beside or Path()) / name_or_path
    for folder in (beside, _shipped()):
        if folder and (path := folder / f"{name_or_path}.toml").is_file():
            return path
    raise ProfileError(f"{unknown('profile', name_or_path, profile_names())}; or give the path of a TOML file")


def read_extended(path: Path, above: tuple[Path, ...] = ()) -> tuple[Tree, bytes]:
    """Return a profile merged over those it extends, and all bytes read; `above` are the profiles that led here.

    Raises:
        ProfileError: a file is missing or not TOML, or `extends` leads back to itself.
    """
    if path.resolve() in above:
        chain = " -> ".join(step.name for step in (*above, path))
        raise ProfileError(f"profile {path}: key 'extends' leads back to itself: {chain}")
    tree, content = _read_toml(path)
    parent = tree.get("extends")
    if not isinstance(parent, str):  # absent, or of a wrong type: the schema will say so
        return tree, content
    base, base_content = read_extended(_parent_path(path, parent), (*above, path.resolve()))
    return extend(base, tree, f"profile {path}"), content + base_content


def extension_of(path: Path) -> tuple[Path, Extension] | None:
    """Return the file that a profile extends and what became of its values; None where it stands alone.

    Raises:
        ProfileError: as `read_extended`.
    """
    tree, _ = _read_toml(path)
    parent = tree.get("extends")
    if not isinstance(parent, str):
        return None
    where = _parent_path(path, parent)
    base, _ = read_extended(where, (path.resolve(),))
    return where, compare(base, tree)


def hides_shipped(path: Path) -> bool:
    """Say whether a file is taken, by what extends it, in place of a profile that comes with edgekd."""
    return path.stem in profile_names() and path.resolve().parent != _shipped().resolve()


def _shipped() -> Path:
    return WHEEL_FOLDER if WHEEL_FOLDER.is_dir() else CHECKOUT_FOLDER


def _parent_path(path: Path, parent: str) -> Path:
    try:
        return locate(parent, path.parent)
    except ProfileError as error:
        raise ProfileError(f"profile {path}: key 'extends': {error}") from error


def _read_toml(path: Path) -> tuple[Tree, bytes]:
    try:
        content = _read_file(path)
        return tomllib.loads(content.decode()), content
    except FileNotFoundError:
        raise ProfileError(f"no profile at {path}") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not TOML, a zero byte in the path
        raise ProfileError(f"profile {path} is not a readable TOML file: {error}") from error


def _read_file(path: Path) -> bytes:
    """Return the content of a regular file: a model may name any path as its profile."""
    if path.exists() and not path.is_file():
        raise ProfileError(f"profile {path} is not a readable TOML file: it is not a regular file")
    with path.open("rb") as stream:
        content = stream.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise ProfileError(f"profile {path} has more than {LARGEST_BYTES:,} bytes, the limit")
    return content


def write_toml(tree: Mapping[str, Any]) -> str:
    """Return a tree as TOML: plain keys first, then tables, then lists of tables."""
    return "\n".join(_lines(tree, "")) + "\n"


def _lines(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    yield from (f"{key} = {_value(item)}" for key, item in tree.items() if not _is_table(item))
    for key, item in tree.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            if any(not _is_table(value) for value in item.values()):
                yield from ("", f"[{name}]")
            yield from _lines(item, f"{name}.")
        elif _is_table(item):
            for entry in item:
                yield from ("", f"[[{name}]]", *_lines(entry, f"{name}."))


def _is_table(value: object) -> bool:
    """Say whether a value needs a header of its own: a table, or a list of tables."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}" if value < 1e15 else repr(value)
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are written alike
