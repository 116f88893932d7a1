"""Write the page of every hardware profile: hw_profiles/<name>.md. Run it after changing a profile or a rule.

`--check` writes nothing and exits 1 where a page is not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgekd.profile import load_profile, profile_names
from edgekd.verify.profile_page import profile_page

FOLDER = Path(__file__).parent.parent / "hw_profiles"


def main() -> int:
    """Write or check every page."""
    stale = 0
    for name in profile_names():
        path, text = FOLDER / f"{name}.md", profile_page(load_profile(name))
        if path.is_file() and path.read_text() == text:
            continue
        stale += 1
        print(f"{path.name} is not up to date" if "--check" in sys.argv else f"wrote {path.name}")
        if "--check" not in sys.argv:
            path.write_text(text)
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
