"""What can go wrong with payments. Codes are those of the API contract where it names them."""

from plyrum.errors import (
    AdapterError,
    BadRequest,
    Conflict,
    InvalidRequest,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)


class PaymentsNotConfigured(Unavailable):
    code, title, retryable = "payments_not_configured", "Payments are not configured", False


class AmountOutOfRange(InvalidRequest):
    """Carries `min_rub` and `max_rub`."""

    title = "The amount is outside the limits of a top-up"


class PaymentNotFound(NotFound):
    title = "There is no such payment"


class OutcomeUnknown(Unavailable):
    """The provider may have made the payment. Carries `payment_id`; the same key never pays twice."""

    code, title = "payment_outcome_unknown", "The payment is being checked"
    retry_after_seconds = 60


class ProviderUnavailable(Unavailable):
    """The provider was not reached or refused to answer now; nothing happened."""

    code, title = "payment_provider_unavailable", "The payment provider does not answer"
    retry_after_seconds = 30


class ProviderRefused(Unavailable):
    """The provider refused to make this payment: our configuration is wrong, not the caller's request."""

    code, title, retryable = "payment_provider_refused", "The payment provider refused the payment", False


class CheckedTooOften(TooManyRequests):
    title = "This payment was checked a moment ago"


class MalformedNotification(BadRequest):
    code, title = "malformed_notification", "This is not a notification of a payment provider"


class WrongWebhookSecret(Unauthenticated):
    code, title = "wrong_webhook_secret", "The webhook secret is missing or wrong"


class MockIsOff(Unavailable):
    code, title, retryable = "mock_provider_off", "The mock provider is not in use", False


class WebhookPayloadMismatch(Conflict):
    code, title = "webhook_payload_mismatch", "This event was received with other content"


class AmountMismatch(Conflict):
    code, title = "amount_mismatch", "The amount differs from the payment's"


class RemoteNotFoundError(AdapterError):
    """The provider knows no such object under our credentials."""
