"""UVP6 project trees: vignettes of each profile with the depth of their frame.

    <project>/config/  meta/uvp6_header_*.txt  ecodata/<p>/<p>_Particule.zip  ecodata/<p>/<p>_Images.zip

Vignettes are what the camera stored: bright on black, no footer. `compute_vignette.txt` beside them
is an order to the importer (invert, add a footer), carried out by EcoTaxa and not on these files; a
vignette that was stored with a footer all the same loses it (aqqua.instruments.footer finds it).
The EcoTaxa table inside an Images.zip repeats the same facts and carries no label: it is not used.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from aqqua.instruments.companion import MAX_LONG_TABLE_BYTES, read_companion
from aqqua.instruments.footer import FooterImage
from aqqua.instruments.image import SUFFIXES, EncodedImage
from aqqua.instruments.ini import sections
from aqqua.instruments.numbers import number
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected, Sample
from aqqua.instruments.registry import facts
from aqqua.instruments.tree import Tree
from aqqua.instruments.uvp6_profile import (
    Frames,
    Profile,
    header_rows,
    parse_frames,
    parse_profile,
    parse_time,
)

NAME = "UVP6"

_ECODATA = re.compile(r"(?P<project>(?:.*/)?)ecodata/(?P<profile>[^/]+)/(?P<inside>.+)$")
_PARTICLES = re.compile(r"[^/]*_Particule(?:\.zip)?/(?P<file>particules\.csv|metadata\.ini)$")
_IMAGES = re.compile(r"[^/]*_Images(?:\.zip)?/(?P<file>.+)$")
_HEADER = re.compile(r"(?P<project>(?:.*/)?)meta/uvp6_header_[^/]*\.txt[^/]*$")
_VIGNETTE = re.compile(r"(?P<when>\d{8}-\d{6}(?:-\d{3})?)_\d+$")


@dataclass(slots=True)
class _ProfileFiles:
    """Members of one ecodata/<profile>; '' where there is none."""

    project: str  # folder with '/' at the end, or ''
    profile: str
    particles: str = ""
    ini: str = ""
    settings: str = ""  # compute_vignette.txt
    images: list[str] = field(default_factory=list)

    @property
    def sample(self) -> str:
        """Profile name; with the project's folder before it where projects lie side by side."""
        project = PurePosixPath(self.project).name
        return f"{project}_{self.profile}" if project else self.profile


def claim(tree: Tree) -> frozenset[str]:
    """Members of every project with ecodata/<profile>/<p>_Particule.zip or <p>_Images.zip."""
    projects = set()
    for name in tree.names():
        match = _ECODATA.match(name)
        if match and (_PARTICLES.match(match["inside"]) or _IMAGES.match(match["inside"])):
            projects.add(match["project"])
    folders = tuple(f"{p}{f}/" for p in projects for f in ("ecodata", "meta", "config", "raw"))
    return frozenset(name for name in tree.names() if folders and name.startswith(folders))


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """Profiles in order: their vignettes, then one Sample each; then pictures outside profiles."""
    names = sorted(claimed)
    profiles = _profiles(names)
    for project in sorted({p.project for p in profiles}):
        own = [p for p in profiles if p.project == project]
        headers = yield from _header(tree, project, names)
        hardware = _hardware(tree, project, names)
        for files in own:
            yield from _read_profile(tree, files, headers.get(files.profile), hardware, options)
        for missing in sorted(headers.keys() - {p.profile for p in own}):
            detail = f"profile {missing} of the header has no ecodata/{missing}"
            yield Rejected(source=f"{project}ecodata/{missing}", reason="missing_file", detail=detail)
    vignettes = {name for p in profiles for name in p.images}
    for name in names:
        if name.lower().endswith(SUFFIXES) and name not in vignettes:
            yield Rejected(source=name, reason="unlisted_image", detail="not in the Images of a profile")


def _profiles(names: list[str]) -> list[_ProfileFiles]:
    found: dict[tuple[str, str], _ProfileFiles] = {}
    for name in names:
        match = _ECODATA.match(name)
        if not match:
            continue
        project, profile = match["project"], match["profile"]
        particles, images = _PARTICLES.match(match["inside"]), _IMAGES.match(match["inside"])
        if particles or images:
            files = found.setdefault((project, profile), _ProfileFiles(project, profile))
        if particles and particles["file"] == "particules.csv":
            files.particles = name
        elif particles:
            files.ini = name
        elif images and images["file"].endswith("compute_vignette.txt"):
            files.settings = name
        elif images and name.lower().endswith(SUFFIXES):
            files.images.append(name)
    return list(found.values())


def _header(
    tree: Tree, project: str, names: list[str]
) -> Generator[Rejected, None, dict[str, dict[str, str]]]:
    """{profile: its row of the header}, as the generator's return value; bad rows are yielded."""
    matches = [name for name in names if (m := _HEADER.match(name)) and m["project"] == project]
    # The file without a suffix is the one in use; of backups the last is the newest (dated names).
    chosen = next((n for n in matches if n.endswith(".txt")), matches[-1] if matches else None)
    rows: dict[str, dict[str, str]] = {}
    if chosen is None:
        return rows
    data = read_companion(tree, chosen)
    if isinstance(data, Rejected):
        yield data
        return rows
    for at, row in header_rows(data):
        if row and row.get("profileid"):
            rows.setdefault(row["profileid"], row)
        else:
            detail = "a header row must have every column and a profileid"
            yield Rejected(source=f"{chosen}#{at}", reason="bad_table", detail=detail)
    return rows


def _hardware(tree: Tree, project: str, names: list[str]) -> bytes | None:
    """config/HW_*.txt: the camera's configuration, used where a profile has no metadata.ini."""
    prefix = f"{project}config/HW_"
    for name in names:
        if name.startswith(prefix) and name.endswith(".txt"):
            data = read_companion(tree, name)
            return None if isinstance(data, Rejected) else data
    return None


def _read_profile(
    tree: Tree,
    files: _ProfileFiles,
    header: dict[str, str] | None,
    hardware: bytes | None,
    options: ReadOptions,
) -> Iterator[Found]:
    ini = yield from _optional(tree, files, files.ini, "metadata.ini")
    table = yield from _optional(tree, files, files.particles, "particules.csv")
    profile = parse_profile(ini, header, hardware)
    for reason, detail in profile.problems:
        yield Rejected(source=files.ini or files.project + "meta", reason=reason, detail=detail)
    frames = parse_frames(table or b"")
    if frames.bad_lines:
        detail = f"{len(frames.bad_lines)} lines are no frame, the first is line {frames.bad_lines[0]}"
        yield Rejected(source=files.particles, reason="bad_table", detail=detail)
    images = 0
    for found in _vignettes(tree, files, profile, frames, options):
        images += isinstance(found, Record)
        yield found
    yield _sample(files, profile, frames if table else None, images, options)


def _optional(
    tree: Tree, files: _ProfileFiles, name: str, what: str
) -> Generator[Rejected, None, bytes | None]:
    """Bytes of a companion file, as the generator's return value; its absence is reported, not fatal."""
    if not name:
        source = f"{files.project}ecodata/{files.profile}"
        yield Rejected(source=source, reason="missing_file", detail=f"no {what} in <profile>_Particule.zip")
        return None
    data = read_companion(tree, name, MAX_LONG_TABLE_BYTES)
    if isinstance(data, Rejected):
        yield data
        return None
    return data


def _vignettes(
    tree: Tree, files: _ProfileFiles, profile: Profile, frames: Frames, options: ReadOptions
) -> Iterator[Record | Rejected]:
    footer_px = _footer_px(tree, files.settings)
    # The registry stands in only where the files are silent, not where they make no sense.
    silent = not profile.pixel_text
    um_per_px = options.um_per_px or profile.um_per_px or (facts(NAME).um_per_px if silent else None)
    volume_l = _volume_l(profile, frames)
    seen: set[str] = set()
    for name in files.images:
        stem = PurePosixPath(name).stem
        object_id = f"{files.sample}_{stem}"
        match = _VIGNETTE.match(stem)
        time = parse_time(match["when"]) if match else None
        if match is None or time is None:
            detail = "a vignette must be named YYYYMMDD-HHMMSS_n or YYYYMMDD-HHMMSS-mmm_n"
            yield Rejected(source=name, reason="unlisted_image", detail=detail)
        elif stem in seen:
            yield Rejected(source=name, reason="duplicate_id", detail=f"{object_id} twice")
        else:
            seen.add(stem)
            yield Record(
                object_id=object_id,
                pixels=FooterImage(name, footer_px) if footer_px else EncodedImage(name),
                instrument=options.instrument or NAME,
                um_per_px=um_per_px,
                sample=files.sample,
                group=files.sample,  # a cast: neighbouring frames see the same particles
                time=time,
                lat=profile.lat,
                lon=profile.lon,
                depth_m=frames.depth_at(match["when"]),
                volume_l=volume_l,
                licence=options.licence,
                source=name,
            )


def _footer_px(tree: Tree, settings: str) -> int:
    data = read_companion(tree, settings) if settings else b""
    if isinstance(data, Rejected):
        return 0
    values = sections(data.decode("latin-1")).get("vignette", {})
    return int(min(max(number(values.get("footerheight_px")) or 0, 0), 1000))


def _volume_l(profile: Profile, frames: Frames | None) -> float | None:
    """Water seen by all usable frames: lit, not over-exposed; dark frames measure noise."""
    if frames is None or profile.image_volume_l is None or not frames.lit:
        return None
    return frames.lit * profile.image_volume_l


def _sample(
    files: _ProfileFiles, profile: Profile, frames: Frames | None, images: int, options: ReadOptions
) -> Sample:
    known = dict(profile.facts)
    if profile.um_per_px is not None:
        known["um_per_px"] = f"{profile.um_per_px:.10g}"
    if profile.image_volume_l is not None:
        known["image_volume_l"] = f"{profile.image_volume_l:.10g}"
    if frames is not None:
        known |= {"frames_lit": str(frames.lit), "frames_dark": str(frames.dark)}
        known |= {"frames_over_exposed": str(frames.over_exposed), "frames_empty": str(frames.empty)}
        if frames.depth_m:
            known["depth_m_min"] = f"{min(frames.depth_m.values()):.10g}"
            known["depth_m_max"] = f"{max(frames.depth_m.values()):.10g}"
    return Sample(
        sample=files.sample,
        instrument=options.instrument or NAME,
        images=images,
        volume_l=_volume_l(profile, frames),
        time=profile.time,
        lat=profile.lat,
        lon=profile.lon,
        source=files.particles or f"{files.project}ecodata/{files.profile}",
        facts=known,
    )
