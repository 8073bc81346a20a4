"""Key = value files of instruments (UVP6 metadata.ini, FlowCam .ctx, ZooProcess .pid), read with patience.

`configparser` refuses what instruments write: keys before any section, bare lines, the same key
twice, '%' in values. Here a bare line is skipped and the first value of a key in a section wins.
"""


def sections(text: str) -> dict[str, dict[str, str]]:
    """`{section: {key: value}}`, keys in lower case; keys before any section are under ''."""
    found: dict[str, dict[str, str]] = {"": {}}
    current = found[""]
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            current = found.setdefault(line[1:-1].strip().lower(), {})
        elif "=" in line and not line.startswith((";", "//", "#")):
            key, value = line.split("=", 1)
            current.setdefault(key.strip().lower(), value.strip())
    return found
