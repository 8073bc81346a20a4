"""From YAML and overrides to a checked config: what is understood, what is refused and how it says so."""

import ast
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ConfigDict, Field

import aqqua
from aqqua.config import ConfigError, keys, load_config, to_yaml
from aqqua.train.settings import PretrainConfig

PACKAGE = Path(aqqua.__file__).parent
CONFIGS = sorted((PACKAGE.parent / "configs").glob("*.yaml"))
GIVEN = ("run=runs/x", "data.path=data/x", "train.epochs=2")


def load(*overrides: str) -> PretrainConfig:
    return load_config(PretrainConfig, None, [*GIVEN, *overrides])


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    return str(caught.value)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("optim.rl=1", "optim.lr"),
        ("lr=1", "optim.lr"),
        ("views.global_aera=[0.3, 1]", "views.global_area"),
        ("veiws.locals=3", "views.locals"),
        ("optimizer.lr=1", "optim.lr"),
        ("objective.haed.prototypes=9", "objective.head.prototypes"),
        ("objective.head.prototype=9", "objective.head.prototypes"),
        ("objective.ibot_head.hiden=9", "objective.ibot_head.hidden"),
        ("data.pack_token=9", "data.pack_tokens"),
        ("model.locals=9", "views.locals"),
    ],
)
def test_an_unknown_key_fails_and_names_the_nearest(override, meant):
    key = override.partition("=")[0]
    message = refusal(override)
    assert message.startswith("config: every key must be known, got ")
    assert message.split("got ")[1].split(";")[0] == key
    assert message.endswith(f"did you mean {meant}?")


def test_an_unknown_key_of_a_file_fails_too(tmp_path):
    path = write(tmp_path, "run: r\ndata: {path: d}\ntrain: {epochs: 1}\nmasks: {ods: 0.5}\n")
    with pytest.raises(ConfigError, match=r"got masks\.ods; did you mean masks\.odds\?"):
        load_config(PretrainConfig, path)


def test_overrides_win_over_the_file_and_reach_into_sections(tmp_path):
    path = write(tmp_path, "run: r\ndata: {path: d, lanes: 2}\ntrain: {epochs: 1}\nseed: 4\n")
    config = load_config(
        PretrainConfig,
        path,
        ["data.lanes=16", "views.global_area=[0.5, 0.9]", "run=elsewhere", "data.lanes=32"],
    )
    assert config.data.lanes == 32  # the last one counts
    assert config.data.path == Path("d")
    assert config.views.global_area == (0.5, 0.9)
    assert (config.run, config.seed) == (Path("elsewhere"), 4)
    assert path.read_text(encoding="utf-8").startswith("run: r\n")


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", "1E-3", ".1e-2", "10e-4"])
def test_a_number_is_a_number_however_it_is_written(tmp_path, text):
    assert load(f"optim.lr={text}").optim.lr == 0.001
    path = write(tmp_path, f"run: r\ndata: {{path: d}}\ntrain: {{epochs: 1}}\noptim:\n  lr: {text}\n")
    assert load_config(PretrainConfig, path).optim.lr == 0.001


def test_whole_numbers_may_be_written_with_an_exponent_everywhere(tmp_path):
    assert load("data.pack_tokens=2e4").data.pack_tokens == 20_000
    path = write(tmp_path, "run: r\ndata: {path: d}\ntrain: {images: 1e6}\nviews: {max_tokens: [1e3, 64]}\n")
    config = load_config(PretrainConfig, path)
    assert config.train.images == 1_000_000
    assert config.views.max_tokens == (1000, 64)


@pytest.mark.parametrize("name", ["inf", "nan", "infinity", "e3", "run 1e3", "sea/1e3"])
def test_names_that_look_like_numbers_stay_names(name):
    assert load(f"run={name}").run == Path(name)


def test_null_gives_back_a_default_of_none():
    assert load("objective.ibot_head=null").objective.ibot_head is None
    head = load("objective.ibot_head.prototypes=64").objective.ibot_head
    assert head is not None
    assert head.prototypes == 64


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.lr=-1", ("optim.lr", "greater than 0", "got -1")),
        ("optim.lr=fast", ("optim.lr", "valid number", "got fast")),
        ("views.locals=17", ("views.locals", "less than or equal to 16", "got 17")),
        ("views.locals=2.5", ("views.locals", "integer", "got 2.5")),
        ("views.gain=[2, 1]", ("gain must be low, high with low <= high, got 2.0, 1.0; swap them",)),
        ("views.blur=never", ("views.blur", "'paper' or 'released'", "got never")),
        ("masks.ratio=[0.5, 0.1]", ("ratio must be low, high with 0 <= low <= high <= 1",)),
        ("train.images=5", ("train", "images or epochs; give exactly one of them")),
        ("model.width=100", ("model", "width must be a multiple of heads")),
        ("optim=3", ("optim", "got 3")),
        ("seed=-1", ("seed", "greater than or equal to 0")),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key_and_the_limit(override, parts):
    message = refusal(override)
    for part in parts:
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("override", ["optim.lr", "=3", ""])
def test_an_override_without_key_or_value_is_refused(override):
    assert "an override must look like key.key=value" in refusal(override)


def test_what_is_no_yaml_is_refused():
    assert refusal("run=[a") == "config: the value of run must be YAML, got '[a'; quote it"


def test_missing_keys_are_named_down_to_the_one_to_give():
    with pytest.raises(ConfigError) as caught:
        load_config(PretrainConfig, None, ["train.epochs=1"])
    message = str(caught.value)
    assert "config: run must be given; add run=..." in message
    assert "config: data.path must be given; add data.path=..." in message
    with pytest.raises(ConfigError, match="train: a run must have one length: images or epochs"):
        load_config(PretrainConfig, None, ["run=r", "data.path=d"])


def test_files_that_are_no_config_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml must be a readable YAML file.*; check the path"):
        load_config(PretrainConfig, tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_config(PretrainConfig, write(tmp_path, "a: [1, 2\n"))
    with pytest.raises(ConfigError, match="must hold keys and values, got a list"):
        load_config(PretrainConfig, write(tmp_path, "- 1\n"))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"run: m\xe9r\n")
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_config(PretrainConfig, latin)
    assert load_config(PretrainConfig, write(tmp_path, ""), GIVEN) == load()


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch made']", "!!python/name:os.system", "!!python/tuple [1]"],
)
def test_nothing_in_a_file_or_an_override_is_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert "must be YAML" in refusal(f"run={text}")
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_config(PretrainConfig, write(tmp_path, f"run: {text}\n"))
    assert not (tmp_path / "made").exists()
    assert load("run=__import__('os').getcwd()").run == Path("__import__('os').getcwd()")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("run=Seegang µm/é ü", "optim.clip_grad=.inf", "train.threads=2", "seed=9223372036854775807"),
        ("objective.ibot_head.prototypes=128", "optim.lr=1e-7", "views.scale_jitter=[1, 1]"),
    ],
)
def test_the_resolved_config_comes_back_from_its_yaml(tmp_path, overrides):
    config = load(*overrides)
    path = write(tmp_path, to_yaml(config))
    assert load_config(PretrainConfig, path) == config
    assert load_config(PretrainConfig, path, ["seed=3"]).seed == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_project_loads(path):
    config = load_config(PretrainConfig, path, ["run=r", "data.path=d"])
    assert load_config(PretrainConfig, path, ["run=r", "data.path=d", "seed=5"]).seed == 5
    assert config.optim.lr > 0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_begins_with_its_command_hardware_and_score(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    for part in (f"aqqua pretrain configs/{path.name}", "aqqua evaluate", "Hardware:", "Score:"):
        assert part in header, part


def test_there_are_configs():
    assert CONFIGS


def models(kind: type[BaseModel]) -> set[type[BaseModel]]:
    found = {kind}
    for field in kind.model_fields.values():
        for option in (field.annotation, *get_args(field.annotation)):
            if isinstance(option, type) and issubclass(option, BaseModel):
                found |= models(option)
    return found


def is_validator(node: ast.AST) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any("validator" in ast.unparse(decorator) for decorator in decorators)


def attributes_read(node: ast.AST) -> set[str]:
    """Names read as `something.name`; what only a config's own checks read does not count."""
    if is_validator(node):
        return set()
    own = {node.attr} if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) else set()
    return own.union(*(attributes_read(child) for child in ast.iter_child_nodes(node)))


def test_every_key_is_read_somewhere_and_says_what_it_means():
    read: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        read |= attributes_read(ast.parse(path.read_text(encoding="utf-8")))
    kinds = models(PretrainConfig)
    assert len(kinds) >= 9
    unread = [f"{kind.__name__}.{name}" for kind in kinds for name in kind.model_fields if name not in read]
    assert not unread, f"every key must change something, got {unread}; read them or delete them"
    silent = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not field.description and not any(field.annotation is inner for inner in kinds)
    ]
    assert not silent, f"every key must say what it means, got {silent}; describe them"


def test_every_model_refuses_unknown_keys_and_changes():
    for kind in models(PretrainConfig):
        assert kind.model_config.get("extra") == "forbid", kind
        assert kind.model_config.get("frozen"), kind


def test_keys_are_listed_down_to_the_last():
    class Inner(BaseModel):
        model_config = ConfigDict(extra="forbid")
        depth: int = Field(default=1, description="d")

    class Outer(BaseModel):
        a: int = 0
        inner: Inner | None = None
        other: Inner = Inner()

    assert keys(Outer) == ["a", "inner.depth", "other.depth"]
