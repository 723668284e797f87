"""What can go wrong with invoices, bank lines and closing documents."""

from plyrum.errors import BadRequest, Conflict, InvalidRequest, NotFound, Unavailable


class InvoicesNotConfigured(Unavailable):
    code, title, retryable = "invoices_not_configured", "The seller issues no invoices yet", False


class OrganisationRequired(Conflict):
    code, title = "organisation_required", "Fill in the organisation first"


class WrongRequisites(InvalidRequest):
    """`errors` name each wrong field."""

    title = "The requisites are wrong"


class InvoiceAmountOutOfRange(InvalidRequest):
    """Carries `min_rub` and `max_rub`."""

    title = "The amount is outside the limits of an invoice"


class InvoiceNotFound(NotFound):
    title = "There is no such invoice"


class ClosingDocumentNotFound(NotFound):
    title = "There is no such closing document"


class InvoiceClosed(Conflict):
    """Carries `status`."""

    code, title = "invoice_closed", "The invoice is no longer open"


class WrongBankFile(BadRequest):
    """Carries `line`, the number of the line in the file; 0 for the file as a whole."""

    code, title = "wrong_bank_file", "This is not a bank file that can be read"


class BankLineNotFound(NotFound):
    title = "There is no such bank line"


class BankLineClosed(Conflict):
    """Carries `status`."""

    code, title = "bank_line_closed", "The bank line is already decided"


class InvoiceDiffers(Conflict):
    """The invoice is of another amount than what came."""

    code, title = "invoice_differs", "The invoice is of another amount"
