"""Look-ups do not fall for homonyms, shared AphiaIDs and spelling."""

import pytest
from made_taxon_tables import named_table, ranked_row, ranked_table

from aqqua.taxonomy.table import TaxonTable

DIATOM = "chromista heterokontophyta bacillariophyceae fragilariales fragilariaceae ctenophora"
MILLIPEDE = "animalia arthropoda diplopoda siphonophorida siphonophoridae siphonophora"


@pytest.fixture
def table(tmp_path) -> TaxonTable:
    rows = [
        ranked_row("jelly", "animalia ctenophora tentaculata lobata", "1258.0"),
        ranked_row("ctenophore", DIATOM, "163921.0"),
        ranked_row("siph", MILLIPEDE, "892593.0"),
        ranked_row("mel", "chromista heterokontophyta - - - melosira", "149042.0"),
        ranked_row("mel arctica", "chromista heterokontophyta - - - melosira arctica", "149042.0"),
        ranked_row("clado", "animalia mollusca bivalvia pteriida inoceramidae cladoceramus", "105.0"),
        ranked_row("snail", "animalia mollusca gastropoda - - limacina", "105.0"),
        ranked_row("dino", "chromista myzozoa dinophyceae", "19542.0"),
        ranked_row("dino2", "chromista myzozoa dinophyceae dinophyceae", ""),
        ranked_row("two", "animalia cnidaria", "1267.0"),
        ranked_row("two again", "animalia cnidaria", "1268.0"),
    ]
    return TaxonTable.load(ranked_table(tmp_path, *rows))


def test_homonyms_need_a_kingdom_or_class(table):
    with pytest.raises(
        ValueError, match=r"kingdom or class, got candidates phylum ctenophora .*genus ctenophora"
    ):
        table.by_name("Ctenophora")
    assert table.by_name("Ctenophora", kingdom="Animalia").rank == "phylum"
    assert table.by_name("ctenophora", kingdom="Chromista").aphia_id == 163921
    assert table.by_name("ctenophora", class_="Bacillariophyceae").rank == "genus"


def test_a_homonym_that_the_table_has_once_is_not_trusted(table):
    """Whoever writes Siphonophora means the jellies; the table has the millipede alone."""
    with pytest.raises(ValueError, match=r"must be given with its kingdom or class.*diplopoda"):
        table.by_name("Siphonophora")
    with pytest.raises(ValueError, match="must be in Hydrozoa, got genus siphonophora"):
        table.by_name("Siphonophora", class_="Hydrozoa")


def test_one_id_on_two_taxa_stays_with_what_holds_both(table):
    assert table.shared_ids()[149042] == ("melosira", "melosira arctica")
    assert table.by_name("Melosira").aphia_id == 149042
    species = table.by_name("Melosira arctica")
    assert species.aphia_id is None
    assert species.doubt == "AphiaID 149042 is also on melosira"


def test_one_id_on_taxa_side_by_side_is_nobody_s(table):
    assert table.by_id(105) is None
    assert table.by_name("Limacina").aphia_id is None
    assert "also on limacina" in table.by_name("Cladoceramus").doubt


def test_two_ids_of_one_taxon_are_both_doubted(table):
    found = table.by_name("Cnidaria")
    assert (found.aphia_id, found.doubt) == (None, "the table gives both 1267 and 1268")


def test_a_taxon_written_at_two_ranks_is_one(table):
    assert table.by_name("Dinophyceae").aphia_id == 19542


def test_spelling_and_what_is_near(table):
    assert table.by_name(" MELOSIRA spp.").aphia_id == 149042
    with pytest.raises(ValueError, match="got Melosyra; did you mean melosira"):
        table.by_name("Melosyra")


def test_a_table_without_ranks(tmp_path):
    table = TaxonTable.load(named_table(tmp_path, a=("Strombidiidae", "1703"), b=("Navicula", "149142")))
    assert table.by_name("strombidiidae").aphia_id == 1703
    assert table.label("a").aphia_id == 1703
    assert table.label("c") is None
    with pytest.raises(ValueError, match="Navicula is the name of several taxa"):
        table.by_name("Navicula")


def test_real_tables(real_data):
    table = TaxonTable.load(real_data / "taxonomy" / "planktonzilla_taxonomy.csv")
    assert len(table.rows) == 1485
    assert len([row for row in table.rows if row.dataset == "planktonset1.0"]) == 121
    assert sorted(table.shared_ids()) == [105, 148985, 149042, 153970, 196803]
    assert table.by_id(1080).name == "copepoda"
    assert table.by_name("Bivalvia").aphia_id == 105
    assert table.by_name("Cladoceramus").aphia_id is None
    with pytest.raises(ValueError, match="candidates phylum ctenophora"):
        table.by_name("Ctenophora")
    small = TaxonTable.load(real_data / "taxonomy" / "smhi_taxa_lookup.csv")
    assert len(small.rows) == 179
    assert small.by_name("Mesodinium major").aphia_id == 1476503
