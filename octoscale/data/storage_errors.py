"""What a store's failure means to the user: one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from octoscale.data.objects import ExpiredError
from octoscale.data.retry import StoppedError
from octoscale.data.storage_config import S3_SCHEMES, StorageConfig, is_local, scheme_of
from octoscale.errors import OctoscaleError


@contextmanager
def told(action: str, where: str, config: StorageConfig) -> Iterator[None]:
    """Failures of the block, that `where` could not be read, written, … (`action`); FileExistsError stays."""
    try:
        yield
    except FileExistsError:
        raise
    except StoppedError as error:
        raise OctoscaleError(str(error)) from error
    except FileNotFoundError as error:
        raise OctoscaleError(f"cannot {action} {where}: there is no such file, folder or bucket") from error
    except PermissionError as error:
        advice = "the permissions of the folder" if is_local(where) else "the credentials and the bucket's policy"
        raise OctoscaleError(f"cannot {action} {where}: permission denied ({error}); check {advice}") from error
    except ExpiredError as error:
        raise OctoscaleError(f"cannot {action} {where}: the credentials have expired ({error}); renew them") from error
    except OSError as error:
        raise OctoscaleError(f"cannot {action} {where}: {error}{_reaching(where, config)}") from error


def _reaching(where: str, config: StorageConfig) -> str:
    """What to check where a server does not answer as it should."""
    if is_local(where):
        return ""
    if scheme_of(where) not in S3_SCHEMES:
        return "; check the credentials and the network"
    server = "AWS_ENDPOINT_URL" if config.endpoint_url is None else f"endpoint_url, {config.endpoint_url}"
    return f"; check the credentials, the network and {server}"
