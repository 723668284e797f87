"""YooKassa as Plyrum sees it: API v3, hosted payment page, notifications. Follows the published contract
strictly.
"""
