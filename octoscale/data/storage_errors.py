"""What a store's failure means to the user: one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from octoscale.data.objects import ExpiredError
from octoscale.data.retry import StoppedError
from octoscale.errors import OctoscaleError


@contextmanager
def told(action: str, where: str, *, is_local: bool) -> Iterator[None]:
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
        advice = "the permissions of the folder" if is_local else "the credentials and the bucket's policy"
        raise OctoscaleError(f"cannot {action} {where}: permission denied ({error}); check {advice}") from error
    except ExpiredError as error:
        raise OctoscaleError(f"cannot {action} {where}: the credentials have expired ({error}); renew them") from error
    except OSError as error:
        advice = "" if is_local else "; check the credentials, the network and AWS_ENDPOINT_URL"
        raise OctoscaleError(f"cannot {action} {where}: {error}{advice}") from error
