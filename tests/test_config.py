"""The configuration: precedence, every kind of error, rules, exposure, what is shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffy_proxy.config import Config, Credentials, Rule, check_exposure, dump, is_loopback, load, policy_for
from buffy_proxy.core.model import Retention
from buffy_proxy.core.policy import Policy
from buffy_proxy.core.strategies import Http, Never, WhenRemoteChanged
from buffy_proxy.errors import ConfigError
from buffy_proxy.settings import SETTINGS

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


EVERYTHING = """
data_dir = "data"
offline = true
tunnel = ["*.Example.org", "10.0.0.1:8443"]
learn_tunnels = false
workers = 3
max_size = "5 GiB"
map_size = "8 GiB"
max_request_body = "64 KiB"
upstream_proxy = "http://user:hush-hush@proxy.example:3128"
log_level = "debug"

[proxy]
listen = "[::1]:9000"
credentials = "alice:hush-hush"

[api]
listen = 9001

[refresh]
downloads = 8
per_host = 2
jitter = 0

[timeouts]
connect = "2s"
first_byte = 30
idle_s = "1m"

[retention]
max_cached_unpinned_versions = 3
max_cached_pinned_versions = 4

[[rule]]
match = "https://data.example/**"
strategy = { strategy_name = "when_remote_changed", check_interval_sec = 3600 }
ignore_query = ["utm_*"]
methods = ["get", "POST"]
shared = true
max_cached_unpinned_versions = 9

[[rule]]
match = "**"
strategy = "never"
"""


def test_a_file_that_sets_everything(write: Write, tmp_path: Path) -> None:
    config = load(write(EVERYTHING), environ={})
    assert config.data_dir == tmp_path / "data"  # relative to the file
    assert config.config_file == tmp_path / "my.toml"
    assert (config.proxy, config.api) == (("::1", 9000), ("127.0.0.1", 9001))
    assert (config.offline, config.learn_tunnels, config.open) == (True, False, False)
    assert config.workers == 3
    assert config.tunnel == ("*.example.org", "10.0.0.1:8443")
    assert (config.max_size, config.map_size, config.max_request_body) == (5 * 2**30, 8 * 2**30, 65536)
    assert config.credentials == Credentials("alice", "hush-hush")
    assert dataclasses.astuple(config.refresh) == (8, 2, 0.0)
    assert dataclasses.astuple(config.timeouts) == (2.0, 30.0, 60.0)
    assert config.retention == Retention(3, 4)
    assert config.log_level == "debug"
    assert [rule.policy for rule in config.rules] == [
        Policy(
            strategy=WhenRemoteChanged(check_interval_sec=3600),
            retention=Retention(9, 4),
            ignore_query=("utm_*",),
            methods=frozenset({"GET", "POST"}),
            shared=True,
            source='rule 1 ("https://data.example/**")',
        ),
        Policy(strategy=Never(), retention=Retention(3, 4), source='rule 2 ("**")'),
    ]


def test_without_anything_the_defaults_hold() -> None:
    config = load(environ={"XDG_DATA_HOME": "/nowhere/share"})
    assert config == Config(data_dir=Path("/nowhere/share/buffy"))
    assert load(environ={"XDG_DATA_HOME": "relative"}).data_dir == Path.home() / ".local/share/buffy"


def test_each_place_overrides_the_one_below(write: Write) -> None:
    file = write('log_level = "debug"\nmax_size = 1\nproxy = ":1"\nopen = true')
    environ = {"BUFFY_MAX_SIZE": "2", "BUFFY_PROXY": ":2", "BUFFY_TIMEOUTS_IDLE": "9s", "BUFFY_API": ""}
    config = load(file, environ=environ, proxy=":3", api=None)
    assert (config.log_level, config.max_size, config.proxy) == ("debug", 2, ("0.0.0.0", 3))
    assert config.timeouts.idle_s == 9.0
    assert config.sources == {
        "log_level": str(file),
        "open": str(file),
        "max_size": "BUFFY_MAX_SIZE",
        "proxy": "command line",
        "timeouts.idle": "BUFFY_TIMEOUTS_IDLE",
    }


def test_an_option_may_say_false_over_an_environment_that_says_true() -> None:
    assert load(environ={"BUFFY_OFFLINE": "1"}, offline=False).offline is False


def test_the_file_is_found_in_the_data_directory_or_by_the_environment(write: Write, tmp_path: Path) -> None:
    file = write("max_size = 7")
    assert load(environ={"BUFFY_CONFIG": str(file)}).max_size == 7
    (tmp_path / "buffy.toml").write_text("max_size = 8")
    for config in (load(environ={"BUFFY_DATA_DIR": str(tmp_path)}), load(environ={}, data_dir=tmp_path)):
        assert (config.max_size, config.config_file) == (8, tmp_path / "buffy.toml")
    assert load(file, environ={}, data_dir=tmp_path).max_size == 7


BAD_FILES = [
    # text of the file, what the message must hold
    ("max_sise = 1", ["max_sise", "unknown key", "did you mean max_size?"]),
    ("frobnicate = 1", ["frobnicate", "allowed are", "log_level"]),
    ("[timeouts]\nconect = 1", ["timeouts.conect", "did you mean timeouts.connect?"]),
    ("[refresh]\nwhatever = 1", ["refresh.whatever", "allowed are downloads"]),
    ("[[rules]]\nmatch = '**'", ["rules", "did you mean rule?"]),
    ("[rule]\nmatch = '**'", ["rule", "[[rule]]"]),
    ("rule = ['x']", ["rule 1", "must be a table"]),
    ("timeouts = 5", ["timeouts", "unknown key"]),
    ("max_size = 'big'", ["max_size", "20 GiB", "'big'"]),
    ("max_size = 2024-01-01", ["max_size", "must be a size"]),
    ("offline = 'maybe'", ["offline", "true or false"]),
    ("proxy = 'nowhere'", ["proxy", "127.0.0.1:8080"]),
    ("proxy.listen = 1\nproxy.port = 2", ["proxy.port", "allowed are credentials, listen"]),
    ("credentials = 'a:b'\nproxy.credentials = 'c:d'", ["proxy.credentials", "says the same as credentials"]),
    ("timeouts.connect = 1\ntimeouts.connect_s = 1", ["timeouts.connect_s", "says the same"]),
    ("tunnel = ['http://x']", ["tunnel", "*.example.org"]),
    ("log_level = 'loud'", ["log_level", "debug, info, warning, error"]),
    ("max_size = x", ["not valid TOML", "line 1"]),
    ("max_size = " + "9" * 5000, ["not valid TOML"]),
    ("max_size = " + "9" * 500, ["max_size", "2**62"]),
    ("timeouts.idle = " + "9" * 500, ["timeouts.idle", "finite"]),
    ("x = " + "[" * 5000, ["not valid TOML"]),
    ("[[rule]]\nstrategy = 'never'", ["rule 1", "match is missing"]),
    ("[[rule]]\nmatch = 'a***b'", ["rule 1", "match", "***"]),
    ("[[rule]]\nmatch = 5", ["rule 1", "match", "URL pattern"]),
    (
        "[[rule]]\nmatch = '**'\n[[rule]]\nmatch = '**'\nstrategy = 'nevr'",
        ["rule 2", "strategy", "'nevr'", "never"],
    ),
    ("[[rule]]\nmatch = '**'\nstrategy = 5", ["rule 1", "strategy", "must be a name"]),
    ("[[rule]]\nmatch = '**'\nstrategy = {strategy_name = 'age', sec = 1}", ["rule 1", "'sec'", "seconds"]),
    ("[[rule]]\nmatch = '**'\nstrategy = {strategy_name = 'cron', cron = 'x'}", ["rule 1", "cron"]),
    ("[[rule]]\nmatch = '**'\nmethods = ['DELETE']", ["rule 1", "methods", "DELETE", "GET, HEAD, POST"]),
    ("[[rule]]\nmatch = '**'\nmethods = []", ["rule 1", "methods", "nothing"]),
    ("[[rule]]\nmatch = '**'\nignore_qeury = ['x']", ["rule 1", "did you mean ignore_query?"]),
    ("[[rule]]\nmatch = '**'\nmax_size = 5", ["rule 1", "max_size", "above the first [table]"]),
    ("[[rule]]\nmatch = '**'\nmax_cached_unpinned_versions = 0", ["rule 1", "at least 1"]),
    ("[http]\ntargets = ['a b']", ["http.targets", "'a b'"]),
    ("[http]\nstrict = 'perhaps'", ["http.strict", "true or false"]),
    ("reverse = 'http://example.org/path'", ["reverse", "origin without a path"]),
    ("[[rule]]\nmatch = '**'\nreplay_set_cookie = 1", ["rule 1", "replay_set_cookie", "true or false"]),
    ("[[rule]]\nmatch = '**'\nshared = 1", ["rule 1", "shared", "true or false"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD_FILES)
def test_a_bad_file_is_one_clear_error(write: Write, text: str, expected: list[str]) -> None:
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert [part for part in expected if part not in message] == []
    assert "\n" not in message


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path, environ={})
    (tmp_path / "latin.toml").write_bytes(b"log_level = '\xe9'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.toml", environ={})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_a_configuration_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "any.toml").write_bytes(data)
    try:
        load(tmp_path / "any.toml", environ={})
    except ConfigError:
        pass


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"BUFFY_MAX_SIZE": "big"}, "^BUFFY_MAX_SIZE: must be a size"),
        ({"BUFFY_MAX_SIZES": "5"}, "^BUFFY_MAX_SIZES: unknown variable; did you mean BUFFY_MAX_SIZE"),
        ({"BUFFY_CONFIG": "/nowhere/at/all.toml"}, "^/nowhere/at/all.toml: cannot be read"),
    ],
)
def test_a_bad_variable_is_named(environ: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(environ=environ)


def test_variables_of_others_are_left_alone() -> None:
    assert load(environ={"BUFFY_SAVED_ENV": "x", "BUFFY_THE_VAMPIRE": "y"}).sources == {}


def test_a_bad_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--data-dir must be a path"):
        load(environ={}, data_dir="")


def test_data_dir_in_the_file_of_that_data_dir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "buffy.toml").write_text("data_dir = '/elsewhere'")
    with pytest.raises(ConfigError, match="data_dir cannot be set"):
        load(environ={}, data_dir=tmp_path)


# -- rules ---------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_url_and_method_wins(write: Write) -> None:
    config = load(
        write(
            "retention.max_cached_unpinned_versions = 5\n"
            "[[rule]]\nmatch='https://a.test/search'\nmethods=['POST']\nstrategy='never'\n"
            "[[rule]]\nmatch='https://a.test/**'\nstrategy='when_requested'\n"
            "[[rule]]\nmatch='https://a.test/never/reached'\nstrategy='never'\n"
        ),
        environ={},
    )

    def name(method: str, url: str) -> tuple[str, str]:
        policy = policy_for(config, method, url)
        return policy.strategy.strategy_name, policy.source.split(" (")[0]

    assert name("POST", "https://a.test/search") == ("never", "rule 1")
    assert name("GET", "https://a.test/search") == ("when_requested", "rule 2")
    assert name("HEAD", "https://a.test/never/reached") == ("when_requested", "rule 2")
    assert name("POST", "https://a.test/other") == ("http", "default")
    assert name("GET", "https://b.test/") == ("http", "default")
    assert policy_for(config, "GET", "https://b.test/").retention.max_cached_unpinned_versions == 5


def test_a_config_made_by_hand_has_its_fallback_too() -> None:
    rule = Rule("example.org", Policy(strategy=Never()))
    config = Config(data_dir=Path("/x"), retention=Retention(1, 1), rules=(rule,))
    assert policy_for(config, "GET", "http://example.org/") is rule.policy
    assert policy_for(config, "GET", "http://example.net/") == Policy(
        strategy=Http(), retention=Retention(1, 1)
    )
    assert dataclasses.replace(config, retention=Retention(7, 7)).fallback.retention == Retention(7, 7)


# -- exposure ------------------------------------------------------------------------------------------------

HERE, ANYWHERE = ("127.0.0.1", 1), ("0.0.0.0", 1)
USER = Credentials("alice", "x")


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        (Config(Path("/x"), proxy=HERE, api=("::1", 1)), ""),
        (Config(Path("/x"), proxy=("localhost", 1), api=("127.9.9.9", 1)), ""),
        (Config(Path("/x"), proxy=ANYWHERE), "proxy: 0.0.0.0:1"),
        (Config(Path("/x"), proxy=("::", 1)), r"proxy: \[::\]:1"),
        (Config(Path("/x"), proxy=("myhost.example", 1)), "proxy: myhost"),
        (Config(Path("/x"), proxy=ANYWHERE, credentials=USER), ""),
        (Config(Path("/x"), proxy=ANYWHERE, api=ANYWHERE, open=True), ""),
        (Config(Path("/x"), api=ANYWHERE), "api: 0.0.0.0:1"),
        (Config(Path("/x"), proxy=ANYWHERE, api=ANYWHERE, credentials=USER), "api: 0.0.0.0:1.*open = true"),
        (Config(Path("/x"), api=ANYWHERE, credentials=USER), "api: 0.0.0.0:1.*api_credentials"),
        (Config(Path("/x"), api=ANYWHERE, api_credentials=USER), ""),
        (Config(Path("/x"), proxy=ANYWHERE, api_credentials=USER), "proxy: 0.0.0.0:1"),
    ],
)
def test_listening_beyond_loopback_is_refused_unless_asked_for(config: Config, refused: str) -> None:
    if refused:
        with pytest.raises(ConfigError, match=refused):
            check_exposure(config)
    else:
        check_exposure(config)


def test_what_is_loopback() -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "LOCALHOST", "a.localhost")] == [True] * 4
    assert [is_loopback(h) for h in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example")] == [False] * 5


# -- showing -------------------------------------------------------------------------------------------------


def test_what_is_shown_is_json_names_sources_and_holds_no_secret(write: Write) -> None:
    file = write(EVERYTHING)
    config = load(file, environ={"BUFFY_MAX_SIZE": "5"})
    text = json.dumps(dump(config))
    assert "hush-hush" not in text + repr(config)
    shown = json.loads(text)
    assert shown["settings"]["max_size"] == {"value": 5, "source": "BUFFY_MAX_SIZE"}
    assert shown["settings"]["open"] == {"value": False, "source": "default"}
    assert shown["settings"]["proxy"]["value"] == "[::1]:9000"
    assert shown["settings"]["credentials"]["value"] == {"user": "alice", "password": "********"}
    assert shown["settings"]["upstream_proxy"]["value"] == "http://********@proxy.example:3128"
    assert shown["settings"]["timeouts.idle"]["value"] == 60.0
    assert shown["rules"][0]["strategy"]["check_interval_sec"] == 3600
    assert shown["config_file"] == str(file)


# -- the documentation ---------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[1] / "docs" / "configuration.md"


def test_the_documented_file_holds_all_defaults(write: Write, tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    file = write(text)
    config = load(file, environ={}, data_dir=tmp_path)
    assert dataclasses.replace(config, rules=()) == Config(data_dir=tmp_path, config_file=file)
    assert [rule.policy.methods for rule in config.rules] == [{"GET", "HEAD"}, {"POST"}]
    assert [key for key in SETTINGS if key.rpartition(".")[2] not in text] == []


def test_what_http_does_goes_into_the_default_and_into_rules(write: Write) -> None:
    text = """
    [http]
    targets = ["Mine-Cache-Control"]
    strict = true
    [[rule]]
    match = "a.example"
    [[rule]]
    match = "b.example"
    strategy = "http"
    [[rule]]
    match = "c.example"
    strategy = { strategy_name = "http", strict = false }
    """
    config = load(write(text), environ={})
    everywhere = Http(("Mine-Cache-Control",), strict=True)
    assert [config.fallback.strategy, *(rule.policy.strategy for rule in config.rules)] == [
        everywhere,
        everywhere,
        everywhere,
        Http(),
    ]
