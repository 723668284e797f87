"""What can go wrong with a run, before or after it began."""

from plyrum.errors import Conflict, Forbidden, Gone, InvalidRequest, NotFound, Unavailable


class NoRoute(Unavailable):
    """Extra: `reasons`, a reason code per model."""

    code, title = "no_route", "No model can take this request now"


class ModelNotAllowed(Forbidden):
    """The API key of the request names the models it may use. Extra: `model`."""

    code, title = "model_not_allowed", "This API key may not use this model"


class ModelNotFound(InvalidRequest):
    code, title = "model_not_found", "There is no such model"


class RunRefused(InvalidRequest):
    """The provider refused the request itself: asking again will not help. Extra: run_id, reason."""

    code, title = "request_refused", "The model refused this request"


class AlreadySwitched(Conflict):
    code, title = "already_switched", "It is switched so already"


class RunNotFound(NotFound):
    title = "There is no such run"


class FramesGone(Gone):
    code, title = "frames_gone", "The frames of this run are no longer kept"


class RunFailed(Unavailable):
    """A run that was asked for without a stream ended in an error. Extra: run_id, charged_micro_rub."""

    code, title, retryable = "run_failed", "The models did not answer", False  # with a new key it may be
