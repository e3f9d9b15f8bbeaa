"""Pictures, charts and pages for reports."""
