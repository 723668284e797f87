"""As on the customers' pages: 20 ноября 2026, 14:02."""

DATE_FORMAT = "j E Y"
DATETIME_FORMAT = "j E Y, H:i"
