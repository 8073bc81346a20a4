"""Taxonomy tables of both published styles, small."""

from pathlib import Path

RANKED = (
    "Dataset,Raw_Labels,Kingdom,Phylum,Class,Order,Family,Genus,Species,proposed_label,plankton,living,"
    + ("root_class,qualifier,wikidata_ID,aphia_ID,NCBI_ID,BOLD_ID,ecotaxa_ID")
)
NAMED = "clean_names,name,sflag,AphiaID,HAB,warning_level,italic"


def ranked_row(
    label: str,
    lineage: str,
    aphia: str,
    qualifier: str = "full_body",
    dataset: str = "seen",
    plankton: str = "True",
) -> str:
    """A row of the style with ranks; `lineage` is words from the kingdom down, - where one is missing."""
    names = [name.strip("-") for name in lineage.split()]
    names += [""] * (7 - len(names))
    own = next((name for name in reversed(names) if name), "detritus")
    living = "True" if any(names) else "False"
    cells = [dataset, label, *names, own, plankton, living, "living", qualifier, "", aphia, "", "", ""]
    return ",".join(cells)


def ranked_table(folder: Path, *rows: str) -> Path:
    """A table of such rows."""
    path = folder / "ranked.csv"
    path.write_text("\n".join([RANKED, *rows]) + "\n", encoding="utf-8")
    return path


def named_table(folder: Path, **taxa: tuple[str, str]) -> Path:
    """label -> name and AphiaID, in the style without ranks."""
    path = folder / "named.csv"
    rows = [f"{label},{name},,{aphia},FALSE,,TRUE" for label, (name, aphia) in taxa.items()]
    path.write_text("\n".join([NAMED, *rows]) + "\n", encoding="utf-8")
    return path
