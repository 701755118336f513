"""What of the environment goes with a job, and what never does."""

import pytest

from octoscale.errors import OctoscaleError
from octoscale.orchestrate.job_environment import chosen_variables, looks_secret, secret_names


def test_only_the_variables_that_are_named_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("NOT_NAMED", "1")

    sent = chosen_variables(["OMP_NUM_THREADS", "AWS_REGION=eu-central-1", "EMPTY=", "EQUALS=a=b"])

    assert sent == {"OMP_NUM_THREADS": "3", "AWS_REGION": "eu-central-1", "EMPTY": "", "EQUALS": "a=b"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SESSION_TOKEN", "x"),
        ("HF_TOKEN", "x"),
        ("WANDB_API_KEY", "x"),
        ("DB_PASSWORD", "x"),
        ("MY_KEY", "x"),
        ("ANY", "AKIA" + "A" * 16),
        ("ANY", "ghp_" + "a" * 36),
        ("ANY", "-----BEGIN RSA PRIVATE KEY-----"),
        ("PROXY", "http://user:word@proxy:3128"),
    ],
)
def test_what_looks_like_a_secret_is_refused_without_its_value(name: str, value: str) -> None:
    with pytest.raises(OctoscaleError, match=f"--env {name} looks like a secret.*--secret {name}") as refusal:
        chosen_variables([f"{name}={value}"])
    assert value == "x" or value not in str(refusal.value)

    assert chosen_variables([f"{name}={value}"], allow_secrets=True) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", "http://minio:9000"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/gcp.json"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/etc/aws"),
        ("NCCL_SOCKET_IFNAME", "eth0"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("RUN", "s3://bucket/sk-learn-and-other-experiments"),
    ],
)
def test_ordinary_variables_are_no_secrets(name: str, value: str) -> None:
    assert not looks_secret(name, value)


def test_the_clusters_token_is_never_sent() -> None:
    with pytest.raises(OctoscaleError, match="token is never sent"):
        chosen_variables(["RAY_AUTH_TOKEN=abc"], allow_secrets=True)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (["ABSENT_HERE"], "--env ABSENT_HERE: it is not set here"),
        (["A=1", "A=2"], "--env A is given twice"),
        (["1A=1"], "takes the NAME"),
        (["=1"], "takes the NAME"),
        (["A B=1"], "takes the NAME"),
    ],
)
def test_names_that_are_none_are_refused(env: list[str], message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        chosen_variables(env)


def test_a_secret_is_a_name_alone() -> None:
    assert secret_names(["A", "B", "A"], []) == ("A", "B")
    with pytest.raises(OctoscaleError, match="--secret A takes no value") as refusal:
        secret_names(["A=hidden"], [])
    assert "hidden" not in str(refusal.value)
    with pytest.raises(OctoscaleError, match="A is given as --env and as --secret"):
        secret_names(["A"], ["A"])
    with pytest.raises(OctoscaleError, match="takes the NAME") as refusal:
        secret_names(["x; rm -rf $HOME"], [])
    assert "rm" not in str(refusal.value)
