"""What can go wrong with a run, before or after it began."""

from plyrum.errors import Forbidden, Gone, InvalidRequest, NotFound, Unavailable


class NoRoute(Unavailable):
    """Extra: `reasons`, a reason code per model."""

    code, title = "no_route", "No model can take this request now"


class ModelNotFound(InvalidRequest):
    code, title = "model_not_found", "There is no such model"


class ModelNotAllowed(Forbidden):
    code, title = "model_not_allowed", "This model is not allowed for you"


class RunNotFound(NotFound):
    title = "There is no such run"


class FramesGone(Gone):
    code, title = "frames_gone", "The frames of this run are no longer kept"


class RunFailed(Unavailable):
    """A run that was asked for without a stream ended in an error. Extra: run_id, charged_micro_rub."""

    code, title = "run_failed", "The models did not answer"
